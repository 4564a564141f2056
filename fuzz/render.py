"""Anything that peers choose, told as lines for a terminal or a log.

An input is one character that sets the width of the terminal, and a text, in
which a byte that is no UTF-8 becomes a lone surrogate.  `one_input` puts the
text into every field that a peer, a resolver or an operating system fills, and
says of every line that comes of it that

* nothing raises, and the line has no line break and can be encoded as UTF-8;
* no character of it is a control, a format or a bidirectional character, or is
  one that nobody can see;
* what stands in the brackets at its head is no word of the program and not the
  node's own name, and has no bracket itself;
* a terminal emulator shows it where the cursor is, and nothing else happens:
  no title, no colour, no mode, no answer, no other row;
* on a terminal of that width no row but the first begins with a bracket.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pyte
from wcwidth import wcwidth

from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    CloseReason,
    ConnectionFailed,
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
    PeersDiscovered,
    PingReceived,
)
from meshproto.run.render import TAGS, Narrator
from meshproto.run.visible import guarded, visible
from meshproto.wire.address import EndpointTarget, PeerAddress

#: By code point and not by category, so that a new version of Unicode, or a
#: mistake about a category, cannot make this and `render` wrong together.
UNSEEN = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u303f\u3164"
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff"
    "\U00013441\U00013442\U00016fe4\U0001d159"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff\U000f0000-\U0010ffff"
    "]"
)
OWN_NAME = "alice"
ADDRESS = PeerAddress("192.0.2.2", 8002)

_ESCAPE = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
_HEAD = re.compile(r"\[([^][]*)\] ")


def one_input(data: bytes) -> None:
    """Tell one text in every way; raises when a rule is broken."""
    columns = 20 + (data[0] if data else 0) % 100
    text = data[1:].decode("utf-8", "surrogateescape")
    check_text(text)
    report = reported(text)
    for line in (*told(text, debug=False), *told(text, debug=True), *report):
        check_line(line)
    # Emulating a terminal is slow: a message, a peer's row, an address.
    lines = [*said(text), report[1], report[-1]]
    check_screen(lines)
    for line in lines:
        check_rows(line, columns)


def check_text(text: str) -> None:
    """`visible` spells out what is not to be seen, and leaves the rest alone."""
    shown = visible(text)
    check_line(shown)
    assert visible(shown) == shown, ascii(text)
    place = 0
    for char in text:
        if shown.startswith(char, place) and not UNSEEN.match(char):
            place += 1
            continue
        escape = _ESCAPE.match(shown, place)
        assert escape is not None, (ascii(text), ascii(shown), place)
        assert int(escape[0][2:], 16) == ord(char), (ascii(text), escape[0])
        place = escape.end()
    assert place == len(shown), (ascii(text), ascii(shown))
    if text.isascii() and text.isprintable():
        assert shown == text
    # Neither would sit on, nor join, what the caller puts round it.
    assert not unicodedata.category(shown[:1] or "x").startswith("M"), ascii(text)
    assert shown.strip("\u200c\u200d") == shown, ascii(text)


def check_line(line: str) -> None:
    """One line, of characters that can be seen."""
    assert line.splitlines() in ([line], []), ascii(line)
    line.encode("utf-8")
    unseen = UNSEEN.search(line)
    assert unseen is None, (ascii(line), unseen)


def check_head(line: str, tags: frozenset[str] | set[str]) -> None:
    """What stands in the brackets at the head is one of the tags.

    With no tags, a peer said it: then it is none of the program's words.
    """
    head = _HEAD.match(line)
    assert head is not None, ascii(line)
    if tags:
        assert head[1] in tags, ascii(line)
        return
    said_by = unicodedata.normalize("NFKC", head[1]).casefold()
    assert said_by != OWN_NAME, ascii(line)
    assert said_by.upper() not in TAGS, ascii(line)


def check_rows(line: str, columns: int) -> None:
    """No row but the first can be taken for a line of the program's own."""
    rows = terminal_rows(guarded(line, columns), columns)
    forged = [row for row in rows[1:] if row.startswith("[")]
    assert not forged, (columns, ascii(line), forged)


def terminal_rows(text: str, columns: int) -> list[str]:
    """The rows in which a terminal shows a text, by the widths of `wcwidth`."""
    rows = []
    for line in text.split("\n"):
        row, used = "", 0
        for char in line:
            width = max(wcwidth(char), 0)
            if used + width > columns:
                rows.append(row)
                row, used = "", 0
            row += char
            used += width
        rows.append(row)
    return rows


