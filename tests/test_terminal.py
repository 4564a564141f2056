"""The real program: at real terminals, and between pipes."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from lab.terminals import (
    PATIENCE,
    Piped,
    Terminal,
    Visitor,
    environment,
    free_port,
    meshproto,
    run,
    wait_until,
)
from meshproto.run.quiet import SCREEN
from meshproto.run.terminal import _PALETTE

STAMP = re.compile(r"\[\d\d:\d\d:\d\d\] ")
CTRL_C, CTRL_D, UP, TAB, ENTER = "\x03", "\x04", "\x1b[A", "\t", "\r"


class ProgramCase(SynchronousTestCase):
    """Starts programs, and sees to it that none of them outlives the test."""

    def setUp(self) -> None:
        self.terminals: list[Terminal] = []

    def at_terminal(
        self, *arguments: str, columns: int = 100, **variables: str
    ) -> Terminal:
        terminal = Terminal(meshproto(*arguments), columns, **variables)
        self.addCleanup(terminal.close)
        self.terminals.append(terminal)
        return terminal

    def started(
        self, name: str, *arguments: str, columns: int = 100, **variables: str
    ) -> Terminal:
        """A prompt whose node listens, and is dialled by nobody unasked."""
        terminal = self.at_terminal(
            "0", "--name", name, *arguments, columns=columns, **variables
        )
        self.until(lambda: terminal.port and terminal.typed == ">", "prompt")
        return terminal

    def piped(self, *arguments: str) -> Piped:
        piped = Piped(meshproto(*arguments), self.mktemp())
        self.addCleanup(piped.close)
        self.until(lambda: piped.port, "node that listens")
        return piped

    def visitor(self, program: Terminal | Piped, name: str = "visitor") -> Visitor:
        visitor = Visitor(program.port, name)
        self.addCleanup(visitor.close)
        self.sees(program, f"Peer {name} connected from")
        return visitor

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, what, self.terminals)

    def sees(self, program: Terminal | Piped, text: str) -> None:
        """Wait until a line of the program has the text."""
        self.until(
            lambda: any(text in line for line in program.lines), f"line with {text!r}"
        )

    def ends(self, program: Terminal | Piped, status: int = 0) -> None:
        """Wait until the program has ended, and look at its status."""
        self.until(lambda: program.process.poll() is not None, "end of the program")
        self.assertEqual(program.process.returncode, status, program.lines)


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

    def test_paste(self) -> None:
        """Several lines that are pasted are several messages."""
        alice, bob = self.started("alice"), self.started("bob")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(alice, "Peer bob connected")
        bob.type("\x1b[200~one\rtwo\nthree\x1b[201~")
        bob.type(ENTER)
        for word in ("one", "two", "three"):
            self.sees(alice, f"[bob] {word}")

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

    def test_ctrl_d(self) -> None:
        """The end of the input, on an empty line."""
        self.check(lambda alice: alice.type(CTRL_D))

    def test_ctrl_c(self) -> None:
        """The key, on an empty line."""
        self.check(lambda alice: alice.type(CTRL_C))
        self.check(lambda alice: alice.type(f"half a wo{CTRL_C}{CTRL_C}"))

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

    def test_signals(self) -> None:
        """From elsewhere."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.check(lambda alice: alice.process.send_signal(number))  # noqa: B023

    def test_terminal_goes_away(self) -> None:
        """A closed window leaves no process behind."""
        alice = self.started("alice")
        visitor = self.visitor(alice)
        os.dup2(os.open(os.devnull, os.O_RDWR), alice.master)
        self.terminals.remove(alice)
        self.until(lambda: alice.process.poll() is not None, "end of the program")
        self.assertEqual(self.received(visitor), b"")

    def test_words_before_leaving_arrive(self) -> None:
        """What was said is sent, though the next line is ``/quit``."""
        alice, bob = self.started("alice"), self.started("bob")
        bob.type(f"/connect localhost:{alice.port}{ENTER}")
        self.sees(alice, "Peer bob connected")
        bob.type(f"last words{ENTER}/quit{ENTER}")
        self.ends(bob)
        self.sees(alice, "[bob] last words")

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


