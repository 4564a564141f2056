"""How many links may be in their handshake."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import Direction
from meshproto.rules.pending import Pending, PendingLinks, Turned
from tests.fakes import FakeLink

HOSTS = ("192.0.2.2", "192.0.2.3", "127.0.0.1")


def incoming(host: str = "192.0.2.2", *, here: bool = False) -> FakeLink:
    return FakeLink(Direction.INCOMING, remote_host=host, same_machine=here)


class PendingLinkTests(SynchronousTestCase):
    """Links that have not finished their handshake: bounded in two ways."""

    def test_per_host(self) -> None:
        pending = PendingLinks(limit=64, limit_per_host=8)
        links = [incoming("192.0.2.2") for _ in range(8)]
        for link in links:
            self.assertEqual(pending.add(link), Pending())
        self.assertEqual(pending.add(incoming("192.0.2.2")), Turned())
        self.assertEqual(len(pending), 8)
        self.assertEqual(pending.add(incoming("192.0.2.3")), Pending())
        pending.discard(links[3])
        self.assertEqual(pending.add(incoming("192.0.2.2")), Pending())
        self.assertEqual(pending.add(incoming("192.0.2.2")), Turned())

    def test_this_machine_is_exempt_from_the_bound_per_host(self) -> None:
        pending = PendingLinks(limit=64, limit_per_host=8)
        for host in ["127.0.0.1", "::1", "192.0.2.1"] * 20:
            self.assertEqual(pending.add(incoming(host, here=True)), Pending())
        self.assertEqual(len(pending), 60)

    def test_in_all(self) -> None:
        """At the bound the oldest has to make room for each newcomer."""
        pending = PendingLinks(limit=64, limit_per_host=8)
        links = [incoming(f"192.0.2.{number}") for number in range(64)]
        for link in links:
            self.assertEqual(pending.add(link), Pending(None))
        for number in (0, 1):
            newcomer = incoming("198.51.100.1")
            self.assertEqual(pending.add(newcomer), Pending(links[number]))
            self.assertEqual(len(pending), 64)

    def test_this_machine_counts_in_all(self) -> None:
        pending = PendingLinks(limit=2, limit_per_host=1)
        links = [incoming("127.0.0.1", here=True) for _ in range(3)]
        self.assertEqual(
            [pending.add(link) for link in links],
            [Pending(), Pending(), Pending(links[0])],
        )

    def test_one_host_cannot_push_others_out(self) -> None:
        pending = PendingLinks(limit=3, limit_per_host=1)
        for host in ("192.0.2.2", "192.0.2.3", "192.0.2.4"):
            pending.add(incoming(host))
        self.assertEqual(pending.add(incoming("192.0.2.4")), Turned())
        self.assertEqual(len(pending), 3)

    def test_the_evicted_gives_its_place_at_its_host_back(self) -> None:
        pending = PendingLinks(limit=1, limit_per_host=1)
        first = incoming("192.0.2.2")
        pending.add(first)
        second = incoming("192.0.2.3")
        self.assertEqual(pending.add(second), Pending(first))
        # Its end, which follows, frees nothing a second time.
        pending.discard(first)
        self.assertEqual(len(pending), 1)
        self.assertEqual(pending.add(incoming("192.0.2.2")), Pending(second))

    def test_discard_is_for_any_link(self) -> None:
        pending = PendingLinks(limit=2, limit_per_host=1)
        link = incoming()
        pending.discard(link)
        pending.add(link)
        pending.discard(link)
        pending.discard(link)
        self.assertEqual(len(pending), 0)
        self.assertEqual(pending.add(incoming()), Pending())
        self.assertEqual(pending.add(incoming()), Turned())

    @given(st.lists(st.one_of(st.sampled_from(HOSTS), st.integers(0, 9)), max_size=60))
    def test_bounds_hold(self, operations: list[str | int]) -> None:
        pending = PendingLinks(limit=5, limit_per_host=2)
        waiting: list[FakeLink] = []
        for operation in operations:
            if isinstance(operation, int):
                if waiting:
                    pending.discard(waiting.pop(operation % len(waiting)))
            else:
                here = operation == "127.0.0.1"
                link = incoming(operation, here=here)
                of_host = [w for w in waiting if w.remote_host == operation]
                decision = pending.add(link)
                if not here and len(of_host) == 2:
                    self.assertEqual(decision, Turned())
                elif len(waiting) == 5:
                    self.assertEqual(decision, Pending(waiting.pop(0)))
                    waiting.append(link)
                else:
                    self.assertEqual(decision, Pending())
                    waiting.append(link)
            self.assertEqual(len(pending), len(waiting))
