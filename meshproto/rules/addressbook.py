"""The address book: where nodes listen, what is known of each address, when to dial.

Two rules for this file.  Gossip is not evidence: an address told by a peer never
displaces one at which a node has answered.  And the book decides *whether and when*
to dial an address, never *how*.

An address is in one of these conditions::

    told      told by a peer; forgotten after `max_dial_failures` failed dials
    proven    a node has answered there; kept, and dialled with backoff
    given     named by the user; never forgotten
    linked    belongs to a connected peer; not dialled while it is connected
    own       the node's own advertised address; never dialled

A dial that leads back to this node counts as failed, and no more: another node may
listen there later.

The book is bounded in total and for each peer that tells addresses.
"""

from __future__ import annotations

import ipaddress
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from meshproto.events import KnownAddress
from meshproto.rules.identity import PeerKey
from meshproto.rules.registry import OWN_HOST
from meshproto.wire.address import (
    PeerAddress,
    Target,
    ip_of,
    is_loopback,
    remembered,
)

#: Backoff between dials of one address, in seconds, with full jitter: the pause is
#: uniform between zero and a bound that doubles with every failure.
BACKOFF_BASE = 1.0
BACKOFF_CAP = 60.0
#: The cap while the node has no peers, so that it soon joins a bootstrap node that
#: comes up late.
BACKOFF_CAP_LONELY = 10.0

#: The shortest pause before a postponed address is dialled again, in seconds; the
#: longest is twice that.
POSTPONED = 5.0

#: Seconds after which a link counts as stable.
SETTLED = 5.0
#: Gossip makes us dial an address early at most once in this many seconds.
HASTE_INTERVAL = 10.0

#: Most proven addresses of one peer.  Any more count as told only.
MAX_PROVEN = 8

#: Lower ports belong to system services; gossip cannot make us dial them.
FIRST_UNPRIVILEGED_PORT = 1024

_Key = tuple[str, int | str]


@dataclass(slots=True, eq=False)
class _Record:
    target: Target
    key: _Key
    told_by: PeerKey | None = None
    given: bool = False
    proven: bool = False
    own: bool = False
    dialling: bool = False
    failures: int = 0
    flaps: int = 0
    due: float = 0.0
    hastened_at: float = -math.inf
    linked: dict[PeerKey, None] = field(default_factory=dict)

    @property
    def may_be_dialled(self) -> bool:
        return not (self.own or self.dialling or self.linked)


