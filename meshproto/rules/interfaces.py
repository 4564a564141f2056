"""A connection, as the rules see it: values, not bytes."""

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
    """One connection, as policy sees it: it speaks values, not bytes.

    Every method may be called at any time; on a link that has ended they do
    nothing.
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
        """Queue messages behind what is queued already; they leave together.

        Raises `LocalProtocolError`, and queues none, when this wire cannot carry
        one of them.
        """

    def send_lines(lines: bytes, *, at_once: bool) -> None:
        """Queue lines that this link's wire has encoded.

        ``at_once``: spend what it takes to have them leave now, not when the
        reactor comes round to it.
        """

    def send_pieces(pieces: Iterable[bytes]) -> None:
        """Queue the pieces of one message, which this link's wire has encoded.

        What is queued later may pass between them.
        """

    def send_urgent(message: Message) -> None:
        """Queue a control message before the chat that waits."""

    def queued() -> int:
        """Bytes that wait here because the far end does not take them."""

    def pause(reason: object) -> None:
        """Stop reading until every reason is resumed again."""

    def resume(reason: object) -> None:
        """Take back a `pause`."""

    reading: bool = Attribute("Whether what the far end sends is read at present.")

    def close(reason: CloseReason) -> None:
        """End the link; what is queued is sent first."""

    def abort(reason: CloseReason) -> None:
        """End the link at once; what is queued is lost."""


class ISession(Protocol):
    """The life of one link, as a table: what to do about what happens."""

    def receive(self, message: Message) -> tuple[Effect, ...]:
        """What to do about a message."""

    def judge(self, verdict: Any) -> tuple[Effect, ...]:
        """What to do about the verdict that an `Ask` has asked for."""

    def end(self) -> None:
        """The link has ended."""
