"""Memory: what each further link costs.

Each run has two processes: one that accepts, ``python -m bench.memory ARGUMENTS``,
and one with the far ends, which are bare sockets.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from bench.contestants.on_twisted import listen_here
from bench.driver import (
    Goal,
    Plan,
    Player,
    Report,
    figure,
    interleaved,
    table,
)
from bench.stage import HOST, memory
from meshproto import Event, MeshNode, NodeConfig, PeerConnected

NODE, BARE = "meshproto, plain link", "bare Twisted connection"
#: Links made before the first reading, so that one-time costs do not count.
FIRST = 200
_PAUSE = 0.2


def measure(plan: Plan) -> Iterator[Report]:
    """One table."""
    entries = [(links, who) for links in plan.links for who in (BARE, NODE)]
    results, failures = interleaved(
        plan.runs, {entry: _run(*entry) for entry in entries}
    )
    sizes = {
        entry: figure(values, lambda each: each["bytes"])
        for entry, values in results.items()
    }
    rows = []
    goals = []
    for (links, who), each in sizes.items():
        ratio = each.over(sizes[links, BARE])
        rows.append(
            (
                who,
                f"{links:,}",
                each.text(",.0f"),
                "" if who == BARE else ratio.text(),
            )
        )
        if who == NODE:
            work = f"memory per plain link, {links:,} links"
            goals.append(Goal(work, BARE, ratio, most=2.0))
    parts = [
        "### Memory per link\n",
        "Resident memory of the accepting process; the kernel's share of a socket "
        "is not in it.\n",
        table(("what", "links", "bytes/link", "to bare"), rows),
    ]
    yield Report("\n".join(parts), goals, failures)


def _run(links: int, who: str) -> Callable[[], dict[str, Any]]:
    def play() -> dict[str, Any]:
        here = Player.of_module(__name__, links=links, who=who)
        try:
            port = here.hear("port")["port"]
            far_ends = Player.of_module(__name__, links=links, port=port)
            try:
                result: dict[str, Any] = here.hear("result")["result"]
                return result
            finally:
                far_ends.close()
        finally:
            here.close()

    return play


class Links:
    """Counts the links that are complete."""

    def __init__(self) -> None:
        self.count = 0
        self._waits: dict[int, Deferred[None]] = {}

    def until(self, number: int) -> Deferred[None]:
        """Fires when that many are complete."""
        self._waits[number] = Deferred()
        return self._waits[number]

    def one_more(self) -> None:
        self.count += 1
        if self.count in self._waits:
            self._waits.pop(self.count).callback(None)

    def one_less(self) -> None:
        self.count -= 1


async def accept_as_node(links: Links, number: int) -> int:
    """Start a node with seats for all of them; returns its port."""

    def on_event(event: Event) -> None:
        if isinstance(event, PeerConnected):
            links.one_more()

    config = NodeConfig(port=0, interface=HOST, max_peers=number)
    node = MeshNode(config)
    node.subscribe(on_event)
    await node.start()
    return node.port


async def accept_bare(links: Links, number: int) -> int:
    """Start a minimal server that accepts connections; returns its port."""

    class Link(Protocol):
        def connectionMade(self) -> None:
            assert ITCPTransport.providedBy(self.transport)
            self.transport.setTcpNoDelay(True)

        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.write(b"welcome\n")
            links.one_more()

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            links.one_less()

    return listen_here(Link)


async def play(who: str, number: int) -> None:
    """Accept the links, and print what they cost."""
    links = Links()
    first, last = links.until(FIRST), links.until(FIRST + number)
    accept = accept_as_node if who == NODE else accept_bare
    port = await accept(links, FIRST + number)
    print(json.dumps({"port": port}), flush=True)
    await first
    before = _settled_memory()
    await last
    await deferLater(reactor, _PAUSE)
    result = {"bytes": (_settled_memory() - before) / number}
    print(json.dumps({"result": result}), flush=True)


def _settled_memory() -> int:
    gc.collect()
    return memory()


def dial(port: int, number: int) -> None:
    """Be the far end of every link until the input ends."""
    sockets = []
    for each in range(FIRST + number):
        link = socket.create_connection((HOST, port))
        link.sendall(b"far%d:far end\n" % each)
        answer = link.recv(4096)
        while not answer.endswith(b"\n"):
            more = link.recv(4096)
            if not more:
                raise SystemExit("the accepting process has closed a link")
            answer += more
        sockets.append(link)
    sys.stdin.read()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Do the run that the command line describes."""
    arguments = json.loads(sys.argv[1])
    if "port" in arguments:
        dial(arguments["port"], arguments["links"])
        return

    def begin() -> None:
        played = Deferred.fromCoroutine(play(arguments["who"], arguments["links"]))
        played.addErrback(lambda failure: failure.printTraceback(sys.stderr))

    reactor.callWhenRunning(begin)
    threading.Thread(target=_end_with_input, daemon=True).start()
    reactor.run()


if __name__ == "__main__":
    main()