class PipeTests(ProgramCase):
    """The program in a script."""

    def shell(self, script: str) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell in which ``$MESH`` is the program."""
        return subprocess.run(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env={**environment(), "MESH": f"{sys.executable} -m meshproto"},
        )

    def test_one_message(self) -> None:
        """It reaches every node of the mesh, not just the one that is named."""
        alice = self.piped("0", "--name", "alice")
        bob = self.piped("0", "--name", "bob", f"localhost:{alice.port}")
        carol = self.piped("0", "--name", "carol", f"localhost:{alice.port}")
        self.sees(bob, " carol ")
        for port in (alice.port, bob.port, carol.port):
            name = f"cron-{port}"
            ended = run(meshproto("0", f"localhost:{port}", "--name", name), b"done")
            self.assertEqual((ended.returncode, ended.stderr), (0, b""))
            self.assertIn(f"[{name}] done".encode(), ended.stdout)
            for node in (alice, bob, carol):
                self.sees(node, f"[{name}] done")

    def test_mesh_that_comes_up_later(self) -> None:
        """The message waits for its mesh, for a while."""
        port = free_port()
        early = self.piped("0", "--name", "early", f"localhost:{port}")
        early.type("too early?\n")
        early.end_input()
        self.sees(early, "[BOOTSTRAP] Failed to connect")
        late = self.piped(str(port), "--name", "late")
        self.sees(late, "[early] too early?")
        self.ends(early)

    def test_no_mesh(self) -> None:
        """The wait ends, and the user is told."""
        ended = run(
            meshproto("0", f"localhost:{free_port()}", "--connection-timeout", "0.5"),
            b"hello\n",
        )
        self.assertEqual(
            (ended.returncode, ended.stderr),
            (1, b"meshproto: 1 of 1 lines reached nobody\n"),
        )
        self.assertIn(b'No peers connected: "hello" was not delivered', ended.stdout)

    def test_what_goes_wrong_is_counted(self) -> None:
        """One line tells a script, and status 1."""
        alice = self.piped("0", "--name", "alice")
        for script, complaint in (
            (f"one\n/connect localhost:{alice.port}\ntwo\n", "1 of 2 lines"),
            ("one\ntwo\n", "2 of 2 lines"),
        ):
            ended = run(meshproto("0", "--name", "bob"), script.encode())
            self.assertEqual(
                (ended.returncode, ended.stderr.decode()),
                (1, f"meshproto: {complaint} reached nobody\n"),
            )
        self.sees(alice, "[bob] two")
        for script, commands in (
            ("/msg bob hi\n", "1 command"),
            (f"/peer\n/connect localhost:{free_port()}\n/peers\n", "2 commands"),
        ):
            ended = run(meshproto("0"), script.encode())
            self.assertEqual(
                (ended.returncode, ended.stderr.decode()),
                (1, f"meshproto: {commands} failed\n"),
            )

    def test_two_slashes(self) -> None:
        """What begins with one can be said."""
        alice = self.piped("0", "--name", "alice")
        ended = run(
            meshproto("0", f"localhost:{alice.port}", "--name", "bob"),
            b"//etc/hosts\tis broken\n",
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.sees(alice, "[bob] /etc/hosts    is broken")

    def test_no_input(self) -> None:
        """Where nobody can have meant to say anything, one line and status 2."""
        for source in ("</dev/null", "<&-"):
            for where, place in (
                ("8001", "--port 8001"),
                ("--listen unix:x", "--listen unix:x"),
            ):
                ended = self.shell(f"$MESH {where} {source}")
                self.assertEqual(
                    (ended.returncode, ended.stdout, ended.stderr.decode()),
                    (
                        2,
                        b"",
                        "meshproto: there is no input: for a node without a prompt "
                        "add --stay, or use twistd -n --pidfile= meshnode "
                        f"{place}\n",
                    ),
                )

    def test_stay(self) -> None:
        """A node without input, or after it, runs on and shows what is said."""
        text = Path(self.mktemp())
        text.write_text("hello")
        for source, said in ((os.devnull, False), (text, True)):
            with open(source, "rb") as stdin:
                alice = Piped(
                    meshproto("0", "--stay", "--name", "alice"),
                    self.mktemp(),
                    stdin=stdin,
                )
            self.addCleanup(alice.close)
            self.until(lambda: alice.port, "node that listens")  # noqa: B023
            if said:
                self.sees(alice, "[alice] hello")
            visitor = self.visitor(alice)
            visitor.send("is anybody there?")
            self.sees(alice, "[visitor] is anybody there?")
            alice.process.send_signal(signal.SIGTERM)
            self.ends(alice, status=int(said))
            self.sees(alice, "[SYSTEM] Node alice is leaving the mesh")

    def test_quit_ends_the_stay(self) -> None:
        """It is the user who says it."""
        ended = run(meshproto("0", "--stay"), b"/quit\n")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))

    def test_many_lines(self) -> None:
        """All arrive, once, in order, before the program ends."""
        alice = self.piped("0", "--name", "alice")
        count = 20_000
        text = "".join(f"line {number}\n" for number in range(count)).encode()
        ended = run(meshproto("0", f"localhost:{alice.port}", "--name", "bob"), text)
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.sees(alice, f"[bob] line {count - 1}")
        expected = [f"[bob] line {number}" for number in range(count)]
        for lines in (alice.lines, ended.stdout.decode().splitlines()):
            self.assertEqual(
                [line[11:] for line in lines if "[bob] line" in line], expected
            )

    def test_commands(self) -> None:
        """Each line is carried out before the next."""
        alice = self.piped("0", "--name", "alice")
        script = f"/connect localhost:{alice.port}\nhello\n/peers\n/quit\nnot this\n"
        ended = run(meshproto("0", "--name", "bob"), script.encode())
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.assertIn(b"Connected peers (1/20):", ended.stdout)
        self.assertNotIn(b"not this", ended.stdout)
        self.sees(alice, "[bob] hello")
        self.sees(alice, "Peer bob disconnected")
        self.assertNotIn("not this", "\n".join(alice.lines))

    def test_line_that_is_too_long(self) -> None:
        """It is refused with the reason; the next one is sent."""
        alice = self.piped("0", "--name", "alice")
        ended = run(
            meshproto("0", f"localhost:{alice.port}", "--name", "bob"),
            b"x" * 1_000_000 + b"\nshort\n",
        )
        self.assertEqual(
            (ended.returncode, ended.stderr),
            (1, b"meshproto: 1 of 2 lines reached nobody\n"),
        )
        errors = [line for line in ended.stdout.splitlines() if b"[ERROR]" in line]
        self.assertEqual(len(errors), 1)
        self.assertLess(len(errors[0]), 200)
        self.sees(alice, "[bob] short")

    def test_kinds_of_input(self) -> None:
        """A file, a pipe, empty ones."""
        name = self.mktemp()
        Path(name).write_text("/connect\n/help")
        for source, said in (
            (f"<{name}", True),
            (f"< <(cat {name})", True),
            ("< <(true)", False),
            (f"<{name}.empty", False),
        ):
            ended = self.shell(f": >{name}.empty; $MESH 0 --name alice {source}")
            self.assertEqual(ended.returncode, int(said), source)
            self.assertIn(b"Node alice listening", ended.stdout)
            self.assertEqual(b"Usage: /connect" in ended.stdout, said, source)
            self.assertEqual(b"Anything else" in ended.stdout, said, source)

    def test_kinds_of_output(self) -> None:
        """All of it is written, wherever it goes."""
        name = self.mktemp()
        commands = "/help\n" * 2000
        Path(name).write_text(commands)
        for sink in ("| cat", f">{name}.out; cat {name}.out"):
            ended = self.shell(f"$MESH 0 <{name} {sink}")
            self.assertEqual((ended.returncode, ended.stderr), (0, b""))
            self.assertEqual(ended.stdout.count(b"\nAnything else"), 2000)

    def test_output_that_is_closed(self) -> None:
        """A reader that has gone, and one that never was, end it quietly."""
        for script in (
            "yes /help | $MESH 0 | true; exit ${PIPESTATUS[1]}",
            "yes /help | $MESH 0 | head -n 5 >/dev/null; exit ${PIPESTATUS[1]}",
            "echo /help | $MESH 0 >&-",
            "echo /help | $MESH 0 >&- 2>&-",
        ):
            ended = self.shell(script)
            self.assertEqual(
                (ended.returncode, ended.stdout, ended.stderr), (0, b"", b""), script
            )

    def test_message_goes_out_though_nobody_listens_to_the_output(self) -> None:
        """The mesh, not the terminal, is what the message is for."""
        alice = self.piped("0", "--name", "alice")
        self.shell(f"echo hello | $MESH 0 localhost:{alice.port} --name bob >&-")
        self.sees(alice, "[bob] hello")

    def test_no_room_for_the_output(self) -> None:
        """One line, status 1."""
        ended = self.shell("echo /help | $MESH 0 >/dev/full")
        self.assertEqual(
            (ended.returncode, ended.stderr),
            (
                1,
                b"meshproto: cannot write to standard output: "
                b"No space left on device\n",
            ),
        )

    def test_descriptors_are_left_as_they_are(self) -> None:
        """Other programs share them: none may find one that does not block."""
        stdin, typed = os.pipe()
        shown, stdout = os.pipe()
        process = subprocess.Popen(
            meshproto("0"), stdin=stdin, stdout=stdout, env=environment()
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        for descriptor in (stdin, typed, shown, stdout):
            self.addCleanup(os.close, descriptor)
        self.assertIn(b"listening", os.read(shown, 1000))
        self.assertTrue(os.get_blocking(stdin))
        self.assertTrue(os.get_blocking(stdout))

    def test_signals(self) -> None:
        """A program that waits for its input leaves when it is told to."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            alice = self.piped("0", "--name", "alice")
            visitor = self.visitor(alice)
            alice.process.send_signal(number)
            self.ends(alice)
            self.assertNotIn("Traceback", "\n".join(alice.lines))
            visitor.socket.settimeout(PATIENCE)
            while visitor.socket.recv(1000):
                pass

    def test_signals_close_together(self) -> None:
        """They are one, up to the last moment of the process.

        ``timeout`` sends its signal to the process, and to its group.
        """
        # Close together means here: on however slow a machine.
        program = (
            "import sys, meshproto.run.cli as cli\n"
            "cli._ONE_SIGNAL = 1000.0\n"
            "sys.exit(cli.main(['0']))\n"
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            alice = Piped([sys.executable, "-c", program], self.mktemp())
            self.addCleanup(alice.close)
            self.until(lambda: alice.port, "node that listens")  # noqa: B023
            while alice.process.poll() is None:
                alice.process.send_signal(number)
            self.ends(alice)
            self.assertNotIn("Traceback", "\n".join(alice.lines))

    def test_signal_while_waiting_for_a_mesh(self) -> None:
        """No wait holds up who wants to leave."""
        early = self.piped(
            "0", f"localhost:{free_port()}", "--connection-timeout", "60"
        )
        early.type("hello\n")
        self.sees(early, "[BOOTSTRAP] Failed")
        early.process.terminate()
        self.ends(early, status=1)
        self.sees(early, "meshproto: 1 of 1 lines reached nobody")

    def test_second_interrupt(self) -> None:
        """A goodbye that takes too long can be cut short."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sender = self.piped(
            "0", f"localhost:{listener.getsockname()[1]}", "--name", "sender"
        )
        deaf, _ = listener.accept()
        self.addCleanup(deaf.close)
        deaf.recv(1000)
        deaf.sendall(b"deaf:deaf\n")
        self.sees(sender, "Connected to peer deaf")
        assert sender.process.stdin is not None
        stdin = sender.process.stdin.fileno()
        os.set_blocking(stdin, False)
        line = b"x" * 16_000 + b"\n"
        last_taken = time.monotonic()

        def is_stuck() -> bool:
            """The far end takes nothing, so nothing more is read here."""
            nonlocal last_taken
            try:
                while True:
                    os.write(stdin, line)
                    last_taken = time.monotonic()
            except BlockingIOError:
                return time.monotonic() - last_taken > 3.0

        self.until(is_stuck, "queue that is full")
        sender.process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        self.until(lambda: time.monotonic() - begun > 0.5, "half a second")
        self.assertIsNone(sender.process.poll())

        def has_ended() -> bool:
            sender.process.send_signal(signal.SIGINT)
            return sender.process.poll() is not None

        self.until(has_ended, "end of the program")
        self.ends(sender, status=130)
        self.assertLess(time.monotonic() - begun, 3.0)

    def test_clock(self) -> None:
        """Setting the machine's time neither stops nor fires a timer."""
        program = (
            "import sys, time, meshproto.run.cli as cli\n"
            "cli.Program.run = lambda program: (\n"
            "    int(program._reactor.seconds is not time.monotonic))\n"
            "sys.exit(cli.main(['0']))\n"
        )
        ended = run([sys.executable, "-c", program])
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))

    def test_prompt_library_is_for_terminals(self) -> None:
        """A script does not wait for what it does not use."""
        program = (
            "import sys, meshproto.run.cli as cli\n"
            "status = cli.main(['0'])\n"
            "sys.exit(status or 'prompt_toolkit' in sys.modules)\n"
        )
        ended = run([sys.executable, "-c", program], b"/help\n/peers\n")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))

    def test_bad_arguments(self) -> None:
        """One line on standard error, nothing else, status 2."""
        for arguments, line in (
            ([], "PORT is missing: write meshproto 8001, or --help"),
            (["99999"], "PORT: 99999 is more than 65535"),
            (
                ["8001", "localhost:80:90"],
                "HOST:PORT: 'localhost:80:90' cannot be used: "
                "Unknown endpoint type: 'localhost'",
            ),
            (["8001", "--name"], "option --name requires argument"),
        ):
            ended = run(meshproto(*arguments), b"hello\n")
            self.assertEqual(
                (ended.returncode, ended.stdout, ended.stderr.decode()),
                (2, b"", f"meshproto: {line}\n"),
            )

    def test_cannot_listen(self) -> None:
        """One line on standard error, nothing else, status 1."""
        alice = self.piped("0")
        for arguments, reason in (
            (
                [str(alice.port)],
                f"on port {alice.port}: Address already in use",
            ),
            (
                ["0", "--interface", "192.0.2.1"],
                "on port 0 of 192.0.2.1: Cannot assign requested address",
            ),
            (
                ["--listen", f"tcp:{alice.port}"],
                f"at 'tcp:{alice.port}': Address already in use",
            ),
            (
                ["--listen", "unix:no/such/folder"],
                "at 'unix:no/such/folder': No such file or directory",
            ),
        ):
            ended = run(meshproto(*arguments), b"hello\n")
            self.assertEqual(
                (ended.returncode, ended.stdout, ended.stderr.decode()),
                (1, b"", f"meshproto: cannot listen {reason}\n"),
            )

    def test_unix_socket(self) -> None:
        """Two nodes without any port."""
        path = self.mktemp()
        alice = Piped(
            meshproto("--listen", f"unix:{path}", "--name", "alice"), self.mktemp()
        )
        self.addCleanup(alice.close)
        self.sees(alice, "[SYSTEM] Node alice listening")
        ended = run(meshproto("0", f"unix:{path}", "--name", "bob"), b"hello\n")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.sees(alice, "[bob] hello")
