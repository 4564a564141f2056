"""One link and a far end that sends anything, in any pieces.

An input is two characters that set the `Scene`, and the far end's bytes after
them, with `CUT` where one piece ends and the next begins.  `one_input` plays it
piece by piece, in one piece and byte by byte, and says that

* nothing raises, and nothing is logged as an error;
* the owner hears the same, and the far end gets the same, whatever the pieces;
* in the plain scene that is what the words of ``docs/protocol.md`` say;
* no more of an unfinished line or frame is kept than one may have;
* the owner hears one end, and nothing but ``link_gone`` after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from twisted.internet.task import Clock

from meshproto.errors import AddressError
from meshproto.events import CloseReason, Direction
from meshproto.link.inbox import Inbox
from meshproto.link.interfaces import LinkLimits
from meshproto.link.protocol import MeshProtocol
from meshproto.rules import pairs
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import (
    Admitted,
    Crossed,
    Duplicate,
    Full,
    Itself,
    Verdict,
)
from meshproto.wire.address import PeerAddress
from meshproto.wire.frames import MAX_FRAME
from meshproto.wire.mesh1 import Mesh1Reader
from meshproto.wire.mesh2 import Mesh2, Mesh2Reader
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    Chats,
    Greeting,
    Hello,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RefusalReason,
    RequestPeers,
)
from tests.fakes import FakeHost, Wire, entry_of

#: Between two pieces.  No UTF-8 has these bytes, so no text is out of reach.
CUT: Final = b"\xff\xfe"
MAX_LINE: Final = 64
#: Small, so that an input of some hundred bytes gets to every bound.
LIMITS: Final = LinkLimits(max_handshake_line=32)
MAX_PAYLOAD: Final = 32

#: What the owner thinks of the far end; "gone" is one that it admits, but whose
#: link it has ended meanwhile.
VERDICTS: Final = (
    "admit",
    "duplicate",
    "full",
    "itself",
    "crossed",
    "gone",
)
#: What the owner does when it hears a message, or at the handshake's end.
REACTIONS: Final = ("none", "pause", "blink", "close", "abort")
#: What becomes of the connection after the last piece.
ENDINGS: Final = ("open", "half-close", "reset")

#: The verdicts of ``mesh/2`` for which a link ends.
_REASONS: Final = {
    "duplicate": RefusalReason.DUPLICATE,
    "full": RefusalReason.FULL,
    "itself": RefusalReason.OURSELVES,
    "crossed": RefusalReason.CROSSING,
}

#: Seconds until every deadline of a link has passed.
_LONG: Final = 60.0


@dataclass(frozen=True)
class Scene:
    """Everything about a link but the bytes that arrive on it.

    The owner's ``reaction`` comes with the message number ``when``, 0 being the
    end of the handshake.  ``stubborn``: the transport goes on delivering after
    the link was paused or has ended.  ``mesh2``: the owner speaks that as well, and
    the far end may agree on it.
    """

    direction: Direction = Direction.INCOMING
    verdict: str = "admit"
    reaction: str = "none"
    when: int = 0
    ending: str = "open"
    stubborn: bool = False
    mesh2: bool = False
    limits: LinkLimits = LIMITS
    max_line: int = MAX_LINE

    @property
    def plain(self) -> bool:
        """Whether the far end alone decides what happens."""
        return self.verdict == "admit" and self.reaction == "none" and not self.mesh2


@dataclass(frozen=True)
class Outcome:
    """What a link came to: what its owner heard, and what the far end did."""

    told: tuple[tuple[object, ...], ...]
    sent: bytes
    aborted: bool


class Owner(FakeHost):
    """An owner that plays its part of a scene.

    A chat message is told as its text.
    """

    def __init__(self, clock: Clock, scene: Scene) -> None:
        super().__init__(
            clock,
            limits=scene.limits,
            max_line=scene.max_line,
            protocols=("mesh/1", "mesh/2") if scene.mesh2 else ("mesh/1",),
            max_payload=MAX_PAYLOAD,
        )
        self.max_line = scene.max_line
        self.is_ready = self.is_over = False
        self._scene = scene
        self._occasions = 0
        self._paused: dict[IPeerLink, None] = {}
        self.verdict = self._judged
        self.answer = self._answered

    def link_ready(self, link: IPeerLink) -> None:
        self.is_ready = True
        super().link_ready(link)
        self._react(link)

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        assert not self.is_over, f"{message} after the end"
        assert not self._paused, f"{message} on a link that is not read"
        texts = message.texts if isinstance(message, Chats) else ()
        for number, said in enumerate(texts or (message,), 1):
            self.told.append(("message", said))
            self._react(link)
            if not link.reading:
                # Paused, or ended: the rest is taken later, or never.
                return Chats(texts[number:]) if texts[number:] else None
        return None

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        self.is_over = True
        super().link_ended(link, reason, detail)

    def link_eased(self, link: IPeerLink) -> None:
        """How often a queue shrinks is no business of whoever sends."""

    def relent(self) -> None:
        """Take back every pause."""
        while self._paused:
            link, _ = self._paused.popitem()
            link.resume(self)

    def _judged(self, link: IPeerLink, greeting: Greeting) -> Verdict:
        entry = entry_of(link, greeting)
        match self._scene.verdict:
            case "duplicate":
                return Duplicate(entry)
            case "full":
                return Full()
            case "itself":
                return Itself()
            case "crossed":
                return Crossed(entry)
            case "gone":
                link.close(CloseReason.STOPPED)
                return Admitted(entry)
            case _:
                return Admitted(entry)

    def _answered(self, link: IPeerLink, said: Message) -> pairs.Verdict:
        if isinstance(said, Hello):
            if reason := _REASONS.get(self._scene.verdict):
                return pairs.Unwanted(reason)
            if self._scene.verdict == "gone":
                link.close(CloseReason.STOPPED)
        return self.take(link, said)

    def _react(self, link: IPeerLink) -> None:
        self._occasions += 1
        if self._occasions != self._scene.when + 1:
            return
        match self._scene.reaction:
            case "pause":
                self._paused[link] = None
                link.pause(self)
            case "blink":
                link.pause(self)
                link.resume(self)
            case "close":
                link.close(CloseReason.STOPPED)
            case "abort":
                link.abort(CloseReason.REPLACED)


def play(scene: Scene, pieces: Iterable[bytes]) -> Outcome:
    """Let the pieces arrive on a link, see it to its end, and check it there."""
    clock = Clock()
    owner = Owner(clock, scene)
    outgoing = scene.direction is Direction.OUTGOING
    target = PeerAddress("192.0.2.2", 8002) if outgoing else None
    protocol = MeshProtocol(owner, target=target)
    wire = Wire(clock, protocol)
    memory = _Memory(owner, protocol)
    for piece in pieces:
        if scene.stubborn:
            protocol.dataReceived(piece)
        else:
            wire.raw(piece)
        memory.sent(piece)
    _settle(clock)
    owner.relent()
    _settle(clock)
    memory.weigh()
    match scene.ending:
        case "half-close":
            wire.hang_up()
        case "reset":
            wire.reset()
    _pass_time(clock)
    if not wire.closed:
        wire.reset()
    if scene.stubborn:
        protocol.dataReceived(b"\nPING\nlate\n")
    _pass_time(clock)
    _check_end(owner, clock)
    return Outcome(
        tuple(owner.told),
        wire.heard(),
        wire.transport.aborted,
    )


def check(scene: Scene, *cuttings: Sequence[bytes]) -> Outcome:
    """Play a scene in several cuttings of one stream: all must come to the same.

    Raises `AssertionError` when they do not.
    """
    outcome = play(scene, cuttings[0])
    for pieces in cuttings[1:]:
        other = play(scene, pieces)
        assert other.told == outcome.told, (
            f"{scene}: {pieces} tells\n{other.told}\nbut {cuttings[0]} tells\n"
            f"{outcome.told}"
        )
        if outcome.aborted:
            # What waited is lost, and whether it waited is a matter of time.
            short, long = sorted((other.sent, outcome.sent), key=len)
            assert long.startswith(short), (scene, other.sent, outcome.sent)
        else:
            assert other == outcome, (scene, pieces, cuttings[0], other, outcome)
    if scene.plain:
        wanted, answers = expected(scene, b"".join(cuttings[0]))
        heard = _news(outcome.told)
        assert heard == wanted, f"{scene}: heard\n{heard}\ninstead of\n{wanted}"
        if not outcome.aborted:
            assert outcome.sent == answers, (scene, outcome.sent, answers)
    return outcome


def one_input(data: bytes) -> None:
    """Play one input of the fuzzer; raises when a rule is broken."""
    scene = scene_of(data[:2])
    pieces = data[2:].split(CUT)
    stream = b"".join(pieces)
    singles = [stream[index : index + 1] for index in range(len(stream))]
    check(scene, pieces, [stream], singles)


def scene_of(header: bytes) -> Scene:
    """The scene that two bytes stand for; every two stand for one."""
    number, choice = int.from_bytes(header.ljust(2, b"\0"), "little"), []
    for count in (2, len(VERDICTS), len(ENDINGS), 2, len(REACTIONS), 5, 2):
        number, pick = divmod(number, count)
        choice.append(pick)
    direction, verdict, ending, stubborn, reaction, when, mesh2 = choice
    return Scene(
        direction=(Direction.INCOMING, Direction.OUTGOING)[direction],
        verdict=VERDICTS[verdict],
        ending=ENDINGS[ending],
        stubborn=bool(stubborn),
        reaction=REACTIONS[reaction],
        when=when,
        mesh2=bool(mesh2),
    )


def header_of(scene: Scene) -> bytes:
    """The two bytes that stand for a scene."""
    number = 0
    for value, choices in reversed(
        (
            (scene.direction, (Direction.INCOMING, Direction.OUTGOING)),
            (scene.verdict, VERDICTS),
            (scene.ending, ENDINGS),
            (scene.stubborn, (False, True)),
            (scene.reaction, REACTIONS),
            (scene.when, tuple(range(5))),
            (scene.mesh2, (False, True)),
        )
    ):
        number = number * len(choices) + choices.index(value)
    return number.to_bytes(2, "little")


def expected(scene: Scene, stream: bytes) -> tuple[list[object], bytes]:
    """What the owner of a link hears, and the far end gets, in the plain scene.

    Written for the reader and not for speed: line by line, from the first byte
    to the last, with no thought of pieces.
    """
    outgoing = scene.direction is Direction.OUTGOING
    *lines, unfinished = stream.split(b"\n")
    told: list[object] = []
    answers = b"peer-8001:alice\n" if outgoing else b""
    limit = scene.limits.max_handshake_line
    for line in lines:
        line = line.removesuffix(b"\r")
        if len(line) > limit:
            return [*told, CloseReason.LINE_TOO_LONG], answers
        if told:
            message = _message(line)
            told += [] if message is None else [message]
            answers += b"PONG\n" if message == Ping() else b""
            continue
        if outgoing and line in (b"DUPLICATE", b"MAX_PEERS"):
            refusal = Refusal(line.decode())
            return [*told, refusal, CloseReason.TURNED_AWAY], answers
        hello = _hello(line)
        if hello is None:
            return [*told, CloseReason.PROTOCOL_ERROR], answers
        told.append(hello)
        answers += b"" if outgoing else b"peer-8001:alice\n"
        limit = scene.max_line
    # A CR may be the beginning of a CRLF, which is no part of the line.  Of a
    # greeting any byte that could be one is awaited.
    if len(unfinished.removesuffix(b"\r") if told else unfinished[1:]) > limit:
        return [*told, CloseReason.LINE_TOO_LONG], answers
    if scene.ending == "half-close":
        return [*told, CloseReason.CLOSED_BY_PEER], answers
    if not told and scene.ending == "open":
        return [*told, CloseReason.HANDSHAKE_TIMEOUT], answers
    return [*told, CloseReason.CONNECTION_LOST], answers


def _hello(line: bytes) -> Greeting | None:
    try:
        id, _, name = line.removesuffix(b"\t").decode().partition(":")
        return Greeting(id, name.strip(" ") or id, mesh2=line.endswith(b"\t"))
    except ValueError:
        return None


def _message(line: bytes) -> object:
    """A message as an `Owner` tells it, None for nothing."""
    words = {b"PING": Ping(), b"PONG": Pong(), b"REQUEST_PEERS": RequestPeers()}
    if not line or line in words:
        return words.get(line)
    text = line.decode("utf-8", "replace")
    if not text.startswith("PEERS:"):
        return text.removeprefix("\u2060")
    entries = text.removeprefix("PEERS:").split(",")
    if entries == [""]:
        return PeerList(())
    addresses = []
    for entry in entries[:MAX_ADDRESSES]:
        try:
            addresses.append(PeerAddress.parse(entry.strip()))
        except AddressError:
            pass
    return PeerList(tuple(addresses), len(entries) - len(addresses))


def _news(told: Iterable[tuple[object, ...]]) -> list[object]:
    """What of an owner's story `expected` speaks of."""
    kinds = ("hello", "message", "turned away", "ended")
    return [values[1] for values in told if values[0] in kinds]


