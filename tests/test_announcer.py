"""Who is told what, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    ChatReceived,
    ChatsReceived,
    CloseReason,
    Direction,
    Event,
    NodeError,
    NodeStarted,
    Peer,
    PeerDisconnected,
)
from meshproto.mesh.announcer import Announcer
from tests.fakes import FakeLink

BOB = Peer(
    id="bob",
    name="Bob",
    host="192.0.2.2",
    address=None,
    direction=Direction.INCOMING,
    connected_at=1.0,
    last_heard=2.0,
)
STARTED = NodeStarted(id="alice", name="Alice", port=8001)
ERROR = NodeError(context="test", error="none")
GONE = PeerDisconnected(peer=BOB, reason=CloseReason.CONNECTION_LOST)


def said(*texts: str) -> list[Event]:
    return [ChatReceived(peer=BOB, text=text) for text in texts]


def run(*texts: str) -> ChatsReceived:
    return ChatsReceived(peer=BOB, texts=texts)


class AnnouncerCase(SynchronousTestCase):
    """``told`` is what the subscribers made by `listen` heard, all in one list."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.announcer = Announcer(self.clock)
        self.link = FakeLink()
        self.told: list[Any] = []

    def listen(self, *kinds: type[Event]) -> Callable[[], None]:
        return self.announcer.subscribe(self.told.append, kinds or (Event,))

    def on_text(self, text: str, do: Callable[[], object]) -> Callable[[], None]:
        """Do something when a text is told; notes nothing."""

        def listener(event: ChatReceived) -> None:
            if event.text == text:
                do()

        return self.announcer.subscribe(listener, (ChatReceived,))

    def chat(self, *texts: str) -> tuple[str, ...]:
        return self.announcer.emit_chats(self.link, BOB, texts)


class KindTests(AnnouncerCase):
    def test_the_root_is_everything(self) -> None:
        self.listen()
        self.announcer.emit(STARTED)
        self.chat("one", "two")
        self.assertEqual(self.told, [STARTED, *said("one", "two")])

    def test_one_kind(self) -> None:
        self.listen(NodeStarted)
        for event in (STARTED, ERROR, STARTED):
            self.announcer.emit(event)
        self.chat("one")
        self.assertEqual(self.told, [STARTED, STARTED])

    def test_several(self) -> None:
        self.listen(ChatReceived, NodeError)
        for event in (STARTED, ERROR):
            self.announcer.emit(event)
        self.chat("one")
        self.assertEqual(self.told, [ERROR, *said("one")])

    def test_no_kind(self) -> None:
        for kind in (str, "ChatReceived", STARTED, None):
            with self.assertRaises(TypeError) as caught:
                self.announcer.subscribe(print, (NodeStarted, kind))  # type: ignore[arg-type]
            self.assertEqual(str(caught.exception), f"{kind!r} is no kind of event")

    def test_the_same_subscriber_twice(self) -> None:
        leave = self.listen(NodeStarted)
        self.listen(Event)
        self.announcer.emit(STARTED)
        self.assertEqual(self.told, [STARTED, STARTED])
        leave()
        leave()
        self.announcer.emit(STARTED)
        self.assertEqual(self.told, [STARTED] * 3)

    def test_one_who_comes_later_hears_what_is_later(self) -> None:
        self.listen(ChatReceived)
        self.chat("one")
        self.listen(ChatReceived)
        self.chat("two")
        self.assertEqual(self.told, said("one", "two", "two"))


class ChatTests(AnnouncerCase):
    """Chat comes in runs, and is told text by text."""

    def test_nothing_is_left_when_nobody_listens(self) -> None:
        self.listen(NodeStarted)
        self.assertEqual(self.chat("one", "two"), ())
        self.assertEqual(self.told, [])

    def test_what_follows_a_pause_is_left(self) -> None:
        self.on_text("two", lambda: self.link.pause(self))
        self.listen()
        self.assertEqual(self.chat("one", "two", "three", "four"), ("three", "four"))
        self.assertEqual(self.told, said("one", "two"))

    def test_what_a_text_causes_is_told_before_the_next(self) -> None:
        self.on_text("one", lambda: self.announcer.emit(ERROR))
        self.listen()
        self.chat("one", "two")
        self.assertEqual(self.told, [*said("one"), ERROR, *said("two")])

    def test_one_who_leaves_during_a_run_hears_no_more(self) -> None:
        leave = self.listen()
        self.on_text("one", lambda: leave())
        self.assertEqual(self.chat("one", "two"), ())
        self.assertEqual(self.told, said("one"))

    def test_one_who_comes_during_a_run_hears_the_rest(self) -> None:
        self.on_text("one", lambda: self.listen(ChatReceived))
        self.chat("one", "two", "three")
        self.assertEqual(self.told, said("two", "three"))

    def test_one_who_raises(self) -> None:
        def broken(event: Event) -> None:
            self.told.append(event)
            raise ValueError("broken")

        leave = self.announcer.subscribe(broken, (ChatReceived,))
        self.assertEqual(self.chat("one", "two"), ())
        self.assertEqual(self.told, said("one", "two"))
        self.listen()
        self.chat("three")
        self.assertEqual(self.told[2:], said("three", "three"))
        leave()
        self.chat("four")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)

    def test_chat_of_another_link_that_a_text_sets_free(self) -> None:
        self.on_text(
            "one", lambda: self.announcer.emit_chats(FakeLink(), BOB, ("x", "y"))
        )
        self.listen(ChatReceived, ChatsReceived)
        self.chat("one", "two")
        self.assertEqual(
            self.told,
            [*said("one"), run("one"), *said("x", "y"), run("x", "y")]
            + [*said("two"), run("two")],
        )


