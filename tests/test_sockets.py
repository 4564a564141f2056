"""Writing past the transport, which needs parts of Twisted that may change."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from meshproto.link.sockets import (
    NEEDED,
    UNSENT,
    has_hung_up,
    is_direct,
    keep_back,
    write_now,
)

reactor: Any = the_reactor


class FallbackTests(SynchronousTestCase):
    def test_other_transports_are_written_to_as_usual(self) -> None:
        self.assertFalse(is_direct(StringTransport()))
        self.assertFalse(has_hung_up(StringTransport()))
        keep_back(StringTransport())

    def test_a_connection_without_what_is_needed_too(self) -> None:
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        for missing in NEEDED:
            names = {name: 0 for name in NEEDED if name != missing}

            class Bare:
                def write(self, data: bytes) -> None:
                    """As a transport has it."""

            # It passes for a connection, of a Twisted that works otherwise.
            vars_ = {**names, "__class__": property(lambda self: Connection)}
            bare = type("Other", (Bare,), vars_)()
            self.assertIsInstance(bare, Connection)
            self.assertFalse(is_direct(bare), missing)
        bare = type("Other", (Bare,), {**vars_, missing: 0})()
        self.assertTrue(is_direct(bare))


class Ended(Protocol):
    """One end of a connection that says when it has ended, and what it read."""

    def __init__(self) -> None:
        self.read = b""
        self.ended: Deferred[None] = Deferred()
        self.enough: tuple[int, Deferred[None]] | None = None

    def when(self, size: int) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.enough = (size, done)
        self.dataReceived(b"")
        return done

    def dataReceived(self, data: bytes) -> None:
        self.read += data
        if self.enough and len(self.read) >= self.enough[0]:
            (_, done), self.enough = self.enough, None
            done.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class ConnectionTests(TestCase):
    """A real connection, whose far end is a plain socket."""

    timeout = 30

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        self.protocol = Ended()
        connected: Deferred[None] = Deferred()
        factory = Factory.forProtocol(lambda: self.protocol)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.protocol.connectionMade = lambda: connected.callback(None)  # type: ignore[method-assign]
        self.far = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.far.settimeout(10)
        self.addCleanup(self.far.close)

        def ready(_: None) -> None:
            transport: Any = self.protocol.transport
            self.transport = transport
            self.write = partial(write_now, transport)

        return connected.addCallback(ready)

    def tearDown(self) -> Deferred[None]:  # type: ignore[override]
        self.transport.abortConnection()
        return self.protocol.ended

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.far.recv(65536)
            if not piece:
                break
            data += piece
        return data

    def test_this_twisted_has_what_is_needed(self) -> None:
        self.assertTrue(is_direct(self.transport))

    def test_the_bytes_are_there_before_the_reactor_turns(self) -> None:
        self.write(b"hello\n")
        self.assertEqual(self.far.recv(100), b"hello\n")
        self.assertEqual(self.transport.dataBuffer, b"")
        self.assertEqual(self.transport._tempDataLen, 0)

    async def test_what_the_kernel_does_not_take_follows_in_order(self) -> None:
        # More than any send buffer and receive buffer together.
        block = bytes(range(256)) * 65536
        blocks = [block, b"second", block, b"third"]
        for each in blocks:
            self.write(each)
        self.assertTrue(self.transport._tempDataLen or self.transport.dataBuffer)
        expected = b"".join(blocks)
        received = await in_turns(self.far, len(expected))
        self.assertEqual(received, expected)

    async def test_what_was_written_the_usual_way_is_not_overtaken(self) -> None:
        self.transport.write(b"one ")
        self.write(b"two ")
        self.transport.write(b"three ")
        self.write(b"four")
        received = await in_turns(self.far, 18)
        self.assertEqual(received, b"one two three four")

    async def test_an_error_is_for_the_reactor_to_find(self) -> None:
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.far.close()
        for _ in range(3):
            self.write(b"nobody reads this\n")
        self.assertFalse(self.protocol.ended.called)
        ended: Deferred[None] = Deferred()
        self.protocol.ended.chainDeferred(ended)
        await ended
        self.protocol.ended = Deferred()
        self.protocol.ended.callback(None)
        self.write(b"nor this")

    def test_the_kernel_takes_no_more_than_it_can_send_soon(self) -> None:
        if not hasattr(socket, "TCP_NOTSENT_LOWAT"):
            raise SkipTest("this system has no TCP_NOTSENT_LOWAT")
        keep_back(self.transport)
        kept = self.transport.getHandle().getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT
        )
        self.assertEqual(kept, UNSENT)
        # The far end reads nothing: its buffer fills, and so does that.
        for _ in range(1000):
            self.write(bytes(65536))
            if self.transport._tempDataLen or self.transport.dataBuffer:
                break
        else:
            self.fail("the kernel has taken 64 MB")

    def test_whether_the_far_end_has_hung_up(self) -> None:
        self.assertFalse(has_hung_up(self.transport))
        self.far.sendall(b"x")
        self.far.shutdown(socket.SHUT_WR)
        self.assertFalse(has_hung_up(self.transport))
        self.transport.getHandle().recv(1)
        self.assertTrue(has_hung_up(self.transport))

    def test_a_reset_is_that_too(self) -> None:
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.far.close()
        self.assertTrue(has_hung_up(self.transport))

    async def test_nothing_is_written_behind_a_close(self) -> None:
        self.write(b"last")
        self.transport.loseConnection()
        self.write(b"too late")
        received = await in_turns(self.far, 100)
        self.assertEqual(received[:4], b"last")


async def in_turns(far: socket.socket, size: int) -> bytes:
    """Read at the far end, letting the reactor go round meanwhile."""
    far.setblocking(False)
    data = bytearray()
    while len(data) < size:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
        try:
            piece = far.recv(65536)
        except BlockingIOError:
            continue
        if not piece:
            break
        data += piece
    return bytes(data)
