"""What the floors ask of each other.

The lower floor declares what it calls upward, so every part can be driven by a
test, a simulator or another transport without the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from meshproto.events import (
    CloseReason,
    Delivery,
    Direction,
    Event,
    KnownAddress,
    Peer,
)
from meshproto.wire import MAX_HANDSHAKE_LINE, MAX_LINE, Hello, Message, Refusal

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import (
        IListeningPort,
        IProtocolFactory,
        IReactorTime,
        IStreamClientEndpoint,
    )

    from meshproto._turns import Turns
    from meshproto.address import Target
    from meshproto.registry import Verdict
    from meshproto.wire import Mesh1


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """What one link may take; see `NodeConfig` for each.

    ``drain_timeout`` bounds the wait for the last lines of a losing link,
    ``flush_timeout`` the wait for what is queued on a link that closes.
    """

    max_line: int = MAX_LINE
    max_handshake_line: int = MAX_HANDSHAKE_LINE
    handshake_timeout: float = 10.0
    drain_timeout: float = 3.0
    flush_timeout: float = 2.0
    send_queue: int = 64 * 1024 * 1024
    stall_timeout: float = 10.0


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
    codec: Mesh1 = Attribute("What turns messages into this link's lines.")
    seat: Any = Attribute("What the registry notes here; None before it does.")

    def send(*messages: Message) -> None:
        """Queue messages behind what is queued already; they leave together.

        Raises `LocalProtocolError`, and queues none, when this wire cannot carry
        one of them.
        """

    def send_lines(lines: bytes, *, at_once: bool) -> None:
        """Queue lines that this link's codec has encoded.

        ``at_once``: spend what it takes to have them leave now, not when the
        reactor comes round to it.
        """

    def send_urgent(message: Message) -> None:
        """Queue a control message before the chat that waits."""

    def queued() -> int:
        """Bytes that wait here because the far end does not take them."""

    def hold(reason: object) -> None:
        """Neither read on nor send until every reason is released again."""

    def pause(reason: object) -> None:
        """Stop reading until every reason is resumed again."""

    def resume(reason: object) -> None:
        """Take back a `pause` or a `hold`."""

    reading: bool = Attribute("Whether what the far end sends is read at present.")

    def confirm() -> None:
        """The far end, which has our ID, is another node for sure."""

    def drain() -> None:
        """Send no more, read to the far end's last line, then close."""

    def close(reason: CloseReason) -> None:
        """End the link; what is queued is sent first."""

    def abort(reason: CloseReason) -> None:
        """End the link at once; what is queued is lost."""


class IPeerHost(Interface):
    """What a connection tells its owner, and what it needs of it."""

    clock: IReactorTime = Attribute("What links take their time from.")
    limits: LinkLimits = Attribute("What one link may take.")
    turns: Turns = Attribute("How long links keep the reactor.")

    def is_own_host(host: str) -> bool:
        """Whether the host is this machine, in whatever spelling."""

    def codec() -> Mesh1:
        """The codec of links that have negotiated no other."""

    def own_hello() -> Hello:
        """Who this node is."""

    def link_opened(link: IPeerLink) -> None:
        """A connection came about; `link_gone` follows some day."""

    def hello_received(link: IPeerLink, hello: Hello, confirmed: bool) -> Verdict:
        """The far end said who it is: may it come in?

        ``confirmed``: it has our own ID, but is another node for sure.
        """

    def link_ready(link: IPeerLink) -> None:
        """The handshake is complete on this side and its answer is on its way.

        Also called for a link whose far end has our ID, while it is not yet
        clear whether that is another node.
        """

    def message_received(link: IPeerLink, message: Message) -> Message | None:
        """A message arrived after the handshake.

        Returns what of it was not taken, because the link was paused meanwhile:
        that is offered again when it is resumed.
        """

    def turned_away(link: IPeerLink, refusal: Refusal) -> None:
        """The far end refused our dial; `link_ended` follows."""

    def far_end_finished(link: IPeerLink) -> bool:
        """The far end of a complete link has sent its last line.

        Returns whether the link is to be kept for what there is to send: the
        owner then ends it later.
        """

    def link_ended(link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """No more will come of this link.  Called exactly once for each.

        ``detail`` says more about the reason, or is empty.
        """

    def link_gone(link: IPeerLink) -> None:
        """The connection is closed.  Called exactly once for each."""

    def link_eased(link: IPeerLink) -> None:
        """The queue of a link has shrunk."""


class INetwork(Interface):
    """The way to other machines: TCP, or a simulation of it."""

    def listen(factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Accept connections where the node's settings say.

        Fails with `twisted.internet.error.CannotListenError`.
        """

    def endpoint(target: Target) -> IStreamClientEndpoint:
        """The way to one address.

        Raises `AddressError` for an endpoint string that cannot be used.
        """

    def is_own_host(host: str) -> bool:
        """Whether the host is this machine, in whatever spelling."""


class IMesh(Interface):
    """A running node, as applications see it; `MeshNode` provides it."""

    id: str = Attribute("The node's ID.")
    name: str = Attribute("The node's name.")
    port: int = Attribute("The port that is bound; 0 when there is none.")
    clock: IReactorTime = Attribute("What the node takes its time from.")

    def subscribe(
        subscriber: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call ``subscriber`` for every event, or for those of ``kinds``.

        Returns the way to end that.
        """

    def events(*kinds: type[Event]) -> AsyncIterator[Any]:
        """Every event from now on, or those of ``kinds``, for ``async for``."""

    def start() -> Deferred[None]:
        """Listen, then join the mesh."""

    def stop() -> Deferred[None]:
        """Leave the mesh."""

    def connect(target: str | Target) -> Deferred[Peer]:
        """Dial a peer."""

    def broadcast(text: str) -> Delivery:
        """Say something to every peer."""

    def send(peer: Peer | str, text: str) -> Delivery:
        """Say something to one peer."""

    def drain() -> Deferred[None]:
        """Wait until no peer's queue is above its soft mark."""

    def discover() -> int:
        """Ask every peer for addresses; returns how many were asked."""

    def pause_reading() -> None:
        """Read from no peer until `resume_reading`."""

    def resume_reading() -> None:
        """Read on after `pause_reading`."""

    def peers() -> tuple[Peer, ...]:
        """The connected peers."""

    def known_addresses() -> tuple[KnownAddress, ...]:
        """The address book."""
