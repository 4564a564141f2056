"""Keeps live links alive and drops dead ones.

Owns the maintenance loop and the probes under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.events import (
    CloseReason,
    Event,
    PeerReaped,
    PingReceived,
    PingSent,
    PongReceived,
)
from meshproto.mesh.feature import Feature, Handler
from meshproto.mesh.loop import Loop
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.liveness import Liveness, answered, is_mute
from meshproto.rules.registry import PeerEntry, Registry
from meshproto.wire.messages import Ping, Pong


class Maintenance(Feature):
    """Pings every peer, drops silent ones, and probes links that may be dead."""

    def __init__(
        self,
        registry: Registry,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        interval: float,
        peer_timeout: float,
        probe_timeout: float,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._emit = emit
        self._probe_timeout = probe_timeout
        self._liveness = Liveness(peer_timeout, interval)
        self._loop = Loop(clock, interval, self._round)
        self._probes: dict[IPeerLink, IDelayedCall] = {}
        # The token of a PING, and of its answer, is the number of its round.
        self._rounds = 0
        self._round_at = 0.0

    def handlers(self) -> Mapping[type, Handler]:
        """PING and PONG; the session has already answered the PING."""
        return {Ping: self._pinged, Pong: self._answered}

    def start(self) -> None:
        """Begin the rounds."""
        self._liveness.sweep(self._clock.seconds(), ())
        self._loop.start()

    def stop(self) -> None:
        """End the rounds and every probe."""
        self._loop.stop()
        for link in tuple(self._probes):
            self.link_ended(link)

    def probe(self, link: IPeerLink) -> None:
        """Drop the link unless something is heard on it within the probe timeout.

        Its peer has connected again.  So a ``mesh/1`` link is also dropped if the
        peer answers but has said nothing of its own for long.

        Does nothing while a probe of the link is under way.
        """
        if link not in self._probes:
            self._probes[link] = self._clock.callLater(
                self._probe_timeout, self._probe_due, link, self._clock.seconds()
            )
            link.send_urgent(Ping())

    def link_ended(self, link: IPeerLink) -> None:
        """Cancel the link's probe, if any."""
        probe = self._probes.pop(link, None)
        if probe is not None:
            probe.cancel()

    def _pinged(self, link: IPeerLink, entry: PeerEntry, ping: Ping) -> None:
        entry.hears(link, ping)
        self._emit(PingReceived(peer=entry.snapshot()))

    def _answered(self, link: IPeerLink, entry: PeerEntry, pong: Pong) -> None:
        entry.hears(link, pong)
        if pong.token == str(self._rounds):
            entry.round_trip = self._clock.seconds() - self._round_at
        self._emit(PongReceived(peer=entry.snapshot()))

    def _probe_due(self, link: IPeerLink, probed_at: float) -> None:
        del self._probes[link]
        entry = self._registry.of_link(link)
        if not link.reading or entry is None:
            return
        if not answered(probed_at, link.last_heard):
            link.abort(CloseReason.PROBE_UNANSWERED)
        elif entry.said is None and is_mute(entry.spoke_at, self._clock.seconds()):
            # The peer is alive and dials us, so it has forgotten this link.  The
            # original program does that, and never recovers on its own.
            link.close(CloseReason.FORGOTTEN)

    def _round(self) -> None:
        now = self._clock.seconds()
        sweep = self._liveness.sweep(
            now, [(e, self._last_heard(e, now)) for e in self._registry.entries()]
        )
        self._rounds += 1
        self._round_at = now
        ping = Ping(str(self._rounds))
        for silent in sweep.silent:
            entry = silent.peer
            if self._registry.of_link(entry.link) is entry:
                self._emit(PeerReaped(peer=entry.snapshot(), silent_for=silent.seconds))
                for link in entry.links():
                    link.abort(CloseReason.TIMEOUT)
        for entry in sweep.alive:
            if self._registry.of_link(entry.link) is entry:
                entry.link.send_urgent(ping)
                self._emit(PingSent(peer=entry.snapshot()))

    def _last_heard(self, entry: PeerEntry, now: float) -> float:
        # Of a peer's two links, the one we send on must be alive.  While we do not
        # read from a peer, its silence means nothing.
        return entry.link.last_heard if entry.link.reading else now
