"""Lines that peers can cause at will: one of each, and how many there were."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto._quiet import MAX_KEPT, WINDOW, Quiet
from meshproto.events import (
    ChatReceived,
    CloseReason,
    Event,
    NodeError,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
    PingReceived,
    PingSent,
    PongReceived,
)
from tests.test_events import peer


def refused(host: str = "192.0.2.9") -> Event:
    return PeerRefused(id="", name="", host=host, reason="MAX_PEERS")


class QuietTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 50.0
        self.quiet = Quiet(lambda: self.now)

    def shown(self, event: Event, line: str | None = "line") -> list[str]:
        return [text for _, text in self.quiet.lines(event, line)]

    def test_the_first_is_shown_and_the_others_are_not(self) -> None:
        self.assertEqual(self.shown(refused(), "one"), ["one"])
        self.now += WINDOW - 0.001
        self.assertEqual(self.shown(refused(), "two"), [])

    def test_their_number_is_told_when_the_time_is_over(self) -> None:
        for line in ("one", "two", "three", "four"):
            self.shown(refused(), line)
        self.now += WINDOW
        told = list(self.quiet.lines(PingSent(peer=peer()), None))
        self.assertEqual(told, [(refused(), "four (and 2 more like it)")])
        self.assertEqual(self.shown(refused(), "five"), ["five"])

    def test_a_single_one_is_only_late(self) -> None:
        self.shown(refused(), "one")
        self.shown(refused(), "two")
        self.now += WINDOW
        self.assertEqual(self.shown(refused(), "three"), ["two", "three"])

    def test_a_clock_that_is_set_back_silences_nobody(self) -> None:
        self.shown(refused(), "one")
        self.now -= 7200
        self.assertEqual(self.shown(refused(), "two"), ["two"])

    def test_nothing_was_left_out(self) -> None:
        self.shown(refused(), "one")
        self.now += WINDOW
        self.assertEqual(self.shown(PingSent(peer=peer()), None), [])

    def test_peers_and_kinds_do_not_silence_each_other(self) -> None:
        for event in (
            refused("192.0.2.9"),
            refused("192.0.2.10"),
            PingReceived(peer=peer()),
            PongReceived(peer=peer()),
            PingReceived(peer=peer(host="192.0.2.3")),
            NodeError(context="Handshake with 192.0.2.9", error="not UTF-8"),
            NodeError(context="Handshake with 192.0.2.10", error="not UTF-8"),
        ):
            self.assertEqual(self.shown(event), ["line"], event)
            self.assertEqual(self.shown(event), [], event)

    def test_chat_and_who_is_there_are_always_shown(self) -> None:
        for event in (
            ChatReceived(peer=peer(), text="hello"),
            PeerConnected(peer=peer(), peer_count=1, max_peers=20),
            PeerDisconnected(peer=peer(), reason=CloseReason.TIMEOUT),
        ):
            self.assertEqual(self.shown(event) + self.shown(event), ["line", "line"])

    def test_what_has_no_line_is_not_counted(self) -> None:
        self.assertEqual(self.shown(refused(), None), [])
        self.assertEqual(self.shown(refused(), "one"), ["one"])

    def test_many_sources_are_not_all_remembered(self) -> None:
        for number in range(MAX_KEPT):
            self.shown(refused(f"host-{number}"))
        self.assertEqual(self.shown(refused("host-0")), [])
        self.assertEqual(self.shown(refused("one more")), ["line"])
        self.assertEqual(self.shown(refused("host-1")), ["line"])
        self.assertEqual(self.shown(refused(f"host-{MAX_KEPT - 1}")), [])
