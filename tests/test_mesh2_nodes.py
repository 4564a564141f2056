"""Whole nodes that speak ``mesh/2``, alone and among nodes of ``mesh/1``."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.errors import (
    AmbiguousPeer,
    ConnectError,
    HandshakeFailed,
    HandshakeRejected,
    LocalProtocolError,
    SelfConnection,
)
from meshproto.events import (
    ChatReceived,
    ConnectionFailed,
    DataReceived,
    DialAttemptFailed,
    Event,
    NodeError,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
    PingReceived,
    PongReceived,
)
from meshproto.mesh.node import MeshNode
from meshproto.testing import SimNetwork
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import Hello, Incarnation
from tests.fakes import Bench, Wire, tcp_address
from tests.test_mesh import of_type

OLD = ("mesh/1",)
ONLY_MESH2 = ("mesh/2",)


class Cables:
    """Carries what each end of a connection says to the other, and its end."""

    def __init__(self, *benches: Bench) -> None:
        self._benches = benches
        self._pairs: list[tuple[Wire, Wire]] = []

    def join(self, one: Wire, other: Wire) -> None:
        self._pairs += [(one, other), (other, one)]

    def ends(self) -> list[Wire]:
        """Both ends of every connection."""
        return [here for here, _ in self._pairs]

    def carry(self, steps: int = 30) -> None:
        for _ in range(steps):
            for here, there in self._pairs:
                data = here.heard()
                if data and not there.closed:
                    there.raw(data)
                if here.closed and not there.closed:
                    there.hang_up()
            for bench in self._benches:
                bench.settle()


class BenchesCase(SynchronousTestCase):
    """Nodes on benches, with cables between them."""

    def bench(self, ip: str, *more_ips: str, **settings: object) -> Bench:
        own = ("127.0.0.1", "::1", "localhost", ip, *more_ips)
        bench = Bench(NodeConfig(**settings), own_hosts=own)  # type: ignore[arg-type]
        self.addCleanup(bench.stop)
        return bench.start()


class SameIdTests(SynchronousTestCase):
    """An ID is a name that several nodes may have."""

    def test_on_two_hosts(self) -> None:
        net = SimNetwork(seed=1)
        hub = net.node("10.0.0.1", id="hub")
        twins = [
            net.node(f"10.0.0.{n}", id="twin", bootstrap=("10.0.0.1:8001",))
            for n in (2, 3)
        ]
        net.start(hub, *twins)
        net.run(2.0)
        self.assertTrue(net.is_full_mesh(hub, *twins))
        peers = hub.peers()
        self.assertEqual([peer.id for peer in peers], ["twin", "twin"])
        self.assertEqual(len({peer.key for peer in peers}), 2)
        for number, twin in enumerate(twins):
            twin.broadcast(f"from {number}")
        hub.broadcast("to both")
        net.run(1.0)
        self.assertEqual(sorted(net.chats(hub)), ["from 0", "from 1"])
        self.assertEqual(sorted(net.chats(twins[0])), ["from 1", "to both"])
        self.assertEqual(sorted(net.chats(twins[1])), ["from 0", "to both"])
        self.assertRaises(AmbiguousPeer, hub.send, "twin", "which?")
        hub.send(peers[0], "you")
        net.run(1.0)
        heard = {net.host_of(twin): net.chats(twin) for twin in twins}
        for peer in peers:
            self.assertEqual("you" in heard[peer.host], peer is peers[0])


class BehindOneAddressTests(BenchesCase):
    """Two nodes of one home network, which both have the default ID."""

    def test_both_are_peers_of_a_third(self) -> None:
        outside = self.bench("203.0.113.1", name="outside")
        homes = [self.bench(f"192.168.0.{n}", name=f"home-{n}") for n in (2, 3)]
        cables = Cables(outside, *homes)
        links = []
        for number, home in enumerate(homes):
            links.append(home.node.connect("203.0.113.1:8001"))
            dialled = home.dialled("203.0.113.1:8001").succeed(
                there="203.0.113.1",
                here=tcp_address(f"192.168.0.{number + 2}", 40001),
            )
            cables.join(dialled, outside.caller("198.51.100.7", 40001 + number))
            cables.carry()
        for link in links:
            self.assertEqual(self.successResultOf(link).name, "outside")
        # The ghost of a former life looks the same: the first one answers.
        outside.clock.advance(outside.node.config.probe_timeout)
        cables.carry()
        self.assertEqual(
            [(peer.id, peer.name, peer.host) for peer in outside.node.peers()],
            [
                ("peer-8001", "home-2", "198.51.100.7"),
                ("peer-8001", "home-3", "198.51.100.7"),
            ],
        )
        for home in homes:
            home.node.broadcast(f"I am {home.node.name}")
        outside.node.broadcast("hello")
        cables.carry()
        told = [(e.peer.name, e.text) for e in outside.of(ChatReceived)]
        self.assertEqual(told, [("home-2", "I am home-2"), ("home-3", "I am home-3")])
        for home in homes:
            self.assertEqual([e.text for e in home.of(ChatReceived)], ["hello"])
        for bench in (outside, *homes):
            self.assertEqual(bench.of(PeerDisconnected), [])


class PortForwardTests(BenchesCase):
    """A port forward that leads home."""

    home = "203.0.113.1:9001"

    def answer(self, bench: Bench, dials: int) -> None:
        """The forward carries the latest dial, which is that many's, back to us."""
        self.assertEqual(len(bench.network.dials), dials)
        dialled = bench.network.dials[-1].succeed(there="203.0.113.1")
        cables = Cables(bench)
        cables.join(dialled, bench.caller("203.0.113.1", 40000 + dials))
        cables.carry()
        self.assertTrue(dialled.closed)

    def test_connect(self) -> None:
        bench = self.bench("192.168.0.2", name="alice")
        connecting = bench.node.connect(self.home)
        self.answer(bench, 1)
        self.failureResultOf(connecting, SelfConnection)
        (told,) = bench.of(ConnectionFailed)
        self.assertEqual(told.reason, "that is this node itself")
        for kind in (PeerConnected, PeerDisconnected, PeerRefused, DialAttemptFailed):
            self.assertEqual(bench.of(kind), [])
        self.assertEqual(bench.node.peers(), ())
        bench.clock.pump([1.0] * 600)
        self.assertEqual(len(bench.network.dials), 1)

    def dials_home(self, bench: Bench) -> int:
        """Carry back what is being dialled; returns how often it has been."""
        dials = [d for d in bench.network.dials if str(d.target) == self.home]
        for dial in dials:
            if not dial.result.called:
                dialled = dial.succeed(there="203.0.113.1")
                cables = Cables(bench)
                cables.join(dialled, bench.caller("203.0.113.1", 40001))
                cables.carry()
                self.assertTrue(dialled.closed)
        return len(dials)

    def told_by_a_peer(self, again: bool, seconds: int) -> int:
        """How often it is dialled after a peer has told of it, once or all the time."""
        bench = self.bench("192.168.0.2", name="alice")
        friend = bench.guest("bob:Bob", "192.0.2.9")
        friend.say(f"PEERS:{self.home}")
        for _ in range(seconds):
            bench.clock.advance(1.0)
            friend.say(f"PEERS:{self.home}" if again else "PONG")
            dials = self.dials_home(bench)
        failed = bench.of(DialAttemptFailed)
        self.assertEqual(len(failed), dials)
        self.assertEqual({e.reason for e in failed}, {"that is this node itself"})
        self.assertEqual([peer.id for peer in bench.node.peers()], ["bob"])
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        return dials

    def test_told_once(self) -> None:
        """It is tried no more than any address where nobody is."""
        most = NodeConfig().max_dial_failures
        self.assertEqual(self.told_by_a_peer(False, 900), most)

    def test_told_all_the_time(self) -> None:
        """Another node may listen there some day; the pauses grow meanwhile."""
        self.assertLess(self.told_by_a_peer(True, 900), 90)


