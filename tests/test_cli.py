"""The prompt without a terminal: what it says, does, completes, reads, writes."""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshproto.errors import ConfigError, DialFailed, LocalProtocolError, NotRunning
from meshproto.events import (
    BootstrapSucceeded,
    ChatReceived,
    ConnectionFailed,
    Peer,
    PeerConnected,
    PingSent,
)
from meshproto.run.chat import COMMANDS, Chat, completions
from meshproto.run.pipes import LineSplitter, PipeReader, PipeWriter
from meshproto.run.quiet import PIPE, SCREEN, WINDOW
from meshproto.run.render import TAGS
from meshproto.run.terminal import coloured, is_usable, wants_colours
from tests.fakes import FakeMesh, known, peer

BOB = peer()
EIGHT = known("localhost:8003").target


class ChatCase(SynchronousTestCase):
    """A conversation with a fake mesh, at twelve o'clock."""

    chatter = False
    rates = SCREEN

    def setUp(self) -> None:
        self.mesh = FakeMesh()
        self.shown: list[str] = []
        self.mesh.clock.advance(1000.0)
        self.chat = Chat(
            self.mesh,
            max_peers=20,
            debug=self.chatter,
            show=self.shown.append,
            stamp=lambda: "12:00:00",
            rates=self.rates,
        )

    def join(self, *peers: Peer) -> None:
        self.mesh.connected += peers
        for each in peers:
            self.mesh.emit(PeerConnected(peer=each, peer_count=1, max_peers=20))
        self.shown.clear()

    def answer(self, line: str) -> list[str]:
        self.shown.clear()
        self.assertTrue(self.chat.handle(line))
        return self.shown


class TalkTests(ChatCase):
    """Lines that are said."""

    def test_echo(self) -> None:
        """A line goes to the mesh and is shown as one's own."""
        self.join(BOB)
        self.assertEqual(self.answer("hello"), ["[12:00:00] [alice] hello"])
        self.assertEqual(self.mesh.said, ["hello"])

    def test_nobody(self) -> None:
        """Who is alone is told so, and which text it was."""
        for text, quoted in (
            ("hello", "hello"),
            ("x" * 40, "x" * 40),
            ("x" * 41, "x" * 40 + "..."),
            ("a\x1b\tb", "a\\x1b\\x09b"),
        ):
            self.assertEqual(
                self.answer(text)[1:],
                [
                    f'[12:00:00] [SYSTEM] No peers connected: "{quoted}" '
                    "was not delivered"
                ],
            )

    def test_counts(self) -> None:
        """What was to be said, and what of it no peer was handed."""

        def counts() -> tuple[int, int, int]:
            return self.chat.said, self.chat.unheard, self.chat.failed

        for line in ("", "/peers", "/help"):
            self.answer(line)
        self.assertEqual(counts(), (0, 0, 0))
        self.answer("to nobody")
        self.assertEqual(counts(), (1, 1, 0))
        self.join(BOB)
        self.answer("to bob")
        self.answer("//to bob")
        self.assertEqual(counts(), (3, 1, 0))
        self.mesh.refusal = LocalProtocolError("a chat message is too long")
        self.answer("too long")
        self.assertEqual(counts(), (4, 2, 0))
        for line in ("too late", "//too late", "", "/quit"):
            self.chat.give_up(line)
        self.assertEqual(counts(), (6, 4, 0))

    def test_text_arrives_as_it_was_typed(self) -> None:
        """Spaces included, and what only looks like a command."""
        self.join(BOB)
        for line in ("  two  spaces ", "PING", "PEERS:x", " /quit", "a /b"):
            self.assertEqual(self.answer(line), [f"[12:00:00] [alice] {line}"])
            self.assertEqual(self.mesh.said[-1], line)

    def test_two_slashes(self) -> None:
        """One is taken off, and the rest is said."""
        self.join(BOB)
        for line, said in (
            ("//peers", "/peers"),
            ("//shrug  twice", "/shrug  twice"),
            ("///", "//"),
            ("//", "/"),
        ):
            self.assertEqual(self.answer(line), [f"[12:00:00] [alice] {said}"])
            self.assertEqual(self.mesh.said[-1], said)

    def test_tab(self) -> None:
        """It goes out as it is, and is shown as spaces."""
        self.join(BOB)
        self.assertEqual(self.answer("a\tb"), ["[12:00:00] [alice] a    b"])
        self.assertEqual(self.mesh.said, ["a\tb"])

    def test_blank_lines(self) -> None:
        """Nothing to say, nothing said."""
        for line in ("", " ", "\t"):
            self.assertEqual(self.answer(line), [])
        self.assertEqual(self.mesh.said, [])

    def test_hostile_text_of_one_s_own(self) -> None:
        """A pasted escape sequence goes out as it is, and is shown harmless."""
        self.join(BOB)
        self.assertEqual(
            self.answer("\x1b[2J"),
            ["[12:00:00] [alice] \\x1b[2J"],
        )
        self.assertEqual(self.mesh.said, ["\x1b[2J"])

    def test_text_that_cannot_be_sent(self) -> None:
        """The reason, in one line, and no echo."""
        self.mesh.refusal = LocalProtocolError("a chat message is too long")
        self.assertEqual(
            self.answer("x" * 10_000),
            ["[12:00:00] [ERROR] a chat message is too long"],
        )

    def test_before_the_node_runs(self) -> None:
        """No traceback either."""
        self.mesh.refusal = NotRunning("the node is not running")
        for line in ("hello", "/discover"):
            self.assertEqual(
                self.answer(line), ["[12:00:00] [ERROR] the node is not running"]
            )

    def test_events(self) -> None:
        """Each event is a line, with the time before it."""
        self.join(BOB)
        self.mesh.emit(ChatReceived(peer=BOB, text="hi"), PingSent(peer=BOB))
        self.assertEqual(self.shown, ["[12:00:00] [bob] hi"])


