"""How long a turn is."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshproto.rules.turns import LONG_TURN, SHORT_TURN, Turns


class TurnsTests(SynchronousTestCase):
    def test_long_while_nobody_waits(self) -> None:
        self.assertEqual(Turns().seconds, LONG_TURN)

    def test_short_until_the_last_waits_no_more(self) -> None:
        turns = Turns()
        turns.wait()
        turns.wait()
        turns.go()
        self.assertEqual(turns.seconds, SHORT_TURN)
        turns.go()
        self.assertEqual(turns.seconds, LONG_TURN)
