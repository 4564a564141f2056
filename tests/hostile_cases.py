"""What hostile peers try on a node: every case once, for tests and benchmark.

A case takes a stage and how hard it tries, and returns an `Outcome` with what
was measured; what of it is good enough is for the caller to say.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from tests.attackers import (
    KiB,
    Meter,
    MiB,
    Outcome,
    Pourers,
    Reader,
    Stage,
    Victim,
    Victims,
    close_all,
    join,
    open_descriptors,
    pour,
)
from tests.daemons import PATIENCE, Daemon, Wire, free_ports
from tests.terminals import Terminal, wait_until

#: Hosts of documentation, where nobody is.
_NOWHERE = [
    f"{net}.{host}" for net in ("198.51.100", "203.0.113") for host in range(1, 255)
]
FIRST_UNPRIVILEGED_PORT = 1024


# Lines and handshakes


def endless_line(stage: Stage, *, total: int, greets: bool) -> Outcome:
    """Bytes without a line end, over as many connections as it takes."""
    node = stage.node()

    def offend(most: int) -> tuple[int, float]:
        wire = stage.greet(node, "bad:bad") if greets else stage.connect(node)
        exchange = pour(wire, b"x", most, reads=False)
        wire.close()
        assert exchange.cut, "nobody cut it"
        return exchange.sent, exchange.seconds

    when = "after" if greets else "before"
    # The first one also pays for what Python loads when it is needed.
    offend(total)
    with stage.watch(f"never-ending line {when} the handshake", node) as outcome:
        sent, slowest, connections = 0, 0.0, 0
        while sent < total:
            more, seconds = offend(total)
            sent, slowest, connections = (
                sent + more,
                max(slowest, seconds),
                connections + 1,
            )
        outcome.cut_after = slowest
    reason = "line too long" if greets else "more than 512 bytes"
    outcome.seen = {
        "MB sent": sent / 1e6,
        "connections": connections,
        "told why": node.logged(reason) > 0,
    }
    return outcome


def dripping(stage: Stage, *, drippers: int, pause: float, timeout: float) -> Outcome:
    """A handshake that comes byte by byte, and never comes to its end."""
    node = stage.node(connection_timeout=timeout)
    with stage.watch(f"dripping handshake, a byte each {pause:g} s", node) as outcome:
        began = time.monotonic()
        wires = [stage.connect(node) for _ in range(drippers)]
        ends: list[float] = []
        while wires:
            for wire in tuple(wires):
                try:
                    wire.say("x")
                except OSError:
                    ends.append(time.monotonic() - began)
                    wires.remove(wire)
            # The pace of the attack: real clocks on both sides.
            time.sleep(pause)
            assert time.monotonic() < began + timeout + PATIENCE, "nobody cut them"
        outcome.cut_after = max(ends)
    stage.until_logged(node, "handshake timeout")
    outcome.seen = {"timeout s": timeout, "first cut s": min(ends)}
    return outcome


def silent_links(stage: Stage, *, count: int, host: str = "127.0.0.1") -> Outcome:
    """Connections on which nothing is said; newcomers that join all the same."""
    node = stage.node()
    flooding = True
    links: list[socket.socket] = []

    def open_one() -> None:
        with suppress(OSError):
            links.append(socket.create_connection((host, node.port), PATIENCE))

    def go_on() -> None:
        while flooding:
            open_one()
            while len(links) > count:
                links.pop(0).close()

    with stage.watch(f"{count} silent links from {host}", node) as outcome:
        for _ in range(count):
            open_one()
        joined = join(node, host=host)
        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            meanwhile = [join(node, host=host) for _ in range(10)]
        finally:
            flooding = False
            thread.join()
    held = sum(_is_open(link) for link in links)
    close_all(links)
    outcome.seen = {
        "joins in s": joined,
        "joins while links come, slowest of 10, s": max(meanwhile),
        "links held at the end": held,
    }
    return outcome


def _is_open(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return bool(link.recv(1000))
    except BlockingIOError:
        return True
    except OSError:
        return False


def garbage(stage: Stage, *, rounds: int, cycles: int) -> Outcome:
    """What is not the protocol at all, half-said and broken off in every way."""
    node = stage.node()
    dice = random.Random(1)
    noises: list[Callable[[], bytes]] = [
        tls_hello,
        lambda: b"GET / HTTP/1.1\r\nHost: mesh.example\r\n\r\n",
        lambda: b"SSH-2.0-OpenSSH_9.2p1\r\n",
        lambda: dice.randbytes(dice.randrange(1, 2000)),
        lambda: dice.randbytes(dice.randrange(1, 200)) + b"\n",
        lambda: bytes(dice.randrange(1, 2000)),
        lambda: b"\n" * 1000,
        lambda: b"\xff" * 600,
        lambda: b"bad:" + dice.randbytes(40),
    ]

    def offend() -> None:
        wire = stage.connect(node)
        with suppress(OSError):
            if dice.random() < 0.5:
                # So that it is what a session hears.
                wire.say(b"bad-%d\n" % dice.getrandbits(60))
            wire.say(dice.choice(noises)())
            if dice.random() < 0.3:
                wire.finish()
        if dice.random() < 0.5:
            wire.reset()
        else:
            wire.close()

    for _ in range(50):
        offend()
    stage.until(lambda: not node.peers, "end of all visits")
    with stage.watch(
        f"{rounds} kinds of garbage and resets, {cycles} connects and closes", node
    ) as outcome:
        before = open_descriptors(node)
        for _ in range(rounds):
            offend()
        for number in range(cycles):
            link = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
            if number % 2:
                _reset_on_close(link)
            link.close()
        stage.until(lambda: open_descriptors(node) <= before, "end of all connections")
        outcome.seen = {
            "descriptors before": before,
            "after": open_descriptors(node),
            "joins in s": join(node),
        }
    return outcome


def _reset_on_close(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tls_hello() -> bytes:
    """The first bytes of a TLS client."""
    sent = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="mesh.example")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()


# Seats and IDs


def crowd(stage: Stage, *, timing: str, dialers: int, seats: int) -> Outcome:
    """More peers than seats.

    The timing is ``at once``, ``late`` (all are connected before one greets),
    ``halves`` (all have said half a greeting before one says the rest),
    ``churn`` (whoever got a seat leaves at once, and comes again) or
    ``dialled`` (the node dials some of them while others fill its seats).
    """
    node = stage.node(max_peers=seats, connection_timeout=5)
    with stage.watch(f"{dialers} dial, {seats} seats: {timing}", node) as outcome:
        if timing == "dialled":
            answers = _crowd_from_both_sides(stage, node, outcome, dialers)
        else:
            answers = _crowd_of_dialers(stage, node, timing, dialers)
        welcome = f"peer-{node.port}:{node.name}\n".encode()
        outcome.seen |= {
            "welcomed": answers[welcome],
            "MAX_PEERS": answers[b"MAX_PEERS\n"],
            "other": sum(answers.values()) - answers[welcome] - answers[b"MAX_PEERS\n"],
        }
    outcome.seen["most seats taken"] = most_seats_taken(node)
    return outcome


def _crowd_of_dialers(
    stage: Stage, node: Daemon, timing: str, dialers: int
) -> Counter[bytes]:
    if timing == "churn":
        return _churn(stage, node, dialers)
    hellos = [f"crowd-{number}:c{number}\n" for number in range(dialers)]
    if timing == "at once":
        wires = []
        for hello in hellos:
            wires.append(stage.connect(node))
            wires[-1].say(hello)
    else:
        wires = [stage.connect(node) for _ in hellos]
        if timing == "halves":
            for wire, hello in zip(wires, hellos, strict=True):
                wire.say(hello[:5])
            hellos = [hello[5:] for hello in hellos]
        pairs = list(zip(wires, hellos, strict=True))
        random.Random(2).shuffle(pairs)
        for wire, hello in pairs:
            wire.say(hello)
    return Counter(wire.line() for wire in wires)


def _churn(stage: Stage, node: Daemon, dialers: int) -> Counter[bytes]:
    answers: Counter[bytes] = Counter()
    inside: list[Wire] = []
    for turn in range(10):
        wires = [stage.connect(node) for _ in range(dialers)]
        for number, wire in enumerate(wires):
            wire.say(f"crowd-{turn}-{number}:c\n")
            if inside:
                inside.pop().close()
        for wire in wires:
            answer = wire.line()
            answers[answer] += 1
            if answer.startswith(b"peer-"):
                inside.append(wire)
            else:
                wire.close()
    return answers


def _crowd_from_both_sides(
    stage: Stage, node: Daemon, outcome: Outcome, dialers: int
) -> Counter[bytes]:
    victims = [Victim() for _ in range(dialers)]
    called = Victims(*victims)
    try:
        teller = stage.greet(node, "teller:teller")
        told = ",".join(f"127.0.0.1:{victim.port}" for victim in victims)
        teller.say(f"PEERS:{told}\n")
        stage.until(lambda: called.open, "dial")
        answers = _crowd_of_dialers(stage, node, "at once", dialers)
        for victim in victims:
            victim.answer(f"victim-{victim.port}:v")
        # Whom it has no seat for it hangs up on.
        stage.until(lambda: called.open == 0, "end of the dials")
        outcome.seen["dialled"] = sum(called.calls)
    finally:
        called.close()
    return answers


def most_seats_taken(node: Daemon) -> int:
    """The greatest number of peers that the node has ever told of."""
    most = 0
    for line in node.lines:
        _, bracket, counts = line.rpartition(" (")
        taken, slash, rest = counts.partition("/")
        if bracket and slash and taken.isdigit() and rest.endswith(" peers)"):
            most = max(most, int(taken))
    return most


def id_theft(stage: Stage, *, thieves: int) -> Outcome:
    """Others come with the ID of a peer that is there, and with the node's own."""
    node = stage.node()
    with stage.watch(f"ID theft, {thieves} times", node) as outcome:
        watcher = stage.greet(node, "watcher:watcher")
        victim = stage.honest(node.port, "victim")
        answers: Counter[bytes] = Counter()
        for number in range(thieves):
            host = ("127.0.0.1", "::1", "127.0.0.2")[number % 3]
            name = ("victim", "thief", "")[number % 3]
            thief = stage.connect(node, host)
            thief.say(f"victim:{name}\nREQUEST_PEERS\nall stolen\n")
            # Chat for everybody, while the thief is at the door.
            watcher.say(f"all secret {number}\n")
            answers[thief.rest()] += 1
            thief.close()
        secrets = 0
        with suppress(AssertionError):
            for number in range(thieves):
                victim.hear(f"secret {number}")
                secrets += 1
        told = victim.finish()
        itself = stage.connect(node)
        itself.say(f"peer-{node.port}:alice\nall stolen\n")
        outcome.seen = {
            "DUPLICATE and nothing more": answers[b"DUPLICATE\n"],
            "secrets told the victim": secrets,
            "victim lost": told.said - told.heard,
            "as the node itself": itself.rest().decode().strip(),
        }
    outcome.seen["said by thieves"] = node.logged("stolen")
    return outcome


