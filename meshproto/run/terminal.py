"""The prompt at a terminal.

prompt_toolkit draws it, on the event loop of Twisted's asyncio reactor.  Output
appears above the prompt and does not disturb the line being typed.

Only the bracketed head of a line is coloured.  The colours are chosen here and added
after the line is wrapped, so a peer cannot inject any, and they do not count towards
the width.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TextIO, cast
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshproto.run.history import MAX_LINES, HistoryFile
from meshproto.run.render import TAGS
from meshproto.run.visible import guarded

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "

#: The time and the bracketed text after it, in one row.
_HEAD = re.compile(r"(\[\d\d:\d\d:\d\d\] )(\[([^\]\n]*)\])")
_RED, _CYAN = "31", "36"
#: For names: those of the 16 colours that are legible on both black and white.
_PALETTE = ("32", "33", "35", "94", "95", "1;32", "1;33", "1;35")

_LINE_END = re.compile("\r\n|\r|\n")

#: Values of ``TERM`` for terminals without a cursor to move.
_DUMB = ("dumb", "unknown")


class Terminal:
    """Reads lines typed at a terminal, and shows lines there.

    Tab offers what ``complete`` returns for the line up to the cursor.  Typed lines
    are kept in ``history``, if given.
    """

    _log = Logger()

    def __init__(
        self,
        complete: Callable[[str], Iterable[str]],
        *,
        history: HistoryFile | None,
        colours: bool,
    ) -> None:
        self._complete = complete
        self._history = history
        self._colours = colours
        self._output: TextIO | None = None
        self._lines: deque[str] = deque()
        self._opened: Deferred[None] = Deferred()
        self._waiting: Deferred[None] | None = None
        self._session: PromptSession[str] | None = None
        self._prompting: Deferred[object] | None = None
        self._restore = _terminal_modes()
        self._patches = ExitStack()

    def open(self) -> Deferred[None]:
        """Show the prompt; the Deferred fires when it is visible.

        Until `closed`, everything that the process writes to standard output and
        standard error appears above the prompt.
        """
        # We do not need the cursor position, and prompt_toolkit prints a warning if
        # the terminal does not answer that query.
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        from prompt_toolkit.patch_stdout import StdoutProxy, patch_stdout

        # Made first, because it must find the real standard output.  Other output
        # goes through a second proxy, which passes no escape sequences.
        output = StdoutProxy(raw=self._colours)
        self._output = cast(TextIO, self._patches.enter_context(output))
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
        text = guarded(line, _columns())
        if self._colours:
            text = coloured(text)
        (self._output or sys.stdout).write(f"{text}\n")

    async def next_line(self) -> str | None:
        """The next line; None once the user is done and the prompt is gone."""
        while not self._lines and self._prompting is not None:
            self._waiting = Deferred()
            await self._waiting
        return self._lines.popleft() if self._lines else None

    def close(self) -> None:
        """Remove the prompt."""
        if self._session is not None:
            app = self._session.app
            if app.is_running and not app.is_done:
                app.exit(exception=EOFError())

    async def closed(self) -> None:
        """Wait until the prompt is gone and the terminal is restored."""
        while self._prompting is not None:
            self._waiting = Deferred()
            await self._waiting

    def flush(self) -> None:
        """Show pending lines; the prompt is already gone."""
        self._output = None
        self._patches.close()

    def restore(self) -> None:
        """Restore the terminal at once, for a process that ends at once."""
        self._restore()

    def _make_session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession

        session: PromptSession[str] = PromptSession(
            PROMPT,
            history=_make_history(self._history),
            completer=_make_completer(self._complete),
            complete_while_typing=False,
            key_bindings=_make_key_bindings(self._complete),
            enable_suspend=True,
            erase_when_done=True,
        )
        # One prompt reads all lines.  A new prompt for each would leave a gap in which
        # output and drawing could collide.
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
    """Whether a prompt can be drawn: both are a terminal, and it is not dumb."""
    return (
        all(stream is not None and stream.isatty() for stream in (stdin, stdout))
        and os.environ.get("TERM", "").lower() not in _DUMB
    )


def wants_colours(environ: Mapping[str, str]) -> bool:
    """Whether to use colours; users turn them off as no-color.org says."""
    return not environ.get("NO_COLOR")


def coloured(text: str) -> str:
    """A finished line with its head coloured.

    Tags have one colour and errors another; each name has its own, the same
    everywhere.  A line that does not begin with the time is unchanged.
    """
    head = _HEAD.match(text)
    if head is None:
        return text
    time, tag, name = head.groups()
    if name in TAGS:
        colour = _RED if name == "ERROR" else _CYAN
    else:
        colour = _PALETTE[crc32(name.encode("utf-8", "replace")) % len(_PALETTE)]
    return f"{time}\x1b[{colour}m{tag}\x1b[0m{text[head.end() :]}"


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def _terminal_modes() -> Callable[[], None]:
    """A function that restores the terminal's present modes."""
    try:
        import termios
    except ImportError:
        return lambda: None
    modes = termios.tcgetattr(0)
    return lambda: termios.tcsetattr(0, termios.TCSANOW, modes)


def _make_history(file: HistoryFile | None) -> History:
    from prompt_toolkit.history import History, InMemoryHistory

    if file is None:
        return InMemoryHistory()
    read, append = file.read, file.append

    class FiledHistory(History):
        """The lines typed in this session and in earlier ones."""

        def load_history_strings(self) -> Iterable[str]:
            return reversed(read())

        def store_string(self, string: str) -> None:
            append(string)
            del self._loaded_strings[MAX_LINES:]

    return FiledHistory()


def _make_completer(complete: Callable[[str], Iterable[str]]) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class LineCompleter(Completer):
        """Completes the line up to the cursor."""

        def get_completions(
            self, document: Document, complete_event: CompleteEvent
        ) -> Iterable[Completion]:
            text = document.text_before_cursor
            for whole in complete(text):
                yield Completion(whole, start_position=-len(text))

    return LineCompleter()


def _make_key_bindings(complete: Callable[[str], Iterable[str]]) -> KeyBindings:
    from prompt_toolkit.enums import DEFAULT_BUFFER
    from prompt_toolkit.filters import has_focus
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    bindings = KeyBindings()

    # History search has its own bindings for Ctrl-C.
    @bindings.add("c-c", filter=has_focus(DEFAULT_BUFFER))
    def interrupt(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=EOFError())

    @bindings.add("tab", filter=has_focus(DEFAULT_BUFFER))
    def complete_line(event: KeyPressEvent) -> None:
        # Insert a certain completion at once, so that the next keys apply to it.  A
        # menu of choices opens on a later turn of the event loop.
        buffer = event.current_buffer
        text = buffer.document.text_before_cursor
        offered = list(complete(text))
        sure = os.path.commonprefix(offered)
        if buffer.complete_state is not None:
            buffer.complete_next()
        elif len(sure) > len(text):
            buffer.delete_before_cursor(len(text))
            buffer.insert_text(sure)
        elif len(offered) > 1:
            buffer.start_completion()

    return bindings