class RunTests(AnnouncerCase):
    """For those who want it, the same chat as it arrived."""

    def test_as_it_arrived(self) -> None:
        self.listen(ChatsReceived)
        self.chat("one", "two")
        self.chat("three")
        self.assertEqual(self.told, [run("one", "two"), run("three")])

    def test_after_those_who_hear_it_text_by_text(self) -> None:
        self.listen(ChatsReceived, ChatReceived)
        self.chat("one", "two")
        self.assertEqual(self.told, [*said("one", "two"), run("one", "two")])

    def test_what_a_pause_leaves_is_another_run(self) -> None:
        self.on_text("two", lambda: self.link.pause(self))
        self.listen(ChatsReceived)
        left = self.chat("one", "two", "three")
        self.assertEqual(self.told, [run("one", "two")])
        self.link.resume(self)
        self.chat(*left)
        self.assertEqual(self.told, [run("one", "two"), run("three")])

    def test_a_pause_by_who_takes_runs_is_too_late_for_this_one(self) -> None:
        self.announcer.subscribe(lambda _: self.link.pause(self), (ChatsReceived,))
        self.listen(ChatsReceived)
        self.assertEqual(self.chat("one", "two"), ())
        self.assertEqual(self.told, [run("one", "two")])

    def test_nothing_that_a_text_causes_is_told_before_it(self) -> None:
        """Else a peer would chat after it is gone."""

        def cut() -> None:
            self.link.abort(CloseReason.CONNECTION_LOST)
            self.announcer.emit(GONE)

        self.on_text("two", cut)
        self.listen(ChatsReceived, PeerDisconnected)
        self.assertEqual(self.chat("one", "two", "three"), ("three",))
        self.assertEqual(self.told, [run("one", "two"), GONE])

    def test_what_a_run_causes_is_told_after_it(self) -> None:
        self.announcer.subscribe(lambda _: self.announcer.emit(ERROR), (ChatsReceived,))
        self.listen(ChatsReceived, NodeError)
        self.chat("one", "two")
        self.assertEqual(self.told, [run("one", "two"), ERROR])


class TurnTests(AnnouncerCase):
    """Chat is told as long as its link has its turn."""

    def setUp(self) -> None:
        super().setUp()
        self.listen(ChatReceived)
        self.takes = 0.0
        self.announcer.subscribe(lambda event: self.work(), (ChatReceived,))

    def work(self) -> None:
        # No call is made, as none is while a real application works.
        self.clock.rightNow += self.takes

    def turn(self, texts: tuple[str, ...], seconds: float = 0.01) -> tuple[str, ...]:
        """Tell of texts for that long; returns what is left."""
        self.link.turn_ends = self.clock.seconds() + seconds
        return self.chat(*texts)

    def test_all_that_fits_is_told(self) -> None:
        texts = tuple(map(str, range(512)))
        self.takes = 0.000_01
        self.assertEqual(self.turn(texts), ())
        self.assertEqual(self.told, said(*texts))

    def test_the_rest_is_given_back(self) -> None:
        texts = tuple(map(str, range(512)))
        self.takes = 0.001
        left = self.turn(texts)
        told = len(texts) - len(left)
        self.assertEqual(self.told, said(*texts[:told]))
        self.assertEqual(left, texts[told:])
        self.assertIn(told, range(10, 14))

    def test_slow_subscribers_go_a_little_beyond_the_turn(self) -> None:
        """By what they do before the clock is looked at for the first time."""
        texts = tuple(map(str, range(512)))
        self.takes = 1.0
        left = self.turn(texts)
        self.assertEqual(len(texts) - len(left), 4)
        for _ in range(3):
            before, left = len(left), self.turn(left)
            self.assertEqual(before - len(left), 1)

    def test_subscribers_that_become_slow(self) -> None:
        """They take too long for two turns, and then for one message at most."""
        texts = tuple(map(str, range(512)))
        self.assertEqual(self.turn(texts), ())
        self.takes = 1.0
        left = texts
        for told in (128, 16, 2, 1, 1):
            before, left = len(left), self.turn(left)
            self.assertEqual(before - len(left), told)

    def test_subscribers_that_become_fast_again(self) -> None:
        texts = tuple(map(str, range(512)))
        self.takes = 1.0
        self.turn(texts)
        self.takes = 0.0
        self.assertEqual(self.turn(texts), ())

    def test_runs_are_told_as_far_as_their_texts(self) -> None:
        self.told.clear()
        self.listen(ChatsReceived)
        texts = tuple(map(str, range(20)))
        self.takes = 1.0
        left = self.turn(texts)
        self.assertEqual(self.told[-1], run(*texts[: len(texts) - len(left)]))
        self.assertEqual(len(left), 16)

    def test_a_few_are_told_whatever_the_time(self) -> None:
        self.takes = 1.0
        self.assertEqual(self.turn(("a", "b", "c", "d"), seconds=-1), ())