class TwoAddressesTests(BenchesCase):
    """One node that is dialled at two addresses at once."""

    def dials(self, *ways: tuple[str, str, str]) -> None:
        """``ways`` are what is dialled, where that is, and whence it comes."""
        alice = self.bench("198.51.100.1", "2001:db8::1", name="alice")
        bob = self.bench("198.51.100.2", "2001:db8::2", name="bob")
        cables = Cables(alice, bob)
        links = [alice.node.connect(target) for target, _, _ in ways]
        for number, (target, there, whence) in enumerate(ways):
            dialled = alice.dialled(target).succeed(
                there=there, here=tcp_address(whence, 40001 + number)
            )
            cables.join(dialled, bob.caller(whence, 40001 + number, here=there))
        cables.carry()
        peers = [self.successResultOf(link) for link in links]
        self.assertEqual([peer.name for peer in peers], ["bob", "bob"])
        self.assertEqual(len({peer.key for peer in peers}), 1)
        for bench in (alice, bob):
            self.assertEqual(len(bench.node.peers()), 1)
            self.assertEqual(len(bench.of(PeerConnected)), 1)
            for kind in (PeerDisconnected, ConnectionFailed, DialAttemptFailed):
                self.assertEqual(bench.of(kind), [])
        alice.node.broadcast("hello")
        bob.node.broadcast("hi")
        cables.carry()
        self.assertEqual([e.text for e in bob.of(ChatReceived)], ["hello"])
        self.assertEqual([e.text for e in alice.of(ChatReceived)], ["hi"])
        self.assertEqual(len([w for w in cables.ends() if not w.closed]), 2)

    def test_ipv4_and_ipv6(self) -> None:
        self.dials(
            ("198.51.100.2:8001", "198.51.100.2", "198.51.100.1"),
            ("[2001:db8::2]:8001", "2001:db8::2", "2001:db8::1"),
        )

    def test_two_names(self) -> None:
        self.dials(
            ("bob.example:8001", "198.51.100.2", "198.51.100.1"),
            ("bob.example.net:8001", "198.51.100.2", "198.51.100.1"),
        )


