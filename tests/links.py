"""One link and its far end, for the tests that are about a single connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction
from meshproto.link.interfaces import LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.turns import LONG_TURN
from meshproto.wire.address import PeerAddress
from meshproto.wire.mesh1 import MAX_LINE
from meshproto.wire.messages import (
    Chats,
    Greeting,
    Message,
)
from tests.fakes import FakeHost, Wire

TARGET = PeerAddress("192.0.2.2", 8002)
BOB = Greeting("peer-8002", "bob")


def first_of(
    message: Message, hear: Callable[[IPeerLink, Message], object], link: IPeerLink
) -> Message | None:
    """Hear one message only, and give back what chat follows it."""
    if not isinstance(message, Chats):
        hear(link, message)
        return None
    hear(link, Chats(message.texts[:1]))
    return Chats(message.texts[1:]) if message.texts[1:] else None


class Slow(FakeHost):
    """Needs a tenth of a long turn for each message, and for each text."""

    needs = LONG_TURN / 10

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        if not isinstance(message, Chats):
            self.work()
            return super().message_received(link, message)
        texts = message.texts
        while texts and self.clock.seconds() < link.turn_ends:
            self.work()
            super().message_received(link, Chats(texts[:1]))
            texts = texts[1:]
        return Chats(texts) if texts else None

    def work(self) -> None:
        # No call is made, as none is while a real application works.
        cast(Clock, self.clock).rightNow += self.needs


def message_of(told: list[tuple[object, ...]]) -> list[object]:
    return [values[1] for values in told if values[0] == "message"]


class LinkCase(SynchronousTestCase):
    limits = LinkLimits()
    max_line = MAX_LINE

    def setUp(self) -> None:
        self.clock = Clock()
        self.host = FakeHost(self.clock, limits=self.limits, max_line=self.max_line)

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    def incoming(self) -> Wire:
        """Somebody has dialled us."""
        wire = Wire(self.clock, MeshProtocol(self.host))
        self.host.told.clear()
        return wire

    def outgoing(self, opened_at: float | None = None) -> Wire:
        """We have dialled somebody."""
        protocol = MeshProtocol(self.host, target=TARGET, opened_at=opened_at)
        wire = Wire(self.clock, protocol)
        self.host.told.clear()
        return wire

    def ready(self, direction: Direction = Direction.INCOMING) -> Wire:
        """A link whose handshake is complete and forgotten."""
        if direction is Direction.INCOMING:
            wire = self.incoming()
        else:
            wire = self.outgoing()
        wire.say("peer-8002:bob")
        wire.heard()
        self.host.told.clear()
        return wire

    def messages(self) -> list[object]:
        """The messages that the owner was told of."""
        return message_of(self.host.told)

    def ends(self) -> list[tuple[object, ...]]:
        """How often, and why, the owner was told that it was over."""
        return [values[1:] for values in self.host.told if values[0] == "ended"]

    def assertOver(self, wire: Wire, reason: CloseReason, *, aborted: bool) -> None:
        """It has ended for that reason, once, and leaves no timer behind."""
        self.clock.advance(0)
        self.assertTrue(wire.closed)
        self.assertEqual([end[0] for end in self.ends()], [reason])
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(wire.transport.aborted, aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])
