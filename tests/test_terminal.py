"""The real program at real terminals."""

from __future__ import annotations

import os
import re
import signal
import stat
import termios
from collections.abc import Callable
from pathlib import Path

from lab.terminals import (
    PATIENCE,
    Terminal,
    Visitor,
    free_port,
    meshproto,
)
from meshproto.run.quiet import SCREEN
from meshproto.run.terminal import _PALETTE
from tests.programs import ProgramCase
from tests.slow import slow

STAMP = re.compile(r"\[\d\d:\d\d:\d\d\] ")
CTRL_C, CTRL_D, UP, TAB, ENTER = "\x03", "\x04", "\x1b[A", "\t", "\r"


class ConversationTests(ProgramCase):
    """People at their prompts."""

    def test_two_people(self) -> None:
        """They see each other come, talk and go, in the words of the design."""
        alice = self.started("alice")
        bob = self.started("bob", f"localhost:{alice.port}")
        self.sees(
            bob, f"[NETWORK] Connected to peer alice at localhost:{alice.port} (1"
        )
        self.sees(
            alice, f"[NETWORK] Peer bob connected from 127.0.0.1:{bob.port} (1/20"
        )
        bob.type(f"hello alice{ENTER}")
        self.sees(alice, "[bob] hello alice")
        self.sees(bob, "[bob] hello alice")
        alice.type(f"Gr\u00fc\u00dfe, \u65e5\u672c \U0001f600!{ENTER}")
        self.until(
            lambda: any("[alice] Gr\u00fc\u00dfe" in line for line in bob.lines), "word"
        )
        self.assertIn("Gr\u00fc\u00dfe, \u65e5\u672c \U0001f600!".encode(), bob.raw)
        bob.type(f"/quit{ENTER}")
        self.ends(bob)
        self.sees(alice, "[NETWORK] Peer bob disconnected")
        shown = [line for line in alice.lines if line and line != ">"]
        self.assertEqual([line for line in shown if not STAMP.match(line)], [])
        self.assertEqual(
            [STAMP.sub("", line) for line in shown][:3],
            [
                f"[SYSTEM] Node alice listening on port {alice.port}",
                f"[NETWORK] Peer bob connected from 127.0.0.1:{bob.port} (1/20 peers)",
                "[bob] hello alice",
            ],
        )

    @slow
    def test_line_being_typed_stays_whole(self) -> None:
        """However much arrives meanwhile."""
        alice = self.started("alice")
        visitor = self.visitor(alice)
        typed = ""
        for number, char in enumerate("a line that takes its time"):
            visitor.send(f"message {number}")
            alice.type(char)
            typed += char
            expected = f"> {typed}".rstrip()
            self.sees(alice, f"[visitor] message {number}")
            self.until(lambda: alice.typed == expected, "typed line")  # noqa: B023
        alice.type(ENTER)
        self.sees(alice, f"[alice] {typed}")
        self.until(lambda: alice.typed == ">", "empty prompt")
        messages = [line for line in alice.lines if "[visitor] message" in line]
        self.assertEqual(len(messages), len(typed))
        self.assertEqual([line for line in messages if not STAMP.match(line)], [])

    def test_flood(self) -> None:
        """A thousand lines at once: some are shown, in order; the typed stays."""
        assert SCREEN.chat is not None
        alice = self.started("alice")
        visitor = self.visitor(alice)
        alice.type("half a wo")
        for number in range(1000):
            visitor.send(f"message {number}")
        self.sees(alice, f"[visitor] message {SCREEN.chat.at_once - 1}")
        self.until(lambda: alice.typed == "> half a wo", "typed line")
        shown = [
            int(line.rpartition(" ")[2])
            for line in alice.lines
            if "[visitor] message" in line
        ]
        most = SCREEN.chat.at_once
        self.assertEqual(shown[:most], list(range(most)))
        self.assertEqual(shown, sorted(shown))
        self.assertLess(len(shown), 1000)

    @slow
    def test_editing(self) -> None:
        """History, cursor keys, completion."""
        alice = self.started("alice")
        alice.type(f"first{ENTER}second{ENTER}")
        self.sees(alice, "[alice] second")
        alice.type(UP + UP)
        self.until(lambda: alice.typed == "> first", "line of the history")
        alice.type("\x1b[D\x1b[DX")
        self.until(lambda: alice.typed == "> firXst", "line that is edited")
        alice.type(ENTER)
        self.sees(alice, "[alice] firXst")
        alice.type(f"/pe{TAB}")
        self.until(lambda: alice.typed == "> /peers", "completed command")
        alice.type(ENTER)
        self.sees(alice, "No connected peers")
        alice.type(f"/co{TAB}localhost:1{ENTER}")
        self.sees(alice, "[ERROR] Failed to connect to localhost:1: ")

    @slow
    def test_choice_of_completions(self) -> None:
        """Where several commands fit, they are shown and can be gone through."""
        alice = self.started("alice")
        alice.type(f"/{TAB}")
        self.sees(alice, "/discover")
        alice.type(TAB)
        self.until(lambda: alice.typed == "> /peers", "first choice")
        alice.type(CTRL_C)
        self.until(lambda: alice.typed == ">", "empty line")
        alice.type(CTRL_C)
        self.ends(alice)

    @slow
    def test_names(self) -> None:
        """Tab completes who is there, whatever the case."""
        alice = self.started("alice")
        self.visitor(alice, "Bob")
        self.visitor(alice, "bert")
        alice.type(f"bO{TAB}")
        self.until(lambda: alice.typed == "> Bob:", "name that is spoken to")
        alice.type(f"ask be{TAB}{ENTER}")
        self.sees(alice, "[alice] Bob: ask bert")
        alice.type(f"b{TAB}")
        self.sees(alice, "bert:")
        alice.type(f"{TAB}{TAB}{ENTER}")
        self.sees(alice, "[alice] Bob: ")

    @slow
    def test_addresses(self) -> None:
        """Tab completes what can be connected to, and not what is linked."""
        alice, bob = self.started("alice"), self.started("bob")
        other = free_port()
        visitor = self.visitor(alice)
        visitor.send(f"PEERS:127.0.0.1:{other},127.0.0.1:{bob.port}")
        self.sees(bob, "Peer alice connected")
        alice.type(f"/con{TAB}1{TAB}")
        self.until(
            lambda: alice.typed == f"> /connect 127.0.0.1:{other}", "known address"
        )

    @slow
    def test_interrupted_line(self) -> None:
        """Ctrl-C clears what is typed, and leaves an empty line."""
        alice = self.started("alice")
        alice.type(f"half a wo{CTRL_C}")
        self.until(lambda: alice.typed == ">", "empty line")
        alice.type(f"hello{ENTER}")
        self.sees(alice, "[alice] hello")
        for _ in range(2):
            alice.type(UP)
            self.until(lambda: alice.typed == "> hello", "line of the history")
            alice.type(CTRL_C)
            self.until(lambda: alice.typed == ">", "empty line")
        alice.type(CTRL_C)
        self.ends(alice)
        self.assertNotIn("half a wo", "\n".join(alice.lines))

    @slow
    def test_interrupted_search(self) -> None:
        """Ctrl-C ends a search in the history, not the program."""
        alice = self.started("alice")
        alice.type(f"hello{ENTER}")
        self.sees(alice, "[alice] hello")
        alice.type("\x12hel")
        self.until(lambda: "hel" in alice.typed, "search")
        alice.type(CTRL_C)
        self.until(lambda: alice.typed == ">", "empty line")
        alice.type(f"again{ENTER}")
        self.sees(alice, "[alice] again")

    @slow
    def test_history_outlives_the_program(self) -> None:
        """In a file that is the user's own; without it, nothing else is lost."""
        folder = Path(self.mktemp()).absolute()
        path = folder / "meshproto" / "history"
        for said in ("first", "second"):
            alice = self.started("alice", XDG_STATE_HOME=str(folder))
            if said == "second":
                alice.type(UP + UP)
                self.until(lambda: alice.typed == "> first", "line of before")  # noqa: B023
                alice.type(CTRL_C)
            alice.type(f"{said}{ENTER}/quit{ENTER}")
            self.ends(alice)
        self.assertEqual(path.read_text(), "first\n/quit\nsecond\n/quit\n")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    @slow
    def test_colours(self) -> None:
        """The head of a line has them, unless the user wants none."""
        for no_color, coloured in (("", True), ("1", False)):
            alice = self.started("alice", NO_COLOR=no_color)
            visitor = self.visitor(alice)
            visitor.send("hello")
            self.sees(alice, "[visitor] hello")
            alice.type(f"/connect nowhere{ENTER}")
            self.sees(alice, "[ERROR]")
            heads = {head for _, head in alice.coloured if head not in ("", ">")}
            expected = {"[SYSTEM]", "[NETWORK]", "[visitor]", "[ERROR]"}
            self.assertEqual(heads, expected if coloured else set())

    @slow
    def test_commands(self) -> None:
        """Each command shows what it did."""
        alice, bob = self.started("alice"), self.started("bob")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(bob, "Connected to peer alice")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(bob, "[SYSTEM] Already connected to peer alice")
        bob.type(f"/peers{ENTER}")
        self.sees(bob, "Connected peers (1/20):")
        self.sees(bob, f"  localhost:{alice.port}  linked")
        bob.type(f"/discover{ENTER}")
        self.sees(bob, "[DISCOVERY] Asked 1 peer for more peers")
        bob.type(f"/connect nowhere{ENTER}")
        self.sees(bob, "[ERROR] 'nowhere' has no port")
        bob.type(f"/connect{ENTER}")
        self.sees(bob, "[ERROR] Usage: /connect HOST:PORT")
        bob.type(f"/help{ENTER}")
        self.sees(bob, "/connect HOST:PORT  connect to a peer")

    @slow
    def test_paste(self) -> None:
        """Several lines that are pasted are several messages."""
        alice, bob = self.started("alice"), self.started("bob")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(alice, "Peer bob connected")
        bob.type("\x1b[200~one\rtwo\nthree\x1b[201~")
        bob.type(ENTER)
        for word in ("one", "two", "three"):
            self.sees(alice, f"[bob] {word}")

    @slow
    def test_resize(self) -> None:
        """A terminal that becomes narrow or wide keeps the line."""
        alice = self.started("alice")
        visitor = self.visitor(alice)
        alice.type("half a wo")
        for columns in (40, 120):
            self.until(lambda: alice.typed == "> half a wo", "typed line")
            alice.resize(columns)
            visitor.send(f"now {columns}")
            self.sees(alice, f"[visitor] now {columns}")
        self.until(lambda: alice.typed == "> half a wo", "typed line")
        alice.type(f"rd{ENTER}")
        self.sees(alice, "[alice] half a word")

    @slow
    def test_debug(self) -> None:
        """``--debug`` shows the chatter."""
        alice = self.started("alice", "--debug")
        visitor = self.visitor(alice)
        visitor.send("PING")
        visitor.send("PEERS:localhost:8004")
        self.sees(alice, "[DEBUG] Received PING from visitor")
        self.sees(alice, "[DEBUG] Received PEERS: ")


