"""Composes a node of its parts, and gives each the parts it needs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from meshproto.config import NodeConfig
from meshproto.interfaces import INetwork
from meshproto.link.factory import MeshClientFactory
from meshproto.mesh.admission import Admission
from meshproto.mesh.announcer import Announcer
from meshproto.mesh.chat import Chat
from meshproto.mesh.data import Payloads
from meshproto.mesh.dials import Dials
from meshproto.mesh.discovery import Discovery
from meshproto.mesh.drain import Drains
from meshproto.mesh.fanout import Fanout
from meshproto.mesh.feature import Features
from meshproto.mesh.host import Host
from meshproto.mesh.introductions import Introductions
from meshproto.mesh.links import OpenLinks
from meshproto.mesh.maintenance import Maintenance
from meshproto.mesh.peers import Peers
from meshproto.mesh.throttle import Throttle
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import Registry
from meshproto.wire.address import Target
from meshproto.wire.interfaces import IWire
from meshproto.wire.mesh1 import Mesh1
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import Incarnation


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a node that `MeshNode` itself uses."""

    announcer: Announcer
    registry: Registry
    book: AddressBook
    links: OpenLinks
    admission: Admission
    fanout: Fanout
    drains: Drains
    discovery: Discovery
    dials: Dials
    features: Features
    host: Host


def compose(
    config: NodeConfig, clock: IReactorTime, network: INetwork, rng: random.Random
) -> Parts:
    """Make the parts of one node, and give each the parts it needs."""

    def connect(target: Target) -> Deferred[IPeerLink]:
        factory = MeshClientFactory(host, target, opened_at=clock.seconds())
        connecting = network.endpoint(target).connect(factory)
        return cast("Deferred[IPeerLink]", connecting)

    announcer = Announcer(clock)
    emit = announcer.emit
    addresses = config.max_addresses_per_list
    # A larger one would cut every peer that it is sent to.
    max_payload = min(config.max_payload, config.send_queue_hard)
    wires: dict[str, IWire] = {
        "mesh/1": Mesh1(max_line=config.max_line, max_addresses=addresses),
        "mesh/2": Mesh2(max_addresses=addresses, max_payload=max_payload),
    }
    registry = Registry("", config.max_peers)
    book = AddressBook(
        network.is_own_host,
        rng,
        limit=config.max_addresses,
        limit_per_peer=config.max_addresses_per_peer,
        max_failures=config.max_dial_failures,
    )
    links = OpenLinks(registry)
    fanout = Fanout(registry, clock, chat=wires["mesh/1"], payloads=wires["mesh/2"])
    drains = Drains(registry, clock, config.send_queue_soft)
    throttle = Throttle(config, clock, emit)
    maintenance = Maintenance(
        registry,
        clock,
        emit,
        interval=config.maintenance_interval,
        peer_timeout=config.peer_timeout,
        probe_timeout=config.probe_timeout,
    )
    discovery = Discovery(
        registry,
        book,
        throttle,
        clock,
        emit,
        interval=config.discovery_interval,
        advertised=config.advertised(),
        dial=lambda: dials.pump(),
    )
    dials = Dials(
        config,
        registry,
        book,
        clock,
        emit,
        connect=connect,
        locate=discovery.locate,
    )
    admission = Admission(
        config,
        registry,
        throttle,
        dials,
        emit,
        probe=maintenance.probe,
    )
    features = Features()
    for feature in (
        Chat(announcer, throttle),
        Payloads(emit, throttle),
        discovery,
        maintenance,
        throttle,
    ):
        features.add(feature)
    host = Host(
        config,
        clock,
        network,
        wires,
        registry=registry,
        links=links,
        admission=admission,
        introductions=Introductions(
            config,
            registry,
            dials,
            clock,
            emit,
            identity=f"{rng.getrandbits(128):032x}",
            incarnation=Incarnation(1, f"{rng.getrandbits(128):032x}"),
            max_payload=max_payload,
            own_address=discovery.own_address,
            probe=maintenance.probe,
        ),
        dials=dials,
        peers=Peers(
            registry,
            book,
            dials,
            discovery,
            features,
            clock,
            emit,
            probe=maintenance.probe,
        ),
        features=features,
        fanout=fanout,
        drains=drains,
    )
    return Parts(
        announcer=announcer,
        registry=registry,
        book=book,
        links=links,
        admission=admission,
        fanout=fanout,
        drains=drains,
        discovery=discovery,
        dials=dials,
        features=features,
        host=host,
    )
