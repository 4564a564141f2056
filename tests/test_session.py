"""The life of one link: what each message and each verdict makes of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import CloseReason, Direction
from meshproto.rules.registry import (
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Itself,
    PeerEntry,
    PeerKey,
    Replaced,
    Twin,
    Verdict,
)
from meshproto.rules.session import (
    Effect,
    End,
    Establish,
    Greet,
    Introduce,
    Notify,
    Send,
    Session,
    State,
    TurnedAway,
)
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
from tests.fakes import FakeLink

IN = Direction.INCOMING
OUT = Direction.OUTGOING

HELLO = Greeting("bob", "Bob")
CHAT = Chats(("hello",))
PEERS = PeerList((PeerAddress("192.0.2.2", 8002),), skipped=1)
MESSAGES: tuple[Message, ...] = (
    HELLO,
    Refusal.DUPLICATE,
    Refusal.MAX_PEERS,
    Ping(),
    Pong(),
    RequestPeers(),
    PEERS,
    CHAT,
)

LINK = FakeLink()
ENTRY = PeerEntry(PeerKey("192.0.2.2", "bob"), "Bob", LINK, 0.0)
ADMITTED = Admitted(ENTRY)
CROSSED = Crossed(ENTRY)
WELCOME_VERDICTS: tuple[Verdict, ...] = (ADMITTED, Replaced(ENTRY, ENTRY), CROSSED)

#: What becomes of a link, and what is done, at each message in each state.
#: Where nothing stands here nothing is done, and the state stays.
MEANING: dict[tuple[State, Message], tuple[State, tuple[Effect, ...]]] = {
    (State.GREETING, HELLO): (State.JUDGING, (Introduce(HELLO, confirmed=False),)),
    (State.TWIN, Ping()): (State.TWIN, (Send(Pong()), Notify())),
    (State.TWIN, RequestPeers()): (State.TWIN, (Notify(),)),
    (State.TWIN, PEERS): (State.TWIN, (Notify(),)),
    (State.TWIN, CHAT): (
        State.JUDGING,
        (Introduce(HELLO, confirmed=True), Notify()),
    ),
    (State.READY, Ping()): (State.READY, (Send(Pong()), Notify())),
    (State.READY, Pong()): (State.READY, (Notify(),)),
    (State.READY, RequestPeers()): (State.READY, (Notify(),)),
    (State.READY, PEERS): (State.READY, (Notify(),)),
    (State.READY, CHAT): (State.READY, (Notify(),)),
    (State.DRAINING, Pong()): (State.DRAINING, (Notify(),)),
    (State.DRAINING, PEERS): (State.DRAINING, (Notify(),)),
    (State.DRAINING, CHAT): (State.DRAINING, (Notify(),)),
}
#: Only a dialler is refused; a listener never hears such a line as a refusal.
REFUSED = {
    refusal: (TurnedAway(refusal), End(CloseReason.TURNED_AWAY)) for refusal in Refusal
}


def session_in(state: State, direction: Direction) -> Session:
    """A link that has come to that state by what happens to real ones."""
    session = Session(direction)
    if state is not State.GREETING:
        session.receive(HELLO)
    match state:
        case State.TWIN:
            session.judge(Twin())
        case State.READY | State.DRAINING:
            session.judge(ADMITTED)
            if state is State.DRAINING:
                session.drain()
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
            self.assertIsNone(session.hello)

    def test_the_far_end_is_known_from_its_hello(self) -> None:
        for direction in Direction:
            session = Session(direction)
            self.assertIsNone(session.hello)
            session.receive(HELLO)
            self.assertEqual(session.hello, HELLO)

    def test_a_second_hello_changes_nothing(self) -> None:
        """After the handshake such a line is chat, or nothing."""
        for state in set(State) - {State.GREETING}:
            session = session_in(state, IN)
            known = session.hello
            self.assertEqual(session.receive(Greeting("eve", "Eve")), ())
            self.assertIs(session.hello, known)

    def test_it_is_kept_until_it_is_judged_for_good(self) -> None:
        for verdict in (*WELCOME_VERDICTS, Twin(), Duplicate(ENTRY), Full(), Itself()):
            session = session_in(State.JUDGING, IN)
            session.judge(verdict)
            kept = HELLO if isinstance(verdict, Twin) else None
            self.assertEqual(session.hello, kept, verdict)

    def test_nothing_after_the_end(self) -> None:
        for direction in Direction:
            for before in State:
                session = session_in(before, direction)
                session.end()
                for message in MESSAGES:
                    self.assertEqual(session.receive(message), ())
                self.assertEqual(session.confirm(), ())
                session.drain()
                self.assertIs(session.state, State.ENDED)


class VerdictTests(SynchronousTestCase):
    """What the owner's verdict makes of a link that has said hello."""

    def judged(
        self, direction: Direction, verdict: Verdict
    ) -> tuple[State, tuple[Effect, ...]]:
        session = session_in(State.JUDGING, direction)
        effects = session.judge(verdict)
        return session.state, effects

    def test_on_a_link_that_the_owner_has_ended_it_means_nothing(self) -> None:
        for verdict in (*WELCOME_VERDICTS, Twin(), Duplicate(ENTRY), Itself()):
            session = session_in(State.JUDGING, IN)
            session.end()
            self.assertEqual(session.judge(verdict), ())
            self.assertIs(session.state, State.ENDED)

    def test_a_listener_welcomes_before_it_is_ready(self) -> None:
        for verdict in WELCOME_VERDICTS:
            self.assertEqual(
                self.judged(IN, verdict), (State.READY, (Greet(), Establish()))
            )

    def test_a_dialler_has_said_hello_already(self) -> None:
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


