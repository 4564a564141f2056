"""Token buckets: what is in them at any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.rules.ratelimit import SourceLimit, TokenBucket, source_of

STEPS = st.lists(
    st.tuples(st.floats(0, 10, allow_nan=False), st.integers(0, 20)), max_size=40
)


class TokenBucketTests(SynchronousTestCase):
    def test_a_burst_at_once_and_no_more(self) -> None:
        bucket = TokenBucket(2.0, 5, 100.0)
        self.assertEqual([bucket.take(100.0) for _ in range(6)], [1, 1, 1, 1, 1, 0])

    def test_as_many_as_are_there(self) -> None:
        bucket = TokenBucket(2.0, 5, 0.0)
        self.assertEqual(bucket.take(0.0, 3), 3)
        self.assertEqual(bucket.take(0.0, 3), 2)
        self.assertEqual(bucket.take(0.0, 3), 0)

    def test_it_fills_with_time_up_to_the_burst(self) -> None:
        bucket = TokenBucket(2.0, 5, 0.0)
        bucket.take(0.0, 5)
        self.assertEqual(bucket.wait(0.0), 0.5)
        self.assertEqual(bucket.take(0.25), 0)
        self.assertEqual(bucket.wait(0.25), 0.25)
        self.assertEqual(bucket.take(0.5), 1)
        self.assertFalse(bucket.is_full(2.75))
        self.assertTrue(bucket.is_full(3.0))
        self.assertEqual(bucket.take(1000.0, 100), 5)

    def test_with_a_token_there_is_no_wait(self) -> None:
        self.assertEqual(TokenBucket(2.0, 1, 0.0).wait(0.0), 0.0)

    @given(st.floats(0.1, 50), st.integers(1, 50), STEPS)
    def test_never_more_than_the_rate_and_the_burst(
        self, rate: float, burst: int, steps: list[tuple[float, int]]
    ) -> None:
        bucket = TokenBucket(rate, burst, 0.0)
        now, taken = 0.0, 0
        for pause, wanted in steps:
            now += pause
            taken += bucket.take(now, wanted)
            self.assertLessEqual(taken, burst + rate * now + 1e-6)


class SourceLimitTests(SynchronousTestCase):
    def test_each_source_has_its_own_rate(self) -> None:
        limit = SourceLimit(1.0, 2)
        self.assertEqual(
            [limit.allows("a", 0.0) for _ in range(3)], [True, True, False]
        )
        self.assertTrue(limit.allows("b", 0.0))
        self.assertFalse(limit.allows("a", 0.9))
        self.assertTrue(limit.allows("a", 1.9))

    def test_who_has_been_quiet_is_forgotten(self) -> None:
        limit = SourceLimit(1.0, 2)
        for source in "abc":
            limit.allows(source, 0.0)
        self.assertEqual(len(limit), 3)
        limit.allows("d", 0.99)
        self.assertEqual(len(limit), 4)
        limit.allows("d", 1.0)
        self.assertEqual(len(limit), 2)
        limit.allows("d", 1.0)
        self.assertEqual(len(limit), 1)

    def test_no_more_than_so_many_are_remembered(self) -> None:
        limit = SourceLimit(0.001, 2, max_sources=3)
        for source in "abcd":
            self.assertTrue(limit.allows(source, 0.0))
        self.assertEqual(len(limit), 3)
        # The one that was longest without a word had to go.
        self.assertTrue(limit.allows("a", 0.0))
        self.assertTrue(limit.allows("a", 0.0))
        self.assertFalse(limit.allows("a", 0.0))

    def test_what_is_one_source(self) -> None:
        for one, other, same in (
            ("192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("2001:db8::1", "192.0.2.1", False),
            ("localhost", "localhost", True),
        ):
            self.assertEqual(source_of(one) == source_of(other), same, (one, other))
