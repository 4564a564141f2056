"""Incoming payloads: messages that are not lines of chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meshproto.events import DataReceived, Event
from meshproto.mesh.feature import Feature, Handler
from meshproto.mesh.throttle import Throttle
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.wire.messages import Data, Headers


class Payloads(Feature):
    """Delivers payloads; each counts as one chat message against the rate."""

    def __init__(self, emit: Callable[[Event], None], throttle: Throttle) -> None:
        self._emit = emit
        self._throttle = throttle

    def handlers(self) -> Mapping[type, Handler]:
        """Whole payloads: the session has put their pieces together."""
        return {Data: self._received}

    def _received(self, link: IPeerLink, entry: PeerEntry, data: Data) -> Data | None:
        if self._throttle.limits_chat and not self._throttle.chat(link, entry, 1):
            self._throttle.chatted(link, entry, 0, True)
            return data
        entry.hears(link, data)
        self._emit(
            DataReceived(
                peer=entry.snapshot(),
                payload=data.payload,
                headers=Headers(dict(data.headers)),
            )
        )
        return None
