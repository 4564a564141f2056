"""Every event's line to the letter, and what hostile text cannot do to it."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace

import pyte
from confusable_homoglyphs.confusables import (  # type: ignore[import-untyped]
    confusables_data,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto import events
from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    ChatsReceived,
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
    Throttled,
)
from meshproto.run.lookalikes import _prototypes
from meshproto.run.render import TAGS, Narrator
from meshproto.run.visible import clipped, guarded, visible
from meshproto.wire.address import EndpointTarget, PeerAddress
from meshproto.wire.messages import NO_HEADERS, Headers
from tests.fakes import known, peer
from tests.slow import some

BOB = peer()
CHARLIE = Peer(
    id="peer-8003",
    name="charlie",
    host="127.0.0.1",
    address=PeerAddress.parse("localhost:8003"),
    direction=Direction.OUTGOING,
    connected_at=0.0,
    last_heard=0.0,
)
DAVE = peer("dave", "192.168.1.103", 8004)
SEED = PeerAddress.parse("localhost:8000")


def connected(who: Peer, count: int = 1) -> PeerConnected:
    return PeerConnected(peer=who, peer_count=count, max_peers=20)


def gone(
    who: Peer, reason: CloseReason = CloseReason.CLOSED_BY_PEER
) -> PeerDisconnected:
    return PeerDisconnected(peer=who, reason=reason)


def chat(who: Peer, text: str) -> ChatReceived:
    return ChatReceived(peer=who, text=text)


#: A session, event by event, with the line of each.
SESSION: list[tuple[Event, str | None]] = [
    (
        NodeStarted(id="peer-8001", name="alice", port=8001),
        "[SYSTEM] Node alice listening on port 8001",
    ),
    (
        BootstrapFailed(target=SEED, reason="refused", attempt=2, retry_in=1.44),
        "[BOOTSTRAP] Failed to connect to seed node localhost:8000: refused "
        "(attempt 2, next try in 1.4 s)",
    ),
    (
        BootstrapSucceeded(target=SEED),
        "[BOOTSTRAP] Connected to seed node localhost:8000",
    ),
    (
        connected(BOB, 1),
        "[NETWORK] Peer bob connected from 192.168.1.100:8002 (1/20 peers)",
    ),
    (
        PeersDiscovered(peer=BOB, count=3, total_known=5),
        "[DISCOVERY] Found 3 peers via bob (total known: 5)",
    ),
    (
        PeersDiscovered(peer=BOB, count=1, total_known=6),
        "[DISCOVERY] Found 1 peer via bob (total known: 6)",
    ),
    (
        DataReceived(peer=BOB, payload=b"two\nlines", headers=NO_HEADERS),
        r"[bob] two\x0alines",
    ),
    (
        DataReceived(peer=BOB, payload=b"x" * (16 * 1024 + 1), headers=NO_HEADERS),
        "[NETWORK] Peer bob sent 16,385 bytes of data",
    ),
    (
        DataReceived(peer=BOB, payload=b"\xff" * 2048, headers=NO_HEADERS),
        "[NETWORK] Peer bob sent 2,048 bytes of data",
    ),
    (
        DataReceived(peer=BOB, payload=b"x", headers=Headers({"type": "text"})),
        "[NETWORK] Peer bob sent 1 byte of data",
    ),
    (
        connected(CHARLIE, 2),
        "[NETWORK] Connected to peer charlie at localhost:8003 (2/20 peers)",
    ),
    (
        chat(BOB, "network status looks good"),
        "[bob] network status looks good",
    ),
    (
        connected(DAVE, 3),
        "[NETWORK] Peer dave connected from 192.168.1.103:8004 (3/20 peers)",
    ),
    (
        PeerReaped(peer=DAVE, silent_for=61.0),
        "[MAINTENANCE] Removed stale peer dave (timeout)",
    ),
    (gone(DAVE, CloseReason.TIMEOUT), None),
    (
        PeerThrottled(peer=BOB, kind=Throttled.GOSSIP, ignored=57),
        "[NETWORK] Limiting bob (too much gossip, 57 lines ignored)",
    ),
    (
        PeerThrottled(peer=BOB, kind=Throttled.GOSSIP, ignored=1),
        "[NETWORK] Limiting bob (too much gossip, 1 line ignored)",
    ),
    (
        PeerThrottled(peer=BOB, kind=Throttled.CHAT, ignored=0),
        "[NETWORK] Limiting bob (too much chat)",
    ),
    (PingSent(peer=BOB), "[DEBUG] Sent PING to bob"),
    (PongReceived(peer=BOB), "[DEBUG] Received PONG from bob"),
    (PingReceived(peer=BOB), "[DEBUG] Received PING from bob"),
    (PeerRequestSent(peer=CHARLIE), "[DEBUG] Sent REQUEST_PEERS to charlie"),
    (
        PeerRequestReceived(peer=CHARLIE),
        "[DEBUG] Received REQUEST_PEERS from charlie",
    ),
    (
        PeerListReceived(
            peer=CHARLIE,
            addresses=(
                PeerAddress.parse("localhost:8004"),
                PeerAddress.parse("localhost:8005"),
            ),
            skipped=0,
        ),
        "[DEBUG] Received PEERS: localhost:8004,localhost:8005 from charlie",
    ),
    (
        PeerListReceived(peer=CHARLIE, addresses=(), skipped=2),
        "[DEBUG] Received PEERS: none from charlie (2 skipped)",
    ),
    (
        DialAttemptFailed(target=SEED, reason="connection refused"),
        "[DEBUG] Failed to connect to localhost:8000: connection refused",
    ),
    (
        PeerRefused(id="peer-8009", name="eve", host="10.0.0.9", reason="no seat"),
        "[DEBUG] Refused eve from 10.0.0.9: no seat",
    ),
    (
        PeerRefused(id="", name="", host="10.0.0.9", reason="bad handshake"),
        "[DEBUG] Refused a connection from 10.0.0.9: bad handshake",
    ),
    (
        ConnectionFailed(target=SEED, reason="connection refused"),
        "[ERROR] Failed to connect to localhost:8000: connection refused",
    ),
    (
        NodeError(context="accepting", error="too many open files"),
        "[ERROR] accepting: too many open files",
    ),
    (gone(CHARLIE), "[NETWORK] Peer charlie disconnected"),
    (
        gone(BOB, CloseReason.CONNECTION_LOST),
        "[NETWORK] Peer bob disconnected (connection lost)",
    ),
]


class LineTests(SynchronousTestCase):
    """What each event reads like."""

    def test_every_line_with_debug(self) -> None:
        """A whole session, line by line."""
        narrator = Narrator("?", debug=True)
        for event, line in SESSION:
            self.assertEqual(narrator.line(event), line)

    def test_every_line_without_debug(self) -> None:
        """The same session for people who do not debug: no chatter."""
        narrator = Narrator("?")
        for event, line in SESSION:
            expected = None if isinstance(event, DebugEvent) else line
            self.assertEqual(narrator.line(event), expected)

    def test_two_peers_of_one_id_and_host(self) -> None:
        """Their keys tell them apart: each leaves by itself."""
        one, two = (replace(BOB, key=key) for key in ("one", "two"))
        narrator = Narrator("alice")
        for who in (one, two):
            narrator.skip(connected(who))
        self.assertEqual(len(narrator.peers), 2)
        narrator.skip(gone(one))
        self.assertEqual(narrator.peers, (two,))

    def test_every_event_has_a_line(self) -> None:
        """No event type is missing from the session above.

        But for runs of chat, of which each text has its line.
        """
        types = {
            each
            for name, each in vars(events).items()
            if isinstance(each, type)
            and issubclass(each, Event)
            and each.__name__ == name
            and each not in (Event, DebugEvent, ChatsReceived)
        }
        self.assertEqual(types - {type(event) for event, _ in SESSION}, set())

    def test_an_event_of_a_later_version(self) -> None:
        """What nobody has words for yet is not shown, and does no harm."""

        class Unheard(Event):
            pass

        class UnheardChatter(DebugEvent):
            pass

        narrator = Narrator("alice", debug=True)
        self.assertIsNone(narrator.line(Unheard()))
        self.assertEqual(narrator.line(UnheardChatter()), "[DEBUG] UnheardChatter")
        self.assertIsNone(Narrator("alice").line(UnheardChatter()))

    def test_every_reason_of_an_end(self) -> None:
        """A peer that leaves of itself needs no reason; all others have one."""
        for reason in set(CloseReason) - {CloseReason.STOPPED}:
            narrator = Narrator("alice")
            narrator.line(connected(BOB))
            said = "" if reason is CloseReason.CLOSED_BY_PEER else f" ({reason.value})"
            self.assertEqual(
                narrator.line(gone(BOB, reason)),
                f"[NETWORK] Peer bob disconnected{said}",
            )

    def test_leaving(self) -> None:
        """One line for all links that end because this node stops."""
        narrator = Narrator("alice")
        for who in (BOB, CHARLIE, DAVE):
            narrator.line(connected(who))
        self.assertEqual(
            [
                narrator.line(gone(BOB)),
                narrator.line(gone(CHARLIE, CloseReason.STOPPED)),
                narrator.line(gone(DAVE, CloseReason.STOPPED)),
            ],
            [
                "[NETWORK] Peer bob disconnected",
                "[SYSTEM] Node alice is leaving the mesh",
                None,
            ],
        )

    def test_reaped_peer_comes_back(self) -> None:
        """Only the one disconnection that belongs to the reaping is silent."""
        narrator = Narrator("alice")
        narrator.line(connected(DAVE))
        narrator.line(PeerReaped(peer=DAVE, silent_for=61.0))
        self.assertIsNone(narrator.line(gone(DAVE, CloseReason.TIMEOUT)))
        narrator.line(connected(DAVE))
        self.assertEqual(
            narrator.line(gone(DAVE, CloseReason.TIMEOUT)),
            "[NETWORK] Peer dave disconnected (timeout)",
        )

    def test_many_addresses(self) -> None:
        """A list of them is no reason for a line without end."""
        ten = tuple(PeerAddress("10.0.0.1", port) for port in range(1, 11))
        narrator = Narrator("alice", debug=True)
        for addresses, end in (
            (ten, "10.0.0.1:10 from bob (3 skipped)"),
            ((*ten, SEED), "10.0.0.1:10 and 1 more from bob (3 skipped)"),
        ):
            event = PeerListReceived(peer=BOB, addresses=addresses, skipped=3)
            line = narrator.line(event)
            assert line is not None
            self.assertTrue(line.endswith(end), line)

    def test_node_without_a_port(self) -> None:
        """A node behind a UNIX socket has none to tell."""
        self.assertEqual(
            Narrator("?").line(NodeStarted(id="x", name="alice", port=0)),
            "[SYSTEM] Node alice listening",
        )

    def test_endpoint_target(self) -> None:
        """An endpoint string is shown as it was given."""
        self.assertEqual(
            Narrator("alice").line(
                ConnectionFailed(target=EndpointTarget("unix:/x"), reason="gone")
            ),
            "[ERROR] Failed to connect to unix:/x: gone",
        )

    def test_own_message(self) -> None:
        """What this node's user said, as it is echoed."""
        self.assertEqual(Narrator("alice").own_message("hi\x07"), "[alice] hi\\x07")


