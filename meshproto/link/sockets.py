"""What can be had of a real socket beyond Twisted's interfaces.

Bytes to the kernel without a turn of the reactor between: `transport.write`
keeps what it is given until the reactor finds the socket writable: two changes
of what is watched and one more turn, for every peer.  Where nothing waits in the
transport the socket can as well be given the bytes at once; what it does not
take goes the usual way.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.tcp import Connection

from meshproto.errors import AddressError
from meshproto.wire.address import normal_host

#: Where a connection without IP addresses (a UNIX socket) ends: here.
NO_HOST = "127.0.0.1"

#: Bytes that the kernel may hold back of what it could not send yet.  Above
#: that they wait here, where a PONG can overtake them.
UNSENT = 128 * 1024

#: Attributes of Twisted's that say whether bytes wait; not all are public.
NEEDED = ("socket", "dataBuffer", "_tempDataLen", "TLS", "connected", "disconnecting")


class Transport(ITCPTransport, IConsumer, IPushProducer):
    """What every stream transport of Twisted is."""


def host_of(address: object) -> str:
    """The IP address of one end of a connection."""
    host = getattr(address, "host", None)
    try:
        return normal_host(host) if isinstance(host, str) else NO_HOST
    except AddressError:
        return NO_HOST


def make_prompt(transport: Transport) -> None:
    """Have TCP send at once, keep little back, and notice a dead far end."""
    # The transport of a UNIX socket says that it is one of TCP.
    is_tcp = isinstance(transport.getPeer(), IPv4Address | IPv6Address)
    if is_tcp and ITCPTransport.providedBy(transport):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        keep_back(transport)


def is_direct(transport: object) -> bool:
    """Whether `write_now` can do better than the transport's own ``write``."""
    return isinstance(transport, Connection) and all(
        hasattr(transport, name) for name in NEEDED
    )


def write_now(connection: Any, data: bytes) -> None:
    """Write to a transport of which `is_direct` is true.

    Keeps the order with what is written by ``write``, and leaves an error of
    the connection to be found by the reactor: nobody is called back from here.
    """
    if (
        connection.dataBuffer
        or connection._tempDataLen
        or connection.TLS
        or not connection.connected
        or connection.disconnecting
    ):
        connection.write(data)
        return
    try:
        written = connection.socket.send(data)
    except OSError:
        written = 0
    if written < len(data):
        connection.write(data[written:])


def keep_back(connection: Any) -> None:
    """Have the kernel take no more than it can send soon, where it can do that.

    Of use where the network is slow: the send buffer of a socket grows to
    megabytes, which takes a narrow line many seconds.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and is_direct(connection):
        try:
            connection.getHandle().setsockopt(socket.IPPROTO_TCP, option, UNSENT)
        except OSError:
            # A socket of another family, or of a kernel that is too old.
            pass


def has_hung_up(connection: Any) -> bool:
    """Whether the far end has gone and left nothing else to be read.

    Only true when that is known for sure, before Twisted comes round to it.
    """
    if not is_direct(connection) or connection.TLS or not connection.connected:
        return False
    try:
        peeked = connection.getHandle().recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not peeked
