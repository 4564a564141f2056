"""The transcripts of ``docs/protocol.md``, played against real nodes.

A transcript is a ``text`` block after a line ``<!-- transcript: NAME -->``.
Its cast stands in `CAST`.  Each transcript is played once for every member of
the cast that is one of ours: that member is a real `MeshNode` over transports
in memory, and the transcript plays all others.  What the node sends has to be
what stands there, byte for byte and to the last byte.

``>`` is a line from the dialler to the listener, ``<`` one the other way, with
the number of the link before it where there are several.  A line that begins
with ``#`` says what happens beside the wire; every form of it is in `STAGE`, so
no transcript can say what is not played.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from meshproto import (
    ChatReceived,
    ConnectionFailed,
    Event,
    MeshError,
    MeshNode,
    MeshProtocol,
    NodeConfig,
    NodeError,
    PeerAddress,
    PeerConnected,
    PeerDisconnected,
    PeerReaped,
)
from meshproto.interfaces import INetwork
from meshproto.wire.address import Target, is_loopback

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
BLOCK = re.compile(
    r"^<!-- transcript: (?P<name>[a-z-]+) -->\n+```text\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Member:
    """Somebody in a transcript; ``ours`` is played by a real node."""

    host: str
    port: int
    ours: bool = True
    id: str | None = None
    max_peers: int = 20

    @property
    def address(self) -> PeerAddress:
        return PeerAddress.of(self.host, self.port)


CAST = {
    "alice": Member("192.0.2.1", 8001),
    "bob": Member("192.0.2.2", 8002),
    "carol": Member("192.0.2.3", 8003),
    "dora": Member("192.0.2.4", 8001),
    "erin": Member("192.0.2.5", 8005, max_peers=1),
    "gopher": Member("192.0.2.6", 8006, ours=False),
    "stranger": Member("192.0.2.7", 8007, ours=False),
}


class Transport(StringTransport):
    """A TCP connection that keeps what is written and how it was ended."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def loseWriteConnection(self) -> None:
        raise AssertionError("no link is closed by halves")

    def unregisterProducer(self) -> None:
        # As real TCP, which does not mind when there is none.
        self.producer = None


@implementer(IListeningPort)
class Port:
    def __init__(self, number: int) -> None:
        self._number = number

    def startListening(self) -> None:
        pass

    def stopListening(self) -> Deferred[None]:
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "0.0.0.0", self._number)


@implementer(IStreamClientEndpoint)
class Endpoint:
    def __init__(self, network: Network, target: PeerAddress) -> None:
        self._network = network
        self._target = target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected: Deferred[IProtocol] = Deferred()
        self._network.dials[self._target] = (protocolFactory, connected)
        return connected


@implementer(INetwork)
class Network:
    """The network as one member sees it: dials wait until the transcript says."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.dials: dict[PeerAddress, tuple[IProtocolFactory, Deferred[IProtocol]]] = {}
        self.factory: IProtocolFactory | None = None

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        self.factory = factory
        return succeed(Port(self._member.port))

    def endpoint(self, target: Target) -> IStreamClientEndpoint:
        assert isinstance(target, PeerAddress)
        return Endpoint(self, target)

    def is_own_host(self, host: str) -> bool:
        return host == self._member.host or is_loopback(host)

    def accept(self, source: str) -> MeshProtocol:
        """A connection from somewhere."""
        assert self.factory is not None
        link = self.factory.buildProtocol(IPv4Address("TCP", source, 40000))
        assert isinstance(link, MeshProtocol)
        link.makeConnection(_transport(self._member.address, source, 40000))
        return link

    def succeed(self, target: PeerAddress) -> MeshProtocol:
        """The dial of that address gets its connection."""
        factory, connected = self.dials.pop(target)
        link = factory.buildProtocol(IPv4Address("TCP", target.host, target.port))
        assert isinstance(link, MeshProtocol)
        here = PeerAddress.of(self._member.host, 40001)
        link.makeConnection(_transport(here, target.host, target.port))
        connected.callback(link)
        return link


def _transport(here: PeerAddress, far_host: str, far_port: int) -> Transport:
    return Transport(
        IPv4Address("TCP", here.host, here.port),
        IPv4Address("TCP", far_host, far_port),
    )


class End:
    """One end of a link, when it is our node's."""

    def __init__(self, link: MeshProtocol) -> None:
        self.link = link
        self.over = False

    @property
    def transport(self) -> Transport:
        transport = self.link.transport
        assert isinstance(transport, Transport)
        return transport

    def sent(self) -> bytes:
        return bytes(self.transport.value())

    def take(self, line: bytes) -> bool:
        """Whether this line is what was sent next; it then counts as read."""
        sent = self.sent()
        if not sent.startswith(line):
            return False
        self.transport.clear()
        self.transport.io.write(sent[len(line) :])
        return True

    def lose(self, error: Exception) -> None:
        if not self.over:
            self.over = True
            self.link.connectionLost(Failure(error))


