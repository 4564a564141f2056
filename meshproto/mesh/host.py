"""Passes what happens on a node's links to the parts that handle it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from meshproto.config import NodeConfig
from meshproto.events import CloseReason, Direction
from meshproto.interfaces import INetwork
from meshproto.link.interfaces import IPeerHost, LinkLimits
from meshproto.mesh.admission import Admission
from meshproto.mesh.dials import Dials
from meshproto.mesh.drain import Drains
from meshproto.mesh.fanout import Fanout
from meshproto.mesh.feature import Features
from meshproto.mesh.introductions import Introductions
from meshproto.mesh.links import OpenLinks
from meshproto.mesh.peers import Peers
from meshproto.rules.handshake import Handshake
from meshproto.rules.interfaces import IPeerLink, ISession
from meshproto.rules.registry import Registry, Stranger
from meshproto.rules.session import Session
from meshproto.rules.turns import Turns
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import Greeting, Hello, Message, Refusal, RefusalReason


def limits_of(config: NodeConfig) -> LinkLimits:
    """The limits that the settings place on each link."""
    return LinkLimits(
        max_handshake_line=config.max_handshake_line,
        handshake_timeout=config.connection_timeout,
        flush_timeout=config.stop_timeout,
        send_queue=config.send_queue_hard,
        stall_timeout=config.stall_timeout,
    )


@implementer(IPeerHost)
class Host:
    """The owner of all links of one node.  It makes no decisions itself."""

    def __init__(
        self,
        config: NodeConfig,
        clock: IReactorTime,
        network: INetwork,
        wires: Mapping[str, IWire],
        *,
        registry: Registry,
        links: OpenLinks,
        admission: Admission,
        introductions: Introductions,
        dials: Dials,
        peers: Peers,
        features: Features,
        fanout: Fanout,
        drains: Drains,
    ) -> None:
        self.clock = clock
        self.limits = limits_of(config)
        self.turns = Turns()
        self._network = network
        self._wires = wires
        self._protocols = config.protocols
        self._registry = registry
        self._links = links
        self._admission = admission
        self._introductions = introductions
        self._dials = dials
        self._peers = peers
        self._features = features
        self._handlers = features.handlers
        self._fanout = fanout
        self._drains = drains
        self._greeting: Greeting | None = None

    def open(self, greeting: Greeting) -> None:
        """Take the greeting; the node's ID and name are known only now."""
        self._greeting = replace(greeting, mesh2="mesh/2" in self._protocols)
        self._registry.own_id = greeting.id

    # IPeerHost

    def is_own_host(self, host: str) -> bool:
        """Whether the host is this machine."""
        return self._network.is_own_host(host)

    def wire(self) -> IWire:
        """The wire that every link begins with: ``mesh/1``."""
        return self._wires["mesh/1"]

    def own_greeting(self) -> Greeting:
        """The greeting of this node."""
        if self._greeting is None:
            raise RuntimeError("no link may open before the node listens")
        return self._greeting

    def link_opened(self, link: IPeerLink) -> None:
        """Take a new connection; cut it when there are too many."""
        self._links.add(link)
        self._dials.opened(link)
        if self._links.are_closing:
            link.close(CloseReason.STOPPED)
        elif link.direction is Direction.INCOMING:
            self._admission.knocked(link)

    def own_hello(self, link: IPeerLink, ended: int | None) -> Hello:
        """The ``mesh/2`` hello of this node."""
        return self._introductions.own_hello(link, self.own_greeting(), ended)

    def agree(
        self, link: IPeerLink, said: Greeting | Refusal
    ) -> tuple[IWire, ISession] | None:
        """The newest protocol that both ends speak; None if there is none."""
        if isinstance(said, Greeting):
            if said.mesh2 and "mesh/2" in self._protocols:
                self._introductions.agreed(link)
                return self._wires["mesh/2"], Handshake(link.direction)
            if "mesh/1" not in self._protocols:
                return None
        return self._wires["mesh/1"], Session(link.direction)

    def judge(self, link: IPeerLink, said: Message) -> object:
        """The verdict on a handshake message from the far end of a link."""
        # A peer that joins by this must not get what was said before.
        self._fanout.flush()
        if isinstance(said, Greeting):
            return self._admission.greeted(link, said)
        return self._introductions.judge(link, said)

    def link_ready(self, link: IPeerLink) -> None:
        """The handshake is done: the far end is a peer."""
        entry = self._registry.of_link(link)
        assert entry is not None, "only a link with a seat gets ready"
        self._admission.is_over(link)
        self._peers.established(entry, link)
        self._links.established(link)

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        """Pass a message to its handler; returns the part not handled."""
        entry = self._registry.of_link(link)
        assert entry is not None, "strangers have nothing to say"
        return self._handlers[type(message)](link, entry, message)

    def turned_away(self, link: IPeerLink, reason: Refusal | RefusalReason) -> None:
        """The far end refused our dial."""
        if isinstance(reason, Refusal):
            self._dials.turned_away(link, reason)
        else:
            self._introductions.turned_away(link, reason)

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """Release what the link held, and report its peer if it has left."""
        self._admission.is_over(link)
        self._introductions.link_ended(link)
        self._features.link_ended(link)
        departure = self._registry.remove(link)
        if not isinstance(departure, Stranger):
            self._peers.departed(departure, link, reason)
        elif link.target is None:
            self._admission.tell_of(link, reason, detail)
        self._dials.link_ended(link, reason, detail)
        self._drains.check()

    def link_gone(self, link: IPeerLink) -> None:
        """A connection is closed."""
        self._links.discard(link)

    def link_eased(self, link: IPeerLink) -> None:
        """The queue of a link has shrunk."""
        self._drains.check()
