"""The simulated network itself: its clock, its TCP, its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    AlreadyCalled,
    AlreadyCancelled,
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.mesh.node import MeshNode
from meshproto.testing import WINDOW, SimClock, SimNetwork, SimTimeout
from meshproto.testing._machine import Machine
from meshproto.wire.address import PeerAddress


class SimClockTests(SynchronousTestCase):
    """The virtual clock."""

    def setUp(self) -> None:
        self.clock = SimClock()
        self.calls: list[tuple[str, float]] = []

    def note(self, what: str) -> None:
        self.calls.append((what, self.clock.seconds()))

    def test_interface(self) -> None:
        verifyObject(IReactorTime, self.clock)

    def test_each_call_sees_its_own_time(self) -> None:
        self.clock.callLater(2.0, self.note, "second")
        self.clock.callLater(1.0, self.note, "first")
        self.clock.advance(10.0)
        self.assertEqual(self.calls, [("first", 1.0), ("second", 2.0)])
        self.assertEqual(self.clock.seconds(), 10.0)

    def test_calls_of_one_instant_run_in_their_order(self) -> None:
        for name in "abc":
            self.clock.callLater(1.0, self.note, name)
        self.clock.advance(1.0)
        self.assertEqual([name for name, _ in self.calls], ["a", "b", "c"])

    def test_a_call_due_at_the_end_is_made_and_one_after_it_is_not(self) -> None:
        self.clock.callLater(1.0, self.note, "at the end")
        self.clock.callLater(1.000001, self.note, "after it")
        self.clock.advance(1.0)
        self.assertEqual(self.calls, [("at the end", 1.0)])

    def test_calls_made_meanwhile_count(self) -> None:
        self.clock.callLater(1.0, self.clock.callLater, 1.0, self.note, "nested")
        self.clock.advance(2.0)
        self.assertEqual(self.calls, [("nested", 2.0)])

    def test_cancelled(self) -> None:
        call = self.clock.callLater(1.0, self.note, "never")
        call.cancel()
        self.clock.advance(2.0)
        self.assertEqual(self.calls, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reset_to_sooner_and_to_later(self) -> None:
        sooner = self.clock.callLater(5.0, self.note, "sooner")
        later = self.clock.callLater(1.0, self.note, "later")
        sooner.reset(2.0)
        later.reset(3.0)
        self.clock.advance(10.0)
        self.assertEqual(self.calls, [("sooner", 2.0), ("later", 3.0)])

    def test_delayed(self) -> None:
        self.clock.callLater(1.0, self.note, "delayed").delay(2.0)
        self.clock.advance(10.0)
        self.assertEqual(self.calls, [("delayed", 3.0)])

    def test_the_past_is_refused(self) -> None:
        self.assertRaises(ValueError, self.clock.callLater, -0.1, self.note, "x")

    def test_pending_calls_are_listed_next_first(self) -> None:
        later = self.clock.callLater(2.0, self.note, "later")
        sooner = self.clock.callLater(1.0, self.note, "sooner")
        self.assertEqual(self.clock.getDelayedCalls(), [sooner, later])

    def test_a_call_that_was_moved_often_is_made_once(self) -> None:
        call = self.clock.callLater(1.0, self.note, "moved")
        for seconds in (3.0, 2.0, 4.0):
            call.reset(seconds)
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.clock.advance(10.0)
        self.assertEqual(self.calls, [("moved", 4.0)])

    def test_what_is_over_cannot_be_moved(self) -> None:
        made = self.clock.callLater(1.0, self.note, "made")
        cancelled = self.clock.callLater(1.0, self.note, "never")
        verifyObject(IDelayedCall, made)
        cancelled.cancel()
        self.clock.advance(1.0)
        for call, error in ((made, AlreadyCalled), (cancelled, AlreadyCancelled)):
            self.assertFalse(call.active())
            self.assertRaises(error, call.cancel)
            self.assertRaises(error, call.reset, 1.0)
            self.assertRaises(error, call.delay, 1.0)

    def test_arguments_are_handed_on(self) -> None:
        got: list[Any] = []
        self.clock.callLater(1.0, lambda *a, **kw: got.append((a, kw)), 1, two=2)
        self.clock.advance(1.0)
        self.assertEqual(got, [((1,), {"two": 2})])

    def test_a_limit_of_steps_ends_what_goes_round_in_circles(self) -> None:
        def again() -> None:
            self.clock.callLater(0.0, again)

        again()
        self.clock.max_steps = 100
        error = self.assertRaises(RuntimeError, self.clock.advance, 1.0)
        self.assertIn("again", str(error))
        self.assertEqual(self.clock.steps, 100)

    def test_looping_call(self) -> None:
        loop = LoopingCall(self.note, "tick")
        loop.clock = self.clock
        loop.start(1.5, now=False)
        self.clock.advance(4.0)
        loop.stop()
        self.assertEqual(self.calls, [("tick", 1.5), ("tick", 3.0)])


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """Notes what it gets and when it ends."""

    def __init__(self) -> None:
        self.received = b""
        self.eof = False
        self.ended: Failure | None = None
        self.produced: list[str] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def readConnectionLost(self) -> None:
        self.eof = True

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason

    def pauseProducing(self) -> None:
        self.produced.append("pause")

    def resumeProducing(self) -> None:
        self.produced.append("resume")

    def stopProducing(self) -> None:
        self.produced.append("stop")


class RecorderFactory(ServerFactory):
    """Builds recorders and remembers them."""

    noisy = False

    def __init__(self) -> None:
        self.built: list[Recorder] = []

    def buildProtocol(self, addr: object) -> Recorder:
        self.built.append(Recorder())
        return self.built[-1]


class SimTransportTests(SynchronousTestCase):
    """The simulated TCP connection, without a node on either end."""

    def setUp(self) -> None:
        self.net = SimNetwork(seed=1, latency=(0.01, 0.05))
        self.nodes = [self.net.node(f"10.0.0.{n}", port=7000) for n in (1, 2)]
        here, there = (self.net._machines[node] for node in self.nodes)
        self.here: Machine = here
        server, client = RecorderFactory(), RecorderFactory()
        self.successResultOf(there.listen(server))
        dial = here.endpoint(PeerAddress("10.0.0.2", 7000)).connect(client)
        self.net.run(0.2)
        self.successResultOf(dial)
        self.servers = server
        [self.client], [self.server] = client.built, server.built

    def dial(self, host: str, port: int) -> Deferred[IProtocol]:
        factory = RecorderFactory()
        return self.here.endpoint(PeerAddress(host, port)).connect(factory)

    def near(self) -> ITCPTransport:
        assert self.client.transport is not None
        return self.client.transport  # type: ignore[return-value]

    def test_interfaces(self) -> None:
        verifyObject(ITCPTransport, self.client.transport)
        verifyObject(INetwork, self.here)
        verifyObject(IReactorTime, self.here)

    def test_addresses_of_both_ends(self) -> None:
        near, far = self.client.transport, self.server.transport
        assert near is not None
        assert far is not None
        self.assertEqual(near.getPeer(), far.getHost())
        self.assertEqual(far.getPeer(), near.getHost())
        self.assertEqual(far.getHost(), IPv4Address("TCP", "10.0.0.2", 7000))

    def test_bytes_arrive_in_order_and_after_a_latency(self) -> None:
        for number in range(100):
            self.near().write(b"%d," % number)
        self.net.run(0.009)
        self.assertEqual(self.server.received, b"")
        self.net.run(0.1)
        expected = b"".join(b"%d," % number for number in range(100))
        self.assertEqual(self.server.received, expected)

    def test_orderly_close_sends_what_was_written(self) -> None:
        self.near().write(b"last words")
        self.near().loseConnection()
        self.net.run(0.2)
        self.assertEqual(self.server.received, b"last words")
        self.assertTrue(self.server.eof)
        assert self.client.ended is not None
        self.assertTrue(self.client.ended.check(ConnectionDone))

    def test_each_half_closes_by_itself(self) -> None:
        self.near().loseWriteConnection()
        self.net.run(0.2)
        self.assertTrue(self.server.eof)
        self.assertIsNone(self.server.ended)
        assert self.server.transport is not None
        self.server.transport.write(b"still here")
        self.net.run(0.2)
        self.assertEqual(self.client.received, b"still here")

    def test_nothing_is_sent_after_a_half_close(self) -> None:
        self.near().loseWriteConnection()
        self.near().write(b"too late")
        self.net.run(0.2)
        self.assertEqual(self.server.received, b"")

    def test_abort_ends_both_ends(self) -> None:
        self.near().abortConnection()
        self.net.run(0.2)
        assert self.client.ended is not None
        assert self.server.ended is not None
        self.assertTrue(self.client.ended.check(ConnectionAborted))
        self.assertTrue(self.server.ended.check(ConnectionLost))
        self.assertEqual(self.net.connections(), 0)

    def test_a_reader_that_stops_makes_the_writer_wait(self) -> None:
        assert self.server.transport is not None
        self.server.transport.pauseProducing()  # type: ignore[attr-defined]
        self.near().registerProducer(self.client, True)  # type: ignore[attr-defined]
        self.near().write(b"x" * WINDOW)
        self.assertEqual(self.client.produced, [])
        self.near().write(b"x")
        self.assertEqual(self.client.produced, ["pause"])
        self.net.run(10.0)
        self.assertEqual(self.server.received, b"")
        self.server.transport.resumeProducing()  # type: ignore[attr-defined]
        self.net.run(0.2)
        self.assertEqual(len(self.server.received), WINDOW + 1)
        self.assertEqual(self.client.produced, ["pause", "resume"])

    def test_a_close_waits_for_the_reader(self) -> None:
        assert self.server.transport is not None
        self.server.transport.pauseProducing()  # type: ignore[attr-defined]
        self.near().write(b"x" * (WINDOW + 1))
        self.near().loseConnection()
        self.net.run(10.0)
        self.assertIsNone(self.client.ended)
        self.server.transport.resumeProducing()  # type: ignore[attr-defined]
        self.net.run(0.2)
        self.assertIsNotNone(self.client.ended)
        self.assertTrue(self.server.eof)

    def test_a_port_without_listener_refuses(self) -> None:
        failed: list[Failure] = []
        self.dial("10.0.0.2", 7001).addErrback(failed.append)
        self.net.run(0.2)
        self.assertEqual(len(failed), 1)

    def test_a_host_that_is_not_there_does_not_answer(self) -> None:
        dial = self.dial("10.0.0.99", 7000)
        self.net.run(3600.0)
        self.assertNoResult(dial)
        dial.cancel()
        self.failureResultOf(dial)

    def test_a_dial_waits_for_a_cut_to_heal(self) -> None:
        self.net.cut(*self.nodes)
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(5.0)
        self.assertNoResult(dial)
        self.net.heal_all()
        self.net.run(0.2)
        self.successResultOf(dial)

    def test_an_abort_loses_what_a_cut_holds_up(self) -> None:
        """Nobody is there to send it again."""
        self.net.cut(*self.nodes)
        self.near().write(b"lost")
        self.near().abortConnection()
        self.net.run(5.0)
        self.net.heal_all()
        self.net.run(0.2)
        self.assertEqual(self.server.received, b"")
        self.assertIsNotNone(self.server.ended)

    def test_an_abort_comes_after_what_is_on_its_way(self) -> None:
        self.near().write(b"on its way")
        self.near().abortConnection()
        self.net.run(0.2)
        self.assertEqual(self.server.received, b"on its way")
        self.assertIsNotNone(self.server.ended)

    def test_a_dial_of_a_node_that_refuses(self) -> None:
        self.net.refuse(self.nodes[1])
        failed: list[Failure] = []
        self.dial("10.0.0.2", 7000).addErrback(failed.append)
        self.net.run(0.2)
        failed[0].trap(ConnectionRefusedError)
        # The links that there are stay, and other nodes can be dialled.
        self.near().write(b"still here")
        self.net.run(0.2)
        self.assertEqual(self.server.received, b"still here")
        self.net.admit(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(0.2)
        self.successResultOf(dial)

    def test_a_dial_of_a_node_that_gives_no_answer(self) -> None:
        self.net.swallow(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(3600.0)
        self.assertNoResult(dial)
        self.net.admit(self.nodes[1])
        self.net.run(0.2)
        self.successResultOf(dial)

    def test_doors_that_open_by_themselves(self) -> None:
        for close in (self.net.refuse, self.net.swallow):
            close(self.nodes[1], 5.0)
            before = len(self.servers.built)
            self.net.run(4.0)
            self.dial("10.0.0.2", 7000).addErrback(lambda why: None)
            self.net.run(0.5)
            self.assertEqual(len(self.servers.built), before)
            self.net.run(1.0)
            dial = self.dial("10.0.0.2", 7000)
            self.net.run(0.2)
            self.successResultOf(dial)

    def test_the_port_stays_closed_for_the_next_node(self) -> None:
        self.net.swallow(self.nodes[1])
        self.net.crash(self.nodes[1])
        again = self.net.node("10.0.0.2", port=7000)
        self.net.start(again)
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(60.0)
        self.assertNoResult(dial)
        self.net.admit(again)
        self.net.run(0.2)
        self.successResultOf(dial)

    def test_a_dial_that_is_given_up_connects_nobody(self) -> None:
        self.net.swallow(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(1.0)
        dial.cancel()
        self.failureResultOf(dial)
        self.net.admit(self.nodes[1])
        before = self.net.connections()
        self.net.run(60.0)
        self.assertEqual(self.net.connections(), before)

    def test_a_machine_that_is_switched_off_does_not_answer(self) -> None:
        """Not even with a refusal, until somebody runs there again."""
        self.net.power_off(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(60.0)
        self.assertNoResult(dial)
        self.net.start(self.net.node("10.0.0.2", port=7000))
        self.net.run(60.0)
        self.successResultOf(dial)

    def test_a_crashed_node_refuses(self) -> None:
        self.net.crash(self.nodes[1])
        failed: list[Failure] = []
        self.dial("10.0.0.2", 7000).addErrback(failed.append)
        self.net.run(0.2)
        failed[0].trap(ConnectionRefusedError)

    def test_the_kernel_of_a_frozen_node_takes_connections(self) -> None:
        """The program hears of them, and of what came after, when it goes on."""
        self.net.freeze(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(0.2)
        client = self.successResultOf(dial)
        client.transport.write(b"is anybody there?")  # type: ignore[attr-defined]
        self.net.run(30.0)
        self.assertEqual(len(self.servers.built), 1)
        self.net.thaw(self.nodes[1])
        self.net.run(0.2)
        self.assertEqual(self.servers.built[1].received, b"is anybody there?")

    def test_a_connection_that_ends_while_the_far_end_is_frozen(self) -> None:
        self.net.freeze(self.nodes[1])
        dial = self.dial("10.0.0.2", 7000)
        self.net.run(0.2)
        client = self.successResultOf(dial)
        client.transport.abortConnection()  # type: ignore[attr-defined]
        self.net.run(5.0)
        self.net.thaw(self.nodes[1])
        self.net.run(0.2)
        self.assertIsNotNone(self.servers.built[1].ended)
        self.assertEqual(self.net.connections(), 1)

    def test_a_reset_before_the_dial_is_through(self) -> None:
        dial = self.dial("10.0.0.2", 7000)
        self.net.run_until(lambda: len(self.servers.built) == 2)
        self.net.break_links(*self.nodes)
        self.net.run(0.2)
        self.failureResultOf(dial).trap(ConnectionLost)

    def test_a_port_is_taken_once(self) -> None:
        machine = self.net._machines[self.net.node("10.0.0.2", port=7000)]
        failure = self.failureResultOf(machine.listen(RecorderFactory()))
        failure.trap(CannotListenError)

    def test_endpoint_strings_are_not_simulated(self) -> None:
        node = self.net.node("10.0.0.3")
        self.net.start(node)
        self.failureResultOf(node.connect("10.0.0.300:1")).trap(AddressError)


class SimNetworkTests(SynchronousTestCase):
    """What the network offers to those who write tests."""

    def test_condition_that_does_not_come_about(self) -> None:
        net = SimNetwork(seed=3)
        error = self.assertRaises(SimTimeout, net.run_until, lambda: False, 5.0)
        self.assertIn("seed 3", str(error))

    def test_run_until_says_how_long_it_took(self) -> None:
        net = SimNetwork()
        net.clock.callLater(2.5, lambda: None)
        took = net.run_until(lambda: net.clock.seconds() >= 2.5)
        self.assertEqual(took, 2.5)

    def test_port_taken_is_raised_by_start(self) -> None:
        net = SimNetwork()
        net.start(net.node("10.0.0.1"))
        self.assertRaises(CannotListenError, net.start, net.node("10.0.0.1"))

    def test_latency_of_one_pair(self) -> None:
        net = SimNetwork(latency=(0.0, 0.0))
        alice = net.node("10.0.0.1")
        bob = net.node("10.0.0.2", bootstrap=("10.0.0.1:8001",))
        net.set_latency(alice, bob, (1.0, 1.0))
        net.start(alice, bob)
        # SYN, SYN-ACK, hello, hello; and one more way, as both have one ID.
        net.run(3.9)
        self.assertEqual(bob.peers(), ())
        net.run(2.2)
        self.assertEqual(len(bob.peers()), 1)

    def trio(self) -> tuple[SimNetwork, list[MeshNode]]:
        """Three nodes, all linked."""
        net = SimNetwork(latency=(0.001, 0.001))
        known = ("10.0.0.1:8001",)
        nodes = [net.node(f"10.0.0.{n}", bootstrap=known) for n in (1, 2, 3)]
        net.start(*nodes)
        net.run_until(lambda: net.is_full_mesh(*nodes))
        return net, nodes

    def heard(self, net: SimNetwork, nodes: list[MeshNode]) -> list[list[str]]:
        """Let everybody say who it is; returns whom each has heard since."""
        before = [len(net.chats(node)) for node in nodes]
        for node, name in zip(nodes, "abc", strict=True):
            node.broadcast(name)
        net.run(1.0)
        return [
            sorted(net.chats(node)[count:])
            for node, count in zip(nodes, before, strict=True)
        ]

    def test_a_cut_between_two_that_both_see_the_third(self) -> None:
        net, nodes = self.trio()
        net.cut(nodes[0], nodes[1])
        self.assertEqual(self.heard(net, nodes), [["c"], ["c"], ["a", "b"]])

    def test_partition(self) -> None:
        net, nodes = self.trio()
        net.partition(nodes[:1], nodes[1:])
        self.assertEqual(self.heard(net, nodes), [[], ["c"], ["b"]])
        net.heal_all()
        net.run(1.0)
        self.assertEqual(net.chats(nodes[0])[-2:], ["b", "c"])

    def test_partition_of_one_direction(self) -> None:
        """The first group is not heard, but hears."""
        net, nodes = self.trio()
        net.partition(nodes[:1], nodes[1:], one_way=True)
        self.assertEqual(self.heard(net, nodes), [["b", "c"], ["c"], ["b"]])

    def test_a_node_in_no_group_of_a_partition_sees_all(self) -> None:
        net, nodes = self.trio()
        net.partition(nodes[:1], nodes[1:2])
        self.assertEqual(self.heard(net, nodes), [["c"], ["c"], ["a", "b"]])

    def test_cuts_count(self) -> None:
        net, nodes = self.trio()
        net.cut(nodes[0], nodes[1])
        net.cut(nodes[0], nodes[1], one_way=True)
        net.heal(nodes[0], nodes[1])
        self.assertEqual(self.heard(net, nodes), [["b", "c"], ["c"], ["a", "b"]])

    def test_latency_of_the_network_again(self) -> None:
        net, nodes = self.trio()
        net.set_latency(nodes[0], nodes[1], (5.0, 5.0))
        self.assertEqual(self.heard(net, nodes), [["c"], ["c"], ["a", "b"]])
        net.run(5.0)
        net.set_latency(nodes[0], nodes[1], None)
        self.assertEqual(self.heard(net, nodes), [["b", "c"], ["a", "c"], ["a", "b"]])

    def test_the_reading_speed_is_that_of_each_connection(self) -> None:
        net, nodes = self.trio()
        net.set_reading_speed(nodes[0], 10.0)
        for _ in range(4):
            nodes[1].broadcast("x" * 99)
        net.run(25.0)
        heard = len(net.chats(nodes[0]))
        self.assertLess(heard, 4)
        self.assertEqual(len(net.chats(nodes[2])), 4)
        net.set_reading_speed(nodes[0], None)
        net.run(1.0)
        self.assertEqual(len(net.chats(nodes[0])), 4)

    def test_a_machine_switched_off_after_a_crash_there(self) -> None:
        """What ran there before does not answer in its place."""
        net = SimNetwork()
        alice = net.node("10.0.0.1")
        net.start(alice)
        for end in (net.crash, net.power_off):
            bob = net.node("10.0.0.2", bootstrap=("10.0.0.1:8001",))
            net.start(bob)
            net.run_until(lambda: len(alice.peers()) == 1)
            end(bob)
            if end == net.crash:
                net.run_until(lambda: not alice.peers(), 1.0)
        alice.broadcast("is anybody there?")
        net.run(30.0)
        self.assertEqual(len(alice.peers()), 1)

    def test_a_crashed_node_does_nothing_more(self) -> None:
        net = SimNetwork()
        alice = net.node("10.0.0.1")
        bob = net.node("10.0.0.2", bootstrap=("10.0.0.1:8001",))
        net.start(alice, bob)
        net.run_until(lambda: net.is_full_mesh(alice, bob))
        before = net.events(bob)
        net.crash(bob)
        net.run(120.0)
        self.assertEqual(net.events(bob), before)
        self.assertEqual(alice.peers(), ())
        self.assertEqual(net.connections(), 0)

    def test_a_stopped_node_leaves_no_timer(self) -> None:
        net = SimNetwork()
        alice = net.node("10.0.0.1")
        bob = net.node("10.0.0.2", bootstrap=("10.0.0.1:8001", "10.0.0.9:8001"))
        net.start(alice, bob)
        net.run(5.0)
        stopped = [alice.stop(), bob.stop()]
        net.run(2.0)
        for done in stopped:
            self.successResultOf(done)
        self.assertEqual(net.clock.getDelayedCalls(), [])
        self.assertEqual(net.connections(), 0)


class DocumentTests(SynchronousTestCase):
    """What ``docs/testing.md`` shows."""

    page = Path(__file__).parent.parent / "docs" / "testing.md"

    def test_the_run(self) -> None:
        """The run that it begins with is one."""
        block = self.page.read_text("utf-8").split("```python\n")[1].split("```")[0]
        names: dict[str, Any] = {"SimNetwork": SimNetwork}
        exec(block, names)
        self.assertTrue(names["net"].is_full_mesh(names["alice"], names["bob"]))

    def test_every_fault_is_named(self) -> None:
        """And every call that it names exists."""
        rows = [
            line.split("|")[1]
            for line in self.page.read_text("utf-8").splitlines()
            if line.startswith("| `")
        ]
        named = {
            call.partition("(")[0] for row in rows for call in row.split("`")[1::2]
        } - {"SimNetwork"}
        self.assertEqual(
            {name for name in named if not hasattr(SimNetwork, name)}, set()
        )
        public = {name for name in vars(SimNetwork) if not name.startswith("_")}
        told_elsewhere = {"node", "start", "run", "run_until", "is_full_mesh"}
        told_elsewhere |= {"events", "chats", "history", "digest"}
        asides = {"host_of", "connections"}
        internal = {"host", "machine", "way", "fragments"}
        self.assertEqual(public - named, told_elsewhere | asides | internal)
