"""Bytes to the kernel without a turn of the reactor between.

`transport.write` of Twisted keeps what it is given until the reactor finds the
socket writable: two changes of what is watched and one more turn, for every
peer.  Where nothing waits in the transport the socket can as well be given the
bytes at once; what it does not take goes the usual way.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer
from twisted.internet.tcp import Connection

#: Attributes of Twisted's that say whether bytes wait; not all are public.
NEEDED = ("dataBuffer", "_tempDataLen", "TLS", "connected", "disconnecting")


def direct_writer(transport: IConsumer) -> Callable[[bytes], object]:
    """The fastest way to write to a transport: its own ``write``, or a better one.

    It keeps the order of what is written by either, and leaves an error of the
    connection to be found by the reactor: nobody is called back from here.
    """
    plain: Callable[[bytes], object] = transport.write
    if not isinstance(transport, Connection):
        return plain
    if not all(hasattr(transport, name) for name in NEEDED):
        return plain
    connection: Connection = transport

    def write(data: bytes) -> None:
        if (
            connection.dataBuffer
            or connection._tempDataLen
            or connection.TLS
            or not connection.connected
            or connection.disconnecting
        ):
            plain(data)
            return
        written = connection.writeSomeData(data)
        if not isinstance(written, int):
            plain(data)
        elif written < len(data):
            plain(data[written:])

    return write
