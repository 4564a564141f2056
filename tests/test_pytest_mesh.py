"""Nodes as an application has them: started, over TCP on the loopback interface.

Only pytest runs these.  A test gets the fixture ``mesh``, asks it for nodes, and is
a coroutine; the fixture stops every node, and nothing of them may be left.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from lab.attackers import KiB
from lab.daemons import HAS_PROC_TCP, NO_PROC_TCP, free_ports, open_connections
from meshproto import (
    AddressError,
    ChatReceived,
    ConnectionFailed,
    DialFailed,
    Event,
    HandshakeFailed,
    HandshakeRejected,
    HandshakeTimeout,
    MeshFull,
    MeshNode,
    NodeConfig,
    NotRunning,
    PeerConnected,
    PeerDisconnected,
    SelfConnection,
)

reactor: Any = _reactor

#: Seconds after which a test has failed, whatever it waits for.
PATIENCE = 30.0

Test = Callable[..., Coroutine[Any, Any, None]]


def coroutine(test: Test) -> Test:
    """A test that is a coroutine, and that ends."""

    @functools.wraps(test)
    async def bounded(*fixtures: Any, **named: Any) -> None:
        running = Deferred.fromCoroutine(test(*fixtures, **named))
        await running.addTimeout(PATIENCE, reactor)

    marked: Test = pytest_twisted.ensureDeferred(bounded)
    return marked


class Mesh:
    """Starts nodes on this machine, and stops them."""

    def __init__(self) -> None:
        self.nodes: list[MeshNode] = []

    async def node(
        self, name: str, *seeds: MeshNode, port: int = 0, **settings: Any
    ) -> MeshNode:
        """A node that listens, and that dials the seeds by itself."""
        config = NodeConfig(
            name=name,
            port=port,
            interface="127.0.0.1",
            bootstrap=tuple(map(address, seeds)),
            **settings,
        )
        node = MeshNode(config, reactor=reactor)
        self.nodes.append(node)
        await node.start()
        return node

    async def leave(self, node: MeshNode) -> None:
        """Stop one node."""
        self.nodes.remove(node)
        await node.stop()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Let the reactor go round until the condition holds."""
        while not is_so():
            await deferLater(reactor, 0.002)

    def is_full(self) -> bool:
        """Whether every node has all others for peers, and each pair one link."""
        size = len(self.nodes)
        return links(*self.nodes) == size * (size - 1) // 2 and all(
            len(node.peers()) == size - 1 for node in self.nodes
        )

    async def stop(self) -> None:
        await gatherResults([node.stop() for node in self.nodes])


def address(node: MeshNode) -> str:
    return f"127.0.0.1:{node.port}"


def links(*nodes: MeshNode) -> int:
    """How many TCP connections these nodes have accepted, as the system tells."""
    return open_connections([node.port for node in nodes])


@pytest_twisted.async_yield_fixture  # type: ignore[untyped-decorator]
async def mesh() -> AsyncIterator[Mesh]:
    """A mesh whose nodes stop with the test, to the last timer."""
    mesh = Mesh()
    yield mesh
    await mesh.stop()
    left = [
        call
        for call in reactor.getDelayedCalls()
        # By one of its own it ends this fixture.
        if call.func.__module__ != pytest_twisted.__name__
    ]
    assert left == []


@pytest.fixture
def far_end() -> Iterator[Callable[[bytes], str]]:
    """Makes listeners that are no nodes: each says some bytes, and is silent then."""
    ports: list[Any] = []
    guests: list[Any] = []

    class Talker(Protocol):
        greeting = b""

        def connectionMade(self) -> None:
            assert self.transport is not None
            guests.append(self.transport)
            self.transport.write(self.greeting)

    def listen(greeting: bytes) -> str:
        talker = type("Talker", (Talker,), {"greeting": greeting})
        factory: Any = Factory.forProtocol(talker)
        factory.noisy = False
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return f"127.0.0.1:{ports[-1].getHost().port}"

    yield listen
    for each in ports:
        each.stopListening()
    for guest in guests:
        guest.abortConnection()


@coroutine
async def test_two_nodes_meet_and_talk(mesh: Mesh) -> None:
    alice, bob = await mesh.node("alice"), await mesh.node("bob")
    to_alice, to_bob = alice.events(ChatReceived), bob.events(ChatReceived)

    peer = await bob.connect(address(alice))
    assert peer.name == "alice"
    # The peer that is there already, not a second link to it.
    assert (await bob.connect(address(alice))).id == peer.id
    assert len(bob.peers()) == 1
    assert [each.name for each in bob.broadcast("Hello network!").peers] == ["alice"]
    chat = await anext(to_alice)
    assert (chat.peer.name, chat.text) == ("bob", "Hello network!")

    assert alice.send(chat.peer, "PING")
    chat = await anext(to_bob)
    assert (chat.peer.name, chat.text) == ("alice", "PING")


