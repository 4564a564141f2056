"""What hostile peers try with lines, handshakes, seats and IDs: every case once.

A case takes a stage and how hard it tries, and returns an `Outcome` with what
was measured; what of it is good enough is for the caller to say.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from lab.attackers import (
    Outcome,
    Stage,
    Victim,
    Victims,
    close_all,
    join,
    open_descriptors,
    pour,
)
from lab.daemons import PATIENCE, Daemon, Wire

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
