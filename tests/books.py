"""Address books for tests, and who is in them."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from meshproto.events import KnownAddress
from meshproto.rules.addressbook import (
    AddressBook,
    Forgotten,
    Learned,
    Retry,
)
from meshproto.rules.identity import PeerKey
from meshproto.rules.registry import OWN_HOST
from meshproto.wire.address import PeerAddress, Target, is_loopback
from tests.fakes import peer_key

BOB_HOST = "192.0.2.2"
BOB = peer_key(BOB_HOST, "bob")
EVE = peer_key("192.0.2.3", "eve")
#: A peer on this machine.
NEIGHBOUR = peer_key(OWN_HOST, "neighbour")
#: Where each of them is seen.
HOSTS = {BOB: BOB_HOST, EVE: "192.0.2.3", NEIGHBOUR: "127.0.0.1"}
OWN_HOSTS = {"192.0.2.1", "2001:db8::1"}


def is_own_host(host: str) -> bool:
    return is_loopback(host) or host in OWN_HOSTS


def address(text: str) -> PeerAddress:
    return PeerAddress.parse(text)


def several(count: int, host: str = "198.51.100.1") -> list[PeerAddress]:
    """That many addresses of one host."""
    return [PeerAddress(host, 2000 + number) for number in range(count)]


class Dice(random.Random):
    """Gives what the test says, and counts how often it was asked."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value
        self.draws = 0

    def random(self) -> float:
        self.draws += 1
        return self.value


class BookTestCase(SynchronousTestCase):
    """A book of the standard size, with loaded dice."""

    def setUp(self) -> None:
        self.dice = Dice(0.5)
        self.book = self.make()

    def make(
        self, *, limit: int = 1000, limit_per_peer: int = 64, max_failures: int = 10
    ) -> AddressBook:
        return AddressBook(
            is_own_host,
            self.dice,
            limit=limit,
            limit_per_peer=limit_per_peer,
            max_failures=max_failures,
        )

    def learn(
        self,
        *texts: str,
        source: PeerKey = BOB,
        host: str | None = None,
        now: float = 0.0,
    ) -> Learned:
        """A peer tells addresses; ``host`` is where it is, if it is none of ours."""
        host = host or HOSTS[source]
        return self.book.learn(map(address, texts), source, host, now)

    def fail_dials(
        self, target: Target, times: int, *, now: float = 0.0
    ) -> Retry | Forgotten:
        for _ in range(times):
            self.book.dial_started(target)
            result = self.book.dial_failed(target, now, lonely=False)
        return result

    def entry(self, target: Target) -> KnownAddress:
        (found,) = (each for each in self.book.known() if each.target == target)
        return found

    def targets(self) -> list[Target]:
        return [each.target for each in self.book.known()]
