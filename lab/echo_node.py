"""A node with a small application in it, for ``twistd -y``.

The daemon alone never chats.  This is the daemon with an application that does
what a peer's chat asks for::

    echo TEXT                 says TEXT to that peer
    all TEXT                  says TEXT to everybody
    flood COUNT SIZE GAP      says COUNT numbered lines of SIZE bytes to everybody,
                              GAP seconds after every 32 (``drain``: as they drain)
    book                      tells what addresses it knows

Everything else is taken and not answered.  The log of a daemon leaves out most of
a flood: with ``writes_chat`` the application logs every message by itself, as
``heard [bob] hello``.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from twisted.application.service import Application, IServiceCollection
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from meshproto import (
    ChatReceived,
    Event,
    MeshNode,
    NodeConfig,
    NotRunning,
    Peer,
    PeerAddress,
    UnknownPeer,
)
from meshproto.run.process import set_clock
from meshproto.run.tap import DaemonService
from meshproto.run.visible import visible

_BATCH = 32


def build(
    *, seconds_per_event: float = 0.0, writes_chat: bool = False, **settings: Any
) -> Any:
    """The application.

    With ``seconds_per_event`` it takes its events from `MeshNode.events`, and
    needs that long for each; without, it subscribes.
    """
    from twisted.internet import reactor

    set_clock(reactor, time.monotonic)
    node = MeshNode(NodeConfig(**settings), reactor=reactor)
    service = DaemonService(node, reactor, debug=False, daemonizes=False)
    application = Application("node")
    service.setServiceParent(IServiceCollection(application))
    echo = _Echo(node, reactor)
    if writes_chat:
        node.subscribe(echo.write, ChatReceived)
    if seconds_per_event:
        _start(echo.take_slowly(seconds_per_event))
    else:
        node.subscribe(echo.take)
    return application


class _Echo:
    _log = Logger()

    def __init__(self, node: MeshNode, reactor: Any) -> None:
        self._node = node
        self._reactor = reactor

    def write(self, event: ChatReceived) -> None:
        self._log.info(
            "heard [{name}] {text}", name=event.peer.name, text=visible(event.text)
        )

    def take(self, event: Event) -> None:
        if not isinstance(event, ChatReceived):
            return
        command, _, rest = event.text.partition(" ")
        match command:
            case "echo":
                self._answer(event.peer, rest)
            case "all":
                self._node.broadcast(rest)
            case "book":
                self._answer(event.peer, self._book())
            case "flood":
                count, size, gap = rest.split(" ")
                _start(self._flood(int(count), int(size), gap))

    def _answer(self, peer: Peer, text: str) -> None:
        # It may have left before its turn came.
        with suppress(UnknownPeer):
            self._node.send(peer, text)

    async def take_slowly(self, seconds: float) -> None:
        async for event in self._node.events():
            await deferLater(self._reactor, seconds, lambda: None)
            self.take(event)

    async def _flood(self, count: int, size: int, gap: str) -> None:
        for first in range(0, count, _BATCH):
            for number in range(first, min(first + _BATCH, count)):
                self._node.broadcast(f"flood {number} ".ljust(size - 1, "x"))
            if gap == "drain":
                await self._node.drain()
            wait = 0.0 if gap == "drain" else float(gap)
            await deferLater(self._reactor, wait, lambda: None)
        self._node.broadcast("flood ends")

    def _book(self) -> str:
        known = self._node.known_addresses()
        book = {
            "known": len(known),
            "proven": sorted(str(each.target) for each in known if each.proven),
            "privileged": sum(
                isinstance(each.target, PeerAddress) and each.target.port < 1024
                for each in known
            ),
        }
        return f"book {json.dumps(book)}"


def _start(work: Any) -> None:
    def failed(failure: Any) -> None:
        # The node has been stopped meanwhile.
        if not failure.check(NotRunning):
            Logger().failure("The application failed", failure)

    Deferred.fromCoroutine(work).addErrback(failed)
