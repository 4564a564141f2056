"""The grammar of ``mesh/1``: each line to its value, each value to its line."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args

from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.errors import LocalProtocolError, RemoteProtocolError
from meshproto.wire import greeting, mesh1, messages
from meshproto.wire.address import PeerAddress
from meshproto.wire.errors import LineTooLong, NoForm
from meshproto.wire.greeting import decode_answer, decode_greeting
from meshproto.wire.interfaces import IReader, IWire
from meshproto.wire.mesh1 import MAX_LINES, PIECE, Mesh1, Mesh1Reader, next_lines
from meshproto.wire.messages import (
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
    check_id,
    check_name,
)
from tests.test_address import ADDRESSES

WJ = "\u2060"
RESERVED = (
    "PING",
    "PONG",
    "REQUEST_PEERS",
    "PEERS",
    "BYTES",
    "DUPLICATE",
    "MAX_PEERS",
)
COMMANDS = ("PING", "PONG", "REQUEST_PEERS", "PEERS:", "PEERS:a:1", "BYTES:", "BYTES:3")
#: What the original trims from a line before it looks at it.
GO_SPACES = (
    "\t\v\f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)

IDS = st.text(st.characters(codec="ascii", exclude_characters=": "), max_size=66)
#: Any text of one line that UTF-8 can hold.
LINES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=200
)
COMMAND_LIKE = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", WJ, WJ + WJ, " ", "\t", "\xa0", "\u3000", "x"]),
        st.sampled_from(COMMANDS),
        st.sampled_from(["", " ", WJ, "\v", "x", ":"]),
    ),
)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z")),
    min_size=1,
    max_size=64,
).filter(str.isprintable)
HELLOS = st.builds(
    Greeting,
    st.from_regex(r"[!-9;-~]{1,64}", fullmatch=True).filter(
        lambda id: id not in RESERVED
    ),
    NAMES,
)


def addresses(*texts: str) -> tuple[PeerAddress, ...]:
    return tuple(PeerAddress.parse(text) for text in texts)


class WireTestCase(SynchronousTestCase):
    """A codec with the standard limits."""

    codec = Mesh1()

    def sent(self, message: Message) -> bytes:
        """The line of a message, as it is when its line end has been taken off."""
        line = self.codec.encode(message)
        self.assertEqual(line[-1:], b"\n")
        self.assertNotIn(b"\n", line[:-1])
        self.assertNotIn(b"\r", line)
        return line[:-1]

    def read(self, line: bytes, codec: Mesh1 | None = None) -> Message:
        """What a line says that says one thing."""
        (message,) = singly(heard_in(line, codec))
        return message


class LimitTests(SynchronousTestCase):
    """The numbers of the protocol."""

    def test_numbers(self) -> None:
        self.assertEqual(mesh1.MAX_LINE, 16_384)
        self.assertEqual(greeting.MAX_HANDSHAKE_LINE, 512)
        self.assertEqual((messages.MAX_ID, messages.MAX_NAME), (64, 64))
        self.assertEqual(messages.MAX_ADDRESSES, 100)
        self.assertEqual(greeting.DELIMITER, b"\n")
        self.assertEqual(mesh1.WORD_JOINER, WJ)

    def test_the_longest_hello_is_a_handshake_line(self) -> None:
        longest = Mesh1().encode(Greeting("i" * 64, "\N{GRINNING FACE}" * 64))
        # A node that speaks mesh/2 as well says one tab more.
        self.assertEqual(len(longest.rstrip(b"\n")) + 1, greeting.MAX_GREETING)
        self.assertLessEqual(greeting.MAX_GREETING, greeting.MAX_HANDSHAKE_LINE)

    def test_messages_are_frozen_values(self) -> None:
        for kind in get_args(Message):
            if isinstance(kind, type) and is_dataclass(kind):
                for field in fields(kind):
                    with self.assertRaises(FrozenInstanceError):
                        setattr(object.__new__(kind), field.name, None)
        self.assertEqual(Chat("a"), Chat("a"))
        self.assertEqual(Ping(), Ping())
        self.assertNotEqual(Ping(), Pong())


class HelloTests(SynchronousTestCase):
    """Which IDs and names there are."""

    def test_ids(self) -> None:
        for id in ("a", "!", "~", "9", ";", "peer-8001", "x" * 64, "ping", "PINGS"):
            check_id(id)
            self.assertEqual(Greeting(id, "n").id, id)

    def test_bad_ids(self) -> None:
        for id in (
            "",
            "x" * 65,
            "a b",
            " a",
            "a ",
            "a:b",
            ":",
            "a\n",
            "\x00",
            "\x1f",
            "\x7f",
            "é",
            "\u2060a",
        ):
            error = self.assertRaises(ValueError, check_id, id)
            self.assertIn("1 to 64 printable ASCII", str(error))
            self.assertRaises(ValueError, Greeting, id, "n")

    def test_words_of_the_protocol_are_no_ids(self) -> None:
        for word in RESERVED:
            error = self.assertRaises(ValueError, check_id, word)
            self.assertIn(f"{word} is a word of the protocol", str(error))
            self.assertRaises(ValueError, Greeting, word, "n")
            check_id(word.lower())
            check_id(word + "-1")
            check_name(word)

    def test_names(self) -> None:
        for name in (
            "a",
            "x" * 64,
            "\N{GRINNING FACE}" * 64,
            "Ann Lee",
            "a:b",
            "Zoë",
            "太郎",
        ):
            check_name(name)
            self.assertEqual(Greeting("i", name).name, name)

    def test_bad_names(self) -> None:
        for name in (
            "",
            "x" * 65,
            " a",
            "a ",
            " ",
            "a\tb",
            "a\nb",
            "\x1b[31m",
            "\x7f",
            "\x9b",
            "\u202e",
            "\u2066",
            "\u2028",
            "\u200b",
            WJ,
            "\ud800",
        ):
            self.assertRaises(ValueError, check_name, name)
            self.assertRaises(ValueError, Greeting, "i", name)


class GreetingTests(WireTestCase):
    """A dialler's first line."""

    def refuses(self, line: bytes, reason: str) -> None:
        for decode in (decode_greeting, decode_answer):
            error = self.assertRaises(RemoteProtocolError, decode, line)
            self.assertIn(reason, str(error))

    def test_id_and_name(self) -> None:
        for line, id, name in (
            (b"bob:Bob", "bob", "Bob"),
            (b"bob:Bob Ross", "bob", "Bob Ross"),
            (b"bob:a:b:c", "bob", "a:b:c"),
            (b"bob::", "bob", ":"),
            ("bob:Zoë".encode(), "bob", "Zoë"),
            (b"bob:PING", "bob", "PING"),
        ):
            self.assertEqual(decode_greeting(line), Greeting(id, name))

    def test_without_a_name_the_id_is_the_name(self) -> None:
        for line in (b"bob", b"bob:", b"bob: ", b"bob:   "):
            self.assertEqual(decode_greeting(line), Greeting("bob", "bob"))

    def test_spaces_round_a_name_are_no_part_of_it(self) -> None:
        self.assertEqual(
            decode_greeting(b"bob:  Bob Ross "), Greeting("bob", "Bob Ross")
        )
        padded = b"bob: " + b"x" * 64 + b" "
        self.assertEqual(decode_greeting(padded), Greeting("bob", "x" * 64))

    def test_lengths(self) -> None:
        self.assertEqual(
            decode_greeting(b"i" * 64 + b":" + b"n" * 64),
            Greeting("i" * 64, "n" * 64),
        )
        self.refuses(b"i" * 65 + b":n", "bad handshake: an ID is 1 to 64")
        self.refuses(b"i:" + b"n" * 65, "bad handshake: a name is 1 to 64")
        self.refuses(b"i" * 65, "not a mesh node, it said")

    def test_empty_id(self) -> None:
        for line in (b":", b":bob", b" :bob"):
            self.refuses(line, "an ID is")
        self.refuses(b"", 'not a mesh node, it said ""')

    def test_reserved_words(self) -> None:
        for word in RESERVED:
            self.refuses(f"{word}:bob".encode(), "a word of the protocol")
        for word in ("PING", "PONG", "REQUEST_PEERS", "PEERS", "BYTES"):
            self.refuses(word.encode(), "a word of the protocol")

    def test_not_utf8(self) -> None:
        for line in (b"\xff", b"bob:\xff", b"bob:\xc3", b"bob:\xed\xa0\x80"):
            self.refuses(line, "" if b":" in line else "not a mesh node")

    def test_other_protocols(self) -> None:
        for line in (
            b"GET / HTTP/1.1\r",
            b"GET / HTTP/1.1",
            b"OPTIONS * HTTP/1.0",
            b"PRI * HTTP/2.0",
            b"HELP ME",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
            b"\x05\x01\x00",
            b"SSH-2.0-OpenSSH_9.6 Debian",
        ):
            self.refuses(line, "not a mesh node, it said")

    def test_control_characters_in_a_name(self) -> None:
        for name in ("\x1b[2J", "a\x00", "a\rb", "\u202eabc", "a\x85"):
            self.refuses(b"bob:" + name.encode(), "printable")

    def test_the_carriage_return_is_not_the_codecs_to_take_off(self) -> None:
        """Whoever splits the lines takes their ends off, in full."""
        self.refuses(b"bob:Bob\r", "printable")
        self.refuses(b"bob\r", "not a mesh node")

    def test_what_another_protocol_said_is_quoted(self) -> None:
        for line, quoted in (
            (b"HTTP/1.1 400 Bad Request", "HTTP/1.1 400 Bad Request"),
            (b"-ERR unknown command 'a:b'", "-ERR unknown command 'a:b'"),
            (b"evil \x1b[2J:x", "evil \\x1b[2J:x"),
            ("\u202e \N{SNOWMAN}".encode(), "\\xe2\\x80\\xae \\xe2\\x98\\x83"),
            (b'a "b" c', 'a \\"b\\" c'),
            (b"x " * 20, "x " * 20),
            (b"x " * 20 + b"y", "x " * 20 + "..."),
        ):
            self.refuses(line, f'not a mesh node, it said "{quoted}"')

    def test_a_refusal_is_no_greeting(self) -> None:
        for refusal in Refusal:
            self.assertRaises(
                RemoteProtocolError,
                decode_greeting,
                refusal.value.encode(),
            )

    @given(st.one_of(st.binary(), LINES.map(str.encode)))
    def test_any_bytes_are_a_hello_or_a_remote_error(self, line: bytes) -> None:
        try:
            hello = decode_greeting(line)
        except RemoteProtocolError as error:
            self.assertTrue(str(error).isprintable())
            return
        self.assertTrue(hello.name.isprintable())
        self.assertEqual(decode_greeting(self.sent(hello)), hello)

    @given(IDS)
    def test_the_id_alone_decides_when_there_is_no_name(self, id: str) -> None:
        """The check of a setting and the check of a line agree."""
        try:
            check_id(id)
        except ValueError:
            # To a listener's answer these two are no IDs either, but they say more.
            assume(id not in ("DUPLICATE", "MAX_PEERS"))
            # A tab at the end of a greeting is no part of its ID.
            assume(not id.endswith("\t"))
            self.refuses(id.encode(), "")
        else:
            self.assertEqual(decode_greeting(id.encode()), Greeting(id, id))

    @given(HELLOS)
    def test_round_trip(self, hello: Greeting) -> None:
        self.assertEqual(decode_greeting(self.sent(hello)), hello)
        self.assertEqual(decode_answer(self.sent(hello)), hello)


