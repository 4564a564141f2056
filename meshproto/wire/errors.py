"""What can be wrong with bytes and texts; `meshproto.errors` has the whole tree."""

from __future__ import annotations


class MeshError(Exception):
    """The root of every exception that meshproto raises on purpose."""


class LocalProtocolError(MeshError, ValueError):
    """The caller's message cannot be sent as it is; nothing was sent."""


class RemoteProtocolError(MeshError):
    """A peer sent what the wire does not allow.

    The text is the reason, fit for a log line: of the peer's bytes it quotes 40
    at most, in ASCII with all else escaped.
    """


class LineTooLong(RemoteProtocolError):
    """A peer sent something without an end within its limit."""


class AddressError(MeshError, ValueError):
    """The text is not ``host:port``; the message names the text and the fault."""


class NoForm(LocalProtocolError):
    """The wire has no form for such a message, whatever is in it."""
