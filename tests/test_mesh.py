"""Whole meshes of real nodes, on the simulated network: `meshproto.testing`."""

from __future__ import annotations

import random
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    CloseReason,
    Event,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from meshproto.mesh.node import MeshNode
from meshproto.testing import SimNetwork
from meshproto.wire.address import PeerAddress
from tests.slow import some


def star(net: SimNetwork, size: int, **settings: object) -> list[MeshNode]:
    """That many nodes on as many hosts, the first one known to all others."""
    return [
        net.node(
            f"10.0.0.{number}",
            name=f"node-{number}",
            bootstrap=("10.0.0.1:8001",) if number > 1 else (),
            **settings,
        )
        for number in range(1, size + 1)
    ]


def chain(net: SimNetwork, size: int) -> list[MeshNode]:
    """That many nodes, each knowing only the one before it."""
    return [
        net.node(
            f"10.0.0.{number}",
            name=f"node-{number}",
            bootstrap=(f"10.0.0.{number - 1}:8001",) if number > 1 else (),
        )
        for number in range(1, size + 1)
    ]


E = TypeVar("E", bound=Event)


def of_type(events: list[Event], kind: type[E]) -> list[E]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]


class Conversation:
    """Has nodes chat all the time, and knows what must have arrived."""

    def __init__(self, net: SimNetwork, nodes: list[MeshNode], every: float) -> None:
        self._net = net
        self._nodes = nodes
        self._every = every
        self._count = 0
        self._handed: dict[tuple[MeshNode, MeshNode], list[str]] = {}
        self._places = {(net.host_of(node), node.id): node for node in nodes}

    def talk(self, seconds: float) -> None:
        """Everybody says something, again and again."""
        end = self._net.clock.seconds() + seconds
        while self._net.clock.seconds() < end:
            for speaker in self._nodes:
                self._count += 1
                text = f"message {self._count}"
                for peer in speaker.broadcast(text).peers:
                    listener = self._places[peer.host, peer.id]
                    self._handed.setdefault((speaker, listener), []).append(text)
            self._net.run(self._every)

    def problems(self) -> list[str]:
        """What was lost, doubled or overtaken between any two nodes."""
        found = []
        for listener in self._nodes:
            heard: dict[MeshNode, list[str]] = {}
            for event in of_type(self._net.events(listener), ChatReceived):
                speaker = self._places[event.peer.host, event.peer.id]
                heard.setdefault(speaker, []).append(event.text)
            for speaker in self._nodes:
                handed = self._handed.get((speaker, listener), [])
                if heard.get(speaker, []) != handed:
                    found.append(f"{speaker.name} to {listener.name}")
        return found


