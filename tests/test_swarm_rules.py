"""What the simulator finds: each rule by itself, and in nodes broken on purpose."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from math import inf
from typing import Any
from unittest.mock import patch

from twisted.internet.protocol import Protocol
from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    ChatReceived,
    ChatsReceived,
    CloseReason,
    DataReceived,
    Delivery,
    Direction,
    Event,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PingReceived,
)
from meshproto.link.outbox import Outbox
from meshproto.link.protocol import MeshProtocol
from meshproto.mesh.announcer import Announcer
from meshproto.mesh.data import Payloads
from meshproto.mesh.dialer import Dialer
from meshproto.mesh.fanout import Fanout
from meshproto.mesh.introductions import Introductions
from meshproto.mesh.loop import Loop
from meshproto.mesh.node import MeshNode
from meshproto.mesh.peers import Peers
from meshproto.rules.addressbook import AddressBook, Forgotten
from meshproto.rules.identity import PeerKey
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pairs import Decision, Established, Pairs
from meshproto.rules.pending import Pending, PendingLinks
from meshproto.rules.registry import PeerEntry, Registry
from meshproto.rules.turns import Turns
from meshproto.testing._many import play
from meshproto.testing._rules import Violation, pairs_agree, unheard
from meshproto.testing._speaker import Calm, needs_pieces, payload_of
from meshproto.testing._swarm import Swarm
from meshproto.testing._tcp import Transport, address, join
from meshproto.wire.messages import Data
from tests.slow import slow

PairRules = Pairs[Any]


def peer(name: str = "node-2") -> Peer:
    return Peer(
        id=name,
        name=name,
        host="10.0.0.2",
        address=None,
        direction=Direction.INCOMING,
        connected_at=0.0,
        last_heard=0.0,
    )


class RuleTests(SynchronousTestCase):
    """A node that breaks a rule is found out, by the name of the rule."""

    def setUp(self) -> None:
        self.swarm = Swarm(0, nodes=2, faults=())
        self.swarm._begin()
        self.swarm._pass(5.0)
        self.one, self.other = self.swarm.speakers.values()
        [self.peer] = self.one.node.peers()
        self.said = self.other.said
        self.way = frozenset((self.one.place.host, self.other.place.host))

    def see(self, event: Event) -> None:
        self.one.see(event)
        if isinstance(event, ChatReceived):
            self.one.see_run(ChatsReceived(peer=event.peer, texts=(event.text,)))

    def assertFound(self, rule: str, see: Iterable[Event] = ()) -> None:
        for event in see:
            self.see(event)
        self.assertEqual([violation.rule for violation in self.swarm._broken], [rule])
        self.assertRaises(Violation, self.swarm._check)

    def says(self, words: int) -> None:
        """The other one says words that its listener does not get."""
        self.other.said_at += [self.swarm.net.clock.now] * words

    def hear(self, *numbers: int) -> list[Event]:
        texts = [f"{self.other.name} {number} " for number in numbers]
        return [ChatReceived(peer=self.peer, text=text) for text in texts]

    def test_nothing_is_found_where_nothing_is_broken(self) -> None:
        self.says(2)
        for event in self.hear(self.said + 1, self.said + 2):
            self.see(event)
        self.swarm._check()

    def test_two_connects_of_one_peer(self) -> None:
        event = PeerConnected(peer=self.peer, peer_count=1, max_peers=20)
        self.assertFound("connected twice", [event])

    def test_a_wrong_count_of_peers(self) -> None:
        event = PeerConnected(peer=peer("stranger"), peer_count=1, max_peers=20)
        self.assertFound("peer count", [event])

    def test_farewell_of_somebody_who_never_came(self) -> None:
        why = CloseReason.CLOSED_BY_PEER
        event = PeerDisconnected(peer=peer("stranger"), reason=why)
        self.assertFound("stranger", [event])

    def test_any_event_of_a_stranger(self) -> None:
        self.assertFound("stranger", [PingReceived(peer=peer("stranger"))])

    def test_an_event_of_a_node_that_is_over(self) -> None:
        self.one.over = True
        self.assertFound("afterlife", [PingReceived(peer=self.peer)])

    def test_a_word_that_arrives_twice(self) -> None:
        self.says(1)
        self.assertFound("order", self.hear(self.said + 1) * 2)

    def test_a_word_of_somebody_else(self) -> None:
        event = ChatReceived(peer=self.peer, text=f"{self.one.name} 1")
        self.assertFound("author", [event])

    def test_a_word_that_nobody_has_said(self) -> None:
        self.assertFound("unsaid", self.hear(self.said + 1))

    def test_a_word_that_is_missing(self) -> None:
        self.swarm.net.run(60.0)
        self.says(3)
        event, gap = self.hear(self.said + 1, self.said + 3)
        self.see(event)
        self.swarm.net.run(0.1)
        self.assertFound("lost", [gap])

    def test_a_word_that_comes_late(self) -> None:
        self.swarm.net.run(60.0)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience + 0.01)
        self.assertFound("late", [event])

    def test_a_word_that_comes_just_in_time(self) -> None:
        self.swarm.net.run(60.0)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience - 0.01)
        self.see(event)
        self.swarm._check()

    def test_a_word_that_comes_late_because_the_way_was_cut(self) -> None:
        self.swarm.net.run(60.0)
        self.swarm.calm.disturb(self.way)
        self.says(2)
        first, event = self.hear(self.said + 1, self.said + 2)
        self.see(first)
        self.swarm.net.run(self.one.patience + 0.01)
        self.see(event)
        self.swarm._check()

    def test_a_word_that_is_missing_because_the_way_was_cut(self) -> None:
        """A link that is given up may lose what a cut holds up."""
        self.swarm.calm.disturb(self.way)
        self.says(3)
        for event in self.hear(self.said + 1, self.said + 3):
            self.see(event)
        self.swarm._check()

    def test_a_run_of_other_words(self) -> None:
        self.says(1)
        [event] = self.hear(self.said + 1)
        self.one.see(event)
        self.one.see_run(ChatsReceived(peer=self.peer, texts=("another",)))
        self.assertFound("runs")

    def test_a_run_that_comes_after_something_else(self) -> None:
        self.says(1)
        [event] = self.hear(self.said + 1)
        self.one.see(event)
        self.assertFound("runs", [PingReceived(peer=self.peer)])

    def sends(self, *numbers: int) -> list[Event]:
        """The other one says words, of which these are payloads."""
        self.says(max(numbers) - self.other.said)
        self.other.payloads |= {*numbers}
        return [self.take(number) for number in numbers]

    def take(self, number: int, payload: bytes | None = None) -> Event:
        return DataReceived(
            peer=self.peer,
            payload=payload or payload_of(self.other.name, number),
            headers={"word": str(number)},
        )

    def test_a_payload_is_a_word_like_any_other(self) -> None:
        [payload] = self.sends(self.said + 2)
        [event] = self.hear(self.said + 1)
        for each in (event, payload):
            self.see(each)
        self.swarm._check()

    def test_a_payload_that_arrives_twice(self) -> None:
        self.assertFound("order", self.sends(self.said + 1) * 2)

    def test_a_payload_that_is_missing(self) -> None:
        self.swarm.net.run(60.0)
        event, _, gap = self.sends(*(self.said + number for number in (1, 2, 3)))
        self.see(event)
        self.swarm.net.run(0.1)
        self.assertFound("lost", [gap])

    def test_a_payload_that_overtakes_chat(self) -> None:
        [payload] = self.sends(self.said + 2)
        [event] = self.hear(self.said + 1)
        self.assertFound("order", [payload, event])

    def next(self, *, pieces: bool) -> int:
        """The next word that is large, or small, if it is a payload."""
        first = self.said + 1
        return next(n for n in range(first, first + 60) if needs_pieces(n) is pieces)

    def test_chat_that_overtakes_a_small_payload(self) -> None:
        [payload] = self.sends(self.next(pieces=False))
        self.says(1)
        [event] = self.hear(self.other.said)
        self.assertFound("order", [event, payload])

    def test_chat_that_overtakes_a_large_payload(self) -> None:
        """And a small one that waits behind it, but none that is sent later."""
        number = self.next(pieces=True)
        large, small = self.sends(number, number + 1)
        self.says(1)
        for event in (*self.hear(self.other.said), large, small):
            self.see(event)
        self.swarm._check()
        self.swarm.net.run(1.0)
        [late] = self.sends(self.other.said + 1)
        self.says(1)
        self.assertFound("order", [*self.hear(self.other.said), late])

    def test_those_that_speak_only_mesh1_miss_payloads_and_nothing_else(self) -> None:
        self.swarm.net.run(60.0)
        self.one.machine.mesh2 = False
        self.says(4)
        self.other.payloads |= {self.said + 2}
        first, event, gap = self.hear(*(self.said + n for n in (1, 3, 5)))
        self.see(first)
        self.see(event)
        self.swarm._check()
        self.says(1)
        self.assertFound("lost", [gap])

    def test_a_payload_of_other_bytes(self) -> None:
        self.sends(self.said + 1)
        payload = payload_of(self.other.name, self.said + 1)
        self.assertFound("changed", [self.take(self.said + 1, payload + b" ")])

    def test_a_payload_of_somebody_else(self) -> None:
        payload = payload_of(self.one.name, 1)
        self.assertFound("author", [self.take(1, payload)])

    def test_a_first_word_that_is_missing(self) -> None:
        """The link is new, and nothing was in the way."""
        self.one.fresh.clear()
        self.other.joined[self.one.name] = [self.said]
        self.says(2)
        self.assertFound("lost", self.hear(self.said + 2))

    def test_a_peer_by_the_wrong_protocol(self) -> None:
        self.one.connected.clear()
        self.one.machine.mesh2 = False
        event = PeerConnected(peer=self.peer, peer_count=1, max_peers=20)
        self.assertFound("protocol", [event])

    def test_a_link_that_ends_though_nothing_has_touched_it(self) -> None:
        event = PeerDisconnected(peer=self.peer, reason=CloseReason.CLOSED_BY_PEER)
        self.assertFound("parted", [event])

    def test_a_link_that_ends_after_a_fault(self) -> None:
        self.swarm.calm.disturb(self.other.number)
        self.swarm.calm.relieve(self.other.number)
        event = PeerDisconnected(peer=self.peer, reason=CloseReason.CLOSED_BY_PEER)
        self.see(event)
        self.swarm._check()

    def test_a_payload_that_misses_a_peer(self) -> None:
        with patch.object(MeshNode, "broadcast", lambda *_: Delivery(())):
            self.one.send()
        self.assertFound("missed")

    def test_a_payload_for_one_that_speaks_only_mesh1(self) -> None:
        self.other.machine.mesh2 = False
        self.one.send()
        self.assertFound("missed")

    def second_link(self) -> None:
        """The two shake hands once more."""
        net, ends = self.swarm.net, (self.one, self.other)
        near, far = (
            Transport(who.machine, Protocol(), *[address(who.place.host, 1)] * 2)
            for who in ends
        )
        there, back = (who.place.host for who in ends)
        join(near, far, net.way(there, back), net.way(back, there), net)
        for step in (b"one:one\t\n", b"HELLO +0\n", b"READY\n"):
            near.write(step)

    def test_a_second_link_of_a_pair(self) -> None:
        """It is found in the moment in which READY is said there."""
        self.second_link()
        self.assertFound("two links")
        self.assertIn("node-1 has 2 links with node-2", str(self.swarm._broken[0]))

    def test_a_second_link_that_follows_the_first(self) -> None:
        """One that its node has given up may still send what is queued."""
        [first] = self.one.machine.transports
        first.protocol._over = True  # type: ignore[union-attr]
        self.second_link()
        self.swarm._check()

    def test_how_many_links_a_pair_may_have(self) -> None:
        """One of mesh/2, two of mesh/1, and both nodes know the same ones."""
        mesh = [self.one, self.other]
        self.assertTrue(pairs_agree(mesh, 1))
        self.assertFalse(pairs_agree(mesh, 2))
        entries = [who.node._registry.entries()[0] for who in mesh]
        entries[0].second = entries[0].link
        self.assertFalse(pairs_agree(mesh, 2))
        entries[1].second = entries[1].link
        self.assertFalse(pairs_agree(mesh, 2))
        self.one.machine.mesh2 = False
        self.assertTrue(pairs_agree(mesh, 2))
        self.assertFalse(pairs_agree(mesh, 1))

    def test_who_has_not_heard_the_last_word(self) -> None:
        """To those that speak only mesh/1 that is the last line of chat."""
        mesh = [self.one, self.other]
        self.swarm.net.run(1.0)
        self.assertEqual(unheard(mesh), [])
        self.says(1)
        self.assertEqual(unheard(mesh), ["node-1 has not heard node-2"])
        self.other.payloads.add(self.other.said)
        self.assertEqual(unheard(mesh), ["node-1 has not heard node-2"])
        self.one.machine.mesh2 = False
        self.assertEqual(unheard(mesh), [])

    def test_an_error_in_the_log(self) -> None:
        log = Logger(source=self)
        globalLogPublisher.addObserver(self.swarm)
        self.addCleanup(globalLogPublisher.removeObserver, self.swarm)
        log.error("something broke")
        self.assertFound("logged")
        self.assertIn("something broke", str(self.swarm._broken[0]))

    def test_whatever_is_raised_is_part_of_the_result(self) -> None:
        with patch.object(MeshNode, "start", side_effect=KeyError("x")):
            run = play(1)
        self.assertEqual(run.rule, "raised")
        self.assertIn("KeyError", run.violation or "")

    @slow
    def test_going_round_in_circles(self) -> None:
        swarm = Swarm(1)

        def again() -> None:
            swarm.net.clock.callLater(0, again)

        again()
        self.assertEqual(swarm.run().rule, "endless")


class CalmTests(SynchronousTestCase):
    """Between whom nothing has gone wrong, and for how long."""

    def setUp(self) -> None:
        self.now = 0.0
        self.calm = Calm(lambda: self.now)

    def test_from_the_start(self) -> None:
        self.assertEqual(self.calm.since("one", "other"), 0.0)

    def test_not_while_a_fault_lasts(self) -> None:
        self.calm.disturb("one")
        self.assertEqual(self.calm.since("one", "other"), float("inf"))
        self.assertEqual(self.calm.since("other"), 0.0)

    def test_since_the_last_of_several_has_ended(self) -> None:
        self.calm.disturb("one")
        self.calm.disturb("one")
        self.now = 1.0
        self.calm.relieve("one")
        self.assertEqual(self.calm.since("one"), float("inf"))
        self.now = 2.0
        self.calm.relieve("one")
        self.now = 3.0
        self.assertEqual(self.calm.since("one", "other"), 2.0)


class BrokenNodeTests(SynchronousTestCase):
    """Nodes with a fault of their own: whole runs find each of them."""

    timeout = 600

    def assertFound(
        self, rule: str, target: Any, name: str, broken: Any, *, first: int = 0
    ) -> None:
        with patch.object(target, name, broken):
            rules = (play(seed).rule for seed in range(first, first + 200))
            found = next((found for found in rules if found), None)
        self.assertEqual(found, rule)

    @slow
    def test_a_limit_of_seats_that_is_not_kept(self) -> None:
        self.assertFound("seats", Registry, "_is_full", lambda registry: False)

    @slow
    def test_a_limit_of_dials_that_is_not_kept(self) -> None:
        def has_room(dialer: Dialer, *, wanted: bool = False) -> bool:
            return dialer._running

        self.assertFound("bound", Dialer, "_has_room", has_room)

    @slow
    def test_a_limit_of_handshakes_that_is_not_kept(self) -> None:
        def add(pending: PendingLinks, link: Any) -> Pending:
            pending._links[link] = "somewhere"
            pending._hosts["somewhere"] += 1
            return Pending()

        self.assertFound("bound", PendingLinks, "add", add)

    @slow
    def test_a_queue_without_end(self) -> None:
        original = Outbox.__init__

        def endless(outbox: Outbox, *args: Any, **options: Any) -> None:
            original(outbox, *args, **options | {"limit": 1 << 40})

        # Of the seeds before that none fills a queue.
        self.assertFound("bound", Outbox, "__init__", endless, first=140)

    def test_links_that_keep_the_reactor(self) -> None:
        original = Turns.__init__

        def endless(turns: Turns) -> None:
            original(turns)
            turns.seconds = inf

        self.assertFound("late", Turns, "__init__", endless, first=576)

    def test_a_second_link_that_is_lost_sight_of(self) -> None:
        """Of a pair that speaks mesh/1."""
        original = Peers.established

        def forget(peers: Peers, entry: PeerEntry, link: IPeerLink) -> None:
            original(peers, entry, link)
            entry.second = None

        self.assertFound("pairs", Peers, "established", forget, first=25)

    def welcome_both(self) -> None:
        """Nodes that dial each other at once welcome both dials."""

        def ready(pairs: PairRules, link: IPeerLink, *, seats: int) -> Decision[Any]:
            return pairs._establish(pairs._keys[link], link)

        for name, broken in (("_wins", lambda *_: False), ("welcome", ready)):
            patched = patch.object(Pairs, name, broken)
            patched.start()
            self.addCleanup(patched.stop)

    def test_two_links_of_a_pair_that_close_each_other(self) -> None:
        self.welcome_both()
        ready = Pairs.welcome
        self.assertFound("parted", Pairs, "welcome", ready, first=5)

    def test_two_links_of_a_pair_that_both_live(self) -> None:
        """And nothing is told of the second, so that only the wire shows it."""
        self.welcome_both()
        seat, established = Introductions._seat, Peers.established

        def keep(pairs: PairRules, key: PeerKey, link: IPeerLink) -> Decision[Any]:
            pair = pairs._pairs[key]
            leg = pair.leg_of(link)
            pairs._keep(key, replace(pair.without(link), established=leg))
            return Decision(key, Established())

        def share(introductions: Introductions, link: IPeerLink, key: PeerKey) -> None:
            entry = introductions._registry.of_key(key)
            if entry is None:
                seat(introductions, link, key)
            else:
                link.seat = entry

        def keep_quiet(peers: Peers, entry: PeerEntry, link: IPeerLink) -> None:
            if entry.link is link:
                established(peers, entry, link)

        with (
            patch.object(Introductions, "_seat", share),
            patch.object(Peers, "established", keep_quiet),
        ):
            self.assertFound("two links", Pairs, "_establish", keep, first=5)

    @slow
    def test_a_handshake_that_may_take_for_ever(self) -> None:
        """One that is silent at some step is never given up."""
        self.assertFound(
            "whole", MeshProtocol, "_deadline_passed", lambda link: None, first=6
        )

    def test_a_payload_that_is_lost(self) -> None:
        original = Payloads._received
        received: Counter[Payloads] = Counter()

        def lose(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            received[payloads] += 1
            if received[payloads] % 5 == 0:
                return None
            return original(payloads, link, entry, data)

        self.assertFound("lost", Payloads, "_received", lose, first=1)

    def test_a_payload_that_is_told_twice(self) -> None:
        original = Payloads._received

        def stutter(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            original(payloads, link, entry, data)
            return original(payloads, link, entry, data)

        self.assertFound("order", Payloads, "_received", stutter)

    def test_a_payload_that_overtakes_chat(self) -> None:
        original = Fanout.payload

        def hasten(
            fanout: Fanout, data: Data, entries: tuple[PeerEntry, ...]
        ) -> Delivery:
            gathered, fanout._gathered = fanout._gathered, defaultdict(list)
            delivery = original(fanout, data, entries)
            fanout._gathered = gathered
            fanout.flush()
            return delivery

        self.assertFound("order", Fanout, "payload", hasten)

    def test_a_payload_that_loses_its_end(self) -> None:
        original = Payloads._received

        def cut(
            payloads: Payloads, link: IPeerLink, entry: PeerEntry, data: Data
        ) -> Data | None:
            shorter = replace(data, payload=data.payload[:-1])
            return original(payloads, link, entry, shorter)

        self.assertFound("changed", Payloads, "_received", cut)

    def test_missed_peers_that_are_not_told(self) -> None:
        original = Fanout.payload

        def hide(
            fanout: Fanout, data: Data, entries: tuple[PeerEntry, ...]
        ) -> Delivery:
            return Delivery(original(fanout, data, entries).peers)

        self.assertFound("missed", Fanout, "payload", hide, first=2)

    def test_a_timer_that_is_never_stopped(self) -> None:
        self.assertFound("stop", Loop, "stop", lambda loop: None)

    @slow
    def test_addresses_that_are_forgotten(self) -> None:
        def forget(book: AddressBook, target: Any, *_: Any, **__: Any) -> Forgotten:
            record = book._record(target)
            record.dialling = False
            book._forget(record)
            return Forgotten()

        self.assertFound("whole", AddressBook, "dial_failed", forget)

    def test_a_word_said_twice(self) -> None:
        original = MeshNode.broadcast

        def stutter(node: MeshNode, *said: Any) -> Delivery:
            original(node, *said)
            return original(node, *said)

        self.assertFound("order", MeshNode, "broadcast", stutter)

    def test_a_word_left_out(self) -> None:
        original = MeshNode.broadcast
        spoken: Counter[MeshNode] = Counter()

        def mumble(node: MeshNode, *said: Any) -> Delivery:
            if len(said) == 1:
                spoken[node] += 1
                if spoken[node] % 5 == 0:
                    return Delivery(())
            return original(node, *said)

        self.assertFound("lost", MeshNode, "broadcast", mumble, first=1)

    def test_a_run_that_lacks_a_word(self) -> None:
        original = Announcer._tell_run

        def careless(
            self: Announcer,
            peer: Peer,
            texts: tuple[str, ...],
            begin: int,
            end: int,
        ) -> int:
            return original(self, peer, texts, min(begin + 1, len(texts)), end)

        self.assertFound("runs", Announcer, "_tell_run", careless)
