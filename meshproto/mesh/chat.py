"""Incoming chat: from a link to the subscribers."""

from __future__ import annotations

from collections.abc import Mapping

from meshproto.events import CloseReason
from meshproto.mesh.announcer import Announcer
from meshproto.mesh.feature import Feature, Handler
from meshproto.mesh.throttle import Throttle
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.wire.messages import Chats


class Chat(Feature):
    """Delivers chat in order, no faster than the rate allows."""

    def __init__(self, announcer: Announcer, throttle: Throttle) -> None:
        self._announcer = announcer
        self._throttle = throttle

    def handlers(self) -> Mapping[type, Handler]:
        """Chat comes in runs."""
        return {Chats: self._received}

    def _received(self, link: IPeerLink, entry: PeerEntry, run: Chats) -> Chats | None:
        if entry.speaks_elsewhere(link):
            return run
        if not entry.chats(link):
            # The peer had already left this link, so newer chat has overtaken it.
            link.abort(CloseReason.REPLACED)
            return None
        if not self._throttle.limits_chat:
            left = self._announcer.emit_chats(link, entry.snapshot(), run.texts)
            return Chats(left) if left else None
        allowed = self._throttle.chat(link, entry, len(run.texts))
        too_many = run.texts[allowed:]
        left = self._announcer.emit_chats(link, entry.snapshot(), run.texts[:allowed])
        self._throttle.chatted(link, entry, len(left), bool(too_many))
        left += too_many
        return Chats(left) if left else None
