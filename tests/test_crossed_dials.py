"""Two nodes that dial each other at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshproto.errors import (
    HandshakeFailed,
)
from meshproto.events import (
    CloseReason,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from tests.benches import BOB, GRACE, BenchCase
from tests.fakes import Bench, Original, Wire


class SimultaneousDialTests(BenchCase):
    """Both dial: the link that was dialled by the greater ID survives."""

    connecting: Deferred[Peer]
    peer_id: str

    def crossing(self, id: str) -> tuple[Bench, Wire, Wire]:
        """A node that dials a peer and is dialled by it; all but one welcome."""
        bench = self.bench()
        self.connecting = bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.caller()
        self.assertEqual(ours.heard(), b"peer-8001:alice\n")
        theirs.say(f"{id}:bob")
        self.assertEqual(theirs.heard(), b"peer-8001:alice\n")
        self.peer_id = id
        return bench, ours, theirs

    def assertOne(self, bench: Bench, survivor: Wire, loser: Wire) -> None:
        """One peer, one link, and chat goes both ways."""
        self.assertPart(bench, loser)
        self.assertFalse(survivor.closed)
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(self.ids(bench), [self.peer_id])
        survivor.heard()
        bench.node.broadcast("to you")
        bench.settle()
        survivor.say("PING", "to me")
        bench.settle()
        self.assertEqual(survivor.heard(), b"to you\nPONG\n")
        self.assertEqual(self.chats(bench)[-1], "to me")

    def welcome(self, ours: Wire) -> None:
        """The welcome that makes two links of the pair."""
        ours.say(f"{self.peer_id}:bob")

    def merge(self, bench: Bench) -> None:
        """Let the grace pass, and no more than that."""
        bench.clock.advance(GRACE[self.peer_id])
        bench.settle()

    def test_theirs_survives_when_their_id_is_greater(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.assertEqual(self.successResultOf(self.connecting).id, "peer-8002")
        self.merge(bench)
        self.assertTrue(ours.transport.half_closed)
        self.assertFalse(theirs.transport.half_closed)
        self.assertEqual(ours.heard(), b"")
        ours.hang_up()
        self.assertOne(bench, theirs, ours)

    def test_ours_survives_when_our_id_is_greater(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        self.welcome(ours)
        self.successResultOf(self.connecting)
        self.merge(bench)
        self.assertTrue(theirs.transport.half_closed)
        self.assertFalse(ours.transport.half_closed)
        self.assertEqual(ours.heard(), b"")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def test_before_the_grace_is_over_nothing_is_given_up(self) -> None:
        for id, grace in GRACE.items():
            bench, ours, theirs = self.crossing(id)
            loser = ours if id > "peer-8001" else theirs
            self.welcome(ours)
            bench.clock.advance(grace - 0.001)
            for wire in (ours, theirs):
                self.assertFalse(wire.transport.half_closed, id)
                self.assertEqual(wire.heard(), b"")
            # Both are read, and answered where they are asked.
            ours.say("one", "PING")
            theirs.say("two", "PING")
            self.assertEqual(self.chats(bench), ["one", "two"])
            self.assertEqual((ours.heard(), theirs.heard()), (b"PONG\n", b"PONG\n"))
            bench.clock.advance(0.001)
            self.assertTrue(loser.transport.half_closed, id)

    def test_a_half_close_by_the_far_end_begins_the_merge(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        self.welcome(ours)
        theirs.say("last")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(self.chats(bench), ["last"])
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def chat_meanwhile(self, id: str) -> None:
        bench, ours, theirs = self.crossing(id)
        survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
        # Until we know better, the link that they dialled is the link.
        bench.node.broadcast("m1")
        self.welcome(ours)
        # They speak on the link that was complete first for them.
        loser.say("t1")
        bench.node.broadcast("m2")
        loser.say("t2")
        self.assertEqual(theirs.heard(), b"m1\nm2\n")
        self.merge(bench)
        bench.node.broadcast("m3")
        survivor.say("t4", "PING")
        bench.node.broadcast("m4")
        loser.say("t3")
        bench.settle()
        # Nothing is read from the survivor, nor sent on it, before the end.
        early = ["t1", "t2", "t3"]
        self.assertEqual(self.chats(bench), early)
        self.assertEqual(survivor.heard(), b"")
        self.assertEqual(loser.heard(), b"")
        self.assertTrue(loser.transport.half_closed)
        loser.hang_up()
        bench.settle()
        self.assertEqual(self.chats(bench), [*early, "t4"])
        heard = survivor.heard()
        self.assertEqual(
            [line for line in heard.split(b"\n") if line.startswith(b"m")],
            [b"m3", b"m4"],
        )
        self.assertEqual(heard.count(b"PONG\n"), 1)
        self.assertOne(bench, survivor, loser)

    def test_chat_meanwhile_with_a_greater_id(self) -> None:
        self.chat_meanwhile("peer-8002")

    def test_chat_meanwhile_with_a_lesser_id(self) -> None:
        self.chat_meanwhile("peer-8000")

    def test_chat_that_waits_on_the_loser_goes_before_its_end(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.transport.stuck = True
        for number in range(5):
            bench.node.broadcast(f"{number}" * 16000)
        self.welcome(ours)
        for number in range(5, 10):
            bench.node.broadcast(f"{number}" * 16000)
        self.merge(bench)
        bench.node.broadcast("last")
        self.assertFalse(theirs.transport.half_closed)
        theirs.transport.stuck = False
        theirs.transport.take()
        self.assertTrue(theirs.transport.half_closed)
        lines = theirs.heard().split(b"\n")
        self.assertEqual(
            [line[:1] for line in lines[:-1]], [b"%d" % n for n in range(10)]
        )
        theirs.hang_up()
        bench.settle()
        self.assertTrue(ours.heard().endswith(b"last\n"))

    def test_a_loser_that_does_not_end_in_three_seconds_takes_the_survivor_along(
        self,
    ) -> None:
        """Its last words may be read later than what would be said next."""
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
            self.welcome(ours)
            self.merge(bench)
            survivor.say("after")
            bench.clock.advance(2.999)
            self.assertEqual(self.chats(bench), [])
            self.assertEqual(self.reasons(bench), [])
            bench.clock.advance(0.001)
            bench.settle()
            self.assertTrue(loser.transport.aborted)
            self.assertTrue(survivor.transport.aborted)
            self.assertEqual(self.reasons(bench), [CloseReason.TIMEOUT])
            self.assertEqual(self.ids(bench), [])

    def test_a_loser_that_breaks_is_the_end_of_both(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        theirs.say("after")
        self.assertEqual(self.chats(bench), [])
        ours.reset()
        bench.settle()
        self.assertTrue(theirs.transport.aborted)
        self.assertEqual(self.chats(bench), [])
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_a_survivor_that_breaks_is_the_end_of_both(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        theirs.reset()
        self.assertPart(bench, ours)
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_a_link_that_breaks_during_the_grace_leaves_the_other_one(self) -> None:
        first_words = b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n"
        for id in GRACE:
            for broken in ("ours", "theirs"):
                bench, ours, theirs = self.crossing(id)
                gone, left = (ours, theirs) if broken == "ours" else (theirs, ours)
                self.welcome(ours)
                gone.reset()
                # Who has dialled it says what is said on every new link.
                self.assertEqual(
                    left.heard(), first_words if left is ours else b"", (id, broken)
                )
                bench.clock.advance(1)
                self.assertFalse(left.transport.half_closed)
                self.assertOne(bench, left, gone)

    def test_a_survivor_that_the_far_end_closes_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            survivor, loser = (theirs, ours) if id > "peer-8001" else (ours, theirs)
            self.welcome(ours)
            survivor.hang_up()
            self.assertOne(bench, loser, survivor)

    def test_a_far_end_that_leaves_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            self.welcome(ours)
            for wire in (ours, theirs):
                wire.say("bye")
                wire.hang_up()
            bench.settle()
            self.assertTrue(ours.closed and theirs.closed)
            self.assertEqual(self.chats(bench), ["bye", "bye"])
            self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])

    def test_the_far_end_has_ended_the_loser_before_we_know_of_the_pair(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.say("early")
        theirs.hang_up()
        bench.settle()
        self.assertEqual(self.reasons(bench), [])
        self.welcome(ours)
        ours.say("later")
        bench.settle()
        self.assertEqual(self.chats(bench), ["early", "later"])
        # There is nothing to wait for: it has begun the merge itself.
        self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
        self.assertOne(bench, ours, theirs)

    def test_the_far_end_was_only_leaving(self) -> None:
        bench, ours, theirs = self.crossing("peer-8000")
        theirs.hang_up()
        ours.hang_up()
        bench.settle()
        self.failureResultOf(self.connecting, HandshakeFailed)
        self.assertEqual(self.reasons(bench), [CloseReason.CLOSED_BY_PEER])
        self.assertPart(bench, theirs)
        self.assertEqual(bench.node.peers(), ())

    def test_the_second_welcome_may_be_a_refusal_instead(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        ours.say("DUPLICATE")
        self.assertEqual(self.successResultOf(self.connecting).id, "peer-8002")
        self.assertPart(bench, ours)
        self.assertOne(bench, theirs, ours)

    def test_stopped_during_the_grace(self) -> None:
        for id in GRACE:
            bench, ours, theirs = self.crossing(id)
            self.welcome(ours)
            bench.node.broadcast("bye")
            bench.stop()
            self.assertEqual((ours.heard(), theirs.heard()), (b"", b"bye\n"))
            self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
            self.assertTrue(ours.closed and theirs.closed)
            self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_stopped_while_the_loser_is_drained(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        self.merge(bench)
        bench.node.broadcast("bye")
        bench.stop()
        self.assertEqual(theirs.heard(), b"bye\n")
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
        self.assertTrue(ours.closed and theirs.closed)

    def test_a_third_link_replaces_both(self) -> None:
        for id in GRACE:
            for grace in (0, GRACE[id]):
                bench, ours, theirs = self.crossing(id)
                self.welcome(ours)
                bench.clock.advance(grace)
                bench.node.connect("192.0.2.2:9999")
                third = bench.dialled("192.0.2.2:9999").succeed()
                third.say(f"{id}:bob")
                bench.settle()
                self.assertTrue(ours.closed and theirs.closed)
                self.assertEqual(
                    [type(event) for event in bench.news()],
                    [NodeStarted, PeerConnected, PeerDisconnected, PeerConnected],
                )
                third.heard()
                bench.clock.advance(1)
                bench.node.broadcast("to you")
                third.say("to me")
                self.assertEqual(third.heard(), b"to you\n")
                self.assertEqual(self.chats(bench), ["to me"])
                self.assertEqual(self.reasons(bench), [])

    def test_a_newcomer_during_the_grace_is_a_duplicate(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        self.welcome(ours)
        late = bench.caller(port=50003)
        late.say("peer-8002:bob")
        self.assertEqual(late.heard(), b"DUPLICATE\n")
        self.assertEqual(theirs.heard(), b"PING\n")
        theirs.say("PONG")
        self.merge(bench)
        ours.hang_up()
        bench.clock.advance(3)
        self.assertOne(bench, theirs, ours)

    def test_a_reader_that_becomes_slow_is_not_told_what_the_loser_says(self) -> None:
        for grace in (GRACE["peer-8002"], 0):
            bench, ours, theirs = self.crossing("peer-8002")
            self.welcome(ours)
            bench.clock.advance(grace)
            bench.node.pause_reading()
            ours.say("one")
            ours.hang_up()
            theirs.say("two")
            # The grace passes meanwhile, if it has not.
            bench.clock.advance(30)
            self.assertEqual(self.chats(bench), [])
            bench.node.resume_reading()
            bench.settle()
            self.assertEqual(self.chats(bench), ["one", "two"])
            self.assertOne(bench, theirs, ours)

    def test_a_reader_that_is_slow_loses_nothing_of_the_loser(self) -> None:
        bench, ours, theirs = self.crossing("peer-8002")
        bench.node.pause_reading()
        self.welcome(ours)
        ours.say("one", "two")
        bench.settle()
        # The welcome itself was read: the pause is for peers.
        ours.hang_up()
        theirs.say("three")
        bench.clock.advance(30)
        self.assertEqual(self.chats(bench), [])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(self.chats(bench), ["one", "two", "three"])
        self.assertOne(bench, theirs, ours)


class KeptLinksTests(BenchCase):
    """Both dial, and the other one is an original program.

    It forgets a peer with whichever of its links ends, so nothing is closed.
    """

    def found(self, when: str) -> tuple[Bench, Original, Wire, Wire]:
        """An original with two links: the one that we dialled, and its own."""
        bench = self.bench()
        bench.node.connect(BOB)
        original = Original(bench)
        theirs = original.dial()
        if when == "before":
            original.read()
        ours = original.accept(BOB)
        if when == "late":
            bench.clock.advance(0.749)
        original.read()
        return bench, original, ours, theirs

    def test_neither_link_is_closed(self) -> None:
        for id in ("0-original", "zzz-original"):
            for when in ("before", "at once", "late"):
                bench = self.bench()
                bench.node.connect(BOB)
                original = Original(bench, id)
                theirs = original.dial()
                if when == "before":
                    original.read()
                ours = original.accept(BOB)
                if when == "late":
                    # One past the grace of the one, one short of the other's.
                    late = 0.249 if id > "peer-8001" else 0.749
                    bench.clock.advance(late)
                original.read()
                for _ in range(10):
                    bench.clock.advance(1)
                    original.read()
                for wire in (ours, theirs):
                    self.assertFalse(wire.transport.half_closed, (id, when))
                    self.assertFalse(wire.closed, (id, when))
                self.assertEqual(len(bench.of(PeerConnected)), 1)
                self.assertEqual(self.ids(bench), [id])
                self.assertEqual(bench.node.peers()[0].where, BOB)

    def test_once_the_grace_is_over_it_is_too_late(self) -> None:
        """What an original loses by that is healed another day."""
        bench = self.bench()
        bench.node.connect(BOB)
        original = Original(bench, "0-original")
        theirs = original.dial()
        original.accept(BOB)
        bench.clock.advance(0.75)
        self.assertTrue(theirs.transport.half_closed)

    def test_what_is_said_on_the_link_that_we_dialled_shows_no_original(self) -> None:
        bench = self.bench()
        bench.node.connect(BOB)
        ours = bench.dialled(BOB).succeed()
        theirs = bench.guest("peer-8002:bob")
        ours.say("peer-8002:bob", "REQUEST_PEERS", "PEERS:192.0.2.2:8002", "PING", "hi")
        theirs.say("PING", "PEERS:192.0.2.2:8002", "hi")
        bench.clock.advance(0.25)
        self.assertTrue(ours.transport.half_closed)

    def test_the_newer_link_is_introduced_and_the_older_one_probed(self) -> None:
        for when in ("before", "at once"):
            bench = self.bench()
            bench.node.connect(BOB)
            theirs = bench.guest("original:gopher")
            ours = bench.dialled(BOB).succeed()
            if when == "before":
                theirs.say("REQUEST_PEERS")
            ours.heard()
            ours.say("original:gopher")
            if when == "at once":
                self.assertEqual(ours.heard() + theirs.heard(), b"")
                theirs.say("REQUEST_PEERS")
            self.assertEqual(ours.heard(), b"REQUEST_PEERS\nPEERS:192.0.2.1:8001\n")
            self.assertEqual(theirs.heard(), b"PEERS:192.0.2.1:8001\nPING\n")

    def test_chat_that_comes_late_is_the_end_of_both(self) -> None:
        """It was said before what has been heard on the newer link."""
        for when in ("before", "at once", "late"):
            bench, original, ours, theirs = self.found(when)
            theirs.say("one")
            ours.say("two", "three")
            theirs.say("late")
            bench.settle()
            self.assertEqual(self.chats(bench), ["one", "two", "three"])
            self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
            self.assertPart(bench, ours)
            self.assertPart(bench, theirs)

    def test_chat_from_either_arrives_and_ours_goes_on_the_newer(self) -> None:
        for when in ("before", "at once", "late"):
            bench, original, ours, theirs = self.found(when)
            bench.clock.advance(1)
            original.read()
            theirs.say("one", "two")
            ours.say("three")
            self.assertEqual(self.chats(bench), ["one", "two", "three"])
            bench.node.broadcast("four")
            bench.node.send(bench.node.peers()[0], "five")
            self.assertEqual(ours.heard(), b"four\nfive\n")
            self.assertEqual(theirs.heard(), b"")
            # A request of it is answered where it is asked.
            for wire in (ours, theirs):
                wire.say("REQUEST_PEERS", "PING")
                self.assertEqual(wire.heard(), b"PEERS:192.0.2.1:8001\nPONG\n")

    def test_it_goes_on_for_hours(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        for _ in range(4 * 60 * 2):
            original.say_ping()
            bench.clock.advance(15)
            original.read()
        original.say("still here")
        bench.node.broadcast("so are we")
        original.read()
        self.assertEqual(self.chats(bench), ["still here"])
        self.assertEqual(original.heard, ["so are we"])
        self.assertFalse(ours.closed or theirs.closed)
        self.assertEqual(self.reasons(bench), [])

    def test_when_either_ends_the_other_is_closed_and_dialled_anew(self) -> None:
        for ended in ("ours", "theirs"):
            for end in (Wire.reset, Wire.hang_up):
                bench, original, ours, theirs = self.found("at once")
                bench.clock.advance(5)
                original.read()
                gone, other = (ours, theirs) if ended == "ours" else (theirs, ours)
                end(gone)
                bench.settle()
                self.assertTrue(ours.closed and theirs.closed)
                self.assertFalse(other.transport.aborted)
                self.assertEqual(len(self.reasons(bench)), 1, (ended, end))
                self.assertEqual(bench.node.peers(), ())
                original.read()
                self.assertIsNone(original.current)
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

    def test_an_old_link_that_is_dead_goes_without_a_word(self) -> None:
        """It was a node that came back by our dial."""
        bench = self.bench()
        old = bench.guest("peer-8002:bob")
        old.say("REQUEST_PEERS")
        bench.clock.advance(5)
        bench.node.connect("192.0.2.2:9002")
        new = bench.dialled("192.0.2.2:9002").succeed()
        new.say("peer-8002:bob")
        bench.clock.advance(2.999)
        self.assertFalse(old.transport.aborted)
        new.say("one")
        bench.node.broadcast("two")
        bench.clock.advance(0.001)
        self.assertTrue(old.transport.aborted)
        self.assertPart(bench, old)
        new.say("three")
        self.assertFalse(new.closed)
        self.assertIn(b"two\n", new.heard())
        self.assertEqual(self.chats(bench), ["one", "three"])
        self.assertEqual(self.reasons(bench), [])
        self.assertEqual(len(bench.of(PeerConnected)), 1)
        # From now on it is a peer with one link, as any other.
        new.reset()
        self.assertEqual(self.reasons(bench), [CloseReason.CONNECTION_LOST])

    def test_silence_on_the_newer_link_is_the_end_of_both(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        for _ in range(5):
            bench.clock.advance(15)
            theirs.say("PING", "PONG")
        bench.settle()
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(len(bench.of(PeerReaped)), 1)
        self.assertEqual(self.reasons(bench), [CloseReason.TIMEOUT])

    def test_a_third_link_replaces_both(self) -> None:
        bench, _, ours, theirs = self.found("at once")
        bench.node.connect("192.0.2.2:9999")
        third = bench.dialled("192.0.2.2:9999").succeed()
        third.say(Original.greeting)
        bench.settle()
        self.assertTrue(ours.closed and theirs.closed)
        self.assertFalse(third.closed)
        self.assertEqual(self.reasons(bench), [CloseReason.REPLACED])
        self.assertEqual(len(bench.of(PeerConnected)), 2)

    def test_stopped(self) -> None:
        bench, _, ours, theirs = self.found("at once")
        bench.node.broadcast("bye")
        bench.stop()
        self.assertTrue(ours.heard().endswith(b"bye\n"))
        self.assertTrue(ours.closed and theirs.closed)
        self.assertEqual(self.reasons(bench), [CloseReason.STOPPED])
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_a_reader_that_is_slow_reads_neither(self) -> None:
        bench, original, ours, theirs = self.found("at once")
        original.read()
        bench.node.pause_reading()
        ours.say("one")
        theirs.say("two")
        bench.clock.advance(30)
        self.assertEqual(self.chats(bench), [])
        bench.node.resume_reading()
        bench.settle()
        self.assertEqual(sorted(self.chats(bench)), ["one", "two"])
        self.assertEqual(self.reasons(bench), [])


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