class LabelTests(SynchronousTestCase):
    """Who is who."""

    def setUp(self) -> None:
        self.narrator = Narrator("alice")

    def join(self, *peers: Peer) -> None:
        for each in peers:
            self.narrator.line(connected(each))

    def said(self, who: Peer) -> str | None:
        return self.narrator.line(chat(who, "hi"))

    def test_one_name_two_peers(self) -> None:
        """Both are told apart as long as both are there."""
        other = peer("bob", "10.0.0.7", 8002)
        self.join(BOB, other)
        self.assertEqual(self.said(BOB), "[bob@192.168.1.100:8002] hi")
        self.assertEqual(self.said(other), "[bob@10.0.0.7:8002] hi")
        self.assertEqual(
            self.narrator.line(gone(other)),
            "[NETWORK] Peer bob@10.0.0.7:8002 disconnected",
        )
        self.assertEqual(self.said(BOB), "[bob] hi")

    def test_the_newcomer_is_told_apart_at_once(self) -> None:
        """The line of the second one's arrival names it fully already."""
        self.join(BOB)
        self.assertEqual(
            self.narrator.line(connected(peer("bob", "10.0.0.7", 8002), 2)),
            "[NETWORK] Peer bob@10.0.0.7:8002 connected from 10.0.0.7:8002 "
            "(2/20 peers)",
        )

    def test_address_not_known(self) -> None:
        """The host serves where no listening address is known."""
        other = peer("bob", "10.0.0.7", None, id="x")
        self.join(BOB, other)
        self.assertEqual(self.said(other), "[bob@10.0.0.7] hi")

    def test_one_name_one_host(self) -> None:
        """Where name and place are the same, the ID makes the difference."""
        one = peer("bob", "10.0.0.7", None, id="one")
        two = peer("bob", "10.0.0.7", None, id="two")
        self.join(one, two)
        self.assertEqual(self.said(one), "[bob@10.0.0.7#one] hi")
        self.assertEqual(self.said(two), "[bob@10.0.0.7#two] hi")

    def test_address_learnt_later(self) -> None:
        """The peer of the event counts, not the one that was first seen."""
        self.join(peer("bob", "10.0.0.7", None, id="x"), BOB)
        later = peer("bob", "10.0.0.7", 8002, id="x")
        self.assertEqual(self.said(later), "[bob@10.0.0.7:8002] hi")

    def test_own_name(self) -> None:
        """Nobody else is just ``alice`` here."""
        self.join(other := peer("alice", "10.0.0.7", 8002))
        self.assertEqual(self.said(other), "[alice@10.0.0.7:8002] hi")

    def test_own_name_is_learnt(self) -> None:
        """A name that comes with the port is known once the node has started."""
        narrator = Narrator("peer-0")
        narrator.line(NodeStarted(id="peer-8001", name="peer-8001", port=8001))
        narrator.line(connected(other := peer("peer-8001", "10.0.0.7", 8001)))
        self.assertEqual(narrator.label(other), "peer-8001@10.0.0.7:8001")
        self.assertEqual(narrator.own_message("hi"), "[peer-8001] hi")

    def test_names_that_look_the_same(self) -> None:
        """Case, width and invisible parts of a name make no other name."""
        for name in ("Bob", "\uff42\uff4f\uff42", "bob\ufe0f", "bo\U000e0100b"):
            other = peer(name, "10.0.0.7", 8002)
            self.narrator = Narrator("alice")
            self.join(BOB, other)
            self.assertEqual(self.narrator.label(BOB), "bob@192.168.1.100:8002")
            self.assertIn("@10.0.0.7:8002", self.narrator.label(other))

    def test_tags(self) -> None:
        """A peer cannot pass for the program."""
        for tag in TAGS:
            for name in (tag, tag.lower(), tag.title()):
                other = peer(name, "10.0.0.7", 8002)
                self.join(other)
                self.assertEqual(self.said(other), f"[{name}@10.0.0.7:8002] hi")

    def test_look_alikes(self) -> None:
        """Nor by letters of another script, or by what nobody sees."""
        for name in (
            "SYST\u0415M",
            "SYSTEM\U0001d159",
            "SYS\u200dTEM",
            "SYS\u200aTEM",
            " SYSTEM ",
            "\u2160NFO",
            "5YSTEM",
            "\U0001d412\U0001d418\U0001d412\U0001d413\U0001d404\U0001d40c",
            "SYSTEM\ufe0f",
            "\u24c8ystem",
            "SYS\u0442EM",
            "SYSTERN",
            "D1SCOVERY",
        ):
            other = peer(name, "10.0.0.7", 8002)
            is_like = name not in ("\u2160NFO", "5YSTEM")
            self.assertEqual(
                self.narrator.label(other).endswith("@10.0.0.7:8002"), is_like, name
            )

    def test_random_look_alikes(self) -> None:
        """Whatever the library knows: two hundred spellings of each tag."""
        dice = random.Random(4)
        alike = confusables_data
        for tag in sorted(TAGS):
            for _ in range(200):
                name = "".join(
                    dice.choice([char, *(each["c"] for each in alike.get(char, ()))])
                    for char in (dice.choice((c, c.lower())) for c in tag)
                )
                other = peer(name, "10.0.0.7", 8002)
                label = self.narrator.label(other)
                self.assertTrue(label.endswith("@10.0.0.7:8002"), ascii(name))

    def test_look_alikes_of_names(self) -> None:
        """The node's own name, and that of a connected peer."""
        self.join(bob := peer("bob", "10.0.0.2", 8002))
        for name in ("b0b", "b\u043eb", "8ob"):
            other = peer(name, "10.0.0.7", 8002, id="x")
            self.join(other)
            is_like = name != "8ob"
            self.assertEqual("@" in self.narrator.label(other), is_like, name)
            self.assertEqual("@" in self.narrator.label(bob), is_like, name)
            self.narrator.line(gone(other))
            self.assertEqual(self.narrator.label(bob), "bob")
        for name in ("\u0430lice", "a1ice", "aIice", "ALICE", "al\u0456ce"):
            self.assertIn("@", self.narrator.label(peer(name, "10.0.0.7", 8002)), name)

    def test_honest_names(self) -> None:
        """Names that only share some letters are left alone."""
        names = ("bob", "rob", "bobby", "Зоя", "日本", "zoë", "zoe", "❤\ufe0f", "n0")
        peers = [
            peer(name, f"10.0.0.{number}", 8002, id=f"id-{number}")
            for number, name in enumerate(names)
        ]
        self.join(*peers)
        self.assertEqual([self.narrator.label(each) for each in peers], list(names))

    def test_nothing_is_read_for_plain_names(self) -> None:
        """The list of look-alikes costs nobody anything who does not need it."""
        _prototypes.cache_clear()
        self.join(peer("b0b", "10.0.0.7", 8002, id="x"), BOB)
        self.assertEqual(_prototypes.cache_info().currsize, 0)
        self.join(peer("met for the first time: zoë", "10.0.0.7", 8002, id="z"))
        self.assertEqual(_prototypes.cache_info().currsize, 1)

    def test_an_id_is_no_address(self) -> None:
        """The ID behind the address has no ``@`` of its own."""
        one = peer("bob", "10.0.0.7", None, id="one@10.0.0.1:8002")
        self.join(one, peer("bob", "10.0.0.7", None, id="two"))
        self.assertEqual(self.said(one), "[bob@10.0.0.7#one\\x4010.0.0.1:8002] hi")

    def test_brackets_of_other_shapes(self) -> None:
        """What looks like a bracket cannot end the name either."""
        for left, right in ("［］", "【】", "〔〕", "⟦⟧", "〚〛", "⁅⁆", "❲❳", "﹝﹞"):
            self.join(other := peer(f"x{right} {left}SYSTEM", "10.0.0.7", 8002))
            label = self.narrator.label(other)
            self.assertNotIn(left, label)
            self.assertNotIn(right, label)
            self.assertIn(f"\\u{ord(left):04x}SYSTEM", label)

    def test_at_sign(self) -> None:
        """The last ``@`` is always ours."""
        for sign in "@\uff20\ufe6b":
            self.join(other := peer(f"bob{sign}10.0.0.1:8002", "10.0.0.7", 8002))
            self.assertEqual(
                self.said(other), f"[bob{sign}10.0.0.1:8002@10.0.0.7:8002] hi"
            )

    def test_brackets(self) -> None:
        """A name ends where its bracket ends."""
        self.join(other := peer("x] [SYSTEM", "10.0.0.7", 8002))
        self.assertEqual(self.said(other), "[x\\x5d \\x5bSYSTEM] hi")

    def test_escapes_are_no_disguise(self) -> None:
        """A name that spells an escape is told apart from the real thing."""
        one = peer("x[", "10.0.0.7", 8002)
        two = peer("x\\x5b", "10.0.0.8", 8002)
        self.join(one, two)
        self.assertNotEqual(self.said(one), self.said(two))

    def test_tab(self) -> None:
        """Four spaces in what is said, and spelled out in a name."""
        narrator = Narrator("a\tb")
        self.assertEqual(narrator.own_message("x\ty\x1b"), "[a\\x09b] x    y\\x1b")
        self.assertEqual(narrator.line(chat(peer("b\tob"), "\tx")), "[b\\x09ob]     x")

    def test_brackets_in_a_message_stay(self) -> None:
        """Only the first bracket of a line counts, and that is ours."""
        self.join(BOB)
        self.assertEqual(
            self.narrator.line(chat(BOB, "[SYSTEM] bye")), "[bob] [SYSTEM] bye"
        )

    def test_reconnection_is_no_second_peer(self) -> None:
        """The same peer connected twice in a row does not clash with itself."""
        self.join(BOB, BOB)
        self.assertEqual(self.said(BOB), "[bob] hi")
        self.narrator.line(gone(BOB))
        self.join(other := peer("bob", "10.0.0.7", 8002))
        self.assertEqual(self.said(other), "[bob] hi")


