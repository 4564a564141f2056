"""Handshakes of mesh/2 in which a step goes wrong on its way."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import (
    BootstrapFailed,
    CloseReason,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
)
from meshproto.mesh.node import MeshNode
from meshproto.testing import SimNetwork, _handshake
from meshproto.testing._handshake import (
    NONSENSE,
    STEPS,
    TROUBLES,
    Handshake,
    Trouble,
)
from meshproto.testing._tcp import Transport


class Outlet:
    """Notes what is sent and when the rest is held up."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.told: list[str] = []

    def write(self, segment: bytes | Callable[[], None], /) -> None:
        if isinstance(segment, bytes):
            self.sent.append(segment)
        else:
            segment()

    def hold(self, seconds: float) -> None:
        self.told.append(f"late by {seconds}")


class HandshakeTests(SynchronousTestCase):
    """One end, without a connection."""

    said = (b"id:name\t\n", b"HELLO +2\n\n\n", b"READY\n")

    def say(self, trouble: Trouble, *said: bytes) -> Outlet:
        """What comes of what a dialler says."""
        outlet = Outlet()
        self.handshake = Handshake(
            outlet,
            [trouble],
            random.Random(1),
            dials=True,
            ready=lambda: outlet.told.append("ready"),
            heard=lambda: outlet.told.append("heard"),
            sever=lambda: outlet.told.append("severed"),
        )
        for each in said:
            self.handshake.write(each)
        return outlet

    def test_steps_of_the_other_end_pass(self) -> None:
        outlet = self.say(Trouble("mute", "verdict"), *self.said)
        self.assertEqual(tuple(outlet.sent), self.said)
        self.assertEqual(outlet.told, ["heard", "ready"])
        self.assertTrue(self.handshake.is_over)

    def test_mute(self) -> None:
        outlet = self.say(Trouble("mute", "second HELLO"), *self.said)
        self.assertEqual(outlet.sent, [self.said[0]])
        self.assertFalse(self.handshake.is_over)

    def test_hang_up(self) -> None:
        outlet = self.say(Trouble("hang up", "READY"), *self.said, b"more")
        self.assertEqual(tuple(outlet.sent), self.said[:2])
        self.assertEqual(outlet.told, ["severed", "ready"])

    def test_halve(self) -> None:
        outlet = self.say(Trouble("halve", "greeting"), *self.said)
        self.assertEqual(outlet.sent, [b"id:n"])
        self.assertEqual(outlet.told, ["severed"])

    def test_dawdle(self) -> None:
        outlet = self.say(Trouble("dawdle", "READY", 3.0), *self.said)
        self.assertEqual(tuple(outlet.sent), self.said)
        self.assertEqual(outlet.told, ["late by 3.0", "heard", "ready"])

    def test_echo(self) -> None:
        outlet = self.say(Trouble("echo", "READY"), *self.said)
        self.assertEqual(tuple(outlet.sent), (*self.said, b"READY\n"))

    def test_garble(self) -> None:
        outlet = self.say(Trouble("garble", "READY"), *self.said, b"more")
        greeting, hello, nonsense, more = outlet.sent
        self.assertEqual(((greeting, hello), more), (self.said[:2], b"more"))
        self.assertIn(nonsense, NONSENSE)
        self.assertEqual(outlet.told, ["ready"])

    def test_steps_in_one_piece(self) -> None:
        outlet = self.say(Trouble("echo", "second HELLO"), b"".join(self.said))
        greeting, hello, ready = self.said
        self.assertEqual(outlet.sent, [greeting, hello, hello, ready])
        self.assertTrue(self.handshake.is_over)

    def test_who_speaks_mesh1_shakes_no_hands(self) -> None:
        said = (b"id:name\n", *self.said[1:])
        outlet = self.say(Trouble("mute", "READY"), *said)
        self.assertEqual((tuple(outlet.sent), outlet.told), (said, []))
        self.assertTrue(self.handshake.is_over)


