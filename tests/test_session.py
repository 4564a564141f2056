"""The life of one link: what each message and each verdict makes of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

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
from meshproto.rules.session import Session, State
from meshproto.wire.address import PeerAddress
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
from tests.fakes import FakeLink, entry_of

IN = Direction.INCOMING
OUT = Direction.OUTGOING

GREETING = Greeting("bob", "Bob")
CHAT = Chats(("hello",))
PEERS = PeerList((PeerAddress("192.0.2.2", 8002),), skipped=1)
MESSAGES: tuple[Message, ...] = (
    GREETING,
    Refusal.DUPLICATE,
    Refusal.MAX_PEERS,
    Ping(),
    Pong(),
    RequestPeers(),
    PEERS,
    CHAT,
)

ENTRY = entry_of(FakeLink(), GREETING)
ADMITTED = Admitted(ENTRY)
CROSSED = Crossed(ENTRY)
WELCOME_VERDICTS: tuple[Verdict, ...] = (ADMITTED, Replaced(ENTRY, ENTRY), CROSSED)

#: What becomes of a link, and what is done, at each message in each state.
#: Where nothing stands here nothing is done, and the state stays.
MEANING: dict[tuple[State, Message], tuple[State, tuple[Effect, ...]]] = {
    (State.GREETING, GREETING): (State.JUDGING, (Ask(GREETING),)),
    (State.READY, Ping()): (State.READY, (Send(Pong()), Notify())),
    (State.READY, Pong()): (State.READY, (Notify(),)),
    (State.READY, RequestPeers()): (State.READY, (Notify(),)),
    (State.READY, PEERS): (State.READY, (Notify(),)),
    (State.READY, CHAT): (State.READY, (Notify(),)),
}
#: Only a dialler is refused; a listener never hears such a line as a refusal.
REFUSED = {
    refusal: (TurnedAway(refusal), End(CloseReason.TURNED_AWAY)) for refusal in Refusal
}


def session_in(state: State, direction: Direction) -> Session:
    """A link that has come to that state by what happens to real ones."""
    session = Session(direction)
    if state is not State.GREETING:
        session.receive(GREETING)
    match state:
        case State.READY:
            session.judge(ADMITTED)
        case State.ENDED:
            session.end()
    return session


class MessageTests(SynchronousTestCase):
    """Every message in every state."""

    def test_the_states_are_reached(self) -> None:
        for direction in Direction:
            for state in State:
                self.assertIs(session_in(state, direction).state, state)

    def test_every_message_in_every_state(self) -> None:
        for direction in Direction:
            for state in State:
                for message in MESSAGES:
                    if isinstance(message, Refusal) and state is State.GREETING:
                        continue
                    session = session_in(state, direction)
                    after, effects = MEANING.get((state, message), (state, ()))
                    at = f"{message} in {state} of an {direction.value} link"
                    self.assertEqual(session.receive(message), effects, at)
                    self.assertIs(session.state, after, at)

    def test_a_dialler_that_is_refused(self) -> None:
        """The owner hears of it before the link ends."""
        for refusal, effects in REFUSED.items():
            session = Session(OUT)
            self.assertEqual(session.receive(refusal), effects)

    def test_a_second_greeting_changes_nothing(self) -> None:
        """After the handshake such a line is chat, or nothing."""
        for state in set(State) - {State.GREETING}:
            session = session_in(state, IN)
            self.assertEqual(session.receive(Greeting("eve", "Eve")), ())
            self.assertIs(session.state, state)

    def test_nothing_after_the_end(self) -> None:
        for direction in Direction:
            for before in State:
                session = session_in(before, direction)
                session.end()
                for message in MESSAGES:
                    self.assertEqual(session.receive(message), ())
                self.assertIs(session.state, State.ENDED)


class VerdictTests(SynchronousTestCase):
    """What the owner's verdict makes of a link that has been greeted."""

    def judged(
        self, direction: Direction, verdict: Verdict
    ) -> tuple[State, tuple[Effect, ...]]:
        session = session_in(State.JUDGING, direction)
        effects = session.judge(verdict)
        return session.state, effects

    def test_on_a_link_that_the_owner_has_ended_it_means_nothing(self) -> None:
        for verdict in (*WELCOME_VERDICTS, Duplicate(ENTRY), Full(), Itself()):
            session = session_in(State.JUDGING, IN)
            session.end()
            self.assertEqual(session.judge(verdict), ())
            self.assertIs(session.state, State.ENDED)

    def test_on_a_link_that_is_judged_already_it_means_nothing(self) -> None:
        for state in set(State) - {State.JUDGING}:
            session = session_in(state, IN)
            self.assertEqual(session.judge(ADMITTED), ())
            self.assertIs(session.state, state)

    def test_a_listener_welcomes_before_it_is_ready(self) -> None:
        for verdict in WELCOME_VERDICTS:
            self.assertEqual(
                self.judged(IN, verdict), (State.READY, (Greet(), Establish()))
            )

    def test_a_dialler_has_greeted_already(self) -> None:
        for verdict in WELCOME_VERDICTS:
            self.assertEqual(self.judged(OUT, verdict), (State.READY, (Establish(),)))

    def test_refusals(self) -> None:
        """A listener says why, then closes; a dialler has nobody to tell."""
        end = End(CloseReason.REFUSED)
        verdicts: tuple[tuple[Verdict, Refusal], ...] = (
            (Duplicate(ENTRY), Refusal.DUPLICATE),
            (Full(), Refusal.MAX_PEERS),
        )
        for verdict, refusal in verdicts:
            self.assertEqual(self.judged(IN, verdict)[1], (Send(refusal), end))
            self.assertEqual(self.judged(OUT, verdict)[1], (end,))

    def test_ourselves(self) -> None:
        """The listening end answers, so that the dialling end knows it too."""
        end = End(CloseReason.OURSELVES)
        self.assertEqual(self.judged(IN, Itself())[1], (Greet(), end))
        self.assertEqual(self.judged(OUT, Itself())[1], (end,))

    def test_a_link_that_is_not_taken_is_never_ready(self) -> None:
        for direction in Direction:
            for verdict in (Duplicate(ENTRY), Full(), Itself()):
                session = session_in(State.JUDGING, direction)
                effects = session.judge(verdict)
                self.assertNotIn(Establish(), effects)
                self.assertIsInstance(effects[-1], End)
                for message in MESSAGES:
                    self.assertEqual(session.receive(message), ())
