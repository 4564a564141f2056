"""Bytes to the kernel without a turn of the reactor between.

`transport.write` of Twisted keeps what it is given until the reactor finds the
socket writable: two changes of what is watched and one more turn, for every
peer.  Where nothing waits in the transport the socket can as well be given the
bytes at once; what it does not take goes the usual way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection

#: Attributes of Twisted's that say whether bytes wait; not all are public.
NEEDED = ("dataBuffer", "_tempDataLen", "TLS", "connected", "disconnecting")


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
    written = connection.writeSomeData(data)
    if not isinstance(written, int):
        connection.write(data)
    elif written < len(data):
        connection.write(data[written:])
