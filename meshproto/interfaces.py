"""What a node provides to applications, and what can replace TCP beneath it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from meshproto.config import NodeConfig
from meshproto.events import Delivery, Event, KnownAddress, Peer
from meshproto.wire.address import Target

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import (
        IListeningPort,
        IProtocolFactory,
        IReactorTime,
        IStreamClientEndpoint,
    )


class INetwork(Interface):
    """How a node reaches other machines: TCP, or a simulation of it."""

    def listen(factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Accept connections where the node's settings say to.

        Fires with the port once it listens; fails with
        `twisted.internet.error.CannotListenError`.
        """

    def endpoint(target: Target) -> IStreamClientEndpoint:
        """The endpoint for dialling one address.

        Raises `AddressError` for an unusable endpoint string.
        """

    def is_own_host(host: str) -> bool:
        """Whether the host is this machine, however it is spelled."""


class IMesh(Interface):
    """A node as applications see it; `MeshNode` provides it and says more."""

    config: NodeConfig = Attribute("The node's settings.")
    id: str = Attribute("The node's ID.")
    name: str = Attribute("The node's name.")
    port: int = Attribute("The port that is bound; 0 when there is none.")
    clock: IReactorTime = Attribute("What the node takes its time from.")

    def subscribe(
        subscriber: Callable[[Any], object], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call ``subscriber`` with every event, or only with those of ``kinds``.

        Returns a function that ends the subscription.
        """

    def events(*kinds: type[Event]) -> AsyncIterator[Any]:
        """Events from now on, all or only those of ``kinds``, for ``async for``."""

    def start() -> Deferred[None]:
        """Listen, then join the mesh; fires once the node listens."""

    def stop() -> Deferred[None]:
        """Leave the mesh; fires once every link is closed."""

    def connect(target: str | Target) -> Deferred[Peer]:
        """Dial a peer; fires with it after the handshake."""

    def broadcast(
        message: str | bytes, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        """Send a message to every peer."""

    def send(
        peer: Peer | str,
        message: str | bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Delivery:
        """Send a message to one peer."""

    def drain() -> Deferred[None]:
        """Wait until no peer's queue is above the soft limit."""

    def discover() -> int:
        """Ask every peer for addresses; returns how many were asked."""

    def pause_reading() -> None:
        """Stop reading from all peers until `resume_reading`."""

    def resume_reading() -> None:
        """Undo `pause_reading`."""

    def peers() -> tuple[Peer, ...]:
        """The connected peers."""

    def known_addresses() -> tuple[KnownAddress, ...]:
        """The address book."""
