"""``twistd meshnode``: runs a node as a daemon."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshproto.mesh.node import MeshNode
from meshproto.run.options import MeshOptions, complain, exit_with
from meshproto.run.process import (
    EXIT_FAILED,
    listening_problem,
    set_clock,
    start_problem,
)
from meshproto.run.service import MeshService
from meshproto.run.signals import set_signal


class Options(MeshOptions):
    """The arguments after ``twistd meshnode``."""

    synopsis = "[options]"
    examples = (
        "twistd -n --pidfile= meshnode --port 8001 --name alice",
        "twistd -n --pidfile= meshnode --port 8002 --bootstrap localhost:8001",
        "twistd meshnode --listen systemd:domain=INET6:name=mesh",
    )
    statuses = (
        "1  the node could not listen",
        "2  an argument is bad",
        "A node in the foreground that a signal ends dies of that signal.",
    )


class StartFailed(Exception):
    """The daemon cannot work; the text says why."""


class DaemonService(MeshService):
    """A node that is its process's only purpose: if it fails, the process ends.

    ``daemonizes`` says that the process leaves its terminal before the service
    starts.

    Once started, SIGINT, SIGTERM and SIGHUP stop the reactor, except those that the
    process was started with ignored.
    """

    _log = Logger()

    def __init__(
        self, node: MeshNode, reactor: Any, *, debug: bool, daemonizes: bool
    ) -> None:
        super().__init__(node, debug=debug)
        self._config = node.config
        self._reactor = reactor
        self._daemonizes = daemonizes
        self._is_starting = False
        self._has_hung_up = False
        self._problem: str | None = None

    def startService(self) -> None:
        """Start the node.

        If that fails at once, raises `SystemExit` with status 1 after one line on
        standard error; or, if ``twistd`` has forked and its parent process waits for
        an exception to show, `StartFailed`.  If it fails later, stops the reactor,
        and the process ends with status 1.
        """
        self._handle_signals()
        self._is_starting = True
        super().startService()
        self.when_started().addErrback(self._cannot_work)
        self._is_starting = False
        if self._problem is not None:
            if self._daemonizes:
                raise StartFailed(self._problem)
            exit_with(EXIT_FAILED, Options.command, self._problem)

    def _handle_signals(self) -> None:
        # The reactor handles the first two only once it runs, which is after the log
        # says that the node listens, and never handles the third.  A signal that the
        # process ignores, as under nohup, stays ignored.
        for name, default, handler in (
            ("SIGINT", signal.default_int_handler, self._reactor.sigInt),
            ("SIGTERM", signal.SIG_DFL, self._reactor.sigTerm),
            ("SIGHUP", signal.SIG_DFL, self._hung_up),
        ):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == default:
                signal.signal(number, partial(self._received, handler))

    def _received(self, handler: Callable[[int], None], number: int, _: object) -> None:
        # Do not log here: a line logged while another is being written gets lost.
        self._reactor.callFromThread(handler, number)

    def _hung_up(self, number: int) -> None:
        if self._has_hung_up:
            return
        self._has_hung_up = True
        self._log.info("Received SIGHUP, shutting down.")
        atexit.register(_die_of, number)
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _cannot_work(self, failure: Failure) -> None:
        self._problem = start_problem(self._config, failure.value)
        if self._is_starting:
            return
        complain(Options.command, self._problem)
        # After a stopped reactor, twistd exits with status 0, or by a signal.  This
        # runs last, once the log is closed and the PID file removed, and so decides.
        atexit.register(_end_with_failure)
        self._reactor.stop()


def makeService(options: MeshOptions) -> IService:
    """The service that ``twistd`` runs.

    Raises `SystemExit` after one line on standard error, while the process still has
    its terminal: with status 2 for an invalid endpoint string, with 1 if the node
    cannot listen.
    """
    from twisted.internet import reactor

    set_clock(reactor, time.monotonic)
    options.check_endpoints(reactor)
    problem = listening_problem(options.config)
    if problem is not None:
        exit_with(EXIT_FAILED, options.command, problem)
    return DaemonService(
        MeshNode(options.config, reactor=reactor),
        reactor,
        debug=bool(options["debug"]),
        daemonizes=_daemonizes(options),
    )


def _daemonizes(options: MeshOptions) -> bool:
    # Only `twistd` has this setting; `twist` never forks.
    return options.parent is not None and not options.parent.get("nodaemon", True)


def _end_with_failure() -> None:
    _flush()
    os._exit(EXIT_FAILED)


def _die_of(number: int) -> None:
    """End by this signal, so that the parent process sees what ended us."""
    _flush()
    set_signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
