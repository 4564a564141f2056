"""One daemon, and a test that plays others over raw sockets."""

from __future__ import annotations

from lab.daemons import Daemon, Wire
from tests.daemons import DaemonTestCase


class WireTestCase(DaemonTestCase):
    """A daemon called alice."""

    def alice(self, *options: object, bootstrap: tuple[int, ...] = ()) -> Daemon:
        return self.fleet.start("alice", *options, bootstrap=bootstrap)

    def check_kept_away(self, wire: Wire, daemon: Daemon, reason: str) -> None:
        """The daemon ends the connection without a word, and says why."""
        self.assertEqual(wire.rest(), b"")
        self.fleet.until_logged(daemon, f"Handshake with 127.0.0.1: {reason}")
