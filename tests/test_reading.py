"""When one link tells what has arrived: turns, pauses, and the last words."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.turns import LONG_TURN, SHORT_TURN
from meshproto.wire.messages import Chat, Message, Ping
from tests.fakes import FakeHost, Wire
from tests.links import LinkCase, Slow, first_of


class TurnTests(LinkCase):
    """A flood leaves the others their turn, whatever it is made of."""

    host: Slow

    def setUp(self) -> None:
        super().setUp()
        self.host = Slow(self.clock)

    def answered(self, wire: Wire) -> int:
        return bytes(wire.transport.taken).count(b"PONG\n")

    def turn(self) -> None:
        """One turn of the reactor, and no more."""
        for call in tuple(self.clock.calls):
            if call.getTime() <= self.clock.seconds():
                function, args, kw = call.func, call.args, call.kw
                call.cancel()
                function(*args, **kw)

    def flooded(self, data: bytes) -> Wire:
        wire = self.ready()
        wire.transport.taken.clear()
        # In the kernel's buffer: no time passes before it is read.
        wire.protocol.dataReceived(data)
        return wire

    def test_as_many_messages_as_fit_into_a_turn(self) -> None:
        wire = self.flooded(b"PING\n" * 10)
        self.assertEqual(self.answered(wire), 10)
        self.assertTrue(wire.transport.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_more(self) -> None:
        wire = self.flooded(b"PING\n" * 11)
        self.assertEqual(self.answered(wire), 10)
        self.assertFalse(wire.transport.reading)
        self.turn()
        self.assertEqual(self.answered(wire), 11)
        self.assertTrue(wire.transport.reading)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_turn_after_the_other(self) -> None:
        wire = self.flooded(b"PING\n" * 25)
        for answered in (10, 20, 25, 25):
            self.assertEqual(self.answered(wire), answered)
            self.turn()

    def test_chat_that_came_together(self) -> None:
        """A run is told in parts, in its order."""
        texts = [f"{number}" for number in range(600)]
        self.flooded("".join(f"{text}\n" for text in texts).encode())
        self.assertEqual(len(self.messages()), 10)
        for _ in range(60):
            self.turn()
        self.assertEqual(self.messages(), [Chat(text) for text in texts])

    def test_chat_among_commands(self) -> None:
        self.flooded(b"x\ny\nPING\n" * 8)
        self.assertEqual(len(self.messages()), 10)
        self.turn()
        self.assertEqual(len(self.messages()), 20)
        self.turn()
        self.assertEqual(self.messages(), [Chat("x"), Chat("y"), Ping()] * 8)

    def test_another_link_has_its_turn_between(self) -> None:
        other = self.ready()
        flooder = self.flooded(b"PING\n" * 25)
        other.protocol.dataReceived(b"PING\n")
        self.assertEqual(self.answered(other), 1)
        self.assertEqual(self.answered(flooder), 10)

    def test_turns_are_short_while_another_link_waits(self) -> None:
        short, long = SHORT_TURN / self.host.needs, LONG_TURN / self.host.needs
        first, second = self.ready(), self.ready()
        for wire in (first, second):
            wire.transport.taken.clear()
            wire.protocol.dataReceived(b"PING\n" * 40)

        def turn() -> tuple[int, int]:
            before = self.answered(first), self.answered(second)
            self.turn()
            return self.answered(first) - before[0], self.answered(second) - before[1]

        self.assertApproximates(self.answered(first), long, 1)
        self.assertApproximates(self.answered(second), short, 1)
        for many in turn():
            self.assertApproximates(many, short, 1)
        first.protocol.abort(CloseReason.TIMEOUT)
        self.assertApproximates(turn()[1], long, 1)

    def test_a_pause_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.pause("busy")
        self.turn()
        self.assertEqual(self.answered(wire), 10)
        wire.protocol.resume("busy")
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    def test_a_pause_that_is_over_before_the_turn(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.pause("busy")
        wire.protocol.resume("busy")
        self.assertEqual(self.answered(wire), 10)
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    def test_an_end_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        wire.protocol.abort(CloseReason.TIMEOUT)
        self.assertOver(wire, CloseReason.TIMEOUT, aborted=True)
        self.assertEqual(self.answered(wire), 10)

    def test_a_clock_that_is_set_back(self) -> None:
        """Costs no more than the turn that it befalls."""
        wire = self.flooded(b"PING\n" * 15)
        self.clock.rightNow -= 3600
        for call in self.clock.getDelayedCalls():
            call.reset(0)
        self.turn()
        self.assertEqual(self.answered(wire), 15)

    # A connection that is gone before all is told

    def lost(self, wire: Wire) -> None:
        wire.protocol.connectionLost(Failure(ConnectionLost()))

    def test_what_arrived_is_told_before_the_link_ends(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        self.lost(wire)
        self.assertEqual(self.ends(), [])
        self.assertEqual(len(self.messages()), 10)
        self.turn()
        self.assertEqual(len(self.messages()), 15)
        self.assertEqual([end[0] for end in self.ends()], [CloseReason.CONNECTION_LOST])
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_is_sent_meanwhile(self) -> None:
        wire = self.flooded(b"PING\n" * 15)
        self.lost(wire)
        self.turn()
        self.assertEqual(self.answered(wire), 10)
        self.assertEqual(self.messages(), [Ping()] * 15)

    def test_nor_is_a_line_awaited_that_has_no_end(self) -> None:
        wire = self.ready()
        wire.protocol.dataReceived(b"x\nhalf")
        self.lost(wire)
        self.assertEqual(self.host.told[-1], ("gone",))

    def test_a_paused_link_does_not_wait_to_be_resumed(self) -> None:
        """Its peer may come back before, and finds its seat free."""
        wire = self.ready()
        wire.protocol.pause("busy")
        wire.protocol.dataReceived(b"bye\n")
        self.lost(wire)
        self.assertEqual(self.messages(), [])
        self.assertEqual(self.host.told[-1], ("gone",))

    def test_nor_does_one_that_is_paused_before_its_turn(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        self.lost(wire)
        self.assertTrue(wire.protocol.gone)
        wire.protocol.pause("busy")
        self.assertEqual(self.ends(), [])
        self.turn()
        self.assertEqual(len(self.messages()), 10)
        self.assertEqual(self.host.told[-1], ("gone",))
        self.assertEqual(self.host.told.count(("gone",)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_link_that_is_closed_meanwhile(self) -> None:
        """Our own end of it drops what is not told, as ever."""
        for end in ("close", "abort"):
            self.host.told.clear()
            wire = self.flooded(b"x\n" * 15)
            self.lost(wire)
            getattr(wire.protocol, end)(CloseReason.STOPPED)
            self.turn()
            self.assertEqual(len(self.messages()), 10)
            self.assertEqual([each[0] for each in self.ends()], [CloseReason.STOPPED])
            self.assertEqual(self.host.told[-1], ("gone",))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_clean_end_waits_for_a_pause_as_well(self) -> None:
        """So ends a transport without half-close; others tell of the end first."""
        wire = self.flooded(b"x\n" * 25)
        wire.transport.lose(ConnectionDone())
        self.assertTrue(wire.protocol.gone)
        self.turn()
        self.assertEqual(len(self.messages()), 20)
        wire.protocol.pause("busy")
        self.turn()
        self.assertEqual((len(self.messages()), self.ends()), (20, []))
        wire.protocol.resume("busy")
        self.assertEqual(len(self.messages()), 25)
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_bytes_that_come_while_others_are_told(self) -> None:
        """They are told after those, and after nothing that came later."""
        wire = self.flooded(b"x\n" * 12)
        hear = self.host.message_received

        def talk(link: IPeerLink, message: Message) -> Message | None:
            self.host.message_received = hear  # type: ignore[method-assign]
            wire.protocol.dataReceived(b"y\n")
            return hear(link, message)

        self.host.message_received = talk  # type: ignore[method-assign]
        self.turn()
        self.turn()
        self.assertEqual(self.messages(), [*[Chat("x")] * 12, Chat("y")])

    def test_the_far_ends_fin_waits_for_its_words(self) -> None:
        wire = self.flooded(b"x\n" * 15)
        wire.protocol.readConnectionLost()
        self.assertEqual(self.ends(), [])
        self.turn()
        self.assertEqual(len(self.messages()), 15)
        self.assertEqual([end[0] for end in self.ends()], [CloseReason.CLOSED_BY_PEER])


class PauseTests(LinkCase):
    def test_nothing_is_read_until_every_reason_is_gone(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.pause("two")
        self.assertFalse(wire.protocol.reading)
        self.assertFalse(wire.transport.reading)
        wire.say("hello")
        wire.protocol.resume("one")
        wire.protocol.resume("one")
        self.assertFalse(wire.transport.reading)
        wire.protocol.resume("two")
        self.clock.advance(0)
        self.assertTrue(wire.protocol.reading)
        self.assertEqual(self.messages(), [Chat("hello")])

    def test_time_in_which_nothing_is_read_is_no_silence(self) -> None:
        """The far end counts as heard when it is read again, and not before."""
        wire = self.ready()
        began = self.clock.seconds()
        wire.protocol.pause("one")
        wire.protocol.pause("two")
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, began)
        wire.protocol.resume("two")
        self.assertEqual(wire.protocol.last_heard, began + 100)

    def test_a_pause_in_the_midst_of_a_piece_keeps_the_rest_in_order(self) -> None:
        class Busy(FakeHost):
            def message_received(
                self, link: IPeerLink, message: Message
            ) -> Message | None:
                link.pause(self)
                return first_of(message, super().message_received, link)

        self.host = Busy(self.clock)
        wire = self.ready()
        wire.raw(b"one\ntwo\nthr")
        wire.raw(b"ee\n")
        self.assertEqual(self.messages(), [Chat("one")])
        wire.protocol.resume(self.host)
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("one"), Chat("two")])
        wire.protocol.resume(self.host)
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("one"), Chat("two"), Chat("three")])

    def test_sending_goes_on(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.send(Chat("hello"))
        self.assertEqual(wire.heard(), b"hello\n")

    def test_a_far_end_is_not_silent_while_it_is_not_read(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, 100)

    def test_a_resume_for_another_reason_changes_nothing(self) -> None:
        wire = self.ready()
        self.clock.advance(100)
        wire.protocol.resume("one")
        self.assertEqual(wire.protocol.last_heard, 0)
        self.assertTrue(wire.protocol.reading)

    def test_what_is_too_long_comes_after_what_was_said_before(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        for piece in (b"one\ntwo\n", b"x" * 16385, b"\nthree\n"):
            # A transport may have more on its way when it is paused.
            wire.protocol.dataReceived(piece)
        self.assertEqual(self.host.told, [])
        wire.protocol.resume("one")
        self.assertEqual(self.messages(), [Chat("one"), Chat("two")])
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_the_same_where_the_far_end_has_finished(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.dataReceived(b"one\n" + b"x" * 16385)
        wire.protocol.readConnectionLost()
        wire.protocol.dataReceived(b"x")
        wire.protocol.resume("one")
        self.assertEqual(self.messages(), [Chat("one")])
        self.assertOver(wire, CloseReason.LINE_TOO_LONG, aborted=True)

    def test_a_clean_end_is_told_when_the_pause_is_over(self) -> None:
        """As where the far end's FIN is read then."""
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.dataReceived(b"bye\nhalf")
        wire.transport.lose(ConnectionDone())
        self.assertTrue(wire.protocol.gone)
        self.assertFalse(wire.protocol.reading)
        self.assertEqual(self.host.told, [])
        wire.protocol.resume("one")
        self.assertEqual(self.messages(), [Chat("bye")])
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_a_clean_end_with_nothing_left_to_tell(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.dataReceived(b"half")
        wire.transport.lose(ConnectionDone())
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)

    def test_a_peer_that_is_back_does_not_wait_for_that(self) -> None:
        """Its old link is gone, so that the owner may end it."""
        wire = self.ready()
        wire.protocol.pause("one")
        wire.protocol.dataReceived(b"bye\n")
        wire.transport.lose(ConnectionDone())
        wire.protocol.abort(CloseReason.REPLACED)
        wire.protocol.resume("one")
        self.assertEqual(self.messages(), [])
        self.assertOver(wire, CloseReason.REPLACED, aborted=False)

    def test_the_far_ends_last_lines_are_read_before_its_end(self) -> None:
        wire = self.ready()
        wire.protocol.pause("one")
        wire.say("bye")
        wire.hang_up()
        self.assertEqual(self.host.told, [])
        wire.protocol.resume("one")
        self.clock.advance(0)
        self.assertEqual(self.messages(), [Chat("bye")])
        self.assertOver(wire, CloseReason.CLOSED_BY_PEER, aborted=False)
