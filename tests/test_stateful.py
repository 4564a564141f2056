"""Anything that may happen to a node, in any order: state machines.

`SeatMachine` drives the parts that decide (registry, sessions, address book)
without a connection; `MeshMachine` drives whole nodes on a simulated network.
The environment may ask for more examples than can be played every day, and
then for other ones with every run; trial gives them the time that they need::

    MESHPROTO_EXAMPLES=2000 python -m twisted.trial tests.test_stateful
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar, assert_never

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from meshproto.config import PROTOCOLS
from meshproto.events import (
    ChatReceived,
    Direction,
    Event,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.mesh.node import MeshNode
from meshproto.rules.addressbook import AddressBook, Forgotten, Retry
from meshproto.rules.effects import (
    Ask,
    Effect,
    End,
    Establish,
    Greet,
    Introduce,
    Notify,
    Send,
    TurnedAway,
)
from meshproto.rules.identity import PeerKey
from meshproto.rules.pending import PendingLinks, Turned
from meshproto.rules.registry import (
    OWN_HOST,
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Halved,
    Itself,
    Left,
    PeerEntry,
    Registry,
    Replaced,
    Stranger,
    Verdict,
    host_key,
)
from meshproto.rules.session import Session, State
from meshproto.testing import SimNetwork
from meshproto.wire.address import PeerAddress, Target, is_loopback
from meshproto.wire.messages import (
    Chats,
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)
from tests.fakes import FakeLink, entry_of, peer_key
from tests.slow import examples

EXAMPLES = int(os.environ.get("MESHPROTO_EXAMPLES", "0"))

T = TypeVar("T")


def many(count: int, steps: int) -> settings:
    """So many runs, always the same, unless the environment wants more."""
    return settings(
        max_examples=EXAMPLES or examples(count),
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        # To shrink one failure fits into the time that a test has.
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


OWN_ID = "alice"
SEATS = 3
PENDING = 4
PENDING_PER_HOST = 2
BOOK = 10
BOOK_PER_PEER = 4
MAX_FAILURES = 3
OWN_PORT = 8001

#: An entry of no registry.
NOBODY = entry_of(FakeLink(remote_host="192.0.2.9"), Greeting("nobody", "nobody"))

HOSTS = st.sampled_from(["192.0.2.2", "192.0.2.2", "192.0.2.3", "127.0.0.1"])
IDS = st.sampled_from([OWN_ID, "bob", "bob", "zoe"])
ADDRESSES = st.builds(
    PeerAddress,
    st.sampled_from(["192.0.2.2", "192.0.2.3", "node.example"]),
    st.integers(1022, 1030),
)
MESSAGES = st.one_of(
    st.sampled_from(
        [Ping(), Pong(), RequestPeers(), Chats(("hi", "there")), PeerList(())]
    ),
    st.sampled_from([Greeting("bob", "bob"), *Refusal]),
    # Twice: gossip has to fill the book.
    *2 * [st.lists(ADDRESSES, max_size=8).map(lambda told: PeerList(tuple(told)))],
)
LATE_VERDICTS = st.sampled_from(
    [Admitted(NOBODY), Replaced(NOBODY, NOBODY), Crossed(NOBODY), Full()]
)
PICKS = st.integers(0, 99)


def picked(things: Iterable[T], pick: int) -> T | None:
    """One of the things, None where there is none."""
    choice = list(things)
    return choice[pick % len(choice)] if choice else None


class SeatMachine(RuleBasedStateMachine):
    """One node without its connections: who has a seat, and who is known.

    It carries out what the sessions, the registry and the book decide, as the
    floors above them do, and looks whether the three agree at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(OWN_ID, SEATS)
        self.pending = PendingLinks(PENDING, PENDING_PER_HOST)
        self.book = AddressBook(
            is_loopback,
            random.Random(0),
            limit=BOOK,
            limit_per_peer=BOOK_PER_PEER,
            max_failures=MAX_FAILURES,
        )
        self.book.own_port = OWN_PORT
        self.now = 0.0
        self.sessions: dict[FakeLink, Session] = {}
        self.over: dict[FakeLink, Session] = {}
        self.unfinished: dict[FakeLink, None] = {}
        self.dialling: dict[Target, None] = {}
        self.given: set[Target] = set()
        self.proven: set[Target] = set()
        #: Who has been announced to the application and has not left.
        self.announced: list[PeerEntry] = []
        #: Whose word an address is in the book on.
        self.sources: dict[Target, PeerKey] = {}

    # What happens

    # Few rules with much in each: of many, a run of hypothesis leaves out most.

    @rule(host=HOSTS, id=st.none() | IDS)
    def somebody_dials(self, host: str, id: str | None) -> None:
        self.somebody_dials_us(host, id)

    def somebody_dials_us(self, host: str, id: str | None) -> None:
        link = FakeLink(
            Direction.INCOMING, remote_host=host, same_machine=is_loopback(host)
        )
        before = Counter(map(host_key, self.unfinished))[host_key(link)]
        decision = self.pending.add(link)
        if isinstance(decision, Turned):
            assert before == PENDING_PER_HOST
            assert not link.same_machine
            return
        if decision.evicted is not None:
            assert decision.evicted is next(iter(self.unfinished))
            self.end(decision.evicted)
        self.sessions[link] = Session(link.direction)
        self.unfinished[link] = None
        if id is not None:
            self.hear(link, Greeting(id, id))

    @precondition(lambda self: self.has_room())
    @rule(
        address=ADDRESSES,
        pick=st.none() | PICKS,
        host=st.none() | HOSTS,
        id=st.none() | IDS,
        crossing=st.booleans(),
    )
    def we_dial(
        self,
        address: PeerAddress,
        pick: int | None,
        host: str | None,
        id: str | None,
        crossing: bool,
    ) -> None:
        target: Target | None = address
        if pick is not None:
            target = picked(self.book.due(self.now), pick)
        if target is None or target in self.dialling or self.book.is_own(target):
            return
        if self.book.linked_to(target):
            return
        self.book.dial_started(target)
        self.dialling[target] = None
        if host is None:
            return
        link = FakeLink(
            Direction.OUTGOING,
            remote_host=host,
            same_machine=is_loopback(host),
            target=target,
        )
        self.sessions[link] = Session(link.direction)
        if crossing:
            self.somebody_dials_us(host, id)
        if id is not None and link in self.sessions:
            self.hear(link, Greeting(id, id))

    @precondition(lambda self: self.dialling)
    @rule(pick=PICKS)
    def nobody_answers(self, pick: int) -> None:
        answered = {link.target for link in self.sessions}
        target = picked([t for t in self.dialling if t not in answered], pick)
        if target is not None:
            self.dial_failed(target)

    @precondition(lambda self: self.in_state(State.GREETING))
    @rule(pick=PICKS, said=IDS | st.sampled_from(Refusal))
    def a_far_end_says_who_it_is(self, pick: int, said: str | Refusal) -> None:
        link = picked(self.in_state(State.GREETING), pick)
        assert link is not None
        if isinstance(said, str):
            self.hear(link, Greeting(said, said))
        elif link.direction is Direction.OUTGOING:
            # No incoming greeting is read as a refusal.
            self.hear(link, said)
            assert link in self.over

    @precondition(lambda self: self.in_state(State.READY))
    @rule(pick=PICKS, message=MESSAGES)
    def a_far_end_says_anything(self, pick: int, message: Message) -> None:
        link = picked(self.in_state(State.READY), pick)
        assert link is not None
        self.hear(link, message)

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.sessions)
    @rule(pick=PICKS)
    def a_link_ends(self, pick: int) -> None:
        link = picked(self.sessions, pick)
        assert link is not None
        self.end(link)

    @precondition(lambda self: any(e.second for e in self.registry.entries()))
    @rule(pick=PICKS)
    def the_older_of_two_links_was_dead(self, pick: int) -> None:
        entry = picked([e for e in self.registry.entries() if e.second], pick)
        assert entry is not None
        older, newer = entry.links()
        self.end(older, dead=True)
        assert entry.links() == (newer,)
        assert entry in self.announced

    @precondition(lambda self: self.over)
    @rule(pick=PICKS, late=MESSAGES | LATE_VERDICTS)
    def something_comes_too_late(self, pick: int, late: Message | Verdict) -> None:
        session = picked(self.over.values(), pick)
        assert session is not None
        if isinstance(late, Verdict):
            # Whoever hears that a peer is gone may end every link there is,
            # before the newcomer that has replaced it is judged.
            session.judge(late)
        else:
            assert session.receive(late) == ()

    @precondition(lambda self: self.has_room())
    @rule(address=ADDRESSES)
    def the_user_names_an_address(self, address: PeerAddress) -> None:
        self.book.give(address)
        self.given.add(address)
        self.sources.pop(address, None)

    # What is done about it

    def in_state(self, *states: State) -> list[FakeLink]:
        return [link for link, s in self.sessions.items() if s.state in states]

    def session_of(self, link: object) -> Session:
        assert isinstance(link, FakeLink)
        return self.sessions[link]

    def hear(self, link: FakeLink, message: Message) -> None:
        self.carry_out(link, self.sessions[link].receive(message), message)

    def carry_out(
        self,
        link: FakeLink,
        effects: tuple[Effect, ...],
        message: Message | None = None,
    ) -> None:
        for effect in effects:
            if link in self.over:
                return
            match effect:
                case Ask(greeting):
                    assert isinstance(greeting, Greeting)
                    self.judge(link, greeting)
                case Establish():
                    self.ready(link)
                case Notify():
                    assert message is not None
                    self.heard(link, message)
                case TurnedAway():
                    assert link.direction is Direction.OUTGOING
                case Send(answer):
                    assert isinstance(answer, Pong | Refusal)
                    link.sent.append(answer)
                case Greet(mesh2):
                    assert not mesh2
                    assert link.direction is Direction.INCOMING
                    link.sent.append(Greeting(OWN_ID, OWN_ID))
                case End():
                    self.end(link)
                case Introduce():
                    raise AssertionError("that is said on mesh/2")
                case _:
                    assert_never(effect)
        # A far end is answered once, by a welcome or by a refusal.
        said = [m for m in link.sent if isinstance(m, Greeting | Refusal)]
        assert len(said) <= 1, said

    def judge(self, link: FakeLink, greeting: Greeting) -> None:
        before = self.registry.entries()
        verdict = self.registry.admit(link, greeting, self.now)
        key = peer_key(host_key(link), greeting.id)
        self.pending.discard(link)
        self.unfinished.pop(link, None)
        match verdict:
            case Admitted(entry):
                assert entry.key == key
                assert self.registry.entries() == (*before, entry)
            case Replaced(entry, old):
                assert entry.key == old.key == key
                assert link.direction is Direction.OUTGOING
                self.end(old.link)
                assert old not in self.announced
            case Crossed(entry):
                assert entry.key == key
                assert entry.second is link
                assert self.registry.entries() == before
            case Duplicate(entry):
                assert entry.key == key
                assert self.registry.entries() == before
            case Full():
                assert len(before) == SEATS
                assert self.registry.entries() == before
            case Itself():
                assert greeting.id == OWN_ID
                assert link.same_machine
            case _:
                assert_never(verdict)
        self.carry_out(link, self.sessions[link].judge(verdict))

    def ready(self, link: FakeLink) -> None:
        entry = self.registry.of_link(link)
        assert entry is not None
        assert self.sessions[link].state is State.READY
        if entry.second is not link:
            self.announced.append(entry)
        if link.target is not None:
            if link.target in self.dialling:
                del self.dialling[link.target]
                self.book.dial_ended(link.target)
            self.book.link(link.target, entry.key, proven=True)
            self.proven.add(link.target)
            self.sources.pop(link.target, None)

    def heard(self, link: FakeLink, message: Message) -> None:
        entry = self.registry.of_link(link)
        assert entry is not None
        assert not isinstance(message, Greeting | Refusal)
        if isinstance(message, PeerList):
            self.learn(entry, link, message.addresses)

    def learn(
        self, entry: PeerEntry, link: FakeLink, told: tuple[PeerAddress, ...]
    ) -> None:
        before = {each.target: each for each in self.book.known()}
        learned = self.book.learn(told, entry.key, link.remote_host, self.now)
        after = {each.target for each in self.book.known()}
        assert learned.new + learned.skipped <= len(told)
        for target, known in before.items():
            if known.proven or known.bootstrap or known.linked or not known.failures:
                assert target in after, f"gossip pushed {target} out"
        for target in after - set(before):
            assert isinstance(target, PeerAddress)
            assert target.port >= 1024
            self.sources[target] = entry.key

    def dial_failed(self, target: Target) -> None:
        del self.dialling[target]
        before = self.book.failures(target)
        lonely = not self.registry.entries()
        match self.book.dial_failed(target, self.now, lonely=lonely):
            case Retry(delay, failures):
                assert failures == before + 1
                assert 0 <= delay <= (10 if lonely else 60)
                assert target in {each.target for each in self.book.known()}
            case Forgotten():
                assert target not in self.given | self.proven
                assert target not in {each.target for each in self.book.known()}

    def end(self, link: object, *, dead: bool = False) -> None:
        """A link ends: ``dead`` is one that has not answered its probe."""
        assert isinstance(link, FakeLink)
        session = self.sessions.pop(link)
        self.over[link] = session
        session.end()
        self.pending.discard(link)
        self.unfinished.pop(link, None)
        match self.registry.remove(link):
            case Left(entry):
                self.announced.remove(entry)
                lived = self.now - entry.connected_at
                self.book.peer_left(entry.key, self.now, lived)
            case Halved(entry):
                assert entry in self.announced
                assert self.session_of(entry.link).state is State.READY
                assert entry.second is None
                if not dead:
                    self.end(entry.link)
                    assert entry not in self.announced
            case Stranger():
                pass
        if link.target in self.dialling:
            self.dial_failed(link.target)

    def has_room(self) -> bool:
        """Whether one more entry of the book may be of the kind that stays.

        So it is in a node, where seats and dials are bounded.
        """
        linked = {each.target for each in self.book.known() if each.linked}
        kept = self.given | set(self.dialling) | linked
        return len(kept) < BOOK - 1

    # What holds at any time

    @invariant()
    def seats_are_bounded_and_no_peer_has_two(self) -> None:
        entries = self.registry.entries()
        assert len(self.registry) == len(entries) <= SEATS
        assert len({entry.key for entry in entries}) == len(entries)
        for entry in entries:
            assert self.registry.of_key(entry.key) is entry
            assert self.registry.of_id(entry.id).count(entry) == 1
            assert self.registry.at_host(host_key(entry.link)).count(entry) == 1

    @invariant()
    def a_peer_has_one_link_or_two(self) -> None:
        links = [link for e in self.registry.entries() for link in e.links()]
        assert len(set(links)) == len(links)
        for entry in self.registry.entries():
            first, *others = entry.links()
            assert first is entry.link
            assert len(others) <= 1
            for other in others:
                assert other.direction is not first.direction
            for link in entry.links():
                assert self.registry.of_link(link) is entry
                assert peer_key(host_key(link), entry.id) == entry.key

    @invariant()
    def who_has_a_seat_is_who_is_ready(self) -> None:
        for link, session in self.sessions.items():
            entry = self.registry.of_link(link)
            assert session.state not in (State.JUDGING, State.ENDED)
            if session.state is State.READY:
                assert entry is not None
                assert link in (entry.link, entry.second)
            else:
                assert entry is None

    @invariant()
    def the_application_knows_who_has_a_seat(self) -> None:
        seated = {id(entry) for entry in self.registry.entries()}
        assert {id(entry) for entry in self.announced} == seated
        assert len(self.announced) == len(seated)

    @invariant()
    def what_is_over_is_over(self) -> None:
        for link, session in self.over.items():
            assert session.state is State.ENDED
            assert self.registry.of_link(link) is None

    @invariant()
    def unfinished_handshakes_are_bounded(self) -> None:
        assert len(self.pending) == len(self.unfinished) <= PENDING
        for host, count in Counter(map(host_key, self.unfinished)).items():
            assert host == OWN_HOST or count <= PENDING_PER_HOST

    @invariant()
    def the_book_is_bounded(self) -> None:
        assert len(self.book) <= BOOK
        known = {each.target for each in self.book.known()}
        self.sources = {t: key for t, key in self.sources.items() if t in known}
        assert all(n <= BOOK_PER_PEER for n in Counter(self.sources.values()).values())

    @invariant()
    def what_was_given_is_kept(self) -> None:
        known = {each.target for each in self.book.known() if each.bootstrap}
        assert known == self.given

    @invariant()
    def the_book_and_the_seats_agree(self) -> None:
        keys = {entry.key for entry in self.registry.entries()}
        for each in self.book.known():
            linked = self.book.linked_to(each.target)
            assert bool(linked) == each.linked
            assert set(linked) <= keys, f"{each.target} is linked to nobody"
        due = self.book.due(float("inf"))
        assert not set(due) & set(self.dialling)
        assert not any(self.book.linked_to(target) for target in due)


