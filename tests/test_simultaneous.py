"""Two nodes that dial each other at the same moment, over real sockets.

Each round is a pair of new nodes.  The environment may ask for more of them
than can be played every day; trial gives them the time that they need::

    MESHPROTO_ROUNDS=2000 python -m twisted.trial tests.test_simultaneous
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import TestCase

from lab.daemons import HAS_PROC_TCP, NO_PROC_TCP, PATIENCE, open_connections, tell
from meshproto.config import NodeConfig
from meshproto.events import (
    ChatReceived,
    CloseReason,
    ConnectionFailed,
    DialAttemptFailed,
    Direction,
    Event,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.mesh.node import MeshNode
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Crossed
from meshproto.wire.messages import Message
from tests.slow import some

reactor: Any = _reactor

ROUNDS = int(os.environ.get("MESHPROTO_ROUNDS", len(some(range(25), 10))))
CROSSINGS = int(os.environ.get("MESHPROTO_ROUNDS", len(some(range(200), 20))))
#: What is told of a dial that came to nothing.
FAILED = ConnectionFailed, DialAttemptFailed
#: Turns of the reactor between the two dials, one after the other: together, and
#: at every stage of the other one's handshake.
LAGS = (0, 0, 0, 1, 2)
#: Lines that each side says at a time: little by little, or more at once than
#: the connection takes; the bytes of every seventh, and the seconds between.
BURSTS = (7, 7, 70, 140)
LENGTH = 8_000
PAUSE = 0.01
#: Bursts that are said when the handshakes are over.
LAST_BURSTS = 5


class Talker:
    """A node that says numbered lines from the moment that it has a peer."""

    def __init__(self, id: str, burst: int, protocols: tuple[str, ...]) -> None:
        self._burst = burst
        self.node = MeshNode(
            NodeConfig(port=0, id=id, interface="127.0.0.1", protocols=protocols),
            reactor=reactor,
        )
        self.events: list[Event] = []
        self.said: list[str] = []
        self.crossings = 0
        self._bursts = 0
        self._last_burst: int | None = None
        self.node.subscribe(self._event_emitted)
        self._talk = LoopingCall(self._speak)
        self._talk.clock = reactor
        host: Any = self.node.host
        judge, ready, ended = host.judge, host.link_ready, host.link_ended
        opened = host.link_opened
        #: Connections so far; those that are established, and most of them at once.
        self.opened = 0
        self.established: list[Any] = []
        self.most = 0

        def link_opened(link: IPeerLink) -> None:
            self.opened += 1
            opened(link)

        def judged(link: IPeerLink, said: Message) -> object:
            verdict: object = judge(link, said)
            self.crossings += isinstance(verdict, Crossed)
            return verdict

        def link_ready(link: IPeerLink) -> None:
            self.established.append(link)
            self.most = max(self.most, len(self.established))
            ready(link)

        def link_ended(link: IPeerLink, reason: CloseReason, detail: str) -> None:
            if link in self.established:
                self.established.remove(link)
            ended(link, reason, detail)

        host.link_opened, host.judge = link_opened, judged
        host.link_ready, host.link_ended = link_ready, link_ended

    @property
    def is_done(self) -> bool:
        """Whether it has said all that it will."""
        return bool(self.said) and not self._talk.running

    def conclude(self) -> None:
        """Say a little more, and then no more."""
        self._last_burst = self._bursts + LAST_BURSTS

    @property
    def heard(self) -> list[str]:
        return [each.text for each in self.events if isinstance(each, ChatReceived)]

    @property
    def news(self) -> list[str]:
        """What was heard of peers coming and going."""
        kinds = PeerConnected, PeerDisconnected
        return [type(each).__name__ for each in self.events if isinstance(each, kinds)]

    @property
    def sockets(self) -> set[tuple[str, int]]:
        """The two ends of the links that are established."""
        ends = set()
        for link in self.established:
            for end in (link.transport.getHost(), link.transport.getPeer()):
                ends.add((end.host, end.port))
        return ends

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.node.port}"

    def _event_emitted(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PeerConnected) and not self._talk.running:
            self._talk.start(PAUSE)

    def _speak(self) -> None:
        for _ in range(self._burst):
            number = len(self.said)
            text = f"{self.node.id} says {number}"
            if number % 7 == 0:
                text = text.ljust(LENGTH, ".")
            if not self.node.broadcast(text):
                break
            self.said.append(text)
        self._bursts += 1
        if self._bursts == self._last_burst or not self.node.peers():
            self._talk.stop()


class SimultaneousTests(TestCase):
    """One peer, one event on each side, every line once and in order."""

    if not HAS_PROC_TCP:
        skip = NO_PROC_TCP
    timeout = max(50.0, 0.5 * max(ROUNDS, CROSSINGS))

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = reactor.seconds() + PATIENCE
        while not is_so():
            if reactor.seconds() > deadline:
                self.fail(f"in {PATIENCE:g} s there was no {what}")
            await deferLater(reactor, 0.002)

    async def play(
        self, ids: tuple[str, str], lag: int, burst: int, *protocols: str
    ) -> int:
        """One round; returns 1 if the two dials crossed, else 0."""
        sides = one, other = [Talker(id, burst, protocols) for id in ids]
        try:
            for side in sides:
                await side.node.start()
            dials: list[Deferred[Any]] = [one.node.connect(other.address)]
            for _ in range(lag):
                await deferLater(reactor, 0)
            dials.append(other.node.connect(one.address))
            found = await gatherResults(dials, consumeErrors=True)
            self.assertEqual([peer.id for peer in found], [ids[1], ids[0]])

            ports = [side.node.port for side in sides]
            # A dial that was refused is closed; two of ``mesh/1`` that crossed stay.
            await self.until(
                lambda: open_connections(ports) == 1 + one.crossings, "other links"
            )
            for side in sides:
                side.conclude()
            await self.until(lambda: all(each.is_done for each in sides), "last word")
            await self.until(
                lambda: len(one.heard + other.heard) >= len(one.said + other.said),
                "last line",
            )
            self.assertEqual(one.crossings, other.crossings)
            self.assertEqual(open_connections(ports), 1 + one.crossings)
            self.assertEqual(one.heard, other.said)
            self.assertEqual(other.heard, one.said)
            for side in sides:
                failed = [each for each in side.events if isinstance(each, FAILED)]
                self.assertEqual(failed, [])
            if "mesh/2" in protocols:
                self.assertEqual([one.most, other.most], [1, 1])
                self.assertEqual(len(one.sockets), 2)
                self.assertEqual(one.sockets, other.sockets)
            for side in sides:
                self.assertEqual(side.news, ["PeerConnected"])
                self.assertEqual(len(side.node.peers()), 1)
            if one.crossings:
                # Each says everything on the link that it had first.
                directions = {side.node.peers()[0].direction for side in sides}
                self.assertEqual(directions, {Direction.INCOMING})
        finally:
            await gatherResults([side.node.stop() for side in sides])
        for side, far in ((one, other), (other, one)):
            self.assertEqual(side.news, ["PeerConnected", "PeerDisconnected"])
            self.assertEqual(side.heard, far.said)
        if "mesh/2" in protocols:
            return int(one.opened == other.opened == 2)
        return one.crossings

    async def test_mesh1(self) -> None:
        """Both links of two dials that crossed stay."""
        await self.play_rounds(ROUNDS, "mesh/1")

    async def test_mesh2(self) -> None:
        """Never more than one link, and the same one at both ends."""
        await self.play_rounds(CROSSINGS, "mesh/2")

    async def play_rounds(self, rounds: int, *protocols: str) -> None:
        """Round after round, with the greater ID on either side."""
        crossed: Counter[int] = Counter()
        began = reactor.seconds()
        for number in range(rounds):
            ids = ("adam", "zoe") if number % 2 else ("zoe", "adam")
            lag, burst = LAGS[number % len(LAGS)], BURSTS[number % len(BURSTS)]
            crossed[await self.play(ids, lag, burst, *protocols)] += 1
        tell(
            f"{rounds} rounds in {reactor.seconds() - began:.1f} s: the dials crossed "
            f"in {crossed[1]}"
        )
        # Otherwise nothing has been shown.
        self.assertGreater(crossed[1], 0)
