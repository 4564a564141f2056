"""Handshakes of mesh/2: who gets a seat, what is told, what becomes of a dial."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.errors import (
    HandshakeFailed,
    HandshakeRejected,
    MeshFull,
    NotRunning,
    SelfConnection,
)
from meshproto.events import (
    CloseReason,
    ConnectionFailed,
    Direction,
    Event,
    Peer,
    PeerRefused,
)
from meshproto.mesh.dials import Dials
from meshproto.mesh.introductions import Introductions
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.identity import key_of
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pairs import (
    REMEMBERED,
    Decision,
    Established,
    SayHello,
    Unwanted,
    Verdict,
    Welcomed,
)
from meshproto.rules.registry import Admitted, Full, Registry
from meshproto.wire.address import PeerAddress, Target
from meshproto.wire.messages import (
    MAX_PAYLOAD,
    Greeting,
    Hello,
    Incarnation,
    Message,
    Ping,
    Ready,
    RefusalReason,
    Welcome,
)
from tests.fakes import Dice, FakeLink

IN = Direction.INCOMING
OUT = Direction.OUTGOING
SEATS = 3
TIMEOUT = 10.0
LIFE = Incarnation(1, "0" * 32)
#: Our dial wins against LESSER only.
LESSER, OURS, GREATER = "a" * 32, "b" * 32, "c" * 32
TARGET = PeerAddress("192.0.2.2", 8002)
ADDRESS = PeerAddress("192.0.2.1", 8001)

#: What is said of a refusal, by whom.
THEY_SAY = {
    RefusalReason.DUPLICATE: "refused, it still has a link to this node",
    RefusalReason.FULL: "refused, it has no seat left",
    RefusalReason.ANOTHER_MESH: "refused, it belongs to another mesh",
    RefusalReason.OURSELVES: "that is this node itself",
    RefusalReason.OUTDATED: "refused, it has met a later life of this node",
    RefusalReason.CLONED: "refused, several nodes use the identity of this one",
    RefusalReason.OTHER: "refused, for a reason that this version does not know",
}
WE_SAY = {
    RefusalReason.DUPLICATE: "it has a link to this node already",
    RefusalReason.FULL: "no seat is left for another peer",
    RefusalReason.ANOTHER_MESH: "it belongs to another mesh",
    RefusalReason.OURSELVES: "that is this node itself",
    RefusalReason.OUTDATED: "this node has met a later life of it",
    RefusalReason.CLONED: "several nodes use its identity",
    RefusalReason.OTHER: "it is not wanted",
}


def hello(identity: str = GREATER, **said: Any) -> Hello:
    known: dict[str, Any] = {
        "identity": identity,
        "incarnation": LIFE,
        "link": 7,
        "id": f"node-{identity[0]}",
        "name": "Bob",
        "mesh": "lan",
    }
    return Hello(**(known | said))


def stranger(number: int) -> str:
    """The identity of one of many nodes; our dials lose against them."""
    return f"f{number:031x}"


class Link(FakeLink):
    """A link that tells its owner of its end, as a connection does."""

    case: IntroductionsCase

    def close(self, reason: CloseReason) -> None:
        if not self.over:
            super().close(reason)
            self.case.ended(self, reason)


class IntroductionsCase(SynchronousTestCase):
    """The introductions of one node, and what its host does for them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.probed: list[IPeerLink] = []
        self.address: PeerAddress | None = ADDRESS
        self.connecting: dict[Target, Deferred[IPeerLink]] = {}
        config = NodeConfig(
            max_peers=SEATS,
            connection_timeout=TIMEOUT,
            mesh="lan",
            headers={"room": "kitchen"},
        )
        self.registry = Registry("alice", SEATS)
        book = AddressBook(lambda host: host == "127.0.0.1", Dice())
        self.dials = Dials(
            config,
            self.registry,
            book,
            self.clock,
            self.events.append,
            connect=self.connect,
            locate=lambda entry, link: None,
        )
        self.dials.start()
        self.introductions = Introductions(
            config,
            self.registry,
            self.dials,
            self.clock,
            self.events.append,
            identity=OURS,
            incarnation=LIFE,
            max_payload=MAX_PAYLOAD,
            own_address=lambda link: self.address,
            probe=self.probed.append,
        )

    def tearDown(self) -> None:
        self.dials.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def connect(self, target: Target) -> Deferred[IPeerLink]:
        return self.connecting.setdefault(target, Deferred())

    # What a host does

    def link(self, direction: Direction, target: Target | None = None) -> Link:
        """A new link; both ends speak mesh/2."""
        link = Link(direction, target=target, opened_at=self.clock.seconds())
        link.case = self
        self.dials.opened(link)
        if target is not None:
            self.connecting.pop(target).callback(link)
        self.introductions.agreed(link)
        return link

    def says(self, link: Link, said: Message) -> Verdict:
        """The far end says something; what follows from it is done."""
        verdict = self.introductions.judge(link, said)
        if isinstance(verdict, Unwanted):
            link.close(CloseReason.REFUSED)
        elif isinstance(verdict, Established):
            entry = self.registry.of_link(link)
            assert entry is not None
            self.dials.linked(link, entry)
            self.dials.met(entry)
        return verdict

    def refused(self, link: Link, reason: RefusalReason) -> None:
        """The far end refuses our dial."""
        self.introductions.turned_away(link, reason)
        link.close(CloseReason.TURNED_AWAY)

    def ended(self, link: Link, reason: CloseReason) -> None:
        self.introductions.link_ended(link)
        self.registry.remove(link)
        self.dials.link_ended(link, reason, "")

    # What others do

    def caller(self, identity: str = GREATER, **said: Any) -> Link:
        """A peer dials us, and is welcome."""
        link = self.link(IN)
        self.assertEqual(self.says(link, hello(identity, **said)), Welcomed())
        return link

    def guest(self, identity: str = GREATER, **said: Any) -> Link:
        """A peer that has dialled us, and is linked."""
        link = self.caller(identity, **said)
        self.assertEqual(self.says(link, Ready()), Established())
        return link

    def old_peer(self, number: int) -> FakeLink:
        """One that speaks only mesh/1."""
        link = FakeLink(remote_host=f"198.51.100.{number}")
        self.assertIsInstance(self.greets(link), Admitted)
        return link

    def greets(self, link: FakeLink) -> object:
        return self.registry.admit(link, Greeting("old", "old"), 0.0)

    def dial(self, target: Target = TARGET) -> tuple[Deferred[Peer], Link]:
        """We dial, and somebody takes the connection."""
        dial = self.dials.dial(target)
        return dial, self.link(OUT, target)

    def greeted(self, identity: str = GREATER) -> tuple[Deferred[Peer], Link]:
        """We dial, and have heard who is there."""
        dial, link = self.dial()
        self.assertIsInstance(self.says(link, hello(identity)), SayHello)
        return dial, link

    def assertRefused(self, dial: Deferred[Peer], kind: type, reason: str) -> None:
        """The dial has failed, and that is told once."""
        error = self.failureResultOf(dial, kind).value
        self.assertIs(type(error), kind)
        self.assertEqual(error.reason, reason)
        failed = [ConnectionFailed(target=TARGET, reason=reason)]
        self.assertEqual(self.events, failed)

    def assertKeepsNothing(self) -> None:
        held = vars(self.introductions)
        self.assertEqual(held["_heard"], {})
        self.assertEqual(held["_seated"], 0)
        pairs = vars(held["_pairs"])
        for name in ("_numbers", "_keys", "_pairs"):
            self.assertEqual(pairs[name], {}, name)
        self.assertLessEqual(len(pairs["_pasts"]), REMEMBERED)
        dials = vars(self.dials)
        self.assertEqual((dials["_unsettled"], dials["_crossed"]), (set(), {}))
        self.assertEqual(len(self.dials), 0)
        self.assertEqual((len(self.registry), self.registry.reserved), (0, 0))