@pytest.mark.skipif(not HAS_PROC_TCP, reason=NO_PROC_TCP)
@coroutine
async def test_a_chain_becomes_a_full_mesh(mesh: Mesh) -> None:
    nodes = [await mesh.node("node-0")]
    for number in range(1, 5):
        nodes.append(await mesh.node(f"node-{number}", nodes[-1]))
    await mesh.until(mesh.is_full)
    assert links(*nodes) == 10
    names = {node.name for node in nodes}
    for node in nodes:
        assert {peer.name for peer in node.peers()} == names - {node.name}
        assert {peer.name for peer in node.broadcast("hi").peers} == names - {node.name}


@pytest.mark.skipif(not HAS_PROC_TCP, reason=NO_PROC_TCP)
@coroutine
async def test_a_node_leaves_and_comes_back(mesh: Mesh) -> None:
    """It comes back with nothing: the others have kept its address."""
    alice = await mesh.node("alice")
    bob = await mesh.node("bob", alice)
    carol = await mesh.node("carol", alice)
    await mesh.until(mesh.is_full)
    port, news = bob.port, alice.events(PeerConnected, PeerDisconnected)

    await mesh.leave(bob)
    left = await anext(news)
    assert isinstance(left, PeerDisconnected)
    assert left.peer.name == "bob"
    await mesh.until(mesh.is_full)
    assert [peer.name for peer in carol.peers()] == ["alice"]

    await mesh.node("bob", port=port)
    back = await anext(news)
    assert isinstance(back, PeerConnected)
    assert back.peer.name == "bob"
    await mesh.until(mesh.is_full)


@coroutine
async def test_who_drains_waits_for_a_slow_reader(mesh: Mesh) -> None:
    """Until it reads, and nothing of what was said meanwhile is lost."""
    alice = await mesh.node("alice", send_queue_soft=64 * KiB)
    bob = await mesh.node("bob")
    heard: list[str] = []
    bob.subscribe(lambda chat: heard.append(chat.text), ChatReceived)
    await bob.connect(address(alice))
    await mesh.until(alice.peers)

    bob.pause_reading()
    said: list[str] = []
    while (drained := alice.drain()).called:
        said.append(f"{len(said)} ".ljust(16_000, "x"))
        alice.broadcast(said[-1])
        assert len(said) < 10_000, "nothing holds it up"
        await deferLater(reactor, 0)
    assert len(heard) < len(said)

    bob.resume_reading()
    await drained
    await mesh.until(lambda: len(heard) >= len(said))
    assert heard == said


@coroutine
async def test_events_come_in_order_and_end_with_the_node(mesh: Mesh) -> None:
    alice, bob = await mesh.node("alice"), await mesh.node("bob")
    told = alice.events(PeerConnected, ChatReceived, PeerDisconnected)
    gone: list[Event] = []
    alice.subscribe(gone.append, PeerDisconnected)
    await bob.connect(address(alice))
    for text in ("one", "two", "three"):
        bob.broadcast(text)
    await mesh.leave(bob)
    await mesh.until(lambda: bool(gone))
    await mesh.leave(alice)

    seen = []
    async for event in told:
        seen.append(event.text if isinstance(event, ChatReceived) else type(event))
    assert seen == [PeerConnected, "one", "two", "three", PeerDisconnected]


@coroutine
async def test_nobody_is_there_to_connect_to(mesh: Mesh) -> None:
    alice = await mesh.node("alice")
    [port] = free_ports(1)
    failures = alice.events(ConnectionFailed)
    with pytest.raises(DialFailed, match="connection refused"):
        await alice.connect(f"127.0.0.1:{port}")
    assert (await anext(failures)).reason == "connection refused"
    with pytest.raises(AddressError):
        await alice.connect("no address")


@coroutine
async def test_a_node_does_not_connect_to_itself(mesh: Mesh) -> None:
    alice = await mesh.node("alice")
    with pytest.raises(SelfConnection):
        await alice.connect(address(alice))


@coroutine
async def test_who_answers_is_no_node(
    mesh: Mesh, far_end: Callable[[bytes], str]
) -> None:
    alice = await mesh.node("alice", connection_timeout=0.2)
    with pytest.raises(HandshakeFailed):
        await alice.connect(far_end(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(HandshakeTimeout):
        await alice.connect(far_end(b""))
    assert alice.peers() == ()


@coroutine
async def test_all_seats_are_taken(mesh: Mesh) -> None:
    """Here or there: each has its error."""
    alice = await mesh.node("alice", max_peers=1)
    bob = await mesh.node("bob", max_peers=2)
    carol = await mesh.node("carol")
    await bob.connect(address(alice))
    await mesh.until(alice.peers)
    with pytest.raises(HandshakeRejected, match="no seat left"):
        await carol.connect(address(alice))
    with pytest.raises(MeshFull):
        await alice.connect(address(carol))


@coroutine
async def test_a_node_that_does_not_run_connects_to_nobody(mesh: Mesh) -> None:
    alice, bob = await mesh.node("alice"), await mesh.node("bob")
    await mesh.leave(alice)
    with pytest.raises(NotRunning):
        await alice.connect(address(bob))