class SpoiledHandshakeTests(SynchronousTestCase):
    """What goes wrong at a step of mesh/2's handshake, and what nodes make of it."""

    def setUp(self) -> None:
        self.net = SimNetwork(seed=2)
        self.alice = self.net.node("10.0.0.1", name="alice")
        self.bob = self.net.node("10.0.0.2", name="bob", bootstrap=("10.0.0.1:8001",))

    def spoil(self, trouble: str, step: str, seconds: float = 0.0) -> None:
        """One handshake, of which a step goes wrong."""
        self.take_back = self.net.spoil(
            self.alice, self.bob, trouble, step, seconds=seconds
        )
        self.net.start(self.alice, self.bob)
        self.net.run(0.1)

    def linked(self) -> tuple[bool, bool]:
        return bool(self.alice.peers()), bool(self.bob.peers())

    def assertRecovers(self) -> None:
        self.take_back()
        self.net.run_until(lambda: self.linked() == (True, True), 60.0)

    def reasons(self, node: MeshNode) -> list[str]:
        """Why links of a node have failed or ended."""
        kinds = BootstrapFailed, PeerDisconnected, PeerRefused
        found = [e for e in self.net.events(node) if isinstance(e, kinds)]
        return [
            e.reason.value if isinstance(e.reason, CloseReason) else e.reason
            for e in found
        ]

    def test_no_step_that_goes_wrong_lasts_longer_than_it_does(self) -> None:
        for trouble, step in product(TROUBLES, STEPS):
            self.setUp()
            self.spoil(trouble, step, 1.0)
            linked = (True, True)
            if trouble == "dawdle":
                self.assertNotEqual(self.linked(), linked, (trouble, step))
            else:
                self.net.run(5.0)
                self.assertNotEqual(self.linked(), linked, (trouble, step))
            self.assertRecovers()

    def test_other_steps_pass(self) -> None:
        """Those of mesh/1, too."""
        self.alice = self.net.node("10.0.0.3", name="carol", protocols=("mesh/1",))
        self.bob = self.net.node("10.0.0.4", bootstrap=("10.0.0.3:8001",))
        self.spoil("hang up", "greeting")
        self.assertEqual(self.linked(), (True, True))

    def test_a_greeting_that_gets_lost(self) -> None:
        self.spoil("mute", "greeting")
        self.net.run(9.8)
        self.assertEqual(self.reasons(self.bob), [])
        self.net.run(0.2)
        [reason] = self.reasons(self.bob)
        self.assertEqual(reason, "no answer to the handshake")
        self.assertRecovers()

    def test_a_ready_that_gets_lost(self) -> None:
        """The dialler has a link until the listener gives it up."""
        self.spoil("mute", "READY")
        self.assertEqual(self.linked(), (False, True))
        self.net.run(10.0)
        self.assertEqual(self.reasons(self.bob)[:1], ["connection lost"])

    def test_a_connection_that_ends_instead_of_a_step(self) -> None:
        self.spoil("hang up", "first HELLO")
        self.assertEqual(self.linked(), (False, False))
        [reason] = self.reasons(self.bob)
        self.assertIn("lost", reason)

    def test_a_step_that_comes_late(self) -> None:
        self.spoil("dawdle", "verdict", 5.0)
        self.assertEqual(self.linked(), (False, False))
        self.net.run(4.8)
        self.assertEqual(self.linked(), (False, False))
        self.net.run(0.3)
        self.assertEqual(self.linked(), (True, True))

    def test_a_step_that_comes_twice(self) -> None:
        self.spoil("echo", "READY")
        [lost] = [
            event
            for event in self.net.events(self.alice)
            if isinstance(event, PeerDisconnected)
        ]
        self.assertIs(lost.reason, CloseReason.PROTOCOL_ERROR)

    def test_nonsense(self) -> None:
        for nonsense, step in product(NONSENSE, STEPS):
            self.setUp()
            with patch.object(_handshake, "NONSENSE", (nonsense,)):
                self.spoil("garble", step)
            self.net.run(3.0)
            self.assertNotEqual(self.linked(), (True, True), (nonsense, step))
            met = [
                event.peer.name
                for node in (self.alice, self.bob)
                for event in self.net.events(node)
                if isinstance(event, PeerConnected)
            ]
            self.assertLessEqual(set(met), {"alice"})

    def test_both_ends_are_told_of_ready(self) -> None:
        ends: list[Transport] = []
        self.net.settled = ends.append
        self.net.start(self.alice, self.bob)
        self.net.run(0.1)
        bob, alice = (self.net.machine(node) for node in (self.bob, self.alice))
        self.assertEqual([end.machine for end in ends], [bob, alice])
        self.assertTrue(all(end.settled for end in ends))
        self.net.break_links(self.alice, self.bob)
        self.assertFalse(any(end.settled for end in ends))

    def test_an_unknown_step_or_trouble(self) -> None:
        for trouble, step in (("echo", "ready"), ("shout", "READY")):
            with self.assertRaisesRegex(ValueError, f"{trouble!r} at {step!r}"):
                self.net.spoil(self.alice, self.bob, trouble, step)
