"""What holds for every input: bytes in any pieces, and texts of any characters.

The environment may ask for more examples than can be played every day, and
then for other ones with every run; trial gives them the time that they need::

    MESHPROTO_EXAMPLES=20000 python -m twisted.trial tests.test_properties
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from fuzz import receive, render
from fuzz.receive import Scene, check, cuttings, play
from meshproto.config import NodeConfig
from meshproto.events import (
    ChatReceived,
    Direction,
    Event,
    PeerConnected,
    PeerDisconnected,
)
from meshproto.link.interfaces import LinkLimits
from meshproto.mesh.node import MeshNode
from meshproto.wire import mesh1
from tests.fakes import Bench
from tests.slow import examples

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = int(os.environ.get("MESHPROTO_EXAMPLES", "0"))


def many(count: int) -> settings:
    """So many examples, always the same, unless the environment wants more."""
    return settings(max_examples=EXAMPLES or examples(count), derandomize=not EXAMPLES)


SCENES = st.builds(
    Scene,
    direction=st.sampled_from(Direction),
    verdict=st.sampled_from(receive.VERDICTS),
    reaction=st.sampled_from(receive.REACTIONS),
    when=st.integers(0, 4),
    ending=st.sampled_from(receive.ENDINGS),
    stubborn=st.booleans(),
    mesh2=st.booleans(),
)
PLAIN_SCENES = st.builds(
    Scene,
    direction=st.sampled_from(Direction),
    ending=st.sampled_from(receive.ENDINGS),
    stubborn=st.booleans(),
)
# Mostly such that there is a link after it.
GREETINGS = st.sampled_from([b"peer-8002:bob", b"bob", b"bob:", b"b:" + b"x" * 30])
LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b""])
COMMANDS = st.sampled_from([b"PING", b"PONG", b"REQUEST_PEERS", b"PEERS:", b"hi"])
LINES = st.one_of(
    COMMANDS,
    st.sampled_from(
        [
            b"",
            b"PEERS:10.0.0.1:9000,nobody,[::1]:8001",
            b" PING ",
            "\u2060PING".encode(),
            # Cut in the middle of a character, by the end of the line.
            b"caf\xc3",
            b"\x80\x80 \xe2\x82",
            b"\xf0\x9f\x91",
            b"\xed\xa0\x80",
            # Other line ends than ours are text.
            b"a\x0bb\x0cc\x1cd\x1dd\x85e",
            "a\u2028b\u2029c\x85d".encode(),
            b"\r",
            b"a\rb",
        ]
    ),
    st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=12),
    # At and round the bounds of `receive.LIMITS`.
    st.builds(
        lambda char, size: char * size,
        st.sampled_from([b"x", b"\xff", b"\r"]),
        st.integers(30, 35) | st.integers(62, 67),
    ),
)
STREAMS = st.builds(
    lambda greeting, lines: b"".join(line + end for line, end in [greeting, *lines]),
    st.tuples(
        st.one_of(GREETINGS, GREETINGS, GREETINGS, LINES, st.just(b"MAX_PEERS")),
        LINE_ENDS,
    ),
    st.lists(st.tuples(LINES, LINE_ENDS), max_size=8),
)
HELLO = (
    b"HELLO +142\n"
    b"identity: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
    b"incarnation: 7 11111111111111111111111111111111\n"
    b"link: 3\n"
    b"id: peer-8002\n"
    b"name: bob\n"
    b"max_payload: 65536\n"
)


def _handshake(direction: Direction) -> tuple[bytes, bytes]:
    """What the far end of such a link says behind its greeting."""
    return HELLO, b"READY\n" if direction is Direction.INCOMING else b"WELCOME\n"


FRAMES = st.sampled_from(
    [
        HELLO,
        b"WELCOME\n",
        b"READY\n",
        b"REFUSED full\n",
        b"PING\n",
        b"PING 7\n",
        b"PONG 7\n",
        b"REQUEST_PEERS\n",
        b"PEERS +12\n[::1]:8001\n",
        b"CHAT +3\nhi\n",
        b"CHAT +4\na\nb\n",
        b"CHAT +3\nhi!",
        b"DATA 0 4 0 +4\nbyte",
        # In pieces, with the rest of them, at the bound and past it.
        b"DATA 1 32 0 +2\nab",
        b"PIECE 1 +30\n" + b"x" * 30,
        b"PIECE 1 +31\n" + b"x" * 31,
        b"DATA 0 33 0 +1\nx",
        b"ABORT 1\n",
        b"NEW 1 +3\nabc",
        b"NEW +5\n",
        b"\n",
        b"half",
        b"x" * 1024,
    ]
)
#: A scene and a stream that nearly always agree, and mostly get through the handshake.
MESH2_LINKS = st.builds(
    lambda scene, verdict, greeting, steps, frames: (
        replace(scene, mesh2=True, verdict=verdict),
        b"".join([greeting, *_handshake(scene.direction)[:steps], *frames]),
    ),
    SCENES,
    st.sampled_from((*receive.VERDICTS, *["admit"] * 9)),
    st.sampled_from([b"peer-8002:bob\t\n"] * 4 + [b"bob\n", b"bob:\t\r\n"]),
    st.sampled_from([2, 2, 2, 2, 1, 0]),
    st.lists(FRAMES, max_size=8),
)
POINTS = st.lists(st.integers(0, 500), max_size=12)


def singles(stream: bytes) -> list[bytes]:
    """A stream byte by byte."""
    return cuttings(stream, range(len(stream)))


class PiecesTests(SynchronousTestCase):
    """Whatever the pieces in which bytes arrive, they come to the same."""

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(SCENES, STREAMS, POINTS)
    @example(Scene(), b"bob\nhi\n" + b"x" * 64 + b"\r\r\n", [])
    @example(Scene(), b"b:" + b"x" * 30 + b"\r\r\n", [])
    @many(800)
    def test_whatever_the_owner_does(
        self, scene: Scene, stream: bytes, points: list[int]
    ) -> None:
        check(scene, cuttings(stream, points), [stream], singles(stream))

    @given(MESH2_LINKS, POINTS)
    @many(800)
    def test_where_mesh2_is_spoken(
        self, link: tuple[Scene, bytes], points: list[int]
    ) -> None:
        scene, stream = link
        check(scene, cuttings(stream, points), [stream], singles(stream))

    @given(PLAIN_SCENES, STREAMS, POINTS)
    @many(800)
    def test_it_is_what_the_words_of_the_protocol_say(
        self, scene: Scene, stream: bytes, points: list[int]
    ) -> None:
        outcome = check(scene, cuttings(stream, points), [stream])
        self.assertTrue(scene.plain)
        self.assertEqual(outcome.told[0], ("opened",))

    @given(
        PLAIN_SCENES,
        st.lists(
            st.tuples(
                st.sampled_from([b"x", b"PING", "é".encode(), b"a\n", b"\xff"]),
                st.integers(1, 100) | st.integers(16_380, 16_390),
                LINE_ENDS,
            ),
            max_size=4,
        ),
        st.lists(st.integers(0, 40_000), max_size=6),
    )
    @many(100)
    def test_with_the_limits_of_every_day(
        self, scene: Scene, lines: list[tuple[bytes, int, bytes]], points: list[int]
    ) -> None:
        usual = Scene(
            scene.direction,
            ending=scene.ending,
            limits=LinkLimits(),
            max_line=mesh1.MAX_LINE,
        )
        stream = b"bob\n" + b"".join(char * size + end for char, size, end in lines)
        check(usual, cuttings(stream, points), [stream], cuttings(stream, [4]))


#: The least that a node may have.
MAX_LINE = 322


class _Player:
    """A real node, a peer that sends a stream, and what the application does.

    ``reaction`` comes with the event number ``when``.
    """

    def __init__(self, reaction: str, when: int) -> None:
        self.bench = Bench(
            NodeConfig(id="alice", max_line=MAX_LINE, max_handshake_line=MAX_LINE)
        ).start()
        self._reaction = reaction
        self._left = when
        self.bench.node.subscribe(self._note)

    @property
    def node(self) -> MeshNode:
        return self.bench.node

    def play(self, pieces: Iterable[bytes], *, turns: bool) -> list[Event]:
        """What the application hears; ``turns`` of the reactor between pieces."""
        wire = self.bench.caller()
        for piece in pieces:
            wire.raw(piece)
            if turns:
                self.bench.settle()
        self.bench.settle()
        self.node.resume_reading()
        self.bench.settle()
        self.answers = sorted(wire.heard().splitlines())
        wire.hang_up()
        self.bench.stop()
        self.bench.clock.advance(60)
        assert wire.closed
        return self.bench.events

    def _note(self, event: Event) -> None:
        self._left -= 1
        if self._left:
            return
        match self._reaction:
            case "pause":
                self.node.pause_reading()
            case "blink":
                self.node.pause_reading()
                self.node.resume_reading()
            case "say" if self.node.peers():
                self.node.broadcast("well")
            case "stop":
                self.node.stop()


class NodeTests(SynchronousTestCase):
    """The same for a whole node, and for what its application hears."""

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])

    @given(
        st.sampled_from(["none", "pause", "blink", "say", "stop"]),
        st.integers(2, 6),
        st.lists(
            st.tuples(
                LINES
                | st.integers(MAX_LINE - 2, MAX_LINE + 2).map(lambda size: b"x" * size),
                LINE_ENDS,
            ),
            max_size=12,
        ),
        POINTS,
        st.booleans(),
    )
    @many(150)
    def test_the_application_hears_the_same(
        self,
        reaction: str,
        when: int,
        lines: list[tuple[bytes, bytes]],
        points: list[int],
        turns: bool,
    ) -> None:
        stream = b"bob\n" + b"".join(line + end for line, end in lines)
        whole = _Player(reaction, when)
        events = whole.play([stream], turns=False)
        for pieces in (cuttings(stream, points), singles(stream)):
            other = _Player(reaction, when)
            self.assertEqual(other.play(pieces, turns=turns), events)
            self.assertEqual(other.answers, whole.answers)
        self.check_story(events)

    def check_story(self, events: list[Event]) -> None:
        """A peer comes before it speaks, and is silent when it has left."""
        here = False
        for event in events:
            if isinstance(event, PeerConnected):
                self.assertFalse(here)
                here = True
            elif isinstance(event, PeerDisconnected):
                self.assertTrue(here)
                here = False
            elif isinstance(event, ChatReceived):
                self.assertTrue(here)
        self.assertFalse(here)


TEXTS = st.lists(
    st.one_of(
        st.characters(),
        st.sampled_from(
            [
                "\x1b[2J",
                "\x1b]0;owned\x07",
                "\x9b1;1H",
                "\u202e",
                "\u2028",
                "\r\n",
                "\ufe0f",
                "\u0e31",
                "\u1161",
                "\u200d",
                "\udc80",
                "\U000e0041",
                "日本",
                "[",
                "] ",
                "[00:00:01] [SYSTEM] bye",
                "alice",
                "ＳＹＳＴＥＭ",
                "ERROR",
                "@192.0.2.2:8002",
                "x" * 20,
                "\\x1b",
            ]
        ),
    ),
    max_size=12,
).map("".join)


class TextTests(SynchronousTestCase):
    """Whatever text a peer chooses: lines, and nothing else, come of it."""

    @given(TEXTS)
    @many(300)
    def test_what_cannot_be_seen_is_spelled_out_and_the_rest_stays(
        self, text: str
    ) -> None:
        render.check_text(text)

    @given(TEXTS)
    @example("SYSTEM")
    @example("ALICE")
    @example("bob] [SYSTEM")
    @many(300)
    def test_every_event_is_one_line_with_an_honest_head(self, text: str) -> None:
        lines = [*render.told(text, debug=False), *render.told(text, debug=True)]
        self.assertGreater(len(lines), 40)
        for line in (*lines, *render.reported(text)):
            render.check_line(line)

    @given(TEXTS)
    @many(100)
    def test_a_terminal_shows_it_and_does_nothing_else(self, text: str) -> None:
        render.check_screen([*render.said(text), *render.reported(text)])

    @given(TEXTS, st.integers(20, 120))
    @many(300)
    def test_no_row_of_a_terminal_is_a_line_of_its_own(
        self, text: str, columns: int
    ) -> None:
        for line in (*render.said(text), *render.reported(text)):
            render.check_rows(line, columns)


class SeedTests(SynchronousTestCase):
    """The corpus from which the fuzzer sets out; it needs no Atheris here."""

    def seeds(self, target: str) -> dict[str, bytes]:
        folder = ROOT / "fuzz" / "corpus" / target
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def test_bytes_that_arrive(self) -> None:
        seeds = self.seeds("receive")
        for seed in seeds.values():
            receive.one_input(seed)
        scenes = [receive.scene_of(seed[:2]) for seed in seeds.values()]
        for field, values in (
            ("direction", tuple(Direction)),
            ("verdict", receive.VERDICTS),
            ("reaction", receive.REACTIONS),
            ("ending", receive.ENDINGS),
            ("stubborn", (False, True)),
            ("mesh2", (False, True)),
        ):
            self.assertEqual({getattr(s, field) for s in scenes}, set(values), field)
        self.assertEqual(receive.scene_of(b""), Scene())

    def test_texts_of_peers(self) -> None:
        seeds = self.seeds("render")
        self.assertGreater(len(seeds), 10)
        for seed in seeds.values():
            render.one_input(seed)
        render.one_input(b"")

    @given(SCENES)
    def test_every_scene_has_an_input(self, scene: Scene) -> None:
        self.assertEqual(receive.scene_of(receive.header_of(scene)), scene)

    def test_the_dictionaries_are_such(self) -> None:
        entry = re.compile(r'"([^"\\]|\\\\|\\x[0-9a-f]{2})+"')
        for target in ("mesh2", "receive", "render"):
            text = (ROOT / "fuzz" / f"{target}.dict").read_text("ascii")
            lines = [line for line in text.splitlines() if line[0] != "#"]
            self.assertGreater(len(lines), 20)
            for line in lines:
                self.assertTrue(entry.fullmatch(line), line)

    def run_fuzz(self, *arguments: str) -> tuple[int, str]:
        """Run the command where Atheris is not installed."""
        code = (
            "import sys, runpy; sys.modules['atheris'] = None; "
            f"sys.argv = {['fuzz', *arguments]!r}; "
            "runpy.run_module('fuzz', run_name='__main__')"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
        )
        self.assertEqual(result.stdout, "")
        return result.returncode, result.stderr

    def test_the_command_plays_one_input(self) -> None:
        seed = str(ROOT / "fuzz" / "corpus" / "receive" / "commands")
        self.assertEqual(self.run_fuzz("receive", seed), (0, ""))

    def test_the_command_says_what_it_lacks(self) -> None:
        status, error = self.run_fuzz("receive")
        self.assertEqual(status, 1)
        self.assertRegex(error, r"\Afuzz: install atheris first .*\n\Z")
        status, error = self.run_fuzz("nothing")
        self.assertEqual(status, 1)
        self.assertRegex(error, r"\Ausage: .*receive,render.*\n\Z")


class ReferenceTests(SynchronousTestCase):
    """The checks themselves: they do see what is wrong."""

    def test_another_outcome_is_noticed(self) -> None:
        with self.assertRaises(AssertionError):
            check(Scene(), [b"bob\nhi\n"], [b"bob\nha\n"])
        with self.assertRaises(AssertionError):
            check(Scene(reaction="pause"), [b"bob\nPING\n"], [b"bob\n"])

    def test_every_verdict_is_given(self) -> None:
        own = b"peer-8001:alice"
        answers = {
            "admit": own + b"\n",
            "duplicate": b"DUPLICATE\n",
            "full": b"MAX_PEERS\n",
            "itself": own + b"\n",
            "crossed": own + b"\n",
            "gone": b"",
        }
        words = {
            "admit": b"WELCOME\n",
            "duplicate": b"REFUSED duplicate\n",
            "full": b"REFUSED full\n",
            "itself": b"REFUSED ourselves\n",
            "crossed": b"REFUSED crossing\n",
            "gone": b"",
        }
        for verdict in receive.VERDICTS:
            outcome = play(Scene(verdict=verdict), [b"bob\n"])
            self.assertEqual(outcome.sent, answers[verdict])
            is_taken = verdict in ("admit", "crossed")
            self.assertIs(("ready",) in outcome.told, is_taken)
            outcome = play(Scene(verdict=verdict, mesh2=True), [b"bob:\t\n", HELLO])
            *_, said = outcome.sent.partition(b"\nmax_payload: 1048576\n")
            self.assertEqual(said, words[verdict])

    def test_what_is_not_safe_is_noticed(self) -> None:
        for line in ("a\x1b[2J", "a\u202eb", "a\nb", "\udc80"):
            with self.assertRaises((AssertionError, UnicodeError)):
                render.check_line(line)
        for line in ("\x1b]0;x\x07", "a\x1b[31mb", "\x1b[6n", "a\r\nb"):
            with self.assertRaises(AssertionError):
                render.check_screen([line])
        with self.assertRaises(AssertionError):
            render.check_head("[ALICE] hi", frozenset())
        with self.assertRaises(AssertionError):
            render.check_head("[ＳＹＳＴＥＭ] hi", frozenset())
