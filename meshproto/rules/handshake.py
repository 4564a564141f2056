"""The life of one ``mesh/2`` link, as one table.

Two rules for this file: every transition of such a link is in `_TABLES`, and nothing
here knows sockets, clocks or other links.  Inputs are what happened: a message or a
verdict of `pairs`.  Outputs are effects, which the link carries out in order before
it passes on the next message; the verdict that `Ask` requests is given at once.

::

    listener                                dialler
    GREETING                                GREETING
      │ greeting: say ours, and HELLO         │ greeting
    HELLO_DUE                               HELLO_DUE
      │ HELLO                                 │ HELLO
    HELLO_JUDGED ── Unwanted:               HELLO_JUDGED ── Unwanted: ENDED
      │             say REFUSED, ENDED        │ SayHello: say HELLO
      │ Welcomed: say WELCOME               WELCOME_DUE ── REFUSED: ENDED
    READY_DUE                                 │ WELCOME
      │ READY                               WELCOME_JUDGED ── Unwanted: ENDED
    READY_JUDGED                              │ Established: say READY
      │ Established                           │
    ESTABLISHED                             ESTABLISHED

Until the link is established, each step allows only the messages that the diagram
shows.  Anything else, PING included, ends the link with a protocol error, as does a
handshake message afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from meshproto.events import CloseReason, Direction
from meshproto.rules.effects import (
    Ask,
    Effect,
    End,
    Establish,
    Greet,
    Introduce,
    Notify,
    Send,
    TurnedAway,
)
from meshproto.rules.pairs import Established, SayHello, Unwanted, Verdict, Welcomed
from meshproto.wire.messages import (
    Chats,
    Greeting,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Refusal,
    RefusalReason,
    Refused,
    Welcome,
)

Input = Message | Verdict


class State(Enum):
    """How far a link has come."""

    # The table is looked up for every message; an Enum hashes its name, slowly.
    __hash__ = object.__hash__

    GREETING = auto()
    HELLO_DUE = auto()
    HELLO_JUDGED = auto()
    WELCOME_DUE = auto()
    WELCOME_JUDGED = auto()
    READY_DUE = auto()
    READY_JUDGED = auto()
    ESTABLISHED = auto()
    ENDED = auto()


# Aliases, because attribute access on an Enum is slow.
(
    GREETING,
    HELLO_DUE,
    HELLO_JUDGED,
    WELCOME_DUE,
    WELCOME_JUDGED,
    READY_DUE,
    READY_JUDGED,
    ESTABLISHED,
    ENDED,
) = State


Step = tuple[State, tuple[Effect, ...]]


class Handshake:
    """The state of one link on which both ends have agreed to speak ``mesh/2``."""

    __slots__ = ("_table", "direction", "state")

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.state = GREETING
        self._table = _TABLES[direction]

    def receive(self, message: Message) -> tuple[Effect, ...]:
        """The effects of a message; none once the link has ended."""
        step = self._table.get((self.state, type(message)))
        if step is None:
            step = _OTHERWISE.get(self.state, _out_of_order)
        self.state, effects = step(self.state, message)
        return effects

    def judge(self, verdict: Verdict) -> tuple[Effect, ...]:
        """The effects of the verdict that an `Ask` requested.

        None if the owner has ended the link meanwhile.  Raises `KeyError` for a
        verdict that does not answer the pending `Ask`.
        """
        if self.state is ENDED:
            return ()
        step = self._table[self.state, type(verdict)]
        self.state, effects = step(self.state, verdict)
        return effects

    def end(self) -> None:
        """The link has ended: ignore whatever still arrives."""
        self.state = ENDED


_CLOSE_REASONS = {
    RefusalReason.OURSELVES: CloseReason.OURSELVES,
    RefusalReason.CROSSING: CloseReason.CROSSED,
}


def _unwanted(reason: RefusalReason) -> End:
    return End(_CLOSE_REASONS.get(reason, CloseReason.REFUSED))


def _greeted(state: State, greeting: Input) -> Step:
    return HELLO_DUE, (Greet(mesh2=True), Introduce())


def _answered(state: State, greeting: Input) -> Step:
    return HELLO_DUE, ()


def _hello(state: State, hello: Input) -> Step:
    assert isinstance(hello, Hello)
    return HELLO_JUDGED, (Ask(hello),)


def _welcomed(state: State, verdict: Input) -> Step:
    return READY_DUE, (Send(Welcome()),)


def _refused(state: State, verdict: Input) -> Step:
    assert isinstance(verdict, Unwanted)
    return ENDED, (Send(Refused(verdict.reason)), _unwanted(verdict.reason))


def _ready(state: State, ready: Input) -> Step:
    return READY_JUDGED, (Ask(Ready()),)


def _heard_ready(state: State, verdict: Input) -> Step:
    return ESTABLISHED, (Establish(),)


def _say_hello(state: State, verdict: Input) -> Step:
    assert isinstance(verdict, SayHello)
    return WELCOME_DUE, (Introduce(verdict.ended),)


def _welcome(state: State, welcome: Input) -> Step:
    return WELCOME_JUDGED, (Ask(Welcome()),)


def _turned_away(state: State, refused: Input) -> Step:
    assert isinstance(refused, Refused)
    return ENDED, (TurnedAway(refused.reason), End(CloseReason.TURNED_AWAY))


def _say_ready(state: State, verdict: Input) -> Step:
    return ESTABLISHED, (Send(Ready()), Establish())


def _given_up(state: State, verdict: Input) -> Step:
    assert isinstance(verdict, Unwanted)
    return ENDED, (_unwanted(verdict.reason),)


# Made once: it is the effect of nearly every message.
_NOTIFY = (Notify(),)


def _heard(state: State, message: Input) -> Step:
    return state, _NOTIFY


def _pinged(state: State, ping: Input) -> Step:
    assert isinstance(ping, Ping)
    return state, (Send(Pong(ping.token)), Notify())


def _ignored(state: State, message: Input) -> Step:
    return state, ()


def _out_of_order(state: State, message: Input) -> Step:
    return ENDED, (End(CloseReason.PROTOCOL_ERROR),)


_Transition = Callable[[State, Input], Step]
_Table = dict[tuple[State, type[Input]], _Transition]

_BOTH: _Table = {
    (HELLO_DUE, Hello): _hello,
    (ESTABLISHED, Chats): _heard,
    (ESTABLISHED, Ping): _pinged,
    (ESTABLISHED, Greeting): _out_of_order,
    (ESTABLISHED, Refusal): _out_of_order,
    (ESTABLISHED, Hello): _out_of_order,
    (ESTABLISHED, Welcome): _out_of_order,
    (ESTABLISHED, Refused): _out_of_order,
    (ESTABLISHED, Ready): _out_of_order,
}

_TABLES: dict[Direction, _Table] = {
    Direction.INCOMING: {
        **_BOTH,
        (GREETING, Greeting): _greeted,
        (HELLO_JUDGED, Welcomed): _welcomed,
        (HELLO_JUDGED, Unwanted): _refused,
        (READY_DUE, Ready): _ready,
        (READY_JUDGED, Established): _heard_ready,
    },
    Direction.OUTGOING: {
        **_BOTH,
        (GREETING, Greeting): _answered,
        (HELLO_JUDGED, SayHello): _say_hello,
        (HELLO_JUDGED, Unwanted): _given_up,
        (WELCOME_DUE, Welcome): _welcome,
        (WELCOME_DUE, Refused): _turned_away,
        (WELCOME_JUDGED, Established): _say_ready,
        (WELCOME_JUDGED, Unwanted): _given_up,
    },
}

#: The transition of messages without a row in the table; elsewhere they are out of
#: order.
_OTHERWISE: dict[State, _Transition] = {ESTABLISHED: _heard, ENDED: _ignored}
