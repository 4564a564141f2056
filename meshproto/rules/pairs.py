"""Which links two ``mesh/2`` nodes may have with each other.

Only this module decides that.  Nothing here touches a link or reads a clock: a link
is any hashable value, and the caller carries out each decision at once and in full.

A pair of nodes has at most one established link.  A link is established for the
dialler when it sends READY, and for the listener when it receives READY.  When both
dial at once, the dial of the node with the greater identity wins.  No node sends
READY on one link while another is established, or on a losing link after it has
welcomed the winning one.  Establishing a link closes every other link of the pair.
So both nodes end with the same link, in whatever order messages arrive, and without
a timer.

``mine`` is a link that this node dialled and on which it has received HELLO, so it
knows where the link leads.  ``theirs`` is a link that the peer dialled and this node
has welcomed.  The first matching row applies:

============================ ============================== =====================
Event                        State of the pair              Decision
============================ ============================== =====================
HELLO of another mesh                                       ANOTHER_MESH
HELLO of this node's own     the same incarnation           OURSELVES
identity                     another one, proven            CLONED
HELLO, proven                an older incarnation           OUTDATED
                             the same counter, other nonce  CLONED
                             a later one                    close all, go on below
HELLO on ``theirs``, proven  ``ended`` names the            close it, go on below
                             established link
HELLO                        a link is established          DUPLICATE
HELLO on ``theirs``          ``mine`` exists, and wins      CROSSING
                             the pair has no seat, and all  FULL
                             seats are taken
                             otherwise                      WELCOME
HELLO on ``mine``                                           say HELLO
WELCOME on ``mine``          ``theirs`` exists, and wins    CROSSING
                             the pair has no seat, and all  FULL
                             seats are taken
                             otherwise                      READY; close the rest
READY on ``theirs``                                         established; close the
                                                            rest
============================ ============================== =====================

Any word in capitals but WELCOME and READY is the `RefusalReason` for which the link
in question ends.  A listener sends it; a dialler just closes.

*Replacement.*  Closing an established link for a newcomer, as two rows above do, is
a replacement.  A peer gets two within `CLONE_WINDOW` seconds; the third newcomer is
refused as CLONED.

*Probes.*  When an established link makes us refuse a dialler, that link is probed.
A newcomer under another key may be an established peer after a restart, if it has
that peer's host and its identity or ID; then that peer's link is probed too, even if
the newcomer is refused as FULL, so that no ghost keeps a seat.

*Claims.*  Where identities are not proven, a HELLO closes no established link: each
incarnation is a peer of its own, and ``ended`` is not trusted.  Only a failed probe
makes room.

*Seats.*  A pair takes one seat when either side welcomes a link, and frees it when
its last welcomed link ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from meshproto.events import CloseReason, Direction
from meshproto.rules.identity import Looks, PeerKey, key_of
from meshproto.wire.messages import Hello, Incarnation, RefusalReason

#: Most peers that are remembered after their link has ended.
REMEMBERED = 1000
#: Replacements allowed for one peer within `CLONE_WINDOW` seconds.
REPLACEMENTS = 2
CLONE_WINDOW = 60.0

L = TypeVar("L", bound=Hashable)


@dataclass(frozen=True, slots=True)
class SayHello:
    """The dialler continues with its own HELLO, which carries ``ended``."""

    ended: int | None


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The listener sends WELCOME."""


@dataclass(frozen=True, slots=True)
class Established:
    """The link is now the established one of its pair; a dialler sends READY."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """The link ends; a listener sends the reason."""

    reason: RefusalReason


Verdict = SayHello | Welcomed | Established | Unwanted


@dataclass(frozen=True, slots=True)
class Closing(Generic[L]):
    """Another link, to be ended at once."""

    link: L
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Decision(Generic[L]):
    """What becomes of the link in question, and of others.

    ``closing`` are links to end before the verdict is carried out.  ``probing`` are
    established links to probe.
    """

    key: PeerKey
    verdict: Verdict
    closing: tuple[Closing[L], ...] = ()
    probing: tuple[L, ...] = ()


@dataclass(frozen=True, slots=True)
class _Leg(Generic[L]):
    """One link of a pair, with each side's number for it."""

    link: L
    number: int
    their_number: int
    looks: Looks


@dataclass(frozen=True, slots=True)
class _Pair(Generic[L]):
    """The links of one peer, all to the same incarnation."""

    life: Incarnation
    established: _Leg[L] | None = None
    mine: tuple[_Leg[L], ...] = ()
    theirs: tuple[_Leg[L], ...] = ()

    @property
    def seated(self) -> bool:
        return self.established is not None or bool(self.theirs)

    def legs(self) -> tuple[_Leg[L], ...]:
        first = () if self.established is None else (self.established,)
        return (*first, *self.mine, *self.theirs)

    def leg_of(self, link: L) -> _Leg[L]:
        return next(leg for leg in self.legs() if leg.link == link)

    def without(self, link: L) -> _Pair[L]:
        first = self.established
        return replace(
            self,
            established=None if first is None or first.link == link else first,
            mine=tuple(leg for leg in self.mine if leg.link != link),
            theirs=tuple(leg for leg in self.theirs if leg.link != link),
        )


