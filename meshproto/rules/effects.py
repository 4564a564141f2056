"""What a session tells its link to do: small values, carried out in order."""

from __future__ import annotations

from dataclasses import dataclass

from meshproto.events import CloseReason
from meshproto.wire.messages import Message, Refusal, RefusalReason


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on the wire."""

    message: Message


@dataclass(frozen=True, slots=True)
class Greet:
    """Send our greeting, as the listener; ``mesh2`` offers ``mesh/2`` in it."""

    mesh2: bool = False


@dataclass(frozen=True, slots=True)
class Introduce:
    """Send HELLO with this ``ended``."""

    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the owner for its verdict on a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Establish:
    """Tell the owner that the handshake is complete."""


@dataclass(frozen=True, slots=True)
class Notify:
    """Hand the message to the owner."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Tell the owner that the far end refused."""

    reason: Refusal | RefusalReason


@dataclass(frozen=True, slots=True)
class End:
    """Close the link once everything queued has been sent."""

    reason: CloseReason


Effect = Send | Greet | Introduce | Ask | Establish | Notify | TurnedAway | End