class AnswerTests(WireTestCase):
    """A listener's first line."""

    def test_welcome(self) -> None:
        self.assertEqual(decode_answer(b"bob:Bob"), Greeting("bob", "Bob"))
        self.assertEqual(decode_answer(b"bob"), Greeting("bob", "bob"))

    def test_refusals(self) -> None:
        for refusal, line in (
            (Refusal.DUPLICATE, b"DUPLICATE"),
            (Refusal.MAX_PEERS, b"MAX_PEERS"),
        ):
            self.assertIs(decode_answer(line), refusal)
            self.assertEqual(self.codec.encode(refusal), line + b"\n")

    def test_nearly_a_refusal(self) -> None:
        for line in (b"DUPLICATE:", b"DUPLICATE ", b" MAX_PEERS", b"MAX_PEERS:x"):
            self.assertRaises(RemoteProtocolError, decode_answer, line)

    @given(st.binary())
    def test_any_bytes_are_an_answer_or_a_remote_error(self, line: bytes) -> None:
        try:
            answer = decode_answer(line)
        except RemoteProtocolError:
            return
        self.assertIsInstance(answer, (Greeting, Refusal))


class DecodeTests(WireTestCase):
    """The lines after the handshake."""

    def test_commands(self) -> None:
        for line, message in (
            (b"PING", Ping()),
            (b"PONG", Pong()),
            (b"REQUEST_PEERS", RequestPeers()),
        ):
            self.assertEqual(self.read(line), message)
            self.assertEqual(self.codec.encode(message), line + b"\n")

    def test_everything_else_is_chat(self) -> None:
        for text in (
            "hello",
            " ",
            "  indented",
            "ping",
            "PING ",
            " PING",
            "PING\r",
            "PINGPONG",
            "REQUEST_PEERS:",
            "REQUEST_PEER",
            "PEERS",
            " PEERS:a:1",
            "peers:a:1",
            "BYTES:3",
            "DUPLICATE",
            "MAX_PEERS",
            "bob:Bob",
            "HELLO 2 mesh/2",
            "\x00\x1b",
            "a\rb",
        ):
            self.assertEqual(self.read(text.encode()), Chat(text))

    def test_chat_that_is_not_utf8_has_replacement_characters(self) -> None:
        for line, text in (
            (b"caf\xe9", "caf\ufffd"),
            (b"\xff\xfe", "\ufffd\ufffd"),
            (b"PING\xff", "PING\ufffd"),
        ):
            self.assertEqual(self.read(line), Chat(text))

    def test_one_leading_word_joiner_is_taken_off(self) -> None:
        for text, expected in (
            (WJ + "PING", "PING"),
            (WJ + WJ + "PING", WJ + "PING"),
            (WJ + "PEERS:a:1", "PEERS:a:1"),
            (WJ, ""),
            (WJ + WJ, WJ),
            ("a" + WJ, "a" + WJ),
            (" " + WJ + "a", " " + WJ + "a"),
        ):
            self.assertEqual(self.read(text.encode()), Chat(expected))

    @given(
        st.one_of(
            st.binary(),
            st.binary().map(lambda tail: b"PEERS:" + tail),
            COMMAND_LIKE.map(str.encode),
        )
    )
    def test_never_raises(self, line: bytes) -> None:
        for message in heard_in(line):
            self.assertIsInstance(message, get_args(Message))
            self.assertNotIsInstance(message, (Greeting, Refusal, Chat))


