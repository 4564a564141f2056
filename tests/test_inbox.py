"""What waits to be told on one link, in its order."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import RemoteProtocolError
from meshproto.link.inbox import Inbox
from meshproto.wire.mesh1 import MAX_LINES, Mesh1
from meshproto.wire.messages import Chats, Ping, Pong


class InboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.inbox = Inbox()
        self.inbox.reader = Mesh1(max_line=400).reader()

    def told(self) -> list[object]:
        """Everything that waits, in the order in which it would be told."""
        told: list[object] = []
        while self.inbox.waiting or self.inbox.reader.waiting:
            if not self.inbox.waiting:
                self.inbox.feed(b"")
                continue
            told.append(self.inbox.waiting.pop())
            if isinstance(told[-1], RemoteProtocolError):
                break
        return told

    def test_the_order_is_that_of_the_bytes(self) -> None:
        for data in (b"PING\na\nPONG\n", b"PING\n", b"b\nPO", b"NG\n"):
            self.inbox.feed(data)
        wanted = [Ping(), Chats(("a",)), Pong(), Ping(), Chats(("b",)), Pong()]
        self.assertEqual(self.told(), wanted)

    def test_a_batch_at_a_time(self) -> None:
        self.inbox.feed(b"PING\n" * (MAX_LINES + 1))
        self.assertEqual(len(self.inbox.waiting), MAX_LINES)
        self.assertEqual(len(self.told()), MAX_LINES + 1)

    def test_an_error_waits_behind_what_was_said_before_it(self) -> None:
        self.inbox.feed(b"PING\nPONG\n" + b"x" * 401 + b"\nPING\n")
        self.inbox.feed(b"PING\n")
        *said, error = self.told()
        self.assertEqual(said, [Ping(), Pong()])
        self.assertIsInstance(error, RemoteProtocolError)
        self.assertEqual(str(error), "more than 400 bytes")

    def test_what_is_given_back_comes_next(self) -> None:
        self.inbox.feed(b"PING\n")
        self.inbox.give_back(Chats(("a",)))
        self.assertEqual(self.told(), [Chats(("a",)), Ping()])

    def test_closed_it_is_deaf(self) -> None:
        self.inbox.feed(b"PING\nhalf")
        self.inbox.close()
        self.inbox.feed(b"PONG\n")
        self.inbox.give_back(Ping())
        self.assertEqual(self.told(), [])

    def test_before_it_has_a_reader_as_well(self) -> None:
        inbox = Inbox()
        inbox.feed(b"PONG\n")
        inbox.reader.established()
        inbox.feed(b"PONG\n")
        self.assertEqual(inbox.waiting, [])
