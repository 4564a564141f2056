"""Holds peers to the rates in the settings.

Connections from one address beyond its rate are cut.  Gossip on a link beyond its
rate is ignored.  Chat is never dropped: reading from the link pauses until the rate
allows more, and TCP makes the peer wait.
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

#: Seconds between two `PeerThrottled` events of one kind for one peer.
TELL_EVERY = 10.0


@dataclass(slots=True)
class _Use:
    """What one link has used of its rates; made on first use."""

    gossip: TokenBucket | None = None
    chat: TokenBucket | None = None
    waiting: IDelayedCall | None = None
    ignored: int = 0
    told_at: dict[Throttled, float] = field(default_factory=dict)


class Throttle(Feature):
    """The rate limits of one node; ``emit`` gets a `PeerThrottled` for an excess."""

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
        """Whether a new incoming link may stay; one from this machine always may."""
        if link.same_machine:
            return True
        return self._links.allows(source_of(link.remote_host), self._clock.seconds())

    def heeds(self, link: IPeerLink, entry: PeerEntry | None) -> bool:
        """Whether to handle a line of gossip.

        ``entry`` is the link's peer, None until the peer has been announced.
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
        """How many of ``wanted`` chat messages may be delivered now.

        Call `chatted` afterwards: it pauses the link if that is not all of them.
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
        """Give back ``unsaid`` messages to the rate; pause a link that exceeds it.

        ``unsaid`` were allowed but not delivered; ``is_over`` says that the link
        sent more than was allowed.
        """
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
        """Forget what the link has used."""
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