HOSTILE = {
    "tab": "\t",
    "line feed": "\n",
    "carriage return": "\r",
    "escape": "\x1b",
    "bell": "\x07",
    "null": "\x00",
    "delete": "\x7f",
    "next line": "\x85",
    "CSI": "\x9b",
    "OSC": "\x9d",
    "Arabic letter mark": "\u061c",
    "left-to-right mark": "\u200e",
    "right-to-left mark": "\u200f",
    "embedding": "\u202a",
    "override": "\u202e",
    "isolate": "\u2066",
    "pop isolate": "\u2069",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "zero-width space": "\u200b",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\xad",
    "interlinear anchor": "\ufff9",
    "tag letter": "\U000e0041",
    "surrogate": "\udc80",
    "private use": "\ue000",
    "unassigned": "\U000e0fff",
    "noncharacter": "\uffff",
    "Hangul filler": "\u3164",
    "Braille blank": "\u2800",
    "null notehead": "\U0001d159",
    "Khitan filler": "\U00016fe4",
    "half fill space": "\u303f",
    "object replacement": "\ufffc",
    "Egyptian blank": "\U00013441",
}

HARMLESS = (
    "plain text, 100 % [ok] \\ no escape",
    "Grüße aus Köln",
    "cafe\u0301",
    "こんにちは\u3000世界",
    "مرحبا بالعالم",
    "שלום",
    "می\u200cخواهم",
    "👩\u200d👩\u200d👧 ❤\ufe0f 👍🏽",
    "12\xa0000\u202f€",
)


