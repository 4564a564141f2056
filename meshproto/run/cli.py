"""``meshproto``: a node with a chat prompt.

At a terminal the prompt has history and completion, and incoming lines appear above
it.  Otherwise the program reads lines until the input ends, finishes each before the
next, and then leaves; so a script can send a message and know that it was sent.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import provider

from meshproto.config import KiB
from meshproto.mesh.node import MeshNode
from meshproto.run.chat import Chat, completions
from meshproto.run.history import HistoryFile, history_path
from meshproto.run.options import EXIT_BAD_ARGUMENT, PromptOptions, complain, exit_with
from meshproto.run.pipes import PipeReader, PipeWriter
from meshproto.run.process import EXIT_FAILED, set_clock, start_problem
from meshproto.run.quiet import PIPE, SCREEN, Rates
from meshproto.run.signals import set_signal
from meshproto.run.terminal import Terminal, is_usable, wants_colours
from meshproto.run.visible import visible

_POLL = 0.05
#: Seconds for which a stuck standard output may delay the end of the process.
_PATIENCE = 2.0
#: Signals less than this many seconds apart count as one: ``timeout`` signals both
#: the process and its process group.
_ONE_SIGNAL = 0.2
#: Read the next piped line once at most this many bytes are queued per peer.
_PIPED_QUEUE = 64 * KiB


class Program:
    """The process: a node, a user, and how it ends.

    It runs on the asyncio reactor, which must not be running yet.
    """

    def __init__(self, reactor: Any, options: PromptOptions) -> None:
        self._reactor = reactor
        self._config = options.config
        self._debug = bool(options["debug"])
        self._stays = bool(options["stay"])
        self._status = 0
        self._problems: list[str] = []
        self._leaving_since: float | None = None
        self._left: Deferred[None] = Deferred()
        self._leave: Callable[[], None] = lambda: None
        self._restore: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Run until the user leaves; returns the exit status."""
        # Not `callWhenRunning`, which fires before the event loop runs.
        self._reactor.callLater(0, self._begin)
        signals = self._handle_signals()
        self._reactor.run(installSignalHandlers=False)
        for problem in self._problems:
            complain(PromptOptions.command, problem)
        # The interpreter restores the default signal handlers as it shuts down.  A
        # signal that arrives then must not change the exit status.
        for number in signals:
            set_signal(number, signal.SIG_IGN)
        return self._status

    @property
    def is_leaving(self) -> bool:
        """Whether the process is about to end."""
        return self._leaving_since is not None

    def leave(self) -> None:
        """Stop the node, then end the process."""
        if self._leaving_since is None:
            self._leaving_since = self._reactor.seconds()
        self._leave()
        if not self._left.called:
            self._left.callback(None)

    def _begin(self) -> None:
        conversation = Deferred.fromCoroutine(self._converse())
        conversation.addErrback(self._failed)
        conversation.addBoth(lambda _: self._reactor.stop())

    async def _converse(self) -> None:
        if is_usable(sys.stdin, sys.stdout):
            await self._at_terminal()
        else:
            await self._with_pipes()

    async def _at_terminal(self) -> None:
        node = MeshNode(self._config, reactor=self._reactor)

        def complete(text: str) -> Iterator[str]:
            return completions(
                text,
                addresses=lambda: (
                    str(known.target)
                    for known in node.known_addresses()
                    if not known.linked
                ),
                names=lambda: (peer.name for peer in node.peers()),
            )

        path = history_path(os.environ, os.path.expanduser("~"))
        terminal = Terminal(
            complete,
            history=HistoryFile(path) if path is not None else None,
            colours=wants_colours(os.environ),
        )
        chat = self._make_chat(node, terminal.show, SCREEN)
        self._leave, self._restore = terminal.close, terminal.restore
        await terminal.open()
        try:
            if self.is_leaving:
                terminal.close()
            if await self._start(node):
                while (line := await terminal.next_line()) is not None:
                    if not chat.handle(line):
                        break
            self.leave()
            await terminal.closed()
            await node.stop()
            chat.close()
        finally:
            terminal.flush()

    async def _with_pipes(self) -> None:
        # All piped input must be sent before the process ends, so the node gets more
        # time to stop, and queues less between lines.
        config = replace(
            self._config,
            send_queue_soft=_PIPED_QUEUE,
            stop_timeout=self._config.stall_timeout,
        )
        node = MeshNode(config, reactor=self._reactor)
        reader = PipeReader(0, config.max_line, self._reactor)
        writer = PipeWriter(
            1,
            getattr(sys.stdout, "encoding", "utf-8"),
            self._reactor,
            on_full=node.pause_reading,
            on_eased=node.resume_reading,
            on_broken=self._output_broken,
        )
        chat = self._make_chat(node, writer.write, PIPE)

        def leave() -> None:
            reader.close()
            node.stop()
            self._reactor.callLater(_PATIENCE, writer.abandon)

        self._leave = leave
        if await self._start(node):
            if self.is_leaving:
                leave()
            line = await reader.next_line()
            if line is not None:
                await self._joined(chat)
            while line is not None and not self.is_leaving and chat.handle(line):
                await chat.settled()
                await node.drain()
                if writer.is_full:
                    await writer.flush()
                line = await reader.next_line()
            if line is None and self._stays and not self.is_leaving:
                await self._left
            await node.stop()
            chat.close()
            if line is not None and self.is_leaving:
                chat.give_up(line)
            self._count_failures(chat)
        await writer.flush()

    def _make_chat(
        self, node: MeshNode, show: Callable[[str], None], rates: Rates
    ) -> Chat:
        chat = Chat(
            node,
            max_peers=self._config.max_peers,
            debug=self._debug,
            show=show,
            stamp=lambda: time.strftime("%H:%M:%S"),
            rates=rates,
        )
        _log_to(chat.tell, debug=self._debug)
        return chat

    async def _start(self, node: MeshNode) -> bool:
        try:
            await node.start()
        # Each type of endpoint fails in its own way.
        except Exception as error:
            self._fail(start_problem(self._config, error))
            return False
        return True

    async def _joined(self, chat: Chat) -> None:
        """Wait until the mesh is joined, so that the first lines reach it."""
        if not self._config.bootstrap:
            return
        deadline = self._reactor.seconds() + self._config.connection_timeout
        while not (self.is_leaving or chat.has_joined):
            if self._reactor.seconds() >= deadline:
                break
            await deferLater(self._reactor, _POLL)

    def _count_failures(self, chat: Chat) -> None:
        """Report undelivered lines and failed commands to a script."""
        if os.isatty(0):
            return  # A person has seen the errors.
        if chat.unheard:
            self._fail(f"{chat.unheard} of {chat.said} lines reached nobody")
        if chat.failed:
            commands = "command" if chat.failed == 1 else "commands"
            self._fail(f"{chat.failed} {commands} failed")

    def _output_broken(self, error: OSError) -> None:
        # If the reader of our output has gone, leave without a complaint.
        if error.errno not in (errno.EPIPE, errno.EBADF, errno.EIO):
            self._fail(f"cannot write to standard output: {error.strerror}")
        self.leave()

    def _failed(self, failure: Failure) -> None:
        if self._debug:
            failure.printTraceback(sys.stderr)
        self._fail(f"unexpected error: {_in_words(failure)}")

    def _fail(self, problem: str) -> None:
        self._status = EXIT_FAILED
        self._problems.append(problem)

    def _handle_signals(self) -> list[int]:
        """Leave on SIGINT, SIGTERM and SIGHUP, except those that are ignored.

        Returns the signals now handled.
        """

        def received(number: int, _: object) -> None:
            now = self._reactor.seconds()
            if self._leaving_since is None:
                self._leaving_since = now
                self._reactor.callFromThread(self.leave)
            elif now - self._leaving_since > _ONE_SIGNAL and number != hangup:
                # The user is in a hurry, or the reactor is stuck.
                self._restore()
                os._exit(128 + number)

        hangup = getattr(signal, "SIGHUP", None)
        handled = []
        for number in (signal.SIGINT, signal.SIGTERM, hangup):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, received)
                handled.append(number)
        return handled


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``meshproto``; returns its exit status.

    0 means that the user left or the input ended, 1 that something failed (with a
    line on standard error).  Raises `SystemExit` with 2 for bad arguments or missing
    input, and with 0 after ``--help`` and ``--version``.  Afterwards the signals that
    end a process are ignored.
    """
    _open_missing_descriptors()
    options = PromptOptions()
    options.parseOptions(arguments)
    reactor = _install_reactor()
    set_clock(reactor, time.monotonic)
    options.check_endpoints(reactor)
    if not options["stay"] and _is_null_device(0):
        exit_with(
            EXIT_BAD_ARGUMENT,
            options.command,
            "there is no input: for a node without a prompt add --stay, "
            f"or use twistd -n --pidfile= meshnode {options.place}",
        )
    return Program(reactor, options).run()


def _install_reactor() -> Any:
    # Windows' default event loop does not work with Twisted, so make this one.
    asyncioreactor.install(asyncio.SelectorEventLoop())
    from twisted.internet import reactor

    return reactor


def _open_missing_descriptors() -> None:
    """Open the null device in place of a missing standard input or output.

    Otherwise the next socket would get its descriptor and be used in its place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _is_null_device(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return (
        stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev
    )


def _log_to(tell: Callable[[str], None], *, debug: bool) -> None:
    """Show logged errors: one line each, or in full for debugging."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"] not in (LogLevel.error, LogLevel.critical):
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text += f": {_in_words(failure)}"
            if debug:
                text += f"\n{failure.getTraceback()}"
        for line in text.splitlines() if debug else [" ".join(text.split())]:
            tell(f"[ERROR] {visible(line)}")

    globalLogBeginner.beginLoggingTo(
        [observe], redirectStandardIO=False, discardBuffer=True
    )


def _in_words(failure: Failure) -> str:
    kind = type(failure.value).__name__
    return " ".join(f"{kind}: {failure.getErrorMessage()}".split())