class FormationTests(SynchronousTestCase):
    """A mesh completes by itself, without a timer."""

    def complete(self, net: SimNetwork, nodes: list[MeshNode], within: float) -> None:
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes), timeout=within)
        # Whatever lost a race is closed soon.
        net.run(1.0)
        size = len(nodes)
        self.assertTrue(net.is_full_mesh(*nodes))
        self.assertEqual(net.connections(), size * (size - 1) // 2)
        for node in nodes:
            connected = of_type(net.events(node), PeerConnected)
            self.assertEqual(len(connected), size - 1)
            self.assertEqual(of_type(net.events(node), PeerDisconnected), [])

    def test_chain_of_three(self) -> None:
        net = SimNetwork(seed=1)
        self.complete(net, chain(net, 3), within=1.0)

    def test_star_of_three(self) -> None:
        net = SimNetwork(seed=2)
        self.complete(net, star(net, 3), within=1.0)

    def test_chain_of_five(self) -> None:
        net = SimNetwork(seed=3)
        self.complete(net, chain(net, 5), within=1.0)

    def test_twenty_started_at_the_same_instant(self) -> None:
        """Every node has the same ID here, since all use the default port."""
        for seed, build in ((4, star), (5, chain)):
            net = SimNetwork(seed=seed)
            self.complete(net, build(net, 20), within=2.0)

    def test_no_timer_is_waited_for(self) -> None:
        """The loops could run once an hour: the mesh completes all the same."""
        net = SimNetwork(seed=6)
        nodes = star(
            net,
            8,
            discovery_interval=3600.0,
            maintenance_interval=3600.0,
            peer_timeout=7200.0,
        )
        self.complete(net, nodes, within=1.0)

    def test_ids_without_a_port(self) -> None:
        """The listening address is then known only by what a peer tells."""
        for seed in some(range(20), 5):
            net = SimNetwork(seed=seed)
            nodes = [
                net.node(
                    f"10.0.0.{number}",
                    id=f"node-{number}",
                    port=7000 + number,
                    discovery_interval=3600.0,
                    bootstrap=("10.0.0.1:7001",) if number > 1 else (),
                )
                for number in range(1, 7)
            ]
            self.complete(net, nodes, within=1.0)

    def test_nodes_on_one_host(self) -> None:
        net = SimNetwork(seed=7)
        nodes = [
            net.node(
                "10.0.0.1",
                port=8000 + number,
                bootstrap=("localhost:8001",) if number > 1 else (),
            )
            for number in range(1, 6)
        ]
        self.complete(net, nodes, within=1.0)

    def test_one_host_among_others(self) -> None:
        """Loopback addresses are of no use elsewhere, and are not told there."""
        net = SimNetwork(seed=8)
        nodes = [
            net.node("10.0.0.1", port=8001),
            net.node("10.0.0.1", port=8002, bootstrap=("localhost:8001",)),
            net.node("10.0.0.2", port=8001, bootstrap=("10.0.0.1:8001",)),
        ]
        self.complete(net, nodes, within=1.0)
        for known in nodes[2].known_addresses():
            assert isinstance(known.target, PeerAddress)
            self.assertEqual(known.target.host, "10.0.0.1")

    def test_seats_are_never_exceeded(self) -> None:
        net = SimNetwork(seed=9)
        nodes = star(net, 10, max_peers=3)
        most = 0
        net.start(*nodes)
        for _ in range(400):
            net.run(0.05)
            most = max(most, *(len(node.peers()) for node in nodes))
        self.assertEqual(most, 3)

    def test_ipv6(self) -> None:
        net = SimNetwork(seed=10)
        nodes = [
            net.node(
                f"2001:db8::{number}",
                bootstrap=("[2001:db8::1]:8001",) if number > 1 else (),
            )
            for number in range(1, 5)
        ]
        self.complete(net, nodes, within=1.0)


class SimultaneousDialTests(SynchronousTestCase):
    """Two nodes of ``mesh/1`` dial each other: one peer each, and no word is lost."""

    def dial_each_other(self, seed: int, **settings: tuple[object, object]) -> int:
        """Returns how many links the pair has in the end."""
        rng = random.Random(seed)
        low = rng.choice((0.0, 0.0001, 0.001, 0.01, 0.05))
        high = low + rng.choice((0.0, 0.001, 0.02, 0.1))
        net = SimNetwork(seed=seed, latency=(low, high))
        alice, bob = (
            net.node(
                f"10.0.0.{own}",
                bootstrap=(f"10.0.0.{other}:8001",),
                protocols=("mesh/1",),
                **{name: values[own - 1] for name, values in settings.items()},
            )
            for own, other in ((1, 2), (2, 1))
        )
        net.start(alice, bob)
        conversation = Conversation(net, [alice, bob], every=0.003)
        conversation.talk(1.5)
        net.run(1.0)
        self.assertEqual(conversation.problems(), [], f"seed {seed}")
        for node in (alice, bob):
            events = net.events(node)
            self.assertEqual(len(of_type(events, PeerConnected)), 1, f"seed {seed}")
            self.assertEqual(of_type(events, PeerDisconnected), [], f"seed {seed}")
        return net.connections()

    def test_swept_latencies(self) -> None:
        ids = ("lesser", "meaner")
        links = {self.dial_each_other(seed, id=ids) for seed in some(range(60), 20)}
        # Both happens: that the dials cross, and that one is refused.
        self.assertEqual(links, {1, 2})

    def test_swept_latencies_the_other_way(self) -> None:
        ids = ("meaner", "lesser")
        links = {
            self.dial_each_other(seed, id=ids) for seed in some(range(60, 120), 20)
        }
        self.assertEqual(links, {1, 2})

    def test_one_id_on_two_hosts(self) -> None:
        links = {self.dial_each_other(seed) for seed in some(range(120, 180), 20)}
        self.assertEqual(links, {1, 2})


class ChatTests(SynchronousTestCase):
    """What is handed to a link arrives once and in order."""

    def test_while_a_mesh_forms(self) -> None:
        for seed in some(range(12), 3):
            net = SimNetwork(seed=seed, latency=(0.0, 0.05))
            nodes = star(net, 6)
            net.start(*nodes)
            conversation = Conversation(net, nodes, every=0.005)
            conversation.talk(1.0)
            net.run(2.0)
            self.assertTrue(net.is_full_mesh(*nodes))
            self.assertEqual(conversation.problems(), [], f"seed {seed}")

    def test_any_line_arrives_as_it_was_sent(self) -> None:
        net = SimNetwork(seed=1)
        alice, bob = star(net, 2)
        net.start(alice, bob)
        net.run_until(lambda: net.is_full_mesh(alice, bob))
        lines = [
            "PING",
            " PING ",
            "PEERS:10.9.9.9:9999",
            "REQUEST_PEERS",
            "\u2060PONG",
            "  two  spaces  ",
            "ünïcödé \U0001f600",
            "x" * 16_384,
        ]
        for line in lines:
            alice.broadcast(line)
        net.run(1.0)
        self.assertEqual(net.chats(bob), lines)


class FaultTests(SynchronousTestCase):
    """A mesh heals by itself."""

    def test_a_killed_node_comes_back(self) -> None:
        """It has no bootstrap address: the others have kept its own."""
        net = SimNetwork(seed=1)
        nodes = star(net, 5)
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes))
        net.crash(nodes[3])
        net.run(1.0)
        self.assertTrue(all(len(n.peers()) == 3 for n in nodes if n is not nodes[3]))
        nodes[3] = net.node("10.0.0.4", name="node-4")
        net.start(nodes[3])
        net.run_until(lambda: net.is_full_mesh(*nodes), timeout=5.0)

    def test_a_partition_heals(self) -> None:
        net = SimNetwork(seed=2)
        nodes = star(net, 6)
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes))
        # Lost races end in probes, which are not what is shown here.
        net.run(5.0)
        net.partition(nodes[:3], nodes[3:])
        net.run(90.0)
        self.assertEqual([len(node.peers()) for node in nodes], [2] * 6)
        for node in nodes:
            reaped = of_type(net.events(node), PeerReaped)
            gone = of_type(net.events(node), PeerDisconnected)
            self.assertEqual(len(reaped), 3)
            self.assertEqual([e.reason for e in gone], [CloseReason.TIMEOUT] * 3)
        net.heal_all()
        # The longest pause between two dials is a minute.
        net.run_until(lambda: net.is_full_mesh(*nodes), timeout=75.0)
        net.run(5.0)
        self.assertEqual(net.connections(), 15)

    def test_a_short_cut_is_not_noticed(self) -> None:
        net = SimNetwork(seed=3)
        alice, bob = star(net, 2)
        net.start(alice, bob)
        net.run_until(lambda: net.is_full_mesh(alice, bob))
        net.cut(alice, bob)
        alice.broadcast("wait for it")
        net.run(40.0)
        self.assertEqual(net.chats(bob), [])
        net.heal(alice, bob)
        net.run(1.0)
        self.assertEqual(net.chats(bob), ["wait for it"])
        self.assertEqual(of_type(net.events(bob), PeerDisconnected), [])

    def test_broken_links_come_back(self) -> None:
        net = SimNetwork(seed=4)
        alice, bob = star(net, 2)
        net.start(alice, bob)
        net.run_until(lambda: net.is_full_mesh(alice, bob))
        self.assertEqual(net.break_links(alice, bob), 1)
        self.assertEqual(alice.peers(), ())
        net.run_until(lambda: net.is_full_mesh(alice, bob), timeout=3.0)
        for node in (alice, bob):
            [gone] = of_type(net.events(node), PeerDisconnected)
            self.assertIs(gone.reason, CloseReason.CONNECTION_LOST)

    def test_a_late_bootstrap_node_is_joined(self) -> None:
        """Within ten seconds, however long it was waited for."""
        net = SimNetwork(seed=5)
        early = net.node("10.0.0.1", bootstrap=("10.0.0.2:8001",))
        # The host is there from the start: its port refuses.
        net.start(net.node("10.0.0.2", port=9999))
        net.start(early)
        net.run(600.0)
        failed = of_type(net.events(early), BootstrapFailed)
        self.assertGreater(len(failed), 50)
        self.assertEqual(failed[0].reason, "connection refused")
        self.assertLessEqual(max(event.retry_in for event in failed), 10.0)
        late = net.node("10.0.0.2")
        net.start(late)
        net.run_until(lambda: early.peers(), timeout=10.5)
        self.assertEqual(len(of_type(net.events(early), BootstrapSucceeded)), 1)


class DeterminismTests(SynchronousTestCase):
    """One seed, one run."""

    def trace(self, seed: int) -> list[str]:
        net = SimNetwork(seed=seed, latency=(0.001, 0.05))
        nodes = star(net, 6)
        net.start(*nodes)
        net.run(3.0)
        net.break_links(nodes[1], nodes[2])
        net.run(40.0)
        return [repr(event) for node in nodes for event in net.events(node)]

    def test_same_seed_same_run(self) -> None:
        self.assertEqual(self.trace(11), self.trace(11))

    def test_other_seed_other_run(self) -> None:
        self.assertNotEqual(self.trace(11), self.trace(12))
