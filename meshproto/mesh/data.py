"""Payloads on their way in: what peers send that is no line of chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from meshproto.events import DataReceived, Event
from meshproto.mesh.feature import Feature, Handler
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.wire.messages import Data


class Payloads(Feature):
    """Tells of each payload."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit

    def handlers(self) -> Mapping[type, Handler]:
        """What came in pieces is whole here."""
        return {Data: self._received}

    def _received(self, link: IPeerLink, entry: PeerEntry, data: Data) -> None:
        entry.hears(link, data)
        self._emit(
            DataReceived(
                peer=entry.snapshot(),
                payload=data.payload,
                headers=MappingProxyType(dict(data.headers)),
            )
        )
