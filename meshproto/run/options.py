"""The command-line options of a node, shared by the daemon and the prompt.

Options and positional arguments may come in any order.  For a bad argument, the
program prints one line that names it on standard error, and exits with status 2.
"""

from __future__ import annotations

import getopt
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, NoReturn

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.logger import LoggingFile
from twisted.python import usage

from meshproto.config import DEFAULT_PORT, PROTOCOLS, NodeConfig
from meshproto.errors import AddressError, ConfigError
from meshproto.run.visible import visible
from meshproto.wire.address import EndpointTarget, parse_target

EXIT_BAD_ARGUMENT = 2

_DEFAULTS = NodeConfig()
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}\Z")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?\Z")

_WHOLE_NUMBERS = ("port", "max-peers")
_SECONDS = (
    "discovery-interval",
    "maintenance-interval",
    "connection-timeout",
    "peer-timeout",
)
_TEXTS = ("name", "id", "interface", "listen", "advertise", "mesh")
_SETTINGS = re.compile(
    "|".join(rf"\b{each.name}\b" for each in fields(NodeConfig) if "_" in each.name)
)

_SHELL_COMPLETION = "--_shell-completion"


def program_version() -> str:
    """The installed version, as ``--version`` shows it."""
    try:
        return f"meshproto {version('meshproto')}"
    except PackageNotFoundError:
        return "meshproto, run from where it is not installed"


def complain(command: str, problem: str) -> None:
    """Write one line to the process's real standard error.

    That holds even if a logging system has replaced `sys.stderr`.
    """
    stream = sys.stderr
    if isinstance(stream, LoggingFile):
        stream = sys.__stderr__
    if stream is not None:
        stream.write(f"{command}: {visible(problem)}\n")
        stream.flush()


def exit_with(status: int, command: str, problem: str) -> NoReturn:
    """Write one line to standard error and raise `SystemExit` with the status."""
    complain(command, problem)
    raise SystemExit(status)