class PeerListTests(WireTestCase):
    """``PEERS:``, of which the good entries are used."""

    def test_addresses_in_their_order(self) -> None:
        line = b"PEERS:10.0.0.2:8001,[2001:db8::1]:8002,localhost:8003"
        told = PeerList(
            addresses("10.0.0.2:8001", "[2001:db8::1]:8002", "localhost:8003")
        )
        self.assertEqual(self.read(line), told)
        self.assertEqual(self.codec.encode(told), line + b"\n")

    def test_empty(self) -> None:
        self.assertEqual(self.read(b"PEERS:"), PeerList(()))
        self.assertEqual(self.codec.encode(PeerList(())), b"PEERS:\n")

    def test_spaces_round_entries(self) -> None:
        self.assertEqual(
            self.read(b"PEERS: a:1 , b:2\r"), PeerList(addresses("a:1", "b:2"))
        )

    def test_bad_entries_are_skipped_and_counted(self) -> None:
        for entry in (
            b"",
            b"c",
            b"c:",
            b":8001",
            b"c:0",
            b"c:65536",
            b"c:http",
            b"::1:8001",
            b"\xff:8001",
            b"c d:8001",
            b"peer-8001",
            b"0x7f000001:8001",
        ):
            self.assertEqual(
                self.read(b"PEERS:a:1," + entry + b",b:65535"),
                PeerList(addresses("a:1", "b:65535"), skipped=1),
                entry,
            )

    def test_only_bad_entries(self) -> None:
        self.assertEqual(self.read(b"PEERS:,"), PeerList((), skipped=2))
        self.assertEqual(self.read(b"PEERS:x"), PeerList((), skipped=1))

    def test_the_count_of_skipped_entries_is_not_sent(self) -> None:
        told = PeerList(addresses("a:1"), skipped=3)
        self.assertEqual(self.codec.encode(told), b"PEERS:a:1\n")

    def test_number_of_addresses(self) -> None:
        """A hundred are taken; what is beyond is counted, not read."""
        hundred = [f"10.0.0.1:{port}" for port in range(1, 101)]
        line = "PEERS:" + ",".join(hundred)
        self.assertEqual(self.read(line.encode()), PeerList(addresses(*hundred)))
        self.assertEqual(
            self.read(f"{line},b:2".encode()),
            PeerList(addresses(*hundred), skipped=1),
        )

    def test_bad_entries_take_their_place_among_the_hundred(self) -> None:
        line = "PEERS:" + ",".join(["?"] * 99 + ["a:1", "b:2"])
        self.assertEqual(
            self.read(line.encode()),
            PeerList(addresses("a:1"), skipped=100),
        )

    def test_another_limit(self) -> None:
        codec = Mesh1(max_addresses=2)
        self.assertEqual(
            self.read(b"PEERS:a:1,b:2", codec), PeerList(addresses("a:1", "b:2"))
        )
        self.assertEqual(
            self.read(b"PEERS:a:1,b:2,c:3", codec),
            PeerList(addresses("a:1", "b:2"), skipped=1),
        )

    @given(st.lists(ADDRESSES, max_size=100))
    def test_round_trip(self, told: list[PeerAddress]) -> None:
        message = PeerList(tuple(told))
        self.assertEqual(self.read(self.sent(message)), message)


