"""Whether messages on a link are delivered at once, later, or not at all.

Two rules for this file: every transition is in `_TABLE`, and nothing here knows
sockets, clocks or messages.  Events come from `MeshProtocol`; the answer to each is
a `Step`, which the protocol carries out.

=============  ================================  ====================================
State          Why the link is held              Its undelivered messages
=============  ================================  ====================================
READING        not held                          are being delivered, if any
WAITING        its turn is over                  are delivered in its next turn
PAUSED         one or more reasons to pause      are delivered when all are resumed
BLOCKED        both                              are delivered when neither is left
LAST_WORDS     cut off, and its turn is over     are delivered in its next turns
LAST_TURN      cut off                           are being delivered; then it ends
FORSAKEN       cut off, then paused              are dropped; the link ends next turn
ENDED          it has ended                      are dropped
=============  ================================  ====================================

A connection may be lost while its link is held.  If it was *cut off*, the link may
wait for a turn, which is short, but not for a pause, which may be long: the peer may
be back before that.  If the far end *closed* it after its last message, the link
stays as it is, just as when the far end has only finished sending: a transport
without half-close reports both in one event.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    """Why a link is held; see the table above."""

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

    #: It has its first reason to pause.
    PAUSE = auto()
    #: Its last reason to pause was withdrawn.
    RESUME = auto()
    #: Its turn is over, and there is more to deliver.
    TURN_OVER = auto()
    #: All other links have had their turn.
    TURN = auto()
    #: The connection is gone: the far end closed it, or it was cut off.
    CLOSED = auto()
    CUT_OFF = auto()
    #: The link has ended.
    END = auto()


class Step(Enum):
    """What the protocol has to do."""

    NOTHING = auto()
    #: Stop reading from the connection.
    STOP = auto()
    #: The same, and send `Event.TURN` when all other links have had their turn.
    WAIT = auto()
    #: Deliver the messages that wait, then read again.
    GO_ON = auto()
    #: Drop the messages that wait.
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
    """Whether one link is held, and why.

    ``finished``: the far end has finished sending.  ``gone``: the connection is
    gone, and the link lives on only to deliver its last messages.  The protocol sets
    ``telling`` while it delivers: a link resumed in that time needs no new start.
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
        """Whether the link is not paused; it may still wait for its turn."""
        return self.state not in _PAUSED

    @property
    def waits(self) -> bool:
        """Whether messages wait for the link's next turn."""
        return self.state in _WAITING

    def pause(self, reason: object) -> Step:
        """Add a reason to pause the link."""
        if self.state is State.ENDED or self.state in _CUT_OFF:
            return self._on(Event.PAUSE)
        is_first = not self._reasons
        self._reasons |= {reason}
        return self._on(Event.PAUSE) if is_first else Step.NOTHING

    def resume(self, reason: object) -> Step:
        """Withdraw a reason to pause the link."""
        if reason not in self._reasons:
            return Step.NOTHING
        self._reasons -= {reason}
        return Step.NOTHING if self._reasons else self._on(Event.RESUME)

    def turn_over(self) -> Step:
        """The link's turn is over, and there is more to deliver."""
        return self._on(Event.TURN_OVER)

    def turn(self) -> Step:
        """All other links have had their turn."""
        return self._on(Event.TURN)

    def lose(self, *, closed: bool) -> Step:
        """The connection is gone while messages are undelivered.

        ``closed`` says that the far end closed it, after its last message.
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
        # An event without a row changes nothing.
        self.state, step = _TABLE.get((self.state, event), (self.state, Step.NOTHING))
        return step
