"""One connection: translates between bytes and its session.

Guard, decode, ask the session, carry out its effects: no policy lives here.  This
module has only what a connection alone can know: the deadline of its handshake, its
two ends, and that it has ended.

The greeting is a line.  Everything after it goes to the reader of the link's wire,
which alone knows how messages are framed.

Real TCP still delivers buffered bytes after a connection is aborted, and
`LineReceiver` stops only for an orderly close.  So the protocol has its own guard:
once a link has ended, nothing reaches the session.

Links share the reactor's time: after its turn (`Turns`) a link waits until every
other link has been read.  So a connection may be gone while its last messages are
undelivered: `Flow` says when they are delivered and when the link ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.errors import RemoteProtocolError
from meshproto.events import CloseReason, Direction
from meshproto.link import sockets
from meshproto.link.deadline import Deadline
from meshproto.link.flow import Flow, Step
from meshproto.link.inbox import Inbox
from meshproto.link.interfaces import IPeerHost
from meshproto.link.outbox import Outbox
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
from meshproto.rules.interfaces import IPeerLink, ISession
from meshproto.wire import greeting
from meshproto.wire.address import Target
from meshproto.wire.errors import LineTooLong
from meshproto.wire.messages import Greeting, Message


@implementer(IPeerLink, IHalfCloseableProtocol)
class MeshProtocol(LineReceiver):
    """A link to one peer.

    ``host`` is its owner.  ``target`` is what was dialled, None on an accepted link.
    ``opened_at`` is when the dial began, in clock seconds, by default now; the
    handshake deadline counts from then.
    """

    transport: sockets.Transport
    delimiter = greeting.DELIMITER

    def __init__(
        self,
        host: IPeerHost,
        *,
        target: Target | None = None,
        opened_at: float | None = None,
    ) -> None:
        self.direction = Direction.OUTGOING if target else Direction.INCOMING
        self.target = target
        self.opened_at = host.clock.seconds() if opened_at is None else opened_at
        self.last_heard = self.opened_at
        self.remote_host = self.local_host = sockets.NO_HOST
        self.same_machine = True
        self.wire = host.wire()
        self._session: ISession | None = None
        self.seat: object = None
        self._host = host
        self._clock = host.clock
        self._limits = host.limits
        self._over = False
        self._outbox: Outbox | None = None
        self._deadline = Deadline(self._clock, self._deadline_passed)
        self._turn: IDelayedCall | None = None
        self.turn_ends = 0.0
        self.reading = True
        self._flow = Flow()
        self._inbox = Inbox()
        # Why the connection is gone, while last messages are undelivered.
        self._because = CloseReason.CLOSED_BY_PEER, ""
        # One more byte, for the CR of a CRLF.
        self.MAX_LENGTH = self._limits.max_handshake_line + 1

    # Protocol, LineReceiver, IHalfCloseableProtocol

    def connectionMade(self) -> None:
        """Set the handshake deadline, and send our greeting if we dialled."""
        self.remote_host = sockets.host_of(self.transport.getPeer())
        self.local_host = sockets.host_of(self.transport.getHost())
        self.same_machine = self._host.is_own_host(self.remote_host)
        self.last_heard = self._clock.seconds()
        sockets.make_prompt(self.transport)
        self._outbox = Outbox(
            self.transport,
            self._clock,
            limit=self._limits.send_queue,
            stall_timeout=self._limits.stall_timeout,
            owner=self,
        )
        spent = self._clock.seconds() - self.opened_at
        self._deadline.set(self._limits.handshake_timeout - spent)
        self._host.link_opened(self)
        if self.direction is Direction.OUTGOING:
            self._greet(self._host.own_greeting())

    def lineReceived(self, line: bytes) -> None:
        """The greeting of the far end; all that follows is for the wire's reader."""
        if self._over:
            return
        line = line.removesuffix(b"\r")
        if len(line) > self._limits.max_handshake_line:
            self.lineLengthExceeded(line)
            return
        self._begin_turn()
        incoming = self.direction is Direction.INCOMING
        decode = greeting.decode_greeting if incoming else greeting.decode_answer
        try:
            message = decode(line)
        except RemoteProtocolError as error:
            self._end(CloseReason.PROTOCOL_ERROR, str(error), abort=False)
            return
        rest = self.clearLineBuffer()
        if incoming and not rest and sockets.has_hung_up(self.transport):
            # The dialler gave up before we read its greeting.  After a suspension
            # all the dials of that time arrive at once, and most are stale.
            self._end(CloseReason.CLOSED_BY_PEER, abort=False)
            return
        terms = self._host.agree(self, message)
        if terms is None:
            self._end(CloseReason.NO_COMMON_PROTOCOL, abort=False)
            return
        self.wire, self._session = terms
        self._inbox.reader = self.wire.reader()
        self.setRawMode()
        # `LineReceiver` buffers these bytes until this method has returned.
        self.dataReceived(rest)
        self._carry_out(self._session.receive(message), message)

    def lineLengthExceeded(self, line: bytes) -> None:
        """The greeting of the far end is too long: abort the link."""
        detail = f"more than {self._limits.max_handshake_line} bytes"
        self._end(CloseReason.LINE_TOO_LONG, detail, abort=True)

    def rawDataReceived(self, data: bytes) -> None:
        """Bytes arrived after the greeting: the far end is alive."""
        if self._over:
            return
        self._inbox.feed(data)
        if not self._flow.telling:
            self._begin_turn()
            self._tell()

    def readConnectionLost(self) -> None:
        """The far end has finished sending."""
        self._flow.finished = True
        if not self._waits_to_be_told():
            self._heard_to_the_end()

    def writeConnectionLost(self) -> None:
        """Our half is closed; we never ask for that alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whichever side ended it."""
        self._deadline.clear()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        closed = bool(reason.check(ConnectionDone))
        if closed:
            because = CloseReason.CLOSED_BY_PEER, self._half_said()
        else:
            because = CloseReason.CONNECTION_LOST, reason.getErrorMessage()
        left = self._waits_to_be_told()
        if left and self._flow.lose(closed=closed) is not Step.FINISH:
            self._because = because
        else:
            self._end(*because, abort=False)
            self._host.link_gone(self)

    # OutboxOwner

    def overrun(self) -> None:
        """The far end does not read what we send."""
        self.abort(CloseReason.SLOW_CONSUMER)

    def eased(self) -> None:
        """Some of the send queue has been sent."""
        self._host.link_eased(self)

    # IPeerLink

    def send(self, *messages: Message) -> None:
        """Queue messages, to be sent together and at once."""
        lines = b"".join(map(self.wire.encode, messages))
        self.send_lines(lines, at_once=True)

    def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
        """Queue encoded lines."""
        if self._outbox is not None and not self._over:
            self._outbox.write(lines, at_once=at_once)

    def send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Queue a message in pieces."""
        if self._outbox is not None and not self._over:
            self._outbox.write_pieces(pieces)

    def send_urgent(self, message: Message) -> None:
        """Queue a control message ahead of waiting chat."""
        if self._outbox is not None and not self._over:
            self._outbox.write_urgent(self.wire.encode(message))

    @property
    def moved_at(self) -> float:
        """When the send queue last moved, in clock seconds."""
        return self._outbox.moved_at if self._outbox is not None else 0.0

    def queued(self) -> int:
        """Bytes in the send queue, not counting the transport's own buffer."""
        return self._outbox.size if self._outbox is not None else 0

    def pause(self, reason: object) -> None:
        """Stop reading until every reason has been resumed."""
        self._follow(self._flow.pause(reason))

    def resume(self, reason: object) -> None:
        """Withdraw the `pause` with this reason."""
        self._follow(self._flow.resume(reason))

    def close(self, reason: CloseReason) -> None:
        """End the link after sending what is queued."""
        self._end(reason, abort=False)

    def abort(self, reason: CloseReason) -> None:
        """End the link at once and drop what is queued."""
        self._end(reason, abort=True)

    # What arrives

    def _begin_turn(self) -> None:
        self.last_heard = now = self._clock.seconds()
        self.turn_ends = now + self._host.turns.seconds

    def _tell(self) -> None:
        """Deliver messages until the link is paused or ends, or its turn is over."""
        flow, inbox, session = self._flow, self._inbox, self._session
        if session is None:
            return
        flow.telling = True
        try:
            while inbox.waiting or inbox.reader.waiting:
                if not inbox.waiting:
                    inbox.feed(b"")
                    if not inbox.waiting and self._clock.seconds() >= self.turn_ends:
                        # Frames without a message take time too.
                        self._follow(flow.turn_over())
                        return
                    continue
                message = inbox.waiting.pop()
                if isinstance(message, RemoteProtocolError):
                    self._end(_reason_of(message), str(message), abort=True)
                    return
                others = len(inbox.waiting)
                self._carry_out(session.receive(message), message)
                if self.paused:
                    return
                left = len(inbox.waiting)
                if not (left or inbox.reader.waiting):
                    return
                # The owner accepts no more in this turn if it gave some back.
                if left > others or self._clock.seconds() >= self.turn_ends:
                    self._follow(flow.turn_over())
                    return
        finally:
            flow.telling = False

    def _waits_to_be_told(self) -> bool:
        """Whether a pause or a turn holds up messages that have arrived."""
        if not self.paused or self._over:
            return False
        self._decode_rest()
        return bool(self._inbox.waiting) or self._inbox.reader.waiting

    def _decode_rest(self) -> None:
        """Decode the bytes that arrived while the link was held."""
        if not self.line_mode and (rest := self.clearLineBuffer()):
            self._inbox.feed(rest)

    def _drop(self) -> None:
        """Drop what is not delivered."""
        self.clearLineBuffer()
        self._inbox.close()

    def _follow(self, step: Step) -> None:
        """Carry out a step of the flow."""
        self.reading = self._flow.reading
        match step:
            case Step.STOP | Step.WAIT:
                self.paused = True
                if not self._flow.gone:
                    self.pauseProducing()
                if step is Step.WAIT:
                    self._host.turns.wait()
                    self._turn = self._clock.callLater(0, self._own_turn)
            case Step.GO_ON:
                self._read_on()
            case Step.DROP:
                self._drop()

    def _own_turn(self) -> None:
        self._turn = None
        self._host.turns.go()
        self._follow(self._flow.turn())

    def _read_on(self) -> None:
        """Deliver the messages that wait, then read from the connection again."""
        self.paused = False
        if not self._flow.telling:
            # The far end was not silent; we were not reading.
            self._begin_turn()
            self._decode_rest()
            self._tell()
            self.dataReceived(b"")
            if self.paused or self._over:
                return
            if self._flow.gone:
                self._end(*self._because, abort=False)
            elif self._flow.finished:
                self._heard_to_the_end()
        if not (self._flow.gone or self._over):
            self.transport.resumeProducing()

    def _heard_to_the_end(self) -> None:
        self._end(CloseReason.CLOSED_BY_PEER, self._half_said(), abort=False)

    def _half_said(self) -> str:
        """The detail for a far end that leaves in the middle of its greeting."""
        if self.line_mode and (said := self.clearLineBuffer()):
            return greeting.not_a_node(said)
        return ""

    @property
    def waits(self) -> bool:
        """Whether messages have arrived and wait for the link's turn."""
        return self._flow.waits

    @property
    def gone(self) -> bool:
        """Whether the connection is gone and its last messages are undelivered."""
        return self._flow.gone

    # What the session asks for

    def _carry_out(self, effects: tuple[Effect, ...], message: Message | None) -> None:
        """Carry out the effects of a message, or of a verdict."""
        session = self._session
        assert session is not None, "effects are a session's"
        for effect in effects:
            if self._over:
                return
            match effect:
                case Notify():
                    assert message is not None, "a verdict is for no application"
                    # An effect before this one may have paused the link.
                    if not self.paused:
                        message = self._host.message_received(self, message)
                    if message is not None:
                        self._inbox.give_back(message)
                case Send(answer):
                    self.send_urgent(answer)
                case Greet(mesh2):
                    self._greet(replace(self._host.own_greeting(), mesh2=mesh2))
                case Introduce(ended):
                    self.send(self._host.own_hello(self, ended))
                case Ask(said):
                    verdict = self._host.judge(self, said)
                    self._carry_out(session.judge(verdict), None)
                case Establish():
                    self._deadline.clear()
                    self._inbox.reader.established()
                    self._host.link_ready(self)
                case TurnedAway(why):
                    self._host.turned_away(self, why)
                case End(reason):
                    self._end(reason, abort=False)
                case _:
                    assert_never(effect)

    def _greet(self, own: Greeting) -> None:
        if self._outbox is not None and not self._over:
            self._outbox.write(greeting.encode_greeting(own), at_once=True)

    def _deadline_passed(self) -> None:
        if self._over:
            self.transport.abortConnection()
        else:
            self._end(CloseReason.HANDSHAKE_TIMEOUT, abort=True)

    def _end(self, reason: CloseReason, detail: str = "", *, abort: bool) -> None:
        """End the link, once; the owner is told before this returns."""
        if self._over:
            return
        self._over = True
        if self._session is not None:
            self._session.end()
        self._deadline.clear()
        gone = self._flow.gone
        self._flow.end()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._host.turns.go()
        self.reading = self.paused = False
        self.setRawMode()
        self._drop()
        if self._outbox is None:
            pass
        elif abort:
            self._outbox.close()
            self.transport.abortConnection()
        else:
            # A far end that reads nothing could hold the connection for ever.
            self._deadline.set(self._limits.flush_timeout)
            self._outbox.finish(self.transport.loseConnection)
        self._host.link_ended(self, reason, detail)
        if gone:
            self._host.link_gone(self)


def _reason_of(error: RemoteProtocolError) -> CloseReason:
    too_long = isinstance(error, LineTooLong)
    return CloseReason.LINE_TOO_LONG if too_long else CloseReason.PROTOCOL_ERROR
