"""The real program between pipes, as scripts use it."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from lab.terminals import (
    PATIENCE,
    Piped,
    environment,
    free_port,
    meshproto,
    run,
)
from tests.programs import ProgramCase
from tests.slow import slow


class PipeTests(ProgramCase):
    """The program in a script."""

    def shell(self, script: str) -> subprocess.CompletedProcess[bytes]:
        """Run a line of shell in which ``$MESH`` is the program."""
        program = shlex.join(meshproto())
        return subprocess.run(
            ["bash", "-c", script.replace("$MESH", program)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env=environment(),
        )

    @slow
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

    @slow
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

    @slow
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

    @slow
    def test_two_slashes(self) -> None:
        """What begins with one can be said."""
        alice = self.piped("0", "--name", "alice")
        ended = run(
            meshproto("0", f"localhost:{alice.port}", "--name", "bob"),
            b"//etc/hosts\tis broken\n",
        )
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.sees(alice, "[bob] /etc/hosts    is broken")

    @slow
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

    @slow
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

    @slow
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

    @slow
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

    @slow
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

    @slow
    def test_kinds_of_output(self) -> None:
        """All of it is written, wherever it goes."""
        name = self.mktemp()
        commands = "/help\n" * 2000
        Path(name).write_text(commands)
        for sink in ("| cat", f">{name}.out; cat {name}.out"):
            ended = self.shell(f"$MESH 0 <{name} {sink}")
            self.assertEqual((ended.returncode, ended.stderr), (0, b""))
            self.assertEqual(ended.stdout.count(b"\nAnything else"), 2000)

    @slow
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

    @slow
    def test_message_goes_out_though_nobody_listens_to_the_output(self) -> None:
        """The mesh, not the terminal, is what the message is for."""
        alice = self.piped("0", "--name", "alice")
        self.shell(f"echo hello | $MESH 0 localhost:{alice.port} --name bob >&-")
        self.sees(alice, "[bob] hello")

    @slow
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

    @slow
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

    @slow
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

    @slow
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

    @slow
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

    @slow
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

    @slow
    def test_prompt_library_is_for_terminals(self) -> None:
        """A script does not wait for what it does not use."""
        program = (
            "import sys, meshproto.run.cli as cli\n"
            "status = cli.main(['0'])\n"
            "sys.exit(status or 'prompt_toolkit' in sys.modules)\n"
        )
        ended = run([sys.executable, "-c", program], b"/help\n/peers\n")
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))

    @slow
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

    @slow
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

    @slow
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
