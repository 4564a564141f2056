"""Far ends that have our own ID: another node, or ourselves by a detour."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from meshproto.events import CloseReason, Direction
from meshproto.mesh.dials import Dials
from meshproto.mesh.discovery import Discovery
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Registry, host_key
from meshproto.wire.messages import Message, PeerList, RequestPeers


class Twins:
    """The links of which it is not yet clear whether they lead back to us."""

    def __init__(
        self,
        registry: Registry,
        discovery: Discovery,
        dials: Dials,
        clock: IReactorTime,
    ) -> None:
        self._registry = registry
        self._discovery = discovery
        self._dials = dials
        self._clock = clock
        self._links: dict[IPeerLink, None] = {}
        self._met_ourselves_at = float("-inf")

    def add(self, link: IPeerLink) -> None:
        """The far end of the link has our ID."""
        self._links[link] = None

    def discard(self, link: IPeerLink) -> bool:
        """It is clear, or the link has ended; returns whether it was not clear."""
        if link not in self._links:
            return False
        del self._links[link]
        return True

    def hosts(self) -> list[str | None]:
        """Where they are."""
        return [host_key(link) for link in self._links]

    def ready(self, link: IPeerLink) -> None:
        """Tell the far end addresses, and ask for its own."""
        if link.direction is Direction.OUTGOING:
            self._discovery.introduce(link)

    def said(self, link: IPeerLink, message: Message) -> None:
        """A message arrived that may tell who it is."""
        match message:
            case RequestPeers():
                self._discovery.requested_by_nobody(link)
            case PeerList() if self._discovery.is_ourselves(message):
                self.found_ourselves(link)
                link.close(CloseReason.OURSELVES)
            case PeerList():
                link.confirm()
                entry = self._registry.of_link(link)
                if entry is not None:
                    self._discovery.heard(entry, link, message)

    def found_ourselves(self, link: IPeerLink) -> None:
        """The link leads back to this node."""
        if link.target is not None:
            self._dials.found_ourselves(link)
        else:
            self._met_ourselves_at = self._clock.seconds()

    def was_ourselves(self, link: IPeerLink) -> bool:
        """Whether a link of ours that ended in doubt was one that we met as a guest.

        Our own dial came back by a way that keeps our address.
        """
        return link.opened_at <= self._met_ourselves_at
