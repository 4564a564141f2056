"""Links and sessions, as policy sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from zope.interface import Attribute, Interface

from meshproto.events import CloseReason, Direction
from meshproto.rules.effects import Effect
from meshproto.wire.address import Target
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import Message


class IPeerLink(Interface):
    """One connection, as policy sees it: values, not bytes.

    Every method may be called at any time, and does nothing once the link has
    ended.
    """

    direction: Direction = Attribute("Who dialled.")
    remote_host: str = Attribute("IP address of the far end, as seen here.")
    local_host: str = Attribute("IP address of this end, as the far end sees it.")
    same_machine: bool = Attribute("Whether both ends are on this machine.")
    target: Target | None = Attribute("What was dialled; None on incoming links.")
    opened_at: float = Attribute("Clock seconds when the dial or accept began.")
    last_heard: float = Attribute("Clock seconds when anything last arrived.")
    moved_at: float = Attribute("Clock seconds when the far end last took any.")
    turn_ends: float = Attribute("Clock seconds when others have to be read.")
    waits: bool = Attribute("Whether messages that arrived wait for its turn.")
    gone: bool = Attribute("Whether only its last words are left of it.")
    wire: IWire = Attribute("What both ends speak after the greeting.")
    seat: Any = Attribute("What the registry notes here; None before it does.")

    def send(*messages: Message) -> None:
        """Append messages to the queue; they are sent together.

        Raises `LocalProtocolError`, and queues none, when this wire cannot carry
        one of them.
        """

    def send_lines(lines: bytes, *, at_once: bool) -> None:
        """Queue lines encoded by this link's wire.

        ``at_once`` writes to the socket now, at the cost of a system call, instead
        of in the reactor's next turn.
        """

    def send_pieces(pieces: Iterable[bytes]) -> None:
        """Queue the pieces of one message, encoded by this link's wire.

        Lines queued later may be sent between them.
        """

    def send_urgent(message: Message) -> None:
        """Queue a control message ahead of waiting chat."""

    def queued() -> int:
        """Bytes queued here because the far end is not reading them."""

    def pause(reason: object) -> None:
        """Stop reading until every reason has been resumed."""

    def resume(reason: object) -> None:
        """Withdraw the `pause` with this reason."""

    reading: bool = Attribute("Whether what the far end sends is read at present.")

    def close(reason: CloseReason) -> None:
        """End the link after sending what is queued."""

    def abort(reason: CloseReason) -> None:
        """End the link at once and drop what is queued."""


class ISession(Protocol):
    """The state machine of one link: inputs in, effects out."""

    def receive(self, message: Message) -> tuple[Effect, ...]:
        """The effects of a message."""

    def judge(self, verdict: Any) -> tuple[Effect, ...]:
        """The effects of the verdict that an `Ask` requested."""

    def end(self) -> None:
        """The link has ended."""
