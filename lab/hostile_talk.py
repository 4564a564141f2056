"""What hostile peers say: chat, addresses, and bytes for a terminal; each case once.

A case takes a stage and how hard it tries, and returns an `Outcome` with what
was measured; what of it is good enough is for the caller to say.
"""

from __future__ import annotations

import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from lab.attackers import (
    Meter,
    Outcome,
    Stage,
    Victim,
    Victims,
    pour,
)
from lab.daemons import Daemon, Wire
from lab.terminals import Terminal, wait_until

#: Hosts of documentation, where nobody is.
_NOWHERE = [
    f"{net}.{host}" for net in ("198.51.100", "203.0.113") for host in range(1, 255)
]
FIRST_UNPRIVILEGED_PORT = 1024


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
