"""TCP, through Twisted's endpoints: the `INetwork` of real nodes."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ClientEndpoint,
    TCP6ServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from meshproto.errors import AddressError
from meshproto.interfaces import INetwork
from meshproto.wire.address import PeerAddress, Target, ip_of, is_loopback

_BACKLOG = 1024
#: How long an answer of `is_own_host` is cached, in seconds, and how many are.
_OWN_HOST_TTL = 5.0
_OWN_HOSTS_KEPT = 1024


@implementer(INetwork)
class TcpNetwork:
    """Listens on a port, an interface or an endpoint string; dials any target.

    ``timeout`` is the limit of one connection attempt, in seconds.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        port: int,
        interface: str | None,
        listen: str | None,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._interface = interface
        self._listen = listen
        self._timeout = timeout
        self._own_hosts: dict[str, tuple[float, bool]] = {}

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen where the settings say.

        Fires with the port when it is bound; fails with Twisted's
        ``CannotListenError``.
        """
        return self._server_endpoint().listen(factory)

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        """The endpoint that dials one target.

        An IP address is dialled directly.  A name goes through the resolver, and
        IPv6 and IPv4 are raced (RFC 8305).  Host names never become part of an
        endpoint string.  Raises `AddressError` for an unusable endpoint string.
        """
        if not isinstance(target, PeerAddress):
            try:
                endpoint: IStreamClientEndpoint = clientFromString(
                    self._reactor, target.description
                )
                return endpoint
            except Exception as error:
                # An endpoint plugin may raise anything; without pyOpenSSL the TLS
                # ones raise NameError.
                why = "its library is missing" if type(error) is NameError else error
                raise AddressError(
                    f"{target.description!r} is no usable endpoint: {why}"
                ) from None
        ip = ip_of(target.host)
        if ip is None:
            return HostnameEndpoint(
                self._reactor, target.host, target.port, timeout=self._timeout
            )
        kind = TCP4ClientEndpoint if ip.version == 4 else TCP6ClientEndpoint
        return kind(self._reactor, target.host, target.port, timeout=self._timeout)

    def is_own_host(self, host: str) -> bool:
        """Whether the host is this machine.

        An address is ours if a socket can be bound to it: that needs no list of
        interfaces, and stays right when addresses change.  Answers are cached for a
        few seconds, because every address that a peer tells is looked up here.
        """
        if is_loopback(host):
            return True
        now = self._reactor.seconds()
        known = self._own_hosts.get(host)
        if known is not None and now - known[0] < _OWN_HOST_TTL:
            return known[1]
        if len(self._own_hosts) >= _OWN_HOSTS_KEPT:
            self._own_hosts.clear()
        own = can_bind(host)
        self._own_hosts[host] = now, own
        return own

    def _server_endpoint(self) -> IStreamServerEndpoint:
        if self._listen is not None:
            endpoint: IStreamServerEndpoint = serverFromString(
                self._reactor, self._listen
            )
            return endpoint
        interface = self._interface
        if interface is None:
            interface = "::" if dual_stack() else "0.0.0.0"
        ip = ip_of(interface)
        kind = TCP6ServerEndpoint if ip and ip.version == 6 else TCP4ServerEndpoint
        return kind(self._reactor, self._port, _BACKLOG, interface)


def can_bind(host: str) -> bool:
    """Whether the host is the IP address of an interface of this machine."""
    ip = ip_of(host)
    if ip is None or ip.is_multicast or str(ip) == "255.255.255.255":
        return False
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def dual_stack() -> bool:
    """Whether one IPv6 socket also accepts IPv4 connections on this machine."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            if probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                return False
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
