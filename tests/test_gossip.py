"""Which addresses a node tells, learns and dials."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress

from meshproto.events import (
    PeersDiscovered,
)
from tests.benches import BOB, BenchCase
from tests.fakes import Bench, Wire, tcp_address


class OwnAddressTests(BenchCase):
    """The first entry of our PEERS is where we listen."""

    def told(self, bench: Bench, wire: Wire) -> list[str]:
        wire.heard()
        wire.say("REQUEST_PEERS")
        line = wire.heard().decode()
        self.assertTrue(line.startswith("PEERS:") and line.endswith("\n"), line)
        return [entry for entry in line[6:-1].split(",") if entry]

    def test_to_a_peer_on_this_machine(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob", "127.0.0.1")
        self.assertEqual(self.told(bench, wire), ["127.0.0.1:8001"])

    def test_to_a_peer_on_the_lan(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_over_ipv6(self) -> None:
        bench = self.started(Bench(host=tcp_address("::", 8001)))
        wire = bench.caller("2001:db8::2", here="2001:db8::1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["[2001:db8::1]:8001"])
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire)[0], "192.0.2.1:8001")

    def test_over_ipv6_there_is_none_where_we_listen_on_ipv4_alone(self) -> None:
        bench = self.bench()
        wire = bench.caller("2001:db8::2", here="2001:db8::1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), [])

    def test_advertised_as_host_and_port(self) -> None:
        bench = self.bench(advertise="mesh.example:9001")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["mesh.example:9001"])
        local = bench.guest("peer-8003:carol", "127.0.0.1")
        self.assertEqual(self.told(bench, local)[0], "mesh.example:9001")

    def test_advertised_as_a_host(self) -> None:
        bench = self.bench(advertise="203.0.113.7")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["203.0.113.7:8001"])

    def test_bound_to_one_interface(self) -> None:
        bench = self.started(
            Bench(
                host=tcp_address("192.0.2.1", 8001),
                own_hosts=("192.0.2.1", "127.0.0.1", "198.51.100.1"),
            )
        )
        wire = bench.caller(here="198.51.100.1")
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_bound_to_loopback_there_is_none_for_another_host(self) -> None:
        bench = self.started(Bench(host=tcp_address("127.0.0.1", 8001)))
        connecting = bench.node.connect(BOB)
        wire = bench.dialled(BOB).succeed()
        wire.say("peer-8002:bob")
        self.successResultOf(connecting)
        self.assertEqual(self.told(bench, wire), [])
        local = bench.guest("peer-8003:carol", "127.0.0.1")
        self.assertEqual(self.told(bench, local)[0], "127.0.0.1:8001")

    def test_on_a_unix_socket_there_is_none(self) -> None:
        bench = self.started(Bench(host=UNIXAddress("/mesh")))
        self.assertEqual(bench.node.port, 0)
        wire = bench.network.accept(here=UNIXAddress("/mesh"), there=UNIXAddress(""))
        wire.say("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), [])


class GossipTests(OwnAddressTests):
    """What we tell of others."""

    def test_addresses_that_peers_listen_on(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3", 50003)
        bench.node.connect("192.0.2.4:9004")
        bench.dialled("192.0.2.4:9004").succeed(there="192.0.2.4").say("dave:dave")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(
            self.told(bench, wire),
            ["192.0.2.1:8001", "192.0.2.3:8003", "192.0.2.4:9004"],
        )

    def test_an_ephemeral_port_is_never_told_stored_or_shown(self) -> None:
        bench = self.bench()
        bench.guest("carol:carol", "192.0.2.3", 50003)
        wire = bench.guest("peer-8002:bob", "192.0.2.2", 50002)
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])
        everything = repr(bench.node.known_addresses()) + repr(bench.events)
        for port in ("50002", "50003"):
            self.assertNotIn(port, everything)
        self.assertEqual(bench.node.peers()[0].where, "192.0.2.3")

    def test_nobody_is_told_of_itself(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])

    def test_a_peer_on_this_machine_is_at_our_address_for_other_hosts(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "127.0.0.1")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001", "192.0.2.1:8003"])
        local = bench.guest("peer-8004:dave", "127.0.0.1", 50004)
        self.assertEqual(
            self.told(bench, local),
            ["127.0.0.1:8001", "127.0.0.1:8003", "192.0.2.2:8002"],
        )

    def test_a_name_is_told_as_the_address_behind_it(self) -> None:
        bench = self.bench()
        bench.node.connect("carol.example:8003")
        bench.dialled("carol.example:8003").succeed(there="192.0.2.3").say("carol")
        self.assertEqual(bench.node.peers()[0].where, "carol.example:8003")
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001", "192.0.2.3:8003"])

    def test_what_we_only_heard_of_is_not_told(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,192.0.2.9:8009")
        other = bench.guest("peer-8003:carol", "192.0.2.3")
        self.assertNotIn("192.0.2.9:8009", self.told(bench, other))

    def test_peers_that_have_gone_are_not_told(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3").hang_up()
        wire = bench.guest("peer-8002:bob")
        self.assertEqual(self.told(bench, wire), ["192.0.2.1:8001"])


class ListeningAddressTests(BenchCase):
    """Where a peer listens, as far as it can be known."""

    def where(self, bench: Bench) -> str:
        [peer] = bench.node.peers()
        return peer.where

    def test_the_port_in_its_id(self) -> None:
        bench = self.bench()
        bench.guest("peer-8002:bob")
        self.assertEqual(self.where(bench), BOB)

    def test_a_port_that_is_none(self) -> None:
        for id in ("peer-0", "peer-65536", "peer-8002x", "xpeer-8002"):
            bench = self.bench()
            bench.guest(f"{id}:bob")
            self.assertEqual(self.where(bench), "192.0.2.2", id)

    def test_the_first_entry_when_its_host_is_the_one_that_we_see(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002,192.0.2.3:8003")
        self.assertEqual(self.where(bench), "192.0.2.2:9002")

    def test_a_first_entry_of_another_host_is_somebody_else(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.3:8003,192.0.2.2:9002")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_loopback_as_a_first_entry_is_the_host_that_we_see(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:localhost:9002")
        self.assertEqual(self.where(bench), "192.0.2.2:9002")
        self.assertIn("192.0.2.2:9002", self.targets(bench))

    def test_any_address_of_this_machine_will_do_for_a_peer_on_it(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.1:9002")
        self.assertEqual(self.where(bench), "127.0.0.1:9002")

    def test_our_own_address_is_nobody_elses(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:localhost:8001,localhost:9003")
        self.assertEqual(self.where(bench), "127.0.0.1")

    def test_the_address_of_another_peer_is_nobody_elses(self) -> None:
        bench = self.bench()
        bench.guest("peer-9002:carol", "127.0.0.1", 50003)
        wire = bench.guest("bob:bob", "127.0.0.1")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.1:9002,localhost:9003")
        self.assertEqual(bench.node.peers()[1].where, "127.0.0.1")

    def test_the_id_counts_more_than_the_first_entry(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        self.assertEqual(self.where(bench), BOB)

    def test_a_claim_is_dialled_and_so_proved(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        bench.dialled("192.0.2.2:9002").succeed().say("DUPLICATE")
        [known] = bench.node.known_addresses()
        self.assertTrue(known.proven and known.linked)

    def test_a_claim_that_is_somebody_else_is_corrected(self) -> None:
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9003")
        bench.dialled("192.0.2.2:9003").succeed().say("carol:carol")
        self.assertEqual(
            {peer.id: peer.where for peer in bench.node.peers()},
            {"bob": "192.0.2.2", "carol": "192.0.2.2:9003"},
        )

    def test_who_came_before_is_told_of_a_claim_without_a_timer(self) -> None:
        bench = self.bench()
        before = bench.guest("peer-8003:carol", "192.0.2.3")
        wire = bench.guest("bob:bob")
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9002")
        self.assertEqual(before.heard(), b"PEERS:192.0.2.1:8001,192.0.2.2:9002\n")

    def test_only_who_has_asked_first_tells_of_itself(self) -> None:
        """The original shares before it asks, and begins with somebody else."""
        bench = self.bench()
        wire = bench.guest("bob:bob")
        wire.say("PEERS:192.0.2.2:9003", "REQUEST_PEERS")
        self.assertEqual(self.where(bench), "192.0.2.2")
        bench.dialled("192.0.2.2:9003").fail()
        wire.heard()
        bench.clock.advance(30)
        self.assertIn(b"REQUEST_PEERS\n", wire.heard())
        wire.say("PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_a_question_of_ours_that_comes_between_does_not_matter(self) -> None:
        """We may ask while the first words of a newcomer are on their way."""
        bench = self.bench(max_peers=1)
        wire = bench.guest("bob:bob")
        self.assertEqual(bench.node.discover(), 1)
        wire.say("REQUEST_PEERS", "PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2:9003")

    def test_but_an_answer_that_comes_later_tells_of_others(self) -> None:
        bench = self.bench(max_peers=1)
        wire = bench.guest("bob:bob")
        bench.node.discover()
        wire.say("REQUEST_PEERS", "PING", "PEERS:192.0.2.2:9003")
        self.assertEqual(self.where(bench), "192.0.2.2")

    def test_where_we_dialled_it(self) -> None:
        bench = self.bench()
        bench.node.connect("bob.example:9002")
        wire = bench.dialled("bob.example:9002").succeed()
        wire.say("peer-8002:bob")
        self.assertEqual(self.where(bench), "bob.example:9002")


class LearningTests(BenchCase):
    def test_every_new_address_is_dialled_at_once(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say(
            "PEERS:192.0.2.2:8002,192.0.2.3:8003,[2001:db8::4]:8004,dave.example:8005"
        )
        self.assertEqual(
            self.targets(bench),
            ["192.0.2.3:8003", "[2001:db8::4]:8004", "dave.example:8005"],
        )
        [event] = bench.of(PeersDiscovered)
        self.assertEqual((event.count, event.total_known), (3, 4))

    def test_what_is_not_believed_is_not_dialled(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say(
            "PEERS:192.0.2.3:80,0.0.0.0:8001,224.0.0.1:8001,255.255.255.255:8001,"
            "nonsense,192.0.2.3:99999,192.0.2.9:8009"
        )
        self.assertEqual(self.targets(bench), ["192.0.2.9:8009"])

    def test_loopback_told_by_another_host_is_that_host(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob")
        wire.say("PEERS:192.0.2.2:8002,localhost:8003,127.0.0.1:8004")
        self.assertEqual(self.targets(bench), ["192.0.2.2:8003", "192.0.2.2:8004"])

    def test_our_own_address_is_not_dialled_in_any_spelling(self) -> None:
        bench = self.bench()
        wire = bench.guest("peer-8002:bob", "127.0.0.1")
        wire.say(
            "PEERS:127.0.0.1:8002,localhost:8001,[::1]:8001,192.0.2.1:8001,127.0.0.1:8001"
        )
        self.assertEqual(self.targets(bench), [])

    def test_a_peer_that_we_have_is_not_dialled(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3")
        bench.guest("peer-8002:bob").say("PEERS:192.0.2.2:8002,192.0.2.3:8003")
        self.assertEqual(self.targets(bench), [])

    def test_a_peer_that_has_gone_is_dialled_again(self) -> None:
        bench = self.bench()
        bench.guest("peer-8003:carol", "192.0.2.3").hang_up()
        bench.clock.advance(1)
        self.assertEqual(self.targets(bench), ["192.0.2.3:8003"])


class DialAgainTests(BenchCase):
    def test_a_refused_caller_may_dial_again_at_once(self) -> None:
        bench = self.bench()
        first = bench.node.connect(BOB)
        again = first.addErrback(lambda _: bench.node.connect(BOB))
        bench.dialled(BOB).succeed().say("MAX_PEERS")
        self.assertEqual(len(bench.network.dials), 2)
        self.assertNoResult(again)
        bench.network.dials[1].succeed().say("peer-8002:bob")
        self.assertEqual(self.successResultOf(again).id, "peer-8002")

    def test_so_may_one_that_was_closed_on(self) -> None:
        bench = self.bench()
        first = bench.node.connect(BOB)
        again = first.addErrback(lambda _: bench.node.connect(BOB))
        bench.dialled(BOB).succeed().hang_up()
        bench.settle()
        self.assertNoResult(again)
        bench.network.dials[1].succeed().say("peer-8002:bob")
        self.assertEqual(self.successResultOf(again).id, "peer-8002")