class RefusedTests(SynchronousTestCase):
    """Two nodes that do not belong together."""

    def setUp(self) -> None:
        self.net = SimNetwork(seed=1)

    def two(
        self, one: dict[str, object], other: dict[str, object]
    ) -> tuple[MeshNode, MeshNode]:
        alice = self.net.node("10.0.0.1", name="alice", **one)
        bob = self.net.node("10.0.0.2", name="bob", **other)
        self.net.start(alice, bob)
        return alice, bob

    def fails(self, node: MeshNode, where: str) -> ConnectError:
        """How a dial fails; it is told once, and there is no peer."""
        before = len(of_type(self.net.events(node), ConnectionFailed))
        connecting = node.connect(where)
        self.net.run(2.0)
        error = self.failureResultOf(connecting, ConnectError).value
        assert isinstance(error, ConnectError)
        (told,) = of_type(self.net.events(node), ConnectionFailed)[before:]
        self.assertEqual(told.reason, error.reason)
        self.assertEqual(node.peers(), ())
        return error

    def test_another_mesh(self) -> None:
        """The listener says first to which one it belongs: the dialler goes."""
        alice, bob = self.two({"mesh": "green"}, {"mesh": "blue"})
        for node, other, where in (
            (alice, bob, "10.0.0.2:8001"),
            (bob, alice, "10.0.0.1:8001"),
        ):
            error = self.fails(node, where)
            self.assertIsInstance(error, HandshakeRejected)
            self.assertEqual(error.reason, "it belongs to another mesh")
            self.assertEqual(other.peers(), ())
        self.assertEqual(self.net.connections(), 0)

    def test_a_dialler_of_another_mesh_that_goes_on(self) -> None:
        """It is refused with the reason, which is told here."""
        bench = Bench(NodeConfig(name="alice", mesh="green")).start()
        self.addCleanup(bench.stop)
        wire = bench.caller()
        wire.say("bob:Bob\t")
        self.assertIn(b"mesh: green\n", wire.heard())
        hello = Hello(
            identity="f" * 32,
            incarnation=Incarnation(1, "0" * 32),
            link=1,
            id="bob",
            name="Bob",
            mesh="blue",
        )
        wire.raw(Mesh2().encode(hello))
        self.assertEqual(wire.heard(), b"REFUSED another-mesh\n")
        (told,) = bench.of(PeerRefused)
        self.assertEqual((told.name, told.host), ("Bob", "192.0.2.2"))
        self.assertEqual(told.reason, "it belongs to another mesh")
        self.assertEqual(bench.node.peers(), ())

    def test_no_protocol_in_common(self) -> None:
        alice, bob = self.two({"protocols": ONLY_MESH2}, {"protocols": OLD})
        error = self.fails(alice, "10.0.0.2:8001")
        self.assertIsInstance(error, HandshakeFailed)
        self.assertEqual(error.reason, "speaks none of our protocols")
        error = self.fails(bob, "10.0.0.1:8001")
        self.assertIsInstance(error, HandshakeFailed)
        self.assertIn("perhaps it speaks only mesh/2", error.reason)
        # The listener hears who knocks, and says so.
        errors = {e.error for e in of_type(self.net.events(alice), NodeError)}
        self.assertEqual(errors, {"speaks none of our protocols"})
        self.assertEqual(of_type(self.net.events(alice), PeerConnected), [])
        # One of mesh/1 takes whoever greets it for a peer, until that goes.
        self.net.run(900.0)
        came = len(of_type(self.net.events(bob), PeerConnected))
        self.assertEqual(came, 1)
        self.assertEqual(len(of_type(self.net.events(bob), PeerDisconnected)), came)
        self.assertEqual(self.net.connections(), 0)
        # Nor does it come back for ever.
        knocks = len(of_type(self.net.events(alice), NodeError))
        self.assertLessEqual(knocks, NodeConfig().max_dial_failures + 1)