# Chat


def commands_as_chat(stage: Stage, *, count: int) -> Outcome:
    """Chat that looks like commands, is padded like them, or is escaped."""
    node = stage.node(writes_chat=True)
    victim = stage.listener()
    dice = random.Random(3)
    words = (
        "PING",
        "PONG",
        "REQUEST_PEERS",
        f"PEERS:127.0.0.1:{victim.port}",
        "DUPLICATE",
        "MAX_PEERS",
        "BYTES:-1",
        "/quit",
        f"/connect 127.0.0.1:{victim.port}",
    )
    disguises: tuple[Callable[[str], tuple[str, str]], ...] = (
        lambda word: ("\u2060" + word, word),
        lambda word: ("\u2060\u2060" + word, "\\u2060" + word),
        lambda word: (f" {word}", f" {word}"),
        lambda word: (f"{word} ", f"{word} "),
        lambda word: (f"\t{word}", f"\\x09{word}"),
        lambda word: (f"{word}\r\r", f"{word}\\x0d"),
        lambda word: (word.lower(), word.lower()),
        lambda word: (f"\ufeff{word}", f"\\ufeff{word}"),
        lambda word: (f"{word}\0", f"{word}\\x00"),
    )
    said = []
    for _ in range(count):
        line, shown = dice.choice(disguises)(dice.choice(words))
        # These are commands with all of their padding, and no chat.
        if not line.rstrip().startswith("PEERS:"):
            said.append((line, shown))
    with stage.watch(f"{len(said)} chats that look like commands", node) as outcome:
        liar = stage.greet(node, "liar:liar")
        liar.say("".join(f"{line}\n" for line, _ in said))
        answered = liar.ping()
        stage.until(lambda: node.logged("heard [liar] ") >= len(said), "chat")
        heard = [
            line.removeprefix("heard [liar] ")
            for line in node.lines
            if line.startswith("heard [liar] ")
        ]
        wrong = sum(line != shown for line, (_, shown) in zip(heard, said, strict=True))
        outcome.seen = {
            "heard": len(heard),
            "wrong": wrong,
            "executed": len(answered) + victim.is_called,
        }
    return outcome


