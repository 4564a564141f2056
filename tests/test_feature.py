"""A feature is one module: it says what it handles, and hears who comes and goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.events import CloseReason, Direction
from meshproto.mesh.chat import Chat
from meshproto.mesh.feature import Feature, Features, Handler
from meshproto.rules.effects import Notify
from meshproto.rules.handshake import Handshake
from meshproto.rules.handshake import State as HandshakeState
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry
from meshproto.rules.session import Session, State
from meshproto.wire import messages
from meshproto.wire.messages import (
    Chats,
    Data,
    Greeting,
    Hello,
    Incarnation,
    Message,
    PeerList,
    Ping,
    Pong,
    Ready,
    Refusal,
    RefusalReason,
    Refused,
    RequestPeers,
    Welcome,
)
from tests.fakes import Bench, FakeLink

#: One message of each kind that a reader tells.
HEARD: tuple[Message, ...] = (
    Greeting("bob", "Bob"),
    Refusal.DUPLICATE,
    Hello(
        identity="a" * 32,
        incarnation=Incarnation(1, "0" * 32),
        link=1,
        id="bob",
        name="Bob",
    ),
    Welcome(),
    Refused(RefusalReason.FULL),
    Ready(),
    Ping(),
    Pong(),
    RequestPeers(),
    PeerList(()),
    Chats(("hello",)),
    Data(b"hello"),
)


@dataclass(frozen=True, slots=True)
class Wave:
    """A message that the package does not know."""

    hand: str


class Waving(Feature):
    """Waves back, and counts who is there: all that a feature has to be."""

    def __init__(self) -> None:
        self.waves: Counter[str] = Counter()
        self.there: list[str] = []
        self.stopped = False

    def handlers(self) -> Mapping[type, Handler]:
        return {Wave: self._waved}

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        self.there.append(entry.id)

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        self.there.remove(entry.id)

    def link_ended(self, link: IPeerLink) -> None:
        self.waves["ended"] += 1

    def stop(self) -> None:
        self.stopped = True

    def _waved(self, link: IPeerLink, entry: PeerEntry, wave: Wave) -> None:
        self.waves[wave.hand] += 1
        link.send(cast(Any, Wave(wave.hand)))


class WavingLink(FakeLink):
    """A link whose wire can say it."""

    def send(self, *messages: Message) -> None:
        self.sent.extend(messages)


class FeatureTests(SynchronousTestCase):
    """A feature from outside of the package, in a node."""

    def setUp(self) -> None:
        self.bench = Bench(NodeConfig()).start()
        self.addCleanup(self.bench.stop)
        self.waving = Waving()
        self.bench.node._features.add(self.waving)

    def peer(self, id: str) -> WavingLink:
        link = WavingLink(Direction.INCOMING, remote_host="192.0.2.2")
        host = self.bench.node.host
        host.link_opened(cast(IPeerLink, link))
        host.judge(cast(IPeerLink, link), Greeting(id, id))
        host.link_ready(cast(IPeerLink, link))
        return link

    def test_its_message_reaches_it_and_it_answers(self) -> None:
        link = cast(Any, self.peer("bob"))
        left = self.bench.node.host.message_received(link, cast(Any, Wave("left")))
        self.assertIsNone(left)
        self.assertEqual(self.waving.waves, {"left": 1})
        self.assertEqual(link.sent, [Wave("left")])

    def test_it_hears_who_comes_and_goes(self) -> None:
        host = self.bench.node.host
        bob, carol = cast(Any, self.peer("bob")), cast(Any, self.peer("carol"))
        self.assertEqual(self.waving.there, ["bob", "carol"])
        host.link_ended(bob, CloseReason.CLOSED_BY_PEER, "")
        self.assertEqual(self.waving.there, ["carol"])
        self.assertEqual(self.waving.waves, {"ended": 1})
        host.link_ended(carol, CloseReason.CLOSED_BY_PEER, "")
        for link in (bob, carol):
            host.link_gone(link)
        self.bench.node.stop()
        self.assertTrue(self.waving.stopped)

    def test_a_message_that_nobody_handles_is_a_mistake(self) -> None:
        link = cast(Any, self.peer("bob"))
        with self.assertRaises(KeyError):
            self.bench.node.host.message_received(link, cast(Any, object()))
        self.bench.node.host.link_ended(link, CloseReason.CLOSED_BY_PEER, "")
        self.bench.node.host.link_gone(link)

    def test_the_real_ones_handle_all_that_a_session_lets_through(self) -> None:
        handled = set(self.bench.node._features.handlers) - {Wave}
        self.assertEqual(handled, {Chats, Data, PeerList, Ping, Pong, RequestPeers})
        ready = Session(Direction.INCOMING)
        ready.state = State.READY
        established = Handshake(Direction.INCOMING)
        established.state = HandshakeState.ESTABLISHED
        # Chat of one line arrives as a run of one.
        self.assertEqual({*map(type, HEARD), messages.Chat}, set(get_args(Message)))
        for session, expected in ((ready, handled - {Data}), (established, handled)):
            let_through = set()
            for message in HEARD:
                state = session.state
                if Notify() in session.receive(message):
                    let_through.add(type(message))
                cast(Any, session).state = state
            self.assertEqual(let_through, expected)


class FeaturesTests(SynchronousTestCase):
    """The table of handlers."""

    def test_one_message_has_one_handler(self) -> None:
        features = Features()
        features.add(Waving())
        with self.assertRaisesRegex(ValueError, "two features handle Wave"):
            features.add(Waving())

    def test_a_feature_overrides_what_concerns_it(self) -> None:
        """The rest does nothing."""
        features = Features()
        features.add(Feature())
        features.add(Chat(cast(Any, None), cast(Any, None)))
        features.start()
        features.peer_joined(cast(Any, None), cast(Any, None))
        features.peer_left(cast(Any, None), CloseReason.STOPPED)
        features.link_ended(cast(Any, None))
        features.stop()
        self.assertEqual(set(features.handlers), {Chats})