NODES = 4
NUMBERS = st.integers(0, NODES - 1)
THEN = st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 80.0])


@implementer(ILogObserver)
class MeshMachine(RuleBasedStateMachine):
    """Some nodes on a simulated network, and whatever may happen to them.

    The last one speaks only ``mesh/1``.

    While it happens no rule of the mesh is broken.  In the end everything is
    healed, and they are a full mesh in which everybody hears everybody.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = SimNetwork(seed=1, latency=(0.001, 0.02), fragment=0.3)
        self.nodes: list[MeshNode | None] = [None] * NODES
        self.quiet: set[MeshNode] = set()
        self.connected: dict[MeshNode, set[Hashable]] = {}
        self.heard: dict[MeshNode, dict[str, int]] = {}
        self.broken: list[str] = []
        self.said = 0
        self.last_said: dict[str, int] = {}
        self.runs = 0
        globalLogPublisher.addObserver(self)
        self.start(0)
        self.start(1)

    def __call__(self, event: LogEvent) -> None:
        """No error is logged."""
        if event.get("log_level", LogLevel.info) >= LogLevel.error:
            self.broken.append(f"logged: {event.get('log_failure') or event}")

    # What happens, and how long until something else does

    @rule(
        number=NUMBERS, how=st.sampled_from(["stop", "crash", "power_off"]), then=THEN
    )
    def come_or_go(self, number: int, how: str, then: float) -> None:
        node = self.nodes[number]
        if node is None:
            self.start(number)
        else:
            self.nodes[number] = None
            self.quiet.discard(node)
            if how == "stop":
                self.stop(node)
            else:
                getattr(self.net, how)(node)
        self.net.run(then)

    @rule(
        one=NUMBERS,
        other=NUMBERS,
        how=st.sampled_from(["connect", "break", "cut", "cut one way", "heal all"]),
        then=THEN,
    )
    def between_two(self, one: int, other: int, how: str, then: float) -> None:
        here, there = self.nodes[one], self.nodes[other]
        if here is not None and how == "connect":
            # Itself too, and where nobody is: that may fail, but not break.
            dial = here.connect(f"{self.host(other)}:8001")
            dial.addErrback(lambda failure: None)
        elif how == "heal all":
            self.net.heal_all()
        elif here is not None and there is not None and one != other:
            if how == "break":
                self.net.break_links(here, there)
            else:
                self.net.cut(here, there, one_way=how == "cut one way")
        self.net.run(then)

    @rule(number=NUMBERS, seconds=THEN)
    def sleep(self, number: int, seconds: float) -> None:
        node = self.nodes[number]
        if node is not None:
            self.net.freeze(node)
            self.net.run(seconds)
            self.net.thaw(node)

    @rule(number=NUMBERS, then=THEN)
    def read_or_not(self, number: int, then: float) -> None:
        node = self.nodes[number]
        if node in self.quiet:
            node.resume_reading()
            self.quiet.discard(node)
        elif node is not None:
            node.pause_reading()
            self.quiet.add(node)
        self.net.run(then)

    @rule(number=NUMBERS, times=st.integers(1, 40), then=THEN)
    def chat(self, number: int, times: int, then: float) -> None:
        node = self.nodes[number]
        if node is not None:
            for _ in range(times):
                self.say(node)
        self.net.run(then)

    # What holds

    @invariant()
    def no_rule_is_broken(self) -> None:
        assert self.broken == []
        for node in self.nodes:
            if node is not None:
                peers = {peer.key for peer in node.peers()}
                assert peers == self.connected[node]
                assert len(node.peers()) == len(peers) <= NODES
                assert len(node.known_addresses()) <= node.config.max_addresses

    def check(self, node: MeshNode, event: Event) -> None:
        here = self.connected[node]
        match event:
            case PeerConnected(peer=peer):
                if peer.key in here:
                    self.broken.append(f"{peer.name} came twice")
                here.add(peer.key)
            case PeerDisconnected(peer=peer):
                if peer.key not in here:
                    self.broken.append(f"{peer.name} left and never came")
                here.discard(peer.key)
            case ChatReceived(peer=peer, text=text):
                if peer.key not in here:
                    self.broken.append(f"{peer.name} said {text} and was not here")
                name, _, number = text.partition(" ")
                last = self.heard[node].get(name, 0)
                if int(number) <= last or name != peer.name:
                    self.broken.append(f"{peer.name} said {text} after {last}")
                self.heard[node][name] = int(number)

    def teardown(self) -> None:
        try:
            self.become_whole()
        finally:
            globalLogPublisher.removeObserver(self)

    def become_whole(self) -> None:
        self.net.heal_all()
        for quiet in self.quiet:
            quiet.resume_reading()
        for number, node in enumerate(self.nodes):
            if node is None:
                self.start(number)
        nodes = [node for node in self.nodes if node is not None]
        self.net.run_until(lambda: self.net.is_full_mesh(*nodes), 240.0)
        # A handshake with a machine that is gone has ten seconds.
        self.net.run(15.0)
        assert self.net.is_full_mesh(*nodes)
        links, pairs = self.net.connections(), NODES * (NODES - 1) // 2
        # Only with the one that speaks mesh/1 alone may a pair have two.
        assert pairs <= links <= pairs + NODES - 1, links
        for node in nodes:
            self.say(node)
        self.net.run(1.0)
        for node in nodes:
            for other in nodes:
                if other is not node:
                    last = self.heard[node].get(other.name)
                    assert last == self.last_said[other.name]
        self.no_rule_is_broken()

    # Tools

    def host(self, number: int) -> str:
        return f"10.0.0.{number + 1}"

    def say(self, node: MeshNode) -> None:
        self.said += 1
        self.last_said[node.name] = self.said
        node.broadcast(f"{node.name} {self.said}")

    def start(self, number: int) -> None:
        self.runs += 1
        node = self.net.node(
            self.host(number),
            name=f"node{number}-{self.runs}",
            max_peers=NODES,
            bootstrap=(f"{self.host(0)}:8001",) if number else (),
            protocols=("mesh/1",) if number == NODES - 1 else PROTOCOLS,
        )
        self.nodes[number] = node
        self.connected[node] = set()
        self.heard[node] = {}
        node.subscribe(lambda event: self.check(node, event))
        self.net.start(node)

    def stop(self, node: MeshNode) -> None:
        stopped: list[None] = []
        node.stop().addCallback(stopped.append)
        self.net.run_until(lambda: stopped, 10.0)
        assert self.connected[node] == set()


class SeatTests(SynchronousTestCase):
    """The parts that decide agree, whatever happens."""

    def test_any_sequence_of_events(self) -> None:
        run_state_machine_as_test(SeatMachine, settings=many(250, 50))


class MeshTests(SynchronousTestCase):
    """Whole nodes keep the rules, and find together in the end."""

    def test_any_sequence_of_events(self) -> None:
        run_state_machine_as_test(MeshMachine, settings=many(80, 30))