def slow_application(
    stage: Stage, *, flooders: int, seconds_per_event: float, seconds: float
) -> Outcome:
    """Chat faster than the application takes it from ``node.events()``."""
    # Nobody reads what it logs of all that.
    node = stage.mute_node("> /dev/null", seconds_per_event=seconds_per_event)
    name = (
        f"chat flood by {flooders}, application needs {1000 * seconds_per_event:g} ms"
    )
    # They are there first, so nobody else comes before them in any order.
    wires = [stage.greet(node, f"loud-{number}:loud") for number in range(flooders)]
    with stage.watch(name, node) as outcome:
        line = b"y" * 63 + b"\n"
        sent = [0] * flooders

        def flood(number: int) -> None:
            exchange = pour(
                wires[number], line, sys.maxsize, reads=False, patience=seconds
            )
            sent[number] = exchange.sent

        threads = [
            threading.Thread(target=flood, args=(number,)) for number in range(flooders)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for wire in wires:
            wire.reset()
        outcome.seen = {"MB taken by the kernel and the node": sum(sent) / 1e6}
    return outcome


# Addresses and dials


def gossip(stage: Stage, *, addresses: int, good: int = 10) -> Outcome:
    """Peers in all seats tell of addresses where nobody is.

    While all seats are taken none of them is dialled.
    """
    seats = 20
    node = stage.node(max_peers=seats, discovery_interval=3600, connection_timeout=2)
    victims = [Victim() for _ in range(good)]
    called = Victims(*victims)
    try:
        with stage.watch(f"{addresses} gossiped addresses", node) as outcome:
            guide = stage.honest(node.port, "guide")
            told = ",".join(f"127.0.0.1:{victim.port}" for victim in victims)
            guide.say(f"PEERS:{told}")
            stage.until(lambda: called.open == good, "dials of the good addresses")
            for victim in victims:
                victim.answer(f"good-{victim.port}:good-{victim.port}")
            stage.until(lambda: len(node.peers) == good + 2, "good peers")
            liars = _crowd(stage, node, "liar", seats - good - 2)
            for victim in victims:
                victim.hang_up()
            stage.until(lambda: len(node.peers) == seats - good, "free seats")
            liars += _crowd(stage, node, "late", good)
            meter = Meter(node.pid)
            for number, liar in enumerate(liars):
                for first in range(number * 100, addresses, len(liars) * 100):
                    liar.say(_lie(first, min(first + 100, addresses)))
                liar.ping()
            _, work, _ = meter.read()
            guide.say("book")
            book = json.loads(guide.hear("book ").partition(" ")[2])
            ports = {int(each.rpartition(":")[2]) for each in book["proven"]}
            outcome.seen = {
                "kept": book["known"],
                "good": good,
                "good ones kept": sum(victim.port in ports for victim in victims),
                "CPU s for the gossip": work,
            }
            guide.finish()
            before = called.calls
            began = time.monotonic()
            for liar in liars:
                liar.reset()
            again = stage.until(
                lambda: all(
                    now > then for now, then in zip(called.calls, before, strict=True)
                ),
                "dials of the good addresses",
            )
            outcome.seen["all good ones dialled again in s"] = again - began
    finally:
        called.close()
    return outcome


def _crowd(stage: Stage, node: Daemon, name: str, count: int) -> list[Wire]:
    return [stage.greet(node, f"{name}-{each}:{name}-{each}") for each in range(count)]


def _lie(first: int, end: int) -> str:
    """A list of addresses, none of which is in another one."""
    told = (
        f"{_NOWHERE[number % len(_NOWHERE)]}:{2000 + number // len(_NOWHERE)}"
        for number in range(first, end)
    )
    return f"PEERS:{','.join(told)}\n"


def victims_to_dial(
    stage: Stage, *, count: int, seconds: float, hangs_up: bool, timeout: float
) -> Outcome:
    """A peer that sends the node to others, again and again."""
    node = stage.node(connection_timeout=timeout)
    victims = [Victim(hangs_up=hangs_up) for _ in range(count)]
    privileged = _privileged_victims(count)
    called = Victims(*victims, *privileged)
    how = "hang up" if hangs_up else "say nothing"
    try:
        with stage.watch(f"{count} victims named, who {how}", node) as outcome:
            teller = stage.greet(node, "teller:teller")
            told = [f"127.0.0.1:{victim.port}" for victim in victims]
            low = [victim.port for victim in privileged] or [22, 25, 80, 443]
            told += [f"127.0.0.1:{port}" for port in low]
            began = time.monotonic()
            while time.monotonic() < began + seconds:
                teller.say(f"PEERS:{','.join(told)}\n")
                # Often enough to tempt, and within the rate of gossip.
                time.sleep(0.1)
            guide = stage.honest(node.port, "guide")
            guide.say("book")
            book = json.loads(guide.hear("book ").partition(" ")[2])
            guide.finish()
    finally:
        called.close()
    heard = {line for victim in victims for line in victim.heard if line}
    outcome.seen = {
        "dials at one time": called.most_open,
        "dials": sum(called.calls),
        "most for one victim": max(called.calls),
        "victims called": sum(bool(victim.calls) for victim in victims),
        "privileged ports listening": len(privileged),
        "privileged ports called": sum(bool(each.calls) for each in privileged),
        "privileged ports kept": book["privileged"],
        "bytes for a victim": max(map(len, heard), default=0),
        "sent": ascii(max(heard, default=b"").decode()),
    }
    return outcome


def _privileged_victims(most: int) -> list[Victim]:
    """Victims on ports of system services, as many as this user may have."""
    found: list[Victim] = []
    for port in range(FIRST_UNPRIVILEGED_PORT - 1, 0, -1):
        if len(found) == most:
            break
        with suppress(OSError):
            found.append(Victim(port))
    return found


# Floods


def flood(
    stage: Stage,
    *,
    command: str,
    total: int,
    reads: bool,
    flooders: int = 1,
    patience: float = PATIENCE,
    **settings: float,
) -> Outcome:
    """One command as fast as it goes, by peers that read the answers or do not."""
    node = stage.node(**settings)
    how = "reading" if reads else "not reading"
    who = "peer" if flooders == 1 else "peers"
    with stage.watch(f"{command} flood, {flooders} {who} {how}", node) as outcome:
        # What there is to be told of.
        ports = free_ports(18 - flooders)
        company = [stage.greet(node, f"peer-{port}:p{port}") for port in ports]
        wires = [
            stage.rough_peer(node, f"loud-{number}", 4 * MiB if reads else 4 * KiB)
            for number in range(flooders)
        ]
        sent = received = cut = 0
        slowest = 0.0
        lock = threading.Lock()

        def run(wire: Wire) -> None:
            nonlocal sent, received, cut, slowest
            exchange = pour(
                wire, f"{command}\n".encode(), total, reads=reads, patience=patience
            )
            with lock:
                sent += exchange.sent
                received += exchange.received
                cut += exchange.cut
                slowest = max(slowest, exchange.seconds)

        threads = [threading.Thread(target=run, args=(wire,)) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for wire in wires:
            wire.close()
        close_all([each.socket for each in company])
        outcome.cut_after = slowest if cut else None
        outcome.seen = {
            "MB sent": sent / 1e6,
            "MB answered": received / 1e6,
            "bytes out per byte in": received / sent,
            "cut": cut,
        }
    outcome.seen["slow consumer"] = node.logged("(slow consumer)")
    return outcome


def _lines_of_all_lengths() -> bytes:
    """From 1 to 16 384 bytes, as many short ones as long ones are rare."""
    dice = random.Random(5)
    lengths = [1, 16_384, *(int(2 ** dice.uniform(0, 14)) for _ in range(500))]
    dice.shuffle(lengths)
    return b"".join(b"z" * length + b"\n" for length in lengths)


#: What floods are made of, by how their lines are.
LINES = {
    "one-letter": b"x\n" * 32_768,
    "two-letter": b"xy\n" * 21_845,
    "mixed": _lines_of_all_lengths(),
    "ordinary": (b"y" * 63 + b"\n") * 1024,
}


#: What else peers can send without end.
COMMANDS = {
    "PING": b"PING\n" * 10_000,
    "REQUEST_PEERS": b"REQUEST_PEERS\n" * 5000,
    "PEERS": b"PEERS:"
    + b",".join(b"198.51.100.%d:9999" % n for n in range(100))
    + b"\n",
}


def stopping(stage: Stage, *, flooders: int, what: str, reads: bool) -> Outcome:
    """A node is stopped in the midst of a flood."""
    node = stage.node(max_peers=flooders)
    how = "reading" if reads else "not reading"
    outcome = Outcome(f"stop in a flood of {what}, {flooders} peers {how}")
    wires = [stage.greet(node, f"loud-{each}:loud") for each in range(flooders)]
    pourers = Pourers(wires, {**LINES, **COMMANDS}[what], reads=reads)
    try:
        # Until every queue on the way is full.
        time.sleep(1.0)
        outcome.seen["stopped after s"] = _time_to_stop(node)
    finally:
        pourers.close()
    return outcome


def stopping_among_visitors(stage: Stage) -> Outcome:
    """A node is stopped while one after the other comes and goes."""
    node = stage.node()
    outcome = Outcome("stop while peers come and go as fast as they can")
    stopped = False

    def come_and_go() -> None:
        number = 0
        while not stopped:
            number += 1
            with suppress(OSError):
                with socket.create_connection(("127.0.0.1", node.port), 1) as link:
                    link.sendall(b"visitor-%d:visitor\n" % number)
                    link.recv(100)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        time.sleep(1.0)
        outcome.seen["stopped after s"] = _time_to_stop(node)
    finally:
        stopped = True
        thread.join()
    return outcome


def _time_to_stop(node: Daemon) -> float:
    began = time.monotonic()
    node.send_signal(signal.SIGTERM)
    node.process.wait(PATIENCE)
    return time.monotonic() - began


def chat_flood(stage: Stage, *, flooders: int, lines: str, seconds: float) -> Outcome:
    """Chat as fast as it goes, beside a peer whose lines are ordinary.

    What that one gets rid of is compared with its share beside as many peers of
    its own kind.  At last the node is stopped while the flood goes on.
    """
    seats = flooders + 4
    alike = stage.node(max_peers=seats)
    rates = _rates(stage, alike, ["ordinary"] * (flooders + 1), seconds)
    alike.kill()
    node = stage.node(max_peers=seats)
    who = "peer" if flooders == 1 else "peers"
    with ExitStack() as floods:
        with stage.watch(f"{lines} lines, {flooders} {who}", node) as outcome:
            kinds = [lines] * flooders + ["ordinary"]
            *others, steady = _rates(stage, node, kinds, seconds, floods)
            share = sum(rates) / len(rates)
            outcome.seen = {
                "MB/s of a flooder": sum(others) / flooders / 1e6,
                "of an ordinary peer": steady / 1e6,
                "times its share": steady / share,
            }
        outcome.seen["stopped after s"] = _time_to_stop(node)
    node.read()
    outcome.seen["log KB/s"] = len(node.raw) / seconds / 1e3
    return outcome


def _rates(
    stage: Stage,
    node: Daemon,
    kinds: Sequence[str],
    seconds: float,
    floods: ExitStack | None = None,
) -> list[float]:
    """Bytes a second that each of these peers gets rid of, all at once.

    They go on until ``floods`` is closed, where that is given.
    """
    with ExitStack() as at_once:
        pourers = []
        for kind in dict.fromkeys(kinds):
            wires = [
                stage.greet(node, f"{kind}-{number}:{kind}")
                for number in range(kinds.count(kind))
            ]
            pourers.append(Pourers(wires, LINES[kind]))
            (floods or at_once).callback(pourers[-1].close)
        # The first megabytes of each are taken by the kernel.
        time.sleep(1.0)
        before = [sent for each in pourers for sent in each.sent]
        began = time.monotonic()
        time.sleep(seconds)
        after = [sent for each in pourers for sent in each.sent]
        spent = time.monotonic() - began
    return [(now - then) / spent for now, then in zip(after, before, strict=True)]


def stuck_reader(
    stage: Stage,
    *,
    speed: float | None,
    count: int,
    size: int,
    gap: str,
    runs: int = 1,
    readers: int = 4,
    **settings: float,
) -> Outcome:
    """The application talks to all; one of them reads slowly, or not at all.

    ``speed`` is in bytes per second.  Each run is made twice, with and without
    that peer.
    """
    node = stage.node(**settings)
    how = f"reads {speed:g} B/s" if speed else "stops reading"
    pace = {"drain": "at the pace of drain()", "0": "as fast as it goes"}
    name = f"peer that {how}; {count} x {size} B {pace.get(gap, f'each 32 in {gap} s')}"
    with stage.watch(name, node) as outcome:
        others = [
            Reader(stage.greet(node, f"reader-{each}:reader-{each}"))
            for each in range(readers)
        ]
        honest = stage.honest(node.port, "speaker")

        def talk() -> float:
            for other in others:
                other.ended_at = None
            began = time.monotonic()
            honest.say(f"flood {count} {size} {gap}")
            stage.until(
                lambda: all(other.ended_at or other.is_cut for other in others),
                "end of the talk",
            )
            return max(other.ended_at or 0.0 for other in others) - began

        alone, beside, cut_after = [], [], []
        for run in range(runs):
            alone.append(talk())
            stuck = stage.rough_peer(node, f"stuck-{run}", 4 * KiB)
            slow = Reader(stuck, speed) if speed else None
            began = time.monotonic()
            beside.append(talk())
            reason = "(slow consumer)"
            # What has not been cut, has been told all; nobody waits for more.
            with suppress(AssertionError):
                at = stage.until_logged(node, reason, times=run + 1)
                cut_after.append(at - began)
            if slow is not None:
                slow.close()
            stuck.close()
        for other in others:
            other.close()
        honest.finish()
        outcome.cut_after = max(cut_after, default=None)
        expected = list(range(count)) * (2 * runs)
        outcome.seen = {
            "others lost": sum(len(expected) - len(other.numbers) for other in others),
            "others in order": all(other.numbers == expected for other in others),
            "s without it": sorted(alone)[runs // 2],
            "s with it": sorted(beside)[runs // 2],
            "throughput kept": sorted(alone)[runs // 2] / sorted(beside)[runs // 2],
            "cut": len(cut_after),
        }
    return outcome


# The machine


def descriptors(
    stage: Stage, *, limit: int, connections: int, seconds: float, greets: bool
) -> Outcome:
    """More connections than the process may have."""
    node = stage.node(max_peers=4 * connections)
    kind = "peers" if greets else "silent links"
    with stage.watch(f"{connections} {kind}, {limit} descriptors", node) as outcome:
        before = open_descriptors(node)
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (limit, limit))
        links = []
        for number in range(connections):
            with suppress(OSError):
                link = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
                links.append(link)
                if greets:
                    link.sendall(b"many-%d:x\n" % number)
        stage.until(lambda: open_descriptors(node) >= limit - 2, "exhaustion")
        meter = Meter(node.pid)
        # What the node takes in this time is what is measured.
        time.sleep(seconds)
        _, work, spent = meter.read()
        held = open_descriptors(node)
        close_all(links)
        began = time.monotonic()
        stage.until(lambda: open_descriptors(node) <= before, "free descriptors")
        freed = time.monotonic() - began
        joined = join(node)
        outcome.seen = {
            "CPU % while exhausted": 100 * work / spent,
            "descriptors": held,
            "free again after s": freed,
            "then joins in s": joined,
        }
    return outcome


#: How a daemon can be unable to write its log, as the shell says it.
LOGS = {
    "stdout is /dev/full": "> /dev/full 2>&1",
    "stdout is closed": ">&-",
    "stdout and stderr are closed": ">&- 2>&-",
    "stdout is a pipe without a reader": "> >(exec true)",
}


def useless_log(stage: Stage, *, kind: str, seconds: float) -> Outcome:
    """The node has nowhere to log to."""
    return _log_much(stage, stage.mute_node(LOGS[kind]), kind, seconds)


def full_disk(stage: Stage, *, seconds: float) -> Outcome:
    """The node logs to a disk that is full.  This takes root, for the disk."""
    disk = stage.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    try:
        node = stage.mute_node("", "--logfile", str(disk / "log"))
        outcome = _log_much(stage, node, "log file on a full disk", seconds)
        outcome.seen["bytes free"] = shutil.disk_usage(disk).free
        node.kill()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    return outcome


def _log_much(stage: Stage, node: Daemon, case: str, seconds: float) -> Outcome:
    with stage.watch(case, node) as outcome:
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            bad = stage.connect(node)
            bad.say("PING\n")
            bad.rest()
            stage.greet(node, "visitor:visitor").close()
            # The attacker leaves the node some of the processor.
            time.sleep(0.01)
    outcome.seen = {"runs": node.process.poll() is None, "joins in s": join(node)}
    return outcome


# The terminal

#: What a terminal could be made to do by bytes that it is given.
_TRICKS = (
    "\x1b[2J\x1b[H",  # clear all
    "\x1b[1;1Hover the first line",
    "\x1b[5A\x1b[2Kover an earlier line",
    "\x1b]0;title\x07\x1b]2;title\x1b\\",
    "\x1b]52;c;Y2xpcGJvYXJk\x07",  # writes the clipboard
    "\x1b]8;;http://mesh.example\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[31;1;7mred\x1b[8mhidden",
    "\x1b[?1049h\x1b[?25l\x1b[?1000h",  # other screen, no cursor, mouse
    "\x1bc\x1b#8\x1b(0",  # reset, fill, line drawing
    "\x1b[6n\x1b[c\x1bP$q\x1b\\",  # makes it answer, as if typed
    "\r[00:00:00] [SYSTEM] forged by CR",
    "\x0b\x0c[00:00:00] [SYSTEM] forged by VT and FF",
    "\x85\u2028\u2029[00:00:00] [SYSTEM] forged by line separators",
    "\x08" * 40 + "rubbed out",
    "\x9b2J\x9d0;title\x9c\x90x\x9c",  # the same in C1
    "\u202e[MAINTENANCE] backwards\u2066\u2067\u202c",
    "\u200b\u00ad\u2060\ufeff\u3164\U000e0041",
    "a\u0300\u0301\u0302" * 30,
    "\x00\x07\x05\x0e\x0f\x7f\t\x1a",
    "\udced\udca0\udc80",  # a lone surrogate, in bytes
    "x" * 200 + "\x1b[10Ay" + " " * 300 + "[00:00:00] [SYSTEM] forged by wrapping",
)
_NAMES = (
    "SYSTEM",
    "alice",
    "bob",
    "bob] mark 99 [x",
    "[bob]",
    "n" * 64,
    "\u0645\u0631\u062d",
    "\U0001f98a" * 20,
)
_BAD_NAMES = ("\x1b[2J", "a\x9bm", "\u202ebob", "a\rb", "\x07", "\u200b")
#: Bytes of these tricks that the prompt has no use for itself.
_FORBIDDEN = (
    b"\x1b]",
    b"\x1bP",
    b"\x1bc",
    b"\x1b#8",
    b"\x1b(0",
    b"\x1b[31",
    b"\x1b[?1049h",
    b"\xc2\x9b",
    b"\xc2\x9d",
    "\u202e".encode(),
    "\u2066".encode(),
)
_ROW = re.compile(r"\[\d\d:\d\d:\d\d\] \[([^]]*)\] ?(.*)")


def terminal_attack(stage: Stage, *, rounds: int) -> Outcome:
    """What peers are called and say reaches a prompt at a terminal.

    Bob, who is honest, says something after everything that was said.  The
    prompt has no colours of its own, so that those of an attacker show.
    """
    terminal = stage.terminal("0", "--name", "alice", NO_COLOR="1")

    def until(condition: Callable[[], object], what: str) -> None:
        wait_until(condition, what, [terminal])

    until(lambda: terminal.port and terminal.typed == ">", "prompt")
    port, marks = terminal.port, 0
    name = f"{rounds} rounds of terminal attacks"
    with stage.watch_prompt(name, terminal) as outcome:
        bob = stage.visit(port, "bob:bob")

        def mark() -> None:
            nonlocal marks
            marks += 1
            bob.say(f"mark {marks}\n")
            bob.ping()

        def until_marked() -> None:
            until(lambda: _said(terminal)[-1:] == [f"mark {marks}"], "mark")

        mark()
        until_marked()
        until(lambda: terminal.typed == ">", "prompt below it")
        terminal.type("half typed")
        until(lambda: terminal.typed == "> half typed", "half a line")
        before = _rows(terminal)[:-1]
        evil = stage.visit(port, "evil:evil")
        for _ in range(rounds):
            for trick in _TRICKS:
                evil.say(trick.encode("utf-8", "surrogateescape") + b"\n")
                evil.ping()
                mark()
            until_marked()
        let_in = []
        for number, name in enumerate((*_NAMES, *_BAD_NAMES)):
            wire = stage.visit(port, f"name-{number}:{name}\nhello", welcome=b"")
            if wire.line():
                let_in.append(name)
                wire.ping()
            mark()
        until_marked()
        until(lambda: terminal.typed == "> half typed", "half a line")
        rows, said = _rows(terminal), _said(terminal)
        outcome.seen = {
            "rows changed": sum(
                then != now for then, now in zip(before, rows, strict=False)
            ),
            "rows forged": sum(map(_is_forged, rows)),
            "honest rows lost": marks - len(said),
            "honest rows in order": said == [f"mark {n + 1}" for n in range(marks)],
            "title": terminal.screen.title + terminal.screen.icon_name,
            "coloured rows": len(terminal.coloured),
            "sequences let through": sum(each in terminal.raw for each in _FORBIDDEN),
            "bad names let in": len(set(let_in) & set(_BAD_NAMES)),
            "other names let in": len(set(let_in) & set(_NAMES)),
        }
        terminal.type(" and said\r")
        bob.lines_before(b"half typed and said\n")
    return outcome


def _rows(terminal: Terminal) -> list[str]:
    return [row for row in terminal.lines if row]


def _said(terminal: Terminal) -> list[str]:
    """What Bob said, as the terminal shows it."""
    found = map(_ROW.match, _rows(terminal))
    # As he is called while he is the only one, and beside a namesake.
    tags = ("bob", "bob@127.0.0.1#bob")
    return [row[2] for row in found if row is not None and row[1] in tags]


def _is_forged(row: str) -> bool:
    """Whether a line that a peer made up stands where one of the program's would."""
    found = _ROW.match(row)
    return "forged" in row and found is not None and found[1] != "evil"
