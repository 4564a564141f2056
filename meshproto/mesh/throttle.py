"""Keeps peers to the rates that the settings allow.

New connections of one address beyond the rate are cut.  Gossip of one link
beyond it is not heeded.  Chat is not dropped: the link is not read until its
peer may speak again, and TCP makes the peer wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.config import NodeConfig
from meshproto.events import Event, PeerThrottled, Throttled
from meshproto.mesh.feature import Feature
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.ratelimit import SourceLimit, TokenBucket, source_of
from meshproto.rules.registry import PeerEntry

#: Seconds between two events that tell of one peer and kind.
TELL_EVERY = 10.0


@dataclass(slots=True)
class _Use:
    """What one link has used of its rates, made when it first uses any."""

    gossip: TokenBucket | None = None
    chat: TokenBucket | None = None
    waiting: IDelayedCall | None = None
    ignored: int = 0
    told_at: dict[Throttled, float] = field(default_factory=dict)


class Throttle(Feature):
    """The rates of one node.  ``emit`` is told when one begins to bite."""

    def __init__(
        self, config: NodeConfig, clock: IReactorTime, emit: Callable[[Event], None]
    ) -> None:
        self._config = config
        self._clock = clock
        self._emit = emit
        self._links = SourceLimit(config.link_rate, config.link_burst)
        self._uses: dict[IPeerLink, _Use] = {}
        self.limits_chat = config.chat_rate > 0

    def admits(self, link: IPeerLink) -> bool:
        """Whether a new incoming link may stay; this machine's always may."""
        if link.same_machine:
            return True
        return self._links.allows(source_of(link.remote_host), self._clock.seconds())

    def heeds(self, link: IPeerLink, entry: PeerEntry | None) -> bool:
        """Whether a line of gossip is to be heeded.

        ``entry`` is whose link it is, None as long as that is not announced.
        """
        now = self._clock.seconds()
        use = self._use(link)
        if use.gossip is None:
            config = self._config
            use.gossip = TokenBucket(config.gossip_rate, config.gossip_burst, now)
        if use.gossip.take(now):
            return True
        use.ignored += 1
        if entry is not None and self._tell(use, entry, Throttled.GOSSIP, use.ignored):
            use.ignored = 0
        return False

    def chat(self, link: IPeerLink, entry: PeerEntry, wanted: int) -> int:
        """How many of so many chat messages may be handed on.

        When it is not all of them the link is paused, until there may be more.
        """
        now = self._clock.seconds()
        use = self._use(link)
        if use.chat is None:
            config = self._config
            use.chat = TokenBucket(config.chat_rate, config.chat_burst, now)
        return use.chat.take(now, wanted)

    def chatted(
        self, link: IPeerLink, entry: PeerEntry, unsaid: int, is_over: bool
    ) -> None:
        """Take back what was not handed on; pause a link that says too much."""
        use = self._uses.get(link)
        if use is None or use.chat is None:
            return
        use.chat.give_back(unsaid)
        if is_over and not unsaid and use.waiting is None:
            wait = use.chat.wait(self._clock.seconds())
            use.waiting = self._clock.callLater(wait, self._resume, link, use)
            self._tell(use, entry, Throttled.CHAT, 0)
            link.pause(self)

    def link_ended(self, link: IPeerLink) -> None:
        """Forget what it has used."""
        use = self._uses.pop(link, None)
        if use is not None and use.waiting is not None:
            use.waiting.cancel()

    def _use(self, link: IPeerLink) -> _Use:
        use = self._uses.get(link)
        if use is None:
            use = self._uses[link] = _Use()
        return use

    def _resume(self, link: IPeerLink, use: _Use) -> None:
        use.waiting = None
        link.resume(self)

    def _tell(self, use: _Use, entry: PeerEntry, kind: Throttled, ignored: int) -> bool:
        now = self._clock.seconds()
        if now - use.told_at.get(kind, float("-inf")) < TELL_EVERY:
            return False
        use.told_at[kind] = now
        self._emit(PeerThrottled(peer=entry.snapshot(), kind=kind, ignored=ignored))
        return True