class VisibleTests(SynchronousTestCase):
    """Nothing invisible, nothing active."""

    def test_hostile_characters(self) -> None:
        """Each is spelled out wherever it stands."""
        for what, char in HOSTILE.items():
            code = ord(char)
            spelled = (
                f"\\x{code:02x}"
                if code < 0x100
                else f"\\u{code:04x}"
                if code < 0x10000
                else f"\\U{code:08x}"
            )
            for before, after in (("", ""), ("a", ""), ("", "b"), ("a", "b")):
                self.assertEqual(
                    visible(before + char + after), before + spelled + after, what
                )

    def test_harmless_text(self) -> None:
        """Everyday text of every script stays as it is."""
        for text in HARMLESS:
            self.assertEqual(visible(text), text)

    def test_joiners_out_of_place(self) -> None:
        """A joiner that joins nothing is spelled out."""
        for text in ("\u200d", "a\u200d", "\u200da", "a\u200d b", "a\u200d\u200db"):
            self.assertIn("\\u200d", visible(text))
            self.assertNotIn("\u200d", visible(text))

    def test_leading_mark(self) -> None:
        """A mark cannot sit on our own bracket or space."""
        self.assertEqual(visible("\u0338bob"), "\\u0338bob")

    @given(st.text(st.characters()))
    def test_any_text(self, text: str) -> None:
        """One line, encodable, with nothing but visible characters."""
        shown = visible(text)
        shown.encode("utf-8")
        self.assertLessEqual(len(shown.splitlines()), 1)
        for char in shown:
            category = unicodedata.category(char)
            self.assertTrue(
                category[0] in "LMNPS" or category == "Zs" or char in "\u200c\u200d",
                f"{char!r} ({category})",
            )

    @given(st.text(st.characters()))
    def test_what_is_visible_stays(self, text: str) -> None:
        """The second look changes nothing."""
        self.assertEqual(visible(visible(text)), visible(text))


