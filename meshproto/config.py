"""Every setting of a node, with its bounds.

Defaults match the original program wherever it has the setting.
``docs/limits.md`` explains each limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from meshproto.errors import AddressError, ConfigError
from meshproto.wire.address import (
    MAX_PORT,
    PeerAddress,
    Target,
    normal_host,
    parse_target,
)
from meshproto.wire.greeting import MAX_GREETING, MAX_HANDSHAKE_LINE
from meshproto.wire.mesh1 import MAX_LINE
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_NUMBER,
    MAX_PAYLOAD,
    NO_HEADERS,
    Headers,
    check_id,
    check_name,
)

KiB = 1024
MiB = 1024 * KiB

DEFAULT_PORT = 8001
#: The protocols that a node can speak, newest first.
PROTOCOLS = ("mesh/2", "mesh/1")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The settings of one node: times in seconds, sizes in bytes.

    Raises `ConfigError`, which names the setting, for an invalid value.

    >>> NodeConfig(port=8001, name="alice").max_peers
    20
    >>> NodeConfig(max_peers=0)
    Traceback (most recent call last):
        ...
    meshproto.errors.ConfigError: max_peers: 0 is less than 1
    """

    #: TCP port to listen on; 0 lets the system pick a free one.
    port: int = DEFAULT_PORT
    #: Display name; None means the ID.
    name: str | None = None
    #: ID that peers see; None means ``peer-<port>``, with the port that peers dial.
    id: str | None = None
    #: IP address to listen on; None means all of the machine's addresses.
    interface: str | None = None
    #: Twisted server endpoint string; replaces ``port`` and ``interface``.
    listen: str | None = None
    #: Addresses to join the mesh through: ``host:port`` or Twisted endpoint strings.
    bootstrap: tuple[str, ...] = ()
    #: ``host`` or ``host:port`` at which peers reach this node, if the node
    #: cannot see that for itself (port forwards, containers).
    advertise: str | None = None

    #: Protocols to speak, of ``mesh/2`` and ``mesh/1``, in any order.  Each link uses
    #: the newest that both ends speak.
    protocols: tuple[str, ...] = PROTOCOLS
    #: Name of the mesh that the node belongs to, under the rules for ``name``, or
    #: empty.  Over ``mesh/2``, nodes of another mesh are refused.
    mesh: str = ""
    #: What the application tells peers about this node; they see it as
    #: ``Peer.headers`` (``mesh/2`` only).  The mapping is copied.
    headers: Mapping[str, str] = NO_HEADERS

    #: Number of seats for peers.
    max_peers: int = 20
    #: Time between rounds of asking every peer for addresses.
    discovery_interval: float = 30.0
    #: Time between rounds of PING.
    maintenance_interval: float = 15.0
    #: Time allowed for a dial, and for a handshake.
    connection_timeout: float = 10.0
    #: A peer silent for this long is dropped.
    peer_timeout: float = 60.0
    #: Time to answer the PING that probes a link when its peer connects again.
    probe_timeout: float = 3.0
    #: Time that `MeshNode.stop` allows for sending what is queued.
    stop_timeout: float = 2.0

    #: Longest line, and longest handshake line, not counting the line end.
    max_line: int = MAX_LINE
    max_handshake_line: int = MAX_HANDSHAKE_LINE
    #: Largest payload to send or accept, headers included (``mesh/2``); capped at
    #: ``send_queue_hard``.
    max_payload: int = MAX_PAYLOAD
    #: Incoming links with an unfinished handshake: in total, and per remote
    #: address (loopback exempt).
    max_pending: int = 64
    max_pending_per_host: int = 8
    #: Incoming connections from one remote address (IPv6: from one /64): per second,
    #: and in a burst.  Loopback is exempt.
    link_rate: float = 1.0
    link_burst: int = 64
    #: ``PEERS`` and ``REQUEST_PEERS`` lines handled from one link: per second, and
    #: in a burst; the rest are ignored.
    gossip_rate: float = 4.0
    gossip_burst: int = 256
    #: Chat messages read from one link: per second, and in a burst.  A rate of 0
    #: means no limit.
    chat_rate: float = 0.0
    chat_burst: int = 100
    #: Dials under way at the same time.
    max_dials: int = 16
    #: Addresses read from one PEERS line, kept on one peer's word, and kept in
    #: total.
    max_addresses_per_list: int = MAX_ADDRESSES
    max_addresses_per_peer: int = 64
    max_addresses: int = 1000
    #: An address that was never reached is forgotten after this many failed dials.
    max_dial_failures: int = 10
    #: Bytes queued for one peer.  Above the soft limit `MeshNode.drain` waits; above
    #: the hard limit the peer is cut at once.
    send_queue_soft: int = 8 * MiB
    send_queue_hard: int = 64 * MiB
    #: A peer that accepts nothing for this long while its transport is full (more
    #: than 64 KiB waiting) is cut.
    stall_timeout: float = 10.0
    #: When this many events wait in one `MeshNode.events` iterator, the node stops
    #: reading from its peers until the application catches up.
    max_queued_events: int = 1000

    def __post_init__(self) -> None:
        self._check_range("port", 0, MAX_PORT)
        for setting in (
            "max_peers",
            "max_pending",
            "max_pending_per_host",
            "link_burst",
            "gossip_burst",
            "chat_burst",
            "max_dials",
            "max_addresses_per_list",
            "max_addresses_per_peer",
            "max_addresses",
            "max_dial_failures",
            "send_queue_soft",
            "max_queued_events",
        ):
            self._check_range(setting, 1, None)
        self._check_range("max_line", MAX_GREETING, None)
        self._check_range("max_handshake_line", MAX_GREETING, self.max_line)
        self._check_range("send_queue_hard", self.send_queue_soft, None)
        self._check_range("max_payload", 1, MAX_NUMBER)
        for setting in (
            "discovery_interval",
            "maintenance_interval",
            "connection_timeout",
            "peer_timeout",
            "probe_timeout",
            "stop_timeout",
            "stall_timeout",
        ):
            self._check_number(setting, "a positive time")
        for setting in ("link_rate", "gossip_rate"):
            self._check_number(setting, "a positive rate")
        if self.chat_rate != 0:
            self._check_number("chat_rate", "a positive rate, or 0")
        if self.peer_timeout <= self.maintenance_interval:
            raise ConfigError(
                "peer_timeout",
                f"{self.peer_timeout:g} must be more than "
                f"maintenance_interval ({self.maintenance_interval:g}), "
                "or peers are dropped before they are asked",
            )
        self._check_texts()
        self._check_protocols()
        self._check_mesh()
        self._check_headers()

    def bootstrap_targets(self) -> tuple[Target, ...]:
        """The bootstrap addresses, parsed, in the order given, without repeats."""
        return tuple(dict.fromkeys(parse_target(text) for text in self.bootstrap))

    def advertised(self) -> tuple[str, int | None] | None:
        """The advertised host and port, or None; the port is None if not given."""
        if self.advertise is None:
            return None
        try:
            return normal_host(self.advertise), None
        except AddressError:
            address = PeerAddress.parse(self.advertise)
            return address.host, address.port

    def _check_range(self, setting: str, least: int, most: int | None) -> None:
        value = getattr(self, setting)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(setting, f"{value!r} is not a whole number")
        if value < least:
            raise ConfigError(setting, f"{value} is less than {least}")
        if most is not None and value > most:
            raise ConfigError(setting, f"{value} is more than {most}")

    def _check_number(self, setting: str, what: str) -> None:
        value = getattr(self, setting)
        if not isinstance(value, int | float) or isinstance(value, bool):
            unit = "seconds" if what.endswith("time") else "times per second"
            raise ConfigError(setting, f"{value!r} is not a number of {unit}")
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(setting, f"{value:g} is not {what}")

    def _check_protocols(self) -> None:
        protocols = self.protocols
        known = " or ".join(PROTOCOLS)
        if not isinstance(protocols, tuple) or not protocols:
            raise ConfigError("protocols", f"{protocols!r} is not a tuple of {known}")
        for protocol in protocols:
            if protocol not in PROTOCOLS:
                raise ConfigError("protocols", f"{protocol!r} is not {known}")
            if protocols.count(protocol) > 1:
                raise ConfigError("protocols", f"{protocol} comes twice")

    def _check_mesh(self) -> None:
        mesh = self.mesh
        if not isinstance(mesh, str):
            raise ConfigError("mesh", f"{mesh!r} is not a text")
        if mesh:
            try:
                check_name(mesh)
            except ValueError as error:
                raise ConfigError("mesh", f"{mesh!r}: {error}") from None
            if "mesh/2" not in self.protocols:
                raise ConfigError("mesh", "a mesh has a name on mesh/2 only")

    def _check_headers(self) -> None:
        headers = self.headers
        if not isinstance(headers, Mapping):
            raise ConfigError("headers", f"{headers!r} is not a mapping of texts")
        try:
            object.__setattr__(self, "headers", Headers(headers))
        except (TypeError, ValueError) as error:
            raise ConfigError("headers", str(error)) from None

    def _check_texts(self) -> None:
        for setting, check in (("id", check_id), ("name", check_name)):
            value = getattr(self, setting)
            if value is not None:
                try:
                    check(value)
                except ValueError as error:
                    raise ConfigError(setting, f"{value!r}: {error}") from None
        if isinstance(self.bootstrap, str):
            raise ConfigError("bootstrap", "is a tuple of addresses, not one text")
        for setting, read in (
            ("bootstrap", self.bootstrap_targets),
            ("advertise", self.advertised),
        ):
            try:
                read()
            except AddressError as error:
                raise ConfigError(setting, str(error)) from None
        if self.interface is not None:
            try:
                normal_host(self.interface)
            except AddressError as error:
                raise ConfigError("interface", str(error)) from None
        if self.listen is not None and self.interface is not None:
            raise ConfigError("listen", "says where to listen: interface cannot too")
