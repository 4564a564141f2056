"""Every setting of a node, with its bounds.

The defaults are the ones of the original program where it has them; the
limits are explained one by one in ``docs/limits.md``.
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
#: What a node can speak, the best first.
PROTOCOLS = ("mesh/2", "mesh/1")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The settings of one node; all times are seconds, all sizes bytes.

    Raises `ConfigError`, which names the setting, for a value out of range.

    >>> NodeConfig(port=8001, name="alice").max_peers
    20
    >>> NodeConfig(max_peers=0)
    Traceback (most recent call last):
        ...
    meshproto.errors.ConfigError: max_peers: 0 is less than 1
    """

    #: TCP port to listen on; 0 lets the system choose a free one.
    port: int = DEFAULT_PORT
    #: Name that people see; None means the same as the ID.
    name: str | None = None
    #: ID that peers see; None means ``peer-<port>``, the port that peers dial.
    id: str | None = None
    #: IP address to listen on; None means every address of the machine.
    interface: str | None = None
    #: Twisted server endpoint string, instead of ``port`` and ``interface``.
    listen: str | None = None
    #: Addresses to join the mesh by: ``host:port`` or Twisted endpoint strings.
    bootstrap: tuple[str, ...] = ()
    #: ``host`` or ``host:port`` under which peers reach this node, where that
    #: differs from what it sees itself (port forwards, containers).
    advertise: str | None = None

    #: What the node speaks, of ``mesh/2`` and ``mesh/1``: with each peer the newest
    #: that both speak, whatever their order here.
    protocols: tuple[str, ...] = PROTOCOLS
    #: Name of the mesh that the node belongs to, spelled like a name, or empty.  On
    #: ``mesh/2`` nodes of another mesh are refused.
    mesh: str = ""
    #: What the application tells its peers of this node: they have it as
    #: `Peer.headers` (``mesh/2``).  A copy is kept.
    headers: Mapping[str, str] = NO_HEADERS

    #: Seats for peers.
    max_peers: int = 20
    #: Time between two rounds of asking every peer for addresses.
    discovery_interval: float = 30.0
    #: Time between two rounds of PING.
    maintenance_interval: float = 15.0
    #: Time that a dial and a handshake may take.
    connection_timeout: float = 10.0
    #: Silence after which a peer is dropped.
    peer_timeout: float = 60.0
    #: Silence after a PING that drops a link whose peer has come anew.
    probe_timeout: float = 3.0
    #: Time that `MeshNode.stop` gives what is queued to be sent.
    stop_timeout: float = 2.0

    #: Longest line, and longest handshake line, without the line end.
    max_line: int = MAX_LINE
    max_handshake_line: int = MAX_HANDSHAKE_LINE
    #: Largest payload that is sent or taken, its headers included (``mesh/2``);
    #: never more than ``send_queue_hard``.
    max_payload: int = MAX_PAYLOAD
    #: Incoming links that have not finished the handshake: in all, and from
    #: one remote address (loopback exempt).
    max_pending: int = 64
    max_pending_per_host: int = 8
    #: Connections from one remote address (IPv6: from one network of /64) per
    #: second, and at once; loopback exempt.
    link_rate: float = 1.0
    link_burst: int = 64
    #: ``PEERS`` and ``REQUEST_PEERS`` lines of one peer that are heeded per
    #: second, and at once.
    gossip_rate: float = 4.0
    gossip_burst: int = 256
    #: Chat messages of one peer that are read per second, and at once; a rate
    #: of 0 is no limit.
    chat_rate: float = 0.0
    chat_burst: int = 100
    #: Dials under way at one time.
    max_dials: int = 16
    #: Addresses taken from one PEERS line, kept on the word of one peer, and
    #: kept in all.
    max_addresses_per_list: int = MAX_ADDRESSES
    max_addresses_per_peer: int = 64
    max_addresses: int = 1000
    #: Failed dials after which an address that was never reached is forgotten.
    max_dial_failures: int = 10
    #: Bytes waiting for one peer: `MeshNode.drain` waits while there are more
    #: than the first; more than the second cut the peer at once.
    send_queue_soft: int = 8 * MiB
    send_queue_hard: int = 64 * MiB
    #: Time for which a peer may take nothing while its transport is full (more
    #: than 64 KiB wait); then it is cut.
    stall_timeout: float = 10.0
    #: Events waiting in one `MeshNode.events` iterator at which the node stops
    #: reading from its peers until the application has caught up.
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
        """The bootstrap addresses, read; each once, in the order given."""
        return tuple(dict.fromkeys(parse_target(text) for text in self.bootstrap))

    def advertised(self) -> tuple[str, int | None] | None:
        """The advertised host and port; the port is None where none was given."""
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
