"""Who may come in: the connections that others make, and who is behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from twisted.internet.interfaces import IReactorTime

from meshproto.config import NodeConfig
from meshproto.events import CloseReason, Event, NodeError, PeerRefused
from meshproto.mesh.dials import Dials
from meshproto.mesh.throttle import Throttle
from meshproto.mesh.twins import Twins
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pending import PendingLinks, Turned
from meshproto.rules.registry import (
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Itself,
    Registry,
    Replaced,
    Twin,
    Verdict,
)
from meshproto.wire.messages import Greeting, Refusal

_TURNED_AT_THE_DOOR = {CloseReason.HANDSHAKE_BACKLOG, CloseReason.TOO_MANY_LINKS}

_WORTH_TELLING = {
    CloseReason.PROTOCOL_ERROR,
    CloseReason.LINE_TOO_LONG,
    CloseReason.HANDSHAKE_TIMEOUT,
}


class Admission:
    """Bounds the handshakes, and carries out what the registry decides on each.

    ``probe`` is called for a link that may be dead.
    """

    def __init__(
        self,
        config: NodeConfig,
        registry: Registry,
        throttle: Throttle,
        dials: Dials,
        twins: Twins,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        probe: Callable[[IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._throttle = throttle
        self._dials = dials
        self._twins = twins
        self._clock = clock
        self._emit = emit
        self._probe = probe
        self.pending = PendingLinks(config.max_pending, config.max_pending_per_host)

    def knocked(self, link: IPeerLink) -> None:
        """Somebody has connected: turn them away when there are too many."""
        if not self._throttle.admits(link):
            link.abort(CloseReason.TOO_MANY_LINKS)
            return
        decision = self.pending.add(link)
        if isinstance(decision, Turned):
            link.abort(CloseReason.HANDSHAKE_BACKLOG)
        elif decision.evicted is not None:
            decision.evicted.abort(CloseReason.HANDSHAKE_BACKLOG)

    def judge(self, link: IPeerLink, greeting: Greeting, confirmed: bool) -> Verdict:
        """Have the registry judge the far end of a link."""
        now = self._clock.seconds() if confirmed else link.last_heard
        verdict = self._registry.admit(link, greeting, now, confirmed=confirmed)
        self._twins.discard(link)
        if not isinstance(verdict, Twin):
            self.pending.discard(link)
        match verdict:
            case Admitted() | Crossed():
                pass
            case Twin():
                self._twins.add(link)
            case Replaced(_, old):
                if old.second is not None:
                    old.second.abort(CloseReason.REPLACED)
                old.link.abort(CloseReason.REPLACED)
            case Duplicate(entry):
                self._probe(entry.link)
                self._refused(link, greeting, Refusal.DUPLICATE)
            case Full():
                self._refused(link, greeting, Refusal.MAX_PEERS)
            case Itself():
                self._twins.found_ourselves(link)
            case _:
                assert_never(verdict)
        return verdict

    def link_ended(self, link: IPeerLink) -> None:
        """No more will come of the link."""
        self.pending.discard(link)

    def tell_of(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """A link that others made has ended without a seat."""
        host = link.remote_host
        if reason in _TURNED_AT_THE_DOOR:
            self._emit(PeerRefused(id="", name="", host=host, reason=reason.value))
        elif reason in _WORTH_TELLING:
            error = detail or reason.value
            self._emit(NodeError(context=f"Handshake with {host}", error=error))

    def _refused(self, link: IPeerLink, greeting: Greeting, refusal: Refusal) -> None:
        if link.target is not None:
            self._dials.no_seat_for(link)
        else:
            self._emit(
                PeerRefused(
                    id=greeting.id,
                    name=greeting.name,
                    host=link.remote_host,
                    reason=refusal.value,
                )
            )
