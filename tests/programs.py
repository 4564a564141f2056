"""What tests with real prompts and pipes have in common."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from lab.terminals import (
    Piped,
    Terminal,
    Visitor,
    meshproto,
    wait_until,
)


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
