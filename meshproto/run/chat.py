"""What a user can type at the prompt, and how the program answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from meshproto.errors import (
    AddressError,
    ConnectError,
    LocalProtocolError,
    MeshError,
    NotRunning,
)
from meshproto.events import (
    BootstrapSucceeded,
    Event,
    Peer,
    PeerConnected,
    PeersDiscovered,
)
from meshproto.interfaces import IMesh
from meshproto.run.quiet import SCREEN, Rates
from meshproto.run.render import Narrator
from meshproto.run.teller import Teller
from meshproto.run.visible import visible
from meshproto.wire.address import parse_target

#: The commands, each with the arguments that it takes and what it does.
COMMANDS = {
    "/peers": ("", "show the connected peers and the known addresses"),
    "/connect": ("HOST:PORT", "connect to a peer"),
    "/discover": ("", "ask every peer for more peers now"),
    "/quit": ("", "leave the mesh and exit"),
    "/help": ("", "show this list"),
}

#: How much of an undelivered text is quoted.
_MAX_QUOTED = 40

#: A mesh counts as joined when this long has passed without news of peers,
_QUIET = 0.3
#: or this long after the first peer.
_SETTLING = 2.0


class Chat:
    """A conversation with a node, independent of where lines come from and go to.

    ``show`` prints one finished line.  ``stamp`` returns the time to put before a
    line.  ``rates`` limit the lines that others can cause.

    ``said`` counts the lines to send, ``unheard`` those that reached no peer, and
    ``failed`` the commands that failed.
    """

    def __init__(
        self,
        node: IMesh,
        *,
        max_peers: int,
        debug: bool,
        show: Callable[[str], None],
        stamp: Callable[[], str],
        rates: Rates = SCREEN,
    ) -> None:
        self._node = node
        self._max_peers = max_peers
        self._narrator = Narrator(node.name, debug=debug)
        self._show = show
        self._now = now = node.clock.seconds
        self._stamp = stamp
        self._connecting: list[Deferred[None]] = []
        self._news_at = now()
        self._first_peer_at: float | None = None
        self.said = 0
        self.unheard = 0
        self.failed = 0
        # First, so that `has_joined` is up to date before the news is shown.
        node.subscribe(self._news, PeerConnected, PeersDiscovered, BootstrapSucceeded)
        self._teller = Teller(node, self._narrator, rates, self._told, debug=debug)

    def tell(self, text: str) -> None:
        """Show a line, prefixed with the time."""
        self._show(f"[{self._stamp()}] {text}")

    def handle(self, line: str) -> bool:
        """Carry out a command, or send the line to every peer.

        Returns False when the user wants to leave.  Shows any error.
        """
        if not line.strip():
            return True
        text = _said(line)
        if text is not None:
            self._say(text)
            return True
        command, *arguments = line.split()
        if command not in COMMANDS:
            self._fail(_unknown(command))
        elif len(arguments) != len(COMMANDS[command][0].split()):
            usage = f"{command} {COMMANDS[command][0]}".rstrip()
            self._fail(f"Usage: {usage}")
        elif command == "/quit":
            return False
        else:
            self._carry_out(command, *arguments)
        return True

    def close(self) -> None:
        """Show the lines still held back; the node has stopped."""
        self._teller.stop()

    def give_up(self, line: str) -> None:
        """Count a line that is not handled because the user is leaving."""
        if line.strip() and _said(line) is not None:
            self.said += 1
            self.unheard += 1

    async def settled(self) -> None:
        """Wait until every ``/connect`` so far has succeeded or failed."""
        while self._connecting:
            await self._connecting[0]

    @property
    def has_joined(self) -> bool:
        """Whether the mesh is joined, as far as that is possible for now.

        True once there is a peer, and either there is no recent news of others and
        no untried address, or enough time has passed.
        """
        if not self._node.peers() or self._first_peer_at is None:
            return False
        now = self._now()
        if now - self._first_peer_at >= _SETTLING:
            return True
        return now - self._news_at >= _QUIET and not any(
            not (known.linked or known.proven or known.failures)
            for known in self._node.known_addresses()
        )

    def _carry_out(self, command: str, *arguments: str) -> None:
        match command:
            case "/peers":
                self._show_peers()
            case "/connect":
                self._connect(*arguments)
            case "/discover":
                self._discover()
            case "/help":
                self._show_help()

    def _say(self, text: str) -> None:
        self.said += 1
        longest = self._node.config.max_line
        try:
            if len(text.encode("utf-8", "replace")) > longest:
                # The rest of it may have been cut off already.
                raise LocalProtocolError(f"a line is at most {longest} bytes")
            delivery = self._node.broadcast(text)
        except MeshError as error:
            self.unheard += 1
            self._tell_error(error)
            return
        self.tell(self._narrator.own_message(text))
        if not delivery:
            self.unheard += 1
            self.tell(
                f'[SYSTEM] No peers connected: "{_shortened(text)}" was not delivered'
            )

    def _connect(self, text: str) -> None:
        try:
            target = parse_target(text)
        except AddressError as error:
            self._fail(error)
            return
        before = {(peer.id, peer.host) for peer in self._node.peers()}
        self.tell(f"[SYSTEM] Connecting to {visible(str(target))}")

        def connected(peer: Peer) -> None:
            if (peer.id, peer.host) in before:
                who = self._narrator.label(peer)
                self.tell(f"[SYSTEM] Already connected to peer {who}")

        def failed(failure: Failure) -> None:
            # An event has already reported a failed dial.  A dial abandoned because
            # the node is stopping is not worth reporting.
            if failure.check(ConnectError):
                self.failed += 1
            elif not failure.check(NotRunning):
                self._fail(failure.getErrorMessage())

        def forget(_: object) -> None:
            self._connecting.remove(connecting)

        connecting = self._node.connect(target).addCallbacks(connected, failed)
        self._connecting.append(connecting)
        connecting.addCallback(forget)

    def _discover(self) -> None:
        try:
            asked = self._node.discover()
        except MeshError as error:
            self._fail(error)
            return
        if asked:
            whom = f"{asked} peer" if asked == 1 else f"{asked} peers"
            self.tell(f"[DISCOVERY] Asked {whom} for more peers")
        else:
            self.tell("[SYSTEM] No peers connected: nobody to ask")

    def _show_peers(self) -> None:
        for line in self._narrator.peers_report(
            self._node.peers(),
            self._node.known_addresses(),
            self._max_peers,
            self._now(),
        ):
            self._show(line)

    def _show_help(self) -> None:
        commands = [f"{name} {args}" for name, (args, _) in COMMANDS.items()]
        width = max(map(len, commands))
        self._show("Commands:")
        for command, (_, purpose) in zip(commands, COMMANDS.values(), strict=True):
            self._show(f"  {command:{width}}  {purpose}")
        self._show("Anything else is said to every peer.")
        self._show("To say what begins with a slash, type two: //help says /help.")

    def _fail(self, error: object) -> None:
        self.failed += 1
        self._tell_error(error)

    def _tell_error(self, error: object) -> None:
        self.tell(f"[ERROR] {visible(str(error))}")

    def _news(self, event: Event) -> None:
        self._news_at = self._now()
        if isinstance(event, PeerConnected) and self._first_peer_at is None:
            self._first_peer_at = self._now()

    def _told(self, event: Event, line: str) -> None:
        self.tell(line)


def completions(
    text: str,
    addresses: Callable[[], Iterable[str]],
    names: Callable[[], Iterable[str]],
) -> Iterator[str]:
    """Completions of a typed text: whole lines, which may differ from it in case.

    ``addresses`` returns what ``/connect`` can be given, ``names`` the peers' names.
    """
    if text.startswith("/") and not text.startswith("//"):
        for command, (arguments, _) in COMMANDS.items():
            if arguments and text.startswith(f"{command} "):
                for address in addresses():
                    if f"{command} {address}".startswith(text):
                        yield f"{command} {address}"
            elif command.startswith(text):
                yield f"{command} " if arguments else command
        return
    before, space, word = text.rpartition(" ")
    if not word:
        return
    for name in sorted(set(names())):
        # The completed line is sent, so it must not contain invisible characters.
        if name.casefold().startswith(word.casefold()) and visible(name) == name:
            yield f"{before}{space}{name}" if space else f"{name}: "


def _said(line: str) -> str | None:
    """The text to send to every peer for a line; None if it is a command."""
    if line.startswith("//"):
        return line[1:]
    return None if line.startswith("/") else line


def _unknown(command: str) -> str:
    near = get_close_matches(command.casefold(), COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "/help shows the commands."
    return f"Unknown command {_shortened(command)}: {hint} To say it, begin with //"


def _shortened(text: str) -> str:
    if len(text) <= _MAX_QUOTED:
        return visible(text)
    return f"{visible(text[:_MAX_QUOTED])}..."