class RestartTests(SynchronousTestCase):
    """A node that comes back while its old link is still open."""

    def comes_back(self, others: int, max_peers: int) -> None:
        net = SimNetwork(seed=1)
        # Nothing but a probe asks for a sign of life in time.
        alice = net.node(
            "10.0.0.1",
            name="alice",
            max_peers=max_peers,
            maintenance_interval=600.0,
            peer_timeout=1200.0,
            discovery_interval=600.0,
        )
        bob = net.node("10.0.0.2", id="bob", name="Bob", bootstrap=("10.0.0.1:8001",))
        rest = [
            net.node(f"10.0.0.{n}", id=f"n{n}", bootstrap=("10.0.0.1:8001",))
            for n in range(3, 3 + others)
        ]
        net.start(alice, bob, *rest)
        net.run(2.0)
        self.assertEqual(len(alice.peers()), others + 1)
        net.power_off(bob)
        net.run(1.0)
        self.assertEqual(len(alice.peers()), others + 1)
        again = net.node(
            "10.0.0.2", id="bob", name="Bob again", bootstrap=("10.0.0.1:8001",)
        )
        net.start(again)
        net.run_until(lambda: net.is_full_mesh(alice, again, *rest), timeout=15.0)
        net.run(60.0)
        names = [p.name for p in alice.peers() if p.id == "bob"]
        self.assertEqual(names, ["Bob again"])
        gone = of_type(net.events(alice), PeerDisconnected)
        self.assertEqual([event.peer.name for event in gone], ["Bob"])
        came = [
            event.peer.name
            for event in of_type(net.events(alice), PeerConnected)
            if event.peer.id == "bob"
        ]
        self.assertEqual(came, ["Bob", "Bob again"])
        again.broadcast("I am back")
        net.run(1.0)
        self.assertEqual(net.chats(alice), ["I am back"])

    def test_with_seats_to_spare(self) -> None:
        self.comes_back(others=0, max_peers=20)

    def test_among_others(self) -> None:
        self.comes_back(others=3, max_peers=20)

    def test_when_the_ghost_holds_the_only_seat(self) -> None:
        self.comes_back(others=0, max_peers=1)

    def test_when_all_seats_are_taken(self) -> None:
        self.comes_back(others=3, max_peers=4)

    def test_from_mesh1_to_mesh2(self) -> None:
        net = SimNetwork(seed=1)
        alice = net.node("10.0.0.1", name="alice")
        bob = net.node("10.0.0.2", name="bob", protocols=OLD)
        net.start(alice, bob)
        linked = bob.connect("10.0.0.1:8001")
        net.run(1.0)
        self.assertEqual(self.successResultOf(linked).protocol, "mesh/1")
        (peer,) = alice.peers()
        self.assertEqual(peer.protocol, "mesh/1")
        self.assertFalse(alice.broadcast(b"\0"))
        bob.stop()
        net.run(1.0)
        bob = net.node("10.0.0.2", name="bob")
        net.start(bob)
        # Alice knows where bob is.
        net.run_until(lambda: alice.peers() and bob.peers(), timeout=10.0)
        net.run(5.0)
        for node in (alice, bob):
            (peer,) = node.peers()
            self.assertEqual(peer.protocol, "mesh/2")
        self.assertTrue(alice.broadcast(b"\0"))
        net.run(1.0)
        (told,) = of_type(net.events(bob), DataReceived)
        self.assertEqual(told.payload, b"\0")


