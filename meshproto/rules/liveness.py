"""When a silent peer is dead.

Pure arithmetic on times: who is asked, and when, is `Maintenance`'s business.

A sweep that comes much too late means that *we* were not running (a suspended
process, a sleeping laptop).  What the peers sent meanwhile may still lie
unread, so that time is not held against them.
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
    """Judges peers by the time at which they were last heard.

    Times and intervals are seconds of one clock that never runs backwards.
    """

    def __init__(self, peer_timeout: float, interval: float) -> None:
        self._peer_timeout = peer_timeout
        self._interval = interval
        self._last_sweep: float | None = None
        self._excused_until = float("-inf")

    def sweep(self, now: float, heard: Iterable[tuple[T, float]]) -> Sweep[T]:
        """Judge every peer, given when each was last heard."""
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


#: Seconds after which a peer that only answers has forgotten us.  Whoever has
#: us for a peer asks for a sign of life more often: the original every 15.
MUTE_AFTER = 35.0


def is_mute(spoke_at: float, now: float) -> bool:
    """Whether a peer has been answering only, for too long."""
    return now - spoke_at > MUTE_AFTER


def answered(probed_at: float, last_heard: float) -> bool:
    """Whether anything was heard of a peer since it was probed."""
    return last_heard >= probed_at
