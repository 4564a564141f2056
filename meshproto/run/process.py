"""What a program may do to its process, and a library must not.

`meshproto.run.tap` and `meshproto.run.cli` own their process: they choose the
reactor's clock and set the exit status.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from meshproto.config import NodeConfig
from meshproto.link.network import dual_stack
from meshproto.wire.address import ip_of

EXIT_FAILED = 1


def set_clock(reactor: Any, seconds: Callable[[], float]) -> bool:
    """Make the reactor take its time from ``seconds`` from now on.

    Reactors use the wall clock, so setting the machine's time stalls their timers or
    fires them all at once.  Returns False, and changes nothing, if it is too late:
    the reactor is running, or has timers set by its old clock.
    """
    if reactor.running or reactor.getDelayedCalls():
        return False
    reactor.seconds = seconds
    return True


def listening_problem(config: NodeConfig) -> str | None:
    """Why the node cannot listen where its settings say to; None if it can.

    Binds the address and releases it again, so that a daemon can report the problem
    before it leaves its terminal.  Only TCP endpoint strings are tried.
    """
    host, port = config.interface or _every_address(), config.port
    if config.listen is not None:
        if not config.listen.startswith(("tcp:", "tcp6:")):
            return None
        asked = _Asked()
        serverFromString(asked, config.listen).listen(Factory())
        host, port = asked.interface or "0.0.0.0", asked.port
    ip = ip_of(host)
    version = socket.AF_INET6 if ip and ip.version == 6 else socket.AF_INET
    try:
        with socket.socket(version, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        return start_problem(config, error)
    return None


def start_problem(config: NodeConfig, error: BaseException | None) -> str:
    """Why the node did not start, as one line for people."""
    if config.listen is not None:
        where = f"at {config.listen!r}"
    else:
        where = f"on port {config.port}"
        if config.interface is not None:
            where += f" of {config.interface}"
    cause: object = error
    if isinstance(error, CannotListenError):
        cause = error.socketError
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"cannot listen {where}: {' '.join(reason.split())}"


class _Asked:
    """Stands in for a reactor, and records what a TCP endpoint asks of it."""

    interface = ""
    port = 0

    def listenTCP(
        self, port: int, factory: object, backlog: int = 50, interface: str = ""
    ) -> None:
        self.port = port
        self.interface = interface


def _every_address() -> str:
    return "::" if dual_stack() else "0.0.0.0"
