"""Whoever says little is heard in time, however much the others say.

On the virtual clock: the applications of these nodes take time for each message,
and nothing else does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import ChatReceived, PeerDisconnected
from meshproto.mesh.node import MeshNode
from meshproto.rules.turns import LONG_TURN
from meshproto.testing import SimNetwork


class WorkTests(SynchronousTestCase):
    """What `SimNetwork.work` does to a node."""

    def setUp(self) -> None:
        self.net = SimNetwork(latency=(0.001, 0.001))
        self.alice = self.net.node("10.0.0.1", name="alice")
        self.bob = self.net.node("10.0.0.2", name="bob", bootstrap=("10.0.0.1:8001",))
        self.net.start(self.alice, self.bob)
        self.net.run_until(lambda: self.net.is_full_mesh(self.alice, self.bob))
        self.net.run(1.0)

    def test_its_own_clock_goes_on_at_once(self) -> None:
        before = self.alice.clock.seconds()
        self.net.work(self.alice, 2.0)
        self.net.work(self.alice, 3.0)
        self.assertEqual(self.alice.clock.seconds(), before + 5.0)
        self.net.run(7.0)
        self.assertEqual(self.alice.clock.seconds(), before + 7.0)

    def test_its_timers_wait(self) -> None:
        called: list[float] = []
        clock = self.alice.clock
        began = clock.seconds()
        clock.callLater(1.0, lambda: called.append(clock.seconds() - began))
        self.net.work(self.alice, 5.0)
        clock.callLater(1.0, lambda: called.append(clock.seconds() - began))
        self.net.run(4.9)
        self.assertEqual(called, [])
        self.net.run(2.0)
        self.assertEqual(called, [5.0, 6.0])

    def test_what_is_said_to_it_is_heard_later(self) -> None:
        self.net.work(self.alice, 5.0)
        self.bob.broadcast("hello")
        self.net.run(4.9)
        self.assertEqual(self.net.chats(self.alice), [])
        self.net.run(0.2)
        self.assertEqual(self.net.chats(self.alice), ["hello"])

    def test_what_it_says_afterwards_leaves_afterwards(self) -> None:
        self.net.work(self.alice, 5.0)
        self.alice.broadcast("done")
        self.net.run(4.9)
        self.assertEqual(self.net.chats(self.bob), [])
        self.net.run(0.2)
        self.assertEqual(self.net.chats(self.bob), ["done"])

    def test_a_suspension_in_the_midst_of_it(self) -> None:
        self.net.work(self.alice, 1.0)
        self.net.freeze(self.alice)
        self.bob.broadcast("hello")
        self.net.run(5.0)
        self.assertEqual(self.net.chats(self.alice), [])
        self.net.thaw(self.alice)
        self.net.run(0.1)
        self.assertEqual(self.net.chats(self.alice), ["hello"])

    def test_a_crash_in_the_midst_of_it(self) -> None:
        self.net.work(self.alice, 1.0)
        self.net.crash(self.alice)
        self.net.run(5.0)
        self.assertEqual(self.bob.peers(), ())


class FloodTests(SynchronousTestCase):
    """Seventeen flooders and one who says a word now and then, all to alice."""

    #: Seconds that alice takes for each message.
    busy = 0.0005
    flooders = 17
    lines = 2000

    def setUp(self) -> None:
        self.net = SimNetwork(latency=(0.001, 0.001))
        self.alice = self.node(1, max_peers=self.flooders + 1)
        self.net.start(self.alice)
        self.dave = self.node(2, max_peers=1, bootstrap=("10.0.0.1:8001",))
        self.loud = [
            self.node(3 + number, max_peers=1, bootstrap=("10.0.0.1:8001",))
            for number in range(self.flooders)
        ]
        for each in (self.dave, *self.loud):
            self.net.start(each)
            self.net.run_until(each.peers)
        self.heard: Counter[str] = Counter()
        self.alice.subscribe(self.hear, ChatReceived)

    def node(self, number: int, **settings: Any) -> MeshNode:
        return self.net.node(f"10.0.0.{number}", name=f"node-{number}", **settings)

    def hear(self, chat: ChatReceived) -> None:
        self.heard[chat.peer.name] += 1
        self.net.work(self.alice, self.busy)

    def flood(self, line: str = "x") -> None:
        for _ in range(self.lines):
            for each in self.loud:
                each.broadcast(line)

    def wait_for_a_word(self) -> float:
        self.dave.broadcast("hello")
        before = self.heard["node-2"]
        return self.net.run_until(lambda: self.heard["node-2"] > before)

    def test_a_word_is_heard_in_time(self) -> None:
        self.flood()
        waits = []
        for _ in range(10):
            self.net.run(0.5)
            waits.append(self.wait_for_a_word())
        # There is more than that to be heard of the others.
        self.assertLess(sum(self.heard.values()), self.flooders * self.lines)
        # A round of all of them, and the one that was under way.
        turn = max(LONG_TURN, self.busy)
        self.assertLess(max(waits), 2 * (self.flooders + 1) * 2 * turn)

    def test_everybody_has_the_same_share(self) -> None:
        self.lines, self.busy = 1000, 0.001
        for _ in range(self.lines):
            self.dave.broadcast("y" * 60)
        self.flood()
        self.net.run(self.lines * self.flooders * self.busy / 2)
        least, most = min(self.heard.values()), max(self.heard.values())
        self.assertGreater(least, 0.8 * most)
        self.assertLess(most, self.lines)

    def test_stopping_takes_no_longer_than_without(self) -> None:
        self.flood()
        self.net.run(1.0)
        began = self.alice.clock.seconds()
        stopping = self.alice.stop()
        self.net.run(self.alice.config.stop_timeout + 0.1)
        self.successResultOf(stopping)
        self.assertLess(self.alice.clock.seconds() - began, 2.2)

    def test_nothing_is_lost_and_nobody_dropped(self) -> None:
        self.lines = 200
        self.flood()
        self.net.run(60.0)
        self.assertEqual(
            self.heard, {f"node-{3 + n}": self.lines for n in range(self.flooders)}
        )
        gone = [e for e in self.net.events(self.alice) if type(e) is PeerDisconnected]
        self.assertEqual(gone, [])
