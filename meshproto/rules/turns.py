"""How long the links of one node keep the reactor, one after the other.

A link whose turn is over while there is more to read waits, and every other link
comes first.  While one waits turns are short, so that each link gets an equal share of
the time, however much it has to read.
"""

from __future__ import annotations

from typing import Final

#: Seconds of a turn while no other link waits for its own: enough for what is
#: usually read at once.
LONG_TURN: Final = 0.001
#: Seconds of a turn while others wait.
SHORT_TURN: Final = 0.000_5


class Turns:
    """The links of a node that wait for their turn.

    ``seconds`` is how long a turn that begins now may last, subscribers included.
    """

    __slots__ = ("_waiting", "seconds")

    def __init__(self) -> None:
        self._waiting = 0
        self.seconds = LONG_TURN

    def wait(self) -> None:
        """A link has to wait."""
        self._waiting += 1
        self.seconds = SHORT_TURN

    def go(self) -> None:
        """A link waits no more."""
        self._waiting -= 1
        if not self._waiting:
            self.seconds = LONG_TURN