@dataclass
class Link:
    """A link of a transcript; an end is None where the transcript plays it."""

    dialler: str
    listener: str
    ends: dict[str, End | None]


class Play:
    """One run of a transcript, with one member as a real node."""

    def __init__(self, test: SynchronousTestCase, tested: str, body: str) -> None:
        member = CAST[tested]
        self.test = test
        self.tested = tested
        self.clock = Clock()
        self.network = Network(member)
        self.node = MeshNode(
            NodeConfig(
                protocols=("mesh/1",),
                port=member.port,
                name=tested,
                id=member.id,
                max_peers=member.max_peers,
            ),
            reactor=self.clock,
            network=self.network,
            rng=random.Random(1),
        )
        self.events: list[Event] = []
        self.node.subscribe(self.events.append)
        self.test.successResultOf(self.node.start())
        self.links: dict[str, Link] = {}
        for number, line in enumerate(body.splitlines(), 1):
            if line.strip():
                self.here = f"line {number} of the transcript: {line}"
                self.play(line)
        self.finish()

    def play(self, line: str) -> None:
        spoken = re.fullmatch(r"(\d?)([<>]) (.*)", line)
        if spoken:
            self.say(spoken[1], spoken[2], _bytes(spoken[3]) + b"\n")
            return
        for form, act in STAGE.items():
            if found := re.fullmatch(form, line):
                act(self, **found.groupdict())
                return
        self.test.fail(f"no such stage direction: {self.here}")

    def say(self, number: str, arrow: str, line: bytes) -> None:
        link = self.links[number or "1"]
        speaker, hearer = (">", "<") if arrow == ">" else ("<", ">")
        speaking, hearing = link.ends[speaker], link.ends[hearer]
        if speaking is not None and not speaking.take(line):
            self.test.fail(f"{self.here}\nbut it sent {speaking.sent()!r}")
        if hearing is not None:
            hearing.link.dataReceived(line)

    def finish(self) -> None:
        """Nothing was sent, dialled or told that does not stand there."""
        for link in self.links.values():
            for end in filter(None, link.ends.values()):
                self.test.assertEqual(end.sent(), b"", f"{self.tested} sent more")
        self.test.assertEqual(list(self.network.dials), [], f"{self.tested} dials more")
        told = [each for each in map(_told, self.events) if each is not None]
        self.test.assertEqual(told, [], f"{self.tested} tells more")

    # Stage directions

    def dials(self, who: str, whom: str, number: str | None) -> None:
        link = Link(who, whom, {">": None, "<": None})
        self.links[number or "1"] = link
        if who == self.tested:
            link.ends[">"] = End(self.dial(CAST[whom].address))
        if whom == self.tested:
            link.ends["<"] = End(self.network.accept(CAST[who].host))

    def dial(self, address: PeerAddress) -> MeshProtocol:
        if address not in self.network.dials:
            self.node.connect(str(address)).addErrback(lambda f: f.trap(MeshError))
        return self.network.succeed(address)

    def passes(self, seconds: str) -> None:
        self.clock.advance(float(seconds))

    def closes(self, who: str, number: str | None, how: str) -> None:
        link = self.links[number or "1"]
        ours = {
            ">": link.dialler == who == self.tested,
            "<": link.listener == who == self.tested,
        }
        for arrow, end in link.ends.items():
            if end is None:
                continue
            if not ours[arrow]:
                self.ended(end, how)
            elif how == "closes":
                self.test.assertTrue(end.transport.disconnecting, self.here)
                self.test.assertFalse(end.transport.disconnected, self.here)
                end.lose(ConnectionDone())
            else:
                self.test.assertTrue(end.transport.disconnected, self.here)
                end.lose(ConnectionAborted())

    def ended(self, end: End, how: str) -> None:
        """The far end did something to the link."""
        if end.over:
            return
        if how == "cuts":
            end.lose(ConnectionAborted())
            return
        end.link.readConnectionLost()
        if end.transport.disconnecting:
            end.lose(ConnectionDone())

    def refuses(self, who: str, address: str) -> None:
        if who == self.tested:
            _, connected = self.network.dials.pop(PeerAddress.parse(address))
            connected.errback(ConnectionRefusedError())

    def stops(self, who: str) -> None:
        if who == self.tested:
            self.node.stop()

    def says(self, who: str, text: str) -> None:
        if who == self.tested:
            self.node.broadcast(ast.literal_eval(text))
            self.clock.advance(0)

    def tells(self, who: str, told: str) -> None:
        if who != self.tested:
            return
        for index, event in enumerate(self.events):
            text = _told(event)
            if text is not None:
                self.test.assertEqual(text, told, self.here)
                del self.events[: index + 1]
                return
        self.test.fail(f"not told: {self.here}")