class FormationTests(SynchronousTestCase):
    """A mesh of many nodes completes with one link for each pair."""

    def build(
        self,
        seed: int,
        size: int,
        knows: Callable[[int], int],
        old: tuple[int, ...] = (),
    ) -> tuple[SimNetwork, list[MeshNode]]:
        """Node ``n`` knows node ``knows(n)``; ``old`` ones speak only mesh/1."""
        net = SimNetwork(seed=seed)
        nodes = [
            net.node(
                f"10.0.0.{n}",
                name=f"node-{n}",
                bootstrap=(f"10.0.0.{knows(n)}:8001",) if n > 1 else (),
                **({"protocols": OLD} if n in old else {}),
            )
            for n in range(1, size + 1)
        ]
        return net, nodes

    def twenty(self, seed: int, knows: Callable[[int], int]) -> None:
        net, nodes = self.build(seed, 20, knows)
        looks = 0
        doubled: list[str] = []

        def look(event: Event) -> None:
            nonlocal looks
            looks += 1
            for node in nodes:
                hosts = [peer.host for peer in node.peers()]
                if len(set(hosts)) < len(hosts):
                    doubled.append(f"{node.name} at {event!r}")

        for node in nodes:
            node.subscribe(look, PeerConnected, PeerDisconnected)
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes), timeout=5.0)
        net.run(45.0)
        self.assertTrue(net.is_full_mesh(*nodes))
        self.assertEqual(net.connections(), 20 * 19 // 2)
        self.assertEqual(doubled, [])
        self.assertEqual(looks, 20 * 19)
        for node in nodes:
            self.assertEqual({p.protocol for p in node.peers()}, {"mesh/2"})
            for kind in (PeerDisconnected, ConnectionFailed, DialAttemptFailed):
                self.assertEqual(of_type(net.events(node), kind), [], node.name)

    def test_star_of_twenty(self) -> None:
        self.twenty(1, lambda n: 1)

    def test_chain_of_twenty(self) -> None:
        self.twenty(2, lambda n: n - 1)

    def mixed(
        self, seed: int, knows: Callable[[int], int], old: tuple[int, ...]
    ) -> None:
        net, nodes = self.build(seed, 6, knows, old)
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes), timeout=5.0)
        # Pairs of mesh/1 may have two links each, and no pair has more.
        net.run(5.0)
        self.assertTrue(net.is_full_mesh(*nodes))
        names = {node.name for node in nodes}
        new = {node.name for n, node in enumerate(nodes, 1) if n not in old}
        for node in nodes:
            delivery = node.broadcast(f"chat of {node.name}")
            self.assertEqual({p.name for p in delivery.peers}, names - {node.name})
            self.assertEqual(delivery.missed, ())
        for node in nodes:
            delivery = node.broadcast(b"data of " + node.name.encode())
            takers = new - {node.name} if node.name in new else set()
            self.assertEqual({p.name for p in delivery.peers}, takers)
            missed = {peer.name for peer, why in delivery.missed if why}
            self.assertEqual(missed, names - {node.name} - takers)
        net.run(5.0)
        for node in nodes:
            chats = sorted(f"chat of {name}" for name in names - {node.name})
            self.assertEqual(sorted(net.chats(node)), chats)
            data = of_type(net.events(node), DataReceived)
            senders = sorted(new - {node.name}) if node.name in new else []
            self.assertEqual(sorted(e.peer.name for e in data), senders)
            for event in data:
                self.assertEqual(event.payload, b"data of " + event.peer.name.encode())
            self.assertEqual(of_type(net.events(node), PeerDisconnected), [])

    def test_mixed_star(self) -> None:
        for seed, old in enumerate(((1,), (2, 4), (1, 3, 6), (2, 3, 4, 5, 6))):
            self.mixed(seed, lambda n: 1, old)

    def test_mixed_chain(self) -> None:
        for seed, old in enumerate(((1,), (2, 4), (1, 3, 6), (2, 3, 4, 5, 6))):
            self.mixed(seed, lambda n: n - 1, old)


