"""What the result of a dial means for its address.

The dialer dials addresses and waits.  This module interprets what follows: a link
that leads to a peer, a refusal, or a dial that crosses another.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.config import NodeConfig
from meshproto.errors import (
    ConnectError,
    HandshakeRejected,
    MeshFull,
    SelfConnection,
)
from meshproto.events import CloseReason, ConnectionFailed, Event, Peer
from meshproto.mesh.dialer import (
    Dialer,
    DialReport,
    Failed,
    Linked,
    dial_error,
    events_of,
)
from meshproto.mesh.refusals import REFUSED_BY_IT, REFUSED_BY_US
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.identity import PeerKey
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry, Registry, host_key
from meshproto.wire.address import PeerAddress, Target
from meshproto.wire.messages import Refusal, RefusalReason

#: Up to this many DUPLICATE answers in a row may come from a stale link that the
#: far end still has to an earlier run of this node.
_DOUBTFUL_DUPLICATES = 4


class Dials:
    """The dials under way, and what their results mean.

    ``connect`` makes the connection to a target other than ourselves.  ``locate``
    is called when a link shows where a peer listens.
    """

    def __init__(
        self,
        config: NodeConfig,
        registry: Registry,
        book: AddressBook,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        connect: Callable[[Target], Deferred[IPeerLink]],
        locate: Callable[[PeerEntry, IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._book = book
        self._clock = clock
        self._emit = emit
        self._connect = connect
        self._locate = locate
        self._unsettled: set[IPeerLink] = set()
        # Per peer: our dials that gave way to its own dial, each with the timer
        # that ends the wait for it.
        self._crossed: dict[PeerKey, dict[Target, IDelayedCall]] = {}
        self._timeout = config.connection_timeout
        self._speaks_mesh2 = "mesh/2" in config.protocols
        self._dialer = Dialer(
            book,
            clock,
            max_dials=config.max_dials,
            timeout=config.connection_timeout,
            connect=self._connect_to_others,
            seats=lambda: (registry.taken, registry.max_peers),
            on_report=self._dial_ended,
        )

    def __len__(self) -> int:
        """How many dials are under way."""
        return len(self._dialer)

    def start(self) -> None:
        """Start dialling what is due."""
        self._dialer.start()

    def stop(self) -> None:
        """Give up every dial; waiting callers get `NotRunning`."""
        self._dialer.stop()
        crossed, self._crossed = self._crossed, {}
        for waiting in crossed.values():
            for patience in waiting.values():
                patience.cancel()

    def pump(self) -> None:
        """Dial what is due; call this when there may be something new."""
        self._dialer.pump()

    def dial(self, target: Target) -> Deferred[Peer]:
        """Get a link to the peer at an address; see `MeshNode.connect`."""
        if self._book.is_own(target):
            return self._cannot(SelfConnection(target, "that is this node itself"))
        for key in self._book.linked_to(target):
            entry = self._registry.of_key(key)
            if entry is not None:
                return succeed(entry.snapshot())
        seats = self._registry.max_peers
        if self._registry.taken >= seats:
            return self._cannot(MeshFull(target, f"all {seats} seats are taken"))
        return self._dialer.dial(target)

    def opened(self, link: IPeerLink) -> None:
        """A connection was made."""
        if link.target is not None:
            self._unsettled.add(link)

    def linked(self, link: IPeerLink, entry: PeerEntry) -> None:
        """The link leads to ``entry``: its dial has succeeded."""
        self._settle(link, Linked(entry.snapshot(), entry.key))

    def crossed(self, link: IPeerLink, key: PeerKey) -> None:
        """The link gave way to the peer's own dial: wait for that to finish."""
        if link.target is not None and link in self._unsettled:
            self._unsettled.discard(link)
            left = link.opened_at + self._timeout - self._clock.seconds()
            self._crossed.setdefault(key, {})[link.target] = self._clock.callLater(
                max(left, 0.0), self._lose_patience, key, link.target
            )

    def met(self, entry: PeerEntry) -> None:
        """A peer is linked: our dials that gave way to its dial have succeeded."""
        for target, patience in self._crossed.pop(entry.key, {}).items():
            patience.cancel()
            self._dialer.settle(target, Linked(entry.snapshot(), entry.key))

    def refused(self, link: IPeerLink, error: ConnectError) -> None:
        """The link led to a node that did not become a peer."""
        self._settle(link, Failed(error))

    def found_ourselves(self, link: IPeerLink) -> None:
        """The link leads back to this node."""
        if link.target is not None:
            error = SelfConnection(link.target, REFUSED_BY_US[RefusalReason.OURSELVES])
            self._settle(link, Failed(error))

    def no_seat_for(self, link: IPeerLink) -> None:
        """This node has no seat for the far end of the link."""
        if link.target is not None:
            error = MeshFull(link.target, REFUSED_BY_US[RefusalReason.FULL])
            self._settle(link, Failed(error))

    def turned_away(self, link: IPeerLink, refusal: Refusal) -> None:
        """The far end refused our dial (``mesh/1``)."""
        target = link.target
        if target is None:
            return
        if refusal is Refusal.DUPLICATE:
            candidates = self._candidates(link, target)
            for entry in candidates:
                self._book.link(target, entry.key, proven=True)
            if len(candidates) == 1:
                (entry,) = candidates
                self._locate(entry, link)
                self.linked(link, entry)
                return
        because = REFUSED_BY_IT[refusal]
        if refusal is Refusal.DUPLICATE and self._is_doubtful(target):
            because = (
                "refused, another node seems to use "
                f"the ID {self._registry.own_id}: give this one another ID"
            )
        self._settle(link, Failed(HandshakeRejected(target, because)))

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """The link has ended: its dial has failed, unless already settled."""
        if link.target is None:
            return
        if reason is CloseReason.CLOSED_BY_PEER and not (detail or self._speaks_mesh2):
            # A node that speaks only mesh/2 closes without an answer.
            detail = "closed without an answer, perhaps it speaks only mesh/2"
        self._settle(link, Failed(dial_error(link.target, reason, detail)))

    def _settle(self, link: IPeerLink, outcome: Linked | Failed) -> None:
        """End the dial that made the link; only the first call counts.

        The address may be dialled again while the link is still closing.
        """
        if link.target is not None and link in self._unsettled:
            self._unsettled.discard(link)
            self._dialer.settle(link.target, outcome)

    def _lose_patience(self, key: PeerKey, target: Target) -> None:
        waiting = self._crossed[key]
        del waiting[target]
        if not waiting:
            del self._crossed[key]
        error = HandshakeRejected(target, REFUSED_BY_IT[RefusalReason.CROSSING])
        self._dialer.settle(target, Failed(error))

    def _connect_to_others(self, target: Target) -> Deferred[IPeerLink]:
        if self._book.is_own(target):
            raise SelfConnection(target, "that is this node itself")
        return self._connect(target)

    def _dial_ended(self, report: DialReport) -> None:
        for event in events_of(report):
            self._emit(event)

    def _cannot(self, error: ConnectError) -> Deferred[Peer]:
        self._emit(ConnectionFailed(target=error.target, reason=error.reason))
        return fail(error)

    def _candidates(self, link: IPeerLink, target: Target) -> tuple[PeerEntry, ...]:
        """The peers, on the host of a refusing far end, that it may be."""
        here = self._registry.at_host(host_key(link))
        if isinstance(target, PeerAddress):
            named = [e for e in here if e.address and e.address.port == target.port]
            if named:
                return tuple(named)
        if self._is_doubtful(target):
            # It may be a peer that we have reached at another address.
            return here
        return tuple(e for e in here if not (e.address and e.proven))

    def _is_doubtful(self, target: Target) -> bool:
        """Whether DUPLICATE from this address probably means another node, not us.

        By now the far end would have probed and dropped a stale link to us.
        """
        return self._book.failures(target) >= _DOUBTFUL_DUPLICATES
