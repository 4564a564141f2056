"""Lines that a peer can cause at will, thinned out.

A peer that does the same thing over and over fills neither a disk nor a screen:
of each peer and kind one line is shown in ten seconds, and a line later how
many were left out.  What tells who is connected is always shown, and so is chat;
the rates of the node bound those.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator

from meshproto.events import (
    DialAttemptFailed,
    Event,
    NodeError,
    PeerListReceived,
    PeerRefused,
    PeerRequestReceived,
    PingReceived,
    PongReceived,
)

#: Seconds in which one line of a peer and kind is shown.
WINDOW = 10.0
#: Peers and kinds that are remembered.
MAX_KEPT = 1000


class _Window:
    __slots__ = ("event", "left_out", "line", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.left_out = 0
        self.event: Event | None = None
        self.line = ""


class Quiet:
    """Decides which lines are shown.  ``now`` gives the time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()

    def lines(self, event: Event, line: str | None) -> Iterator[tuple[Event, str]]:
        """The lines to show when an event comes, each with its event.

        ``line`` is the text of the event, None where it has none.  Lines that
        were left out come as one, the last of them, with their number, as soon
        as any event comes after the ten seconds.
        """
        now = self._now()
        while self._windows:
            key, window = next(iter(self._windows.items()))
            # A clock that was set back must not silence anybody for hours.
            lasts = window.until - WINDOW <= now < window.until
            if lasts and len(self._windows) <= MAX_KEPT:
                break
            del self._windows[key]
            if window.event is not None:
                yield window.event, _summary(window)
        if line is None:
            return
        source = _source(event)
        if source is None:
            yield event, line
            return
        key = type(event), source
        known = self._windows.get(key)
        if known is None:
            self._windows[key] = _Window(now + WINDOW)
            yield event, line
        else:
            known.left_out += 1
            known.event, known.line = event, line


def _summary(window: _Window) -> str:
    if window.left_out == 1:
        return window.line
    return f"{window.line} (and {window.left_out - 1} more like it)"


def _source(event: Event) -> Hashable:
    """Whose doing the event is; None for what is always shown."""
    match event:
        case PingReceived() | PongReceived() | PeerRequestReceived():
            return event.peer.id, event.peer.host
        case PeerListReceived():
            return event.peer.id, event.peer.host
        case NodeError():
            return event.context, event.error
        case PeerRefused():
            return event.host
        case DialAttemptFailed():
            return str(event.target)
        case _:
            return None
