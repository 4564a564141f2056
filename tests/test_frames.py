"""The framing of ``mesh/2``: headers, what is skipped, pieces, and the laws."""

from __future__ import annotations

from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import fuzz.mesh2
from fuzz.receive import CUT
from meshproto.errors import LocalProtocolError, RemoteProtocolError
from meshproto.wire import frames
from meshproto.wire.frames import MAX_CHUNK, MAX_FRAME, MAX_HEADER, Header, parse_header
from meshproto.wire.mesh2 import BATCH, Mesh2
from meshproto.wire.messages import (
    Chat,
    Chats,
    Data,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    RefusalReason,
    Refused,
    RequestPeers,
    Welcome,
)
from tests.slow import slow
from tests.test_mesh2 import (
    FIELDS,
    HELLO,
    HELLO_FIELDS,
    MESSAGES,
    NEARLY,
    NUMBERS,
    UNKNOWN,
    Mesh2TestCase,
    addresses,
    cut,
    established,
    outcome,
    singly,
)

ROOT = Path(__file__).resolve().parent.parent


class HeaderTests(SynchronousTestCase):
    """The first line of a frame."""

    def test_well_formed(self) -> None:
        for line, header in (
            (b"A", Header("A", (), 0)),
            (b"PING", Header("PING", (), 0)),
            (b"PING 5", Header("PING", ("5",), 0)),
            (b"CHAT +6", Header("CHAT", (), 6)),
            (b"CHAT +0", Header("CHAT", (), 0)),
            (b"DATA 1 20 0 +64512", Header("DATA", ("1", "20", "0"), 64_512)),
            (b"X_9 a+b ~ - +1", Header("X_9", ("a+b", "~", "-"), 1)),
            (b"A" * 32, Header("A" * 32, (), 0)),
            (b"A " + b"x" * 1021, Header("A", ("x" * 1021,), 0)),
        ):
            self.assertEqual(parse_header(line), header)
            self.assertEqual(parse_header(line), header)

    def test_malformed(self) -> None:
        for line, fault in (
            (b"", "an empty line is no header"),
            (b"\r", "ends with LF alone"),
            (b"PING\r", "ends with LF alone"),
            (b"CHAT +5\r", "ends with LF alone"),
            (b"ping", "begins with a verb"),
            (b"Ping", "begins with a verb"),
            (b"9", "begins with a verb"),
            (b"_", "begins with a verb"),
            (b"+5", "begins with a verb"),
            (b" PING", "begins with a verb"),
            (b"PING: 5", "begins with a verb"),
            (b"A" * 33, "begins with a verb"),
            (b"GET / HTTP/1.1\r", "ends with LF alone"),
            (b"\x16\x03\x01", "is printable ASCII"),
            (b"PING\t5", "is printable ASCII"),
            (b"PING caf\xc3\xa9", "is printable ASCII"),
            (b"PING \x7f", "is printable ASCII"),
            (b"PING ", "one space"),
            (b"PING  5", "one space"),
            (b"CHAT  +5", "one space"),
            (b"CHAT +", "+LENGTH"),
            (b"CHAT +5 ", "one space"),
            (b"CHAT +5 6", "+LENGTH"),
            (b"CHAT +5 +6", "+LENGTH"),
            (b"CHAT +05", "+LENGTH"),
            (b"CHAT +-5", "+LENGTH"),
            (b"CHAT +5a", "+LENGTH"),
            (b"CHAT ++5", "+LENGTH"),
            (b"CHAT +100000", "+LENGTH"),
            (b"CHAT +99999", "at most 64512 bytes"),
            (b"CHAT +64513", "at most 64512 bytes"),
        ):
            error = self.assertRaises(RemoteProtocolError, parse_header, line)
            self.assertIn(fault, str(error), line)
            self.assertTrue(str(error).startswith("bad frame: "), error)

    def test_forty_bytes_are_quoted(self) -> None:
        for count, quote in ((40, "x" * 40), (41, "x" * 40 + "...")):
            error = self.assertRaises(RemoteProtocolError, parse_header, b"x" * count)
            self.assertTrue(str(error).endswith(f': "{quote}"'), error)
        error = self.assertRaises(RemoteProtocolError, parse_header, b'"\xff\n"' * 20)
        self.assertTrue(str(error).endswith(r"\"..." + '"'), error)
        self.assertNotIn("\n", str(error))

    def test_what_is_remembered_is_bounded(self) -> None:
        frames.remembered.clear()
        for number in range(1025):
            self.assertEqual(parse_header(b"N%d" % number), (f"N{number}", (), 0))
            self.assertLessEqual(len(frames.remembered), 1024)
        self.assertEqual([*frames.remembered], [b"N1024"])
        # What is malformed is not remembered at all.
        self.assertRaises(RemoteProtocolError, parse_header, b"n")
        self.assertEqual([*frames.remembered], [b"N1024"])

    def test_a_long_header_is_not_remembered(self) -> None:
        for size in (32, 33):
            line = b"A " + b"y" * (size - 2)
            parse_header(line)
            self.assertEqual(line in frames.remembered, size == 32)