@dataclass(frozen=True, slots=True)
class Learned:
    """How many addresses of a list were new, and how many were rejected."""

    new: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Retry:
    """The address will be dialled again in ``delay`` seconds.

    ``failures`` counts the dials that have failed in a row.
    """

    delay: float
    failures: int


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The address was never reached and has been removed from the book."""


class AddressBook:
    """The addresses that one node knows.

    ``is_own_host`` says whether a host is this machine; ``rng`` supplies the jitter.
    ``own_port`` is the port that the node listens on, 0 for none.
    """

    def __init__(
        self,
        is_own_host: Callable[[str], bool],
        rng: random.Random,
        *,
        limit: int = 1000,
        limit_per_peer: int = 64,
        max_failures: int = 10,
    ) -> None:
        self.own_port = 0
        self._is_own_host = is_own_host
        self._rng = rng
        self._limit = limit
        self._limit_per_peer = limit_per_peer
        self._max_failures = max_failures
        self._records: dict[_Key, _Record] = {}
        # Those that may be dialled; empty while every node is connected.
        self._idle: dict[_Record, None] = {}
        self._told: Counter[PeerKey] = Counter()
        self._linked: dict[PeerKey, list[_Record]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def give(self, target: Target) -> None:
        """Add an address that the user named; it is never forgotten."""
        record = self._record(target)
        self._untell(record)
        record.given = True

    def learn(
        self,
        addresses: Iterable[PeerAddress],
        source: PeerKey,
        source_host: str,
        now: float,
    ) -> Learned:
        """Add the addresses that a peer told; new ones may be dialled at once.

        ``source_host`` is the host at which we see the peer.  A loopback address in
        its list means that host, unless the peer is on this machine.
        """
        new = skipped = 0
        is_here = self._host_key(source_host) == OWN_HOST
        hosts: dict[str, str] = {}
        for address in addresses:
            if not is_here and is_loopback(address.host):
                address = PeerAddress.of(source_host, address.port)
            host = hosts.get(address.host)
            if host is None:
                host = hosts[address.host] = self._host_key(address.host)
            key = host, address.port
            known = self._records.get(key)
            if known is not None and known.linked and known.proven:
                # The common case in a running mesh: nothing new to learn.
                continue
            if not believable(address):
                skipped += 1
            elif key == (OWN_HOST, self.own_port) or (known and known.own):
                continue
            elif known is not None:
                self._respell(known, address, now)
                self._hasten(known, now)
            elif self._told[source] >= self._limit_per_peer or not self._has_room():
                skipped += 1
            else:
                self._record(address).told_by = source
                self._told[source] += 1
                new += 1
        return Learned(new, skipped)

    def is_own(self, target: Target) -> bool:
        """Whether the address is known to lead back to this node."""
        if isinstance(target, PeerAddress) and target.port == self.own_port:
            if self._is_own_host(target.host):
                return True
        record = self._records.get(self._key(target))
        return record is not None and record.own

    def is_here(self, host: str) -> bool:
        """Whether the host is this machine."""
        return self._is_own_host(host)

    def host_of(self, target: Target) -> str | None:
        """The host that the address leads to, or None if only a dial can tell."""
        if isinstance(target, PeerAddress):
            if self._is_own_host(target.host):
                return OWN_HOST
            if ip_of(target.host) is not None:
                return target.host
        return None

    def is_given(self, target: Target) -> bool:
        """Whether the user named the address."""
        record = self._records.get(self._key(target))
        return record is not None and record.given

    def failures(self, target: Target) -> int:
        """How many dials of the address have failed in a row."""
        record = self._records.get(self._key(target))
        return record.failures if record else 0

    def linked_to(self, target: Target) -> tuple[PeerKey, ...]:
        """The connected peers that the address may belong to."""
        record = self._records.get(self._key(target))
        return tuple(record.linked) if record else ()

    def due(self, now: float) -> list[Target]:
        """What may be dialled now: the user's addresses first, then proven ones."""
        due = [record for record in self._idle if record.due <= now]
        due.sort(key=lambda record: (not record.given, not record.proven))
        return [record.target for record in due]

    def next_due(self) -> float | None:
        """When the next address may be dialled, in clock seconds; None if none."""
        return min((record.due for record in self._idle), default=None)

    def dial_started(self, target: Target) -> None:
        """A dial has begun; the address is not due until it has ended."""
        record = self._record(target)
        record.dialling = True
        self._update_idle(record)

    def dial_ended(self, target: Target) -> None:
        """A dial has ended that says nothing about the address."""
        record = self._records.get(self._key(target))
        if record is not None:
            record.dialling = False
            self._update_idle(record)
            self._forget_if_idle(record)

    def dial_failed(
        self, target: Target, now: float, *, lonely: bool
    ) -> Retry | Forgotten:
        """A dial has failed; ``lonely`` when the node has no peers."""
        record = self._record(target)
        record.dialling = False
        record.failures += 1
        self._update_idle(record)
        if not (record.given or record.proven):
            if record.failures >= self._max_failures or record.told_by is None:
                self._forget(record)
                return Forgotten()
        cap = BACKOFF_CAP_LONELY if lonely else BACKOFF_CAP
        delay = self._rng.random() * backoff_bound(record.failures, cap)
        record.due = now + delay
        return Retry(delay, record.failures)

    def postpone(self, target: Target, now: float) -> None:
        """Try the address again later, without counting a failure."""
        record = self._record(target)
        record.dialling = False
        record.due = now + (1 + self._rng.random()) * POSTPONED
        self._update_idle(record)
        self._forget_if_idle(record)

    def link(self, target: Target, peer: PeerKey, *, proven: bool) -> None:
        """The address belongs to a connected peer; ``proven`` by a dial.

        An unproven one is only the peer's claim, so in a full book it displaces no
        more than gossip does.
        """
        if proven and not self.is_given(target):
            others = (r for r in self._linked.get(peer, ()) if r.proven and not r.given)
            proven = sum(r.target != target for r in others) < MAX_PROVEN
        claim = not proven and self._key(target) not in self._records
        if claim and not self._has_room():
            return
        # A dial of it may still be under way; it ends by itself.
        record = self._record(target)
        if proven:
            self._untell(record)
            record.proven = True
            record.failures = 0
        elif record.told_by is None and not (record.proven or record.given):
            record.told_by = peer
            self._told[peer] += 1
        if peer not in record.linked:
            record.linked[peer] = None
            self._update_idle(record)
            self._linked.setdefault(peer, []).append(record)

    def disown(self, target: Target) -> None:
        """Mark the address as this node's own for as long as it runs."""
        record = self._record(target)
        record.dialling = False
        record.own = True
        self._update_idle(record)

    def peer_left(self, peer: PeerKey, now: float, lived: float = math.inf) -> None:
        """The peer is gone: its addresses may be dialled again, after a jitter.

        Both sides redial, and the jitter makes it likely that one is first.
        ``lived`` is how long the peer was connected, in seconds.  After links that
        end soon after they began, the jitter grows like the backoff of failures.
        """
        for record in self._linked.pop(peer, ()):
            # An address linked to several peers may belong to any one of them.
            for other in record.linked.keys() - {peer}:
                self._linked[other].remove(record)
            record.linked.clear()
            self._update_idle(record)
            record.flaps = record.flaps + 1 if lived < SETTLED else 0
            bound = backoff_bound(max(1, record.flaps), BACKOFF_CAP)
            record.due = now + self._rng.random() * bound

    def known(self) -> tuple[KnownAddress, ...]:
        """A snapshot of the book, without the node's own addresses."""
        return tuple(
            KnownAddress(
                target=record.target,
                linked=bool(record.linked),
                proven=record.proven,
                bootstrap=record.given,
                failures=record.failures,
            )
            for record in self._records.values()
            if not record.own
        )

    def _key(self, target: Target) -> _Key:
        if not isinstance(target, PeerAddress):
            return "", target.description
        return self._host_key(target.host), target.port

    def _host_key(self, host: str) -> str:
        return OWN_HOST if self._is_own_host(host) else host

    def _record(self, target: Target) -> _Record:
        key = self._key(target)
        record = self._records.get(key)
        if record is None:
            if not self._has_room():
                self._forget_worst()
            record = self._records[key] = _Record(target, key)
            self._update_idle(record)
        return record

    def _update_idle(self, record: _Record) -> None:
        if record.may_be_dialled:
            self._idle[record] = None
        else:
            self._idle.pop(record, None)

    def _respell(self, record: _Record, address: PeerAddress, now: float) -> None:
        # One machine has several addresses, and a node may listen on only one of
        # them: if the spelling that we have fails, try the other.
        if record.failures and not (record.proven or record.given or record.dialling):
            if record.target != address:
                record.target = address
                record.due = min(record.due, now + BACKOFF_BASE)

    def _hasten(self, record: _Record, now: float) -> None:
        # A peer tells addresses of nodes that it is linked to, so the node is up:
        # after a partition one healed link lets all the others heal early.
        soon = now + BACKOFF_BASE
        if not (record.proven or record.given) or record.due <= soon:
            return
        if record.may_be_dialled and now - record.hastened_at >= HASTE_INTERVAL:
            record.hastened_at = now
            record.due = now + self._rng.random() * BACKOFF_BASE

    def _has_room(self) -> bool:
        """Make room for one more told address; False if all others are better."""
        if len(self._records) < self._limit:
            return True
        failing = [
            record
            for record in self._idle
            if record.failures and not (record.given or record.proven)
        ]
        if not failing:
            return False
        self._forget(max(failing, key=lambda record: record.failures))
        return True

    def _forget_worst(self) -> None:
        """Make room for an address that is more than gossip, if possible."""
        idle = [record for record in self._idle if not record.given]
        if idle:
            self._forget(max(idle, key=lambda r: (not r.proven, r.failures)))

    def _untell(self, record: _Record) -> None:
        if record.told_by is not None:
            self._told[record.told_by] -= 1
            if not self._told[record.told_by]:
                del self._told[record.told_by]
            record.told_by = None

    def _forget(self, record: _Record) -> None:
        self._untell(record)
        for peer in record.linked:
            self._linked[peer].remove(record)
        del self._records[record.key]
        self._idle.pop(record, None)

    def _forget_if_idle(self, record: _Record) -> None:
        nobody_said_so = record.told_by is None and not record.given
        if nobody_said_so and not (record.proven or record.linked or record.own):
            self._forget(record)


