"""How the addresses of peers travel through the mesh.

On every new link the dialler asks and shares at once, and what is learned is
dialled at once, so a mesh completes without a timer.  The discovery loop, which
this module owns, heals what that path has missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from meshproto._loop import Loop
from meshproto.address import PeerAddress, is_loopback
from meshproto.addressbook import AddressBook, disclosed
from meshproto.events import (
    Direction,
    Event,
    PeerListReceived,
    PeerRequestReceived,
    PeerRequestSent,
    PeersDiscovered,
)
from meshproto.interfaces import IPeerLink
from meshproto.registry import PeerEntry, Registry
from meshproto.wire import MAX_ADDRESSES, PeerList, RequestPeers


class Discovery:
    """Asks for addresses, tells addresses, and puts what it hears into the book.

    ``own_address`` gives the address at which the far end of a link may dial
    us, None when there is none; ``dial`` is called when there may be something
    new to dial.
    """

    def __init__(
        self,
        registry: Registry,
        book: AddressBook,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        interval: float,
        own_address: Callable[[IPeerLink], PeerAddress | None],
        dial: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._book = book
        self._clock = clock
        self._emit = emit
        self._own_address = own_address
        self._dial = dial
        self._loop = Loop(clock, interval, self._round)

    def start(self) -> None:
        """Begin the rounds."""
        self._loop.start()

    def stop(self) -> None:
        """End the rounds."""
        self._loop.stop()

    def ask_all(self) -> int:
        """Ask every peer; returns how many there are."""
        entries = self._registry.entries()
        for entry in entries:
            self._ask(entry.link)
            self._emit(PeerRequestSent(peer=entry.snapshot()))
        return len(entries)

    def introduce(self, link: IPeerLink) -> None:
        """The dialler's first words on a new link: ask, and share back."""
        self._ask(link)
        self._tell(link)

    def answer(self, link: IPeerLink) -> None:
        """The far end of a link asked."""
        self._tell(link)
        entry = self._registry.of_link(link)
        if entry is not None:
            self._emit(PeerRequestReceived(peer=entry.snapshot()))

    def heard(self, entry: PeerEntry, link: IPeerLink, told: PeerList) -> None:
        """A peer told addresses."""
        if told.addresses:
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

    def is_ourselves(self, told: PeerList) -> bool:
        """Whether a far end that has our ID also has our address."""
        return bool(told.addresses) and self._book.is_own(told.addresses[0])

    def _round(self) -> None:
        self.ask_all()
        self._dial()

    def _ask(self, link: IPeerLink) -> None:
        link.send(RequestPeers())

    def _tell(self, link: IPeerLink) -> None:
        for told in self._lists(link):
            link.send(told)

    def _consider_claim(
        self, entry: PeerEntry, link: IPeerLink, first: PeerAddress
    ) -> None:
        # The original's first entry is somebody else, so this is only a claim:
        # shown and shared, but dialled all the same, which proves it or not.
        if entry.address is not None or link.direction is Direction.OUTGOING:
            return
        if first.host != link.remote_host and not (
            is_loopback(first.host) or (link.same_machine and self._is_here(first))
        ):
            return
        entry.address = PeerAddress.of(link.remote_host, first.port)
        # Whoever asked before could not be told of this peer.
        for other in self._registry.entries():
            if other is not entry:
                told = self._disclose(entry, other.link)
                if told is not None:
                    own = self._own_address(other.link)
                    other.link.send(PeerList((own, told) if own else (told,)))

    def _is_here(self, address: PeerAddress) -> bool:
        return self._book.is_here(address.host)

    def _lists(self, link: IPeerLink) -> Iterator[PeerList]:
        own = self._own_address(link)
        head = (own,) if own is not None else ()
        others: dict[PeerAddress, None] = {}
        for entry in self._registry.entries():
            if entry.link is not link and entry.draining is not link:
                told = self._disclose(entry, link)
                if told is not None and told != own:
                    others[told] = None
        addresses = tuple(others)
        step = MAX_ADDRESSES - len(head)
        for start in range(0, max(1, len(addresses)), step):
            yield PeerList(head + addresses[start : start + step])

    def _disclose(self, entry: PeerEntry, to: IPeerLink) -> PeerAddress | None:
        if entry.address is None:
            return None
        # A name means something only here; the host that we see holds for all.
        return disclosed(
            PeerAddress.of(entry.link.remote_host, entry.address.port),
            ours=entry.link.same_machine,
            to_own_host=to.same_machine,
            local_host=to.local_host,
        )
