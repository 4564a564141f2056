"""Where a node listens: ``host:port``, IPv6 in brackets.

Every address is valid: an invalid one cannot be made.  Hosts are kept in one
spelling (IP literals in canonical form, IPv4 inside IPv6 as plain IPv4, names in
lower case), so two spellings of one host compare equal.  This module does not
decide whether two *different* hosts are one machine: only the machine itself can
tell (`INetwork.is_own_host`).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from meshproto.wire.errors import AddressError

MAX_PORT = 65535
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*\.?\Z")
_MAX_NAME = 253
_ENDPOINT = re.compile(r"[a-z][a-z0-9]*:[^:/=]*[:/=]")
_HEX_AND_COLONS = re.compile(r"[0-9a-f:.]*\Z")
# Resolvers read a name whose last label is a number as IPv4 (0x7f000001, 127.0x1).
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+\Z")

#: Loopback names in the hosts files that operating systems ship.
_LOOPBACK_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)

# In a mesh of n nodes each address arrives about n times, and parsing it is a large
# part of the cost of forming the mesh.  Bounded, since peers choose the texts.
remembered = lru_cache(maxsize=4096)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@remembered
def ip_of(host: str) -> IPAddress | None:
    """The host as an IP address, or None when it is a name.

    An IPv4-mapped IPv6 address (``::ffff:10.0.0.1``) comes back as IPv4.
    """
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


@remembered
def normal_host(host: str) -> str:
    """The normal spelling of a host, which is an IP literal or a DNS name.

    Raises `AddressError` for anything else.
    """
    if len(host) > _MAX_NAME:
        # Before `ip_of` would cache the text: peers choose the texts.
        raise AddressError(f"{host[:40]!r}... is too long for a host name")
    ip = ip_of(host)
    if ip is not None:
        zone = ip.scope_id if isinstance(ip, ipaddress.IPv6Address) else None
        if zone is not None and not _ZONE.match(zone):
            raise AddressError(f"{host!r} has no valid zone after its %")
        return str(ip)
    name = host.lower()
    last = name.rstrip(".").rpartition(".")[2]
    if not _NAME.match(name) or _NUMBER.match(last):
        raise AddressError(f"{host!r} is not a host name or an IP address")
    return name.rstrip(".")


@remembered
def is_loopback(host: str) -> bool:
    """Whether the host means "this machine" on every machine.

    True for ``localhost`` and its subdomains (RFC 6761, section 6.3), its aliases
    in hosts files, all of 127.0.0.0/8, and ::1.
    """
    ip = ip_of(host)
    if ip is not None:
        return ip.is_loopback
    return host in _LOOPBACK_NAMES or host.endswith(".localhost")


class _HostAndPort(NamedTuple):
    host: str
    port: int


class PeerAddress(_HostAndPort):
    """A ``host`` and a TCP ``port`` at which a node may be reached.

    A tuple, so that it is fast to look up.  Raises `AddressError` when the host or
    the port is invalid, or the host is not in its normal spelling.

    >>> str(PeerAddress.parse("LocalHost:8001"))
    'localhost:8001'
    >>> str(PeerAddress.parse("[2001:DB8::1]:8001"))
    '[2001:db8::1]:8001'
    """

    __slots__ = ()

    def __new__(cls, host: str, port: int) -> PeerAddress:
        if host != normal_host(host):
            raise AddressError(f"{host!r} is not in its normal spelling")
        if not 1 <= port <= MAX_PORT:
            raise AddressError(f"port {port} is not between 1 and {MAX_PORT}")
        return super().__new__(cls, host, port)

    @classmethod
    def of(cls, host: str, port: int) -> PeerAddress:
        """The address of a host in any spelling.

        Raises `AddressError` when the host or the port is invalid.
        """
        return _made(host, port)

    @classmethod
    def parse(cls, text: str) -> PeerAddress:
        """Read ``host:port`` or ``[ipv6]:port``.

        Raises `AddressError` with one line that quotes the text and says what is
        wrong with it.
        """
        return _parsed(text)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@remembered
def _made(host: str, port: int) -> PeerAddress:
    return PeerAddress(normal_host(host), port)


@remembered
def _parsed(text: str) -> PeerAddress:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise AddressError(f"{text!r} has no port: write host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not isinstance(_literal(host), ipaddress.IPv6Address):
            raise AddressError(f"{text!r} has no IPv6 address in its brackets")
    elif ":" in host:
        raise AddressError(f"{text!r} needs brackets: write [ipv6]:port")
    if not host:
        raise AddressError(f"{text!r} has no host: write host:port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise AddressError(f"{text!r} has no valid port number")
    try:
        return _made(host, int(port))
    except AddressError as error:
        raise AddressError(f"{text!r}: {error}") from None


@dataclass(frozen=True, slots=True, order=True)
class EndpointTarget:
    """A Twisted client endpoint string, such as ``tls:mesh.example.org:8001``.

    It can be dialled but is never sent to a peer, since it has a meaning only on
    the machine where it was written.
    """

    description: str

    def __str__(self) -> str:
        return self.description


Target = PeerAddress | EndpointTarget


def parse_target(text: str) -> Target:
    """Read what a user may dial: ``host:port``, or a Twisted endpoint string.

    An endpoint string begins with an endpoint type and a colon (``unix:``,
    ``tls:``), followed by more than a port.  Raises `AddressError` for a text that
    is neither.
    """
    if _ENDPOINT.match(text) and not _HEX_AND_COLONS.match(text):
        return EndpointTarget(text)
    return PeerAddress.parse(text)


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
