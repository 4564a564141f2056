"""What ``docs/mesh2.md`` says is what the codec does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshproto.wire import frames, mesh2, messages
from meshproto.wire.address import PeerAddress
from meshproto.wire.greeting import decode_greeting, encode_greeting
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import (
    Chats,
    Data,
    Greeting,
    Hello,
    Incarnation,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    RefusalReason,
    RequestPeers,
    Welcome,
)
from tests.test_mesh2 import VERBS, all_of, established

PAGE = Path(__file__).resolve().parent.parent / "docs" / "mesh2.md"
TRANSCRIPT = re.compile(
    r"^<!-- transcript of frames -->\n```text\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def addresses(*texts: str) -> tuple[PeerAddress, ...]:
    return tuple(map(PeerAddress.parse, texts))


#: What the dialler says after its greeting, and the listener after its own.
SAID: dict[str, list[Message]] = {
    ">": [
        Hello(
            identity="a1b2c3d4e5f60718293a4b5c6d7e8f90",
            incarnation=Incarnation(1, "ffeeddccbbaa99887766554433221100"),
            link=3,
            ended=11,
            id="peer-8002",
            name="bob",
            mesh="kitchen",
            addresses=addresses("192.0.2.2:8002", "[2001:db8::2]:8002"),
            features=frozenset({"receipts", "topics"}),
            max_payload=65536,
            headers=(("version", "1.2"), ("note", "two\nlines")),
        ),
        Ready(),
        RequestPeers(),
        PeerList(addresses("192.0.2.2:8002")),
        Chats(("Hello network!",)),
        Pong("17.25"),
        Data(b"line\nline", (("type", "text\n"),)),
        Pong(),
    ],
    "<": [
        Hello(
            identity="5f0c3a9e4b7d21865f0c3a9e4b7d2186",
            incarnation=Incarnation(4, "00112233445566778899aabbccddeeff"),
            link=12,
            id="peer-8001",
            name="alice",
        ),
        Welcome(),
        PeerList(addresses("192.0.2.1:8001", "192.0.2.3:8003")),
        Chats(("PING", "Zoë", "hi")),
        Ping("17.25"),
        Ping(),
        Data(b"hello, world"),
        PeerList(()),
    ],
}


class TranscriptTests(SynchronousTestCase):
    """The example, byte for byte."""

    def lines(self, arrow: str) -> list[bytes]:
        """What one side sends, frame by frame."""
        transcript = TRANSCRIPT.search(PAGE.read_text("utf-8"))
        assert transcript is not None
        lines = [line.partition(" ") for line in transcript["body"].splitlines()]
        self.assertEqual({line[0] for line in lines}, set(SAID))
        return [ast.literal_eval(line[2]) for line in lines if line[0] == arrow]

    def test_greetings(self) -> None:
        for arrow, who in (
            (">", Greeting("peer-8002", "bob", mesh2=True)),
            ("<", Greeting("peer-8001", "alice", mesh2=True)),
        ):
            line = self.lines(arrow)[0]
            self.assertEqual(decode_greeting(line[:-1]), who)
            self.assertEqual(encode_greeting(who), line)

    def test_what_is_heard(self) -> None:
        for arrow, said in SAID.items():
            reader = established(Mesh2())
            stream = b"".join(self.lines(arrow)[1:])
            self.assertEqual(all_of(reader, stream), said)
            self.assertEqual(reader.held, 0)

    def test_what_is_sent(self) -> None:
        """Every frame is what we send, but for numbers and pieces."""
        for arrow, said in SAID.items():
            lines = self.lines(arrow)[1:]
            sent = {Mesh2().encode(each) for each in said if not isinstance(each, Data)}
            self.assertEqual(
                [line for line in lines if line not in sent],
                {
                    ">": [b"".join(Mesh2().pieces(self.data(arrow), 1))],
                    "<": [
                        b"DATA 7 12 0 +5\nhello",
                        b"PIECE 7 +7\n, world",
                        b"DATA 8 900 0 +4\n\0\1\2\3",
                        b"ABORT 8\n",
                        b"SOMETHING new +9\nPING\nPING",
                    ],
                }[arrow],
            )
            self.assertLessEqual(sent, set(lines))

    def data(self, arrow: str) -> Data:
        (message,) = [each for each in SAID[arrow] if isinstance(each, Data)]
        return message


class PageTests(SynchronousTestCase):
    """The tables of the page."""

    def setUp(self) -> None:
        self.text = PAGE.read_text("utf-8")

    def test_every_verb_has_its_line(self) -> None:
        section = self.text.partition("\n## Verbs\n")[2]
        table = re.findall(r"^\| `([A-Z_]+)[^`]*` \|", section, re.MULTILINE)
        self.assertEqual(set(table), VERBS)
        grammar = re.findall(r'%s"([A-Z_]+)"', self.text)
        self.assertEqual(set(grammar), VERBS)

    def test_every_reason_is_named(self) -> None:
        for reason in RefusalReason:
            self.assertIn(f"`{reason.value}`", self.text)

    def test_limits(self) -> None:
        for what, number in (
            ("a header, its line feed included", frames.MAX_HEADER),
            ("a payload", frames.MAX_CHUNK),
            ("a frame, so", frames.MAX_FRAME),
            ("a chat message", mesh2.MAX_TEXT),
            ("the headers of a message as they are written", mesh2.MAX_FIELDS),
            ("chat messages in one frame", messages.MAX_RUN),
            ("headers of a message, and of `HELLO`", messages.MAX_HEADERS),
            ("features in `HELLO`", messages.MAX_FEATURES),
            ("addresses in one `HELLO` or `PEERS`", messages.MAX_ADDRESSES),
        ):
            shown = f"{number:,}".replace(",", " ")
            self.assertRegex(self.text, rf"\| {re.escape(what)} \| {shown}\b")
        for number in (messages.MAX_HEADER_BYTES, messages.MAX_PAYLOAD):
            self.assertIn(f"{number:,}".replace(",", " "), self.text)
