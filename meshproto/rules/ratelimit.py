"""Rate limits.

Token buckets: a bucket holds up to ``burst`` tokens and gains ``rate`` tokens a
second; each event takes one.  Pure arithmetic: ``now`` is in seconds of one
monotonic clock.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from itertools import islice

from meshproto.wire.address import ip_of

#: The rounding error allowed when small gains add up to a whole token.
_ROUNDING = 1e-9


class TokenBucket:
    """Limits how often one peer may do one thing."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float, wanted: int = 1) -> int:
        """Take up to ``wanted`` whole tokens; returns how many were taken."""
        self._fill(now)
        taken = min(wanted, int(self._tokens + _ROUNDING))
        self._tokens -= taken
        return taken

    def give_back(self, tokens: int) -> None:
        """Return tokens that were taken but not used."""
        self._tokens += tokens

    def wait(self, now: float) -> float:
        """Seconds until a token is available."""
        self._fill(now)
        return max(0.0, 1 - self._tokens) / self.rate

    def is_full(self, now: float) -> bool:
        """Whether the bucket is full, like a new one."""
        self._fill(now)
        return self._tokens >= self.burst

    def _fill(self, now: float) -> None:
        gained = (now - self._at) * self.rate
        self._tokens = min(float(self.burst), self._tokens + gained)
        self._at = now


class SourceLimit:
    """Limits how often each of many sources may do something.

    Remembers at most ``max_sources``.  Sources that have been quiet long enough to
    have a full bucket are forgotten first, which makes no difference to them.
    """

    def __init__(self, rate: float, burst: int, *, max_sources: int = 1000) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, source: str, now: float) -> bool:
        """Whether the source may do it now; if so, that uses up a token."""
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
        allowed = bucket.take(now) == 1
        self._buckets[source] = bucket
        # For each source added up to two are removed, so quiet ones do not pile up.
        for oldest, quiet in tuple(islice(self._buckets.items(), 2)):
            if len(self._buckets) > self._max_sources or quiet.is_full(now):
                del self._buckets[oldest]
        return allowed


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 /64 network.

    Whoever has one address of a /64 usually has the whole network.
    """
    ip = ip_of(host)
    if ip is None or ip.version == 4:
        return host
    return str(ipaddress.ip_network((int(ip), 64), strict=False))