class CrossingTests(SynchronousTestCase):
    """Two nodes dial each other at the same instant."""

    def cross(self, seed: int) -> None:
        rng = random.Random(seed)
        net = SimNetwork(seed=seed)
        alice, bob = net.node("10.0.0.1", name="a"), net.node("10.0.0.2", name="b")
        for one, other in ((alice, bob), (bob, alice)):
            low = rng.choice((0.0, 0.0001, 0.001, 0.01, 0.05))
            high = low + rng.choice((0.0, 0.001, 0.02, 0.1))
            net.set_latency(one, other, (low, high), one_way=True)
        net.start(alice, bob)
        said: dict[MeshNode, list[str]] = {alice: [], bob: []}

        def speak(node: MeshNode) -> None:
            text = str(len(said[node]))
            if len(said[node]) < 100 and node.broadcast(text):
                said[node].append(text)

        def begin(node: MeshNode) -> Callable[[object], None]:
            def connected(_: object) -> None:
                # Within the event, and from then on.
                for delay in range(100):
                    net.clock.callLater(delay * 0.003, speak, node)
                speak(node)

            return connected

        for node in (alice, bob):
            node.subscribe(begin(node), PeerConnected)
        dials: list[Deferred[Peer]] = [
            alice.connect("10.0.0.2:8001"),
            bob.connect("10.0.0.1:8001"),
        ]
        net.run(3.0)
        names = [self.successResultOf(dial).name for dial in dials]
        self.assertEqual(names, ["b", "a"], f"seed {seed}")
        self.assertEqual(net.connections(), 1, f"seed {seed}")
        for speaker, listener in ((alice, bob), (bob, alice)):
            self.assertEqual(len(said[speaker]), 100, f"seed {seed}")
            self.assertEqual(net.chats(listener), said[speaker], f"seed {seed}")
            events = net.events(listener)
            self.assertEqual(len(of_type(events, PeerConnected)), 1)
            for kind in (PeerDisconnected, ConnectionFailed, DialAttemptFailed):
                self.assertEqual(of_type(events, kind), [], f"seed {seed}")

    def test_swept_latencies(self) -> None:
        for seed in range(40):
            self.cross(seed)


class LargePayloadTests(SynchronousTestCase):
    """A payload of the greatest size there is."""

    def test_others_pass_between_its_pieces(self) -> None:
        size, speed = 1024 * 1024, 128 * 1024
        net = SimNetwork(seed=1, latency=(0.01, 0.01))
        alice, bob = (
            net.node(f"10.0.0.{n}", maintenance_interval=1.0, max_payload=size)
            for n in (1, 2)
        )
        net.start(alice, bob)
        linked = alice.connect("10.0.0.2:8001")
        net.run(1.0)
        self.successResultOf(linked)
        net.set_reading_speed(bob, speed)
        payload = random.Random(1).randbytes(size)
        self.assertRaises(LocalProtocolError, alice.broadcast, payload + b"x")
        alice.broadcast(payload)
        begin, said = net.clock.seconds(), []
        while not of_type(net.events(bob), DataReceived):
            said.append(f"{net.clock.seconds():.3f}")
            alice.broadcast(said[-1])
            net.run(0.25)
            self.assertLess(net.clock.seconds() - begin, 12.0)
        # So long does the payload take.
        took = net.clock.seconds() - begin
        self.assertGreater(took, 7.0)
        net.run(2.0)
        (told,) = of_type(net.events(bob), DataReceived)
        self.assertEqual(told.payload, payload)
        self.assertEqual(net.chats(bob), said)
        late = [
            when - float(event.text)
            for when, _, event in net.history()
            if isinstance(event, ChatReceived)
        ]
        # PING passes as well, and its answer.
        pings = [
            when - begin
            for when, name, event in net.history()
            if isinstance(event, PingReceived) and 0 < when - begin < took
        ]
        trips = [
            event.peer.round_trip
            for when, _, event in net.history()
            if isinstance(event, PongReceived) and 0 < when - begin < took
        ]
        # What a transport and its window hold is all that they wait for.
        bound = 2 * 2 * 65_536 / speed
        self.assertLess(max(late), bound)
        self.assertGreater(len(pings), 10)
        self.assertGreater(len(trips), 10)
        self.assertLess(max(trip for trip in trips if trip is not None), 2 * bound)
        self.assertNotIn(None, trips)