STAGE: dict[str, Callable[..., None]] = {
    r"# (?P<who>\w+) dials (?P<whom>\w+)(?:: link (?P<number>\d))?": Play.dials,
    r"# (?P<who>\w+) dials (?P<address>[\d.]+:\d+), which refuses": Play.refuses,
    r"# (?P<seconds>[\d.]+) seconds pass": Play.passes,
    r"# (?P<who>\w+) stops": Play.stops,
    r"# (?P<who>\w+) (?P<how>closes|cuts)(?: link (?P<number>\d))?": (Play.closes),
    r"# (?P<who>\w+) broadcasts (?P<text>'.*')": Play.says,
    r"# (?P<who>\w+) tells its application: (?P<told>.*)": Play.tells,
}


def _told(event: Event) -> str | None:
    """How a transcript writes an event; None for one that it leaves out."""
    match event:
        case PeerConnected(peer=peer):
            return f"PeerConnected {peer.name}, {peer.direction.value}"
        case PeerDisconnected(peer=peer, reason=reason):
            return f"PeerDisconnected {peer.name}, {reason.value}"
        case ChatReceived(peer=peer, text=text):
            return f"ChatReceived {text!a} from {peer.name}"
        case PeerReaped(peer=peer):
            return f"PeerReaped {peer.name}"
        case ConnectionFailed(target=target, reason=reason):
            return f"ConnectionFailed {target}: {reason}"
        case NodeError(context=context, error=error):
            return f"NodeError {context}: {error}"
        case _:
            return None


def _bytes(text: str) -> bytes:
    """What a line of a transcript means; escapes are those of Python."""
    value: Any = ast.literal_eval('"' + text.replace('"', r"\"") + '"')
    return str(value).encode("utf-8")


def transcripts() -> dict[str, str]:
    return {
        found["name"]: found["body"]
        for found in BLOCK.finditer(PAGE.read_text("utf-8"))
    }


class TranscriptTests(SynchronousTestCase):
    """Every transcript of the page, from every side that is ours."""

    def test_all_are_there(self) -> None:
        """Every text block of the page is a transcript, and none is missing."""
        page = PAGE.read_text("utf-8")
        self.assertEqual(
            sorted(transcripts()),
            [
                "duplicate",
                "handshake",
                "max-peers",
                "nonsense",
                "original",
                "original-both",
                "original-mute",
                "peer-exchange",
                "ping",
                "same-id",
                "simultaneous",
                "timeout",
                "word-joiner",
            ],
        )
        self.assertEqual(page.count("```text\n"), len(transcripts()))

    def play(self, name: str, *members: str) -> None:
        for member in members:
            Play(self, member, transcripts()[name])

    def test_handshake(self) -> None:
        """Hello, hello, and the first exchange of addresses."""
        self.play("handshake", "alice", "bob")

    def test_duplicate(self) -> None:
        """A second link is refused, and the first one probed."""
        self.play("duplicate", "alice")

    def test_max_peers(self) -> None:
        """No seat is left."""
        self.play("max-peers", "erin", "alice", "bob")

    def test_nonsense(self) -> None:
        """A greeting that is none."""
        self.play("nonsense", "alice")

    def test_peer_exchange(self) -> None:
        """Two who do not know each other come together by a third."""
        self.play("peer-exchange", "alice", "bob", "carol")

    def test_ping(self) -> None:
        """Signs of life."""
        self.play("ping", "alice", "bob")

    def test_timeout(self) -> None:
        """No sign of life."""
        self.play("timeout", "alice")

    def test_simultaneous(self) -> None:
        """Both dial at once, and both links stay."""
        self.play("simultaneous", "alice", "bob")

    def test_same_id(self) -> None:
        """Two hosts, one ID: two nodes."""
        self.play("same-id", "alice", "dora")

    def test_word_joiner(self) -> None:
        """Chat that looks like a command."""
        self.play("word-joiner", "alice", "bob")

    def test_original(self) -> None:
        """A node that behaves as the original program does."""
        self.play("original", "alice")

    def test_original_both(self) -> None:
        """Both dial at once, and one of them is an original."""
        self.play("original-both", "alice")

    def test_original_mute(self) -> None:
        """An original that has forgotten us comes back."""
        self.play("original-mute", "alice")
