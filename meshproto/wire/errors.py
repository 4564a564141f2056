"""The exceptions of the wire; `meshproto.errors` has the whole tree."""

from __future__ import annotations


class MeshError(Exception):
    """The root of every exception that meshproto raises on purpose."""


class LocalProtocolError(MeshError, ValueError):
    """The caller's message cannot be sent as it is; nothing was sent."""


class RemoteProtocolError(MeshError):
    """A peer sent what the wire does not allow.

    The text is the reason and is safe to log: it quotes at most 40 of the peer's
    bytes, and escapes everything but printable ASCII.
    """


class LineTooLong(RemoteProtocolError):
    """A peer sent a line longer than the limit."""


class AddressError(MeshError, ValueError):
    """The text is not ``host:port``; the message names the text and the fault."""


class NoForm(LocalProtocolError):
    """The wire cannot carry this kind of message, whatever its content."""