class TwinTests(SynchronousTestCase):
    """A far end with our own ID on another host."""

    def test_is_answered_while_it_is_not_yet_known_who_it_is(self) -> None:
        for direction, effects in ((IN, (Greet(), Establish())), (OUT, (Establish(),))):
            session = session_in(State.JUDGING, direction)
            self.assertEqual(session.judge(Twin()), effects)
            self.assertIs(session.state, State.TWIN)

    def test_is_judged_again_when_it_is_confirmed(self) -> None:
        for direction in Direction:
            session = session_in(State.TWIN, direction)
            self.assertEqual(session.confirm(), (Introduce(HELLO, confirmed=True),))
            self.assertIs(session.state, State.JUDGING)
            self.assertEqual(session.confirm(), ())

    def test_is_welcomed_once(self) -> None:
        for direction in Direction:
            for verdict in WELCOME_VERDICTS:
                session = session_in(State.TWIN, direction)
                session.confirm()
                self.assertEqual(session.judge(verdict), (Establish(),))
                self.assertIs(session.state, State.READY)

    def test_is_closed_without_a_word_when_there_is_no_place_for_it(self) -> None:
        """After a welcome a refusal would be chat."""
        for direction in Direction:
            for verdict, reason in (
                (Full(), CloseReason.REFUSED),
                (Duplicate(ENTRY), CloseReason.REFUSED),
                (Itself(), CloseReason.OURSELVES),
            ):
                session = session_in(State.TWIN, direction)
                session.confirm()
                self.assertEqual(session.judge(verdict), (End(reason),))

    def test_confirming_any_other_link_does_nothing(self) -> None:
        for direction in Direction:
            for state in set(State) - {State.TWIN}:
                session = session_in(state, direction)
                self.assertEqual(session.confirm(), ())
                self.assertIs(session.state, state)

    def test_what_it_says_first_is_handed_on_after_it_has_been_let_in(self) -> None:
        session = session_in(State.TWIN, OUT)
        introduce, notify = session.receive(CHAT)
        self.assertEqual(introduce, Introduce(HELLO, confirmed=True))
        self.assertEqual(session.judge(ADMITTED), (Establish(),))
        self.assertEqual(notify, Notify())


class DrainTests(SynchronousTestCase):
    """The losing link of a pair."""

    def test_only_a_ready_link_is_drained(self) -> None:
        for direction in Direction:
            for state in set(State) - {State.READY}:
                session = session_in(state, direction)
                session.drain()
                self.assertIs(session.state, state)

    def test_nothing_is_sent_on_it(self) -> None:
        for message in MESSAGES:
            session = session_in(State.DRAINING, OUT)
            for effect in session.receive(message):
                self.assertNotIsInstance(effect, (Send, Greet))
