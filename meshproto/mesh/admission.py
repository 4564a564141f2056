"""Which incoming connections and which peers a node admits."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from meshproto.config import NodeConfig
from meshproto.events import CloseReason, Event, NodeError, PeerRefused
from meshproto.mesh.dials import Dials
from meshproto.mesh.refusals import REFUSED_BY_US
from meshproto.mesh.throttle import Throttle
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
    Verdict,
)
from meshproto.wire.messages import Greeting, Refusal

_TURNED_AT_THE_DOOR = {CloseReason.HANDSHAKE_BACKLOG, CloseReason.TOO_MANY_LINKS}

_WORTH_TELLING = {
    CloseReason.PROTOCOL_ERROR,
    CloseReason.LINE_TOO_LONG,
    CloseReason.HANDSHAKE_TIMEOUT,
    CloseReason.NO_COMMON_PROTOCOL,
}


class Admission:
    """Limits unfinished handshakes and carries out the registry's verdicts.

    ``probe`` is called with a link that may be dead.
    """

    def __init__(
        self,
        config: NodeConfig,
        registry: Registry,
        throttle: Throttle,
        dials: Dials,
        emit: Callable[[Event], None],
        *,
        probe: Callable[[IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._throttle = throttle
        self._dials = dials
        self._emit = emit
        self._probe = probe
        self.pending = PendingLinks(config.max_pending, config.max_pending_per_host)

    def knocked(self, link: IPeerLink) -> None:
        """Handle a new incoming link; cut it when there are too many."""
        if not self._throttle.admits(link):
            link.abort(CloseReason.TOO_MANY_LINKS)
            return
        decision = self.pending.add(link)
        if isinstance(decision, Turned):
            link.abort(CloseReason.HANDSHAKE_BACKLOG)
        elif decision.evicted is not None:
            decision.evicted.abort(CloseReason.HANDSHAKE_BACKLOG)

    def greeted(self, link: IPeerLink, greeting: Greeting) -> Verdict:
        """Have the registry judge a greeting, and carry out its verdict."""
        verdict = self._registry.admit(link, greeting, link.last_heard)
        match verdict:
            case Admitted() | Crossed():
                pass
            case Replaced(_, old):
                # This ends a second link of that peer, too.
                old.link.abort(CloseReason.REPLACED)
            case Duplicate(entry):
                self._probe(entry.link)
                self._refused(link, greeting, Refusal.DUPLICATE)
            case Full():
                self._refused(link, greeting, Refusal.MAX_PEERS)
            case Itself():
                self._dials.found_ourselves(link)
            case _:
                assert_never(verdict)
        return verdict

    def is_over(self, link: IPeerLink) -> None:
        """The handshake of a link is over, whether it succeeded or failed."""
        self.pending.discard(link)

    def tell_of(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """Report an incoming link that ended without a seat, if worth telling."""
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
                    reason=REFUSED_BY_US[refusal],
                )
            )