class HelloTests(IntroductionsCase):
    """What the node says of itself."""

    def test_all_of_it(self) -> None:
        self.link(IN)
        link = self.link(IN)
        self.assertEqual(
            self.introductions.own_hello(link, Greeting("alice", "Alice"), 5),
            Hello(
                identity=OURS,
                incarnation=LIFE,
                link=2,
                ended=5,
                id="alice",
                name="Alice",
                mesh="lan",
                addresses=(ADDRESS,),
                headers=(("room", "kitchen"),),
            ),
        )

    def test_no_address_is_known(self) -> None:
        self.address = None
        said = self.introductions.own_hello(self.link(IN), Greeting("a", "a"), None)
        self.assertEqual((said.addresses, said.ended), ((), None))

    def test_a_dialler_names_the_link_that_ended(self) -> None:
        """By the number of the peer, to the same life of it."""
        self.guest(link=9).close(CloseReason.CONNECTION_LOST)
        for life, ended in ((LIFE, 9), (Incarnation(2, "2" * 32), None)):
            dial, link = self.dial()
            said = hello(incarnation=life)
            self.assertEqual(self.says(link, said), SayHello(ended))
            link.close(CloseReason.CLOSED_BY_PEER)
            self.failureResultOf(dial, HandshakeFailed)

    def test_nothing_else_is_judged(self) -> None:
        link = self.link(IN)
        self.assertRaises(TypeError, self.introductions.judge, link, Ping())