class FramingTests(Mesh2TestCase):
    """Where a frame ends, and what is no frame."""

    def test_the_longest_header(self) -> None:
        self.assertEqual(self.heard(b"NEW " + b"x" * 1019 + b"\nPING\n"), [Ping()])
        text = self.refuses(b"NEW " + b"x" * 1020 + b"\n", "at most 1024 bytes")
        self.assertIn('"NEW xxxx', text)
        self.refuses(b"PING\nNEW " + b"x" * 1020, "at most 1024 bytes", 1)

    def test_a_header_without_end_is_cut_at_once(self) -> None:
        reader = established(self.codec)
        self.assertEqual(reader.feed(b"x" * 1023), [])
        self.assertEqual(reader.held, 1023)
        self.assertRaises(RemoteProtocolError, reader.feed, b"x")

    def test_the_largest_frame(self) -> None:
        header = b"DATA 1 64512 0 "
        header += b"x" * (MAX_HEADER - len(header) - len(b" +64512\n")) + b" +64512\n"
        self.assertEqual(len(header), MAX_HEADER)
        payload = b"\n" * 64_512
        self.assertEqual(self.read(header + payload), Data(payload))
        self.refuses(b"DATA 1 64513 0 +64513\n", "at most 64512 bytes")

    def test_errors_come_after_what_came_before(self) -> None:
        self.refuses(b"PING\nCHAT +2\na\nCHAT +2\nb\n\n", "an empty line", 2)
        self.refuses(b"PING\nPONG\n?\nPING\n", "begins with a verb", 2)

    def test_no_frame_is_lost_that_came_later(self) -> None:
        """Not even when only a part of it has come so far."""
        stream = b"CHAT +6\nhello\nPING 1\nNEW +4\nPINGPONG 2\nCHAT +3\nyo\n"
        wanted = [Chat("hello"), Ping("1"), Pong("2"), Chat("yo")]
        for end in range(len(stream) + 1):
            self.assertEqual(outcome(stream[:end], stream[end:]), wanted)
        self.assertEqual(outcome(*(bytes([each]) for each in stream)), wanted)

    def test_an_unfinished_frame_is_kept_as_it_is(self) -> None:
        reader = established(self.codec)
        reader.feed(b"PING\nCHAT +64512\n" + b"x" * 64_000)
        self.assertEqual(reader.held, 64_012)
        self.assertFalse(reader.waiting)
        self.assertEqual(reader.feed(b"x" * 511), [])
        self.assertEqual(reader.feed(b"\n"), [Chats(("x" * 64_511,))])
        self.assertEqual(reader.held, 0)


