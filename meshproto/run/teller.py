"""Writes what happens to a node as lines, without letting any peer flood them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall

from meshproto.events import Event
from meshproto.interfaces import IMesh
from meshproto.run.quiet import Quiet, Rates, shown_kinds
from meshproto.run.render import Narrator

#: Called with an event and its line.
Write = Callable[[Event, str], object]


class Teller:
    """Subscribes to a node and writes a line for each event to show.

    A timer writes the summaries of `Quiet` if no event comes first.
    """

    def __init__(
        self,
        node: IMesh,
        narrator: Narrator,
        rates: Rates,
        write: Write,
        *,
        debug: bool,
    ) -> None:
        self._clock = node.clock
        self._quiet = Quiet(narrator, node.clock.seconds, rates, debug=debug)
        self._write = write
        self._telling: IDelayedCall | None = None
        self._unsubscribe = node.subscribe(self._event_emitted, *shown_kinds(debug))

    def stop(self) -> None:
        """Write the remaining summaries, then stop."""
        self._unsubscribe()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        self._tell(self._quiet.rest())

    def _event_emitted(self, event: Event) -> None:
        if lines := self._quiet.lines(event):
            self._tell(lines)
        if self._telling is None:
            self._tell_later()

    def _tell_later(self) -> None:
        wait = self._quiet.wait()
        if wait is not None:
            self._telling = self._clock.callLater(wait, self._due)

    def _due(self) -> None:
        self._telling = None
        self._tell(self._quiet.due())
        self._tell_later()

    def _tell(self, lines: Iterable[tuple[Event, str]]) -> None:
        for event, line in lines:
            self._write(event, line)
