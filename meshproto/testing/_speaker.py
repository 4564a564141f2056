"""What has to be told by every node, whatever happens.

`Speaker` watches the events of one node, and `Calm` knows between whom nothing has
gone wrong for how long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from math import inf

from meshproto.events import (
    ChatReceived,
    ChatsReceived,
    DataReceived,
    Event,
    Peer,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.mesh.node import MeshNode
from meshproto.testing._machine import Machine
from meshproto.testing._plan import Place

#: Seconds after the end of a fault for which what it has begun may go on: a
#: handshake, or the last lines of a link that is given up.
AFTERMATH = 15.0

#: Seconds within which a word is heard by who is busy with a flood of others.
FAIRNESS = 0.5

#: For how long the application of one who hears a flood is busy with each word.
BUSY = 0.001


class Calm:
    """Since when no fault has touched a node, or the way between two hosts."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._troubles: Counter[Hashable] = Counter()
        self._since: dict[Hashable, float] = {}

    def disturb(self, what: Hashable) -> None:
        """A fault begins."""
        self._troubles[what] += 1

    def relieve(self, what: Hashable) -> None:
        """A fault has ended."""
        self._troubles[what] -= 1
        self._since[what] = self._seconds()

    def since(self, *what: Hashable) -> float:
        """When the last fault ended that touched any of these."""
        if any(self._troubles[one] for one in what):
            return inf
        return max(self._since.get(one, 0.0) for one in what)