class ClippedTests(SynchronousTestCase):
    """A long text in a bounded line."""

    def test_at_the_bound(self) -> None:
        """As many bytes as there may be, and one more."""
        for text, size in (("x" * 9, 9), ("é" * 5, 10), ("\u202e", 6), ("", 0)):
            self.assertEqual(clipped(text, size), visible(text))
            if text:
                self.assertNotEqual(clipped(text, size - 1), visible(text))
                self.assertNotEqual(clipped(f"{text}x", size), visible(f"{text}x"))

    def test_what_is_cut(self) -> None:
        """Its size is told: of the text, not of how it would be shown."""
        self.assertEqual(clipped("abcde", 4), "abcd ... (1 more byte)")
        self.assertEqual(clipped("ééé", 5), "éé ... (2 more bytes)")
        self.assertEqual(clipped("a\u202eb", 6), "a ... (4 more bytes)")
        self.assertEqual(clipped("ab", 0), " ... (2 more bytes)")

    def test_no_half_characters(self) -> None:
        """A cut leaves neither half an escape nor a joiner that joins nothing."""
        self.assertEqual(clipped("👩\u200d👩", 8), "👩 ... (7 more bytes)")

    @given(st.text(st.characters()), st.integers(0, 60))
    def test_any_text(self, text: str, most: int) -> None:
        shown = clipped(text, most)
        self.assertEqual(visible(shown), shown)
        kept, dots, rest = shown.rpartition(" ... (")
        if shown != visible(text):
            self.assertTrue(dots)
            self.assertLessEqual(len(kept.encode()), most)
            self.assertTrue(visible(text).startswith(kept))

    def test_lines(self) -> None:
        """No line of a narrator is longer, whatever is in it."""
        narrator = Narrator("alice", debug=True, longest=200)
        long = "\u202ex" * 5000
        for event in (
            NodeError(context=long, error=long),
            ConnectionFailed(target=EndpointTarget(long), reason=long),
            PeerRefused(id=long, name=long, host=long, reason=long),
            connected(peer("x" * 400, "10.0.0.7")),
            chat(BOB, long),
        ):
            line = narrator.line(event)
            assert line is not None
            self.assertLessEqual(
                len(line.encode()), 200 + len(" ... (1234567 more bytes)")
            )
            self.assertIn("more bytes)", line)


