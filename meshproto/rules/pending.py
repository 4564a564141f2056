"""The limit on links that are still in their handshake."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import OWN_HOST, host_key


@dataclass(frozen=True, slots=True)
class Turned:
    """The newcomer is refused: its host has too many links in their handshake."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The newcomer may begin its handshake; close ``evicted`` to make room."""

    evicted: IPeerLink | None = None


class PendingLinks:
    """Incoming links that have not finished their handshake.

    Bounded in total and for each remote host; the second limit does not apply to
    this machine.  At the total limit the oldest link is evicted: an honest dialler
    speaks at once, so silent links cannot keep others out.
    """

    def __init__(self, limit: int, limit_per_host: int) -> None:
        self._limit = limit
        self._limit_per_host = limit_per_host
        self._links: OrderedDict[IPeerLink, str] = OrderedDict()
        self._hosts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._links)

    def add(self, link: IPeerLink) -> Pending | Turned:
        """Decide on a newcomer, and count it if it is accepted."""
        host = host_key(link)
        if host != OWN_HOST and self._hosts[host] >= self._limit_per_host:
            return Turned()
        evicted = None
        if len(self._links) >= self._limit:
            evicted = next(iter(self._links))
            self.discard(evicted)
        self._links[link] = host
        self._hosts[host] += 1
        return Pending(evicted)

    def discard(self, link: IPeerLink) -> None:
        """The link has finished its handshake, or ended."""
        host = self._links.pop(link, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]
