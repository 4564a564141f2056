"""Peers that leave, and those who hear of it."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from meshproto.errors import (
    HandshakeFailed,
    NotRunning,
)
from meshproto.events import (
    ChatReceived,
    CloseReason,
    Event,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from tests.benches import BOB, BenchCase
from tests.fakes import Bench


class DepartureTests(BenchCase):
    def test_every_reason(self) -> None:
        bench = self.bench()
        bench.guest("a:a").hang_up()
        bench.guest("b:b").reset()
        bench.guest("c:c").raw(b"x" * 20000)
        bench.guest("d:d")
        bench.stop()
        self.assertEqual(
            [(event.peer.id, event.reason) for event in bench.of(PeerDisconnected)],
            [
                ("a", CloseReason.CLOSED_BY_PEER),
                ("b", CloseReason.CONNECTION_LOST),
                ("c", CloseReason.LINE_TOO_LONG),
                ("d", CloseReason.STOPPED),
            ],
        )

    def test_a_silent_peer_is_reaped_and_then_gone(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        bench.news()
        bench.clock.pump([15] * 5)
        self.assertEqual(
            [type(event) for event in bench.news()], [PeerReaped, PeerDisconnected]
        )
        self.assertPart(bench, wire)

    def test_once_gone_it_is_not_a_peer_any_more_when_that_is_told(self) -> None:
        bench = self.bench()
        seen: list[int] = []
        wire = bench.guest("peer-8002:bob")

        def count(event: Event) -> None:
            if isinstance(event, PeerDisconnected):
                seen.append(len(bench.node.peers()))

        bench.node.subscribe(count)
        wire.hang_up()
        self.assertEqual(seen, [0])

    def test_a_slow_consumer_that_stalls(self) -> None:
        bench = self.bench()
        slow = bench.guest("slow:slow")
        quick = bench.guest("quick:quick")
        slow.transport.stuck = True
        for _ in range(10):
            bench.node.broadcast("x" * 16000)
        bench.clock.advance(9.999)
        self.assertEqual(self.reasons(bench), [])
        quick.heard()
        quick.say("PING")
        self.assertEqual(quick.heard(), b"PONG\n")
        bench.clock.advance(0.001)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])
        self.assertEqual(self.ids(bench), ["quick"])
        self.assertPart(bench, slow)

    def test_a_slow_consumer_at_the_hard_limit_and_past_it(self) -> None:
        bench = self.bench(send_queue_soft=500, send_queue_hard=1000)
        slow = bench.guest("slow:slow")
        slow.transport.stuck = True
        for _ in range(8):
            bench.node.broadcast("x" * 8191)
        bench.node.broadcast("x")
        bench.clock.advance(1)
        self.assertEqual(len(slow.transport.waiting), 65538)
        bench.node.broadcast("y" * 999)
        bench.settle()
        self.assertEqual(self.reasons(bench), [])
        bench.clock.advance(1)
        delivery = bench.node.broadcast("z")
        self.assertFalse(delivery)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])

    def test_a_peer_that_is_cut_as_soon_as_it_is_there(self) -> None:
        """Its dial has come to an end as well."""
        bench = self.bench(send_queue_soft=1000, send_queue_hard=70_000)

        def talk(event: PeerConnected) -> None:
            for _ in range(30):
                bench.node.broadcast("x" * 10_000)

        bench.node.subscribe(talk, PeerConnected)
        connecting = bench.node.connect(BOB)
        bob = bench.dialled(BOB).succeed()
        bob.transport.stuck = True
        bob.say("peer-8002:bob")
        bench.clock.advance(1)
        self.failureResultOf(connecting, HandshakeFailed)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])
        again = bench.node.connect(BOB)
        self.assertEqual(len(bench.network.dials), 2)
        again.addErrback(lambda why: why.trap(NotRunning))

    def test_a_peer_that_is_back_while_its_last_words_are_told(self) -> None:
        bench = self.bench()

        def work(event: ChatReceived) -> None:
            bench.clock.rightNow += 0.1

        bench.node.subscribe(work, ChatReceived)
        old = bench.guest("bob:bob")
        old.protocol.dataReceived(b"x\n" * 50)
        old.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(bench.of(PeerDisconnected), [])
        new = bench.caller()
        new.protocol.dataReceived(b"bob:bob\n")
        self.assertEqual(len(bench.of(PeerDisconnected)), 1)
        self.assertEqual(len(bench.node.peers()), 1)
        bench.clock.pump([0] * 20)
        self.assertEqual(new.heard(), b"peer-8001:alice\n")

    def test_chat_of_two_kept_links_waits_for_the_turn_of_the_first(self) -> None:
        """A peer that speaks on one link and then on the other is heard in order."""
        bench = self.bench(id="b-node")

        def work(event: ChatReceived) -> None:
            bench.clock.rightNow += 0.002

        bench.node.subscribe(work, ChatReceived)
        bench.node.connect(BOB)
        dial = bench.dialled(BOB)
        theirs = bench.caller(port=50009)
        theirs.say("a-original:bob")
        ours = dial.succeed()
        ours.say("a-original:bob")
        theirs.say("REQUEST_PEERS")
        bench.settle()
        texts = [f"{number}" for number in range(40)]
        theirs.say(*texts)
        ours.say("after")
        for _ in range(5):
            bench.settle()
        self.assertEqual(self.chats(bench), [*texts, "after"])
        self.assertEqual(len(bench.node.peers()), 1)


class SubscriberTests(BenchCase):
    def test_one_that_raises_is_logged_and_harms_nobody(self) -> None:
        bench = Bench()

        def broken(event: Event) -> None:
            raise ValueError("broken")

        bench.node.subscribe(broken)
        later: list[Event] = []
        bench.node.subscribe(later.append)
        self.started(bench)
        wire = bench.guest("peer-8002:bob")
        wire.say("hello", "PING")
        self.assertEqual(wire.heard(), b"PONG\n")
        self.assertEqual(later, bench.events)
        self.assertEqual(self.chats(bench), ["hello"])
        failures = self.flushLoggedErrors(ValueError)
        self.assertEqual(len(failures), len(bench.events))
        bench.stop()
        self.flushLoggedErrors(ValueError)

    def test_one_that_has_left_hears_nothing(self) -> None:
        bench = self.bench()
        heard: list[Event] = []
        leave = bench.node.subscribe(heard.append)
        leave()
        leave()
        bench.guest("peer-8002:bob")
        self.assertEqual(heard, [])

    def test_all_hear_the_same_in_the_same_order_whatever_one_does(self) -> None:
        bench = self.bench(send_queue_soft=1, send_queue_hard=1)

        def shout(event: Event) -> None:
            if isinstance(event, PeerConnected):
                bench.node.broadcast("x" * 16000)
                bench.node.broadcast("x" * 16000)

        bench.node.subscribe(shout)
        heard: list[Event] = []
        bench.node.subscribe(heard.append)
        wire = bench.caller()
        wire.transport.FULL = 10
        wire.transport.stuck = True
        wire.say("peer-8002:bob")
        kinds = [type(event) for event in heard]
        self.assertEqual(kinds, [PeerConnected, PeerDisconnected])
        self.assertEqual(heard, bench.events[-2:])

    def test_one_that_stops_the_node_when_a_peer_comes(self) -> None:
        bench = self.bench()

        def stop(event: Event) -> None:
            if isinstance(event, PeerConnected):
                bench.node.stop()

        bench.node.subscribe(stop)
        wire = bench.caller()
        wire.say("peer-8002:bob", "hello")
        self.assertPart(bench, wire)
        self.assertEqual(self.chats(bench), [])
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
