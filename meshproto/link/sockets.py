"""What a real socket can do beyond Twisted's interfaces.

Above all, write at once.  `transport.write` keeps its bytes until the reactor finds
the socket writable, which costs two changes to the watched sockets and one more
turn of the reactor for each peer.  When nothing waits in the transport the bytes can
go straight to the socket; whatever the socket does not accept goes the usual way.
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

#: The host of a connection without IP addresses (a UNIX socket): this machine.
NO_HOST = "127.0.0.1"

#: Most unsent bytes that the kernel may hold.  The rest wait here, where a PONG can
#: overtake them.
UNSENT = 128 * 1024

#: Twisted's attributes that say whether bytes wait; not all are public.
NEEDED = ("socket", "dataBuffer", "_tempDataLen", "TLS", "connected", "disconnecting")


class Transport(ITCPTransport, IConsumer, IPushProducer):
    """What every stream transport of Twisted provides."""


def host_of(address: object) -> str:
    """The IP address of one end of a connection; `NO_HOST` if it has none."""
    host = getattr(address, "host", None)
    try:
        return normal_host(host) if isinstance(host, str) else NO_HOST
    except AddressError:
        return NO_HOST


def make_prompt(transport: Transport) -> None:
    """Make TCP send at once, buffer little, and notice a dead far end."""
    # The transport of a UNIX socket claims to provide `ITCPTransport`.
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
    """Write at once to a transport for which `is_direct` is true.

    Bytes stay in order with those of ``write``.  The reactor finds any error of the
    connection later, so no callback runs from here.
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
    """Limit the unsent bytes in the kernel, on systems that can.

    Otherwise the send buffer of a socket grows to megabytes, and a slow network
    takes many seconds to drain it.
    """
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and is_direct(connection):
        try:
            connection.getHandle().setsockopt(socket.IPPROTO_TCP, option, UNSENT)
        except OSError:
            # Another socket family, or too old a kernel.
            pass


def has_hung_up(connection: Any) -> bool:
    """Whether the far end has closed the connection and nothing is left to read.

    Tells before Twisted does, and is true only when that is certain.
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
