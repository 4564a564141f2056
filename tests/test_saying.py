"""What a node says: to all, to one, and how it waits until that is taken."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from meshproto.errors import (
    AmbiguousPeer,
    LocalProtocolError,
    NotRunning,
    UnknownPeer,
)
from meshproto.events import (
    CloseReason,
    PeerConnected,
    PeerDisconnected,
)
from tests.fakes import (
    Bench,
    Wire,
)
from tests.nodes import NodeCase


class SayTests(NodeCase):
    def test_to_everybody(self) -> None:
        bench = self.bench()
        wires = [
            bench.guest(f"{id}:x", f"192.0.2.{n}") for n, id in ((2, "b"), (3, "c"))
        ]
        delivery = bench.node.broadcast("Hello network!")
        self.assertTrue(delivery)
        self.assertEqual(len(delivery), 2)
        self.assertEqual([peer.id for peer in delivery.peers], ["b", "c"])
        for wire in wires:
            self.assertEqual(wire.heard(), b"Hello network!\n")

    def test_to_nobody(self) -> None:
        delivery = self.bench().node.broadcast("hello")
        self.assertFalse(delivery)
        self.assertEqual(delivery.peers, ())

    def test_to_one_by_id_or_by_snapshot(self) -> None:
        bench = self.bench()
        bob = bench.guest("bob:bob")
        carol = bench.guest("carol:carol", "192.0.2.3")
        delivery = bench.node.send("bob", "only for you")
        self.assertEqual([peer.id for peer in delivery.peers], ["bob"])
        bench.node.send(bench.node.peers()[1], "and for you")
        self.assertEqual(bob.heard(), b"only for you\n")
        self.assertEqual(carol.heard(), b"and for you\n")

    def test_to_somebody_unknown(self) -> None:
        bench = self.bench()
        with self.assertRaises(UnknownPeer):
            bench.node.send("bob", "hello")
        wire = bench.guest("bob:bob")
        [peer] = bench.node.peers()
        wire.hang_up()
        for who in (peer, "bob"):
            with self.assertRaises(UnknownPeer) as caught:
                bench.node.send(who, "hello")
            self.assertNotIsInstance(caught.exception, AmbiguousPeer)

    def test_to_an_id_that_two_hosts_share(self) -> None:
        bench = self.bench()
        one = bench.guest("bob:bob", "192.0.2.2")
        two = bench.guest("bob:bob", "192.0.2.3")
        with self.assertRaises(AmbiguousPeer):
            bench.node.send("bob", "hello")
        bench.node.send(bench.node.peers()[1], "hello")
        self.assertEqual((one.heard(), two.heard()), (b"", b"hello\n"))

    def test_to_a_peer_on_this_machine_by_snapshot(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob", "127.0.0.1")
        bench.node.send(bench.node.peers()[0], "hello")
        self.assertEqual(wire.heard(), b"hello\n")

    def test_an_old_snapshot_is_as_good_as_a_new_one(self) -> None:
        bench = self.bench()
        bench.guest("bob:bob").hang_up()
        [old] = [event.peer for event in bench.of(PeerConnected)]
        wire = bench.guest("bob:bob")
        bench.node.send(old, "hello")
        self.assertEqual(wire.heard(), b"hello\n")

    def test_what_has_no_form_is_refused_and_nothing_is_sent(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        for text in ("", "x" * 16385, "\ud800", "\ud800\n"):
            with self.assertRaises(LocalProtocolError):
                bench.node.broadcast(text)
            with self.assertRaises(LocalProtocolError):
                bench.node.send("bob", text)
        self.assertEqual(wire.heard(), b"")
        self.assertFalse(bench.of(PeerDisconnected))

    def test_a_long_line_is_a_payload(self) -> None:
        bench = self.bench(protocols=("mesh/2", "mesh/1"), max_line=1000)
        wire = bench.guest("bob:bob")
        self.assertTrue(bench.node.broadcast("x" * 1000))
        self.assertEqual(wire.heard(), b"x" * 1000 + b"\n")
        for text in ("x" * 1001, "\u20ac" * 334):
            [(peer, why)] = bench.node.broadcast(text).missed
            self.assertEqual((peer.id, why), ("bob", "speaks only mesh/1"))
        self.assertEqual(wire.heard(), b"")

    def test_what_a_peer_cannot_be_given_is_told(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        for text in ("two\nlines", "cr\r"):
            for delivery in (bench.node.broadcast(text), bench.node.send("bob", text)):
                self.assertFalse(delivery)
                [(peer, why)] = delivery.missed
                self.assertEqual((peer.id, why), ("bob", "speaks only mesh/1"))
        self.assertEqual(wire.heard(), b"")

    def test_it_is_refused_when_there_is_nobody_as_well(self) -> None:
        with self.assertRaises(LocalProtocolError):
            self.bench().node.broadcast("")

    def test_commands_are_chat(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        for text in ("PING", " PONG ", "REQUEST_PEERS", "PEERS:x", "\u2060x"):
            bench.node.broadcast(text)
        self.assertEqual(
            wire.heard().decode(),
            "\u2060PING\n\u2060 PONG \n\u2060REQUEST_PEERS\n\u2060PEERS:x\n"
            "\u2060\u2060x\n",
        )

    def test_not_running(self) -> None:
        bench = self.prepared()
        with self.assertRaises(NotRunning):
            bench.node.broadcast("hello")
        with self.assertRaises(NotRunning):
            bench.node.discover()
        bench.start().stop()
        with self.assertRaises(NotRunning):
            bench.node.broadcast("hello")


class DrainTests(NodeCase):
    def clog(self, bench: Bench) -> Wire:
        """A peer that takes nothing, with more waiting than the soft mark."""
        wire = bench.guest("bob:bob")
        wire.transport.stuck = True
        while wire.protocol.queued() <= 1000:
            bench.node.broadcast("x" * 900)
        return wire

    def test_at_once_when_nothing_waits(self) -> None:
        bench = self.prepared()
        self.successResultOf(bench.node.drain())
        bench.start().guest("bob:bob")
        bench.node.broadcast("hello")
        self.successResultOf(bench.node.drain())

    def test_when_the_queue_is_at_its_mark(self) -> None:
        bench = self.bench(send_queue_soft=1000)
        wire = self.clog(bench)
        drained = bench.node.drain()
        self.assertNoResult(drained)
        wire.transport.stuck = False
        wire.transport.take()
        self.successResultOf(drained)

    def test_the_mark_itself_is_not_above_it(self) -> None:
        bench = self.bench(send_queue_soft=1000)
        wire = bench.guest("bob:bob")
        wire.transport.stuck = True
        while not wire.protocol.queued():
            bench.node.broadcast("x" * 499)
            bench.settle()
        bench.node.broadcast("x" * 499)
        bench.settle()
        self.assertEqual(wire.protocol.queued(), 1000)
        self.successResultOf(bench.node.drain())
        bench.node.broadcast("x")
        bench.settle()
        self.assertNoResult(bench.node.drain())

    def test_when_the_slow_one_is_cut(self) -> None:
        bench = self.bench(send_queue_soft=1000)
        self.clog(bench)
        drained = bench.node.drain()
        bench.clock.advance(10)
        self.successResultOf(drained)
        [event] = bench.of(PeerDisconnected)
        self.assertIs(event.reason, CloseReason.SLOW_CONSUMER)

    def test_when_the_node_stops(self) -> None:
        bench = self.bench(send_queue_soft=1000)
        self.clog(bench)
        drained = bench.node.drain()
        bench.node.stop()
        self.successResultOf(drained)

    def test_a_wait_that_is_given_up(self) -> None:
        bench = self.bench(send_queue_soft=1000)
        wire = self.clog(bench)
        drained = bench.node.drain()
        drained.cancel()
        self.failureResultOf(drained, CancelledError)
        wire.transport.stuck = False
        wire.transport.take()