class MeshOptions(usage.Options):
    """The options of a node.

    After `parseOptions`, ``config`` is a valid `NodeConfig`.  Flags that are not
    settings of a node are items, as in any `usage.Options` (``options["debug"]``).
    """

    #: The command's name, which begins each error line.
    command: ClassVar[str] = "meshnode"
    #: Shown below the list of options.
    examples: ClassVar[tuple[str, ...]] = ()
    #: Shown below the examples: what each exit status means.
    statuses: ClassVar[tuple[str, ...]] = ()

    longdesc = ""
    config: NodeConfig

    optFlags: ClassVar[Sequence[Sequence[Any]]] = [
        ["debug", None, "Show wire chatter: PING, PONG and lists of peers"],
    ]
    optParameters: ClassVar[Sequence[Sequence[Any]]] = [
        [
            "port",
            "p",
            None,
            f"TCP port to listen on, 0 for a free one (default {DEFAULT_PORT})",
        ],
        ["name", None, None, "Name that people see (default: the ID)"],
        ["id", None, None, "ID that peers see (default: peer-<port>)"],
        [
            "interface",
            None,
            None,
            "IP address to listen on (default: every address of this machine)",
        ],
        [
            "listen",
            None,
            None,
            "Twisted server endpoint, such as unix:/run/mesh, instead of a port",
        ],
        [
            "advertise",
            None,
            None,
            "HOST or HOST:PORT at which peers reach this node, where that "
            "differs from what it sees itself",
        ],
        [
            "protocol",
            None,
            None,
            f"Speak only this, {' or '.join(PROTOCOLS)} (default: what a peer speaks)",
        ],
        [
            "mesh",
            None,
            None,
            "Name of the mesh to belong to; peers of another one are refused "
            "(only by mesh/2)",
        ],
        [
            "max-peers",
            None,
            None,
            f"Seats for peers (default {_DEFAULTS.max_peers})",
        ],
        [
            "discovery-interval",
            None,
            None,
            "Seconds between two rounds of asking every peer for peers "
            f"(default {_DEFAULTS.discovery_interval:g})",
        ],
        [
            "maintenance-interval",
            None,
            None,
            "Seconds between two rounds of PING "
            f"(default {_DEFAULTS.maintenance_interval:g})",
        ],
        [
            "connection-timeout",
            None,
            None,
            "Seconds that a dial and a handshake may take "
            f"(default {_DEFAULTS.connection_timeout:g})",
        ],
        [
            "peer-timeout",
            None,
            None,
            "Seconds of silence after which a peer is dropped "
            f"(default {_DEFAULTS.peer_timeout:g})",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        #: The bootstrap addresses, each with the argument that named it.
        self.bootstrap: list[tuple[str, str]] = []

    def opt_bootstrap(self, address: str) -> None:
        """HOST:PORT (or Twisted client endpoint) of a node to join; may be repeated"""
        self.add_bootstrap("--bootstrap", address)

    opt_b = opt_bootstrap

    def opt_version(self) -> NoReturn:
        """Show the version of meshproto and exit"""
        sys.stdout.write(f"{program_version()}\n")
        raise SystemExit(0)

    def opt_help(self) -> NoReturn:
        """Show this help and exit"""
        sys.stdout.write(f"{self}\n")
        raise SystemExit(0)

    opt_h = opt_help

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the arguments, by default those of the process.

        Raises `SystemExit`: with status 2, after one line on standard error, for a
        bad argument; with 0 after ``--help`` and ``--version``.
        """
        arguments = list(sys.argv[1:] if options is None else options)
        try:
            if arguments[-2:-1] != [_SHELL_COMPLETION]:
                arguments = self._options_first(arguments)
            super().parseOptions(arguments)
        except (usage.UsageError, getopt.GetoptError) as error:
            exit_with(EXIT_BAD_ARGUMENT, self.command, str(error))
        except ConfigError as error:
            problem = _SETTINGS.sub(lambda found: _option(found[0]), error.problem)
            exit_with(
                EXIT_BAD_ARGUMENT,
                self.command,
                f"{self.argument(error.setting)}: {problem}",
            )

    def parseArgs(self, *arguments: str) -> None:
        """Refuse positional arguments: the daemon takes none."""
        if arguments:
            raise usage.UsageError(
                f"{arguments[0]!r} is not an option: a port goes after --port, "
                "an address after --bootstrap"
            )

    def postOptions(self) -> None:
        """Build ``config`` from the options given."""
        if self["listen"] is not None:
            for other in ("port", "interface"):
                if self[other] is not None:
                    raise usage.UsageError(
                        "--listen: says where to listen, so "
                        f"{self.argument(other)} cannot as well"
                    )
        given: dict[str, Any] = {}
        for option in _WHOLE_NUMBERS:
            if (text := self[option]) is not None:
                given[_setting(option)] = self._whole_number(option, text)
        for option in _SECONDS:
            if (text := self[option]) is not None:
                given[_setting(option)] = self._seconds(option, text)
        for option in _TEXTS:
            if (text := self[option]) is not None:
                given[_setting(option)] = text
        if (protocol := self["protocol"]) is not None:
            given["protocols"] = (protocol,)
        given["bootstrap"] = tuple(address for _, address in self.bootstrap)
        self.config = NodeConfig(**given)

    def add_bootstrap(self, argument: str, address: str) -> None:
        """Add a bootstrap address; ``argument`` is the argument that named it.

        Raises `usage.UsageError` if the text is not an address.
        """
        try:
            parse_target(address)
        except AddressError as error:
            raise usage.UsageError(f"{argument}: {error}") from None
        self.bootstrap.append((argument, address))

    def check_endpoints(self, reactor: Any) -> None:
        """Check the endpoint strings among the arguments by parsing them.

        Separate from `parseOptions` because it needs a reactor.  Raises `SystemExit`
        with status 2, after one line on standard error, for an invalid one.
        """
        if self.config.listen is not None:
            self._check_endpoint(
                "--listen", self.config.listen, serverFromString, reactor
            )
        for argument, address in self.bootstrap:
            if isinstance(parse_target(address), EndpointTarget):
                self._check_endpoint(argument, address, clientFromString, reactor)

    def argument(self, setting: str) -> str:
        """What a user calls a setting of `NodeConfig`."""
        return "--protocol" if setting == "protocols" else _option(setting)

    def getUsage(self, width: int | None = None) -> str:
        """The help text: options, examples and exit statuses."""
        text: str = super().getUsage(width=width)
        for title, lines in (
            ("Examples", self.examples),
            ("Exit status", self.statuses),
        ):
            if lines:
                text += f"\n{title}:\n" + "".join(f"  {each}\n" for each in lines)
        return text

    def _options_first(self, arguments: list[str]) -> list[str]:
        """The same arguments, with the positional ones moved to the end."""
        options, positional = getopt.gnu_getopt(arguments, self.shortOpt, self.longOpt)
        ordered = []
        for option, value in options:
            ordered.append(option)
            if self._takes_value(option):
                ordered.append(value)
        return [*ordered, "--", *positional]

    def _takes_value(self, option: str) -> bool:
        if option.startswith("--"):
            return f"{option[2:]}=" in self.longOpt
        return f"{option[1:]}:" in self.shortOpt

    def _whole_number(self, option: str, text: str) -> int:
        if not _WHOLE.match(text):
            argument = self.argument(_setting(option))
            raise usage.UsageError(f"{argument}: {text!r} is not a whole number")
        return int(text)

    def _seconds(self, option: str, text: str) -> float:
        if not _NUMBER.match(text):
            argument = self.argument(_setting(option))
            raise usage.UsageError(f"{argument}: {text!r} is not a number of seconds")
        return float(text)

    def _check_endpoint(
        self, argument: str, text: str, read: Any, reactor: Any
    ) -> None:
        try:
            read(reactor, text)
        except TypeError:
            reason = "a part of it is missing, or one too many"
        except KeyError as error:
            reason = f"there is no {error}"
        # Each type of endpoint parses its own string, and fails in its own way.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
        else:
            return
        exit_with(
            EXIT_BAD_ARGUMENT,
            self.command,
            f"{argument}: {text!r} cannot be used: {reason}",
        )


class PromptOptions(MeshOptions):
    """The options of the prompt, which also takes a port and addresses to join."""

    command = "meshproto"
    synopsis = "Usage: meshproto PORT [HOST:PORT ...] [options]"
    examples = (
        "meshproto 8001 --name alice",
        "meshproto 8002 localhost:8001 --name bob",
        "echo 'backup done' | meshproto 0 localhost:8001 --name cron",
        "meshproto 8001 --stay </dev/null",
    )
    statuses = (
        "0  the user left, or the input ended and every line of it was handed",
        "   to at least one peer",
        "1  the node could not listen, or a line of piped input reached nobody",
        "   or was a command that failed",
        "2  an argument is bad, or there is no input",
    )

    optFlags: ClassVar[Sequence[Sequence[Any]]] = [
        [
            "stay",
            None,
            "Stay in the mesh after piped input has ended, until a signal",
        ],
    ]

    @property
    def place(self) -> str:
        """The option that sets where the node listens, with its value."""
        if self.config.listen is not None:
            return f"--listen {self.config.listen}"
        return f"--port {self.config.port}"

    def parseArgs(self, *arguments: str) -> None:
        """Take ``PORT``, unless an option sets where to listen, then addresses."""
        self._port_is_positional = False
        addresses = list(arguments)
        elsewhere = [
            option for option in ("--port", "--listen") if self[option[2:]] is not None
        ]
        if addresses and (":" not in addresses[0] or not elsewhere):
            port = addresses.pop(0)
            if ":" in port:
                raise usage.UsageError(
                    f"PORT: {port!r} is not a port to listen on: "
                    "write meshproto PORT HOST:PORT"
                )
            if elsewhere:
                raise usage.UsageError(
                    f"PORT: {port!r} is one too many, for there is {elsewhere[0]}"
                )
            self._port_is_positional = True
            self["port"] = port
        elif not elsewhere:
            raise usage.UsageError("PORT is missing: write meshproto 8001, or --help")
        for address in addresses:
            self.add_bootstrap("HOST:PORT", address)

    def argument(self, setting: str) -> str:
        """What a user calls a setting of `NodeConfig`."""
        if setting == "port" and self._port_is_positional:
            return "PORT"
        return super().argument(setting)


def _setting(option: str) -> str:
    return option.replace("-", "_")


def _option(setting: str) -> str:
    return "--" + setting.replace("_", "-")