class ChatTests(WireTestCase):
    """Any single line of text arrives as it was sent."""

    def refuses(self, text: str, reason: str) -> None:
        error = self.assertRaises(LocalProtocolError, self.codec.encode, Chat(text))
        self.assertIn(reason, str(error))

    def test_plain_text_goes_as_it_is(self) -> None:
        for text in ("hello", " padded ", " ", "ping", "PINGS", "/quit", "Zoë", "\t"):
            self.assertEqual(self.sent(Chat(text)), text.encode())

    def test_words_that_are_no_commands_to_anyone_go_as_they_are(self) -> None:
        for text in ("DUPLICATE", "MAX_PEERS", "PEERS", "A PING", "x PEERS:", "PING:"):
            self.assertEqual(self.sent(Chat(text)), text.encode())

    def test_what_looks_like_a_command_is_marked(self) -> None:
        for text in COMMANDS:
            self.assertEqual(self.sent(Chat(text)), (WJ + text).encode())

    def test_a_padded_command_is_marked(self) -> None:
        """The original trims before it looks."""
        for space in GO_SPACES:
            for command in COMMANDS:
                for text in (space + command, space + command + space * 2):
                    self.assertEqual(self.sent(Chat(text)), (WJ + text).encode())
            for command in ("PING", "PONG", "REQUEST_PEERS"):
                text = command + space
                self.assertEqual(self.sent(Chat(text)), (WJ + text).encode())

    def test_a_leading_word_joiner_is_marked_too(self) -> None:
        for text in (WJ, WJ + "a", WJ + WJ + "a", WJ + "PING"):
            self.assertEqual(self.sent(Chat(text)), (WJ + text).encode())
        self.assertEqual(self.sent(Chat("a" + WJ)), ("a" + WJ).encode())

    def test_empty(self) -> None:
        self.refuses("", "cannot be empty")

    def test_line_breaks(self) -> None:
        for text in ("\n", "a\nb", "a\n", "\na", "\r", "a\r", "a\rb", "a\r\nb"):
            self.refuses(text, "no line breaks")

    def test_other_separators_are_no_line_breaks_on_the_wire(self) -> None:
        for text in ("a\vb", "a\fb", "a\x1cb", "a\x85b", "a\u2028b", "a\x00b"):
            self.assertEqual(self.read(self.sent(Chat(text))), Chat(text))

    def test_lone_surrogates(self) -> None:
        self.refuses("\ud800", "no lone surrogates")
        self.refuses("PING \udfff", "no lone surrogates")

    def test_length(self) -> None:
        """The limit counts bytes, the line end not among them."""
        self.assertEqual(len(self.sent(Chat("x" * 16_384))), 16_384)
        self.refuses("x" * 16_385, "at most 16384 bytes, this one has 16385")
        self.assertEqual(len(self.sent(Chat("é" * 8_192))), 16_384)
        self.refuses("é" * 8_192 + "x", "this one has 16385")

    def test_the_mark_counts(self) -> None:
        text = "PEERS:" + "x" * (16_384 - len("PEERS:") - len(WJ.encode()))
        self.assertEqual(len(self.sent(Chat(text))), 16_384)
        self.refuses(text + "x", "this one has 16385")

    def test_another_limit(self) -> None:
        codec = Mesh1(max_line=400)
        self.assertEqual(codec.encode(Chat("x" * 400)), b"x" * 400 + b"\n")
        self.assertRaises(LocalProtocolError, codec.encode, Chat("x" * 401))

    @given(st.one_of(LINES, COMMAND_LIKE))
    @example(WJ)
    @example(" PING ")
    @example("\x1cPING")
    @example("PEERS:")
    def test_round_trip(self, text: str) -> None:
        self.assertEqual(self.read(self.sent(Chat(text))), Chat(text))

    @given(st.one_of(LINES, COMMAND_LIKE))
    def test_the_original_takes_it_for_chat(self, text: str) -> None:
        """No line of chat is a command to a program that trims before it looks."""
        seen = self.sent(Chat(text)).decode().strip(GO_SPACES + "\r\n")
        self.assertNotIn(seen, ("PING", "PONG", "REQUEST_PEERS"))
        self.assertFalse(seen.startswith(("PEERS:", "BYTES:")))

    @given(st.text(st.characters()))
    def test_sent_as_one_line_or_refused(self, text: str) -> None:
        try:
            line = self.codec.encode(Chat(text))
        except LocalProtocolError:
            return
        self.assertEqual(line.count(b"\n"), 1)
        self.assertEqual(self.read(line[:-1]), Chat(text))


