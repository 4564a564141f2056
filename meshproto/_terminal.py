"""The prompt at a terminal.

It is drawn by prompt_toolkit, which runs on the event loop of Twisted's
asyncio reactor.  What is shown meanwhile goes above the prompt, and the line
that is being typed stays whole.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshproto._chat import completions
from meshproto.render import guarded

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "

_LINE_END = re.compile("\r\n|\r|\n")

#: Values of ``TERM`` for terminals without a cursor to move.
_DUMB = ("dumb", "unknown")


class Terminal:
    """Lines that are typed at a terminal, and lines that are shown there.

    ``addresses`` are offered where the user has to give one.
    """

    _log = Logger()

    def __init__(self, addresses: Callable[[], Iterable[str]]) -> None:
        self._addresses = addresses
        self._lines: deque[str] = deque()
        self._opened: Deferred[None] = Deferred()
        self._waiting: Deferred[None] | None = None
        self._session: PromptSession[str] | None = None
        self._prompting: Deferred[object] | None = None
        self._restore = _terminal_modes()
        self._patches = ExitStack()

    def open(self) -> Deferred[None]:
        """Show the prompt; the Deferred fires when it is there.

        From now on until `closed` everything that the process writes to
        standard output and standard error is shown above the prompt.
        """
        # Nothing here needs to know where the cursor is, and a terminal that
        # does not answer that question gets a warning instead of an answer.
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        from prompt_toolkit.patch_stdout import patch_stdout

        self._patches.enter_context(patch_stdout())
        self._session = session = self._make_session()
        self._prompting = Deferred.fromFuture(
            asyncio.ensure_future(
                session.prompt_async(
                    pre_run=lambda: self._opened.callback(None),
                    set_exception_handler=False,
                    handle_sigint=False,
                )
            )
        )
        self._prompting.addBoth(self._ended)
        return self._opened

    def show(self, line: str) -> None:
        """Show a line above the prompt."""
        sys.stdout.write(f"{guarded(line, _columns())}\n")

    async def next_line(self) -> str | None:
        """The next line; None when the user is done and the prompt is gone."""
        while not self._lines and self._prompting is not None:
            self._waiting = Deferred()
            await self._waiting
        return self._lines.popleft() if self._lines else None

    def close(self) -> None:
        """Take the prompt away."""
        if self._session is not None:
            app = self._session.app
            if app.is_running and not app.is_done:
                app.exit(exception=EOFError())

    async def closed(self) -> None:
        """Wait until the prompt is gone and the terminal is as it was."""
        while self._prompting is not None:
            self._waiting = Deferred()
            await self._waiting

    def flush(self) -> None:
        """Show what has not been shown yet; the prompt is gone already."""
        self._patches.close()

    def restore(self) -> None:
        """Put the terminal back at once, for a process that ends at once."""
        self._restore()

    def _make_session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession

        session: PromptSession[str] = PromptSession(
            PROMPT,
            completer=_make_completer(self._addresses),
            complete_while_typing=False,
            key_bindings=_make_key_bindings(self._addresses),
            enable_suspend=True,
            erase_when_done=True,
        )
        # The prompt stays while its lines are taken: a prompt for each line
        # would leave a gap in which what is shown meets what is drawn.
        session.default_buffer.accept_handler = self._accepted
        return session

    def _accepted(self, buffer: Buffer) -> bool:
        self._lines.extend(_LINE_END.split(buffer.text))
        self._wake()
        return False

    def _ended(self, result: object) -> None:
        self._prompting = None
        if isinstance(result, Failure) and not result.check(EOFError):
            self._log.failure("The prompt failed", result)
        if not self._opened.called:
            self._opened.callback(None)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


def is_usable(stdin: Any, stdout: Any) -> bool:
    """Whether a prompt can be drawn: both are one's terminal, and not a dumb one."""
    return (
        all(stream is not None and stream.isatty() for stream in (stdin, stdout))
        and os.environ.get("TERM", "").lower() not in _DUMB
    )


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _terminal_modes() -> Callable[[], None]:
    """A function that puts the terminal's modes back to what they are now."""
    try:
        import termios
    except ImportError:
        return lambda: None
    modes = termios.tcgetattr(0)
    return lambda: termios.tcsetattr(0, termios.TCSANOW, modes)


def _make_completer(addresses: Callable[[], Iterable[str]]) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class CommandCompleter(Completer):
        """Completes the line up to the cursor."""

        def get_completions(
            self, document: Document, complete_event: CompleteEvent
        ) -> Iterable[Completion]:
            text = document.text_before_cursor
            for whole in completions(text, addresses):
                yield Completion(whole, start_position=-len(text))

    return CommandCompleter()


def _make_key_bindings(addresses: Callable[[], Iterable[str]]) -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()

    @bindings.add("c-c")
    def leave(event: KeyPressEvent) -> None:
        event.app.exit(exception=EOFError())

    @bindings.add("tab")
    def complete(event: KeyPressEvent) -> None:
        # What is sure is put in at once, so that the keys that follow find it;
        # the menu of a choice appears when the event loop gets to it.
        buffer = event.current_buffer
        text = buffer.document.text_before_cursor
        offered = list(completions(text, addresses))
        sure = os.path.commonprefix(offered)[len(text) :]
        if buffer.complete_state is not None:
            buffer.complete_next()
        elif sure:
            buffer.insert_text(sure)
        elif len(offered) > 1:
            buffer.start_completion()

    return bindings
