"""Has what happens to a node told as lines, without letting anybody flood them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall

from meshproto.events import Event
from meshproto.interfaces import IMesh
from meshproto.run.quiet import Quiet, Rates, shown_kinds
from meshproto.run.render import Narrator

#: It takes a line and the event that it tells.
Write = Callable[[Event, str], object]


class Teller:
    """Subscribes to a node and writes a line for each event that is shown.

    What `Quiet` leaves out is told by a timer, if no event comes before.
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
        """Tell what is left, and nothing more."""
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