class DebugTests(ChatCase):
    """The same with ``--debug``."""

    chatter = True

    def test_chatter(self) -> None:
        """Wire chatter is shown."""
        self.join(BOB)
        self.mesh.emit(PingSent(peer=BOB))
        self.assertEqual(self.shown, ["[12:00:00] [DEBUG] Sent PING to bob"])


class FloodTests(ChatCase):
    """At a terminal a flood leaves room for other lines."""

    def test_flood(self) -> None:
        """A page of it is shown; the rest is counted, though nothing else happens."""
        assert SCREEN.chat is not None
        self.join(BOB)
        self.mesh.emit(*[ChatReceived(peer=BOB, text="x")] * 1000)
        self.assertEqual(len(self.shown), SCREEN.chat.at_once)
        self.shown.clear()
        self.mesh.clock.advance(WINDOW)
        self.assertEqual(
            self.shown, ["[12:00:00] [NETWORK] 900 more messages from bob in 1 s"]
        )

    def test_an_end_in_the_midst_of_it(self) -> None:
        assert SCREEN.chat is not None
        self.join(BOB)
        self.mesh.emit(*[ChatReceived(peer=BOB, text="x")] * 1000)
        self.shown.clear()
        self.chat.close()
        self.assertEqual(
            self.shown, ["[12:00:00] [NETWORK] 900 more messages from bob in 1 s"]
        )
        self.assertEqual(self.mesh.clock.getDelayedCalls(), [])
        self.mesh.emit(ChatReceived(peer=BOB, text="x"))
        self.assertEqual(len(self.shown), 1)

    def test_a_line_at_the_bound_and_one_byte_past_it(self) -> None:
        """One past it may be cut off already, so it is not sent as a payload."""
        longest = self.mesh.config.max_line
        self.answer("x" * longest)
        self.assertEqual(self.mesh.said, ["x" * longest])
        for text in ("x" * (longest + 1), "\u20ac" * (longest // 3 + 1)):
            self.answer(text)
        self.assertEqual(len(self.mesh.said), 1)

    def test_long_messages(self) -> None:
        """They are shown whole."""
        self.join(BOB)
        self.mesh.emit(ChatReceived(peer=BOB, text="x" * 16384))
        self.assertEqual(self.shown, [f"[12:00:00] [bob] {'x' * 16384}"])


class PipeTests(ChatCase):
    """What a program reads leaves nothing out."""

    rates = PIPE

    def test_flood(self) -> None:
        self.join(BOB)
        self.mesh.emit(*[ChatReceived(peer=BOB, text="x")] * 5000)
        self.assertEqual(self.shown, ["[12:00:00] [bob] x"] * 5000)


class CommandTests(ChatCase):
    """Lines that do something."""

    def test_quit(self) -> None:
        """The one line that ends the conversation."""
        self.assertFalse(self.chat.handle("/quit"))
        self.assertFalse(self.chat.handle("/quit  "))
        self.assertEqual(self.mesh.said, [])

    def test_unknown(self) -> None:
        """It is said to nobody; a command that is near is named."""
        self.join(BOB)
        for line, command, hint in (
            ("/peer", "/peer", "did you mean /peers?"),
            ("/Peers", "/Peers", "did you mean /peers?"),
            ("/conect localhost:1", "/conect", "did you mean /connect?"),
            ("/exit", "/exit", "did you mean /quit?"),
            ("/nick x", "/nick", "/help shows the commands."),
            ("/msg charlie hi", "/msg", "/help shows the commands."),
            ("/", "/", "/help shows the commands."),
            ("/\x1b[2J", "/\\x1b[2J", "/help shows the commands."),
            ("/" + "x" * 40, "/" + "x" * 39 + "...", "/help shows the commands."),
        ):
            self.assertEqual(
                self.answer(line),
                [
                    f"[12:00:00] [ERROR] Unknown command {command}: {hint} "
                    "To say it, begin with //"
                ],
            )
        self.assertEqual((self.mesh.said, self.mesh.calls), ([], []))
        self.assertEqual((self.chat.failed, self.chat.said), (9, 0))

    def test_failures_are_counted(self) -> None:
        """Every command that could not be carried out, once."""
        self.answer("/connect localhost:8003")
        self.assertEqual(self.chat.failed, 0)
        self.mesh.dialling.errback(DialFailed(EIGHT, "refused"))
        self.assertEqual(self.chat.failed, 1)
        self.answer("/connect nowhere")
        self.answer("/connect")
        self.assertEqual(self.chat.failed, 3)
        self.mesh.dialling = fail(ConfigError("bootstrap", "odd"))
        self.answer("/connect bogus:a:b")
        self.assertEqual(self.chat.failed, 4)
        self.mesh.dialling = fail(NotRunning("the node is stopped"))
        self.answer("/connect localhost:8003")
        self.assertEqual(self.chat.failed, 4)
        self.mesh.refusal = NotRunning("the node is stopped")
        self.answer("/discover")
        self.assertEqual((self.chat.failed, self.chat.said), (5, 0))

    def test_wrong_arguments(self) -> None:
        """How the command is meant to be used; nothing is said or done."""
        for line, usage in (
            ("/connect", "/connect HOST:PORT"),
            ("/connect a:1 b:2", "/connect HOST:PORT"),
            ("/peers all", "/peers"),
            ("/discover now", "/discover"),
            ("/quit please", "/quit"),
            ("/help me", "/help"),
        ):
            self.assertEqual(self.answer(line), [f"[12:00:00] [ERROR] Usage: {usage}"])
        self.assertEqual((self.mesh.said, self.mesh.calls), ([], []))

    def test_help(self) -> None:
        """Every command, and what becomes of the rest."""
        text = "\n".join(self.answer("/help"))
        for command in COMMANDS:
            self.assertIn(command, text)
        self.assertIn("every peer", text)
        self.assertIn("//help says /help", text)

    def test_peers(self) -> None:
        """The table, by the node's clock."""
        self.join(peer(last_heard=998.0))
        self.mesh.book.append(known("192.168.1.100:8002", linked=True))
        self.assertEqual(
            self.answer("/peers"),
            [
                "Connected peers (1/20):",
                "  bob  ID peer-8002  192.168.1.100:8002  dialled us  heard 2 s ago",
                "Known addresses (1):",
                "  192.168.1.100:8002  linked",
            ],
        )

    def test_peers_when_alone(self) -> None:
        """An empty table says so."""
        self.assertEqual(self.answer("/peers"), ["No connected peers"])

    def test_discover(self) -> None:
        """How many were asked."""
        self.assertEqual(
            self.answer("/discover"),
            ["[12:00:00] [SYSTEM] No peers connected: nobody to ask"],
        )
        self.join(BOB)
        self.assertEqual(
            self.answer("/discover"),
            ["[12:00:00] [DISCOVERY] Asked 1 peer for more peers"],
        )
        self.join(peer("carol"))
        self.assertEqual(
            self.answer("/discover"),
            ["[12:00:00] [DISCOVERY] Asked 2 peers for more peers"],
        )

    def test_connect(self) -> None:
        """The dial is told at once, its success by the event."""
        self.assertEqual(
            self.answer("/connect LocalHost:8003"),
            ["[12:00:00] [SYSTEM] Connecting to localhost:8003"],
        )
        self.assertEqual(self.mesh.calls, ["connect localhost:8003"])
        self.shown.clear()
        self.join(BOB)
        self.mesh.dialling.callback(BOB)
        self.assertEqual(self.shown, [])

    def test_connect_to_a_peer_that_is_connected(self) -> None:
        """No event tells that, so the prompt does."""
        self.join(BOB)
        self.mesh.dialling = succeed(BOB)
        self.assertEqual(
            self.answer("/connect 192.168.1.100:8002")[1:],
            ["[12:00:00] [SYSTEM] Already connected to peer bob"],
        )

    def test_connect_fails(self) -> None:
        """Told once: by the event, not by the Deferred as well."""
        self.answer("/connect localhost:8003")
        self.shown.clear()
        self.mesh.emit(ConnectionFailed(target=EIGHT, reason="connection refused"))
        self.mesh.dialling.errback(DialFailed(EIGHT, "connection refused"))
        self.assertEqual(
            self.shown,
            ["[12:00:00] [ERROR] Failed to connect to localhost:8003: "
             "connection refused"],
        )  # fmt: skip

    def test_connect_to_no_address(self) -> None:
        """What is no address is not dialled."""
        self.assertEqual(
            self.answer("/connect localhost"),
            ["[12:00:00] [ERROR] 'localhost' has no port: write host:port"],
        )
        self.assertEqual(self.mesh.calls, [])

    def test_connect_with_an_endpoint_that_cannot_be_used(self) -> None:
        """What only the node can find out is told as well."""
        self.mesh.dialling = fail(ConfigError("bootstrap", "odd"))
        self.assertEqual(
            self.answer("/connect bogus:a:b")[1:],
            ["[12:00:00] [ERROR] bootstrap: odd"],
        )

    def test_connect_while_leaving(self) -> None:
        """A dial that is given up because the user leaves is no error."""
        self.answer("/connect localhost:8003")
        self.shown.clear()
        self.mesh.dialling.errback(NotRunning("the node is stopped"))
        self.assertEqual(self.shown, [])

    def test_settled(self) -> None:
        """A script waits for its ``/connect``, whatever becomes of it."""
        for outcome in (BOB, DialFailed(EIGHT, "refused")):
            self.mesh.dialling = Deferred()
            self.answer("/connect localhost:8003")
            settled = Deferred.fromCoroutine(self.chat.settled())
            self.assertNoResult(settled)
            if isinstance(outcome, Exception):
                self.mesh.dialling.errback(outcome)
            else:
                self.mesh.dialling.callback(outcome)
            self.successResultOf(settled)

    def test_settled_when_nothing_is_under_way(self) -> None:
        """At once."""
        self.successResultOf(Deferred.fromCoroutine(self.chat.settled()))


class JoinedTests(ChatCase):
    """When piped lines may be said."""

    def test_alone(self) -> None:
        """Not as long as there is nobody."""
        self.mesh.clock.advance(3600)
        self.assertFalse(self.chat.has_joined)

    def test_quiet(self) -> None:
        """Once no more news come."""
        self.join(BOB)
        self.assertFalse(self.chat.has_joined)
        self.mesh.clock.advance(0.2)
        self.mesh.emit(BootstrapSucceeded(target=EIGHT))
        self.mesh.clock.advance(0.2)
        self.assertFalse(self.chat.has_joined)
        self.mesh.clock.advance(0.2)
        self.assertTrue(self.chat.has_joined)

    def test_addresses_to_be_tried(self) -> None:
        """Addresses that were told are tried first, within reason."""
        self.join(BOB)
        self.mesh.book = [
            known("10.0.0.1:8001", linked=True),
            known("10.0.0.2:8001", failures=1),
            known("10.0.0.3:8001"),
        ]
        self.mesh.clock.advance(1.0)
        self.assertFalse(self.chat.has_joined)
        self.mesh.book[-1] = known("10.0.0.3:8001", failures=1)
        self.assertTrue(self.chat.has_joined)
        self.mesh.book[-1] = known("10.0.0.3:8001")
        self.mesh.clock.advance(1.5)
        self.assertTrue(self.chat.has_joined)

    def test_everybody_has_gone(self) -> None:
        """Who was there does not count."""
        self.join(BOB)
        self.mesh.connected.clear()
        self.mesh.clock.advance(60)
        self.assertFalse(self.chat.has_joined)


class CompletionTests(SynchronousTestCase):
    """What Tab offers."""

    def offered(
        self, text: str, *addresses: str, names: Sequence[str] = ()
    ) -> list[str]:
        return list(completions(text, lambda: addresses, lambda: names))

    def test_commands(self) -> None:
        """Commands by their beginning; what takes an argument gets its space."""
        self.assertEqual(self.offered("/pe"), ["/peers"])
        self.assertEqual(self.offered("/c"), ["/connect "])
        self.assertEqual(self.offered("/d"), ["/discover"])
        self.assertEqual(len(self.offered("/")), len(COMMANDS))
        self.assertEqual(self.offered("/x"), [])

    def test_no_completion(self) -> None:
        """Where nothing is known that fits, nothing is offered."""
        for text in ("", "he", " /pe", "/peers x", "x /pe", "//pe", "/peers b"):
            self.assertEqual(self.offered(text, names=["bob"]), [])

    def test_names(self) -> None:
        """A peer's name; at the start of a line it is spoken to."""
        names = ["bob", "Bobby", "carol", "bob", "/x"]
        for text, offered in (
            ("c", ["carol: "]),
            ("carol", ["carol: "]),
            ("tell c", ["tell carol"]),
            ("//tell  c", ["//tell  carol"]),
            ("b", ["Bobby: ", "bob: "]),
            ("BOB", ["Bobby: ", "bob: "]),
            ("hi b", ["hi Bobby", "hi bob"]),
            ("hi ", []),
            ("", []),
        ):
            self.assertEqual(self.offered(text, names=names), offered, text)

    def test_hostile_names(self) -> None:
        """What could bring something unseen into the line is not offered."""
        names = ["b\x1b[2J", "b\u202eob", "b\tob", "b\u200b"]
        self.assertEqual(self.offered("b", names=names), [])

    def test_addresses(self) -> None:
        """What is known can be connected to."""
        addresses = ("10.0.0.1:8001", "10.0.0.2:8001", "localhost:8003")
        self.assertEqual(
            self.offered("/connect 10", *addresses),
            ["/connect 10.0.0.1:8001", "/connect 10.0.0.2:8001"],
        )
        self.assertEqual(len(self.offered("/connect ", *addresses)), 3)
        self.assertEqual(self.offered("/connect x", *addresses), [])


class UsableTests(SynchronousTestCase):
    """Where a prompt can be drawn."""

    class Stream:
        def __init__(self, terminal: bool) -> None:
            self.isatty = lambda: terminal

    def test_usable(self) -> None:
        """Both ends are a terminal, and one with a cursor."""
        yes, no = self.Stream(True), self.Stream(False)
        self.patch(os, "environ", {"TERM": "xterm"})
        self.assertTrue(is_usable(yes, yes))
        for stdin, stdout in ((yes, no), (no, yes), (None, yes), (yes, None)):
            self.assertFalse(is_usable(stdin, stdout))
        self.patch(os, "environ", {"TERM": "dumb"})
        self.assertFalse(is_usable(yes, yes))


class ColourTests(SynchronousTestCase):
    """What gets a colour, and which."""

    def colour(self, name: str) -> str:
        shown = coloured(f"[12:00:00] [{name}] text [x]")
        before, start, rest = shown.partition("\x1b[")
        colour, _, rest = rest.partition("m")
        self.assertEqual((before, start), ("[12:00:00] ", "\x1b["))
        self.assertEqual(rest, f"[{name}]\x1b[0m text [x]")
        return colour

    def test_words_of_ours(self) -> None:
        """One colour for all, another for errors."""
        self.assertEqual({self.colour(tag) for tag in TAGS - {"ERROR"}}, {"36"})
        self.assertEqual(self.colour("ERROR"), "31")

    def test_names(self) -> None:
        """Each has its own, always the same, and none of ours."""
        names = [f"peer-{number}" for number in range(200)]
        colours = [self.colour(name) for name in names]
        self.assertEqual(colours, [self.colour(name) for name in names])
        self.assertGreater(len(set(colours)), 4)
        self.assertFalse(set(colours) & {"31", "36"})
        self.assertEqual(self.colour("bob"), "32")
        self.colour("SYSTEM@127.0.0.1")
        self.colour("m\u00fcller \U0001f98a")

    def test_plain(self) -> None:
        """A line of a table, and one whose head a narrow terminal breaks."""
        for text in (
            "Commands:",
            "  bob  ID peer-8002",
            "[bob] hi",
            "[12:00:00] text [bob]",
            "[12:00:00] [a very\n  long name] text",
            "x[12:00:00] [bob] hi",
        ):
            self.assertEqual(coloured(text), text)

    def test_wanted(self) -> None:
        """Unless the user wants none, by any value that is not empty."""
        self.assertTrue(wants_colours({}))
        self.assertTrue(wants_colours({"NO_COLOR": ""}))
        for value in ("1", "0", "no"):
            self.assertFalse(wants_colours({"NO_COLOR": value}))


class SplitterTests(SynchronousTestCase):
    """Bytes to lines."""

    def split(self, *chunks: bytes, max_line: int = 100) -> list[str]:
        splitter = LineSplitter(max_line)
        lines = [line for chunk in chunks for line in splitter.feed(chunk)]
        return lines + splitter.finish()

    def test_lines(self) -> None:
        """LF and CRLF end a line; the last one may have no end."""
        self.assertEqual(self.split(b"a\nb\r\n\nc"), ["a", "b", "", "c"])
        self.assertEqual(self.split(b"a\n"), ["a"])
        self.assertEqual(self.split(), [])

    def test_other_ends(self) -> None:
        """Nothing else ends a line."""
        self.assertEqual(self.split(b"a\rb\x0bc\x0cd\n"), ["a\rb\x0bc\x0cd"])
        self.assertEqual(self.split("a\u2028b\x85c".encode()), ["a\u2028b\x85c"])

    def test_not_utf8(self) -> None:
        """Replacement characters, as on the wire."""
        self.assertEqual(self.split(b"a\xffb\n"), ["a\ufffdb"])

    def test_chunks(self) -> None:
        """A character may be cut in two."""
        self.assertEqual(self.split(b"\xc3", b"\xbc\r", b"\n"), ["\u00fc"])

    def test_long_lines(self) -> None:
        """As long as allowed, whole; longer, just so long that it is refused."""
        for length, kept in ((4, 4), (5, 5), (6, 6), (7, 6), (1000, 6)):
            for end in (b"\n", b"\r\n"):
                self.assertEqual(
                    self.split(b"x" * length, end, b"y\n", max_line=5),
                    ["x" * kept, "y"],
                )
            self.assertEqual(self.split(b"x" * length, max_line=5), ["x" * kept])

    def test_lines_about_as_long_as_allowed(self) -> None:
        """A line within the limit is whole, a longer one is too long."""
        for text, kept in (
            (b"xxxx", "xxxx"),
            (b"xxxxx", "xxxxx"),
            (b"xxxxxx", "xxxxxx"),
            (b"xxxxx\r", "xxxxx\r"),
            (b"xxxxx\ry", "xxxxx\r"),
            (b"xxxxx\r\r\r", "xxxxx\r"),
            (b"xxxxxx\r", "xxxxxx"),
        ):
            for end in (b"\n", b"\r\n"):
                if end == b"\n" and text.endswith(b"\r"):
                    continue  # That is the other end.
                data = text + end + b"y\n"
                for chunks in ([data], [bytes([byte]) for byte in data]):
                    self.assertEqual(
                        self.split(*chunks, max_line=5), [kept, "y"], chunks
                    )

    def test_memory(self) -> None:
        """A line without an end is not kept."""
        splitter = LineSplitter(100)
        for _ in range(1000):
            self.assertEqual(splitter.feed(b"x" * 1000), [])
        self.assertLess(len(splitter._rest), 110)

    @given(st.lists(st.binary(max_size=30)), st.integers(1, 12))
    def test_chunks_make_no_difference(self, chunks: list[bytes], limit: int) -> None:
        """However the bytes come, the lines are the same."""
        self.assertEqual(
            self.split(*chunks, max_line=limit),
            self.split(b"".join(chunks), max_line=limit),
        )


def join_new_threads(before: set[threading.Thread]) -> None:
    """Wait for the threads that still use a descriptor that is to be closed.

    The number of a closed descriptor is soon another's.
    """
    for thread in set(threading.enumerate()) - before:
        thread.join()


class PipeReaderTests(TestCase):
    """Lines from a descriptor, on the real reactor."""

    timeout = 30

    def reader(self, fd: int) -> PipeReader:
        threads: Any = reactor
        return PipeReader(fd, 100, threads)

    async def all_lines(self, reader: PipeReader) -> list[str]:
        lines = []
        while (line := await reader.next_line()) is not None:
            lines.append(line)
        return lines

    async def test_pipe(self) -> None:
        """Lines as they come, then the end, again and again."""
        readable, writable = os.pipe()
        self.addCleanup(os.close, readable)
        reader = self.reader(readable)
        os.write(writable, b"one\ntw")
        self.assertEqual(await reader.next_line(), "one")
        os.write(writable, b"o\nthree")
        os.close(writable)
        self.assertEqual(await self.all_lines(reader), ["two", "three"])
        self.assertIsNone(await reader.next_line())

    async def test_file(self) -> None:
        """A regular file, which cannot be waited for."""
        name = self.mktemp()
        with open(name, "wb") as file:
            file.writelines(b"line %d\n" % number for number in range(50_000))
        with open(name, "rb") as file:
            lines = await self.all_lines(self.reader(file.fileno()))
        self.assertEqual(lines, [f"line {number}" for number in range(50_000)])

    async def test_null_device(self) -> None:
        """Nothing, at once."""
        with open(os.devnull, "rb") as null:
            self.assertEqual(await self.all_lines(self.reader(null.fileno())), [])

    async def test_unreadable(self) -> None:
        """What cannot be read has no lines."""
        folder = os.open(".", os.O_RDONLY)
        self.addCleanup(os.close, folder)
        self.assertEqual(await self.all_lines(self.reader(folder)), [])

    async def test_descriptor_that_does_not_block(self) -> None:
        """Whoever set it so, it is waited for, and left as it is."""
        readable, writable = os.pipe()
        self.addCleanup(os.close, readable)
        os.set_blocking(readable, False)
        reader = self.reader(readable)
        waiting = Deferred.fromCoroutine(reader.next_line())
        self.assertNoResult(waiting)
        os.write(writable, b"late\n")
        os.close(writable)
        self.assertEqual(await waiting, "late")
        self.assertFalse(os.get_blocking(readable))

    async def test_close(self) -> None:
        """Who waits is told the end, though nothing comes."""
        readable, writable = os.pipe()
        before = set(threading.enumerate())
        reader = self.reader(readable)
        waiting = Deferred.fromCoroutine(reader.next_line())
        self.assertNoResult(waiting)
        reader.close()
        self.assertIsNone(await waiting)
        self.assertIsNone(await reader.next_line())
        os.close(writable)
        join_new_threads(before)
        os.close(readable)

    async def test_close_drops_what_was_read(self) -> None:
        """After it there is no line, not even one that is there."""
        readable, writable = os.pipe()
        self.addCleanup(os.close, readable)
        reader = self.reader(readable)
        os.write(writable, b"one\ntwo\n")
        os.close(writable)
        self.assertEqual(await reader.next_line(), "one")
        reader.close()
        self.assertIsNone(await reader.next_line())


class PipeWriterTests(TestCase):
    """Lines to a descriptor, on the real reactor."""

    timeout = 30

    def setUp(self) -> None:
        self.told: list[object] = []
        self.readable, self.writable = os.pipe()

    def writer(self, fd: int | None = None, encoding: str = "utf-8") -> PipeWriter:
        threads: Any = reactor
        return PipeWriter(
            self.writable if fd is None else fd,
            encoding,
            threads,
            on_full=lambda: self.told.append("full"),
            on_eased=lambda: self.told.append("eased"),
            on_broken=lambda error: self.told.append(error.errno),
        )

    def written(self) -> bytes:
        os.close(self.writable)
        with open(self.readable, "rb") as file:
            return file.read()

    async def test_lines(self) -> None:
        """In order, each with its end."""
        writer = self.writer()
        for number in range(100):
            writer.write(f"line {number}")
        await writer.flush()
        self.assertEqual(
            self.written(), b"".join(b"line %d\n" % number for number in range(100))
        )
        self.assertEqual(self.told, [])

    async def test_flush_of_nothing(self) -> None:
        """At once."""
        await self.writer().flush()
        self.assertEqual(self.written(), b"")

    async def test_encoding(self) -> None:
        """What the terminal's character set has not is spelled out."""
        writer = self.writer(encoding="ascii")
        writer.write("gr\u00fcn \U0001f600")
        await writer.flush()
        self.assertEqual(self.written(), b"gr\\xfcn \\U0001f600\n")

    async def test_slow_reader(self) -> None:
        """Nothing is held up, nothing is lost, and the writer is told."""
        writer = self.writer()
        line = "x" * 999
        for _ in range(1024):
            writer.write(line)
        self.assertEqual(self.told, [])
        for _ in range(1024):
            writer.write(line)
        self.assertEqual(self.told, ["full"])
        self.assertTrue(writer.is_full)
        read = bytearray()

        def drain() -> None:
            with open(self.readable, "rb", closefd=False) as file:
                while chunk := file.read1(65536):
                    read.extend(chunk)

        draining = threading.Thread(target=drain)
        draining.start()
        await writer.flush()
        os.close(self.writable)
        draining.join()
        os.close(self.readable)
        self.assertEqual(len(read), 2048 * 1000)
        self.assertEqual(self.told, ["full", "eased"])
        self.assertFalse(writer.is_full)

    async def test_broken_pipe(self) -> None:
        """Told once; what comes after is dropped."""
        os.close(self.readable)
        writer = self.writer()
        writer.write("one")
        writer.write("two")
        await writer.flush()
        writer.write("three")
        await writer.flush()
        self.assertEqual(self.told, [errno.EPIPE])
        os.close(self.writable)

    async def test_no_room(self) -> None:
        """A full disk is told as what it is."""
        full = os.open("/dev/full", os.O_WRONLY)
        self.addCleanup(os.close, full)
        writer = self.writer(full)
        writer.write("one")
        await writer.flush()
        self.assertEqual(self.told, [errno.ENOSPC])
        self.assertEqual(self.written(), b"")

    async def test_abandon(self) -> None:
        """Who waits for a stuck pipe can stop waiting."""
        before = set(threading.enumerate())
        writer = self.writer()
        writer.write("x" * 1_000_000)
        flushed = writer.flush()
        self.assertNoResult(flushed)
        writer.abandon()
        await flushed
        os.close(self.readable)
        join_new_threads(before)
        os.close(self.writable)

    async def test_descriptor_that_does_not_block(self) -> None:
        """Whoever set it so, all of it is written."""
        os.set_blocking(self.writable, False)
        writer = self.writer()
        writer.write("x" * 200_000)
        reading = threading.Thread(target=lambda: read.append(self.read(200_001)))
        read: list[bytes] = []
        reading.start()
        await writer.flush()
        reading.join()
        self.assertEqual(len(read[0]), 200_001)
        self.assertEqual(self.written(), b"")

    def read(self, size: int) -> bytes:
        with open(self.readable, "rb", closefd=False) as file:
            return file.read(size)


class MainTests(SynchronousTestCase):
    """The door of the program, as far as it goes without a process."""

    def leave(self, arguments: Sequence[str]) -> object:
        from meshproto.run.cli import main

        self.patch(sys, "stdout", io.StringIO())
        self.patch(sys, "stderr", io.StringIO())
        with self.assertRaises(SystemExit) as caught:
            main(arguments)
        return caught.exception.code

    def test_arguments(self) -> None:
        """Bad ones and questions are answered before anything is set up."""
        self.assertEqual(self.leave(["--help"]), 0)
        self.assertEqual(self.leave(["--version"]), 0)
        self.assertEqual(self.leave(["not-a-port"]), 2)
