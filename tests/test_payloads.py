"""What is no line of chat: which messages are payloads, and how they are told."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.errors import LocalProtocolError
from meshproto.events import ChatReceived, DataReceived, Event
from meshproto.mesh.data import Payloads
from meshproto.mesh.throttle import Throttle
from meshproto.rules.registry import PeerEntry
from meshproto.wire.mesh2 import Mesh2
from meshproto.wire.messages import (
    Chats,
    Data,
    Greeting,
    Hello,
    Incarnation,
    Message,
    Ready,
    payload_of,
)
from tests.fakes import Bench, FakeLink, Wire, entry_of

MESH2 = Mesh2()


class PayloadOfTests(SynchronousTestCase):
    """What is chat, and what is a payload."""

    def test_a_line_of_text_is_chat(self) -> None:
        """Whether a wire can say it is another question."""
        for text in ("hello", "", "a\u2028b\x0b\x85", "\ud800", "x" * 100_000):
            self.assertIsNone(payload_of(text, None))
            self.assertIsNone(payload_of(text, {}))

    def test_a_text_with_line_breaks_is_none(self) -> None:
        for text in ("a\nb", "\n", "a\r", "\r\n", "\u20ac\n"):
            self.assertEqual(payload_of(text, None), Data(text.encode()))

    def test_nor_is_one_with_headers(self) -> None:
        for text in ("hello", ""):
            wanted = Data(text.encode(), (("b", "1"), ("a", "\n")))
            self.assertEqual(payload_of(text, {"b": "1", "a": "\n"}), wanted)

    def test_bytes_never_are(self) -> None:
        for payload in (b"hello", b"", b"\xff\n"):
            self.assertEqual(payload_of(payload, None), Data(payload))
            self.assertEqual(
                payload_of(payload, {"a": "1"}), Data(payload, (("a", "1"),))
            )

    def test_it_does_not_change_with_the_buffer_of_the_caller(self) -> None:
        buffer = bytearray(b"abc")
        for view in (buffer, memoryview(buffer)):
            data = payload_of(view, None)  # type: ignore[arg-type]
            buffer[0:1] = b"a"
            self.assertEqual(data, Data(b"abc"))
            assert data is not None
            self.assertIs(type(data.payload), bytes)

    def test_what_can_be_neither(self) -> None:
        for text, headers, fault in (
            ("a\n\ud800", None, "no lone surrogates"),
            ("\ud800", {"a": "1"}, "no lone surrogates"),
            ("x", {"a b": "1"}, "headers: the key of a header"),
            ("x", {"a": "\ud800"}, "headers: the header a has a lone surrogate"),
            ("x", {"a": "x" * 4096}, "headers of 4097 bytes are more than 4096"),
            ("x", {str(i): "" for i in range(65)}, "65 headers are more than 64"),
        ):
            error = self.assertRaises(LocalProtocolError, payload_of, text, headers)
            self.assertIn(fault, str(error))
        most = {str(i): "" for i in range(64)}
        self.assertEqual(payload_of("x", most), Data(b"x", tuple(most.items())))
        large = {"a": "x" * 4095}
        self.assertEqual(payload_of(b"", large), Data(b"", tuple(large.items())))

    def test_what_is_neither_text_nor_bytes(self) -> None:
        others: tuple[Any, ...] = (5, None, ["a"], {})
        for other in others:
            problem = f"a message is text or bytes, not {type(other).__name__}"
            error = self.assertRaises(TypeError, payload_of, other, None)
            self.assertEqual(str(error), problem)
        error = self.assertRaises(TypeError, payload_of, b"x", {"a": 1})
        self.assertIn("the header 'a': 1 is not text", str(error))


class PayloadsTests(SynchronousTestCase):
    """Payloads on their way in."""

    def setUp(self) -> None:
        self.events: list[Event] = []
        throttle = Throttle(NodeConfig(), Clock(), self.events.append)
        self.payloads = Payloads(self.events.append, throttle)
        self.link = FakeLink()
        self.entry: PeerEntry = entry_of(self.link, Greeting("bob", "Bob"))
        (self.handle,) = self.payloads.handlers().values()

    def test_each_is_told(self) -> None:
        self.assertEqual(set(self.payloads.handlers()), {Data})
        data = Data(b"\0\n", (("topic", "x"), ("n", "")))
        self.assertIsNone(self.handle(self.link, self.entry, data))
        (told,) = self.events
        assert isinstance(told, DataReceived)
        self.assertEqual(told.peer, self.entry.snapshot())
        self.assertEqual(told.payload, b"\0\n")
        self.assertEqual(dict(told.headers), {"topic": "x", "n": ""})
        with self.assertRaises(TypeError):
            told.headers["topic"] = "y"  # type: ignore[index]

    def test_the_peer_has_spoken(self) -> None:
        self.link.last_heard = 9.0
        self.handle(self.link, self.entry, Data(b""))
        self.assertEqual(self.entry.spoke_at, 9.0)


class NodeTests(SynchronousTestCase):
    """Payloads of a whole node; a test plays its peers."""

    def setUp(self) -> None:
        self.bench = Bench(NodeConfig(name="alice", max_payload=100_003)).start()
        self.addCleanup(self.bench.stop)

    def guest(self, *behind_ready: Message, max_payload: int = 1000) -> Wire:
        """A peer that speaks mesh/2; all from READY on comes in one piece."""
        wire = self.bench.caller()
        wire.say("bob:Bob\t")
        hello = Hello(
            identity="f" * 32,
            incarnation=Incarnation(1, "0" * 32),
            link=1,
            id="bob",
            name="Bob",
            max_payload=max_payload,
            headers=(("role", "cook"), ("note", "two\nlines")),
        )
        wire.raw(MESH2.encode(hello))
        self.assertIn(b"WELCOME\n", wire.heard())
        wire.raw(b"".join(map(MESH2.encode, (Ready(), *behind_ready))))
        self.bench.settle()
        return wire

    def test_one_that_comes_in_one_piece_with_ready(self) -> None:
        data = Data(b"\0" * 99_998, (("a", "1"),))
        self.assertEqual(data.size, 100_003)
        wire = self.guest(data, Chats(("hello",)))
        (told,) = self.bench.of(DataReceived)
        self.assertEqual((told.payload, told.headers), (data.payload, {"a": "1"}))
        (peer,) = self.bench.node.peers()
        self.assertEqual(told.peer.key, peer.key)
        self.assertEqual([e.text for e in self.bench.of(ChatReceived)], ["hello"])
        self.assertFalse(wire.closed)

    def test_one_that_comes_before_ready_ends_the_link(self) -> None:
        wire = self.bench.caller()
        wire.say("bob:Bob\t")
        wire.raw(MESH2.encode(Data(b"x")))
        self.bench.settle()
        self.assertTrue(wire.closed)
        self.assertEqual(self.bench.of(DataReceived), [])

    def test_it_is_sent(self) -> None:
        wire = self.guest()
        wire.heard()
        old = self.bench.guest("old:Old", "192.0.2.3")
        delivery = self.bench.node.broadcast(b"\0", {"a": "1"})
        self.assertEqual([peer.id for peer in delivery.peers], ["bob"])
        self.assertEqual([peer.id for peer, _ in delivery.missed], ["old"])
        self.assertIn(MESH2.encode(Data(b"\0", (("a", "1"),))), wire.heard())
        delivery = self.bench.node.send("bob", "two\nlines")
        self.assertEqual(len(delivery), 1)
        self.assertEqual(wire.heard(), MESH2.encode(Data(b"two\nlines")))
        delivery = self.bench.node.send("old", "two\nlines")
        self.assertFalse(delivery)
        self.assertNotIn(b"two", old.heard())

    def test_ours_at_the_bound_and_one_past_it(self) -> None:
        """Whether there is anybody to take it or not."""
        for _ in range(2):
            self.bench.node.broadcast(b"x" * 99_998, {"a": "1"})
            for headers in ({"a": "12"}, {"a": "\n"}):
                error = self.assertRaises(
                    LocalProtocolError,
                    self.bench.node.broadcast,
                    b"x" * 99_998,
                    headers,
                )
                self.assertIn("at most 100003 bytes", str(error))
            self.bench.guest("old:Old", "192.0.2.3")

    def test_theirs_at_the_bound_and_one_past_it(self) -> None:
        wire = self.guest(max_payload=10)
        wire.heard()
        self.assertTrue(self.bench.node.broadcast(b"12345", {"a": "1"}))
        self.assertEqual(wire.heard(), MESH2.encode(Data(b"12345", (("a", "1"),))))
        delivery = self.bench.node.broadcast(b"123456", {"a": "1"})
        self.assertFalse(delivery)
        ((peer, why),) = delivery.missed
        self.assertEqual((peer.id, why), ("bob", "takes at most 10 bytes"))
        self.assertEqual(wire.heard(), b"")

    def test_one_past_our_bound_ends_the_link(self) -> None:
        wire = self.guest(Data(b"x" * 100_004))
        self.assertTrue(wire.closed)
        self.assertEqual(self.bench.of(DataReceived), [])

    def test_what_a_peer_says_of_itself(self) -> None:
        self.guest()
        self.bench.guest("old:Old", "192.0.2.3")
        bob, old = self.bench.node.peers()
        self.assertEqual((bob.protocol, old.protocol), ("mesh/2", "mesh/1"))
        self.assertEqual(bob.headers, {"role": "cook", "note": "two\nlines"})
        self.assertEqual(old.headers, {})
        self.assertIsInstance(hash(bob), int)
        with self.assertRaises(TypeError):
            bob.headers["role"] = "guest"  # type: ignore[index]

    def test_the_round_trip(self) -> None:
        """Of the latest PING, which its answer names."""
        wire, clock = self.guest(), self.bench.clock

        def token() -> str:
            (ping,) = [line for line in wire.heard().split(b"\n") if b"PING" in line]
            return ping.decode().split()[1]

        def round_trip() -> float | None:
            return self.bench.node.peers()[0].round_trip

        wire.heard()
        clock.advance(15)
        first = token()
        clock.advance(0.25)
        wire.say("PONG")
        self.assertIsNone(round_trip())
        wire.say(f"PONG {first}")
        self.assertEqual(round_trip(), 0.25)
        clock.advance(14.75)
        second = token()
        clock.advance(1)
        wire.say(f"PONG {first}")
        self.assertEqual(round_trip(), 0.25)
        wire.say(f"PONG {second}")
        self.assertEqual(round_trip(), 1)