@dataclass(slots=True, eq=False, repr=False)
class Speaker:
    """One life of a node, and what its listeners must hear.

    It says who it is and counts its words, so whoever hears them can tell what
    is missing.  A word is a line of chat, or a payload, which those that speak only
    mesh/1 do not hear.  ``broken`` is told of what may not be.
    """

    node: MeshNode
    number: int
    place: Place
    name: str
    machine: Machine
    cast: dict[str, Speaker]
    calm: Calm
    broken: Callable[[str, str], None]
    #: Seconds after which a word comes late.
    patience: float = FAIRNESS
    #: No listener drops a handshake for want of room while its dialler says READY.
    roomy: bool = True
    #: It runs, and may be asked to do something.
    alive: bool = False
    #: It may still tell of events.
    over: bool = False
    connected: dict[Hashable, str] = field(default_factory=dict)
    #: The last word that was heard of each speaker, and when.
    heard: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: Who has been heard since it has been connected.
    fresh: set[str] = field(default_factory=set)
    #: How much had been said each time that a listener came, and when it last did.
    joined: dict[str, list[int]] = field(default_factory=dict)
    came: dict[str, float] = field(default_factory=dict)
    #: How many floods keep its application busy.
    floods: int = 0
    #: When it has said each word.
    said_at: list[float] = field(default_factory=list)
    #: Which of its words are payloads.
    payloads: set[int] = field(default_factory=set)
    #: Chat that has been told word by word, and not yet in a run.
    run: list[str] = field(default_factory=list)

    @property
    def said(self) -> int:
        """How many words it has said."""
        return len(self.said_at)

    def say(self, more: str = "") -> None:
        """Say the next word to everybody."""
        self.said_at.append(self.machine.present)
        self.node.broadcast(f"{self.name} {self.said} {more}")

    def send(self) -> None:
        """Say the next word as a payload."""
        self.said_at.append(self.machine.present)
        self.payloads.add(self.said)
        before = set(self.connected.values())
        payload = payload_of(self.name, self.said)
        delivery = self.node.broadcast(payload, {"word": str(self.said)})
        able = {name for name in before if self.shares_mesh2_with(self.cast[name])}
        missed = {peer.name for peer, _ in delivery.missed}
        handed = {peer.name for peer in delivery.peers}
        # Some may have been cut because they take nothing.
        if missed != before - able or handed != able & {*self.connected.values()}:
            told = f"handed to {handed}, missed by {missed}, of {before}"
            self.broken("missed", f"{self.name} {self.said}: {told}")

    def shares_mesh2_with(self, other: Speaker) -> bool:
        """Whether their links have to speak mesh/2."""
        return self.machine.mesh2 and other.machine.mesh2

    def last_word_for(self, listener: Speaker) -> int:
        """The last of its words that the listener can hear."""
        words = range(self.said, 0, -1)
        if self.shares_mesh2_with(listener):
            return self.said
        return next((word for word in words if word not in self.payloads), 0)

    def see(self, event: Event) -> None:
        """Judge an event of the node."""
        if self.over:
            self.broken("afterlife", f"{self.name} is over, and tells {event}")
        if isinstance(event, ChatReceived):
            self.run.append(event.text)
            if self.floods:
                self.machine.work(self.floods * BUSY)
        elif self.run:
            self.broken("runs", f"{self.name}: {event} before {self.run} in a run")
        peer: Peer | None = getattr(event, "peer", None)
        if peer is None:
            return
        if isinstance(event, PeerConnected):
            self._came(event, peer)
            return
        name = self.connected.get(peer.key)
        if name is None:
            self.broken("stranger", f"{self.name}: {event} of nobody connected")
        elif isinstance(event, ChatReceived):
            author, word, *_ = event.text.split(" ", 2)
            self._heard(author, word, name)
        elif isinstance(event, DataReceived):
            self._took(event, name)
        elif isinstance(event, PeerDisconnected):
            self._left(event, self.cast[name])
            del self.connected[peer.key]
            self.fresh.discard(name)

    def see_run(self, event: ChatsReceived) -> None:
        """Judge a run: it is what has just been told word by word."""
        told, self.run = tuple(self.run), []
        if told != event.texts:
            self.broken("runs", f"{self.name}: {event.texts} in a run after {told}")

    def _came(self, event: PeerConnected, peer: Peer) -> None:
        if peer.key in self.connected:
            self.broken("connected twice", f"{self.name}: {peer.name} came twice")
        self.connected[peer.key] = peer.name
        other = self.cast.get(peer.name)
        if other and (peer.protocol == "mesh/2") != self.shares_mesh2_with(other):
            told = f"{peer.protocol} with {peer.name}"
            self.broken("protocol", f"{self.name} speaks {told}")
        self.joined.setdefault(peer.name, []).append(self.said)
        self.came[peer.name] = self.machine.present
        count = event.peer_count
        if count != len(self.connected):
            told = f"{count} peers for {len(self.connected)}"
            self.broken("peer count", f"{self.name}: {told}")
        if count > self.node.config.max_peers:
            self.broken("seats", f"{self.name}: {count} peers")

    def _left(self, event: PeerDisconnected, other: Speaker) -> None:
        """Does a link of mesh/2 end that nothing has touched, before or since?

        Whoever has two links gives up one that is in use.
        """
        came = self.came[other.name]
        touched = self._disturbed(other)
        calm = touched <= 0.0 or touched + AFTERMATH < came
        if calm and self.roomy and self.alive and self.shares_mesh2_with(other):
            text = f"{other.name} after {self.machine.present - came:.3f} s"
            self.broken("parted", f"{self.name} lost {text}: {event.reason.value}")

    def _took(self, event: DataReceived, name: str) -> None:
        word = event.headers.get("word", "0")
        author = event.payload.partition(b" ")[0].decode("ascii", "replace")
        if event.payload != payload_of(author, int(word)):
            text = f"{name} {word} is {event.payload[:80]!r}"
            self.broken("changed", f"{self.name}: {text}")
        self._heard(author, word, name)

    def _heard(self, author: str, word: str, name: str) -> None:
        number = int(word)
        if author != name:
            self.broken("author", f"{self.name}: word of {author} from {name}")
        last, when = self.heard.get(author, (0, 0.0))
        if number <= last:
            self.broken("order", f"{self.name}: {author} {number} after {last}")
        speaker = self.cast[author]
        if number > speaker.said:
            self.broken("unsaid", f"{self.name}: {author} has not said {number}")
            return
        if author in self.fresh:
            if number > last + 1:
                self._missed(speaker, last, number, when)
            self._waited(speaker, number, when)
        elif self.roomy and self.shares_mesh2_with(speaker):
            self._began(speaker, number)
        self.heard[author] = number, self.calm._seconds()
        self.fresh.add(author)

    def _began(self, speaker: Speaker, number: int) -> None:
        """Is the first word on a link the first that was said there?

        It is with mesh/2, even when both have dialled.
        """
        [*_, joined] = speaker.joined.get(self.name, (number,))
        came = speaker.came.get(self.name, 0.0)
        if joined + 1 < number and self._disturbed(speaker) < came:
            text = f"{speaker.name} {joined + 1} to {number - 1}"
            self.broken("lost", f"{self.name} has not heard {text} on a new link")

    def _waited(self, speaker: Speaker, number: int, when: float) -> None:
        """Is a word late, though nothing was in its way since the last one?"""
        late = self.machine.present - speaker.said_at[number - 1]
        if late > self.patience and self._is_calm(speaker, when):
            text = f"{speaker.name} {number} comes after {late:.3f} s"
            self.broken("late", f"{self.name}: {text}")

    def _is_calm(self, speaker: Speaker, when: float) -> bool:
        """Whether nothing has been in the way for long enough at that time."""
        return self._disturbed(speaker) + AFTERMATH < when

    def _disturbed(self, speaker: Speaker) -> float:
        """When the last thing that was in the way has ended."""
        hosts = frozenset((self.place.host, speaker.place.host))
        return self.calm.since(self.number, speaker.number, hosts)

    def _missed(self, speaker: Speaker, last: int, number: int, when: float) -> None:
        """Words are missing: had we left, or was something in the way?"""
        missing = set(range(last + 1, number))
        if not self.shares_mesh2_with(speaker):
            missing -= speaker.payloads
        if any(last <= said < number for said in speaker.joined.get(self.name, ())):
            return
        if missing and self._is_calm(speaker, when):
            text = f"{speaker.name} {min(missing)} to {max(missing)}"
            self.broken("lost", f"{self.name} has not heard {text}")


def payload_of(name: str, word: int) -> bytes:
    """A payload that says who says it, and differs from all others.

    It holds every byte; some are lines of text, and a few need several frames.
    """
    head = f"{name} {word} ".encode()
    if word % 3 == 0:
        return head + b"one line\r\nand\n\nanother"
    return head + bytes(range(256)) * (256 if word % 16 == 1 else 1)