class SeatTests(IntroductionsCase):
    """Both protocols share the seats."""

    def test_a_handshake_keeps_its_seat(self) -> None:
        """From WELCOME on, and until READY."""
        link = self.caller()
        self.assertEqual((len(self.registry), self.registry.reserved), (0, 1))
        self.says(link, Ready())
        self.assertEqual((len(self.registry), self.registry.reserved), (1, 0))
        entry = self.registry.of_link(link)
        assert entry is not None
        self.assertEqual((entry.id, entry.name), ("node-c", "Bob"))
        self.assertEqual(entry.key, key_of(hello(), proven=False))
        link.close(CloseReason.CLOSED_BY_PEER)
        self.assertKeepsNothing()

    def test_a_handshake_that_ends_gives_it_back(self) -> None:
        link = self.caller()
        link.close(CloseReason.HANDSHAKE_TIMEOUT)
        self.assertKeepsNothing()

    def test_two_links_of_a_pair_have_one(self) -> None:
        first, second = self.caller(), self.caller(link=8)
        self.assertEqual(self.registry.reserved, 1)
        self.says(second, Ready())
        self.assertEqual((len(self.registry), self.registry.reserved), (1, 0))
        self.assertEqual(first.closed, CloseReason.CROSSED)

    def test_an_old_peer_at_the_bound_and_one_past_it(self) -> None:
        """Seats that are kept count as if they were taken."""
        for taken in range(SEATS - 1):
            self.caller(stranger(taken))
        link = self.old_peer(1)
        one_more = FakeLink(remote_host="198.51.100.2")
        self.assertEqual(self.greets(one_more), Full())
        self.registry.remove(link)
        self.assertIsInstance(self.greets(one_more), Admitted)

    def test_a_newcomer_at_the_bound_and_one_past_it(self) -> None:
        for number in range(SEATS - 1):
            self.old_peer(number)
        link = self.guest(stranger(1))
        late = self.link(IN)
        full = Unwanted(RefusalReason.FULL)
        self.assertEqual(self.says(late, hello(stranger(2))), full)
        link.close(CloseReason.CLOSED_BY_PEER)
        self.guest(stranger(2))

    def test_one_newcomer_after_the_other(self) -> None:
        """Whoever is linked has one seat, not two."""
        for number in range(SEATS):
            self.guest(stranger(number))
        full = Unwanted(RefusalReason.FULL)
        self.assertEqual(self.says(self.link(IN), hello()), full)
        self.assertEqual(self.greets(FakeLink()), Full())

    def test_where_old_peers_have_every_seat(self) -> None:
        old = [self.old_peer(number) for number in range(SEATS)]
        full = Unwanted(RefusalReason.FULL)
        self.assertEqual(self.says(self.link(IN), hello()), full)
        self.registry.remove(old[0])
        self.guest()

    def test_a_dial_at_the_bound_and_one_past_it(self) -> None:
        """Others may come in while we wait for WELCOME: the link gives way."""
        for others, verdict in (
            (SEATS - 1, Established()),
            (SEATS, Unwanted(RefusalReason.FULL)),
        ):
            self.events.clear()
            dial, link = self.greeted()
            here = [self.caller(stranger(number)) for number in range(others)]
            self.assertEqual(self.says(link, Welcome()), verdict)
            if others < SEATS:
                self.assertEqual(self.successResultOf(dial).id, "node-c")
                self.assertEqual(len(self.registry) + self.registry.reserved, SEATS)
            else:
                self.assertRefused(dial, MeshFull, "no seat is left for another peer")
            for each in (*here, link):
                each.close(CloseReason.CLOSED_BY_PEER)
            self.assertKeepsNothing()


