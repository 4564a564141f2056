"""When a silent peer counts as dead.

Pure arithmetic on times: `Maintenance` decides whom to ping, and when.

A sweep that comes much too late means that *we* were not running (a suspended
process, a sleeping laptop).  What the peers sent in that time may still be unread,
so it does not count as silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Silent(Generic[T]):
    """``peer`` has said nothing for ``seconds``, which is too long."""

    peer: T
    seconds: float


@dataclass(frozen=True, slots=True)
class Sweep(Generic[T]):
    """Whom to drop and whom to ping."""

    silent: tuple[Silent[T], ...]
    alive: tuple[T, ...]


class Liveness:
    """Judges peers by when they were last heard.

    Times and intervals are seconds of one monotonic clock.
    """

    def __init__(self, peer_timeout: float, interval: float) -> None:
        self._peer_timeout = peer_timeout
        self._interval = interval
        self._last_sweep: float | None = None
        self._excused_until = float("-inf")

    def sweep(self, now: float, heard: Iterable[tuple[T, float]]) -> Sweep[T]:
        """Judge every peer; ``heard`` says when each was last heard."""
        last, self._last_sweep = self._last_sweep, now
        if last is not None and now - last > 2 * self._interval:
            self._excused_until = now
        silent = []
        alive = []
        for peer, last_heard in heard:
            seconds = now - max(last_heard, self._excused_until)
            if seconds > self._peer_timeout:
                silent.append(Silent(peer, now - last_heard))
            else:
                alive.append(peer)
        return Sweep(tuple(silent), tuple(alive))


#: Seconds after which a peer that only answers must have forgotten us.  A node pings
#: its peers more often than that: the original program every 15 seconds.
MUTE_AFTER = 35.0


def is_mute(spoke_at: float, now: float) -> bool:
    """Whether a peer has sent nothing but answers for too long."""
    return now - spoke_at > MUTE_AFTER


def answered(probed_at: float, last_heard: float) -> bool:
    """Whether the peer has sent anything since it was probed."""
    return last_heard >= probed_at
