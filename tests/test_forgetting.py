"""A node forgets: peers come and go, and nothing of them stays.

A whole node is looked at, whatever it is made of: all that can be reached from
it is counted.  The bounds of each part are in the part's own tests.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Collection
from types import BuiltinFunctionType, FunctionType, ModuleType

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.events import (
    BootstrapFailed,
    ChatReceived,
    DialAttemptFailed,
    NodeError,
    Peer,
    PeerConnected,
    PeerRefused,
    PeerThrottled,
)
from tests.fakes import Bench, Wire

SEATS = 6
#: Seconds after which a bucket is full, a dial given up and a peer dropped.
A_WHILE = 120


def reachable(root: object, without: tuple[object, ...]) -> Counter[str]:
    """How many objects of each type are kept by one, directly or not.

    Code is no state: of functions the closures count, modules and classes do not.
    """
    seen = {id(each): each for each in without}
    found: Counter[str] = Counter()
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType):
            continue
        seen[id(each)] = each
        found[type(each).__name__] += 1
        if isinstance(each, Collection):
            found["entries"] += len(each)
        if isinstance(each, dict):
            # The collector does not look at keys that are texts.
            waiting += each
        if isinstance(each, FunctionType):
            waiting += [each.__closure__, each.__defaults__, each.__kwdefaults__]
        elif isinstance(each, BuiltinFunctionType):
            waiting.append(each.__self__)
        else:
            waiting += gc.get_referents(each)
    return found


class Crowd:
    """Peers that come to a node and go, each with an ID, a name and a host."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.node = bench.node
        self.visits: tuple[Callable[[], None], ...] = (
            self.visits_and_chats,
            self.gossips,
            self.talks_garbage,
            self.is_silent,
            self.sends_an_endless_line,
            self.comes_twice,
            self.chats_too_much,
            self.is_dialled_and_leaves,
            self.is_dialled_and_refuses,
            self.is_dialled_and_is_not_there,
            self.is_dialled_and_says_nothing,
            self.dials_as_it_is_dialled,
            self.leaves_as_it_is_dialled,
            self.has_our_id,
            self.takes_nothing,
            self.comes_when_all_seats_are_taken,
            self.dies,
            self.is_listened_to,
        )
        self._count = 0

    def come(self, count: int) -> None:
        """So many peers come, one way after the other, and all go."""
        while self._count < count:
            for visit in self.visits:
                visit()
                self.bench.settle()
            self.wait(A_WHILE)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.bench.clock.advance(1)

    def somebody(self) -> None:
        """The next one, whom nobody has seen before."""
        self._count += 1
        number = self._count
        self.host = f"198.51.{number // 250}.{number % 250 + 1}"
        self.port = 10_000 + number
        self.address = f"{self.host}:{self.port}"
        self.hello = f"peer-{self.port}:name-{number}"

    def guest(self) -> Wire:
        """Somebody has dialled the node and shaken hands."""
        self.somebody()
        return self.bench.guest(self.hello, self.host)

    def dialled(self) -> Wire:
        """Somebody has been dialled by the node, and has not answered."""
        self.somebody()
        self.connect()
        wire = self.bench.dialled(self.address).succeed(there=self.host)
        wire.heard()
        return wire

    def connect(self) -> Deferred[Peer | None]:
        """Dial somebody, whatever comes of it."""
        return self.node.connect(self.address).addErrback(lambda failure: None)

    def visits_and_chats(self) -> None:
        wire = self.guest()
        wire.say("hello", "PING", "REQUEST_PEERS")
        self.node.broadcast("hello")
        self.node.drain()
        wire.hang_up()

    def gossips(self) -> None:
        wire = self.guest()
        told = ",".join(f"{self.host}:{self.port + n}" for n in range(1, 12))
        wire.say("REQUEST_PEERS", f"PEERS:{self.address},{told}", f"PEERS:{told}")
        for _ in range(9):
            wire.say("REQUEST_PEERS")
        wire.hang_up()

    def talks_garbage(self) -> None:
        for hello in ("GET / HTTP/1.1", "PING", ":", "\x16\x03\x01"):
            self.somebody()
            self.bench.caller(self.host).say(hello)

    def is_silent(self) -> None:
        for _ in range(6):  # more than may be in their handshake
            self.somebody()
            self.bench.caller(self.host)
        for number in range(4):  # more than may be so from one host
            self.bench.caller(self.host, 50_100 + number)

    def sends_an_endless_line(self) -> None:
        self.guest().raw(b"x" * 20_000)

    def comes_twice(self) -> None:
        first = self.guest()
        second = self.bench.guest(self.hello, self.host, 50_003)
        assert second.transport.disconnecting
        first.say("PONG")
        self.wait(4)
        first.reset()

    def chats_too_much(self) -> None:
        wire = self.guest()
        wire.say(*map(str, range(30)))
        self.wait(1)
        wire.reset()  # while it is not read

    def is_dialled_and_leaves(self) -> None:
        wire = self.dialled()
        wire.say(self.hello)
        wire.say("hello", f"PEERS:{self.host}:{self.port + 1}")
        wire.hang_up()

    def is_dialled_and_refuses(self) -> None:
        for refusal in ("MAX_PEERS", "DUPLICATE", "220 SMTP"):
            self.dialled().say(refusal)

    def is_dialled_and_is_not_there(self) -> None:
        for fails in (True, False):  # refused, or without an answer
            self.somebody()
            self.connect()
            if fails:
                self.bench.dialled(self.address).fail()
        given_up = self.connect()
        given_up.cancel()

    def is_dialled_and_says_nothing(self) -> None:
        self.dialled()

    def crossing(self) -> tuple[Wire, Wire]:
        """Both have dialled, and both links are complete."""
        ours = self.dialled()
        theirs = self.bench.guest(self.hello, self.host)
        ours.say(self.hello)
        return ours, theirs

    def dials_as_it_is_dialled(self) -> None:
        ours, theirs = self.crossing()
        theirs.say("hello", "PONG")
        self.wait(1)
        ours.hang_up()
        ours, theirs = self.crossing()
        theirs.reset()
        ours, theirs = self.crossing()
        theirs.say("REQUEST_PEERS")
        theirs.hang_up()
        ours.hang_up()
        self.crossing()  # of which the first is dead
        self.wait(4)

    def leaves_as_it_is_dialled(self) -> None:
        self.somebody()
        self.connect()
        self.bench.guest(self.hello, self.host).hang_up()
        self.bench.dialled(self.address).fail()

    def has_our_id(self) -> None:
        self.somebody()
        wire = self.bench.guest("peer-8001:dora", self.host)
        wire.say("REQUEST_PEERS", f"PEERS:{self.address}")
        wire.hang_up()
        wire = self.dialled()
        wire.say("peer-8001:dora")
        wire.reset()

    def takes_nothing(self) -> None:
        wire = self.guest()
        wire.transport.stuck = True
        for _ in range(12):
            self.node.broadcast("x" * 10_000)
        self.node.drain()
        self.wait(12)

    def comes_when_all_seats_are_taken(self) -> None:
        wires = [self.guest() for _ in range(SEATS + 3)]
        for wire in wires:
            wire.hang_up()

    def dies(self) -> None:
        self.guest().reset()
        self.guest().transport.stuck = True  # dropped as a silent one

    def is_listened_to(self) -> None:
        """By an application that gives up in the middle of it."""
        for _ in range(2):
            stream = self.node.events(ChatReceived)
            wire = self.guest()
            wire.say("1", "2", "3", "4")
            self.node.pause_reading()
            wire.say("5")
            wire.reset()
            self.node.resume_reading()
            with_nobody: Deferred[None] = Deferred.fromCoroutine(stream.aclose())
            assert with_nobody.called