class _Memory:
    """Watches what a link keeps of what it has been sent."""

    def __init__(self, owner: Owner, protocol: MeshProtocol) -> None:
        self._owner = owner
        self._protocol = protocol
        self._unfinished = 0
        self._own = self._weight()

    def sent(self, piece: bytes) -> None:
        """The far end has sent a piece: is a line without end cut in time?"""
        end = piece.rfind(b"\n")
        self._unfinished = len(piece) - end - 1 + (self._unfinished if end < 0 else 0)
        if not (self._protocol.paused or self._owner.is_over):
            assert self._unfinished <= self._limit, f"{self._unfinished} bytes, no end"
        if len(piece) > 1:
            self.weigh()

    def weigh(self) -> None:
        """No more is kept than a line may have, nothing on a link that is over."""
        if not self._protocol.paused:
            kept = self._weight() - self._own
            limit = 0 if self._owner.is_over else self._limit
            assert kept <= limit, f"{kept} bytes are kept"

    @property
    def _limit(self) -> int:
        owner = self._owner
        if isinstance(self._protocol.wire, Mesh2):
            return MAX_FRAME + MAX_PAYLOAD
        # One more, for the CR of a CRLF.
        return (
            owner.max_line if owner.is_ready else owner.limits.max_handshake_line
        ) + 1

    def _weight(self) -> int:
        return sum(map(_weight, vars(self._protocol).values()))


