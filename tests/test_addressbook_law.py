"""The address book: what holds after any sequence of events."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import KnownAddress
from meshproto.rules.addressbook import (
    AddressBook,
    Forgotten,
    Retry,
)
from meshproto.rules.identity import PeerKey
from meshproto.wire.address import PeerAddress, Target, is_loopback
from tests.books import BOB, EVE, HOSTS, NEIGHBOUR, is_own_host

GOSSIP = st.builds(
    PeerAddress,
    st.sampled_from(["198.51.100.1", "node.example", "localhost", "192.0.2.1"]),
    st.integers(1020, 1032),
)
PEERS = st.sampled_from([BOB, EVE, NEIGHBOUR])
LIMIT = 12
LIMIT_PER_PEER = 5
MAX_FAILURES = 3


class BookMachine(RuleBasedStateMachine):
    """Anything that may happen to a book, in any order.

    What may never be pushed out (given, linked, dialled, our own) is kept
    below the limit, as it is in a node: seats and dials are bounded too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.book = AddressBook(
            is_own_host,
            random.Random(0),
            limit=LIMIT,
            limit_per_peer=LIMIT_PER_PEER,
            max_failures=MAX_FAILURES,
        )
        self.book.own_port = 1030
        self.now = 0.0
        self.given: set[Target] = set()
        self.own: set[Target] = set()
        self.dialling: set[Target] = set()
        self.linked: dict[PeerKey, set[Target]] = {}
        #: On whose word an address is in the book.
        self.sources: dict[Target, PeerKey] = {}

    def entries(self) -> dict[Target, KnownAddress]:
        return {each.target: each for each in self.book.known()}

    def is_free(self) -> bool:
        """Whether one more entry may be of the kind that stays."""
        kept = (
            self.given | self.own | self.dialling | set().union(*self.linked.values())
        )
        return len(kept) < LIMIT - 1

    @rule(gossip=st.lists(GOSSIP, max_size=8), source=PEERS)
    def learn(self, gossip: list[PeerAddress], source: PeerKey) -> None:
        host = HOSTS[source]
        before = self.entries()
        learned = self.book.learn(gossip, source, host, self.now)
        after = self.entries()
        added = set(after) - set(before)
        assert 0 <= learned.new <= len(gossip)
        assert learned.new + learned.skipped <= len(gossip)
        for target, entry in before.items():
            if entry.proven or entry.bootstrap or entry.linked:
                assert target in after, f"gossip pushed {target} out"
            if not entry.failures:
                assert target in after, f"{target} was never tried"
        ports_here = {
            each.port: each
            for each in before
            if isinstance(each, PeerAddress) and is_own_host(each.host)
        }
        for target in added:
            assert isinstance(target, PeerAddress)
            assert target.port >= 1024
            assert source is NEIGHBOUR or not is_loopback(target.host)
            spelled = ports_here.get(target.port) if is_own_host(target.host) else None
            if spelled is not None and spelled not in after:
                # The same entry in another spelling, or a new one in its place:
                # the first has its source already, the second cannot be told
                # from it here and is left out of the count.
                self.sources.pop(spelled, None)
            else:
                self.sources[target] = source

    @rule(named=GOSSIP)
    def give(self, named: PeerAddress) -> None:
        if self.is_free() and named not in self.spelled_otherwise():
            self.book.give(named)
            self.given.add(named)
            self.sources.pop(named, None)

    def spelled_otherwise(self) -> set[Target]:
        """Addresses of this machine that the book has in another spelling."""
        here = {
            each.port
            for each in self.entries() | dict.fromkeys(self.own)
            if isinstance(each, PeerAddress) and is_own_host(each.host)
        }
        return {
            PeerAddress(host, port)
            for host in ("localhost", "192.0.2.1")
            for port in here
            if PeerAddress(host, port) not in self.entries()
        }

    @rule(pick=st.integers(0, 99))
    def dial(self, pick: int) -> None:
        due = self.book.due(self.now)
        if due and self.is_free():
            target = due[pick % len(due)]
            self.book.dial_started(target)
            self.dialling.add(target)

    @rule(pick=st.integers(0, 99), lonely=st.booleans())
    def fail(self, pick: int, lonely: bool) -> None:
        if self.dialling:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            before = self.entries()[target]
            result = self.book.dial_failed(target, self.now, lonely=lonely)
            match result:
                case Retry(delay, failures):
                    assert failures == before.failures + 1
                    assert 0 <= delay <= (10 if lonely else 60)
                    assert (
                        before.proven
                        or target in self.given
                        or (failures < MAX_FAILURES)
                    )
                case Forgotten():
                    assert not before.proven
                    assert target not in self.given
                    assert target not in self.entries()

    @rule(pick=st.integers(0, 99), peer=PEERS)
    def succeed(self, pick: int, peer: PeerKey) -> None:
        if self.dialling:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            self.book.dial_ended(target)
            self.book.link(target, peer, proven=True)
            self.linked.setdefault(peer, set()).add(target)
            self.sources.pop(target, None)
            assert self.entries()[target].failures == 0

    @rule(pick=st.integers(0, 99))
    def find_ourselves(self, pick: int) -> None:
        if self.dialling and len(self.own) < 2:
            target = sorted(self.dialling, key=str)[pick % len(self.dialling)]
            self.dialling.discard(target)
            self.book.disown(target)
            self.own.add(target)

    @rule(peer=PEERS)
    def leave(self, peer: PeerKey) -> None:
        freed = self.linked.pop(peer, set())
        self.book.peer_left(peer, self.now)
        for target in freed:
            assert target in self.book.due(self.now + 1.0)
            for others in self.linked.values():
                others.discard(target)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def the_book_is_bounded(self) -> None:
        assert len(self.book) <= LIMIT

    @invariant()
    def no_peer_has_more_than_its_part(self) -> None:
        entries = self.entries()
        told = Counter(
            source for target, source in self.sources.items() if target in entries
        )
        for source, count in told.items():
            assert count <= LIMIT_PER_PEER, source
        self.sources = {t: s for t, s in self.sources.items() if t in entries}

    @invariant()
    def given_addresses_are_kept(self) -> None:
        for target in self.given - self.own:
            assert self.entries()[target].bootstrap

    @invariant()
    def only_what_may_be_dialled_is_due(self) -> None:
        due = self.book.due(float("inf"))
        assert len(set(due)) == len(due)
        assert not set(due) & self.dialling
        assert not set(due) & self.own
        for targets in self.linked.values():
            assert not set(due) & targets
        assert set(due) | self.dialling <= set(self.entries())
        taken = self.dialling.union(self.own, *self.linked.values())
        assert set(self.entries()) - taken == set(due)

    @invariant()
    def the_next_due_tells_when(self) -> None:
        next_due = self.book.next_due()
        if next_due is None:
            assert self.book.due(float("inf")) == []
        else:
            assert self.book.due(next_due)
            assert not self.book.due(next_due - 0.001)


class AnyOrderTests(SynchronousTestCase):
    """The bounds hold whatever happens."""

    def test_any_sequence_of_events(self) -> None:
        run_state_machine_as_test(
            BookMachine,
            settings=settings(stateful_step_count=40),
        )