class TerminalTests(SynchronousTestCase):
    """A terminal shows the line, the whole line and nothing but the line."""

    def setUp(self) -> None:
        self.screen = pyte.Screen(1000, 24)
        self.stream = pyte.Stream(self.screen)
        self.narrator = Narrator("alice")

    def show(self, line: str | None) -> None:
        assert line is not None
        self.stream.feed(line + "\r\n")

    def attack(self, text: str) -> None:
        """Show the text as a message, as a name, as a reason."""
        self.show("[SYSTEM] first")
        self.narrator.line(connected(mallory := peer(text[:64] or "m")))
        self.show(self.narrator.line(chat(mallory, text)))
        self.show(self.narrator.line(ConnectionFailed(target=SEED, reason=text)))
        self.show(self.narrator.line(NodeError(context=text, error=text)))
        self.show("[SYSTEM] last")

    def check(self) -> None:
        lines = [line.rstrip() for line in self.screen.display]
        self.assertEqual(lines[0], "[SYSTEM] first")
        last = lines.index("[SYSTEM] last")
        self.assertEqual(self.screen.cursor.y, last + 1)
        self.assertEqual(self.screen.cursor.x, 0)
        self.assertEqual(self.screen.title, "")
        self.assertEqual(self.screen.icon_name, "")
        self.assertEqual([line for line in lines if "forged" in line[:8]], [])
        cells = [cell for row in self.screen.buffer.values() for cell in row.values()]
        self.assertEqual({(cell.fg, cell.bg) for cell in cells}, {("default",) * 2})

    def test_attacks(self) -> None:
        """Cursor, colours, title, screen, clipboard, line breaks."""
        for attack in (
            "\x1b[H\x1b[2Jforged",
            "\x1b[31;44mred",
            "\x1b]0;owned\x07",
            "\x1b]2;owned\x1b\\",
            "\x9b2J\x9b1;1Hforged",
            "\x9d0;owned\x9c",
            "\x1b]52;c;Zm9yZ2Vk\x07",
            "\r[00:00:00] forged",
            "\n[00:00:00] forged",
            "a\x0bforged\x0cforged\x85forged\u2028forged",
            "\x08" * 60 + "forged",
            "\x1bc\x1b(0\x0e",
            "\x1b[5A\rforged\x1bM\x1bM",
            "\x1b[?25l\x1b[?1049h\x1b[6n",
        ):
            self.setUp()
            self.attack(attack)
            self.check()


