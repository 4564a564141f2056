"""The grammar of ``mesh/2``: each frame to its value, each value to its frames."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import LocalProtocolError, RemoteProtocolError
from meshproto.wire import frames, mesh2, messages
from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import NoForm
from meshproto.wire.frames import MAX_CHUNK, MAX_FRAME, MAX_HEADER
from meshproto.wire.mesh2 import BATCH, MAX_FIELDS, MAX_TEXT, Mesh2, Mesh2Reader
from meshproto.wire.messages import (
    MAX_ADDRESSES,
    MAX_FEATURES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_NUMBER,
    MAX_RUN,
    Chat,
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
    Refusal,
    RefusalReason,
    Refused,
    RequestPeers,
    Welcome,
)
from tests.test_address import ADDRESSES
from tests.test_wire import HELLOS, LINES, NAMES

VERBS = frozenset(
    "HELLO WELCOME REFUSED READY PING PONG REQUEST_PEERS PEERS CHAT DATA PIECE "
    "ABORT".split()
)
NUMBERS = st.integers(0, MAX_NUMBER)
TOKENS = st.from_regex(r"[0-9A-Za-z._-]{1,64}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
FIELDS = st.dictionaries(TOKENS, TEXTS, max_size=4).map(lambda d: tuple(d.items()))
HEXADECIMAL = "0123456789abcdef"
MESH2_HELLOS = st.builds(
    lambda greeting, **rest: Hello(id=greeting.id, name=greeting.name, **rest),
    HELLOS,
    identity=st.text(HEXADECIMAL, min_size=32, max_size=64),
    incarnation=st.builds(
        Incarnation, NUMBERS, st.text(HEXADECIMAL, min_size=32, max_size=32)
    ),
    link=NUMBERS,
    ended=st.none() | NUMBERS,
    mesh=st.just("") | NAMES,
    addresses=st.lists(ADDRESSES, max_size=5).map(tuple),
    features=st.frozensets(TOKENS, max_size=4),
    max_payload=NUMBERS,
    headers=FIELDS,
)
SINGLE: st.SearchStrategy[Message] = st.one_of(
    MESH2_HELLOS,
    st.just(Welcome()),
    st.just(Ready()),
    st.builds(Refused, st.sampled_from(RefusalReason)),
    st.builds(Ping, st.just("") | TOKENS),
    st.builds(Pong, st.just("") | TOKENS),
    st.just(RequestPeers()),
    st.builds(PeerList, st.lists(ADDRESSES, max_size=5).map(tuple)),
    st.builds(Chat, LINES),
    st.builds(Data, st.binary(max_size=80), FIELDS),
)
MESSAGES = SINGLE | st.builds(Chats, st.lists(LINES, min_size=1, max_size=5).map(tuple))
#: Frames of verbs that there are not, and what else is ignored.
UNKNOWN = st.builds(
    lambda verb, arguments, payload: frames.frame(verb, *arguments, payload=payload),
    st.from_regex(r"[A-Z][A-Z0-9_]{0,31}", fullmatch=True).filter(
        lambda verb: verb not in VERBS
    ),
    st.lists(st.from_regex(r"[!-*,-~][!-~]{0,9}", fullmatch=True), max_size=3),
    st.binary(max_size=80),
) | st.sampled_from(
    [
        b"PIECE 77 +3\nabc",
        b"PIECE 77\n",
        b"ABORT 77\n",
    ]
)
#: Bytes that are nearly frames.
NEARLY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(f"{verb} ".encode() for verb in sorted(VERBS)),
                b"NEW ",
                b"+5",
                b"+0",
                b" ",
                b"\n",
                b"\r\n",
                b"\x00",
                b"\xff",
                b"0 ",
                b"1 ",
                b"5 ",
                b"9 2 ",
                b"hello",
                b"a: b\n",
                b"id: x\n",
                b"\\",
                b"10.0.0.1:8001\n",
            ]
        ),
        st.binary(max_size=5),
        MESSAGES.map(Mesh2().encode),
        UNKNOWN,
    ),
    max_size=12,
).map(b"".join)

HELLO = Hello(
    identity="0123456789abcdef" * 2,
    incarnation=Incarnation(7, "f" * 32),
    link=3,
    id="peer-8001",
    name="alice",
)
HELLO_FIELDS = (
    b"identity: 0123456789abcdef0123456789abcdef\n"
    b"incarnation: 7 ffffffffffffffffffffffffffffffff\n"
    b"link: 3\n"
    b"id: peer-8001\n"
    b"name: alice\n"
    b"max_payload: 1048576\n"
)


def addresses(*texts: str) -> tuple[PeerAddress, ...]:
    return tuple(PeerAddress.parse(text) for text in texts)


def singly(heard: list[Message]) -> list[Message]:
    """The messages, with every chat by itself."""
    return [
        single
        for message in heard
        for single in (
            map(Chat, message.texts) if isinstance(message, Chats) else (message,)
        )
    ]


def all_of(reader: Mesh2Reader, data: bytes) -> list[Message]:
    """What a reader says to data, in as many turns as it takes."""
    heard = reader.feed(data)
    while reader.waiting:
        heard += reader.feed(b"")
    return heard


def established(codec: Mesh2) -> Mesh2Reader:
    """What reads a link whose handshake is over."""
    reader = codec.reader()
    reader.established()
    return reader


def outcome(*pieces: bytes, reader: Mesh2Reader | None = None) -> list[object]:
    """What a link says, its chat singly, and its error at the end if it has one."""
    reader = reader or established(Mesh2())
    heard: list[object] = []
    try:
        for piece in pieces:
            heard += singly(reader.feed(piece))
            while reader.waiting:
                heard += singly(reader.feed(b""))
            if reader.held >= MAX_FRAME + reader.max_payload:
                raise AssertionError(f"{reader.held} bytes are kept")
    except RemoteProtocolError as error:
        heard.append(str(error))
        if reader.held or reader.waiting:
            raise AssertionError("a reader that has failed keeps something") from None
    return heard


def cut(stream: bytes, points: list[int]) -> list[bytes]:
    ends = sorted({point % (len(stream) + 1) for point in points}) + [len(stream)]
    return [stream[a:b] for a, b in zip([0, *ends], ends, strict=False)]


class Mesh2TestCase(SynchronousTestCase):
    """A codec with the standard limits."""

    codec = Mesh2()

    def heard(self, stream: bytes) -> list[Message]:
        """What a whole stream says; nothing is left of it."""
        reader = established(self.codec)
        heard = all_of(reader, stream)
        self.assertEqual(reader.held, 0)
        return heard

    def read(self, stream: bytes) -> Message:
        """What a stream says that says one thing."""
        (message,) = singly(self.heard(stream))
        return message

    def refuses(self, stream: bytes, reason: str, after: int = 0) -> str:
        """A stream ends its link, after so many messages; and for good."""
        reader = established(self.codec)
        heard: list[Message] = []
        with self.assertRaises(RemoteProtocolError) as raised:
            heard += reader.feed(stream)
            heard += reader.feed(b"")
        self.assertEqual(len(heard), after)
        text = str(raised.exception)
        self.assertIn(reason, text)
        self.assertTrue(text.isascii() and text.isprintable(), text)
        self.assertLess(len(text), 300)
        with self.assertRaises(RemoteProtocolError) as again:
            reader.feed(b"PING\n")
        self.assertEqual(str(again.exception), text)
        self.assertFalse(reader.waiting)
        self.assertEqual(reader.held, 0)
        return text


class LimitTests(SynchronousTestCase):
    """The numbers of the protocol."""

    def test_numbers(self) -> None:
        self.assertEqual((MAX_HEADER, MAX_FRAME, MAX_CHUNK), (1024, 65_536, 64_512))
        self.assertEqual((MAX_TEXT, MAX_RUN), (64_511, 512))
        self.assertEqual(messages.MAX_PAYLOAD, 1_048_576)
        self.assertEqual((MAX_HEADERS, MAX_HEADER_BYTES, MAX_FIELDS), (64, 4096, 16384))
        self.assertEqual((MAX_FEATURES, MAX_ADDRESSES), (64, 100))
        self.assertEqual(BATCH, 2048)

    def test_the_largest_hello_is_a_frame(self) -> None:
        label = "x" * 63
        host = ".".join([label, label, label, "x" * 61])
        self.assertEqual(len(host), 253)
        hello = Hello(
            identity="f" * 64,
            incarnation=Incarnation(MAX_NUMBER, "f" * 32),
            link=MAX_NUMBER,
            ended=MAX_NUMBER,
            id="x" * 64,
            name="\N{GRINNING FACE}" * 64,
            mesh="\N{GRINNING FACE}" * 64,
            addresses=tuple(PeerAddress(host, 65535 - i) for i in range(100)),
            features=frozenset(f"{i:064}" for i in range(64)),
            max_payload=MAX_NUMBER,
            headers=tuple((f"{i:02}", "\\" * 62) for i in range(64)),
        )
        codec = Mesh2()
        self.assertEqual(codec.reader().feed(codec.encode(hello)), [hello])

    def test_the_largest_headers_are_read(self) -> None:
        fields = [("x" * 64, "\n" * (MAX_HEADER_BYTES - 64))]
        self.assertLess(len(frames.encode_fields(fields)), MAX_FIELDS)
        fields = [(f"{i:02}", "\n" * 62) for i in range(64)]
        self.assertLess(len(frames.encode_fields(fields)), MAX_FIELDS)


class WordTests(Mesh2TestCase):
    """What is said by a header alone."""

    def test_forms(self) -> None:
        forms: list[tuple[Message, bytes]] = [
            (Ping(), b"PING\n"),
            (Ping("17.5"), b"PING 17.5\n"),
            (Pong(), b"PONG\n"),
            (Pong("x-1_2"), b"PONG x-1_2\n"),
            (RequestPeers(), b"REQUEST_PEERS\n"),
            (Welcome(), b"WELCOME\n"),
            (Ready(), b"READY\n"),
            *(
                (Refused(reason), f"REFUSED {reason.value}\n".encode())
                for reason in RefusalReason
            ),
        ]
        for message, frame in forms:
            self.assertEqual(self.codec.encode(message), frame)
            self.assertEqual(self.heard(frame), [message])

    def test_tokens(self) -> None:
        for token in ("x" * 64, "0", "a.b_c-D"):
            self.assertEqual(self.read(f"PING {token}\n".encode()), Ping(token))
        for token in ("x" * 65, "a:b", "~", "a+"):
            self.assertRaises(ValueError, Ping, token)
            self.assertRaises(ValueError, Pong, token)
            self.refuses(f"PING {token}\n".encode(), "PING: a token is 1 to 64")
            self.refuses(f"PONG {token}\n".encode(), "PONG: a token is 1 to 64")
        for token in ("é", "a b", "a\n", " "):
            self.assertRaises(ValueError, Ping, token)

    def test_a_greeting_has_no_form(self) -> None:
        for message in (Greeting("bob", "Bob"), *Refusal):
            self.assertRaises(NoForm, self.codec.encode, message)

    def test_a_refusal_has_a_reason(self) -> None:
        self.refuses(b"REFUSED\n", "REFUSED: no reason")


class HelloTests(Mesh2TestCase):
    """Who a node is."""

    def sent(self, hello: Hello) -> bytes:
        header, _, payload = self.codec.encode(hello).partition(b"\n")
        self.assertEqual(header, b"HELLO +%d" % len(payload))
        return payload

    def told(self, fields: bytes) -> Message:
        return self.read(b"HELLO +%d\n" % len(fields) + fields)

    def test_the_least(self) -> None:
        self.assertEqual(self.sent(HELLO), HELLO_FIELDS)
        self.assertEqual(self.told(HELLO_FIELDS), HELLO)

    def test_everything(self) -> None:
        hello = replace(
            HELLO,
            ended=2,
            name="Zoë",
            mesh="Kitchen 2",
            addresses=addresses("192.0.2.1:8001", "[2001:db8::1]:8001"),
            features=frozenset({"topics", "receipts"}),
            max_payload=4096,
            headers=(("version", "1.2"), ("note", "a\\b\r\nc")),
        )
        fields = (
            "identity: 0123456789abcdef0123456789abcdef\n"
            "incarnation: 7 ffffffffffffffffffffffffffffffff\n"
            "link: 3\n"
            "ended: 2\n"
            "id: peer-8001\n"
            "name: Zoë\n"
            "mesh: Kitchen 2\n"
            "addresses: 192.0.2.1:8001 [2001:db8::1]:8001\n"
            "features: receipts topics\n"
            "max_payload: 4096\n"
            "header.version: 1.2\n"
            "header.note: a\\\\b\\r\\nc\n"
        ).encode()
        self.assertEqual(self.sent(hello), fields)
        self.assertEqual(self.told(fields), hello)

    def test_any_order(self) -> None:
        lines = HELLO_FIELDS.splitlines(keepends=True)
        self.assertEqual(self.told(b"".join(reversed(lines))), HELLO)

    def test_what_is_missing(self) -> None:
        lines = HELLO_FIELDS.splitlines(keepends=True)
        for line in lines:
            key = line.partition(b":")[0].decode()
            rest = b"".join(each for each in lines if each is not line)
            self.refuses(b"HELLO +%d\n" % len(rest) + rest, f"HELLO: no {key}")
        self.refuses(b"HELLO\n", "HELLO: no incarnation")

    def test_what_is_wrong(self) -> None:
        for line, fault in (
            (b"identity: " + b"0" * 31, "an identity is 32 to 64"),
            (b"identity: " + b"0" * 65, "an identity is 32 to 64"),
            (b"identity: " + b"F" * 32, "an identity is 32 to 64"),
            (b"identity: " + b"0" * 32 + b"\\n", "an identity is 32 to 64"),
            (b"incarnation: 7", "a nonce is 32"),
            (b"incarnation: 7 " + b"f" * 31, "a nonce is 32"),
            (b"incarnation: 7 " + b"f" * 33, "a nonce is 32"),
            (b"incarnation: -1 " + b"f" * 32, "no number"),
            (b"incarnation: 07 " + b"f" * 32, "no number"),
            (b"link: ", "no number"),
            (b"link: x", "no number"),
            (b"link: 1 2", "no number"),
            ("link: ١".encode(), "no number"),
            (b"link: 9223372036854775808", "from 0 to 9223372036854775807"),
            (b"link: 10000000000000000000", "no number"),
            (b"ended: ", "no number"),
            (b"ended: 9223372036854775808", "from 0 to"),
            (b"id: a b", "an ID is 1 to 64"),
            (b"id: ", "an ID is 1 to 64"),
            (b"id: PING", "a word of the protocol"),
            (b"name: ", "a name is 1 to 64"),
            (b"name: \x1b", "a name is 1 to 64"),
            (b"name: \\n", "a name is 1 to 64"),
            (b"name:  x", "neither begins nor ends"),
            (b"mesh: \x1b", "a name is 1 to 64"),
            (b"features: a:b", "a feature is 1 to 64"),
            (b"features: a  b", "a feature is 1 to 64"),
            (b"features: " + b"x" * 65, "a feature is 1 to 64"),
            (b"features: " + b" ".join(b"%d" % i for i in range(65)), "at most 64"),
            (b"max_payload: 1e6", "no number"),
            (b"max_payload: 9223372036854775808", "from 0 to"),
            (b"header.: x", "the key of a header"),
            (b"header.a:b: x", "no field"),
            (b"header." + b"x" * 65 + b": x", "the key of a header"),
            (b"header.x: " + b"y" * 4096, "headers of 4097 bytes are more than 4096"),
        ):
            key = line.partition(b":")[0]
            lines = HELLO_FIELDS.splitlines(keepends=True)
            fields = b"".join(each for each in lines if not each.startswith(key + b":"))
            fields += line + b"\n"
            self.refuses(b"PING\nHELLO +%d\n" % len(fields) + fields, fault, 1)

    def test_what_is_no_field(self) -> None:
        for line, fault in (
            (b"\n", "no field"),
            (b"x\n", "no field"),
            (b"x:\n", "no field"),
            (b"x:y\n", "no field"),
            (b": y\n", "no field"),
            (b"x y: z\n", "no field"),
            ("é: z\n".encode(), "no field"),
            (b"x" * 81 + b": z\n", "no field"),
            (b"name: bob\n", "twice"),
            (b"x: 1\nx: 2\n", "twice"),
            (b"x: y", "the last line has no end"),
            (b"x: y\r\n", "a CR"),
            (b"x: \xff\n", "not UTF-8"),
            (b"x: \\\n", "no such escape"),
            (b"x: \\t\n", "no such escape"),
            (b"x: \\N\n", "no such escape"),
            (b"x: \\x41\n", "no such escape"),
        ):
            fields = HELLO_FIELDS + line
            self.refuses(b"HELLO +%d\n" % len(fields) + fields, f"HELLO: {fault}")
        self.assertEqual(self.told(HELLO_FIELDS + b"x" * 80 + b": z\n"), HELLO)

    def test_addresses_that_are_none_are_skipped(self) -> None:
        for text, told in (
            (b"", ()),
            (b"x", ()),
            (b"a:1 ? b:2", addresses("a:1", "b:2")),
            (b" a:1  b:2 ", addresses("a:1", "b:2")),
            ("a:1\u2003b:2".encode(), ()),
        ):
            hello = self.told(HELLO_FIELDS + b"addresses: " + text + b"\n")
            self.assertEqual(hello, replace(HELLO, addresses=told))

    def test_number_of_addresses(self) -> None:
        hundred = [f"10.0.0.1:{port}" for port in range(1, 101)]
        for more in ([], ["b:2"]):
            text = " ".join([*hundred, *more]).encode()
            hello = self.told(HELLO_FIELDS + b"addresses: " + text + b"\n")
            self.assertEqual(hello, replace(HELLO, addresses=addresses(*hundred)))
        told = addresses(*hundred, "b:2")
        self.assertRaises(ValueError, replace, HELLO, addresses=told)

    def test_no_bad_value_exists(self) -> None:
        for change in (
            {"identity": ""},
            {"identity": "g" * 32},
            {"link": -1},
            {"link": MAX_NUMBER + 1},
            {"ended": -1},
            {"id": "a b"},
            {"name": ""},
            {"mesh": " x"},
            {"features": frozenset({""})},
            {"features": frozenset(map(str, range(65)))},
            {"max_payload": -1},
            {"headers": (("a", "b"), ("a", "c"))},
        ):
            self.assertRaises(ValueError, replace, HELLO, **change)
        for counter, nonce in ((-1, "f" * 32), (MAX_NUMBER + 1, "f" * 32), (1, "")):
            self.assertRaises(ValueError, Incarnation, counter, nonce)
        self.assertEqual(replace(HELLO, link=MAX_NUMBER, max_payload=0).link, 2**63 - 1)


class PeersTests(Mesh2TestCase):
    """Lists of addresses."""

    def told(self, entries: bytes) -> Message:
        return self.read(b"PEERS +%d\n" % len(entries) + entries)

    def test_in_their_order(self) -> None:
        told = PeerList(addresses("10.0.0.2:8001", "[2001:db8::1]:8002", "a:1"))
        frame = b"PEERS +37\n10.0.0.2:8001\n[2001:db8::1]:8002\na:1\n"
        self.assertEqual(self.codec.encode(told), frame)
        self.assertEqual(self.read(frame), told)

    def test_empty(self) -> None:
        self.assertEqual(self.codec.encode(PeerList(())), b"PEERS\n")
        for frame in (b"PEERS\n", b"PEERS +0\n"):
            self.assertEqual(self.read(frame), PeerList(()))

    def test_bad_entries_are_skipped_and_counted(self) -> None:
        for entry in (
            b"",
            b"c",
            b"c:0",
            b"\xff:1",
            b"::1:1",
            b" c:1",
            b"c:1\r",
            b"c d",
        ):
            self.assertEqual(
                self.told(b"a:1\n" + entry + b"\nb:2\n"),
                PeerList(addresses("a:1", "b:2"), skipped=1),
                entry,
            )

    def test_number_of_addresses(self) -> None:
        hundred = [f"10.0.0.1:{port}" for port in range(1, 101)]
        text = "".join(f"{entry}\n" for entry in hundred).encode()
        self.assertEqual(self.told(text), PeerList(addresses(*hundred)))
        self.assertEqual(
            self.told(text + b"b:2\n?\n"), PeerList(addresses(*hundred), skipped=2)
        )

    def test_another_limit(self) -> None:
        reader = Mesh2(max_addresses=1).reader()
        told = reader.feed(b"PEERS +8\na:1\nb:2\n")
        self.assertEqual(told, [PeerList(addresses("a:1"), skipped=1)])

    def test_the_last_line_has_an_end(self) -> None:
        self.refuses(b"PEERS +3\na:1", "PEERS: the last line has no end")

    def test_no_more_than_a_frame(self) -> None:
        told = PeerList(addresses("10.0.0.1:10000") * 5000)
        error = self.assertRaises(LocalProtocolError, self.codec.encode, told)
        self.assertIn("PEERS has at most 64512 bytes, this one has 75000", str(error))


class ChatTests(Mesh2TestCase):
    """Texts of one line, alone and in runs."""

    def cannot_send(self, text: str, reason: str) -> None:
        for message in (Chat(text), Chats(("a", text))):
            error = self.assertRaises(LocalProtocolError, self.codec.encode, message)
            self.assertIn(reason, str(error))

    def test_forms(self) -> None:
        self.assertEqual(self.codec.encode(Chat("hello")), b"CHAT +6\nhello\n")
        self.assertEqual(self.codec.encode(Chat("é")), b"CHAT +3\n\xc3\xa9\n")
        self.assertEqual(
            self.codec.encode(Chats(("a", "PING", " b "))), b"CHAT +11\na\nPING\n b \n"
        )
        self.assertEqual(self.codec.encode(Chats(())), b"")

    def test_nothing_looks_like_a_command(self) -> None:
        for text in ("PING", "PEERS:a:1", "\u2060PING", "CHAT +5", " ", "\x00", "a\vb"):
            self.assertEqual(
                self.codec.encode(Chat(text))[-1 - len(text.encode()) :],
                text.encode() + b"\n",
            )
            self.assertEqual(self.read(self.codec.encode(Chat(text))), Chat(text))

    def test_what_cannot_be_sent(self) -> None:
        self.cannot_send("", "cannot be empty")
        for text in ("\n", "a\nb", "a\r", "\r\n"):
            self.cannot_send(text, "no line breaks")
        self.cannot_send("\ud800", "no lone surrogates")
        self.cannot_send("x" * 64_512, "at most 64511 bytes, this one has 64512")
        self.cannot_send("é" * 32_256, "at most 64511 bytes, this one has 64512")

    def test_the_longest_text(self) -> None:
        for text in ("x" * 64_511, "é" * 32_255 + "x"):
            frame = self.codec.encode(Chat(text))
            self.assertTrue(frame.startswith(b"CHAT +64512\n"))
            self.assertEqual(self.read(frame), Chat(text))

    def test_what_is_no_run(self) -> None:
        for payload, fault in (
            (b"", "the last text has no end"),
            (b"a", "the last text has no end"),
            (b"a\nb", "the last text has no end"),
            (b"\n", "an empty text"),
            (b"a\n\n", "an empty text"),
            (b"\na\n", "an empty text"),
            (b"a\n\nb\n", "an empty text"),
            (b"a\r\n", "a CR"),
            (b"a\rb\n", "a CR"),
            (b"caf\xe9\n", "not UTF-8"),
            (b"\xc3\n\xa9\n", "not UTF-8"),
            (b"\xed\xa0\x80\n", "not UTF-8"),
            (b"x\n" * 513, "more than 512 texts"),
            (b"\xc3", "the last text has no end"),
        ):
            self.refuses(
                b"PING\nCHAT +%d\n" % len(payload) + payload, f"CHAT: {fault}", 1
            )

    def test_the_longest_run(self) -> None:
        for count, sizes in ((512, [512]), (513, [512, 1]), (1100, [512, 512, 76])):
            texts = tuple(map(str, range(count)))
            stream = self.codec.encode(Chats(texts))
            self.assertEqual(stream.count(b"CHAT +"), len(sizes))
            heard = self.heard(stream)
            self.assertEqual(
                [len(m.texts) for m in heard if isinstance(m, Chats)], sizes
            )
            self.assertEqual(singly(heard), [*map(Chat, texts)])

    def test_runs_fill_frames(self) -> None:
        line = self.codec.encode_chat("x" * 32_255)
        self.assertEqual(self.codec.block_of([line] * 2), b"CHAT +64512\n" + line * 2)
        frame = b"CHAT +32256\n" + line
        longer = self.codec.encode_chat("x" * 32_256)
        self.assertEqual(
            self.codec.block_of([line, longer, line]),
            frame + b"CHAT +32257\n" + longer + frame,
        )
        self.assertEqual(self.codec.block_of([]), b"")

    def test_runs_that_arrive_together_are_one(self) -> None:
        self.assertEqual(
            self.heard(b"CHAT +2\na\nCHAT +4\nb\nc\nNEW +1\nxPING\nCHAT +2\nd\n"),
            [Chats(("a", "b", "c")), Ping(), Chats(("d",))],
        )

    @given(st.lists(LINES.map(lambda text: text * 40), max_size=40))
    def test_round_trip_of_runs(self, texts: list[str]) -> None:
        stream = self.codec.block_of([*map(self.codec.encode_chat, texts)])
        self.assertEqual(singly(self.heard(stream)), [*map(Chat, texts)])

    @given(st.text(st.characters()))
    def test_sent_as_one_line_or_refused(self, text: str) -> None:
        try:
            frame = self.codec.encode(Chat(text))
        except LocalProtocolError:
            return
        self.assertEqual(self.read(frame), Chat(text))


class ModuleTests(SynchronousTestCase):
    """What the modules say of themselves."""

    def test_the_head_names_every_verb(self) -> None:
        text = mesh2.__doc__ or ""
        self.assertLessEqual(VERBS, set(re.findall(r"[A-Z_]{4,}", text)))
