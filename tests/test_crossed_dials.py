"""Two nodes that dial each other at once, and speak ``mesh/1``."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshproto.events import (
    CloseReason,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from tests.benches import BOB, BenchCase
from tests.fakes import Bench, Wire
from tests.originals import Original

#: Of a peer with a greater ID than ours, with a lesser one, and with our own.
IDS = ("peer-8002", "peer-8000", "peer-8001")
FIRST_WORDS = b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n"


class CrossedDialTests(BenchCase):
    """Both links live, as one peer, whatever its ID."""

    connecting: Deferred[Peer]

    def crossing(self, id: str = "peer-8002") -> tuple[Bench, Wire, Wire]:
        """A node that dials a peer and is dialled by it; all but one welcome."""
        bench = self.bench()
        self.connecting = bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.caller()
        self.assertEqual(ours.heard(), b"peer-8001:alice\n")
        theirs.say(f"{id}:bob")
        self.assertEqual(theirs.heard(), b"peer-8001:alice\n")
        return bench, ours, theirs

    def crossed(self, id: str = "peer-8002") -> tuple[Bench, Wire, Wire]:
        """The same, with both welcomes; the peer has shown that it lives."""
        bench, ours, theirs = self.crossing(id)
        ours.say(f"{id}:bob")
        self.assertEqual(ours.heard(), FIRST_WORDS)
        self.assertEqual(theirs.heard(), b"PING\n")
        theirs.say("PONG")
        return bench, ours, theirs

    def assertOver(self, bench: Bench, ours: Wire, theirs: Wire) -> None:
        """Both links have ended, and the peer has left once."""
        bench.settle()
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(len(self.reasons(bench)), 1)
        self.assertEqual(bench.node.peers(), ())

    def test_both_links_live(self) -> None:
        for id in IDS:
            bench, ours, theirs = self.crossed(id)
            self.assertEqual(self.successResultOf(self.connecting).id, id)
            for _ in range(20):
                bench.clock.advance(15)
                theirs.say("PONG")
            self.assertFalse(ours.closed or theirs.closed, id)
            self.assertEqual(len(bench.of(PeerConnected)), 1)
            self.assertEqual(self.reasons(bench), [])
            self.assertEqual(self.ids(bench), [id])
            self.assertEqual(bench.node.peers()[0].where, BOB)

    def test_everything_is_said_on_the_first(self) -> None:
        for id in IDS:
            bench, ours, theirs = self.crossing(id)
            bench.node.broadcast("one")
            ours.say(f"{id}:bob")
            bench.node.broadcast("two")
            bench.node.send(bench.node.peers()[0], "three")
            bench.clock.advance(14)
            bench.node.broadcast("four")
            self.assertEqual(theirs.heard(), b"one\nPING\ntwo\nthree\nfour\n")
            theirs.say("PONG")
            self.assertEqual(ours.heard(), FIRST_WORDS)

    def test_chat_on_either_is_heard_once(self) -> None:
        for id in IDS:
            for on_ours in (True, False):
                bench, ours, theirs = self.crossed(id)
                wire = ours if on_ours else theirs
                wire.say("one", "two")
                bench.clock.advance(1)
                wire.say("three")
                self.assertEqual(self.chats(bench), ["one", "two", "three"])
                self.assertEqual(self.ids(bench), [id])

    def test_it_is_answered_where_it_asks(self) -> None:
        bench, ours, theirs = self.crossed()
        for wire in (ours, theirs):
            wire.say("REQUEST_PEERS", "PING")
            self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\nPONG\n")

    def test_chat_of_the_first_may_be_followed_by_chat_of_the_second(self) -> None:
        """So it is with an original, which speaks on the newest."""
        bench, ours, theirs = self.crossed()
        theirs.say("one", "two")
        ours.say("three")
        self.assertEqual(self.chats(bench), ["one", "two", "three"])

    def test_chat_that_comes_late_is_the_end_of_both(self) -> None:
        """It was said before what has been heard on the other link."""
        bench, ours, theirs = self.crossed()
        theirs.say("one")
        ours.say("two", "three")
        theirs.say("late")
        bench.settle()
        self.assertEqual(self.chats(bench), ["one", "two", "three"])
        self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
        self.assertOver(bench, ours, theirs)

    def test_when_either_ends_both_end_and_the_peer_is_dialled_anew(self) -> None:
        for id in IDS:
            for gone_is_ours in (True, False):
                for end, reason in (
                    (Wire.hang_up, CloseReason.CLOSED_BY_PEER),
                    (Wire.reset, CloseReason.CONNECTION_LOST),
                ):
                    bench, ours, theirs = self.crossed(id)
                    gone, other = (ours, theirs) if gone_is_ours else (theirs, ours)
                    bench.clock.advance(5)
                    gone.say("last")
                    end(gone)
                    self.assertOver(bench, ours, theirs)
                    self.assertFalse(other.transport.aborted)
                    self.assertEqual(self.reasons(bench), [reason])
                    self.assertEqual(self.chats(bench), ["last"])
                    self.assertEqual(self.targets(bench).count(BOB), 1)
                    bench.clock.advance(60)
                    self.assertEqual(self.targets(bench).count(BOB), 2)
                    bench.dialled(BOB).succeed().say(f"{id}:bob")
                    self.assertEqual(self.ids(bench), [id])

    def test_what_waits_on_the_first_is_sent_when_the_second_ends(self) -> None:
        bench, ours, theirs = self.crossed()
        theirs.transport.stuck = True
        for number in range(10):
            bench.node.broadcast(f"{number}" * 16000)
        bench.settle()
        ours.hang_up()
        bench.settle()
        theirs.transport.stuck = False
        theirs.transport.take()
        lines = theirs.heard().split(b"\n")
        self.assertEqual(
            [line[:1] for line in lines[:-1]], [b"%d" % n for n in range(10)]
        )
        self.assertOver(bench, ours, theirs)

    def test_both_end_at_once(self) -> None:
        bench, ours, theirs = self.crossed()
        theirs.hang_up()
        ours.hang_up()
        self.assertOver(bench, ours, theirs)

    def test_the_first_ends_before_the_welcome_on_the_other(self) -> None:
        """The peer has left; what the other dial leads to comes as anybody."""
        bench, ours, theirs = self.crossing()
        theirs.say("early")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])
        ours.say("peer-8002:bob", "later")
        self.assertEqual(self.chats(bench), ["early", "later"])
        self.assertEqual(len(bench.of(PeerConnected)), 2)
        self.assertFalse(ours.closed)

    def test_the_second_welcome_may_be_a_refusal_instead(self) -> None:
        bench, ours, theirs = self.crossing()
        ours.say("DUPLICATE")
        self.assertEqual(self.successResultOf(self.connecting).id, "peer-8002")
        self.assertPart(bench, ours)
        self.assertFalse(theirs.closed)
        self.assertEqual(theirs.heard(), b"")
        self.assertEqual(self.ids(bench), ["peer-8002"])

    def test_a_first_link_that_is_dead_goes_without_a_word(self) -> None:
        """It was a node that came back by our dial."""
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        bench.clock.advance(5)
        bench.node.connect("192.0.2.2:9002")
        new = bench.dialled("192.0.2.2:9002").succeed()
        new.say("peer-8002:bob")
        new.heard()
        bench.clock.advance(2.999)
        self.assertFalse(old.transport.aborted)
        new.say("one")
        bench.clock.advance(0.001)
        self.assertTrue(old.transport.aborted)
        self.assertPart(bench, old)
        new.say("two")
        bench.node.broadcast("three")
        self.assertEqual(new.heard(), b"three\n")
        self.assertEqual(self.chats(bench), ["one", "two"])
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        # From here on it is a peer with one link, as any other.
        new.reset()
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_silence_on_the_first_is_the_end_of_both(self) -> None:
        bench, ours, theirs = self.crossed()
        for _ in range(5):
            bench.clock.advance(15)
            ours.say("PING", "PONG")
        self.assertEqual(len(bench.of(PeerReaped)), 1)
        self.assertEqual(self.reasons(bench), [CloseReason.TIMEOUT])
        self.assertOver(bench, ours, theirs)

    def test_a_peer_that_takes_nothing_on_the_first_is_cut(self) -> None:
        bench, ours, theirs = self.crossed()
        theirs.transport.stuck = True
        for _ in range(10):
            bench.node.broadcast("x" * 16000)
        bench.clock.advance(10)
        self.assertEqual(self.reasons(bench), [CloseReason.SLOW_CONSUMER])
        self.assertOver(bench, ours, theirs)

    def test_a_third_link_replaces_both(self) -> None:
        for id in IDS:
            bench, ours, theirs = self.crossed(id)
            bench.node.connect("192.0.2.2:9999")
            third = bench.dialled("192.0.2.2:9999").succeed()
            third.say(f"{id}:bob")
            bench.settle()
            self.assertTrue(ours.closed and theirs.closed)
            self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
            third.heard()
            bench.node.broadcast("to you")
            third.say("to me")
            self.assertEqual(third.heard(), b"to you\n")
            self.assertEqual(self.chats(bench), ["to me"])
            self.assertEqual(
                [type(event) for event in bench.news()][:4],
                [NodeStarted, PeerConnected, PeerDisconnected, PeerConnected],
            )

    def test_a_newcomer_is_a_duplicate_and_the_first_is_probed(self) -> None:
        bench, ours, theirs = self.crossed()
        bench.clock.advance(4)
        late = bench.caller(port=50003)
        late.say("peer-8002:bob")
        self.assertEqual(late.heard(), b"DUPLICATE\n")
        self.assertEqual((ours.heard(), theirs.heard()), (b"", b"PING\n"))
        theirs.say("PONG")
        bench.clock.advance(3)
        self.assertFalse(ours.closed or theirs.closed)

    def test_stopped(self) -> None:
        bench, ours, theirs = self.crossed()
        bench.node.broadcast("bye")
        bench.stop()
        self.assertEqual((ours.heard(), theirs.heard()), (b"", b"bye\n"))
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_a_reader_that_is_slow_reads_neither(self) -> None:
        bench, ours, theirs = self.crossed()
        bench.node.pause_reading()
        theirs.say("one")
        ours.say("two")
        bench.clock.advance(30)
        self.assertEqual(self.chats(bench), [])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(sorted(self.chats(bench)), ["one", "two"])
        self.assertEqual(self.reasons(bench), [])


class OriginalTests(BenchCase):
    """The other one is an original: it forgets us with whichever link ends."""

    def found(self, when: str = "at once") -> tuple[Bench, Original, Wire, Wire]:
        """An original with two links: the one that we dialled, and its own."""
        bench = self.bench()
        bench.node.connect(BOB)
        original = Original(bench)
        theirs = original.dial()
        if when == "before":
            original.read()
        ours = original.accept(BOB)
        if when == "late":
            bench.clock.advance(2)
        original.read()
        return bench, original, ours, theirs

    def test_chat_goes_both_ways_for_hours(self) -> None:
        for when in ("before", "at once", "late"):
            bench, original, ours, theirs = self.found(when)
            for _ in range(4 * 60 * 2):
                original.say_ping()
                bench.clock.advance(15)
                original.read()
            original.say("still here")
            bench.node.broadcast("so are we")
            original.read()
            self.assertEqual(self.chats(bench), ["still here"], when)
            self.assertEqual(original.heard, ["so are we"], when)
            self.assertFalse(ours.closed or theirs.closed, when)
            self.assertEqual(self.reasons(bench), [])
            self.assertEqual(len(bench.of(PeerConnected)), 1)

    def test_when_either_ends_it_is_met_anew(self) -> None:
        for ended in ("ours", "theirs"):
            for end in (Wire.reset, Wire.hang_up):
                bench, original, ours, theirs = self.found()
                bench.clock.advance(2)
                original.read()
                end(ours if ended == "ours" else theirs)
                bench.settle()
                original.read()
                self.assertIsNone(original.current)
                self.assertEqual(bench.node.peers(), ())
                bench.clock.advance(60)
                self.assertEqual(self.targets(bench), [BOB, BOB])
                original.accept(BOB)
                original.read()
                bench.node.broadcast("again")
                original.read()
                original.say("indeed")
                self.assertEqual(original.heard, ["again"])
                self.assertEqual(self.chats(bench), ["indeed"])
                self.assertEqual(len(bench.of(PeerConnected)), 2)
                self.assertEqual(len(self.reasons(bench)), 1)


class MutePeerTests(BenchCase):
    """A peer that answers, but has forgotten that it is one."""

    def redial(self, bench: Bench) -> Wire:
        wire = bench.caller(port=50003)
        wire.say(Original.greeting)
        self.assertEqual(wire.heard(), b"DUPLICATE\n")
        return wire

    def test_an_original_that_has_forgotten_us_is_healed(self) -> None:
        bench = self.bench()
        original = Original(bench)
        link = original.dial()
        original.read()
        original.current = None
        for _ in range(3):
            bench.clock.advance(15)
            original.read()
        # So far it is a peer like any other.
        self.assertEqual(self.reasons(bench), [])
        self.redial(bench)
        original.read()
        bench.clock.advance(2.999)
        self.assertEqual(self.reasons(bench), [])
        bench.clock.advance(0.001)
        self.assertPart(bench, link)
        self.assertFalse(link.transport.aborted)
        self.assertEqual(self.reasons(bench), [CloseReason.FORGOTTEN])
        original.read()
        original.dial()
        original.read()
        bench.node.broadcast("there you are")
        original.read()
        original.say("yes")
        self.assertEqual(original.heard, ["there you are"])
        self.assertEqual(self.chats(bench), ["yes"])

    def test_only_what_is_no_answer_shows_that_it_knows_us(self) -> None:
        for said, knows_us in (
            ("PING", True),
            ("REQUEST_PEERS", True),
            ("hello", True),
            ("PONG", False),
            ("PEERS:192.0.2.9:9009", False),
            ("", False),
        ):
            bench = self.bench()
            original = Original(bench)
            link = original.dial()
            link.heard()
            bench.clock.advance(33)
            link.say(said)
            self.redial(bench)
            bench.clock.advance(1)
            link.say("PONG")
            bench.clock.advance(2)
            expected = [] if knows_us else [CloseReason.FORGOTTEN]
            self.assertEqual(self.reasons(bench), expected, said)

    def test_at_the_bound_it_may_stay(self) -> None:
        for seconds, expected in ((35, []), (35.001, [CloseReason.FORGOTTEN])):
            bench = self.bench()
            original = Original(bench)
            link = original.dial()
            bench.clock.advance(5)
            link.say("PING")
            bench.clock.advance(seconds - 3)
            self.redial(bench)
            link.say("PONG")
            bench.clock.advance(3)
            self.assertEqual(self.reasons(bench), expected, seconds)

    def test_who_does_not_dial_us_may_be_as_quiet_as_it_likes(self) -> None:
        bench = self.bench()
        original = Original(bench)
        original.dial()
        original.read()
        for _ in range(20):
            bench.clock.advance(15)
            original.read()
        self.assertEqual(self.reasons(bench), [])
