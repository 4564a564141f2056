"""What a connection needs from its owner.

The owner is in a higher layer, so its interface is declared here: a test, a
simulator or another transport can then drive a link without the rest.
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
    """The limits of one link; see `NodeConfig` for each.

    ``flush_timeout`` is how long a closing link may take to send its queue, in
    seconds.
    """

    max_handshake_line: int = MAX_HANDSHAKE_LINE
    handshake_timeout: float = 10.0
    flush_timeout: float = 2.0
    send_queue: int = 64 * 1024 * 1024
    stall_timeout: float = 10.0


class IPeerHost(Interface):
    """The owner of a connection: answers its questions and hears its events."""

    clock: IReactorTime = Attribute("What links take their time from.")
    limits: LinkLimits = Attribute("What one link may take.")
    turns: Turns = Attribute("How long links keep the reactor.")

    def is_own_host(host: str) -> bool:
        """Whether the host, in any spelling, is this machine."""

    def wire() -> IWire:
        """The wire of a link that has not agreed on one yet."""

    def own_greeting() -> Greeting:
        """This node's greeting."""

    def link_opened(link: IPeerLink) -> None:
        """A connection was made; `link_gone` follows eventually."""

    def own_hello(link: IPeerLink, ended: int | None) -> Hello:
        """This node's HELLO, for a link that speaks ``mesh/2``."""

    def agree(
        link: IPeerLink, said: Greeting | Refusal
    ) -> tuple[IWire, ISession] | None:
        """The wire and session that follow the far end's first line.

        None if the two nodes have no wire in common.
        """

    def judge(link: IPeerLink, said: Message) -> object:
        """The verdict on a message of the far end, for the link's session."""

    def link_ready(link: IPeerLink) -> None:
        """The handshake is complete on this side, and our answer has been queued."""

    def message_received(link: IPeerLink, message: Message) -> Message | None:
        """A message arrived after the handshake.

        Returns the part that was not accepted because the link was paused
        meanwhile, or None.  The link offers that part again when it is resumed.
        """

    def turned_away(link: IPeerLink, reason: Refusal | RefusalReason) -> None:
        """The far end refused our dial; `link_ended` follows."""

    def link_ended(link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """The link has ended, and no message will follow.  Called exactly once.

        ``detail`` says more about the reason, or is empty.
        """

    def link_gone(link: IPeerLink) -> None:
        """The connection is closed.  Called exactly once."""

    def link_eased(link: IPeerLink) -> None:
        """The link's send queue has shrunk."""