class WholeNodeTests(SynchronousTestCase):
    """A thousand peers come and go."""

    def setUp(self) -> None:
        self.bench = Bench(
            NodeConfig(
                name="alice",
                bootstrap=("192.0.2.9:8009",),
                max_peers=SEATS,
                max_pending=4,
                max_pending_per_host=2,
                max_addresses=40,
                max_addresses_per_peer=8,
                max_dial_failures=3,
                gossip_burst=4,
                chat_rate=1.0,
                chat_burst=4,
                send_queue_soft=10_000,
                stall_timeout=5.0,
                max_queued_events=3,
            )
        )
        self.bench.start()
        self.crowd = Crowd(self.bench)

    def tearDown(self) -> None:
        self.bench.stop()
        self.bench.clock.advance(self.bench.node.config.stop_timeout)
        self.bench.settle()
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def kept(self) -> Counter[str]:
        """What the node keeps; the network, the clock and the notes are the test's."""
        self.assertEqual(self.bench.node.peers(), ())
        bench = self.bench
        return reachable(bench.node, (bench, bench.network, bench.clock))

    def test_nothing_grows(self) -> None:
        """What is kept of a thousand is what is kept of the first fifty."""
        self.crowd.come(50)
        few = self.kept()
        timers = len(self.bench.clock.getDelayedCalls())
        self.crowd.come(1000)
        grown = {
            kind: (few[kind], count)
            for kind, count in self.kept().items()
            if count > few[kind] + 10
        }
        self.assertEqual(grown, {})
        self.assertLess(len(self.bench.clock.getDelayedCalls()), timers + 3)
        # And all of that has really happened.
        for kind in (
            BootstrapFailed,
            DialAttemptFailed,
            NodeError,
            PeerConnected,
            PeerRefused,
            PeerThrottled,
        ):
            self.assertGreater(len(self.bench.of(kind)), 20, kind)

    def test_what_is_kept_would_be_found(self) -> None:
        """The count sees what a part keeps of a link in any way."""
        few = self.kept()
        wire = self.crowd.guest()
        protocol = wire.protocol
        wire.reset()
        self.bench.settle()
        kept: list[object] = []
        self.bench.node.subscribe(lambda event: kept)
        ways = (protocol, [protocol], {protocol: 1}, protocol.close, lambda: protocol)
        for way in ways:
            kept[:] = [way]
            self.assertEqual((self.kept() - few)["MeshProtocol"], 1, way)
