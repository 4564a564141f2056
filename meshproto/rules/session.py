"""The life of one ``mesh/1`` link, as one table.

Two rules for this file: every transition on a message is in `_TABLE`, and nothing
here knows sockets, clocks or other links.  Inputs are what happened: a `Message` or
a `Verdict`.  Outputs are effects, which `MeshProtocol` carries out in order.

::

    GREETING ── Greeting ──> JUDGING ── Admitted ──> READY
    (listener,               │  └─ Duplicate, Full, Itself ──> ENDED
     or dialler that         └ a refusal ends the dialler's link at once
     awaits an answer)

Applications do not hear of the peer before `READY`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from meshproto.events import CloseReason, Direction
from meshproto.rules.effects import (
    Ask,
    Effect,
    End,
    Establish,
    Greet,
    Notify,
    Send,
    TurnedAway,
)
from meshproto.rules.registry import (
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Itself,
    Replaced,
    Verdict,
)
from meshproto.wire.messages import (
    Chats,
    Greeting,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)


class State(Enum):
    """How far a link has come."""

    # The table is looked up for every message; an Enum hashes its name, slowly.
    __hash__ = object.__hash__

    GREETING = auto()
    JUDGING = auto()
    READY = auto()
    ENDED = auto()


# Aliases, because attribute access on an Enum is slow.
GREETING, JUDGING, READY, ENDED = State


Step = tuple[State, tuple[Effect, ...]]


class Session:
    """The state of one ``mesh/1`` link."""

    __slots__ = ("direction", "state")

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.state = GREETING

    def receive(self, message: Message) -> tuple[Effect, ...]:
        """The effects of a message; none where it has no meaning."""
        step = _TABLE.get((self.state, type(message)))
        if step is None:
            return ()
        self.state, effects = step(self, message)
        return effects

    def judge(self, verdict: Verdict) -> tuple[Effect, ...]:
        """The effects of the owner's verdict on the far end.

        None if the owner has ended the link meanwhile.
        """
        if self.state is not JUDGING:
            return ()
        listener = self.direction is Direction.INCOMING
        answer: tuple[Effect, ...] = (Greet(),) if listener else ()
        match verdict:
            case Admitted() | Replaced() | Crossed():
                self.state = READY
                return (*answer, Establish())
            case Itself():
                return self._end(answer, CloseReason.OURSELVES)
            case Duplicate():
                return self._end(self._refuse(Refusal.DUPLICATE), CloseReason.REFUSED)
            case Full():
                return self._end(self._refuse(Refusal.MAX_PEERS), CloseReason.REFUSED)
            case _:
                assert_never(verdict)

    def end(self) -> None:
        """The link has ended: ignore whatever still arrives."""
        self.state = ENDED

    def _refuse(self, refusal: Refusal) -> tuple[Effect, ...]:
        if self.direction is Direction.INCOMING:
            return (Send(refusal),)
        return ()

    def _end(
        self, effects: tuple[Effect, ...], reason: CloseReason
    ) -> tuple[Effect, ...]:
        return (*effects, End(reason))


def _greeted(session: Session, greeting: Message) -> Step:
    assert isinstance(greeting, Greeting)
    return JUDGING, (Ask(greeting),)


def _refused(session: Session, refusal: Message) -> Step:
    assert isinstance(refusal, Refusal)
    effects = (TurnedAway(refusal), End(CloseReason.TURNED_AWAY))
    return GREETING, effects


# Made once: they are the effects of nearly every message.
_NOTIFY = (Notify(),)
_ANSWER_AND_NOTIFY = (Send(Pong()), Notify())


def _heard(session: Session, message: Message) -> Step:
    return session.state, _NOTIFY


def _pinged(session: Session, message: Message) -> Step:
    return session.state, _ANSWER_AND_NOTIFY


_Transition = Callable[[Session, Message], Step]

_TABLE: dict[tuple[State, type[Message]], _Transition] = {
    (GREETING, Greeting): _greeted,
    (GREETING, Refusal): _refused,
    (READY, Ping): _pinged,
    (READY, Pong): _heard,
    (READY, RequestPeers): _heard,
    (READY, PeerList): _heard,
    (READY, Chats): _heard,
}
