"""How the addresses of peers spread through the mesh.

On every new link the dialler asks for addresses and shares its own at once, and new
addresses are dialled at once, so a mesh completes without a timer.  The discovery
loop, which this module owns, repairs what that path misses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from twisted.internet.interfaces import IReactorTime

from meshproto.events import (
    CloseReason,
    Direction,
    Event,
    PeerListReceived,
    PeerRequestReceived,
    PeerRequestSent,
    PeersDiscovered,
)
from meshproto.mesh.feature import Feature, Handler
from meshproto.mesh.loop import Loop
from meshproto.mesh.throttle import Throttle
from meshproto.rules.addressbook import AddressBook, disclosed
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.registry import PeerEntry, Registry, host_key
from meshproto.wire.address import MAX_PORT, IPAddress, PeerAddress, ip_of, is_loopback
from meshproto.wire.messages import MAX_ADDRESSES, PeerList, RequestPeers

_ID_WITH_PORT = re.compile(r"peer-([0-9]{1,5})\Z")


class Discovery(Feature):
    """Asks for addresses, shares addresses, and enters what it learns in the book.

    ``advertised`` is the host to give to peers, and the port if it is not the bound
    one.  ``dial`` is called when there may be something new to dial.
    """

    def __init__(
        self,
        registry: Registry,
        book: AddressBook,
        throttle: Throttle,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        interval: float,
        advertised: tuple[str, int | None] | None,
        dial: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._book = book
        self._throttle = throttle
        self._clock = clock
        self._emit = emit
        self._advertised = advertised
        self._dial = dial
        self._loop = Loop(clock, interval, self._round)
        self._asked: set[IPeerLink] = set()
        self._introduced: dict[PeerEntry, None] = {}
        self._port = 0
        self._bound: str | None = None

    def listening(self, port: int, bound: IPAddress | None) -> None:
        """The node now listens on ``port``, 0 if it has none.

        ``bound`` is the address it listens on, perhaps the wildcard address; None
        without TCP.
        """
        self._port = self._book.own_port = port
        self._bound = None if bound is None else str(bound)
        advertised = self._advertised_address()
        if advertised is not None:
            self._book.disown(advertised)

    def handlers(self) -> Mapping[type, Handler]:
        """Requests for addresses, and lists of addresses."""
        return {RequestPeers: self._asked_for, PeerList: self._told}

    def peer_joined(self, entry: PeerEntry, link: IPeerLink) -> None:
        """The dialler speaks first."""
        if link.direction is Direction.OUTGOING:
            self.introduce(link)

    def peer_left(self, entry: PeerEntry, reason: CloseReason) -> None:
        """Forget that the peer has been introduced to others."""
        self._introduced.pop(entry, None)

    def link_ended(self, link: IPeerLink) -> None:
        """Forget that addresses were asked for on the link."""
        self._asked.discard(link)

    def start(self) -> None:
        """Begin the rounds."""
        self._loop.start()

    def stop(self) -> None:
        """End the rounds."""
        self._loop.stop()

    def locate(self, entry: PeerEntry, link: IPeerLink) -> None:
        """Record where a peer listens, as far as a link to it shows.

        An address that we dialled is proven.  For a peer that dialled us, its claim
        or an ID of the form ``peer-<port>`` gives the port.
        """
        if isinstance(link.target, PeerAddress):
            seen = PeerAddress.of(link.remote_host, link.target.port)
            entry.address, entry.proven = link.target, True
            for address in dict.fromkeys((link.target, seen)):
                self._book.link(address, entry.key, proven=True)
            for other in self._registry.entries():
                if other is not entry and not other.proven and other.address == seen:
                    other.address = None
        elif entry.address is None and link.direction is Direction.INCOMING:
            claim = self._claim(entry, link, entry.said[0]) if entry.said else None
            port = port_in(entry.id)
            if claim is None and port is not None:
                claim = PeerAddress.of(link.remote_host, port)
            if claim is not None:
                entry.address = claim
                self._book.link(claim, entry.key, proven=False)

    def own_address(self, link: IPeerLink) -> PeerAddress | None:
        """The address at which the far end of a link can dial us, None if none."""
        advertised = self._advertised_address()
        if advertised is not None or not self._port:
            return advertised
        host = self._reachable_at(link)
        return None if host is None else PeerAddress.of(host, self._port)

    def _reachable_at(self, link: IPeerLink) -> str | None:
        """The host at which the far end of a link reaches our port, None if none."""
        bound = None if self._bound is None else ip_of(self._bound)
        if bound is None or not bound.is_unspecified:
            host = self._bound or link.local_host
            return None if is_loopback(host) and not link.same_machine else host
        local = ip_of(link.local_host)
        if bound.version == 4 and local is not None and local.version == 6:
            # The link uses IPv6, but we listen on IPv4 only.
            return "127.0.0.1" if link.same_machine else None
        return link.local_host

    def ask_all(self) -> int:
        """Ask every peer for addresses; returns how many were asked."""
        entries = self._registry.entries()
        for entry in entries:
            self._ask(entry.link)
            self._emit(PeerRequestSent(peer=entry.snapshot()))
        return len(entries)

    def introduce(self, link: IPeerLink) -> None:
        """Ask for addresses and share ours, as the dialler of a new link."""
        self._ask(link, *self._first_lists(link))
        entry = self._registry.of_link(link)
        if entry is not None:
            self._emit(PeerRequestSent(peer=entry.snapshot()))

    def _asked_for(
        self, link: IPeerLink, entry: PeerEntry, request: RequestPeers
    ) -> None:
        entry.hears(link, request)
        if self._throttle.heeds(link, entry):
            self.answer(link)

    def _told(self, link: IPeerLink, entry: PeerEntry, told: PeerList) -> None:
        ends_introduction = entry.hears(link, told)
        if self._throttle.heeds(link, entry):
            self.heard(entry, link, told, ends_introduction)

    def answer(self, link: IPeerLink) -> None:
        link.send(*self._first_lists(link))
        entry = self._registry.of_link(link)
        if entry is not None:
            self._emit(PeerRequestReceived(peer=entry.snapshot()))

    def heard(
        self,
        entry: PeerEntry,
        link: IPeerLink,
        told: PeerList,
        ends_introduction: bool = False,
    ) -> None:
        """A peer sent addresses; see `PeerEntry.hears` for ``ends_introduction``."""
        # An answer from the original program does not begin with its own address.
        if told.addresses and (ends_introduction or link not in self._asked):
            self._consider_claim(entry, link, told.addresses[0])
        learned = self._book.learn(
            told.addresses, entry.key, link.remote_host, self._clock.seconds()
        )
        peer = entry.snapshot()
        self._emit(
            PeerListReceived(
                peer=peer,
                addresses=told.addresses,
                skipped=told.skipped + learned.skipped,
            )
        )
        if learned.new:
            self._emit(
                PeersDiscovered(
                    peer=peer, count=learned.new, total_known=len(self._book)
                )
            )
        self._dial()

    def _advertised_address(self) -> PeerAddress | None:
        if self._advertised is None:
            return None
        host, port = self._advertised
        port = port or self._port
        return PeerAddress.of(host, port) if port else None

    def _round(self) -> None:
        self.ask_all()
        self._dial()

    def _ask(self, link: IPeerLink, *shared: PeerList) -> None:
        self._asked.add(link)
        link.send(RequestPeers(), *shared)

    def _consider_claim(
        self, entry: PeerEntry, link: IPeerLink, first: PeerAddress
    ) -> None:
        # This is only a claim: it is shown and shared, and dialled to prove it.  The
        # original program's first entry is another peer, but it shares before it
        # asks, so it does not get past this check.
        if entry.address is not None or not entry.asked:
            return
        claim = self._claim(entry, link, first)
        if claim is None:
            return
        entry.address = claim
        # Peers that asked earlier could not be told of this one.
        for other in self._registry.entries():
            if other is not entry:
                told = self._disclose(entry, other.link)
                if told is not None:
                    own = self.own_address(other.link)
                    other.link.send(PeerList((own, told) if own else (told,)))

    def _claim(
        self, entry: PeerEntry, link: IPeerLink, first: PeerAddress
    ) -> PeerAddress | None:
        """Where a peer says it listens; None if that cannot be true."""
        if first.host != link.remote_host and not (
            is_loopback(first.host) or (link.same_machine and self._is_here(first))
        ):
            return None
        claim = PeerAddress.of(link.remote_host, first.port)
        if self._book.is_own(claim) or self._is_of_another(claim, entry):
            return None
        return claim

    def _is_of_another(self, claim: PeerAddress, entry: PeerEntry) -> bool:
        return any(
            other.address is not None and other.address.port == claim.port
            for other in self._registry.at_host(host_key(entry.link))
            if other is not entry
        )

    def _is_here(self, address: PeerAddress) -> bool:
        return self._book.is_here(address.host)

    def _first_lists(self, link: IPeerLink) -> Iterator[PeerList]:
        """The first lists sent on a link; later ones name every peer.

        A new peer is told only of those that came before it, so that of two peers
        only the later one dials.  A ``mesh/1`` peer is told of everybody: it has not
        said where it listens, so others are told of it later.
        """
        asking = self._registry.of_link(link)
        if asking is None or asking.said is None or asking in self._introduced:
            return self._lists(link, self._registry.entries())
        self._introduced[asking] = None
        entries = self._registry.entries()
        return self._lists(link, entries[: entries.index(asking)])

    def _lists(
        self, link: IPeerLink, entries: Iterable[PeerEntry]
    ) -> Iterator[PeerList]:
        own = self.own_address(link)
        head = (own,) if own is not None else ()
        asking = self._registry.of_link(link)
        told = {
            self._disclose(entry, link): None
            for entry in entries
            if entry is not asking
        }
        told.pop(own, None)
        addresses = tuple(address for address in told if address is not None)
        step = MAX_ADDRESSES - len(head)
        for start in range(0, max(1, len(addresses)), step):
            yield PeerList(head + addresses[start : start + step])

    def _disclose(self, entry: PeerEntry, to: IPeerLink) -> PeerAddress | None:
        address, link = entry.address, entry.link
        if address is None:
            return None
        if address.host != link.remote_host:
            # A host name may mean something only here; the IP address we see is
            # good for others, too.
            address = PeerAddress.of(link.remote_host, address.port)
        return disclosed(address, link.same_machine, to.same_machine, to.local_host)


def port_in(id: str) -> int | None:
    """The port in an ID of the form ``peer-<port>``, else None."""
    match = _ID_WITH_PORT.match(id)
    port = int(match[1]) if match else 0
    return port if 1 <= port <= MAX_PORT else None
