"""One connection: a translator between bytes and the `Session`.

Guard, decode, ask the session, carry out its effects: no rule of the mesh
stands here.  What does stand here is what only a connection can know: the
deadline of its handshake, its two ends, and that it has ended.

Real TCP goes on delivering lines that were buffered when a connection is
aborted, and `LineReceiver` stops only for an orderly close.  So the protocol
has a guard of its own: once a link has ended no line reaches the session.

Reading is shared out by time: after its turn (`Turns`) a link waits until every
other link has been read.  So a connection may be gone while its last words are
still unread: the link ends when they have been told.
"""

from __future__ import annotations

from typing import assert_never

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from meshproto.errors import AddressError, RemoteProtocolError
from meshproto.events import CloseReason, Direction
from meshproto.link.interfaces import IPeerHost
from meshproto.link.outbox import Outbox
from meshproto.link.sockets import has_hung_up, keep_back
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.session import (
    DRAINING,
    ENDED,
    GREETING,
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
from meshproto.wire.address import Target, normal_host
from meshproto.wire.mesh1 import DELIMITER, next_lines, not_a_node
from meshproto.wire.messages import Message


class _Transport(ITCPTransport, IConsumer, IPushProducer):
    """What every stream transport of Twisted is."""


# One for all links: there may be thousands.
_NO_REASONS: frozenset[object] = frozenset()

#: Where a connection without IP addresses (a UNIX socket) ends: here.
_NO_HOST = "127.0.0.1"


@implementer(IPeerLink, IHalfCloseableProtocol)
class MeshProtocol(LineReceiver):
    """A link to one peer.

    ``host`` hears what happens on it.  ``target`` is what was dialled, None on
    a link that was accepted; ``opened_at`` is when the dial began (the
    handshake deadline counts from there), by default now.
    """

    transport: _Transport
    delimiter = DELIMITER

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
        self.remote_host = self.local_host = _NO_HOST
        self.same_machine = True
        self.codec = host.codec()
        self.seat: object = None
        self._host = host
        self._clock = host.clock
        self._limits = host.limits
        self._session = Session(self.direction)
        self._outbox: Outbox | None = None
        self._deadline: IDelayedCall | None = None
        self._far_end_finished = False
        self._pauses = self._holds = _NO_REASONS
        # What arrived and is not decoded, and what is decoded and not told, the
        # next one last.
        self._unread = b""
        self._heard: list[Message] | None = None
        self._busy = False
        self._turn: IDelayedCall | None = None
        self.turn_ends = 0.0
        self._lost: tuple[CloseReason, str] | None = None
        self.reading = True
        self.MAX_LENGTH = self._limits.max_handshake_line

    # Protocol, LineReceiver, IHalfCloseableProtocol

    def connectionMade(self) -> None:
        """Say hello when we dialled; give the handshake its deadline."""
        self.remote_host = _host_of(self.transport.getPeer())
        self.local_host = _host_of(self.transport.getHost())
        self.same_machine = self._host.is_own_host(self.remote_host)
        self.last_heard = self._clock.seconds()
        # The transport of a UNIX socket says that it is one of TCP.
        is_tcp = isinstance(self.transport.getPeer(), IPv4Address | IPv6Address)
        if is_tcp and ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
            keep_back(self.transport)
        self._outbox = Outbox(
            self.transport,
            self._clock,
            limit=self._limits.send_queue,
            stall_timeout=self._limits.stall_timeout,
            owner=self,
        )
        spent = self._clock.seconds() - self.opened_at
        self._set_deadline(self._limits.handshake_timeout - spent)
        self._host.link_opened(self)
        if self.direction is Direction.OUTGOING:
            self.send(self._host.own_greeting())

    def dataReceived(self, data: bytes) -> None:
        """Bytes arrived: the far end is alive."""
        if self._session.state is ENDED:
            return
        self.last_heard = now = self._clock.seconds()
        self._unread += data
        if not self._busy:
            self.turn_ends = now + self._host.turns.seconds
            self._busy = True
            try:
                self._read()
            finally:
                self._busy = False

    def lineReceived(self, line: bytes) -> None:
        """Decode a line and do what the session says about it."""
        if self._ended():
            return
        if self._session.state is not GREETING:
            for said in self.codec.decode(line):
                self._carry_out(self._session.receive(said), said)
            return
        try:
            message = self._greeting(line)
        except RemoteProtocolError as error:
            self._end(CloseReason.PROTOCOL_ERROR, str(error), abort=False)
            return
        self._carry_out(self._session.receive(message), message)

    def lineLengthExceeded(self, line: bytes) -> None:
        """The far end sends a line without end: cut it."""
        detail = f"more than {self.MAX_LENGTH} bytes"
        self._end(CloseReason.LINE_TOO_LONG, detail, abort=True)

    def readConnectionLost(self) -> None:
        """The far end has sent its last line."""
        self._far_end_finished = True
        if not self._waits_to_be_told():
            self._heard_to_the_end()

    def writeConnectionLost(self) -> None:
        """Our half is closed, as we asked; the far end's half goes on."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone, whoever ended it."""
        self._set_deadline(None)
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        if reason.check(ConnectionDone):
            why, detail = CloseReason.CLOSED_BY_PEER, self._half_said()
        else:
            why, detail = CloseReason.CONNECTION_LOST, reason.getErrorMessage()
        if not (self._ended() or self._pauses) and self._waits_to_be_told():
            # A turn is short.  A pause may last, and the peer be back before it ends.
            self._lost = why, detail
        else:
            self._end(why, detail, abort=False)
            self._host.link_gone(self)

    # OutboxOwner

    def overrun(self) -> None:
        """The far end does not take what is sent."""
        self.abort(CloseReason.SLOW_CONSUMER)

    def eased(self) -> None:
        """The far end has taken some of what waited."""
        self._host.link_eased(self)

    # IPeerLink

    def send(self, *messages: Message) -> None:
        """Queue messages, and have them leave now, together."""
        lines = b"".join(map(self.codec.encode, messages))
        self.send_lines(lines, at_once=True)

    def send_lines(self, lines: bytes, *, at_once: bool = False) -> None:
        """Queue encoded lines."""
        if self._outbox is not None and self._may_send():
            self._outbox.write(lines, at_once=at_once)

    def send_urgent(self, message: Message) -> None:
        """Queue a control message before the chat that waits."""
        if self._outbox is not None and self._may_send():
            self._outbox.write_urgent(self.codec.encode(message))

    @property
    def moved_at(self) -> float:
        """When the far end last took any of what waits."""
        return self._outbox.moved_at if self._outbox is not None else 0.0

    def queued(self) -> int:
        """Bytes that the far end has not taken, besides the transport's own."""
        return self._outbox.size if self._outbox is not None else 0

    def hold(self, reason: object) -> None:
        """Neither read nor send until the reason is resumed."""
        if self._ended():
            return
        self._holds |= {reason}
        if self._outbox is not None:
            self._outbox.hold()
        self.pause(reason)

    def pause(self, reason: object) -> None:
        """Stop reading until the reason is resumed."""
        if self._ended():
            return
        if self._lost is not None:
            # Its end is a turn away; whoever pauses it does not expect it here.
            self.reading = False
            self._unread = b""
            self._heard = None
            return
        if not self._pauses:
            self.reading = False
            self.pauseProducing()
        self._pauses |= {reason}

    def resume(self, reason: object) -> None:
        """Take back a pause or a hold."""
        if self._ended():
            return
        if reason in self._holds:
            self._holds -= {reason}
            if not self._holds and self._outbox is not None:
                self._outbox.release()
        if reason in self._pauses:
            self._pauses -= {reason}
            if not self._pauses:
                self.reading = True
                if self._session.state is DRAINING:
                    self._set_deadline(self._limits.drain_timeout)
                if self._turn is None:
                    self._read_on()

    def drain(self) -> None:
        """Send no more, read to the end; cut what does not end in time."""
        self._session.drain()
        if self._session.state is not DRAINING or self._outbox is None:
            return
        if self._far_end_finished and not self._waits_to_be_told():
            self._end(CloseReason.MERGED, abort=False)
            return
        self._set_deadline(self._limits.drain_timeout)
        self._outbox.finish(self._half_close)

    def close(self, reason: CloseReason) -> None:
        """End the link; what is queued is sent first."""
        self._end(reason, abort=False)

    def abort(self, reason: CloseReason) -> None:
        """End the link at once."""
        self._end(reason, abort=True)

    def confirm(self) -> None:
        """The far end, which has our ID, is another node."""
        self._carry_out(self._session.confirm(), None)

    def _greeting(self, line: bytes) -> Message:
        if self.direction is Direction.INCOMING:
            return self.codec.decode_greeting(line)
        return self.codec.decode_answer(line)

    def _read(self) -> None:
        """Hand on what has arrived, until the link is paused, ends or has had
        its turn.

        The first line by itself, since what it says decides about the link;
        after it the lines that are there, many at once.
        """
        while not self.paused:
            while self._heard:
                message = self._heard.pop()
                others = len(self._heard)
                self._carry_out(self._session.receive(message), message)
                if self.paused:
                    return
                if not (self._heard or self._unread):
                    self._heard = None
                    return
                # What the owner gives back it does not take in this turn.
                is_given_back = len(self._heard or ()) > others
                if is_given_back or self._clock.seconds() >= self.turn_ends:
                    self._let_others_have_their_turn()
                    return
            if not self._unread:
                return
            if self._session.state is GREETING:
                line, newline, rest = self._unread.partition(DELIMITER)
                line = line.removesuffix(b"\r")
                if len(line) > self.MAX_LENGTH:
                    self.lineLengthExceeded(line)
                    return
                if not newline:
                    return
                self._unread = rest
                self.lineReceived(line)
            else:
                heard, end = self.codec.read(self._unread, self.MAX_LENGTH)
                if not end:
                    line = self._unread.removesuffix(b"\r")
                    if len(line) > self.MAX_LENGTH:
                        self.lineLengthExceeded(line)
                    return
                self._unread = self._unread[end:]
                if len(heard) > 1:
                    heard.reverse()
                self._heard = heard

    def _let_others_have_their_turn(self) -> None:
        if self._turn is None:
            self.pauseProducing()
            self._host.turns.wait()
            self._turn = self._clock.callLater(0, self._own_turn)

    def _is_stale(self) -> bool:
        """Whether a dialler gave up while its hello lay unread.

        After a suspension all dials of those seconds are read at once, and are
        no news of anybody.  Who has said more than hello has not given up.
        """
        return (
            self.direction is Direction.INCOMING
            and not self._unread
            and has_hung_up(self.transport)
        )

    def _own_turn(self) -> None:
        self._turn = None
        self._host.turns.go()
        if not self._pauses:
            self._read_on()

    def _read_on(self) -> None:
        """Tell what waits to be told, then read from the connection again."""
        self.paused = False
        if not self._busy:
            # The far end was not silent: it was not read.
            self.dataReceived(b"")
            if self.paused or self._ended():
                return
            if self._lost is not None:
                self._end(*self._lost, abort=False)
            elif self._far_end_finished:
                self._heard_to_the_end()
        if self._lost is None and not self._ended():
            self.transport.resumeProducing()

    def _heard_to_the_end(self) -> None:
        match self._session.state:
            case State.DRAINING:
                self._end(CloseReason.MERGED, abort=False)
            case State.READY if self._host.far_end_finished(self):
                pass
            case _:
                self._end(CloseReason.CLOSED_BY_PEER, self._half_said(), abort=False)

    def _half_said(self) -> str:
        """What is to be told of a far end that goes in the midst of its greeting."""
        if self._session.state is GREETING and self._unread:
            return not_a_node(self._unread)
        return ""

    @property
    def waits(self) -> bool:
        """Whether messages have arrived that wait for the link's turn."""
        return self._turn is not None

    @property
    def gone(self) -> bool:
        """Whether the connection is gone, and only its last words are left."""
        return self._lost is not None

    @property
    def _gives_up(self) -> bool:
        return self._lost is not None and not self.reading

    def _waits_to_be_told(self) -> bool:
        """Whether messages that have arrived are kept back by a pause or a turn."""
        return self.paused and bool(
            self._heard or next_lines(self._unread, self.MAX_LENGTH)
        )

    def _carry_out(self, effects: tuple[Effect, ...], message: Message | None) -> None:
        """Do what the session says about a message, or about a verdict."""
        for effect in effects:
            if self._session.state is ENDED:
                return
            match effect:
                case Notify():
                    assert message is not None, "a verdict is for no application"
                    # An effect before this one may have paused the link.
                    rest = (
                        message
                        if self.paused
                        else self._host.message_received(self, message)
                    )
                    if rest is not None and not (self._ended() or self._gives_up):
                        self._heard = [*(self._heard or ()), rest]
                case Send(answer):
                    self.send_urgent(answer)
                case Greet():
                    self.send(self._host.own_greeting())
                case Introduce() if self._is_stale():
                    self._end(CloseReason.CLOSED_BY_PEER, abort=False)
                case Introduce(hello, confirmed):
                    verdict = self._host.greeting_received(self, hello, confirmed)
                    self._carry_out(self._session.judge(verdict), None)
                case Establish():
                    self._handshake_done()
                    self._host.link_ready(self)
                case TurnedAway(refusal):
                    self._host.turned_away(self, refusal)
                case End(reason):
                    self._end(reason, abort=False)
                case _:
                    assert_never(effect)

    def _handshake_done(self) -> None:
        self.MAX_LENGTH = self._limits.max_line
        if self._session.state is not State.TWIN:
            self._set_deadline(None)

    def _deadline_passed(self) -> None:
        self._deadline = None
        match self._session.state:
            case State.TWIN:
                # It keeps its address to itself, so it is not our own node.
                self.confirm()
            case State.DRAINING if self._pauses:
                # Nor is it the far end's fault that its last lines lie unread.
                self._set_deadline(self._limits.drain_timeout)
            case State.DRAINING:
                self._end(CloseReason.TIMEOUT, abort=True)
            case State.ENDED:
                self.transport.abortConnection()
            case _:
                self._end(CloseReason.HANDSHAKE_TIMEOUT, abort=True)

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self._clock.callLater(
                max(0.0, seconds), self._deadline_passed
            )

    def _ended(self) -> bool:
        # Where every message passes the state is looked at without this call.
        return self._session.state is ENDED

    def _may_send(self) -> bool:
        state = self._session.state
        return state is not ENDED and state is not DRAINING

    def _half_close(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()
        else:
            # TLS has no half-close that all peers take.
            self.transport.loseConnection()

    def _end(self, reason: CloseReason, detail: str = "", *, abort: bool) -> None:
        """End the link, once; the owner hears of it before this returns."""
        if self._ended():
            return
        self._session.end()
        self._set_deadline(None)
        self._holds = _NO_REASONS
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._host.turns.go()
        self.reading = False
        self._unread = b""
        self._heard = None
        lost, self._lost = self._lost, None
        if self._outbox is None:
            pass
        elif abort:
            self._outbox.close()
            self.transport.abortConnection()
        else:
            # A far end that takes nothing could keep the connection for ever.
            self._set_deadline(self._limits.flush_timeout)
            self._outbox.finish(self._lose_connection)
        self._host.link_ended(self, reason, detail)
        if lost is not None:
            self._host.link_gone(self)

    def _lose_connection(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
        self.transport.loseConnection()


def _host_of(address: object) -> str:
    host = getattr(address, "host", None)
    try:
        return normal_host(host) if isinstance(host, str) else _NO_HOST
    except AddressError:
        return _NO_HOST
