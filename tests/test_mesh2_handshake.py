"""The life of one link of mesh/2: what each message and each verdict makes of it."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

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
from meshproto.rules.handshake import Handshake, State
from meshproto.rules.pairs import (
    Established,
    SayHello,
    Unwanted,
    Verdict,
    Welcomed,
)
from meshproto.wire.address import PeerAddress
from meshproto.wire.messages import (
    Chat,
    Chats,
    Greeting,
    Hello,
    Incarnation,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    Refusal,
    RefusalReason,
    Refused,
    RequestPeers,
    Welcome,
)

IN = Direction.INCOMING
OUT = Direction.OUTGOING

HELLO = Hello(
    identity="a" * 32,
    incarnation=Incarnation(1, "0" * 32),
    link=1,
    id="bob",
    name="Bob",
)
REFUSED = Refused(RefusalReason.FULL)
HANDSHAKE: tuple[Message, ...] = (HELLO, Welcome(), REFUSED, Ready())
#: What belongs to mesh/1 alone.
GREETING = Greeting("bob", "Bob", mesh2=True)
FOREIGN: tuple[Message, ...] = (GREETING, Refusal.DUPLICATE)
DATA: tuple[Message, ...] = (
    Pong(),
    RequestPeers(),
    PeerList((PeerAddress("192.0.2.2", 8002),)),
    Chat("hello"),
    Chats(("hello",)),
)
MESSAGES: tuple[Message, ...] = (*HANDSHAKE, *FOREIGN, Ping(), *DATA)

UNWANTED = Unwanted(RefusalReason.FULL)
VERDICTS: tuple[Verdict, ...] = (SayHello(7), Welcomed(), Established(), UNWANTED)

Answer = tuple[State, tuple[Effect, ...]]
PROTOCOL_ERROR: Answer = (State.ENDED, (End(CloseReason.PROTOCOL_ERROR),))
NOTHING: Answer = (State.ENDED, ())

#: How a link comes to each state.
PATHS: dict[Direction, dict[State, tuple[Message | Verdict, ...]]] = {
    IN: {
        State.GREETING: (),
        State.HELLO_DUE: (GREETING,),
        State.HELLO_JUDGED: (GREETING, HELLO),
        State.READY_DUE: (GREETING, HELLO, Welcomed()),
        State.READY_JUDGED: (GREETING, HELLO, Welcomed(), Ready()),
        State.ESTABLISHED: (GREETING, HELLO, Welcomed(), Ready(), Established()),
        State.ENDED: (GREETING, HELLO, UNWANTED),
    },
    OUT: {
        State.GREETING: (),
        State.HELLO_DUE: (GREETING,),
        State.HELLO_JUDGED: (GREETING, HELLO),
        State.WELCOME_DUE: (GREETING, HELLO, SayHello(None)),
        State.WELCOME_JUDGED: (GREETING, HELLO, SayHello(None), Welcome()),
        State.ESTABLISHED: (GREETING, HELLO, SayHello(None), Welcome(), Established()),
        State.ENDED: (GREETING, HELLO, UNWANTED),
    },
}

#: The messages that are expected; in an established link see `established`.
EXPECTED: dict[tuple[Direction, State, Message], Answer] = {
    (IN, State.GREETING, GREETING): (
        State.HELLO_DUE,
        (Greet(mesh2=True), Introduce(None)),
    ),
    (OUT, State.GREETING, GREETING): (State.HELLO_DUE, ()),
    (IN, State.HELLO_DUE, HELLO): (State.HELLO_JUDGED, (Ask(HELLO),)),
    (OUT, State.HELLO_DUE, HELLO): (State.HELLO_JUDGED, (Ask(HELLO),)),
    (IN, State.READY_DUE, Ready()): (State.READY_JUDGED, (Ask(Ready()),)),
    (OUT, State.WELCOME_DUE, Welcome()): (State.WELCOME_JUDGED, (Ask(Welcome()),)),
    (OUT, State.WELCOME_DUE, REFUSED): (
        State.ENDED,
        (TurnedAway(RefusalReason.FULL), End(CloseReason.TURNED_AWAY)),
    ),
}
#: The verdicts that answer the question of a state.
JUDGED: dict[tuple[Direction, State, Verdict], Answer] = {
    (IN, State.HELLO_JUDGED, Welcomed()): (State.READY_DUE, (Send(Welcome()),)),
    (IN, State.HELLO_JUDGED, UNWANTED): (
        State.ENDED,
        (Send(REFUSED), End(CloseReason.REFUSED)),
    ),
    (IN, State.READY_JUDGED, Established()): (State.ESTABLISHED, (Establish(),)),
    (OUT, State.HELLO_JUDGED, SayHello(7)): (State.WELCOME_DUE, (Introduce(7),)),
    (OUT, State.HELLO_JUDGED, UNWANTED): (State.ENDED, (End(CloseReason.REFUSED),)),
    (OUT, State.WELCOME_JUDGED, Established()): (
        State.ESTABLISHED,
        (Send(Ready()), Establish()),
    ),
    (OUT, State.WELCOME_JUDGED, UNWANTED): (
        State.ENDED,
        (End(CloseReason.REFUSED),),
    ),
}


def link_in(direction: Direction, state: State) -> Handshake:
    """A link that has come to that state by what happens to real ones."""
    link = Handshake(direction)
    for step in PATHS[direction][state]:
        if isinstance(step, Verdict):
            link.judge(step)
        else:
            link.receive(step)
    return link


def established(message: Message) -> Answer:
    if message in (*HANDSHAKE, *FOREIGN):
        return PROTOCOL_ERROR
    if message == Ping():
        return State.ESTABLISHED, (Send(Pong()), Notify())
    return State.ESTABLISHED, (Notify(),)


class TableTests(SynchronousTestCase):
    """Every message and every verdict in every state."""

    def test_the_states_are_reached(self) -> None:
        for direction, paths in PATHS.items():
            for state in paths:
                self.assertIs(link_in(direction, state).state, state)
        self.assertEqual({*PATHS[IN], *PATHS[OUT]}, set(State))

    def test_every_message_in_every_state(self) -> None:
        """Whatever is out of order ends the link with a protocol error."""
        for direction, paths in PATHS.items():
            for state, message in product(paths, MESSAGES):
                link = link_in(direction, state)
                effects = link.receive(message)
                match state:
                    case State.ESTABLISHED:
                        expected = established(message)
                    case State.ENDED:
                        expected = NOTHING
                    case _:
                        at = direction, state, message
                        expected = EXPECTED.get(at, PROTOCOL_ERROR)
                where = f"{message} in {state} of an {direction.value} link"
                self.assertEqual((link.state, effects), expected, where)

    def test_every_verdict_in_every_state(self) -> None:
        """One that answers another question is a mistake of the owner."""
        for direction, paths in PATHS.items():
            for state, verdict in product(paths, VERDICTS):
                link = link_in(direction, state)
                if state is State.ENDED:
                    self.assertEqual(link.judge(verdict), ())
                    continue
                expected = JUDGED.get((direction, state, verdict))
                if expected is None:
                    self.assertRaises(KeyError, link.judge, verdict)
                    self.assertIs(link.state, state)
                else:
                    effects = link.judge(verdict)
                    self.assertEqual((link.state, effects), expected)

    def test_every_refusal(self) -> None:
        """A listener says which, a dialler is told which."""
        others = {
            RefusalReason.OURSELVES: CloseReason.OURSELVES,
            RefusalReason.CROSSING: CloseReason.CROSSED,
        }
        for reason in RefusalReason:
            end = End(others.get(reason, CloseReason.REFUSED))
            for state in (State.HELLO_JUDGED, State.WELCOME_JUDGED):
                link = link_in(OUT, state)
                self.assertEqual(link.judge(Unwanted(reason)), (end,))
            link = link_in(IN, State.HELLO_JUDGED)
            refused = Send(Refused(reason))
            self.assertEqual(link.judge(Unwanted(reason)), (refused, end))
            link = link_in(OUT, State.WELCOME_DUE)
            self.assertEqual(
                link.receive(Refused(reason)),
                (TurnedAway(reason), End(CloseReason.TURNED_AWAY)),
            )

    def test_the_owner_may_end_it_at_any_time(self) -> None:
        for direction, paths in PATHS.items():
            for state in paths:
                link = link_in(direction, state)
                link.end()
                self.assertIs(link.state, State.ENDED)
                for message in MESSAGES:
                    self.assertEqual(link.receive(message), ())
                for verdict in VERDICTS:
                    self.assertEqual(link.judge(verdict), ())

    def test_data_follows_ready_at_once(self) -> None:
        """What arrives right behind READY is heard when that has been judged."""
        link = link_in(IN, State.READY_DUE)
        link.receive(Ready())
        link.judge(Established())
        self.assertEqual(link.receive(Chats(("hello",))), (Notify(),))


class PropertyTests(SynchronousTestCase):
    @given(st.sampled_from(Direction), st.lists(st.sampled_from(MESSAGES), max_size=12))
    def test_whatever_is_said(self, direction: Direction, said: list[Message]) -> None:
        """A peer that is welcome to everything still has to say it in order."""
        answers: dict[State, Verdict] = {
            State.HELLO_JUDGED: Welcomed() if direction is IN else SayHello(None),
            State.WELCOME_JUDGED: Established(),
            State.READY_JUDGED: Established(),
        }
        link = Handshake(direction)
        heard = [HELLO, Ready()] if direction is IN else [HELLO, Welcome()]
        done: list[Effect] = [*link.receive(GREETING)]
        for message in said:
            done += link.receive(message)
            if link.state in answers:
                done += link.judge(answers[link.state])
        in_order = list(said[:2]) == heard
        self.assertEqual(done.count(Establish()), int(in_order))
        self.assertLessEqual(sum(isinstance(each, End) for each in done), 1)
        if Notify() in done:
            self.assertLess(done.index(Establish()), done.index(Notify()))
        if not in_order and len(said) > 1:
            self.assertIs(link.state, State.ENDED)
