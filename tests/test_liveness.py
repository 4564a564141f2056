"""When silence is death, and when it was we who were not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.rules.liveness import Liveness, Silent, Sweep, answered, is_mute


class SweepTests(SynchronousTestCase):
    """A peer timeout of 60 seconds, swept every 15."""

    def setUp(self) -> None:
        self.liveness = Liveness(peer_timeout=60.0, interval=15.0)

    def sweep_regularly(self, until: float) -> None:
        """Sweep every 15 seconds, the last time at ``until``."""
        start = until % 15
        for step in range(int((until - start) / 15) + 1):
            self.liveness.sweep(start + 15 * step, ())

    def test_nobody(self) -> None:
        self.assertEqual(self.liveness.sweep(0.0, ()), Sweep((), ()))

    def test_at_the_timeout_a_peer_lives_and_past_it_it_does_not(self) -> None:
        self.sweep_regularly(985.0)
        self.assertEqual(
            self.liveness.sweep(
                1000.0, [("fresh", 999.0), ("edge", 940.0), ("late", 939.75)]
            ),
            Sweep((Silent("late", 60.25),), ("fresh", "edge")),
        )

    def test_also_at_the_very_first_sweep(self) -> None:
        self.assertEqual(
            self.liveness.sweep(100.0, [("late", 39.0), ("edge", 40.0)]),
            Sweep((Silent("late", 61.0),), ("edge",)),
        )

    def test_peers_are_judged_one_by_one_in_their_order(self) -> None:
        heard = [("a", 0.0), ("b", 90.0), ("c", 1.0), ("d", 80.0)]
        sweep = self.liveness.sweep(100.0, heard)
        self.assertEqual(sweep.alive, ("b", "d"))
        self.assertEqual(sweep.silent, (Silent("a", 100.0), Silent("c", 99.0)))

    def test_a_late_sweep_is_no_gap(self) -> None:
        """Up to twice the interval: the silence counts in full."""
        self.liveness.sweep(100.0, ())
        sweep = self.liveness.sweep(130.0, [("late", 69.0)])
        self.assertEqual(sweep.silent, (Silent("late", 61.0),))

    def test_a_gap_in_our_own_running_is_not_held_against_anyone(self) -> None:
        self.liveness.sweep(100.0, ())
        sweep = self.liveness.sweep(130.25, [("late", 0.0)])
        self.assertEqual(sweep, Sweep((), ("late",)))

    def test_after_a_gap_a_peer_has_the_whole_timeout_again(self) -> None:
        self.liveness.sweep(100.0, ())
        heard = [("late", 99.0)]
        for now in (5000.0, 5015.0, 5030.0, 5045.0, 5060.0):
            self.assertEqual(self.liveness.sweep(now, heard), Sweep((), ("late",)), now)
        # How long it has really been silent is what people are told.
        self.assertEqual(
            self.liveness.sweep(5075.0, heard), Sweep((Silent("late", 4976.0),), ())
        )

    def test_who_speaks_after_a_gap_is_judged_by_that(self) -> None:
        self.liveness.sweep(100.0, ())
        self.liveness.sweep(5000.0, ())
        for now in (5015.0, 5030.0, 5045.0, 5060.0, 5075.0, 5090.0):
            sweep = self.liveness.sweep(now, [("back", 5030.0)])
            self.assertEqual(sweep.alive, ("back",), now)
        sweep = self.liveness.sweep(5105.0, [("back", 5030.0)])
        self.assertEqual(sweep.silent, (Silent("back", 75.0),))

    def test_each_gap_excuses_anew(self) -> None:
        self.liveness.sweep(0.0, ())
        for now in (100.0, 200.0, 300.0):
            self.assertEqual(self.liveness.sweep(now, [("a", 0.0)]).silent, ())

    @given(
        st.lists(st.floats(0, 1000), max_size=10),
        st.floats(1000, 2000),
    )
    def test_every_peer_is_either_silent_or_alive(
        self, heard: list[float], now: float
    ) -> None:
        liveness = Liveness(peer_timeout=60.0, interval=15.0)
        sweep = liveness.sweep(now, enumerate(heard))
        judged = [*sweep.alive, *(silent.peer for silent in sweep.silent)]
        self.assertEqual(sorted(judged), list(range(len(heard))))
        for silent in sweep.silent:
            self.assertGreater(now - heard[silent.peer], 60.0)
        for peer in sweep.alive:
            self.assertLessEqual(now - heard[peer], 60.0)


class ProbeTests(SynchronousTestCase):
    """Whether a peer has answered the PING that put it in doubt."""

    def test_anything_heard_since_is_an_answer(self) -> None:
        self.assertTrue(answered(probed_at=10.0, last_heard=10.5))
        self.assertTrue(answered(probed_at=10.0, last_heard=10.0))

    def test_what_was_heard_before_is_none(self) -> None:
        self.assertFalse(answered(probed_at=10.0, last_heard=9.75))
        self.assertFalse(answered(probed_at=10.0, last_heard=0.0))


class MuteTests(SynchronousTestCase):
    """A peer that only ever answers has forgotten that it has us."""

    def test_at_the_bound_and_past_it(self) -> None:
        self.assertFalse(is_mute(spoke_at=10.0, now=10.0))
        self.assertFalse(is_mute(spoke_at=10.0, now=45.0))
        self.assertTrue(is_mute(spoke_at=10.0, now=45.25))