class LinesTests(WireTestCase):
    """Many lines at once."""

    def test_an_empty_line_says_nothing(self) -> None:
        self.assertEqual(heard_in(b""), [])
        self.assertEqual(heard_in(b"\n\n"), [])
        self.assertEqual(heard_in(b"\na\n\nb\n"), [Chats(("a",)), Chats(("b",))])

    def test_chat_makes_runs(self) -> None:
        lines = b"a\nPING\nPeter\nRita\nb\nPONG\nPONG\nREQUEST_PEERS\nPEERS:\nc"
        self.assertEqual(
            heard_in(lines),
            [
                Chats(("a",)),
                Ping(),
                Chats(("Peter", "Rita", "b")),
                Pong(),
                Pong(),
                RequestPeers(),
                PeerList(()),
                Chats(("c",)),
            ],
        )

    def test_a_run_has_an_end(self) -> None:
        for count, runs in (
            (MAX_RUN, [MAX_RUN]),
            (MAX_RUN + 1, [MAX_RUN, 1]),
            (2 * MAX_RUN + 1, [MAX_RUN, MAX_RUN, 1]),
        ):
            lines = "\n".join(map(str, range(count))).encode()
            messages = [m for m in heard_in(lines) if isinstance(m, Chats)]
            self.assertEqual([len(message.texts) for message in messages], runs)
            said = [text for message in messages for text in message.texts]
            self.assertEqual(said, list(map(str, range(count))))

    def test_a_sequence_that_is_cut_by_a_line_end(self) -> None:
        lines = b"caf\xc3\n\xa9\xe2\x82\nx\xf0\x9f\x98\n\x80"
        said = ("caf\ufffd", "\ufffd\ufffd", "x\ufffd", "\ufffd")
        self.assertEqual(heard_in(lines), [Chats(said)])

    @given(st.lists(st.one_of(st.binary(), COMMAND_LIKE.map(str.encode))))
    def test_lines_together_say_what_they_say_one_by_one(
        self, pieces: list[bytes]
    ) -> None:
        lines = [line for piece in pieces for line in piece.split(b"\n")]
        together = heard_in(b"\n".join(lines)) if lines else []
        one_by_one = [m for line in lines for m in heard_in(line)]
        self.assertEqual(singly(together), singly(one_by_one))

    def test_what_only_mesh2_can_say(self) -> None:
        for message in (
            Hello(
                identity="a" * 32,
                incarnation=Incarnation(1, "0" * 32),
                link=1,
                id="bob",
                name="Bob",
            ),
            Welcome(),
            Refused(RefusalReason.FULL),
            Ready(),
            Data(b"x"),
        ):
            error = self.assertRaises(NoForm, self.codec.encode, message)
            self.assertIn(type(message).__name__, str(error))
        self.assertRaises(NoForm, self.codec.pieces, Data(b"x"))

    def test_runs_are_sent_line_by_line(self) -> None:
        self.assertEqual(
            self.codec.encode(Chats(("a", "PING"))), b"a\n\xe2\x81\xa0PING\n"
        )


