"""What a node provides to applications, and what it can be given in place of TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

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

    def broadcast(
        message: str | bytes, headers: Mapping[str, str] | None = None
    ) -> Delivery:
        """Say something to every peer."""

    def send(
        peer: Peer | str,
        message: str | bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Delivery:
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