class UnwantedTests(IntroductionsCase):
    """What we do not want."""

    def decide(self, reason: RefusalReason) -> None:
        """Have every HELLO be unwanted; some never are where identities are claims."""

        def unwanted(
            link: Link, direction: object, said: Hello, host: str, **seats: object
        ) -> Decision[IPeerLink]:
            return Decision(key_of(said, proven=False), Unwanted(reason))

        self.patch(vars(self.introductions)["_pairs"], "hello", unwanted)

    def test_whoever_dials_us_is_told_of(self) -> None:
        """But not where both have dialled, or one node itself."""
        for reason in RefusalReason:
            self.decide(reason)
            self.says(self.link(IN), hello())
            told = [
                PeerRefused(id="node-c", name="Bob", host="192.0.2.2", reason=text)
                for text in [WE_SAY.get(reason)]
                if text and reason is not RefusalReason.OURSELVES
            ]
            self.assertEqual(self.events, told, reason)
            self.events.clear()
            self.assertKeepsNothing()

    def test_our_own_dial_fails(self) -> None:
        kinds = {
            RefusalReason.OURSELVES: SelfConnection,
            RefusalReason.FULL: MeshFull,
        }
        self.assertEqual({*WE_SAY, RefusalReason.CROSSING}, {*RefusalReason})
        for number, (reason, text) in enumerate(WE_SAY.items()):
            target = PeerAddress("192.0.2.2", 8002 + number)
            self.decide(reason)
            dial, link = self.dial(target)
            self.says(link, hello())
            kind = kinds.get(reason, HandshakeRejected)
            error = self.failureResultOf(dial, kind).value
            self.assertIs(type(error), kind)
            self.assertEqual(error.reason, text)
            failed = ConnectionFailed(target=target, reason=text)
            self.assertEqual(self.events, [failed], reason)
            self.events.clear()
            self.assertKeepsNothing()

    def test_our_own_dial_gives_way(self) -> None:
        """WELCOME comes when the peer's own dial, which wins, has been welcomed."""
        dial, link = self.greeted()
        theirs = self.caller()
        crossing = Unwanted(RefusalReason.CROSSING)
        self.assertEqual(self.says(link, Welcome()), crossing)
        self.assertNoResult(dial)
        self.says(theirs, Ready())
        self.assertEqual(self.successResultOf(dial).id, "node-c")
        self.assertEqual(self.events, [])

    def test_a_peer_that_has_a_link_already(self) -> None:
        """The dial has led to it, and the link that is there is not probed."""
        guest = self.guest()
        dial, link = self.dial()
        duplicate = Unwanted(RefusalReason.DUPLICATE)
        self.assertEqual(self.says(link, hello()), duplicate)
        self.assertEqual(self.successResultOf(dial).id, "node-c")
        self.assertEqual((self.events, self.probed), ([], []))
        self.assertIsNone(guest.closed)

    def test_a_newcomer_has_the_link_that_is_there_probed(self) -> None:
        guest = self.guest()
        self.says(self.link(IN), hello())
        self.assertEqual(self.probed, [guest])
        (told,) = self.events
        assert isinstance(told, PeerRefused)
        self.assertEqual(told.reason, WE_SAY[RefusalReason.DUPLICATE])

    def test_who_may_have_started_anew_has_it_probed_too(self) -> None:
        guest = self.guest()
        self.guest(incarnation=Incarnation(2, "2" * 32))
        self.assertEqual(self.probed, [guest])
        self.assertEqual(len(self.registry), 2)

    def test_another_mesh_and_ourselves(self) -> None:
        for said, reason in (
            (hello(mesh="wan"), RefusalReason.ANOTHER_MESH),
            (hello(OURS), RefusalReason.OURSELVES),
        ):
            self.assertEqual(self.says(self.link(IN), said), Unwanted(reason))

    def test_our_dial_is_under_way_and_wins(self) -> None:
        dial, link = self.greeted(LESSER)
        crossing = Unwanted(RefusalReason.CROSSING)
        self.assertEqual(self.says(self.link(IN), hello(LESSER)), crossing)
        self.assertEqual(self.says(link, Welcome()), Established())
        self.assertEqual(self.successResultOf(dial).id, "node-a")
        self.assertEqual(self.events, [])

    def test_nobody_hears_of_a_peer_before_ready(self) -> None:
        """Two dials of one peer: the other one is settled when it is announced."""
        first, link = self.greeted(LESSER)
        second, other = self.dial(PeerAddress("192.0.2.2", 8003))
        self.says(other, hello(LESSER))
        self.assertEqual(self.introductions.judge(link, Welcome()), Established())
        self.assertTrue(other.over)
        self.assertNoResult(first)
        self.assertNoResult(second)
        entry = self.registry.of_link(link)
        assert entry is not None
        self.dials.linked(link, entry)
        self.dials.met(entry)
        for dial in (first, second):
            self.assertEqual(self.successResultOf(dial).id, "node-a")
        self.assertEqual(self.events, [])