class NextLinesTests(SynchronousTestCase):
    """Where the lines end that are complete, fit, and are decoded next."""

    def all_lines(self, data: bytes, limit: int) -> int:
        """Where the last of them ends."""
        end = 0
        while more := next_lines(data[end:], limit):
            end += more
        return end

    def test_at_the_bound_and_one_past_it(self) -> None:
        for data, end in (
            (b"", 0),
            (b"ab", 0),
            (b"\n", 1),
            (b"abc\n", 4),
            (b"abcd\n", 0),
            (b"abc\nabc\n", 8),
            (b"abc\nabcd\n", 4),
            (b"abc\nabcd", 4),
            (b"a\n\n\nbc", 4),
            (b"\nabc\n\nabcd\n\n", 6),
            (b"abc\r\n", 5),
            (b"abcd\r\n", 0),
            (b"abc\r\r\n", 0),
            (b"abc\r", 0),
            (b"abc\r\nab\r\nabc\r\nabc\r\r\n", 14),
        ):
            self.assertEqual(self.all_lines(data, 3), end, data)

    @given(st.text("a\r\n", max_size=60), st.integers(1, 8))
    def test_it_is_what_looking_at_each_line_says(self, text: str, limit: int) -> None:
        end = 0
        for line in text.split("\n")[:-1]:
            if len(line.removesuffix("\r")) > limit:
                break
            end += len(line) + 1
        self.assertEqual(self.all_lines(text.encode(), limit), end)

    def test_no_more_than_a_piece_at_once(self) -> None:
        limit = 2 * PIECE
        for data, end in (
            (b"x\n" * PIECE, PIECE),
            (b"x" * (PIECE - 1) + b"\ny\n", PIECE),
            (b"x\n" + b"y" * PIECE + b"\n", 2),
            # A line that is longer than that comes by itself.
            (b"x" * PIECE + b"\ny\n", PIECE + 1),
            (b"x" * limit + b"\n" + b"y\n", limit + 1),
            (b"x" * limit + b"\r\ny\n", limit + 2),
            (b"x" * (limit + 1) + b"\n", 0),
            (b"x" * limit + b"\ry\n", 0),
        ):
            self.assertEqual(next_lines(data, limit), end, data[:20])

    def test_no_more_than_so_many_lines_at_once(self) -> None:
        """Their messages are those of all, whatever the line ends."""
        codec = Mesh1()
        for end in (b"\n", b"\r\n"):
            for line in (b"x", b"\xff", "é".encode(), b"PING"):
                data = (line + end) * (2 * MAX_LINES + 3)
                heard: list[Message] = []
                sizes = []
                while data:
                    messages, size = codec.read(data, 100)
                    heard += singly(messages)
                    sizes.append(size // len(line + end))
                    data = data[size:]
                self.assertEqual(sizes, [MAX_LINES, MAX_LINES, 3])
                self.assertEqual(heard, singly(heard_in(line)) * (2 * MAX_LINES + 3))

    def test_nothing_is_read_of_what_is_not_complete_or_too_long(self) -> None:
        codec = Mesh1()
        for data in (b"", b"abc", b"abcd\n", b"abc\r"):
            self.assertEqual(codec.read(data, 3), ([], 0))
        self.assertEqual(codec.read(b"\nabc", 3), ([], 1))


class ReaderTests(SynchronousTestCase):
    """The lines of one link, in whatever pieces they arrive."""

    def all_of(self, reader: Mesh1Reader, *pieces: bytes) -> list[Message]:
        messages: list[Message] = []
        for piece in pieces:
            messages += reader.feed(piece)
            while reader.waiting:
                messages += reader.feed(b"")
        return singly(messages)

    def test_what_it_is(self) -> None:
        """The interfaces are for the type checker; this is for it to check."""
        wire: IWire = Mesh1()
        reader: IReader = wire.reader()
        self.assertFalse(reader.waiting)
        self.assertEqual(wire.block_of([b"a\n", b"b\n"]), b"a\nb\n")

    @given(st.lists(st.text("aP\n\r", max_size=9), max_size=9))
    def test_pieces_come_to_the_same_as_the_whole(self, pieces: list[str]) -> None:
        stream = "".join(pieces).encode()
        together = self.all_of(Mesh1().reader(), stream)
        apart = self.all_of(Mesh1().reader(), *map(str.encode, pieces))
        self.assertEqual(apart, together)
        lines = stream.split(b"\n")[:-1]
        said = [m for line in lines for m in heard_in(line.removesuffix(b"\r"))]
        self.assertEqual(together, singly(said))

    def test_half_a_line_waits_for_the_other_half(self) -> None:
        reader = Mesh1().reader()
        self.assertEqual(reader.feed(b"hel"), [])
        self.assertFalse(reader.waiting)
        self.assertEqual(reader.feed(b"lo\nPO"), [Chats(("hello",))])
        self.assertFalse(reader.waiting)

    def test_a_batch_is_bounded(self) -> None:
        reader = Mesh1().reader()
        messages = reader.feed(b"x\n" * (MAX_LINES + 1))
        self.assertEqual(len(singly(messages)), MAX_LINES)
        self.assertTrue(reader.waiting)
        self.assertEqual(singly(reader.feed(b"y\n")), [Chat("x"), Chat("y")])
        self.assertFalse(reader.waiting)

    def test_at_the_limit_and_one_past_it(self) -> None:
        for end in (b"\n", b"\r\n"):
            reader = Mesh1(max_line=400).reader()
            self.assertEqual(self.all_of(reader, b"x" * 400, end), [Chat("x" * 400)])
            for pieces in ([b"x" * 401 + end], [b"x" * 400, b"x"]):
                reader = Mesh1(max_line=400).reader()
                error = self.assertRaises(LineTooLong, self.all_of, reader, *pieces)
                self.assertEqual(str(error), "more than 400 bytes")

    def test_the_lines_before_one_that_is_too_long(self) -> None:
        reader = Mesh1(max_line=400).reader()
        self.assertEqual(reader.feed(b"a\n" + b"x" * 401), [Chats(("a",))])
        self.assertTrue(reader.waiting)
        self.assertRaises(LineTooLong, reader.feed, b"")


def heard_in(lines: bytes, codec: Mesh1 | None = None) -> list[Message]:
    """What lines say, the last of which comes without its line end."""
    codec = codec or Mesh1()
    # With CRLF, so that a CR before the end of a line is part of what it says.
    data = lines.replace(b"\n", b"\r\n") + b"\r\n"
    messages: list[Message] = []
    while data:
        more, size = codec.read(data, len(data))
        messages += more
        data = data[size:]
    return messages


def singly(messages: list[Message]) -> list[Message]:
    """The messages, with every chat by itself."""
    return [
        single
        for message in messages
        for single in (
            map(Chat, message.texts) if isinstance(message, Chats) else (message,)
        )
    ]