class GuardedTests(SynchronousTestCase):
    """A long message does not go on as a line of somebody else's."""

    COLUMNS = 40

    def rows(self, line: str) -> list[str]:
        screen = pyte.Screen(self.COLUMNS, 24)
        pyte.Stream(screen).feed(guarded(line, self.COLUMNS).replace("\n", "\r\n"))
        return [row.rstrip() for row in screen.display if row.strip()]

    def test_forgery(self) -> None:
        """No row but the first begins with a bracket."""
        for name in ("bob", "日本"):
            for fill in range(100):
                line = f"[00:00:00] [{name}] {'x' * fill}[00:00:01] [SYSTEM] bye"
                rows = self.rows(line)
                self.assertEqual([row for row in rows[1:] if row[0] == "["], [])
                self.assertEqual(
                    "".join(row.strip() for row in rows).replace(" ", ""),
                    line.replace(" ", ""),
                )

    def test_characters_of_no_width_and_of_any(self) -> None:
        for fill in ("\ufe00", "e\u0301", "é", "\u200d", "🙂", "日", "\u0e33", "ก"):
            for count in some(range(1, 60), 20):
                for pad in ("", "x"):
                    line = f"[bob] {pad}{fill * count}[00:00:01] [SYSTEM] bye"
                    rows = self.rows(visible(line))
                    self.assertEqual(
                        [row for row in rows[1:] if row[0] == "["], [], line
                    )

    def test_many_brackets(self) -> None:
        """Being set in is no way to the edge again."""
        rows = self.rows("[00:00:00] [bob] " + "[" * 200)
        self.assertEqual({row[0] for row in rows[1:]}, {" "})

    def test_harmless_lines(self) -> None:
        """Whatever cannot deceive is left as it is, to be copied in one piece."""
        for line in ("[bob] short", "[bob] " + "long " * 100, "", "x" * 40):
            self.assertEqual(guarded(line, self.COLUMNS), line)


