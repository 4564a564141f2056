"""What is asked, what is told to whom, and what is made of what is heard."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshproto.config import NodeConfig
from meshproto.events import (
    CloseReason,
    Direction,
    Event,
    PeerListReceived,
    PeerRequestReceived,
    PeerRequestSent,
    PeersDiscovered,
)
from meshproto.mesh.discovery import Discovery
from meshproto.mesh.throttle import Throttle
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.identity import key_of
from meshproto.rules.registry import Admitted, PeerEntry, Registry
from meshproto.wire.address import PeerAddress, ip_of
from meshproto.wire.messages import (
    Greeting,
    Hello,
    Incarnation,
    Message,
    PeerList,
    RequestPeers,
)
from tests.fakes import Dice, FakeLink

OWN = PeerAddress("192.0.2.1", 8001)


def address(text: str) -> PeerAddress:
    return PeerAddress.parse(text)


def addresses(*texts: str) -> tuple[PeerAddress, ...]:
    return tuple(map(PeerAddress.parse, texts))


class DiscoveryCase(SynchronousTestCase):
    advertised: tuple[str, int | None] | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.registry = Registry("peer-8001", 1000)
        own_hosts = {"127.0.0.1", "localhost", "::1", "192.0.2.1"}
        self.book = AddressBook(own_hosts.__contains__, Dice())
        self.events: list[Event] = []
        self.dials = 0
        self.discovery = Discovery(
            self.registry,
            self.book,
            Throttle(NodeConfig(), self.clock, self.events.append),
            self.clock,
            self.events.append,
            interval=30.0,
            advertised=self.advertised,
            dial=self.dial,
        )
        self.discovery.listening(8001, None)

    def tearDown(self) -> None:
        self.discovery.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def dial(self) -> None:
        self.dials += 1

    def peer(
        self,
        id: str,
        host: str = "192.0.2.2",
        *,
        where: str | None = None,
        direction: Direction = Direction.INCOMING,
        asked: bool = False,
    ) -> FakeLink:
        """A peer that is connected, and listens at ``where``.

        ``asked``: it has asked for addresses, on a link that it dialled.
        """
        here = host in ("127.0.0.1", "::1")
        link = FakeLink(
            direction,
            remote_host=host,
            local_host=host if here else "192.0.2.1",
            same_machine=here,
        )
        verdict = self.registry.admit(link, Greeting(id, id), self.clock.seconds())
        assert isinstance(verdict, Admitted)
        if where:
            verdict.entry.address = address(where)
        verdict.entry.asked = asked
        return link

    def entry(self, link: FakeLink) -> PeerEntry:
        entry = self.registry.of_link(link)
        assert entry is not None
        return entry

    def hear(self, link: FakeLink, *texts: str, skipped: int = 0) -> None:
        told = PeerList(addresses(*texts), skipped)
        self.discovery.heard(self.entry(link), link, told)

    def told(self, link: FakeLink) -> list[str]:
        """What the far end is told when it asks."""
        link.sent.clear()
        self.discovery.answer(link)
        self.assertTrue(all(isinstance(said, PeerList) for said in link.sent))
        return [
            str(entry)
            for said in link.sent
            if isinstance(said, PeerList)
            for entry in said.addresses
        ]


class AskTests(DiscoveryCase):
    def test_every_peer_every_thirty_seconds(self) -> None:
        one, two = self.peer("one"), self.peer("two")
        self.discovery.start()
        self.clock.advance(29.999)
        self.assertEqual((one.sent, two.sent), ([], []))
        self.clock.advance(0.001)
        self.assertEqual((one.sent, two.sent), ([RequestPeers()], [RequestPeers()]))
        self.assertEqual(self.dials, 1)
        self.clock.advance(30)
        self.assertEqual(len(one.sent), 2)
        self.assertEqual(self.dials, 2)

    def test_what_is_known_and_missing_is_dialled_when_there_is_nobody_to_ask(
        self,
    ) -> None:
        self.discovery.start()
        self.clock.advance(30)
        self.assertEqual(self.dials, 1)

    def test_all_at_the_users_wish(self) -> None:
        self.peer("one")
        self.peer("two")
        self.assertEqual(self.discovery.ask_all(), 2)
        names = [e.peer.id for e in self.events if isinstance(e, PeerRequestSent)]
        self.assertEqual(names, ["one", "two"])

    def test_nobody_to_ask(self) -> None:
        self.assertEqual(self.discovery.ask_all(), 0)

    def test_the_diallers_first_words(self) -> None:
        self.peer("peer-8003", "192.0.2.3", where="192.0.2.3:8003")
        link = self.peer("peer-8002", direction=Direction.OUTGOING)
        self.discovery.introduce(link)
        self.assertEqual(
            link.sent,
            [
                RequestPeers(),
                PeerList(addresses("192.0.2.1:8001", "192.0.2.3:8003")),
            ],
        )

    def test_an_answer_is_told(self) -> None:
        link = self.peer("peer-8002")
        self.discovery.answer(link)
        self.assertEqual(link.sent, [PeerList((OWN,))])
        [event] = self.events
        assert isinstance(event, PeerRequestReceived)
        self.assertEqual(event.peer.id, "peer-8002")


class TellTests(DiscoveryCase):
    def test_our_own_address_is_first_and_the_askers_is_missing(self) -> None:
        link = self.peer("peer-8002", where="192.0.2.2:8002")
        self.peer("peer-8003", "192.0.2.3", where="192.0.2.3:8003")
        self.peer("carol", "192.0.2.4")
        self.assertEqual(self.told(link), ["192.0.2.1:8001", "192.0.2.3:8003"])

    def test_the_askers_is_missing_on_all_of_its_links(self) -> None:
        link = self.peer("bob", where="192.0.2.2:8002")
        second = FakeLink(Direction.OUTGOING, target=address("192.0.2.2:8002"))
        self.registry.admit(second, Greeting("bob", "bob"), 0.0)
        self.assertIs(self.entry(link).second, second)
        for each in (link, second):
            self.assertEqual(self.told(each), ["192.0.2.1:8001"])

    def test_a_loopback_address_goes_to_no_other_host(self) -> None:
        self.peer("peer-8003", "127.0.0.1", where="127.0.0.1:8003")
        link = self.peer("peer-8002")
        self.assertEqual(self.told(link), ["192.0.2.1:8001", "192.0.2.1:8003"])

    def test_where_the_far_end_is_seen_on_loopback_there_is_nothing_to_tell(
        self,
    ) -> None:
        # A proxy on this machine: we do not know by which address it is left.
        self.peer("peer-8003", "127.0.0.1", where="127.0.0.1:8003")
        link = self.peer("peer-8002")
        link.local_host = "127.0.0.1"
        self.assertNotIn("127.0.0.1:8003", self.told(link))

    def test_an_ipv6_address_with_a_zone_stays_here(self) -> None:
        self.peer("peer-8003", "fe80::1%eth0", where="[fe80::1%eth0]:8003")
        link = self.peer("peer-8002")
        self.assertEqual(self.told(link), ["192.0.2.1:8001"])

    def test_a_long_list_is_told_in_several_lines_with_our_address_first(self) -> None:
        for number in range(150):
            host = f"198.51.100.{number}"
            self.peer(f"p{number}", host, where=f"{host}:8001")
        link = self.peer("peer-8002")
        everything = self.told(link)
        self.assertEqual([len(_list(said)) for said in link.sent], [100, 52])
        self.assertEqual(everything[0], str(OWN))
        self.assertEqual(everything[100], str(OWN))
        self.assertEqual(len(set(everything)), 151)

    def test_one_hundred_entries_are_one_line(self) -> None:
        for number in range(99):
            host = f"198.51.100.{number}"
            self.peer(f"p{number}", host, where=f"{host}:8001")
        link = self.peer("peer-8002")
        self.told(link)
        self.assertEqual([len(_list(said)) for said in link.sent], [100])
        self.peer("last", "198.51.100.99", where="198.51.100.99:8001")
        self.told(link)
        self.assertEqual([len(_list(said)) for said in link.sent], [100, 2])

    def test_every_line_fits(self) -> None:
        for number in range(150):
            host = f"2001:db8:ffff:ffff:ffff:ffff:ffff:{number + 0xFF00:x}"
            self.peer(f"p{number}", host, where=f"[{host}]:65000")
        link = self.peer("peer-8002")
        self.told(link)
        for said in link.sent:
            self.assertLessEqual(len(link.wire.encode(said)), 16_384)

    def test_bound_to_one_address(self) -> None:
        self.discovery.listening(8001, ip_of("192.0.2.77"))
        self.assertEqual(self.told(self.peer("peer-8002")), ["192.0.2.77:8001"])

    def test_bound_to_loopback(self) -> None:
        self.discovery.listening(8001, ip_of("127.0.0.1"))
        self.assertEqual(self.told(self.peer("peer-8002")), [])
        self.assertEqual(
            self.told(self.peer("peer-8003", "127.0.0.1")), ["127.0.0.1:8001"]
        )

    def test_ipv4_alone_seen_by_ipv6(self) -> None:
        """An address at which nobody listens is not told."""
        self.discovery.listening(8001, ip_of("0.0.0.0"))
        far = self.peer("peer-8002", "2001:db8::2")
        far.local_host = "2001:db8::1"
        self.assertEqual(self.told(far), [])
        self.assertEqual(self.told(self.peer("peer-8003", "::1")), ["127.0.0.1:8001"])

    def test_without_a_port(self) -> None:
        self.discovery.listening(0, None)
        self.assertEqual(self.told(self.peer("peer-8002")), [])


class Mesh2Tests(DiscoveryCase):
    """Peers that say in HELLO where they listen."""

    def newcomer(
        self,
        number: int,
        *said: str,
        id: str = "",
        direction: Direction = Direction.INCOMING,
    ) -> FakeLink:
        link = FakeLink(direction, remote_host=f"192.0.2.{number}")
        hello = Hello(
            identity=f"{number:032x}",
            incarnation=Incarnation(1, "0" * 32),
            link=1,
            id=id or f"node-{number}",
            name="x",
            addresses=addresses(*said),
        )
        key = key_of(hello, proven=False)
        entry = self.registry.seat(key, hello, link, self.clock.seconds())
        self.discovery.locate(entry, link)
        return link

    def test_what_it_says_is_where_it_listens(self) -> None:
        for said, wanted in (
            (("192.0.2.2:8002", "192.0.2.2:8003"), "192.0.2.2:8002"),
            (("127.0.0.1:8002",), "192.0.2.2:8002"),
            # Of another host, or nothing at all.
            (("192.0.2.3:8002",), None),
            ((), None),
        ):
            link = self.newcomer(2, *said)
            address = self.entry(link).address
            self.assertEqual(address and str(address), wanted)
            self.registry.remove(link)

    def test_that_is_not_dialled_while_it_is_connected(self) -> None:
        link = self.newcomer(2, "192.0.2.2:8002")
        self.hear(link, "192.0.2.2:8002")
        self.assertEqual(self.book.due(0.0), [])

    def test_it_counts_more_than_the_id(self) -> None:
        link = self.newcomer(2, "192.0.2.2:8002", id="peer-8009")
        self.assertEqual(str(self.entry(link).address), "192.0.2.2:8002")
        link = self.newcomer(3, id="peer-8009")
        self.assertEqual(str(self.entry(link).address), "192.0.2.3:8009")

    def test_of_two_the_later_is_told_of_the_other(self) -> None:
        links = [self.newcomer(n, f"192.0.2.{n}:8000") for n in (2, 3, 4)]
        own = ["192.0.2.1:8001"]
        others = [f"192.0.2.{n}:8000" for n in (2, 3, 4)]
        for number, link in enumerate(links):
            self.assertEqual(self.told(link), own + others[:number])
        # Whoever asks again, or later, is told of all.
        for number, link in enumerate(links):
            rest = others[:number] + others[number + 1 :]
            self.assertEqual(self.told(link), own + rest)

    def test_where_we_dialled_we_tell_of_those_before(self) -> None:
        first = self.newcomer(2, "192.0.2.2:8000")
        dialled = self.newcomer(3, direction=Direction.OUTGOING)
        self.newcomer(4, "192.0.2.4:8000")
        self.discovery.introduce(dialled)
        shared = [PeerList(addresses("192.0.2.1:8001", "192.0.2.2:8000"))]
        self.assertEqual(dialled.sent, [RequestPeers(), *shared])
        self.assertEqual(first.sent, [])

    def test_one_that_is_back_is_a_newcomer(self) -> None:
        link = self.newcomer(2, "192.0.2.2:8000")
        self.told(link)
        entry = self.entry(link)
        self.registry.remove(link)
        self.discovery.peer_left(entry, CloseReason.CLOSED_BY_PEER)
        back = self.newcomer(2, "192.0.2.2:8000")
        self.newcomer(3, "192.0.2.3:8000")
        self.assertEqual(self.told(back), ["192.0.2.1:8001"])
        self.assertEqual(list(vars(self.discovery)["_introduced"]), [self.entry(back)])

    def test_a_peer_of_mesh1_is_told_of_all(self) -> None:
        link = self.peer("old", "192.0.2.9")
        self.newcomer(3, "192.0.2.3:8000")
        self.assertEqual(self.told(link), ["192.0.2.1:8001", "192.0.2.3:8000"])


class AdvertisedTests(DiscoveryCase):
    advertised = ("mesh.example", 9001)

    def test_it_is_what_everybody_is_told(self) -> None:
        for link in (self.peer("peer-8002"), self.peer("peer-8003", "127.0.0.1")):
            self.assertEqual(self.told(link), ["mesh.example:9001"])

    def test_it_is_ours(self) -> None:
        self.assertTrue(self.book.is_own(address("mesh.example:9001")))


class AdvertisedHostTests(DiscoveryCase):
    advertised = ("203.0.113.7", None)

    def test_the_port_is_the_one_that_is_bound(self) -> None:
        self.assertEqual(self.told(self.peer("peer-8002")), ["203.0.113.7:8001"])

    def test_without_a_port_there_is_nothing_to_advertise(self) -> None:
        self.discovery.listening(0, None)
        self.assertEqual(self.told(self.peer("peer-8002")), [])


class HeardTests(DiscoveryCase):
    def test_what_is_new_is_counted_and_dialled(self) -> None:
        link = self.peer("peer-8002", where="192.0.2.2:8002")
        self.hear(link, "192.0.2.3:8003", "192.0.2.4:80", skipped=2)
        listed, discovered = self.events
        assert isinstance(listed, PeerListReceived)
        self.assertEqual(listed.addresses, addresses("192.0.2.3:8003", "192.0.2.4:80"))
        self.assertEqual(listed.skipped, 3)
        assert isinstance(discovered, PeersDiscovered)
        self.assertEqual((discovered.count, discovered.total_known), (1, 1))
        self.assertEqual(self.dials, 1)
        self.assertEqual(self.book.due(0), [address("192.0.2.3:8003")])

    def test_nothing_new_is_no_discovery(self) -> None:
        link = self.peer("peer-8002", where="192.0.2.2:8002")
        for _ in range(2):
            self.events.clear()
            self.hear(link, "192.0.2.3:8003")
        self.assertEqual([type(event) for event in self.events], [PeerListReceived])

    def test_an_empty_list(self) -> None:
        link = self.peer("bob")
        self.hear(link)
        self.assertEqual([type(event) for event in self.events], [PeerListReceived])
        self.assertIsNone(self.entry(link).address)

    def test_a_claim_is_taken_from_the_first_entry_only(self) -> None:
        link = self.peer("bob", asked=True)
        self.hear(link, "192.0.2.3:8003", "192.0.2.2:8002")
        self.assertIsNone(self.entry(link).address)
        self.hear(link, "192.0.2.2:8002")
        self.assertEqual(self.entry(link).address, address("192.0.2.2:8002"))

    def test_a_claim_is_not_changed_by_the_next_list(self) -> None:
        link = self.peer("bob", asked=True)
        self.hear(link, "192.0.2.2:8002")
        self.hear(link, "192.0.2.2:8009")
        self.assertEqual(self.entry(link).address, address("192.0.2.2:8002"))

    def test_who_has_not_asked_claims_nothing(self) -> None:
        link = self.peer("bob")
        self.hear(link, "192.0.2.2:8002")
        self.assertIsNone(self.entry(link).address)
        # Later it may: it is not known by what it did not do.
        self.entry(link).asked = True
        self.hear(link, "192.0.2.2:8003")
        self.assertEqual(self.entry(link).address, address("192.0.2.2:8003"))

    def test_an_answer_is_no_claim(self) -> None:
        link = self.peer("bob", asked=True)
        self.discovery.ask_all()
        for _ in range(2):
            self.hear(link, "192.0.2.2:8002")
            self.assertIsNone(self.entry(link).address)

    def test_an_answer_on_another_link_does_not_matter(self) -> None:
        """Nor does a link of old, of which this one may have the place."""
        link = self.peer("bob", asked=True)
        other = self.peer("carol", "192.0.2.3")
        self.discovery.introduce(other)
        old = self.peer("dave", "192.0.2.4", asked=True)
        self.discovery.introduce(old)
        self.discovery.link_ended(old)
        self.hear(link, "192.0.2.2:8002")
        self.hear(old, "192.0.2.4:8004")
        self.assertEqual(self.entry(link).address, address("192.0.2.2:8002"))
        self.assertEqual(self.entry(old).address, address("192.0.2.4:8004"))

    def test_where_we_dialled_there_is_nothing_to_claim(self) -> None:
        link = self.peer("bob", direction=Direction.OUTGOING)
        self.discovery.introduce(link)
        for asked in (False, True):
            self.entry(link).asked = asked
            self.hear(link, "192.0.2.2:8002")
            self.assertIsNone(self.entry(link).address)

    def test_a_claim_is_told_to_those_who_may_dial_it(self) -> None:
        far = self.peer("far", "192.0.2.3")
        near = self.peer("near", "127.0.0.1")
        link = self.peer("bob", "127.0.0.1", asked=True)
        self.hear(link, "localhost:9002")
        self.assertEqual(
            far.sent, [PeerList(addresses("192.0.2.1:8001", "192.0.2.1:9002"))]
        )
        self.assertEqual(
            near.sent, [PeerList(addresses("127.0.0.1:8001", "127.0.0.1:9002"))]
        )
        self.assertEqual(link.sent, [])


def _list(message: Message) -> tuple[PeerAddress, ...]:
    assert isinstance(message, PeerList)
    return message.addresses