def _weight(value: object) -> int:
    """Bytes of text in an attribute, whatever it keeps it in."""
    if isinstance(value, bytes | bytearray | str):
        return len(value)
    if isinstance(value, Mesh2Reader):
        return value.held
    if isinstance(value, list | tuple | deque):
        return sum(map(_weight, value))
    if isinstance(value, Inbox | Mesh1Reader):
        return sum(_weight(getattr(value, name)) for name in value.__slots__)
    return 0


def _check_end(owner: Owner, clock: Clock) -> None:
    """It has ended once, and nothing is left of it."""
    kinds = [values[0] for values in owner.told]
    assert kinds[0] == "opened", kinds
    assert kinds[-2:] == ["ended", "gone"], kinds
    assert len({"ended", "gone"} & set(kinds[:-2])) == 0, kinds
    assert clock.getDelayedCalls() == [], clock.getDelayedCalls()


def _settle(clock: Clock) -> None:
    for _ in range(3):
        clock.advance(0)


def _pass_time(clock: Clock) -> None:
    """Let everything happen that is due in some time, each at its own."""
    end = clock.seconds() + _LONG
    while due := [c.getTime() for c in clock.getDelayedCalls() if c.getTime() <= end]:
        clock.advance(max(0.0, min(due) - clock.seconds()))


def cuttings(stream: bytes, points: Iterable[int]) -> list[bytes]:
    """A stream cut at some points, given as offsets in any order."""
    ends = sorted({point for point in points if 0 < point < len(stream)})
    starts = chain([0], ends)
    return [
        stream[start:end]
        for start, end in zip(starts, [*ends, len(stream)], strict=True)
    ]
