"""The simulated network itself: its clock, its TCP, its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
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

from meshproto.address import PeerAddress
from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.testing import WINDOW, SimClock, SimNetwork, SimTimeout
from meshproto.testing._machine import Machine


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
        internal = {"host", "passes", "delay", "fragments", "opened", "closed"}
        self.assertEqual(public - named, told_elsewhere | asides | internal)
