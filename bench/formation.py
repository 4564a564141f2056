"""Formation and scale: nodes in one process form a full mesh, and chat.

Each run is a process of its own, ``python -m bench.formation ARGUMENTS``.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import deferLater

from bench.contestants.on_twisted import listen_here
from bench.driver import (
    Goal,
    Plan,
    Report,
    figure,
    interleaved,
    run_alone,
    table,
)
from bench.stage import HOST, memory, message, now
from meshproto import (
    ChatReceived,
    Event,
    MeshNode,
    NodeConfig,
    PeerConnected,
    PeerDisconnected,
)

#: Seconds within which the mesh must be full.
PATIENCE = 240.0
SIZE = 64
_QUIET = 0.5
BARE = "all pairs dialled bare"
GREETED = "all pairs dialled bare, a line each way"


def formation(plan: Plan) -> Iterator[Report]:
    """How long a full mesh takes, compared with as many bare connections."""
    entries = [
        (size, shape)
        for size in plan.meshes
        for shape in (BARE, GREETED, "star", "chain")
    ]
    results, failures = interleaved(
        plan.runs, {entry: _run(*entry) for entry in entries}
    )
    seconds = {
        entry: figure(values, lambda each: each["seconds"])
        for entry, values in results.items()
    }
    rows = []
    goals = []
    for (size, shape), each in seconds.items():
        ratio = each.over(seconds[size, BARE])
        rows.append(
            (
                str(size),
                shape,
                each.text(".3f"),
                "" if shape == BARE else ratio.text(".1f"),
            )
        )
        if size == 50 and shape in ("star", "chain"):
            goals.append(Goal(f"full mesh of {size}, {shape}", BARE, ratio, most=4.0))
    parts = [
        "### Formation: all nodes of one process start at once\n",
        table(("nodes", "shape", "seconds to a full mesh", "to bare"), rows),
    ]
    yield Report("\n".join(parts), goals, failures)


def scale(plan: Plan) -> Iterator[Report]:
    """Big meshes, in which every node then sends every other a message."""
    entries = {size: _run(size, "star", chat=True) for size in plan.big_meshes}
    results, failures = interleaved(plan.runs, entries)
    rows = []
    goals = []
    for size, values in results.items():
        rows.append(
            (
                str(size),
                str(size * (size - 1) // 2),
                figure(values, lambda each: each["seconds"]).text(),
                figure(values, lambda each: each["memory"] / 2**20).text(".0f"),
                figure(values, lambda each: each["chat_seconds"]).text(),
                figure(values, lambda each: each["links_lost"]).text("g"),
                figure(values, lambda each: each["lost"]).text("g"),
            )
        )
        for what in ("links_lost", "lost"):
            seen = figure(values, lambda each, what=what: each[what])  # type: ignore[misc]
            work = f"full mesh of {size}, {what.replace('_', ' ')}"
            goals.append(Goal(work, "", seen, most=0.0))
    heads = (
        "nodes",
        "links",
        "seconds to a full mesh",
        "MiB",
        "seconds of chat, all to all",
        "links lost",
        "messages lost",
    )
    parts = [
        "### Scale: a full mesh in one process, from a star\n",
        f"Chat: every node broadcasts one message of {SIZE} bytes, at once.\n",
        table(heads, rows),
    ]
    yield Report("\n".join(parts), goals, failures)


def _run(size: int, shape: str, chat: bool = False) -> Callable[[], dict[str, Any]]:
    return lambda: run_alone(__name__, size=size, shape=shape, chat=chat)


class Mesh:
    """The nodes of this process, and their progress."""

    def __init__(self, size: int, shape: str) -> None:
        ports = free_ports(size)
        self._all = size * (size - 1)
        self._linked = 0
        self.heard = 0
        self.links_lost = 0
        #: Fires when every node is linked to every other.
        self.full: Deferred[None] = Deferred()
        #: Fires when every node has heard every other.
        self.chatted: Deferred[None] = Deferred()
        self.nodes = []
        for number, port in enumerate(ports):
            seed = 0 if shape == "star" else number - 1
            node = MeshNode(
                NodeConfig(
                    port=port,
                    interface=HOST,
                    max_peers=max(NodeConfig().max_peers, size),
                    bootstrap=(f"{HOST}:{ports[seed]}",) if number else (),
                )
            )
            node.subscribe(self._on_event)
            self.nodes.append(node)

    @property
    def is_full(self) -> bool:
        """Whether the mesh is full; asks the nodes rather than counting events."""
        return all(
            len({peer.id for peer in node.peers()}) == len(self.nodes) - 1
            for node in self.nodes
        )

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ChatReceived):
            self.heard += 1
            if self.heard == self._all:
                self.chatted.callback(None)
        elif isinstance(event, PeerConnected):
            self._linked += 1
            if self._linked == self._all and not self.full.called:
                self.full.callback(None)
        elif isinstance(event, PeerDisconnected):
            self._linked -= 1
            self.links_lost += 1


async def form(size: int, shape: str, chat: bool) -> dict[str, float]:
    """Form a mesh, and chat if asked to."""
    mesh = Mesh(size, shape)
    began = now()
    for node in mesh.nodes:
        node.start()
    await mesh.full.addTimeout(PATIENCE, reactor)
    result = {"seconds": (now() - began) / 1e9}
    if not mesh.is_full:
        raise RuntimeError("the events tell of more links than there are")
    if chat:
        # Let the newest links finish their gossip, which is not part of the chat.
        await deferLater(reactor, _QUIET)
        began = now()
        for node in mesh.nodes:
            node.broadcast(message(SIZE))
        try:
            await mesh.chatted.addTimeout(PATIENCE, reactor)
        except TimeoutError:
            # The table counts the lost messages.
            pass
        result["chat_seconds"] = (now() - began) / 1e9
        await deferLater(reactor, _QUIET)
        result["lost"] = abs(size * (size - 1) - mesh.heard)
    return result | {"memory": memory(), "links_lost": mesh.links_lost}


async def dial_all_pairs(size: int, greet: bool) -> dict[str, float]:
    """Make a connection for each pair; with ``greet``, each end sends a line."""
    missing = size * (size - 1)
    done: Deferred[None] = Deferred()

    class End(Protocol):
        def connectionMade(self) -> None:
            assert ITCPTransport.providedBy(self.transport)
            self.transport.setTcpNoDelay(True)
            if greet:
                self.transport.write(b"peer-8001:alice\n")
            else:
                self.complete()

        def dataReceived(self, data: bytes) -> None:
            self.complete()

        def complete(self) -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                done.callback(None)

    class Dial(ClientFactory):
        noisy = False
        protocol = End

    began = now()
    ports = [listen_here(End, backlog=size) for _ in range(size)]
    for number, port in enumerate(ports):
        for _ in range(number):
            reactor.connectTCP(HOST, port, Dial())
    await done.addTimeout(PATIENCE, reactor)
    return {"seconds": (now() - began) / 1e9}


def free_ports(number: int) -> list[int]:
    """TCP ports that are free at the moment."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


async def play(size: int, shape: str, chat: bool) -> None:
    """Do one run and print its result."""
    if shape in (BARE, GREETED):
        result = await dial_all_pairs(size, shape == GREETED)
    else:
        result = await form(size, shape, chat)
    print(json.dumps({"result": result}), flush=True)


def main() -> None:
    """Do the run that the command line describes."""
    arguments = json.loads(sys.argv[1])

    def begin() -> None:
        played = Deferred.fromCoroutine(play(**arguments))
        played.addErrback(lambda failure: failure.printTraceback(sys.stderr))
        # Skip closing thousands of connections in order; it is not measured.
        played.addBoth(lambda _: os._exit(0))

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
