"""How often something may happen.

Token buckets: a bucket holds up to ``burst`` tokens, gets ``rate`` of them a
second, and whatever happens takes one.  Pure arithmetic: ``now`` is in seconds
of one clock that never runs backwards.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from itertools import islice

from meshproto.wire.address import ip_of

#: What sums of small numbers may lack of a whole token.
_ROUNDING = 1e-9


class TokenBucket:
    """How often one peer may do one thing."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float, wanted: int = 1) -> int:
        """Take as many tokens as are wanted and there; returns how many."""
        self._fill(now)
        taken = min(wanted, int(self._tokens + _ROUNDING))
        self._tokens -= taken
        return taken

    def give_back(self, tokens: int) -> None:
        """Take back tokens that were not used."""
        self._tokens += tokens

    def wait(self, now: float) -> float:
        """Seconds until there is a token."""
        self._fill(now)
        return max(0.0, 1 - self._tokens) / self.rate

    def is_full(self, now: float) -> bool:
        """Whether the bucket is as good as a new one."""
        self._fill(now)
        return self._tokens >= self.burst

    def _fill(self, now: float) -> None:
        gained = (now - self._at) * self.rate
        self._tokens = min(float(self.burst), self._tokens + gained)
        self._at = now


class SourceLimit:
    """How often each of many sources may do something.

    At most ``max_sources`` are remembered.  Those that have been quiet for long
    are forgotten first, which changes nothing for them.
    """

    def __init__(self, rate: float, burst: int, *, max_sources: int = 1000) -> None:
        self._rate = rate
        self._burst = burst
        self._max_sources = max_sources
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, source: str, now: float) -> bool:
        """Whether the source may; if so, it has."""
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, now)
        allowed = bucket.take(now) == 1
        self._buckets[source] = bucket
        # One more comes, two may go: those that are quiet do not pile up.
        for oldest, quiet in tuple(islice(self._buckets.items(), 2)):
            if len(self._buckets) > self._max_sources or quiet.is_full(now):
                del self._buckets[oldest]
        return allowed


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 network of /64.

    Whoever has one address of such a network has them all.
    """
    ip = ip_of(host)
    if ip is None or ip.version == 4:
        return host
    return str(ipaddress.ip_network((int(ip), 64), strict=False))
