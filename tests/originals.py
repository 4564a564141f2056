"""A stand-in for the original program."""

from __future__ import annotations

from tests.fakes import Bench, Wire


class Original:
    """A node of the original program, as far as it has to do with a `Bench`.

    It takes every link, sends on the newest (``current``), reads all of them,
    and asks for peers on a link that it has dialled.  When any link ends it
    forgets the peer (``current`` is None): from then on it answers at most.
    ``heard`` is the chat that it shows.
    """

    greeting = "39bc6c5f-2c84-11f7:gopher"

    def __init__(
        self, bench: Bench, id: str = "39bc6c5f-2c84-11f7", host: str = "192.0.2.2"
    ) -> None:
        self._bench = bench
        self._hello = f"{id}:gopher"
        self._host = host
        self._fresh: set[Wire] = set()
        self._wires: list[Wire] = []
        self.current: Wire | None = None
        self.heard: list[str] = []

    def dial(self) -> Wire:
        """Dial the node and greet it; the answer waits for `read`."""
        wire = self._bench.caller(self._host, 50100 + len(self._wires))
        wire.say(self._hello)
        self._fresh.add(wire)
        self._wires.append(wire)
        return wire

    def accept(self, target: str) -> Wire:
        """Take the node's latest dial, and welcome it."""
        wire = self._bench.dialled(target).succeed(there=self._host)
        wire.heard()
        self._wires.append(wire)
        self.current = wire
        wire.say(self._hello)
        return wire

    def read(self) -> None:
        """Read what has arrived, and answer it."""
        for wire in tuple(self._wires):
            for line in wire.heard().decode().splitlines():
                self._read_line(wire, line)
            if wire.closed:
                wire.hang_up()
                self._wires.remove(wire)
                self.current = None

    def say(self, text: str) -> None:
        """Chat, if it knows of a peer."""
        if self.current is not None:
            self.current.say(text)

    def say_ping(self) -> None:
        """What it says every 15 seconds to a peer that it knows of."""
        self.say("PING")

    def _read_line(self, wire: Wire, line: str) -> None:
        if wire in self._fresh:
            self._fresh.discard(wire)
            if line != "DUPLICATE":
                self.current = wire
                wire.say("REQUEST_PEERS")
        elif line == "PING":
            wire.say("PONG")
        elif line not in ("PONG", "REQUEST_PEERS") and not line.startswith("PEERS:"):
            self.heard.append(line)