def check_screen(lines: list[str]) -> None:
    """A terminal shows the lines one below the other, and does nothing else."""
    columns = max(map(len, lines)) * 2 + 20
    screen = _Screen(columns, len(lines) + 2)
    stream = pyte.Stream(screen)
    modes = set(screen.mode)
    for number, line in enumerate(lines):
        stream.feed(line)
        assert screen.cursor.y == number, ascii(line)
        stream.feed("\r\n")
    assert (screen.cursor.x, screen.cursor.y) == (0, len(lines))
    assert (screen.title, screen.icon_name) == ("", "")
    assert screen.mode == modes
    assert screen.margins is None
    assert screen.answers == []
    plain = screen.default_char
    for number, line in enumerate(lines):
        row = screen.buffer[number]
        assert all(cell[1:] == plain[1:] for cell in row.values()), ascii(line)
        assert row[0].data[:1] == line[:1] or not line, ascii(line)
    for number in (len(lines), len(lines) + 1):
        assert not screen.buffer[number], screen.display


def told(text: str, *, debug: bool) -> Iterator[str]:
    """Every event that can have a text of others' in it, as lines."""
    narrator = Narrator(OWN_NAME, debug=debug)
    name = text[:64] or "m"
    hers = _peer(name, "peer-8002", "192.0.2.2", ADDRESS)
    his = _peer(name, "other", "192.0.2.3")
    theirs = [hers, his, _peer(text, text, "192.0.2.4")]
    target = EndpointTarget(f"tcp:{text}")
    events: list[Event] = [
        NodeStarted(id="peer-8001", name=OWN_NAME, port=8001),
        NodeError(context=text, error=text),
        BootstrapSucceeded(target=target),
        BootstrapFailed(target=target, reason=text, attempt=1, retry_in=0.5),
        ConnectionFailed(target=target, reason=text),
        DialAttemptFailed(target=target, reason=text),
        PeerRefused(id=text, name=text, host=text, reason=text),
    ]
    for peer in theirs:
        events.append(PeerConnected(peer=peer, peer_count=1, max_peers=20))
    for peer in theirs:
        events += [
            PingReceived(peer=peer),
            PeerRequestReceived(peer=peer),
            PeersDiscovered(peer=peer, count=1, total_known=2),
            PeerListReceived(peer=peer, addresses=(ADDRESS,), skipped=1),
        ]
    for event in events:
        yield from _line(narrator, event, TAGS)
    for peer in theirs:
        yield from _line(narrator, ChatReceived(peer=peer, text=text), frozenset())
    assert len({narrator.label(peer) for peer in (hers, his)}) == 2, ascii(text)
    for peer, reason in zip(theirs, CloseReason, strict=False):
        yield from _line(narrator, PeerReaped(peer=peer, silent_for=61.0), TAGS)
        yield from _line(narrator, PeerDisconnected(peer=peer, reason=reason), TAGS)
    own = narrator.own_message(text)
    check_head(own, {OWN_NAME})
    yield own


def reported(text: str) -> tuple[str, ...]:
    """The table of peers and addresses, as lines."""
    peers = [_peer(text, text, "192.0.2.4"), _peer("bob", "b", "192.0.2.2", ADDRESS)]
    known = [
        KnownAddress(
            target=target, linked=False, proven=False, bootstrap=True, failures=1
        )
        for target in (EndpointTarget(text), ADDRESS)
    ]
    lines = Narrator(OWN_NAME).peers_report(peers, known, 20, 100.0)
    assert len(lines) == 6, lines
    return lines


def said(text: str) -> tuple[str, str]:
    """What the only peer says, as lines: by its message, and by its name."""
    lines = []
    for name, words in (("bob", text), (text, "hello")):
        narrator = Narrator(OWN_NAME)
        peer = _peer(name, "peer-8002", "192.0.2.2", ADDRESS)
        narrator.line(PeerConnected(peer=peer, peer_count=1, max_peers=20))
        line = narrator.line(ChatReceived(peer=peer, text=words))
        assert line is not None
        check_head(line, frozenset())
        lines.append(line)
    return lines[0], lines[1]


class _Screen(pyte.Screen):
    """A terminal that keeps what it would answer to the program."""

    def __init__(self, columns: int, lines: int) -> None:
        self.answers: list[str] = []
        super().__init__(columns, lines)

    def write_process_input(self, data: str) -> None:
        self.answers.append(data)

    def bell(self, *args: Any) -> None:
        self.answers.append("bell")


def _line(narrator: Narrator, event: Event, tags: frozenset[str]) -> Iterator[str]:
    line = narrator.line(event)
    if line is not None:
        check_head(line, tags)
        yield line


def _peer(name: str, id: str, host: str, address: PeerAddress | None = None) -> Peer:
    return Peer(
        id=id,
        name=name,
        host=host,
        address=address,
        direction=Direction.INCOMING,
        connected_at=0.0,
        last_heard=0.0,
    )
