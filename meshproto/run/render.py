"""Turns events into lines of text, for a terminal or a log file.

Nothing here reads a clock or writes anywhere: an event goes in, and a line without
time stamp comes out.  Whatever a peer chose (names, messages, addresses) passes
through `visible`, so no peer can move the cursor, set the window title, hide part of
its text or forge a second line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    CloseReason,
    ConnectionFailed,
    DataReceived,
    DebugEvent,
    DialAttemptFailed,
    Direction,
    Event,
    KnownAddress,
    NodeError,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerListReceived,
    PeerReaped,
    PeerRefused,
    PeerRequestReceived,
    PeerRequestSent,
    PeersDiscovered,
    PeerThrottled,
    PingReceived,
    PingSent,
    PongReceived,
)
from meshproto.run.lookalikes import skeletons
from meshproto.run.visible import clipped, columns_of, escaped, is_shown, visible
from meshproto.wire.mesh1 import MAX_LINE

#: The tags, in brackets, that begin a line of ours, not one that a peer wrote.
TAGS = frozenset(
    {
        "SYSTEM",
        "NETWORK",
        "DISCOVERY",
        "MAINTENANCE",
        "BOOTSTRAP",
        "ERROR",
        "DEBUG",
        "STATUS",
    }
)

#: How many addresses a report, or a debug line, lists.
MAX_KNOWN_SHOWN = 10
#: Longest payload, in bytes, shown as text: as long as a line of chat.
MAX_TEXT_SHOWN = MAX_LINE

_TAB = "    "


class Narrator:
    """Turns one node's events into lines of text.

    Pass it every event of the node in order, by `line` or `skip`, because it learns
    from them which peers are connected.  It adds an address to the name of a peer
    that looks like another connected peer's, the node's own, or one of the `TAGS`.
    It forgets peers that have left.

    ``own_name`` is the node's name (`NodeStarted` corrects it).  Wire chatter gets
    lines only with ``debug``.  ``longest`` limits a line, in bytes: a longer one is
    `clipped`, unless a peer's name and address alone exceed it.
    """

    def __init__(
        self, own_name: str, *, debug: bool = False, longest: int | None = None
    ) -> None:
        self._debug = debug
        self._longest = longest
        self._own_name = own_name
        self._own_looks = _looks(own_name)
        self._max_peers = 0
        self._peers: dict[Hashable, Peer] = {}
        #: How many peers have a name with each look.
        self._named: dict[str, int] = {}
        self._reaped: set[Hashable] = set()
        self._is_leaving = False

    def line(self, event: Event) -> str | None:
        """The line for an event, without time stamp or line break.

        None if there is nothing to show.
        """
        self._before(event)
        text = self._debug_line(event) if self._debug else None
        if text is None:
            text = self._line(event)
        self._after(event)
        if text is not None and not isinstance(event, ChatReceived):
            text = self.fitted(text)
        return text

    def skip(self, event: Event) -> None:
        """Learn from an event without making a line."""
        self._before(event)
        self._after(event)

    def fitted(self, line: str) -> str:
        """The line, `clipped` to the longest allowed."""
        return line if self._longest is None else clipped(line, self._longest)

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The connected peers, going by the events so far."""
        return tuple(self._peers.values())

    @property
    def seats(self) -> str:
        """The number of connected peers and of seats: ``2/20 peers``."""
        return f"{len(self._peers)}/{self._max_peers} peers"

    def own_message(self, text: str) -> str:
        """The line for a message from the node's own user."""
        return f"[{_shown_name(self._own_name)}] {visible(_untabbed(text))}"

    def label(self, peer: Peer) -> str:
        """What to call a peer: its name, with its address if that is needed.

        ``bob``, or ``bob@10.0.0.2:8002`` if the name alone could mislead: it looks
        like that of another connected peer, this node or one of the `TAGS`, or
        contains an ``@``.  If two such peers on one host have no known listening
        address, their IDs are added.
        """
        name = _shown_name(peer.name)
        if not self._is_ambiguous(peer):
            return name
        where = visible(peer.where)
        label = f"{name}@{where}"
        if any(
            other.where == peer.where and _looks(other.name) & _looks(peer.name)
            for key, other in self._peers.items()
            if key != _key(peer)
        ):
            label += "#" + _shown_name(peer.id).replace("@", escaped("@"))
        return label

    def peers_report(
        self,
        peers: Sequence[Peer],
        known: Sequence[KnownAddress],
        max_peers: int,
        now: float,
    ) -> tuple[str, ...]:
        """The connected peers and the address book, as lines of a table.

        ``now`` is a time of the clock that the peers' ``last_heard`` uses.  At most
        `MAX_KNOWN_SHOWN` entries of the address book are listed, connected ones
        first; the rest are counted.
        """
        lines = ["No connected peers"]
        if peers:
            lines = [f"Connected peers ({len(peers)}/{max_peers}):"]
            lines += _table(self._peer_row(peer, now) for peer in peers)
        if known:
            lines.append(f"Known addresses ({len(known)}):")
            order = sorted(known, key=_known_order)
            lines += _table(_known_row(entry) for entry in order[:MAX_KNOWN_SHOWN])
            if len(known) > MAX_KNOWN_SHOWN:
                lines.append(f"  ... and {len(known) - MAX_KNOWN_SHOWN} more")
        return tuple(lines)

    def _line(self, event: Event) -> str | None:
        match event:
            case ChatReceived(peer=peer, text=text):
                return self._said(peer, text)
            case DataReceived(peer=peer, payload=payload, headers=headers):
                try:
                    if not headers and len(payload) <= MAX_TEXT_SHOWN:
                        return self._said(peer, payload.decode())
                except UnicodeDecodeError:
                    pass
                size = f"{len(payload):,} bytes" if len(payload) != 1 else "1 byte"
                return f"[NETWORK] Peer {self.label(peer)} sent {size} of data"
            case NodeStarted(name=name, port=port):
                where = f" listening on port {port}" if port else " listening"
                return f"[SYSTEM] Node {_shown_name(name)}{where}"
            case NodeError(context=context, error=error):
                return f"[ERROR] {visible(context)}: {visible(error)}"
            case BootstrapSucceeded(target=target):
                return f"[BOOTSTRAP] Connected to seed node {visible(str(target))}"
            case BootstrapFailed():
                return (
                    "[BOOTSTRAP] Failed to connect to seed node "
                    f"{visible(str(event.target))}: {visible(event.reason)} "
                    f"(attempt {event.attempt}, next try in {event.retry_in:.1f} s)"
                )
            case PeerConnected(peer=peer):
                who = self.label(peer)
                where = visible(peer.where)
                seats = f"({event.peer_count}/{event.max_peers} peers)"
                if event.direction is Direction.INCOMING:
                    return f"[NETWORK] Peer {who} connected from {where} {seats}"
                return f"[NETWORK] Connected to peer {who} at {where} {seats}"
            case PeerDisconnected(peer=peer, reason=reason):
                return self._disconnected(peer, reason)
            case PeerReaped(peer=peer):
                if _key(peer) in self._peers:
                    self._reaped.add(_key(peer))
                who = self.label(peer)
                return f"[MAINTENANCE] Removed stale peer {who} (timeout)"
            case PeersDiscovered(peer=peer, count=count, total_known=total):
                found = f"{count} peer" if count == 1 else f"{count} peers"
                who = self.label(peer)
                return f"[DISCOVERY] Found {found} via {who} (total known: {total})"
            case PeerThrottled(peer=peer, kind=kind, ignored=ignored):
                lines = "1 line" if ignored == 1 else f"{ignored} lines"
                note = f", {lines} ignored" if ignored else ""
                return f"[NETWORK] Limiting {self.label(peer)} ({kind.value}{note})"
            case ConnectionFailed(target=target, reason=reason):
                return f"[ERROR] {_failed(str(target), reason)}"
            case _:
                # Wire chatter, or an event of a later version.
                return None

    def _said(self, peer: Peer, text: str) -> str:
        head = f"[{self.label(peer)}] "
        said = _untabbed(text)
        if self._longest is None:
            return head + visible(said)
        return head + clipped(said, max(self._longest - _size(head), 0))

    def _debug_line(self, event: Event) -> str | None:
        match event:
            case PingSent(peer=peer):
                return f"[DEBUG] Sent PING to {self.label(peer)}"
            case PingReceived(peer=peer):
                return f"[DEBUG] Received PING from {self.label(peer)}"
            case PongReceived(peer=peer):
                return f"[DEBUG] Received PONG from {self.label(peer)}"
            case PeerRequestSent(peer=peer):
                return f"[DEBUG] Sent REQUEST_PEERS to {self.label(peer)}"
            case PeerRequestReceived(peer=peer):
                return f"[DEBUG] Received REQUEST_PEERS from {self.label(peer)}"
            case PeerListReceived(peer=peer, addresses=addresses, skipped=skipped):
                shown = addresses[:MAX_KNOWN_SHOWN]
                told = ",".join(visible(str(address)) for address in shown)
                if len(addresses) > len(shown):
                    told += f" and {len(addresses) - len(shown)} more"
                note = f" ({skipped} skipped)" if skipped else ""
                who = self.label(peer)
                return f"[DEBUG] Received PEERS: {told or 'none'} from {who}{note}"
            case DialAttemptFailed(target=target, reason=reason):
                return f"[DEBUG] {_failed(str(target), reason)}"
            case PeerRefused(name=name, host=host, reason=reason):
                who = _shown_name(name) or "a connection"
                return f"[DEBUG] Refused {who} from {visible(host)}: {visible(reason)}"
            case DebugEvent():
                return f"[DEBUG] {type(event).__name__}"
            case _:
                return None

    def _disconnected(self, peer: Peer, reason: CloseReason) -> str | None:
        if reason is CloseReason.STOPPED:
            # This node is leaving, not its peers: one line covers all of them.
            told, self._is_leaving = self._is_leaving, True
            name = _shown_name(self._own_name)
            return None if told else f"[SYSTEM] Node {name} is leaving the mesh"
        if _key(peer) in self._reaped and reason is CloseReason.TIMEOUT:
            return None
        text = f"[NETWORK] Peer {self.label(peer)} disconnected"
        if reason is not CloseReason.CLOSED_BY_PEER:
            text += f" ({reason.value})"
        return text

    def _before(self, event: Event) -> None:
        match event:
            case PeerConnected(peer=peer):
                self._remove(peer)
                self._peers[_key(peer)] = peer
                self._max_peers = event.max_peers
                for look in _looks(peer.name):
                    self._named[look] = self._named.get(look, 0) + 1
            case NodeStarted(name=name):
                self._own_name = name
                self._own_looks = _looks(name)

    def _after(self, event: Event) -> None:
        if isinstance(event, PeerDisconnected):
            self._remove(event.peer)

    def _remove(self, peer: Peer) -> None:
        self._reaped.discard(_key(peer))
        known = self._peers.pop(_key(peer), None)
        if known is None:
            return
        for look in _looks(known.name):
            self._named[look] -= 1
            if not self._named[look]:
                del self._named[look]

    def _is_ambiguous(self, peer: Peer) -> bool:
        looks = _looks(peer.name)
        if looks & _LOOKS_OF_TAGS or looks & self._own_looks:
            return True
        itself = self._peers.get(_key(peer))
        own = _looks(itself.name) if itself is not None else frozenset()
        return any(
            "@" in look or self._named.get(look, 0) > (look in own) for look in looks
        )

    def _peer_row(self, peer: Peer, now: float) -> list[str]:
        dialled = peer.direction is Direction.OUTGOING
        return [
            self.label(peer),
            f"ID {_shown_name(peer.id)}" if peer.id != peer.name else "",
            visible(peer.where),
            "dialled by us" if dialled else "dialled us",
            f"heard {_duration(now - peer.last_heard)} ago",
        ]


