"""Events and snapshots: values that nobody can change behind your back."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshproto import events
from meshproto.events import (
    ChatReceived,
    CloseReason,
    DebugEvent,
    Delivery,
    Direction,
    Event,
    KnownAddress,
    Peer,
    PeerConnected,
    chat_draft,
    peer_draft,
)
from meshproto.wire.address import PeerAddress

#: The events that an application shows; the others are for debugging a mesh.
FOR_PEOPLE = {
    "NodeStarted",
    "NodeError",
    "BootstrapSucceeded",
    "BootstrapFailed",
    "PeerConnected",
    "PeerDisconnected",
    "PeersDiscovered",
    "ChatReceived",
    "ChatsReceived",
    "DataReceived",
    "PeerReaped",
    "PeerThrottled",
    "ConnectionFailed",
}
FOR_DEBUGGING = {
    "DialAttemptFailed",
    "PeerRefused",
    "PingSent",
    "PingReceived",
    "PongReceived",
    "PeerRequestSent",
    "PeerRequestReceived",
    "PeerListReceived",
}


def peer(
    *, host: str = "192.0.2.2", address: PeerAddress | None = None, name: str = "bob"
) -> Peer:
    return Peer(
        id="peer-8002",
        name=name,
        host=host,
        address=address,
        direction=Direction.INCOMING,
        connected_at=1.0,
        last_heard=2.0,
    )


def kinds() -> dict[str, type[Event]]:
    return {
        name: kind
        for name, kind in vars(events).items()
        if inspect.isclass(kind)
        and issubclass(kind, Event)
        and kind.__name__ == name
        and kind not in (Event, DebugEvent)
    }


class EventTests(SynchronousTestCase):
    """One frozen type for each thing that happens."""

    def test_which_there_are(self) -> None:
        debugging = {
            name for name, kind in kinds().items() if issubclass(kind, DebugEvent)
        }
        self.assertEqual(debugging, FOR_DEBUGGING)
        self.assertEqual(set(kinds()) - debugging, FOR_PEOPLE)

    def test_all_values_are_frozen(self) -> None:
        for kind in (*kinds().values(), Peer, KnownAddress):
            self.assertTrue(is_dataclass(kind))
            for field in fields(kind):
                with self.assertRaises(FrozenInstanceError):
                    setattr(object.__new__(kind), field.name, None)
            self.assertFalse(hasattr(object.__new__(kind), "__dict__"), kind)

    def test_a_draft_becomes_what_the_class_makes(self) -> None:
        usual: dict[Callable[[], Any], Peer | ChatReceived] = {
            peer_draft: peer(),
            chat_draft: ChatReceived(peer=peer(), text="one"),
        }
        for draft, value in usual.items():
            made = draft()
            for field in fields(value):
                setattr(made, field.name, getattr(value, field.name))
            made.__class__ = type(value)
            self.assertEqual(made, value)
            self.assertEqual(hash(made), hash(value))
            self.assertEqual(repr(made), repr(value))
            for field in fields(value):
                with self.assertRaises(FrozenInstanceError):
                    setattr(made, field.name, None)
                with self.assertRaises(FrozenInstanceError):
                    delattr(made, field.name)

    def test_fields_are_given_by_name(self) -> None:
        """A field that is added later shifts none of the others."""
        for kind in (*kinds().values(), Peer, KnownAddress):
            for field in fields(kind):
                self.assertTrue(field.kw_only, f"{kind.__name__}.{field.name}")

    def test_equal_when_the_same_happened(self) -> None:
        one, same, other = (
            PeerConnected(peer=peer(name=name), peer_count=1, max_peers=20)
            for name in ("bob", "bob", "eve")
        )
        self.assertEqual(one, same)
        self.assertEqual(hash(one), hash(same))
        self.assertNotEqual(one, other)

    def test_direction_of_a_connection(self) -> None:
        event = PeerConnected(peer=peer(), peer_count=1, max_peers=20)
        self.assertIs(event.direction, Direction.INCOMING)


class CloseReasonTests(SynchronousTestCase):
    """Reasons, as people read them."""

    def test_no_two_read_alike(self) -> None:
        """Enum members of one value would silently be one member."""
        texts = [reason.value for reason in CloseReason.__members__.values()]
        self.assertEqual(len(texts), len(set(texts)))
        self.assertEqual(len(CloseReason.__members__), len(list(CloseReason)))
        for text in texts:
            self.assertTrue(text.isprintable())
            self.assertTrue(text)

    def test_texts_that_the_design_names(self) -> None:
        self.assertEqual(CloseReason.SLOW_CONSUMER.value, "slow consumer")
        self.assertEqual(CloseReason.TIMEOUT.value, "timeout")


class PeerTests(SynchronousTestCase):
    """The snapshot of a peer."""

    def test_where_it_listens_if_that_is_known(self) -> None:
        self.assertEqual(
            peer(address=PeerAddress("2001:db8::1", 8002)).where, "[2001:db8::1]:8002"
        )

    def test_otherwise_its_host(self) -> None:
        self.assertEqual(peer(host="2001:db8::1").where, "2001:db8::1")


class DeliveryTests(SynchronousTestCase):
    """Whom a message was handed to."""

    def test_nobody_is_false(self) -> None:
        self.assertFalse(Delivery(()))
        self.assertEqual(len(Delivery(())), 0)

    def test_it_cannot_be_changed(self) -> None:
        with self.assertRaises(AttributeError):
            Delivery(()).peers = (peer(),)  # type: ignore[misc]
        with self.assertRaises(AttributeError):
            Delivery(()).missed = ()  # type: ignore[misc]
        self.assertFalse(hasattr(Delivery(()), "__dict__"))

    def test_peers_are_looked_at_when_they_are_asked_for(self) -> None:
        class Asked(Sequence[Peer]):
            asked = 0

            def __len__(self) -> int:
                return 1

            def __getitem__(self, index: Any) -> Any:
                if index:
                    raise IndexError
                self.asked += 1
                return peer()

        asked = Asked()
        delivery = Delivery(asked)
        self.assertTrue(delivery)
        self.assertEqual(asked.asked, 0)
        self.assertEqual(delivery.peers, (peer(),))
        self.assertEqual(asked.asked, 1)
        self.assertEqual(repr(delivery), f"Delivery(peers={(peer(),)!r})")

    def test_who_missed_it_is_not_counted(self) -> None:
        delivery = Delivery((), ((peer(), "speaks only mesh/1"),))
        self.assertFalse(delivery)
        self.assertEqual(delivery.peers, ())
        self.assertEqual(delivery.missed, ((peer(), "speaks only mesh/1"),))
        self.assertIn("missed=((Peer(", repr(delivery))

    def test_somebody_is_true(self) -> None:
        delivery = Delivery((peer(), peer(host="192.0.2.3")))
        self.assertTrue(delivery)
        self.assertEqual(len(delivery), 2)
        self.assertEqual(
            [each.host for each in delivery.peers], ["192.0.2.2", "192.0.2.3"]
        )