class GrowthTests(Mesh2TestCase):
    """What this version does not know is ignored."""

    def test_unknown_verbs(self) -> None:
        self.assertEqual(
            self.heard(b"NEW\nNEW a b\nNEW +0\nNEW a +6\nPING\n\nPING\n"), [Ping()]
        )

    def test_their_payload_is_not_kept(self) -> None:
        reader = established(self.codec)
        self.assertEqual(reader.feed(b"NEW +64512\n"), [])
        for _ in range(63):
            self.assertEqual(reader.feed(b"\n" * 1024), [])
            self.assertEqual(reader.held, 0)
        self.assertEqual(reader.feed(b"PING"), [])
        self.assertEqual(reader.held, 4)
        self.assertEqual(reader.feed(b"\n"), [Ping()])

    def test_more_arguments_and_payloads_of_known_verbs(self) -> None:
        for stream, message in (
            (b"PING 5 6\n", Ping("5")),
            (b"PING 5 +3\n\n\n\n", Ping("5")),
            (b"PONG 5 x\n", Pong("5")),
            (b"REQUEST_PEERS 9 +1\nx", RequestPeers()),
            (b"WELCOME a +1\n\n", Welcome()),
            (b"READY b +1\n\n", Ready()),
            (b"REFUSED full c +1\n\n", Refused(RefusalReason.FULL)),
            (b"CHAT 17 +2\na\n", Chat("a")),
            (b"PEERS 17 +4\na:1\n", PeerList(addresses("a:1"))),
            (b"DATA 1 2 0 topic +2\nab", Data(b"ab")),
        ):
            self.assertEqual(self.read(stream), message)

    def test_a_known_verb_is_heard_before_its_superfluous_payload(self) -> None:
        self.assertEqual(self.codec.reader().feed(b"PING 5 +3\n"), [Ping("5")])

    def test_pieces_of_what_is_not_read(self) -> None:
        stream = b"NEW 4 20 +3\nabcPIECE 4 +3\nabcABORT 4\nPIECE 4 +3\nabcPING\n"
        self.assertEqual(self.heard(stream), [Ping()])

    def test_other_reasons(self) -> None:
        self.assertEqual(self.read(b"REFUSED expelled\n"), Refused(RefusalReason.OTHER))

    def test_unknown_fields(self) -> None:
        fields = b"colour: red\n" + HELLO_FIELDS + b"x: \n"
        self.assertEqual(self.read(b"HELLO +%d\n" % len(fields) + fields), HELLO)

    @given(st.lists(MESSAGES, max_size=6), st.lists(UNKNOWN, min_size=1), st.data())
    @settings(max_examples=50)
    @slow
    def test_skipping_changes_nothing(
        self, said: list[Message], unknown: list[bytes], data: st.DataObject
    ) -> None:
        """Wherever they stand, between the pieces of a message as well."""
        stream = [self.codec.encode(message) for message in said]
        large = Data(b"x" * (MAX_CHUNK + 5))
        stream += self.codec.pieces(large, 3)
        for frame in unknown:
            stream.insert(data.draw(st.integers(0, len(stream))), frame)
        self.assertEqual(outcome(b"".join(stream)), [*singly(said), large])


