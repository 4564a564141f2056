"""The server and client factories of a node.

They are public for programs that bring their own endpoints: take the host from
`MeshNode.host`, listen with a `MeshServerFactory` and dial with a
`MeshClientFactory`, and the connections become links of that node.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, ServerFactory

from meshproto.link.interfaces import IPeerHost
from meshproto.link.protocol import MeshProtocol
from meshproto.wire.address import Target


class MeshServerFactory(ServerFactory):
    """Builds the links of those who dial us."""

    noisy = False

    def __init__(self, host: IPeerHost) -> None:
        self._host = host

    def buildProtocol(self, addr: IAddress | None) -> MeshProtocol:
        """The link of an accepted connection."""
        return MeshProtocol(self._host)


class MeshClientFactory(ClientFactory):
    """Builds the link of one dial of ``target`` that began at ``opened_at``."""

    noisy = False

    def __init__(
        self, host: IPeerHost, target: Target, *, opened_at: float | None = None
    ) -> None:
        self._host = host
        self._target = target
        self._opened_at = opened_at

    def buildProtocol(self, addr: IAddress | None) -> MeshProtocol:
        """The link of the dialled connection."""
        return MeshProtocol(self._host, target=self._target, opened_at=self._opened_at)
