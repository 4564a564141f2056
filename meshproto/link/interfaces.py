"""What a connection is given, and what it asks of its owner.

The owner stands on a higher floor, so what is called there is declared here: a test,
a simulator or another transport can drive a link without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from meshproto.events import CloseReason
from meshproto.rules.interfaces import IPeerLink, ISession
from meshproto.rules.turns import Turns
from meshproto.wire.greeting import MAX_HANDSHAKE_LINE
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import Greeting, Hello, Message, Refusal, RefusalReason


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """What one link may take; see `NodeConfig` for each.

    ``flush_timeout`` bounds the wait for what is queued on a link that closes.
    """

    max_handshake_line: int = MAX_HANDSHAKE_LINE
    handshake_timeout: float = 10.0
    flush_timeout: float = 2.0
    send_queue: int = 64 * 1024 * 1024
    stall_timeout: float = 10.0


class IPeerHost(Interface):
    """What a connection tells its owner, and what it needs of it."""

    clock: IReactorTime = Attribute("What links take their time from.")
    limits: LinkLimits = Attribute("What one link may take.")
    turns: Turns = Attribute("How long links keep the reactor.")

    def is_own_host(host: str) -> bool:
        """Whether the host is this machine, in whatever spelling."""

    def wire() -> IWire:
        """The wire of links that have agreed on no other."""

    def own_greeting() -> Greeting:
        """Who this node is."""

    def link_opened(link: IPeerLink) -> None:
        """A connection came about; `link_gone` follows some day."""

    def own_hello(link: IPeerLink, ended: int | None) -> Hello:
        """Who this node is in full, on a link that speaks ``mesh/2``."""

    def agree(
        link: IPeerLink, said: Greeting | Refusal
    ) -> tuple[IWire, ISession] | None:
        """What the link speaks after the far end's first line; None for nothing."""

    def judge(link: IPeerLink, said: Message) -> object:
        """A verdict, for the link's session, on what the far end said."""

    def link_ready(link: IPeerLink) -> None:
        """The handshake is complete on this side and its answer is on its way."""

    def message_received(link: IPeerLink, message: Message) -> Message | None:
        """A message arrived after the handshake.

        Returns what of it was not taken, because the link was paused meanwhile:
        that is offered again when it is resumed.
        """

    def turned_away(link: IPeerLink, reason: Refusal | RefusalReason) -> None:
        """The far end refused our dial; `link_ended` follows."""

    def link_ended(link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """No more will come of this link.  Called exactly once for each.

        ``detail`` says more about the reason, or is empty.
        """

    def link_gone(link: IPeerLink) -> None:
        """The connection is closed.  Called exactly once for each."""

    def link_eased(link: IPeerLink) -> None:
        """The queue of a link has shrunk."""