def _untabbed(text: str) -> str:
    """The text with each tab as spaces, so that indented text stays readable."""
    return text.replace("\t", _TAB)


def _shown_name(name: str) -> str:
    """A name or ID, made safe: it cannot close the brackets around it."""
    shown = visible(name)
    if shown.isalnum():
        return shown
    return "".join(escaped(char) if _is_bracket(char) else char for char in shown)


def _is_bracket(char: str) -> bool:
    """Whether a character is, or looks like, a square bracket."""
    if char.isalnum():
        return False
    kind = unicodedata.name(char, "")
    return any(shape in kind for shape in _LIKE_SQUARE_BRACKETS)


_LIKE_SQUARE_BRACKETS = (
    "SQUARE BRACKET",
    "LENTICULAR BRACKET",
    "TORTOISE SHELL BRACKET",
)


@lru_cache(maxsize=1024)
def _looks(name: str) -> frozenset[str]:
    """How a name looks: as shown, and without its escaped characters."""
    seen = [char for index, char in enumerate(name) if is_shown(name, index)]
    return skeletons(_shown_name(name)) | skeletons("".join(seen))


_LOOKS_OF_TAGS = frozenset[str]().union(*map(_looks, TAGS))


def _size(text: str) -> int:
    return len(text.encode())


def _key(peer: Peer) -> Hashable:
    return peer.key or (peer.id, peer.host)


def _failed(target: str, reason: str) -> str:
    return f"Failed to connect to {visible(target)}: {visible(reason)}"


def _known_order(entry: KnownAddress) -> tuple[bool, bool, bool, str]:
    return not entry.linked, not entry.bootstrap, not entry.proven, str(entry.target)


def _known_row(entry: KnownAddress) -> list[str]:
    states = []
    if entry.linked:
        states.append("linked")
    elif entry.proven:
        states.append("reachable before")
    if entry.bootstrap:
        states.append("bootstrap")
    if entry.failures:
        plural = "" if entry.failures == 1 else "s"
        states.append(f"{entry.failures} failure{plural}")
    if not (entry.linked or entry.proven or entry.bootstrap):
        states.insert(0, "told by peers")
    return [visible(str(entry.target)), ", ".join(states)]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min"


def _table(rows: Iterable[list[str]]) -> list[str]:
    """Rows with their columns aligned, and empty columns left out."""
    cells = list(rows)
    columns = [column for column in zip(*cells, strict=True) if any(column)]
    widths = [max(map(columns_of, column)) for column in columns]
    return [
        "  " + "  ".join(map(_padded, row, widths)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - columns_of(text))
