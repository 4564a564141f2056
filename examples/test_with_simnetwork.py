"""An application of the mesh, and its tests: no sockets, no waiting.

python -m pytest examples/test_with_simnetwork.py
python -m twisted.trial examples/test_with_simnetwork.py
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto import ChatReceived, Event, IMesh, MeshNode, PeerConnected
from meshproto.testing import SimNetwork


class Greeter:
    """The application: welcomes every peer, and counts the messages it gets."""

    def __init__(self, node: IMesh) -> None:
        self.heard = 0
        self._node = node
        node.subscribe(self._event_emitted)

    def _event_emitted(self, event: Event) -> None:
        match event:
            case PeerConnected(peer=peer):
                self._node.send(peer, f"welcome, {peer.name}")
            case ChatReceived():
                self.heard += 1


class GreeterTests(SynchronousTestCase):
    """Three nodes on three hosts; bob and carol know alice, who greets."""

    def setUp(self) -> None:
        self.net = SimNetwork(seed=1)
        self.alice = self.net.node("10.0.0.1", name="alice")
        self.bob = self.join("10.0.0.2", "bob")
        self.carol = self.join("10.0.0.3", "carol")
        self.greeter = Greeter(self.alice)
        self.everybody = (self.alice, self.bob, self.carol)
        self.net.start(*self.everybody)
        self.net.run_until(lambda: self.net.is_full_mesh(*self.everybody))

    def join(self, host: str, name: str) -> MeshNode:
        return self.net.node(host, name=name, bootstrap=("10.0.0.1:8001",))

    def test_newcomers_are_welcomed(self) -> None:
        """Each peer gets a welcome of its own."""
        self.net.run(1)
        self.assertEqual(self.net.chats(self.bob), ["welcome, bob"])
        self.assertEqual(self.net.chats(self.carol), ["welcome, carol"])

    def test_counts(self) -> None:
        """Messages before a network cut and after it are counted."""
        self.bob.broadcast("one")
        self.net.run(1)
        self.net.partition([self.alice], [self.bob, self.carol])
        self.net.run(120)
        self.assertEqual(self.alice.peers(), ())
        self.net.heal_all()
        self.net.run_until(lambda: self.net.is_full_mesh(*self.everybody))
        self.bob.broadcast("two")
        self.net.run(1)
        self.assertEqual(self.greeter.heard, 2)