class ReportTests(SynchronousTestCase):
    """What ``/peers`` shows."""

    def setUp(self) -> None:
        self.narrator = Narrator("alice")

    def report(self, peers: list[Peer], known: list[KnownAddress]) -> list[str]:
        return list(self.narrator.peers_report(peers, known, 20, 1000.0))

    def test_nobody(self) -> None:
        """An empty mesh says so."""
        self.assertEqual(self.report([], []), ["No connected peers"])

    def test_peers(self) -> None:
        """Columns stand below each other, whatever the names."""
        bob = replace(BOB, last_heard=997.0)
        nihon = replace(peer("日本", "10.0.0.9", None, id="jp"), last_heard=400.0)
        plain = replace(CHARLIE, name=CHARLIE.id, last_heard=1000.5)
        self.assertEqual(
            self.report([bob, nihon, plain], []),
            [
                "Connected peers (3/20):",
                "  bob        ID peer-8002  192.168.1.100:8002  "
                "dialled us     heard 3 s ago",
                "  日本       ID jp         10.0.0.9            "
                "dialled us     heard 10 min ago",
                "  peer-8003                localhost:8003      "
                "dialled by us  heard 0 s ago",
            ],
        )

    def test_no_column_of_ids_without_need(self) -> None:
        """Names that are IDs are shown once."""
        plain = replace(CHARLIE, name=CHARLIE.id, last_heard=1000.0)
        self.assertEqual(
            self.report([plain], [])[1],
            "  peer-8003  localhost:8003  dialled by us  heard 0 s ago",
        )

    def test_known_addresses(self) -> None:
        """Connected ones first, then those that are worth most."""
        self.assertEqual(
            self.report(
                [],
                [
                    known("10.0.0.5:8001"),
                    known("10.0.0.4:8001", failures=3),
                    known("10.0.0.3:8001", proven=True, failures=1),
                    known("localhost:8000", bootstrap=True, failures=12),
                    known("10.0.0.2:8001", linked=True, proven=True, bootstrap=True),
                ],
            ),
            [
                "No connected peers",
                "Known addresses (5):",
                "  10.0.0.2:8001   linked, bootstrap",
                "  localhost:8000  bootstrap, 12 failures",
                "  10.0.0.3:8001   reachable before, 1 failure",
                "  10.0.0.4:8001   told by peers, 3 failures",
                "  10.0.0.5:8001   told by peers",
            ],
        )

    def test_many_known_addresses(self) -> None:
        """Ten are shown; the rest is counted."""
        ten = [known(f"10.0.0.{last}:8001") for last in range(1, 11)]
        self.assertEqual(len(self.report([], ten)), 12)
        self.assertNotIn("more", self.report([], ten)[-1])
        more = [*ten, known("10.0.1.1:8001")]
        self.assertEqual(self.report([], more)[-1], "  ... and 1 more")
        self.assertEqual(len(self.report([], more)), 13)

    def test_hostile_peer(self) -> None:
        """A table is no way in either."""
        lines = self.report([peer("\x1b[2J\n[x]", id="a]b")], [])
        for line in lines:
            self.assertEqual(visible(line), line)
        self.assertEqual(len(lines), 2)