class DataTests(Mesh2TestCase):
    """Messages of any bytes, whole and in pieces."""

    def test_forms(self) -> None:
        for message, frame in (
            (Data(b""), b"DATA 0 0 0\n"),
            (Data(b"a\r\n\xff"), b"DATA 0 4 0 +4\na\r\n\xff"),
            (Data(b"", (("k", ""),)), b"DATA 0 4 4 +4\nk: \n"),
            (
                Data(b"xyz", (("b", "1"), ("a", "\u20ac\n"))),
                b"DATA 0 17 14 +17\nb: 1\na: \xe2\x82\xac\\n\nxyz",
            ),
        ):
            self.assertEqual(self.codec.encode(message), frame)
            self.assertEqual(self.heard(frame), [message])

    def test_pieces(self) -> None:
        for size, count in ((MAX_CHUNK, 1), (MAX_CHUNK + 1, 2), (2**20, 17)):
            message = Data(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
            pieces = [*self.codec.pieces(message, 5)]
            self.assertEqual(len(pieces), count)
            self.assertTrue(pieces[0].startswith(b"DATA 5 %d 0 +64512\n" % size))
            self.assertTrue(all(len(piece) <= MAX_FRAME for piece in pieces))
            for piece in pieces[1:]:
                self.assertTrue(piece.startswith(b"PIECE 5 +"))
            self.assertEqual(self.codec.encode(message).count(b"PIECE 0 +"), count - 1)
            self.assertEqual(self.heard(b"".join(pieces)), [message])

    def test_other_frames_pass_between_pieces(self) -> None:
        stream = (
            b"DATA 8 9 5 +3\na: PING\nPIECE 8 +4\n1\nxyCHAT +3\nhi\nPIECE 9 +1\nz"
            b"DATA 8 1 0 +1\n!PIECE 8 +2\nz!PONG\n"
        )
        self.assertEqual(
            self.heard(stream),
            [
                Ping(),
                Chats(("hi",)),
                Data(b"!"),
                Data(b"xyz!", (("a", "1"),)),
                Pong(),
            ],
        )

    def test_giving_up(self) -> None:
        reader = established(self.codec)
        self.assertEqual(reader.feed(b"DATA 8 9 0 +3\nabcABORT 7\n"), [])
        self.assertEqual(reader.held, 3)
        self.assertEqual(reader.feed(b"ABORT 8\n"), [])
        self.assertEqual(reader.held, 0)
        heard = reader.feed(b"PIECE 8 +6\ndefghiDATA 9 4 0 +2\nabPIECE 9 +2\ncd")
        self.assertEqual(heard, [Data(b"abcd")])

    def test_one_message_at_a_time(self) -> None:
        self.refuses(
            b"DATA 8 9 0 +3\nabcDATA 9 9 0 +3\nabc",
            "DATA: another message is in pieces",
        )

    def test_what_is_wrong(self) -> None:
        for stream, fault in (
            (b"DATA\n", "DATA: 0 of 3 arguments"),
            (b"DATA 1 2 +2\nab", "DATA: 2 of 3 arguments"),
            (b"DATA x 2 0 +2\nab", "DATA: no number"),
            (b"DATA 1 02 0 +2\nab", "DATA: no number"),
            (b"DATA 1 -2 0 +2\nab", "DATA: no number"),
            (b"DATA 9223372036854775808 2 0 +2\nab", "DATA: a number is from 0"),
            (b"DATA 1 2 0\n", "DATA: 0 bytes of 2"),
            (b"DATA 1 2 0 +3\nabc", "DATA: 3 bytes of 2"),
            (b"DATA 1 0 0 +1\na", "DATA: 1 bytes of 0"),
            (b"DATA 1 2 3 +2\nab", "DATA: 3 bytes of headers"),
            (b"DATA 1 20000 16385 +2\nab", "DATA: 16385 bytes of headers"),
            (b"DATA 1 1048577 0 +2\nab", "DATA: 1048577 bytes, but"),
            (b"DATA 1 2 2 +2\nab", "DATA: the last line has no end"),
            (b"DATA 1 3 3 +3\nab\n", "DATA: no field"),
            (b"DATA 1 10 10 +10\na: 1\na: 2\n", "DATA: twice"),
            (b"DATA 1 7 7 +7\na:b: 1\n", "DATA: no field"),
            (b"DATA 1 5 5 +5\n!: 1\n", "DATA: the key of a header"),
            (b"PIECE\n", "PIECE: 0 of 1 arguments"),
            (b"PIECE x +1\na", "PIECE: no number"),
            (b"ABORT\n", "ABORT: 0 of 1 arguments"),
            (b"ABORT x\n", "ABORT: no number"),
            (b"DATA 1 5 0 +2\nabPIECE 1\n", "PIECE: empty"),
            (b"DATA 1 5 0 +2\nabPIECE 1 +4\ncdef", "PIECE: 6 bytes of 5"),
        ):
            self.refuses(stream, fault)

    def test_headers(self) -> None:
        for headers, fault in (
            ((("", "x"),), "the key of a header"),
            ((("a b", "x"),), "the key of a header"),
            ((("a:", "x"),), "the key of a header"),
            ((("x" * 65, "x"),), "the key of a header"),
            ((("a", "x"), ("a", "y")), "comes once"),
            ((("a", "\ud800"),), "has a lone surrogate"),
            ((("a", "x" * 4096),), "bytes are more than 4096"),
            ((("a", "é" * 2048),), "bytes are more than 4096"),
            (tuple((str(i), "") for i in range(65)), "65 headers are more than 64"),
        ):
            error = self.assertRaises(ValueError, Data, b"", headers)
            self.assertIn(fault, str(error))
        for headers in (
            (("x" * 64, "x" * 4032),),
            (("A.b-C_9", "\\\n\r\\n\x00é\u2028"),),
            tuple((str(i), "") for i in range(64)),
        ):
            message = Data(b"\n", headers)
            self.assertEqual(self.read(self.codec.encode(message)), message)

    def test_the_limit_counts_headers(self) -> None:
        codec = Mesh2(max_payload=100)
        for message, fits in (
            (Data(b"x" * 100), True),
            (Data(b"x" * 101), False),
            (Data(b"x" * 95, (("a", "1"),)), True),
            (Data(b"x" * 96, (("a", "1"),)), False),
        ):
            reader = established(codec)
            frame = self.codec.encode(message)
            if fits:
                self.assertEqual(codec.encode(message), frame)
                self.assertEqual(reader.feed(frame), [message])
                continue
            error = self.assertRaises(LocalProtocolError, codec.encode, message)
            self.assertIn("at most 100 bytes, headers included, this", str(error))
            self.assertRaises(LocalProtocolError, codec.pieces, message)
            self.assertRaises(RemoteProtocolError, reader.feed, frame)

    def test_no_message_before_the_link_is_established(self) -> None:
        """An empty one takes no room."""
        reader = self.codec.reader()
        self.assertEqual(reader.feed(b"DATA 1 0 0\n"), [Data(b"")])
        self.assertRaises(RemoteProtocolError, reader.feed, b"DATA 1 1 0 +1\na")

    def test_a_message_right_behind_ready(self) -> None:
        """In one piece with it: the link is established meanwhile."""
        for ready in (b"READY\n", b"READY +2\nab"):
            reader = self.codec.reader()
            frames = ready + b"DATA 1 1 0 +1\naPING\n"
            self.assertEqual(reader.feed(frames), [Ready()])
            self.assertTrue(reader.waiting)
            reader.established()
            self.assertEqual(reader.feed(b""), [Data(b"a"), Ping()])
            self.assertFalse(reader.waiting)
            self.assertEqual(reader.held, 0)

    def test_nothing_waits_behind_ready_where_nothing_came(self) -> None:
        for ready in (b"READY\n", b"READY +2\na", b"READY +2\nab"):
            reader = self.codec.reader()
            self.assertEqual(reader.feed(ready), [Ready()])
            self.assertFalse(reader.waiting)

    @given(st.binary(max_size=300), FIELDS, st.lists(st.integers(1, 400)), NUMBERS)
    def test_pieces_of_any_size(
        self,
        payload: bytes,
        headers: tuple[tuple[str, str], ...],
        points: list[int],
        number: int,
    ) -> None:
        """Whoever sends chooses where to cut."""
        fields = frames.encode_fields(headers)
        content = fields + payload
        assume(content)
        first, *others = [part for part in cut(content, points) if part]
        stream = frames.frame("DATA", number, len(content), len(fields), payload=first)
        for part in others:
            stream += frames.frame("PIECE", number, payload=part)
        self.assertEqual(self.heard(stream), [Data(payload, headers)])


class LawTests(Mesh2TestCase):
    """What holds for every message and for any bytes."""

    @given(MESSAGES)
    def test_round_trip(self, message: Message) -> None:
        self.assertEqual(
            singly(self.heard(self.codec.encode(message))), singly([message])
        )

    @given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 9999), max_size=8))
    def test_any_pieces_say_the_same(
        self, said: list[Message], points: list[int]
    ) -> None:
        stream = b"".join(map(self.codec.encode, said))
        self.assertEqual(outcome(*cut(stream, points)), singly(said))

    @given(NEARLY | st.binary(), st.lists(st.integers(0, 9999), max_size=8))
    @example(b"CHAT +2\n\xff\nPING\n", [8])
    @example(b"PING\nNEW +9\nPIN", [12])
    @settings(max_examples=200)
    def test_any_bytes_in_any_pieces(self, stream: bytes, points: list[int]) -> None:
        """Nothing but `RemoteProtocolError` is raised, and always the same."""
        whole = outcome(stream)
        self.assertEqual(outcome(*cut(stream, points)), whole)
        self.assertEqual(outcome(*(bytes([each]) for each in stream)), whole)

    @given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(0, 9999), max_size=4))
    def test_every_message_is_told_as_soon_as_it_is_complete(
        self, said: list[Message], points: list[int]
    ) -> None:
        reader = established(self.codec)
        for message in said:
            *beginning, last = self.codec.encode(message)
            self.assertEqual(reader.feed(bytes(beginning)), [])
            self.assertEqual(singly(reader.feed(bytes([last]))), singly([message]))

    @given(st.integers(1, 3000), st.integers(0, 3000), st.integers(1, 2000))
    @settings(max_examples=50)
    def test_no_more_is_kept_than_is_allowed(
        self, limit: int, size: int, step: int
    ) -> None:
        """A frame that is not complete, and a message in pieces."""
        reader = established(Mesh2(max_payload=limit))
        part = (limit + 1) // 2
        stream = b"DATA 1 %d 0 +%d\n" % (limit, part) + b"x" * part
        if part < limit:
            stream += b"PIECE 1 +%d\n" % (limit - part) + b"x" * (limit - part - 1)
        for begin in range(0, len(stream), step):
            reader.feed(stream[begin : begin + step])
            self.assertLess(reader.held, limit + MAX_FRAME)


