"""TCP as nodes use it: where they listen, how they dial, what is theirs."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.link import network as tcp
from meshproto.link.network import TcpNetwork, dual_stack
from meshproto.wire.address import EndpointTarget, PeerAddress, parse_target


def network(
    reactor: Any,
    *,
    port: int = 8001,
    interface: str | None = None,
    listen: str | None = None,
    timeout: float = 10.0,
) -> TcpNetwork:
    return TcpNetwork(
        reactor, port=port, interface=interface, listen=listen, timeout=timeout
    )


class Silent(Protocol):
    """Says nothing."""


def silence() -> Factory:
    return Factory.forProtocol(Silent)


def own_lan_address(family: int) -> str | None:
    """An address of this machine that is not loopback, if it has one."""
    target = "192.0.2.254" if family == socket.AF_INET else "2001:db8::1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing.
            probe.connect((target, 9))
        except OSError:
            return None
        host: str = probe.getsockname()[0]
        return host


class ListenTests(SynchronousTestCase):
    def listen(self, **settings: Any) -> tuple[int, str, int]:
        reactor = MemoryReactorClock()
        self.successResultOf(network(reactor, **settings).listen(silence()))
        [(port, _, backlog, interface)] = reactor.tcpServers
        return port, interface, backlog

    def test_what_it_is(self) -> None:
        self.assertTrue(verifyObject(INetwork, network(MemoryReactorClock())))

    def test_on_every_address_of_the_machine(self) -> None:
        port, interface, backlog = self.listen()
        self.assertEqual((port, interface), (8001, "::" if dual_stack() else "0.0.0.0"))
        self.assertGreaterEqual(backlog, 50)

    def test_on_one_address(self) -> None:
        for host in ("127.0.0.1", "192.0.2.1", "0.0.0.0", "::1", "::"):
            self.assertEqual(self.listen(interface=host, port=9)[:2], (9, host))

    def test_on_an_endpoint_string(self) -> None:
        port, interface, _ = self.listen(listen="tcp:9001:interface=192.0.2.1")
        self.assertEqual((port, interface), (9001, "192.0.2.1"))

    def test_on_a_unix_socket(self) -> None:
        reactor = MemoryReactorClock()
        listening = network(reactor, listen="unix:/tmp/mesh").listen(silence())
        port = self.successResultOf(listening)
        self.assertEqual(port.getHost(), UNIXAddress("/tmp/mesh"))

    def test_an_endpoint_string_of_no_kind(self) -> None:
        with self.assertRaises(ValueError):
            network(MemoryReactorClock(), listen="nonsense:1").listen(silence())


@implementer(IHostnameResolver, IHostResolution)
class OneHost:
    """Resolves every name, at once, to an address of this machine."""

    name = "one host"

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolutionReceiver.resolutionBegan(self)
        resolutionReceiver.addressResolved(IPv4Address("TCP", "127.0.0.1", portNumber))
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """It is over before anybody could."""


class EndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        # Older releases of Twisted have a memory reactor without a resolver.
        self.reactor.nameResolver = OneHost()
        alsoProvides(self.reactor, IReactorPluggableNameResolver)
        self.network = network(self.reactor, timeout=7.0)

    def dial(self, text: str) -> Deferred[Any]:
        result: Deferred[Any] = self.network.endpoint(parse_target(text)).connect(
            silence()
        )
        result.addErrback(lambda _: None)
        return result

    def test_an_ipv4_address_is_dialled_as_it_is(self) -> None:
        endpoint = self.network.endpoint(PeerAddress("192.0.2.2", 8002))
        self.assertIsInstance(endpoint, TCP4ClientEndpoint)
        self.dial("192.0.2.2:8002")
        [(host, port, _, timeout, bind)] = self.reactor.tcpClients
        self.assertEqual((host, port, timeout, bind), ("192.0.2.2", 8002, 7.0, None))

    def test_so_is_an_ipv6_address(self) -> None:
        endpoint = self.network.endpoint(PeerAddress("2001:db8::2", 8002))
        self.assertIsInstance(endpoint, TCP6ClientEndpoint)
        self.dial("[2001:db8::2]:8002")
        [(host, port, _, timeout, _)] = self.reactor.tcpClients
        self.assertEqual((host, port, timeout), ("2001:db8::2", 8002, 7.0))

    def test_ipv4_inside_ipv6_is_dialled_as_ipv4(self) -> None:
        self.dial("[::ffff:192.0.2.2]:8002")
        self.assertEqual(self.reactor.tcpClients[0][0], "192.0.2.2")

    def test_a_name_goes_through_the_resolver(self) -> None:
        endpoint = self.network.endpoint(PeerAddress("bob.example", 8002))
        self.assertIsInstance(endpoint, HostnameEndpoint)
        self.dial("bob.example:8002")
        [(host, port, *_)] = self.reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 8002))

    def test_an_endpoint_string(self) -> None:
        endpoint = self.network.endpoint(EndpointTarget("unix:/tmp/mesh"))
        self.assertIsInstance(endpoint, UNIXClientEndpoint)
        self.dial("tcp:192.0.2.2:8002")
        [(host, port, *_)] = self.reactor.tcpClients
        self.assertEqual((host, port), ("192.0.2.2", 8002))

    def test_an_endpoint_string_that_cannot_be_used(self) -> None:
        for text in (
            "nonsense:x:1",
            "tcp:",
            "tcp:host=::1:port=x",
            "tcp:192.0.2.2:8002:timeout=soon",
            "tcp:192.0.2.2",
            "unix:",
            "tls:",
            "tls:192.0.2.2",
            "tls:192.0.2.2:8002:certificate=/does/not/exist:privateKey=/does/not/exist",
            "ssl:192.0.2.2:8002:privateKey=/does/not/exist",
            "ssl:192.0.2.2:8002:caCertsDir=/does/not/exist",
        ):
            try:
                self.network.endpoint(EndpointTarget(text))
            except AddressError as error:
                self.assertIn(repr(text), str(error))
                self.assertNotIn("\n", str(error))

    def test_some_of_them_certainly_cannot(self) -> None:
        for text in ("nonsense:x:1", "tcp:", "tcp:192.0.2.2:port"):
            with self.assertRaises(AddressError, msg=text):
                self.network.endpoint(EndpointTarget(text))

    def test_a_missing_file_is_an_endpoint_that_cannot_be_used(self) -> None:
        text = "ssl:192.0.2.2:8002:privateKey=/no/key:certKey=/no/certificate"
        with self.assertRaises(AddressError):
            self.network.endpoint(EndpointTarget(text))


class OwnHostTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = network(MemoryReactorClock())

    def test_loopback_in_every_spelling(self) -> None:
        for host in (
            "localhost",
            "node.localhost",
            "localhost.localdomain",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "::ffff:127.0.0.1",
        ):
            self.assertTrue(self.network.is_own_host(host), host)

    def test_the_addresses_of_the_interfaces(self) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            host = own_lan_address(family)
            if host is not None:
                self.assertTrue(self.network.is_own_host(host), host)

    def test_any_address_of_the_machine_is_the_machine(self) -> None:
        self.assertTrue(self.network.is_own_host("0.0.0.0"))
        self.assertTrue(self.network.is_own_host("::"))

    def test_an_answer_holds_for_five_seconds(self) -> None:
        reactor = MemoryReactorClock()
        asked: list[str] = []

        def can_bind(host: str) -> bool:
            asked.append(host)
            return len(asked) > 1

        self.patch(tcp, "can_bind", can_bind)
        own = network(reactor)
        self.assertFalse(own.is_own_host("192.0.2.1"))
        reactor.advance(4.999)
        self.assertFalse(own.is_own_host("192.0.2.1"))
        reactor.advance(0.001)
        self.assertTrue(own.is_own_host("192.0.2.1"))
        self.assertEqual(asked, ["192.0.2.1"] * 2)

    def test_the_answers_that_are_kept_are_bounded(self) -> None:
        self.patch(tcp, "can_bind", lambda host: False)
        for number in range(3000):
            self.network.is_own_host(f"10.0.{number // 250}.{number % 250}")
        self.assertLessEqual(len(self.network._own_hosts), 1024)

    def test_the_addresses_of_others(self) -> None:
        for host in (
            "203.0.113.77",
            "8.8.8.8",
            "::ffff:203.0.113.77",
            "2001:db8::77",
            "fe80::77%nowhere",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "mesh.example",
            "",
        ):
            self.assertFalse(self.network.is_own_host(host), host)


class SocketTests(TestCase):
    """Real sockets on loopback."""

    timeout = 20

    async def listening(self, **settings: Any) -> Any:
        settings.setdefault("port", 0)
        port = await network(_reactor, **settings).listen(silence())
        self.addCleanup(port.stopListening)
        return port

    async def reach(self, host: str, port: int) -> None:
        """Connect, and close again."""
        target = PeerAddress.of(host, port)
        endpoint = network(_reactor).endpoint(target)
        await self.knock(endpoint)

    async def knock(self, endpoint: IStreamClientEndpoint) -> None:
        gone: Deferred[None] = Deferred()

        class Guest(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

            def connectionLost(self, reason: object = None) -> None:
                gone.callback(None)

        await endpoint.connect(Factory.forProtocol(Guest))
        await gone

    async def test_one_port_for_ipv6_and_ipv4(self) -> None:
        if not dual_stack():
            raise SkipTest("this machine has no dual stack")
        port = await self.listening()
        number = port.getHost().port
        self.assertGreater(number, 0)
        for host in ("127.0.0.1", "::1", "localhost"):
            await self.reach(host, number)

    async def test_loopback_only(self) -> None:
        port = await self.listening(interface="127.0.0.1")
        await self.reach("127.0.0.1", port.getHost().port)

    async def test_a_port_that_is_taken(self) -> None:
        port = await self.listening(interface="127.0.0.1")
        number = port.getHost().port
        with self.assertRaises(CannotListenError):
            await self.listening(interface="127.0.0.1", port=number)

    async def test_an_address_that_is_not_ours(self) -> None:
        with self.assertRaises(CannotListenError):
            await self.listening(interface="203.0.113.77")

    async def test_a_unix_socket(self) -> None:
        path = self.mktemp()
        port = await self.listening(listen=f"unix:{path}")
        self.assertIsInstance(port.getHost(), UNIXAddress)
        endpoint = network(_reactor).endpoint(EndpointTarget(f"unix:{path}"))
        await self.knock(endpoint)
