"""Outgoing messages.

Writing to a socket costs far more than encoding a line, so chat is batched: the
first line of a burst goes out at once, and the lines that follow within a fraction
of a millisecond go out together, as one block of bytes for all peers.  The wait is
counted in reactor turns, not time: a batch goes out after the first turn that adds
nothing to it, so no line waits for a timer.
"""

from __future__ import annotations

from collections import defaultdict

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from meshproto.events import Delivery
from meshproto.rules.registry import Audience, PeerEntry, Registry
from meshproto.wire.errors import NoForm
from meshproto.wire.interfaces import IWire
from meshproto.wire.messages import Data

#: After this many seconds without chat, the next line starts a new burst.
QUIET = 0.000_25
#: Batch lines for at most this many seconds while every turn brings more.
PATIENCE = 0.001
#: Send a batch once it has this many bytes.
FULL = 64 * 1024


class Fanout:
    """Hands messages to the links, in the order they were sent.

    ``chat`` is the wire that checks a text when there are no peers; ``payloads`` is
    the wire that checks every payload.
    """

    def __init__(
        self, registry: Registry, clock: IReactorTime, *, chat: IWire, payloads: IWire
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._chat = chat
        self._payloads = payloads
        self._gathered: defaultdict[IWire, list[bytes]] = defaultdict(list)
        self._size = 0
        self._unwritten: dict[PeerEntry, bytes | tuple[bytes, ...]] = {}
        self._added = False
        self._gathering_since = 0.0
        self._sent_at = float("-inf")
        self._turn: IDelayedCall | None = None

    def broadcast(self, text: str) -> Delivery:
        """Send one line of chat to every peer.

        Raises `LocalProtocolError`, and sends nothing, when a peer's wire cannot
        carry the text.
        """
        lines = []
        wires = self._registry.wires() or (self._chat,)
        for wire in wires:
            lines.append(wire.encode_chat(text))
        for wire, line in zip(wires, lines, strict=True):
            self._gathered[wire].append(line)
            self._size += len(line)
        self._added = True
        if self._turn is not None:
            if self._size >= FULL:
                self.flush()
        elif (now := self._clock.seconds()) - self._sent_at > QUIET:
            self.flush()
        else:
            self._gathering_since = now
            self._turn = self._clock.callLater(0, self._turn_over)
        return self._registry.delivery()

    def send(self, entry: PeerEntry, text: str) -> Delivery:
        """Send one line of chat to one peer; raises what `broadcast` raises."""
        wire = entry.link.wire
        block = wire.block_of([wire.encode_chat(text)])
        self.flush()
        now = self._clock.seconds()
        entry.link.send_lines(block, at_once=now - self._sent_at > QUIET)
        self._sent_at = now
        alive = self._registry.of_key(entry.key) is entry
        return Delivery((entry.snapshot(),) if alive else ())

    def payload(self, data: Data, entries: tuple[PeerEntry, ...]) -> Delivery:
        """Send a payload to peers, after what was sent before it.

        Later messages may go out between the pieces of a large payload.

        Raises `LocalProtocolError`, and sends nothing, when it is too large.
        """
        encoded = {self._payloads: tuple(self._payloads.pieces(data))}
        blocks: dict[PeerEntry, tuple[bytes, ...]] = {}
        missed: dict[PeerEntry, str] = {}
        for entry in entries:
            wire = entry.link.wire
            try:
                if wire not in encoded:
                    encoded[wire] = tuple(wire.pieces(data))
            except NoForm:
                missed[entry] = f"speaks only {wire.name}"
                continue
            if data.size > entry.max_payload:
                missed[entry] = f"takes at most {entry.max_payload} bytes"
            else:
                blocks[entry] = encoded[wire]
        self.flush()
        self._unwritten = {**blocks}
        self.flush()
        alive = tuple(e for e in blocks if self._registry.of_key(e.key) is e)
        return Delivery(
            Audience(alive), tuple((e.snapshot(), why) for e, why in missed.items())
        )

    def flush(self) -> None:
        """Send the batch.

        Call this before a peer joins or leaves, so that each peer gets what was said
        while it was connected.
        """
        if not (self._unwritten or self._gathered):
            return
        # Writing may cut a peer, and a subscriber may then send more.  That must
        # come after this batch on every link.
        while self._unwritten or self._gathered:
            if not self._unwritten:
                self._unwritten = self._blocks()
            else:
                entry, block = self._unwritten.popitem()
                if isinstance(block, bytes):
                    entry.link.send_lines(block, at_once=True)
                else:
                    entry.link.send_pieces(block)
        self._sent_at = self._clock.seconds()

    def stop(self) -> None:
        """Send the batch and cancel the timer."""
        self.flush()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _blocks(self) -> dict[PeerEntry, bytes | tuple[bytes, ...]]:
        """Take the batch, as one block of bytes for each peer."""
        gathered = self._gathered
        self._gathered, self._size = defaultdict(list), 0
        blocks = {wire: wire.block_of(lines) for wire, lines in gathered.items()}
        return {
            entry: blocks[entry.link.wire]
            for entry in self._registry.entries()
            if entry.link.wire in blocks
        }

    def _turn_over(self) -> None:
        waited = self._clock.seconds() - self._gathering_since
        if self._gathered and self._added and waited < PATIENCE:
            self._added = False
            self._turn = self._clock.callLater(0, self._turn_over)
        else:
            self._turn = None
            self.flush()