class BatchTests(Mesh2TestCase):
    """How much is decoded at once."""

    def batches(self, stream: bytes) -> list[int]:
        """How many messages come in each turn."""
        reader = established(self.codec)
        sizes = [len(singly(reader.feed(stream)))]
        while reader.waiting:
            sizes.append(len(singly(reader.feed(b""))))
        self.assertEqual(reader.held, 0)
        self.assertEqual(reader.feed(b""), [])
        return sizes

    def test_frames(self) -> None:
        self.assertEqual(self.batches(b"PING\n" * 512), [512])
        self.assertEqual(self.batches(b"PING\n" * 513), [512, 1])
        self.assertEqual(self.batches(b"PING\n" * 1600), [512, 512, 512, 64])

    def test_frames_that_say_nothing(self) -> None:
        self.assertEqual(self.batches(b"N\n" * 512 + b"PING\n"), [0, 1])

    def test_texts(self) -> None:
        run = self.codec.encode(Chats(("x",) * 512))
        cost = 4 + 512 + 1024 // 64
        for count in range(1, 12):
            per = -(-BATCH // cost)
            whole, rest = divmod(count, per)
            wanted = [512 * per] * whole + [512 * rest] * bool(rest)
            self.assertEqual(self.batches(run * count), wanted)

    def test_bytes(self) -> None:
        frame = self.codec.encode(Data(b"x" * 64_512))
        cost = 4 + 64_512 // 64
        self.assertEqual(-(-BATCH // cost), 3)
        self.assertEqual(self.batches(frame * 7), [3, 3, 1])

    def test_more_may_come_meanwhile(self) -> None:
        reader = established(self.codec)
        self.assertEqual(len(reader.feed(b"PING\n" * 600 + b"PO")), 512)
        self.assertTrue(reader.waiting)
        self.assertEqual(reader.held, 88 * 5 + 2)
        heard = reader.feed(b"NG\n")
        self.assertEqual(heard, [Ping()] * 88 + [Pong()])
        self.assertFalse(reader.waiting)

    def test_an_error_waits_for_its_turn(self) -> None:
        reader = established(self.codec)
        self.assertEqual(reader.feed(b"PING\n?\n"), [Ping()])
        self.assertTrue(reader.waiting)
        self.assertRaises(RemoteProtocolError, reader.feed, b"")
        self.assertFalse(reader.waiting)


class SeedTests(SynchronousTestCase):
    """The corpus from which the fuzzer sets out; it needs no Atheris here."""

    def test_seeds(self) -> None:
        seeds = [*sorted((ROOT / "fuzz" / "corpus" / "mesh2").iterdir())]
        self.assertGreater(len(seeds), 30)
        for seed in seeds:
            fuzz.mesh2.one_input(seed.read_bytes())
        fuzz.mesh2.one_input(b"")

    @given(NEARLY, st.lists(st.integers(0, 9999), max_size=3))
    def test_it_is_what_the_page_says(self, stream: bytes, points: list[int]) -> None:
        """The reference is written from the page, and the codec is not."""
        fuzz.mesh2.one_input(CUT.join(cut(stream.replace(CUT, b""), points)))

    def test_another_message_is_noticed(self) -> None:
        """The check itself does see what is wrong."""
        self.patch(fuzz.mesh2, "_CODEC", Mesh2(max_addresses=1, max_payload=63))
        for stream in (b"PEERS +8\na:1\nb:2\n", b"DATA 1 64 0 +1\nx"):
            self.assertRaises(AssertionError, fuzz.mesh2.one_input, stream)