class TurnedAwayTests(IntroductionsCase):
    """What the far end does not want."""

    def test_the_dial_fails(self) -> None:
        self.assertEqual({*THEY_SAY, RefusalReason.CROSSING}, {*RefusalReason})
        for number, (reason, text) in enumerate(THEY_SAY.items()):
            target = PeerAddress("192.0.2.2", 8002 + number)
            dial, link = self.dial(target)
            self.says(link, hello())
            self.refused(link, reason)
            error = self.failureResultOf(dial, HandshakeRejected).value
            self.assertEqual(error.reason, text)
            failed = ConnectionFailed(target=target, reason=text)
            self.assertEqual(self.events, [failed], reason)
            self.events.clear()
            self.assertKeepsNothing()

    def test_it_has_come_itself_meanwhile(self) -> None:
        """Whatever it says: the dial has led to it."""
        for number, reason in enumerate(RefusalReason):
            target = PeerAddress("192.0.2.2", 8002 + number)
            dial, link = self.dial(target)
            self.says(link, hello())
            guest = self.caller()
            self.says(guest, Ready())
            self.assertEqual(self.successResultOf(dial).id, "node-c")
            self.refused(link, reason)
            guest.close(CloseReason.CLOSED_BY_PEER)
            self.assertEqual(self.events, [], reason)
            self.assertKeepsNothing()

    def test_a_refusal_that_comes_before_hello(self) -> None:
        """The table of a link lets none through; and nothing breaks."""
        dial, link = self.dial()
        self.introductions.turned_away(link, RefusalReason.FULL)
        self.assertNoResult(dial)
        link.close(CloseReason.PROTOCOL_ERROR)
        self.failureResultOf(dial, HandshakeFailed)


