"""The pair of factories, on their own and over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from meshproto.events import CloseReason, Direction
from meshproto.link.factory import MeshClientFactory, MeshServerFactory
from meshproto.link.protocol import MeshProtocol
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import EndpointTarget, PeerAddress
from meshproto.wire.messages import Chat, Data, Greeting, Message
from tests.fakes import FakeHost, tcp_address

TARGET = PeerAddress("192.0.2.2", 8002)


class FactoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(7)
        self.host = FakeHost(self.clock)

    def test_what_they_are(self) -> None:
        for factory in (
            MeshServerFactory(self.host),
            MeshClientFactory(self.host, TARGET),
        ):
            self.assertTrue(verifyObject(IProtocolFactory, factory))
            self.assertFalse(factory.noisy)

    def test_those_who_dial_us(self) -> None:
        factory = MeshServerFactory(self.host)
        address = tcp_address("192.0.2.2", 50002)
        link, other = factory.buildProtocol(address), factory.buildProtocol(address)
        self.assertIsNot(link, other)
        self.assertIs(link.direction, Direction.INCOMING)
        self.assertIsNone(link.target)
        self.assertEqual(link.opened_at, 7)

    def test_those_whom_we_dial(self) -> None:
        for target in (TARGET, EndpointTarget("unix:/mesh")):
            factory = MeshClientFactory(self.host, target, opened_at=3)
            link = factory.buildProtocol(None)
            self.assertIs(link.direction, Direction.OUTGOING)
            self.assertEqual(link.target, target)
            self.assertEqual(link.opened_at, 3)

    def test_a_dial_begins_now_unless_it_is_told_otherwise(self) -> None:
        link = MeshClientFactory(self.host, TARGET).buildProtocol(None)
        self.assertEqual(link.opened_at, 7)


class Owner(FakeHost):
    """An owner that lets a test wait for what it is told."""

    def __init__(
        self, clock: IReactorTime, name: str, protocols: Iterable[str] = ("mesh/1",)
    ) -> None:
        super().__init__(clock, protocols=protocols)
        self.name = name
        self.links: list[IPeerLink] = []
        self.waiting: list[tuple[str, Deferred[None]]] = []

    def when(self, what: str) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append((what, done))
        self.look()
        return done

    def look(self) -> None:
        for what, done in tuple(self.waiting):
            if any(values[0] == what for values in self.told):
                self.waiting.remove((what, done))
                # The reactor's turn first: nobody waits inside a callback.
                deferLater(self.clock, 0, done.callback, None)

    def own_greeting(self) -> Greeting:
        return replace(super().own_greeting(), id=self.name, name=self.name)

    def link_ready(self, link: IPeerLink) -> None:
        super().link_ready(link)
        self.links.append(link)
        self.look()

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        rest = super().message_received(link, message)
        self.look()
        return rest

    def link_gone(self, link: IPeerLink) -> None:
        super().link_gone(link)
        self.look()


class SocketTests(TestCase):
    """Both factories, and what real TCP does."""

    timeout = 20

    async def pair(self, *protocols: str) -> tuple[Owner, Owner]:
        """Two owners that are linked: who dialled, and who listens."""
        clock: IReactorTime = _reactor
        speaks = protocols or ("mesh/1",)
        listener = Owner(clock, "listener", speaks)
        dialler = Owner(clock, "dialler", speaks)
        port = await TCP4ServerEndpoint(_reactor, 0, interface="127.0.0.1").listen(
            MeshServerFactory(listener)
        )
        self.addCleanup(port.stopListening)
        target = PeerAddress("127.0.0.1", port.getHost().port)
        link = await TCP4ClientEndpoint(_reactor, "127.0.0.1", target.port).connect(
            MeshClientFactory(dialler, target)
        )
        self.assertIsInstance(link, MeshProtocol)
        await dialler.when("ready")
        await listener.when("ready")
        return dialler, listener

    async def test_hello_chat_and_goodbye(self) -> None:
        dialler, listener = await self.pair()
        self.assertIn(("hello", Greeting("dialler", "dialler")), listener.told)
        self.assertIn(("hello", Greeting("listener", "listener")), dialler.told)
        self.assertTrue(dialler.links[0].same_machine)
        dialler.links[0].send(Chat("hello"))
        await listener.when("message")
        self.assertIn(("message", Chat("hello")), listener.told)
        dialler.links[0].close(CloseReason.STOPPED)
        await dialler.when("gone")
        await listener.when("gone")
        self.assertIn(("ended", CloseReason.CLOSED_BY_PEER, ""), listener.told)

    async def test_mesh2(self) -> None:
        dialler, listener = await self.pair("mesh/1", "mesh/2")
        payload = Data(bytes(range(256)) * 1000, (("kind", "bytes"),))
        dialler.links[0].send(Chat("hello"), payload)
        dialler.links[0].close(CloseReason.STOPPED)
        await listener.when("gone")
        self.assertEqual(
            listener.told[-5:],
            [
                ("ready",),
                ("message", Chat("hello")),
                ("message", payload),
                ("ended", CloseReason.CLOSED_BY_PEER, ""),
                ("gone",),
            ],
        )

    async def test_a_cut_is_a_lost_connection_at_the_far_end(self) -> None:
        dialler, listener = await self.pair()
        dialler.links[0].abort(CloseReason.TIMEOUT)
        await dialler.when("gone")
        await listener.when("gone")
        [reason] = [values[1] for values in listener.told if values[0] == "ended"]
        self.assertIs(reason, CloseReason.CONNECTION_LOST)

    async def test_more_than_a_transport_takes_arrives_whole_before_the_end(
        self,
    ) -> None:
        dialler, listener = await self.pair()
        texts = [f"{number} " + "x" * 16000 for number in range(500)]
        for text in texts:
            dialler.links[0].send(Chat(text))
        self.assertGreater(dialler.links[0].queued(), 1_000_000)
        dialler.links[0].close(CloseReason.STOPPED)
        await listener.when("gone")
        heard = [values[1] for values in listener.told if values[0] == "message"]
        self.assertEqual(heard, [Chat(text) for text in texts])

    async def test_what_is_not_read_comes_when_it_is(self) -> None:
        dialler, listener = await self.pair()
        listener.links[0].pause("slow")
        dialler.links[0].send(Chat("hello"))
        dialler.links[0].close(CloseReason.STOPPED)
        await dialler.when("gone")
        self.assertEqual(len(listener.told), 3)
        listener.links[0].resume("slow")
        await listener.when("gone")
        self.assertIn(("message", Chat("hello")), listener.told)

    async def test_a_dial_that_was_given_up_unread_is_no_news(self) -> None:
        """A suspended process finds hello and goodbye in its backlog."""
        listener = Owner(_reactor, "listener")
        port = await TCP4ServerEndpoint(_reactor, 0, interface="127.0.0.1").listen(
            MeshServerFactory(listener)
        )
        self.addCleanup(port.stopListening)
        dialler = socket.create_connection(("127.0.0.1", port.getHost().port))
        dialler.sendall(b"dialler:dialler\n")
        dialler.close()
        await listener.when("gone")
        self.assertEqual(
            [values[0] for values in listener.told], ["opened", "ended", "gone"]
        )