class HostilePeerTests(ProgramCase):
    """What a peer sends stays what a peer said."""

    @slow
    def test_escape_sequences(self) -> None:
        """No cursor, title, colour, bell or clipboard; the typed line stays."""
        alice = self.started("alice", columns=300)
        visitor = self.visitor(alice)
        alice.type("half a wo")
        for attack in (
            "\x1b[2J\x1b[Hforged",
            "\x1b]0;owned\x07",
            "\x9d0;owned\x9c",
            "\r[00:00:00] [SYSTEM] forged",
            "\x1b]52;c;Zm9yZ2Vk\x07",
            "\x08" * 40 + "forged",
            "\u202eforged",
        ):
            visitor.send(attack)
        visitor.send("done")
        self.sees(alice, "[visitor] done")
        self.until(lambda: alice.typed == "> half a wo", "typed line")
        self.assertEqual(alice.screen.title, "")
        self.assertNotIn("\u202e".encode(), alice.raw)
        for line in filter(None, alice.lines):
            self.assertTrue(STAMP.match(line) or line.startswith(">"), line)
            if "forged" in line:
                self.assertIn("[visitor] ", line)
        self.assertEqual(alice.lines[0][11:], "[SYSTEM] Node alice listening on "
                         f"port {alice.port}")  # fmt: skip

    @slow
    def test_colours(self) -> None:
        """Only the head of a line has any, and its colour is ours."""
        alice = self.started("alice", columns=300)
        tricks = (
            "\x1b[31mred",
            "\x9b31mred",
            "[00:00:00] [SYSTEM] red",
            "\r[00:00:00] [ERROR] red",
            "[31m[visitor]\x1b[0m",
        )
        for name in ("visitor", "ERROR", "[31mred", "m][31m"):
            visitor = Visitor(alice.port, name)
            self.addCleanup(visitor.close)
            for trick in tricks:
                visitor.send(trick)
            visitor.send("done")
        self.until(lambda: sum("done" in line for line in alice.lines) == 4, "talk")
        heads = re.compile(r"\[\d\d:\d\d:\d\d\] (\[[^]]*\])")
        self.assertGreater(len(alice.coloured), 20)
        for row, special in alice.coloured:
            head = heads.match(row)
            self.assertEqual(special, head[1] if head else "", row)
        codes = set(re.findall(rb"\x1b\[([0-9;]*)m", alice.raw))
        ours = {b"", b"0", b"31", b"36", *(each.encode() for each in _PALETTE)}
        self.assertLessEqual(codes, ours)

    @slow
    def test_message_as_long_as_the_terminal_is_wide(self) -> None:
        """The next row does not look like a line of the program."""
        alice = self.started("alice", columns=60)
        visitor = self.visitor(alice)
        for fill in range(20, 50):
            visitor.send(f"{'x' * fill}[00:00:00] [SYSTEM] forged {fill}")
        self.sees(alice, "forged 49")
        self.assertEqual(
            [line for line in alice.lines if line.startswith("[00:00:00]")], []
        )

    @slow
    def test_names(self) -> None:
        """A peer named like the program, or like us, is told apart."""
        alice = self.started("alice")
        for name in ("SYSTEM", "alice"):
            visitor = Visitor(alice.port, name)
            self.addCleanup(visitor.close)
            visitor.send("believe me")
            self.sees(alice, f"[{name}@127.0.0.1] believe me")