class GaveWayTests(IntroductionsCase):
    """A dial that gave way to the dial of its peer."""

    def gives_way(self, reason: RefusalReason) -> tuple[Deferred[Peer], Link | None]:
        """Our dial is refused so; with DUPLICATE the peer's own dial is welcomed."""
        dial, link = self.greeted()
        duplicate = reason is RefusalReason.DUPLICATE
        theirs = self.caller() if duplicate else None
        self.refused(link, reason)
        self.assertNoResult(dial)
        self.assertEqual(len(self.dials), 1)
        return dial, theirs

    def test_it_is_linked_when_the_peer_comes(self) -> None:
        for reason in (RefusalReason.CROSSING, RefusalReason.DUPLICATE):
            dial, theirs = self.gives_way(reason)
            self.clock.advance(TIMEOUT - 0.01)
            self.assertNoResult(dial)
            theirs = theirs or self.caller()
            self.says(theirs, Ready())
            self.assertEqual(self.successResultOf(dial).id, "node-c")
            self.assertEqual(self.events, [])
            theirs.close(CloseReason.CLOSED_BY_PEER)
            self.clock.advance(TIMEOUT)
            self.assertKeepsNothing()

    def test_it_fails_when_the_peer_does_not_come(self) -> None:
        for reason in (RefusalReason.CROSSING, RefusalReason.DUPLICATE):
            dial, theirs = self.gives_way(reason)
            if theirs is not None:
                theirs.close(CloseReason.CONNECTION_LOST)
            self.clock.advance(TIMEOUT - 0.01)
            self.assertNoResult(dial)
            self.clock.advance(0.01)
            text = "refused, it dials this node itself"
            self.assertRefused(dial, HandshakeRejected, text)
            self.events.clear()
            self.assertKeepsNothing()

    def test_another_peer_does_not_count(self) -> None:
        dial, _ = self.gives_way(RefusalReason.CROSSING)
        self.guest(stranger(1))
        self.assertNoResult(dial)
        self.clock.advance(TIMEOUT)
        self.failureResultOf(dial, HandshakeRejected)

    def test_each_has_the_whole_time(self) -> None:
        """However long another one has waited already."""
        first, _ = self.gives_way(RefusalReason.CROSSING)
        self.clock.advance(TIMEOUT - 1)
        second, link = self.dial(PeerAddress("192.0.2.3", 8003))
        self.says(link, hello(stranger(1)))
        self.refused(link, RefusalReason.CROSSING)
        self.clock.advance(1)
        self.failureResultOf(first, HandshakeRejected)
        self.clock.advance(TIMEOUT - 1.01)
        self.assertNoResult(second)
        self.clock.advance(0.01)
        self.failureResultOf(second, HandshakeRejected)

    def test_it_is_given_up_with_the_node(self) -> None:
        dial, _ = self.gives_way(RefusalReason.CROSSING)
        self.dials.stop()
        self.failureResultOf(dial, NotRunning)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ForgettingTests(IntroductionsCase):
    """What is kept does not grow."""

    def test_a_thousand_links_have_come_and_gone(self) -> None:
        """Each at another step of its handshake, and each with another peer."""
        for number in range(1050):
            other = stranger(number)
            match number % 7:
                case 0:
                    link = self.link(IN)
                case 1:
                    link = self.caller(other)
                case 2:
                    link = self.guest(other)
                case 3:
                    link = self.link(IN)
                    self.says(link, hello(other, mesh="wan"))
                case 4:
                    link = self.gone(other, None)
                case 5:
                    link = self.gone(other, RefusalReason.CROSSING)
                case _:
                    link = self.gone(other, RefusalReason.FULL)
            link.close(CloseReason.CLOSED_BY_PEER)
            self.clock.advance(TIMEOUT)
        self.assertKeepsNothing()

    def gone(self, identity: str, reason: RefusalReason | None) -> Link:
        """A dial that is refused, or that leads to a peer."""
        dial, link = self.dial()
        dial.addErrback(lambda failure: None)
        self.says(link, hello(identity))
        if reason is None:
            self.says(link, Welcome())
        else:
            self.refused(link, reason)
        return link
