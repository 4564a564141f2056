"""How long each link of a node may hold the reactor.

A link whose turn is over while it has more to read waits until every other link has
had a turn.  While any link waits, turns are short, so that all links get an equal
share of the time, however much each has to read.
"""

from __future__ import annotations

from typing import Final

#: Seconds of a turn while no link waits: enough for a usual read.
LONG_TURN: Final = 0.001
#: Seconds of a turn while links wait.
SHORT_TURN: Final = 0.000_5


class Turns:
    """Counts the links of a node that wait for their turn.

    ``seconds`` is how long a turn that begins now may last, including the time
    that subscribers take.
    """

    __slots__ = ("_waiting", "seconds")

    def __init__(self) -> None:
        self._waiting = 0
        self.seconds = LONG_TURN

    def wait(self) -> None:
        """A link begins to wait."""
        self._waiting += 1
        self.seconds = SHORT_TURN

    def go(self) -> None:
        """A link stops waiting."""
        self._waiting -= 1
        if not self._waiting:
            self.seconds = LONG_TURN