class LeavingTests(ProgramCase):
    """Every way out of a prompt is a clean one."""

    def check(self, leave: Callable[[Terminal], object]) -> None:
        alice = self.started("alice")
        visitor = self.visitor(alice)
        leave(alice)
        self.ends(alice)
        self.assertEqual(self.received(visitor), b"")
        self.assertEqual(termios.tcgetattr(alice.master), alice.modes)
        self.assertTrue(alice.screen.cursor.x == 0)
        self.assertNotIn("Traceback", "\n".join(alice.lines))

    def received(self, visitor: Visitor) -> bytes:
        """What comes last: the end, not a reset."""
        visitor.socket.settimeout(PATIENCE)
        while data := visitor.socket.recv(1000):
            pass
        return data

    def test_quit(self) -> None:
        """The command."""
        self.check(lambda alice: alice.type(f"/quit{ENTER}"))

    @slow
    def test_ctrl_d(self) -> None:
        """The end of the input, on an empty line."""
        self.check(lambda alice: alice.type(CTRL_D))

    @slow
    def test_ctrl_c(self) -> None:
        """The key, on an empty line."""
        self.check(lambda alice: alice.type(CTRL_C))
        self.check(lambda alice: alice.type(f"half a wo{CTRL_C}{CTRL_C}"))

    @slow
    def test_peers_do_not_leave(self) -> None:
        """Whoever leaves tells so once, and not that all peers go."""
        alice = self.started("alice")
        for name in ("bob", "carol"):
            self.visitor(alice, name)
        alice.type(f"/quit{ENTER}")
        self.ends(alice)
        self.sees(alice, "[SYSTEM] Node alice is leaving the mesh")
        text = "\n".join(alice.lines)
        self.assertEqual(text.count("is leaving the mesh"), 1)
        self.assertNotIn("disconnected", text)

    @slow
    def test_signals(self) -> None:
        """From elsewhere."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.check(lambda alice: alice.process.send_signal(number))  # noqa: B023

    @slow
    def test_terminal_goes_away(self) -> None:
        """A closed window leaves no process behind."""
        alice = self.started("alice")
        visitor = self.visitor(alice)
        os.dup2(os.open(os.devnull, os.O_RDWR), alice.master)
        self.terminals.remove(alice)
        self.until(lambda: alice.process.poll() is not None, "end of the program")
        self.assertEqual(self.received(visitor), b"")

    @slow
    def test_words_before_leaving_arrive(self) -> None:
        """What was said is sent, though the next line is ``/quit``."""
        alice, bob = self.started("alice"), self.started("bob")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(alice, "Peer bob connected")
        bob.type(f"last words{ENTER}/quit{ENTER}")
        self.ends(bob)
        self.sees(alice, "[bob] last words")

    @slow
    def test_cannot_listen(self) -> None:
        """One line, status 1, and the terminal as it was."""
        alice = self.started("alice")
        other = self.at_terminal(str(alice.port))
        self.ends(other, status=1)
        self.until(lambda: any(other.lines), "complaint")
        self.assertEqual(
            [line for line in other.lines if line],
            [f"meshproto: cannot listen on port {alice.port}: Address already in use"],
        )
        self.assertEqual(termios.tcgetattr(other.master), other.modes)

    @slow
    def test_dumb_terminal(self) -> None:
        """A terminal without a cursor is read line by line."""
        alice = Terminal(meshproto("0", "--name", "alice"), TERM="dumb")
        self.addCleanup(alice.close)
        self.terminals.append(alice)
        self.until(lambda: alice.port, "node that listens")
        alice.type("hello\n")
        self.sees(alice, "[alice] hello")
        self.assertNotIn(b"\x1b", alice.raw)
        alice.type(CTRL_D)
        self.ends(alice)
