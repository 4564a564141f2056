"""What a session answers: small values that the link carries out in their order."""

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
    """Say who we are, for the listener's answer; ``mesh2``: and that we speak that."""

    mesh2: bool = False


@dataclass(frozen=True, slots=True)
class Introduce:
    """Say HELLO, with that ``ended``."""

    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the owner for its verdict on what the far end said."""

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
    """Close the link when what has been sent is on its way."""

    reason: CloseReason


Effect = Send | Greet | Introduce | Ask | Establish | Notify | TurnedAway | End
