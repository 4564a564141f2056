"""Whether what arrives on a link is told at once, later, or not at all.

Two rules about this file: every transition stands in `_TABLE`, and nothing here
knows sockets, clocks or messages.  Events come from `MeshProtocol`, the answer to
each is a `Step`, and the protocol carries it out.

=============  ================================  ==================================
State          What keeps the link back          What has arrived and is not told
=============  ================================  ==================================
READING        nothing                           is being told, or there is none
WAITING        its turn is over                  is told in its next turn
PAUSED         somebody's reason, or several     is told when all are taken back
BLOCKED        both                              is told when neither is left
LAST_WORDS     cut off, and its turn is over     is told in its next turn, its last
LAST_TURN      cut off                           is being told; then the link ends
FORSAKEN       cut off, and paused after that    is dropped; the link ends in its turn
ENDED          it has ended                      is dropped
=============  ================================  ==================================

A connection may go while the link is kept back.  One that is *cut off* may wait for
a turn, which is short, but not for a pause, which may last: its peer may be back
before.  One that the far end *closed* after its last word is kept as it is, like
one whose far end has finished but can still hear us: a transport without half-close
tells of both in one.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    """What keeps a link back; see the table above."""

    READING = auto()
    WAITING = auto()
    PAUSED = auto()
    BLOCKED = auto()
    LAST_WORDS = auto()
    LAST_TURN = auto()
    FORSAKEN = auto()
    ENDED = auto()


class Event(Enum):
    """What happens to a link."""

    #: Somebody wants it paused, and nobody else does.
    PAUSE = auto()
    #: The last reason to pause it was taken back.
    RESUME = auto()
    #: Its turn is over, and there is more to tell.
    TURN_OVER = auto()
    #: All others have had their turn.
    TURN = auto()
    #: The connection is gone: the far end closed it, or it was cut off.
    CLOSED = auto()
    CUT_OFF = auto()
    #: The link has ended.
    END = auto()


class Step(Enum):
    """What the protocol has to do."""

    NOTHING = auto()
    #: Read no more from the connection.
    STOP = auto()
    #: The same, and send `Event.TURN` when all others have had their turn.
    WAIT = auto()
    #: Tell what waits to be told, then read again.
    GO_ON = auto()
    #: Drop what waits to be told.
    DROP = auto()
    #: End the link.
    FINISH = auto()


_TABLE: Final[dict[tuple[State, Event], tuple[State, Step]]] = {
    (State.READING, Event.PAUSE): (State.PAUSED, Step.STOP),
    (State.READING, Event.TURN_OVER): (State.WAITING, Step.WAIT),
    (State.READING, Event.CLOSED): (State.READING, Step.FINISH),
    (State.READING, Event.CUT_OFF): (State.READING, Step.FINISH),
    (State.WAITING, Event.PAUSE): (State.BLOCKED, Step.NOTHING),
    (State.WAITING, Event.TURN): (State.READING, Step.GO_ON),
    (State.WAITING, Event.CUT_OFF): (State.LAST_WORDS, Step.NOTHING),
    (State.PAUSED, Event.RESUME): (State.READING, Step.GO_ON),
    (State.PAUSED, Event.CUT_OFF): (State.PAUSED, Step.FINISH),
    (State.BLOCKED, Event.RESUME): (State.WAITING, Step.NOTHING),
    (State.BLOCKED, Event.TURN): (State.PAUSED, Step.NOTHING),
    (State.BLOCKED, Event.CUT_OFF): (State.BLOCKED, Step.FINISH),
    (State.LAST_WORDS, Event.PAUSE): (State.FORSAKEN, Step.DROP),
    (State.LAST_WORDS, Event.TURN): (State.LAST_TURN, Step.GO_ON),
    (State.LAST_TURN, Event.PAUSE): (State.FORSAKEN, Step.DROP),
    (State.LAST_TURN, Event.TURN_OVER): (State.LAST_WORDS, Step.WAIT),
    (State.FORSAKEN, Event.TURN): (State.FORSAKEN, Step.GO_ON),
    **{(state, Event.END): (State.ENDED, Step.NOTHING) for state in State},
}

_WAITING: Final = {State.WAITING, State.BLOCKED, State.LAST_WORDS}
_PAUSED: Final = {State.PAUSED, State.BLOCKED, State.FORSAKEN, State.ENDED}
_CUT_OFF: Final = {State.LAST_WORDS, State.LAST_TURN, State.FORSAKEN}

# One for all links: there may be thousands.
_NO_REASONS: frozenset[object] = frozenset()


class Flow:
    """What keeps one link back.

    ``finished``: the far end has sent its last word.  ``gone``: the connection is
    gone, and the link only lives on for the last words.  ``telling`` is for the
    protocol to set while it tells: a link that is resumed meanwhile goes on by
    itself.
    """

    __slots__ = ("_reasons", "finished", "gone", "state", "telling")

    def __init__(self) -> None:
        self.state = State.READING
        self._reasons = _NO_REASONS
        self.finished = False
        self.gone = False
        self.telling = False

    @property
    def reading(self) -> bool:
        """Whether nobody has paused the link; its turn does not count."""
        return self.state not in _PAUSED

    @property
    def waits(self) -> bool:
        """Whether there is something to tell for which it waits for its turn."""
        return self.state in _WAITING

    def pause(self, reason: object) -> Step:
        """Somebody wants the link not to be read."""
        if self.state is State.ENDED or self.state in _CUT_OFF:
            return self._on(Event.PAUSE)
        is_first = not self._reasons
        self._reasons |= {reason}
        return self._on(Event.PAUSE) if is_first else Step.NOTHING

    def resume(self, reason: object) -> Step:
        """A reason to pause the link is taken back."""
        if reason not in self._reasons:
            return Step.NOTHING
        self._reasons -= {reason}
        return Step.NOTHING if self._reasons else self._on(Event.RESUME)

    def turn_over(self) -> Step:
        """The link has had its turn, and there is more to tell."""
        return self._on(Event.TURN_OVER)

    def turn(self) -> Step:
        """All others have had their turn."""
        return self._on(Event.TURN)

    def lose(self, *, closed: bool) -> Step:
        """The connection is gone while words are left.

        ``closed``: by the far end, after its last word.
        """
        step = self._on(Event.CLOSED if closed else Event.CUT_OFF)
        self.gone = step is not Step.FINISH
        return step

    def end(self) -> None:
        """The link has ended."""
        self._on(Event.END)
        self._reasons = _NO_REASONS
        self.gone = False

    def _on(self, event: Event) -> Step:
        # What the table does not name changes nothing.
        self.state, step = _TABLE.get((self.state, event), (self.state, Step.NOTHING))
        return step