@dataclass(frozen=True, slots=True)
class _Past:
    """What is remembered of a peer.

    ``number`` is the peer's number for the last link that ended, in the incarnation
    ``life``.  ``replaced`` are the times of its recent replacements.
    """

    life: Incarnation
    number: int
    replaced: tuple[float, ...] = ()


class Pairs(Generic[L]):
    """The links with every peer that speaks ``mesh/2``.

    ``identity``, ``incarnation`` and ``mesh`` are those of this node's own HELLO.
    ``proven`` says whether the mesh proves the identities of its nodes.  Memory is
    bounded by the number of links and by `REMEMBERED`.
    """

    def __init__(
        self, identity: str, incarnation: Incarnation, mesh: str, *, proven: bool
    ) -> None:
        self._identity = identity
        self._incarnation = incarnation
        self._mesh = mesh
        self._proven = proven
        self._last_number = 0
        self._numbers: dict[L, int] = {}
        self._keys: dict[L, PeerKey] = {}
        self._pairs: dict[PeerKey, _Pair[L]] = {}
        self._seated = 0
        # The established links, by the marks that a restarted peer would share.
        self._seen: dict[Hashable, tuple[tuple[PeerKey, L], ...]] = {}
        self._pasts: OrderedDict[PeerKey, _Past] = OrderedDict()

    def __len__(self) -> int:
        """How many seats are taken."""
        return self._seated

    def established(self, key: PeerKey) -> L | None:
        """The established link of a peer, or None."""
        pair = self._pairs.get(key)
        if pair is None or pair.established is None:
            return None
        return pair.established.link

    def has_seat(self, key: PeerKey) -> bool:
        """Whether a link of the peer is welcomed or established."""
        pair = self._pairs.get(key)
        return pair is not None and pair.seated

    def opened(self, link: L) -> int:
        """Number a link, for our HELLO on it; call `ended` when it is over."""
        self._last_number += 1
        self._numbers[link] = self._last_number
        return self._last_number

    def is_open(self, link: L) -> bool:
        """Whether the link has been opened and has not ended."""
        return link in self._numbers

    def number_of(self, link: L) -> int:
        """This node's own number for an open link."""
        return self._numbers[link]

    def hello(
        self,
        link: L,
        direction: Direction,
        hello: Hello,
        host: str,
        *,
        seats: int,
        now: float,
    ) -> Decision[L]:
        """Decide on the HELLO received on an opened link.

        ``host`` is the far end's, the same value for all addresses of this machine.
        ``seats`` is the total number of seats for pairs.  ``now`` is in seconds of a
        monotonic clock.

        The verdict is `Unwanted`; otherwise `Welcomed` on an incoming link and
        `SayHello` on an outgoing one.
        """
        key = key_of(hello, proven=self._proven)
        stranger = self._not_for_us(hello)
        if stranger is not None:
            return Decision(key, Unwanted(stranger))
        incoming = direction is Direction.INCOMING
        pair: _Pair[L] = self._pairs.get(key) or _Pair(hello.incarnation)
        old, seated = pair.established, pair.seated
        superseded = self._superseded(pair, hello, incoming=incoming)
        if old is not None and isinstance(superseded, tuple):
            if not self._may_replace(key, old, pair.life, now):
                superseded = RefusalReason.CLONED
        if isinstance(superseded, RefusalReason):
            probing = (old.link,) if old is not None and incoming else ()
            return Decision(key, Unwanted(superseded), (), probing)

        if superseded:
            for leg in superseded:
                del self._keys[leg.link]
            pair = _Pair(hello.incarnation)
        looks = Looks(hello.identity, hello.id, host)
        leg = _Leg(link, self._numbers[link], hello.link, looks)
        verdict: Verdict
        if not incoming:
            verdict = SayHello(self._last_ended(key, hello.incarnation))
            pair = replace(pair, mine=(*pair.mine, leg))
        elif pair.mine and self._wins(hello.identity, hello.incarnation):
            verdict = Unwanted(RefusalReason.CROSSING)
        elif not seated and len(self) >= seats:
            verdict = Unwanted(RefusalReason.FULL)
        else:
            verdict = Welcomed()
            pair = replace(pair, theirs=(*pair.theirs, leg))
        if not isinstance(verdict, Unwanted):
            self._keys[link] = key
        self._keep(key, pair)
        closing = tuple(Closing(leg.link, CloseReason.REPLACED) for leg in superseded)
        return Decision(key, verdict, closing, self._ghosts(key, looks))

    def welcome(self, link: L, *, seats: int) -> Decision[L]:
        """Decide on WELCOME, received on an outgoing link after `SayHello`.

        The verdict is `Established` or `Unwanted`.
        """
        key = self._keys[link]
        pair = self._pairs[key]
        looks = pair.leg_of(link).looks
        if pair.theirs and not self._wins(looks.identity, pair.life):
            reason = RefusalReason.CROSSING
        elif not pair.seated and len(self) >= seats:
            reason = RefusalReason.FULL
        else:
            return self._establish(key, link)
        self._forget(link)
        return Decision(key, Unwanted(reason))

    def ready(self, link: L) -> Decision[L]:
        """Decide on READY, received on an incoming link after `Welcomed`.

        The verdict is `Established`.
        """
        return self._establish(self._keys[link], link)

    def ended(self, link: L) -> PeerKey | None:
        """Forget a link that has ended for any reason.

        Returns the peer's key if the link was established and was not replaced;
        otherwise None.
        """
        self._numbers.pop(link, None)
        key = self._keys.get(link)
        if key is None:
            return None
        pair = self._pairs[key]
        leg = pair.leg_of(link)
        if leg not in pair.mine:
            # A dialler that was welcomed may already have sent READY.
            self._remember(key, _Past(pair.life, leg.their_number, self._replaced(key)))
        self._forget(link)
        return key if leg == pair.established else None

    def _not_for_us(self, hello: Hello) -> RefusalReason | None:
        """Why the far end can never be a peer; None if it can."""
        if hello.mesh != self._mesh:
            return RefusalReason.ANOTHER_MESH
        if hello.identity == self._identity:
            if hello.incarnation == self._incarnation:
                return RefusalReason.OURSELVES
            if self._proven:
                return RefusalReason.CLONED
        return None

    def _superseded(
        self, pair: _Pair[L], hello: Hello, *, incoming: bool
    ) -> tuple[_Leg[L], ...] | RefusalReason:
        """The links that a newcomer replaces, or why it is refused."""
        life = hello.incarnation
        if life != pair.life:
            if life.counter < pair.life.counter:
                return RefusalReason.OUTDATED
            if life.counter == pair.life.counter:
                return RefusalReason.CLONED
            return pair.legs()
        old = pair.established
        if old is None:
            return ()
        if incoming and self._proven and hello.ended == old.number:
            return (old,)
        return RefusalReason.DUPLICATE

    def _wins(self, identity: str, life: Incarnation) -> bool:
        """Whether our dial wins when we and the peer dial each other."""
        return (self._identity, self._incarnation) > (identity, life)

    def _may_replace(
        self, key: PeerKey, old: _Leg[L], life: Incarnation, now: float
    ) -> bool:
        """Note a replacement, unless the peer has had too many recently."""
        recent = tuple(at for at in self._replaced(key) if now - at < CLONE_WINDOW)
        if len(recent) >= REPLACEMENTS:
            return False
        self._remember(key, _Past(life, old.their_number, (*recent, now)))
        return True

    def _last_ended(self, key: PeerKey, life: Incarnation) -> int | None:
        """The peer's number for the last ended link with that incarnation."""
        past = self._pasts.get(key)
        return None if past is None or past.life != life else past.number

    def _replaced(self, key: PeerKey) -> tuple[float, ...]:
        past = self._pasts.get(key)
        return () if past is None else past.replaced

    def _remember(self, key: PeerKey, past: _Past) -> None:
        self._pasts[key] = past
        self._pasts.move_to_end(key)
        if len(self._pasts) > REMEMBERED:
            self._pasts.popitem(last=False)

    def _ghosts(self, key: PeerKey, looks: Looks) -> tuple[L, ...]:
        """Established links of peers that may be this one before a restart."""
        alike = {k: v for look in looks.marks() for k, v in self._seen.get(look, ())}
        return tuple(link for other, link in alike.items() if other != key)

    def _establish(self, key: PeerKey, link: L) -> Decision[L]:
        pair = self._pairs[key]
        others = [leg.link for leg in pair.legs() if leg.link != link]
        for other in others:
            del self._keys[other]
        self._keep(key, _Pair(pair.life, established=pair.leg_of(link)))
        closing = tuple(Closing(other, CloseReason.CROSSED) for other in others)
        return Decision(key, Established(), closing)

    def _forget(self, link: L) -> None:
        key = self._keys.pop(link)
        self._keep(key, self._pairs[key].without(link))

    def _keep(self, key: PeerKey, pair: _Pair[L]) -> None:
        before = self._pairs.pop(key, None)
        if before is not None:
            self._seated -= before.seated
            self._overlook(key, before.established)
        if pair.legs():
            self._pairs[key] = pair
            self._seated += pair.seated
            if pair.established is not None:
                for look in pair.established.looks.marks():
                    seen = self._seen.get(look, ())
                    self._seen[look] = (*seen, (key, pair.established.link))

    def _overlook(self, key: PeerKey, leg: _Leg[L] | None) -> None:
        for look in () if leg is None else leg.looks.marks():
            others = tuple(each for each in self._seen[look] if each[0] != key)
            if others:
                self._seen[look] = others
            else:
                del self._seen[look]
