"""Rates, at a real node: what is cut, what is ignored, what only waits."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.events import (
    ChatReceived,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
    PeerThrottled,
    Throttled,
)
from tests.fakes import Bench, Wire


class ThrottleCase(SynchronousTestCase):
    def bench(self, **settings: object) -> Bench:
        bench = Bench(NodeConfig(name="alice", **settings))  # type: ignore[arg-type]
        bench.start()
        self.addCleanup(self.clean_up, bench)
        return bench

    def clean_up(self, bench: Bench) -> None:
        bench.stop()
        self.assertEqual(bench.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def throttled(self, bench: Bench) -> list[tuple[Throttled, int]]:
        return [(event.kind, event.ignored) for event in bench.of(PeerThrottled)]


class LinkRateTests(ThrottleCase):
    def test_at_the_rate_and_one_past_it(self) -> None:
        bench = self.bench(link_rate=0.5, link_burst=3)
        wires = []
        for _ in range(4):
            wires.append(bench.caller("192.0.2.9"))
            wires[-1].hang_up()
            bench.settle()
        refused = bench.of(PeerRefused)
        self.assertEqual(
            [(event.host, event.reason) for event in refused],
            [("192.0.2.9", "too many connections from its address")],
        )
        self.assertEqual([w.transport.aborted for w in wires], [False] * 3 + [True])
        bench.clock.advance(1.9)
        self.assertTrue(bench.caller("192.0.2.9").transport.aborted)
        bench.clock.advance(0.1)
        self.assertFalse(bench.caller("192.0.2.9").transport.aborted)

    def test_others_come_in_meanwhile(self) -> None:
        bench = self.bench(link_rate=0.5, link_burst=1)
        bench.caller("192.0.2.9")
        self.assertTrue(bench.caller("192.0.2.9").transport.aborted)
        bench.guest("bob:bob", "192.0.2.10")
        [connected] = bench.of(PeerConnected)
        self.assertEqual(connected.peer.id, "bob")

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        bench = self.bench(link_rate=0.5, link_burst=1)
        bench.caller("2001:db8::1")
        self.assertTrue(bench.caller("2001:db8::2").transport.aborted)
        self.assertFalse(bench.caller("2001:db8:0:1::1").transport.aborted)

    def test_this_machine_is_exempt(self) -> None:
        bench = self.bench(link_rate=0.5, link_burst=1)
        for port in range(50000, 50010):
            self.assertFalse(bench.caller("127.0.0.1", port).transport.aborted)


class GossipRateTests(ThrottleCase):
    def ask(self, wire: Wire, count: int) -> int:
        """Ask for addresses, and see how often one is answered."""
        wire.say(*["REQUEST_PEERS"] * count)
        return wire.heard().count(b"PEERS:")

    def test_questions_beyond_the_rate_are_not_answered(self) -> None:
        bench = self.bench(gossip_rate=2.0, gossip_burst=5)
        wire = bench.guest("bob:bob")
        self.assertEqual(self.ask(wire, 5), 5)
        self.assertEqual(self.throttled(bench), [])
        self.assertEqual(self.ask(wire, 1), 0)
        self.assertEqual(self.throttled(bench), [(Throttled.GOSSIP, 1)])
        bench.clock.advance(0.5)
        self.assertEqual(self.ask(wire, 2), 1)

    def test_lists_beyond_the_rate_are_not_believed(self) -> None:
        bench = self.bench(gossip_rate=2.0, gossip_burst=1)
        wire = bench.guest("bob:bob")
        wire.say("PEERS:192.0.2.20:8001", "PEERS:192.0.2.21:8001")
        known = {str(entry.target) for entry in bench.node.known_addresses()}
        self.assertIn("192.0.2.20:8001", known)
        self.assertNotIn("192.0.2.21:8001", known)

    def test_it_is_told_once_in_ten_seconds_with_the_number(self) -> None:
        bench = self.bench(gossip_rate=0.001, gossip_burst=1)
        wire = bench.guest("bob:bob")
        self.ask(wire, 11)
        self.assertEqual(self.throttled(bench), [(Throttled.GOSSIP, 1)])
        bench.clock.advance(9.9)
        self.ask(wire, 10)
        self.assertEqual(len(self.throttled(bench)), 1)
        bench.clock.advance(0.1)
        self.ask(wire, 1)
        self.assertEqual(self.throttled(bench)[1:], [(Throttled.GOSSIP, 20)])

    def test_one_does_not_use_up_the_rate_of_another(self) -> None:
        bench = self.bench(gossip_rate=0.001, gossip_burst=3)
        greedy = bench.guest("bob:bob")
        modest = bench.guest("carol:carol", "192.0.2.3")
        self.assertEqual(self.ask(greedy, 10), 3)
        self.assertEqual(self.ask(modest, 3), 3)

    def test_the_link_lives_on(self) -> None:
        bench = self.bench(gossip_rate=0.001, gossip_burst=1)
        wire = bench.guest("bob:bob")
        self.ask(wire, 1000)
        wire.say("PING", "hello")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual([e.text for e in bench.of(ChatReceived)], ["hello"])
        self.assertEqual(bench.of(PeerDisconnected), [])


class ChatRateTests(ThrottleCase):
    def texts(self, bench: Bench) -> list[str]:
        return [event.text for event in bench.of(ChatReceived)]

    def test_by_default_there_is_none(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob").say(*map(str, range(10_000)))
        bench.settle()
        self.assertEqual(len(self.texts(bench)), 10_000)

    def test_beyond_the_rate_it_waits_and_nothing_is_lost(self) -> None:
        bench = self.bench(chat_rate=2.0, chat_burst=5)
        wire = bench.guest("bob:bob")
        said = [f"{number}" for number in range(12)]
        wire.say(*said[:5])
        self.assertTrue(wire.transport.reading)
        self.assertEqual(self.throttled(bench), [])
        wire.say(*said[5:9])
        self.assertFalse(wire.transport.reading)
        self.assertEqual(self.texts(bench), said[:5])
        self.assertEqual(self.throttled(bench), [(Throttled.CHAT, 0)])
        wire.say(*said[9:])
        for count in range(6, 13):
            bench.clock.advance(0.5)
            bench.settle()
            self.assertEqual(self.texts(bench), said[:count])
        self.assertEqual(len(self.throttled(bench)), 1)

    def test_as_many_as_the_rate_allows_are_told_at_once(self) -> None:
        bench = self.bench(chat_rate=1.0, chat_burst=100)
        wire = bench.guest("bob:bob")
        wire.raw("".join(f"{number}\n" for number in range(150)).encode())
        bench.settle()
        self.assertEqual(len(self.texts(bench)), 100)
        self.assertFalse(wire.transport.reading)
        bench.clock.pump([1] * 50)
        self.assertEqual(self.texts(bench), [str(number) for number in range(150)])

    def test_a_message_is_counted_once_however_many_turns_it_waits(self) -> None:
        bench = self.bench(chat_rate=1.0, chat_burst=100)

        def work(event: ChatReceived) -> None:
            bench.clock.rightNow += 0.002

        bench.node.subscribe(work, ChatReceived)
        wire = bench.guest("bob:bob")
        wire.raw(b"x\n" * 60)
        bench.clock.pump([0] * 100)
        self.assertEqual(len(self.texts(bench)), 60)
        self.assertEqual(self.throttled(bench), [])

    def test_nobody_is_taken_for_dead_for_it(self) -> None:
        bench = self.bench(chat_rate=0.1, chat_burst=1)
        bench.guest("bob:bob").say(*map(str, range(20)))
        for _ in range(190):
            bench.clock.advance(1)
        self.assertEqual(bench.of(PeerDisconnected), [])
        self.assertEqual(len(self.texts(bench)), 20)

    def test_a_slow_application_and_a_rate(self) -> None:
        bench = self.bench(chat_rate=1.0, chat_burst=3)
        wire = bench.guest("bob:bob")
        unsubscribe = bench.node.subscribe(
            lambda event: (
                bench.node.pause_reading() if isinstance(event, ChatReceived) else None
            )
        )
        wire.say("a", "b", "c", "d", "e")
        for _ in range(10):
            bench.clock.advance(1)
        self.assertEqual(self.texts(bench), ["a"])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(self.texts(bench), ["a", "b"])
        unsubscribe()
        bench.node.resume_reading()
        for _ in range(10):
            bench.clock.advance(1)
        self.assertEqual(self.texts(bench), ["a", "b", "c", "d", "e"])

    def test_a_peer_that_goes_leaves_no_timer(self) -> None:
        bench = self.bench(chat_rate=0.01, chat_burst=1)
        wire = bench.guest("bob:bob")
        wire.say("a", "b")
        wire.reset()
        bench.settle()
        self.assertEqual(len(bench.of(PeerDisconnected)), 1)