def backoff_bound(failures: int, cap: float) -> float:
    """The longest pause after ``failures`` failures in a row, in seconds."""
    return min(cap, BACKOFF_BASE * 2.0 ** min(failures - 1, 32))


@remembered
def believable(address: PeerAddress) -> bool:
    """Whether an address told by a peer may be dialled at all.

    False for privileged ports, for hosts that are not a single machine
    (unspecified, multicast, broadcast, reserved), and for IPv6 addresses with a
    zone, which means something only on the machine that told it.
    """
    if address.port < FIRST_UNPRIVILEGED_PORT:
        return False
    ip = ip_of(address.host)
    if ip is None:
        return True
    if ip.is_unspecified or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not ip.is_reserved and int(ip) >> 24 != 0
    return ip.scope_id is None


@remembered
def disclosed(
    address: PeerAddress, ours: bool, to_own_host: bool, local_host: str
) -> PeerAddress | None:
    """The address as told to a peer, or None if the peer must not be told.

    ``ours`` says that the address is on this machine, ``to_own_host`` that the peer
    is.  A peer elsewhere is told that a node on this machine is at ``local_host``,
    the host at which that peer reaches us.
    """
    if to_own_host or not ours:
        told = address
    elif is_loopback(local_host):
        return None
    else:
        told = PeerAddress.of(local_host, address.port)
    ip = ip_of(told.host)
    if ip is not None and ip.version == 6 and getattr(ip, "scope_id", None):
        return None
    return told
