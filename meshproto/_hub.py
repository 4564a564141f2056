"""Where everything about a node's links comes together.

The hub is the `IPeerHost` of every link: it puts what happens on a link to the
parts that decide (registry, address book, session), carries out what they
decide, and tells the application.  It has no rule of its own.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import assert_never, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshproto._drain import Drains
from meshproto._fanout import Fanout
from meshproto._merger import Merger
from meshproto._throttle import Throttle
from meshproto.address import IPAddress, PeerAddress, Target
from meshproto.addressbook import AddressBook
from meshproto.config import NodeConfig
from meshproto.dialer import (
    Dialer,
    DialReport,
    Failed,
    Linked,
    Ourselves,
    Outcome,
    dial_error,
    events_of,
)
from meshproto.discovery import Discovery
from meshproto.errors import (
    HandshakeRejected,
    MeshFull,
    SelfConnection,
)
from meshproto.events import (
    ChatReceived,
    CloseReason,
    Direction,
    Event,
    NodeError,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
    PingReceived,
    PongReceived,
    new_chat,
    set_peer,
    set_text,
)
from meshproto.factory import MeshClientFactory
from meshproto.interfaces import INetwork, IPeerHost, IPeerLink, LinkLimits
from meshproto.maintenance import Maintenance
from meshproto.registry import (
    Admitted,
    Crossed,
    Drained,
    Duplicate,
    Full,
    Halved,
    Itself,
    Left,
    PeerEntry,
    PendingLinks,
    Registry,
    Replaced,
    Stranger,
    Turned,
    Twin,
    Verdict,
    host_key,
)
from meshproto.wire import (
    Chats,
    Hello,
    Mesh1,
    Message,
    PeerList,
    Ping,
    Pong,
    Refusal,
    RequestPeers,
)

_REFUSED_BECAUSE = {
    Refusal.DUPLICATE: "refused, it still has a link to this node (DUPLICATE)",
    Refusal.MAX_PEERS: "refused, it has no seat left (MAX_PEERS)",
}

#: So many refusals in a row may come of a link that the far end holds to an
#: earlier run of this node.
_DOUBTFUL_DUPLICATES = 4

_DEAD = CloseReason.PROBE_UNANSWERED

_CUT_SHORT = {CloseReason.TIMEOUT, CloseReason.CONNECTION_LOST}

_TURNED_AT_THE_DOOR = {CloseReason.HANDSHAKE_BACKLOG, CloseReason.TOO_MANY_LINKS}

_WORTH_TELLING = {
    CloseReason.PROTOCOL_ERROR,
    CloseReason.LINE_TOO_LONG,
    CloseReason.HANDSHAKE_TIMEOUT,
}


@implementer(IPeerHost)
class Hub:
    """The links of one node, and everybody who has to do with them."""

    log = Logger()

    def __init__(
        self,
        config: NodeConfig,
        clock: IReactorTime,
        network: INetwork,
        rng: random.Random,
    ) -> None:
        self.clock = clock
        self.limits = LinkLimits(
            max_line=config.max_line,
            max_handshake_line=config.max_handshake_line,
            handshake_timeout=config.connection_timeout,
            drain_timeout=config.probe_timeout,
            flush_timeout=config.stop_timeout,
            send_queue=config.send_queue_hard,
            stall_timeout=config.stall_timeout,
        )
        self._codec = Mesh1(
            max_line=config.max_line, max_addresses=config.max_addresses_per_list
        )
        self.registry = Registry("", config.max_peers)
        self.book = AddressBook(
            network.is_own_host,
            rng,
            limit=config.max_addresses,
            limit_per_peer=config.max_addresses_per_peer,
            max_failures=config.max_dial_failures,
        )
        self.dialer = Dialer(
            self.book,
            clock,
            max_dials=config.max_dials,
            timeout=config.connection_timeout,
            connect=self._connect,
            seats=lambda: (len(self.registry), config.max_peers),
            on_report=self._dial_ended,
        )
        self.discovery = Discovery(
            self.registry,
            self.book,
            clock,
            self.emit,
            interval=config.discovery_interval,
            advertised=config.advertised(),
            dial=self.dialer.pump,
        )
        self.maintenance = Maintenance(
            self.registry,
            clock,
            self.emit,
            interval=config.maintenance_interval,
            peer_timeout=config.peer_timeout,
            probe_timeout=config.probe_timeout,
        )
        self.merger = Merger(
            self.registry,
            clock,
            introduce=self.discovery.introduce,
            probe=self.maintenance.probe,
        )
        self.fanout = Fanout(self.registry, clock, self._codec)
        self.drains = Drains(self.registry, clock, config.send_queue_soft)
        self._throttle = Throttle(config, clock, self.emit)
        self._network = network
        self._pending = PendingLinks(config.max_pending, config.max_pending_per_host)
        self._hello: Hello | None = None
        self._subscribers: tuple[Callable[[Event], object], ...] = ()
        self._untold: deque[Event] = deque()
        self._telling = False
        self._open: dict[IPeerLink, None] = {}
        self._pauses: dict[object, None] = {}
        self._unsettled: set[IPeerLink] = set()
        self._twins: dict[IPeerLink, None] = {}
        self._met_ourselves_at = float("-inf")
        self._lingering: dict[IPeerLink, PeerEntry] = {}
        self._closing: Deferred[None] | None = None

    # The application's side

    def subscribe(self, subscriber: Callable[[Event], object]) -> Callable[[], None]:
        """Call ``subscriber`` for every event until the result is called."""
        # A tuple, so that one who leaves while all are told disturbs nobody.
        self._subscribers += (subscriber,)

        def unsubscribe() -> None:
            others = list(self._subscribers)
            if subscriber in others:
                others.remove(subscriber)
                self._subscribers = tuple(others)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell every subscriber; one that raises harms nobody.

        What a subscriber makes happen is told when all have heard of what it
        was told, so that all hear of everything in one order.
        """
        self._untold.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            self._tell_untold()
        finally:
            self._telling = False

    def _tell_untold(self) -> None:
        while self._untold:
            self._tell(self._untold.popleft())

    def _tell(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                self._subscriber_failed(subscriber, event)

    def _emit_chats(
        self, link: IPeerLink, peer: Peer, texts: tuple[str, ...]
    ) -> Chats | None:
        """Emit chat until the link is paused or ends; returns what is left.

        This does for each text what `emit` does, with fewer calls: no other
        part of a node is run as often.
        """
        if self._telling:
            self._untold.extend(ChatReceived(peer=peer, text=text) for text in texts)
            return None
        new, kind, with_peer, with_text = new_chat, ChatReceived, set_peer, set_text
        untold = self._untold
        rest = iter(texts)
        self._telling = True
        try:
            for text in rest:
                event = new(kind)
                with_peer(event, peer)
                with_text(event, text)
                for subscriber in self._subscribers:
                    try:
                        subscriber(event)
                    except Exception:
                        self._subscriber_failed(subscriber, event)
                if untold:
                    self._tell_untold()
                if not link.reading:
                    break
        finally:
            self._telling = False
        left = tuple(rest)
        return Chats(left) if left else None

    def _subscriber_failed(
        self, subscriber: Callable[[Event], object], event: Event
    ) -> None:
        self.log.failure(
            "Subscriber {subscriber} failed on {event}",
            subscriber=subscriber,
            event=event,
        )

    def open(self, hello: Hello, port: int, bound: IPAddress | None) -> None:
        """The node listens on ``port`` of the address ``bound``, and has a name."""
        self._hello = hello
        self.registry.own_id = hello.id
        self.discovery.listening(port, bound)

    def pause(self, reason: object) -> None:
        """Read from no peer until the reason is resumed."""
        self._pauses[reason] = None
        for entry in self.registry.entries():
            for link in entry.links():
                link.pause(reason)

    def resume(self, reason: object) -> None:
        """Take back a `pause`."""
        self._pauses.pop(reason, None)
        for link in tuple(self._open):
            # Next time it is the turn of another one first.
            if self._open.pop(link, False) is None:
                self._open[link] = None
            link.resume(reason)
            if reason in self._pauses:
                # What it had to say was too much again.
                break

    def close(self, reason: CloseReason) -> Deferred[None]:
        """End every link, sending what is queued; fires when all are closed."""
        self._closing = Deferred()
        self.fanout.stop()
        for link in tuple(self._open):
            link.close(reason)
        self._check_closed()
        return self._closing

    # IPeerHost

    def is_own_host(self, host: str) -> bool:
        """Whether the host is this machine."""
        return self._network.is_own_host(host)

    def codec(self) -> Mesh1:
        """The codec of ``mesh/1``."""
        return self._codec

    def own_hello(self) -> Hello:
        """Who this node is."""
        if self._hello is None:
            raise RuntimeError("no link may open before the node listens")
        return self._hello

    def link_opened(self, link: IPeerLink) -> None:
        """Count a new connection; turn it away when there are too many."""
        self._open[link] = None
        if link.target is not None:
            self._unsettled.add(link)
        if self._closing is not None:
            link.close(CloseReason.STOPPED)
        elif link.direction is Direction.INCOMING:
            if not self._throttle.admits(link):
                link.abort(CloseReason.TOO_MANY_LINKS)
                return
            decision = self._pending.add(link)
            if isinstance(decision, Turned):
                link.abort(CloseReason.HANDSHAKE_BACKLOG)
            elif decision.evicted is not None:
                decision.evicted.abort(CloseReason.HANDSHAKE_BACKLOG)

    def hello_received(self, link: IPeerLink, hello: Hello, confirmed: bool) -> Verdict:
        """Have the registry judge the far end of a link."""
        self.fanout.flush()
        now = self.clock.seconds() if confirmed else link.last_heard
        verdict = self.registry.admit(link, hello, now, confirmed=confirmed)
        self._twins.pop(link, None)
        if not isinstance(verdict, Twin):
            self._pending.discard(link)
        match verdict:
            case Admitted() | Crossed():
                pass
            case Twin():
                self._twins[link] = None
            case Replaced(_, old):
                if old.second is not None:
                    old.second.abort(CloseReason.REPLACED)
                old.link.abort(CloseReason.REPLACED)
            case Duplicate(entry):
                self.maintenance.probe(entry.link)
                self._refused(link, hello, Refusal.DUPLICATE)
            case Full():
                self._refused(link, hello, Refusal.MAX_PEERS)
            case Itself():
                self._is_ourselves(link)
            case _:
                assert_never(verdict)
        return verdict

    def link_ready(self, link: IPeerLink) -> None:
        """Announce a new peer, or join the two links of one that we have."""
        entry = self.registry.of_link(link)
        if entry is None:
            # A twin: told and asked for addresses, but not announced.
            if link.direction is Direction.OUTGOING:
                self.discovery.introduce(link)
            return
        self.discovery.locate(entry, link)
        for reason in self._pauses:
            link.pause(reason)
        if entry.second is link:
            self.merger.crossed(entry)
            if entry.link in self._lingering:
                self.merger.far_end_finished(entry, entry.link)
        elif entry.draining is None:
            self.emit(
                PeerConnected(
                    peer=entry.snapshot(),
                    peer_count=len(self.registry),
                    max_peers=self.registry.max_peers,
                )
            )
            if link.direction is Direction.OUTGOING:
                # Of a twin once more: what was told before it was known to be
                # another node could not name the others in the same state.
                self.discovery.introduce(link)
        self._settle(link, Linked(entry.snapshot(), entry.key))
        self._end_lingering()

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        """Hand a message to whom it concerns."""
        entry = self.registry.of_link(link)
        if entry is None:
            self._twin_said(link, message)
            return None
        if not isinstance(message, Pong | PeerList):
            entry.spoke_at = link.last_heard
        if isinstance(message, Chats) and link is not entry.chats_on:
            if self._is_late(entry, link):
                return None
        match message:
            case Chats(texts) if self._throttle.limits_chat:
                allowed = self._throttle.chat(link, entry, len(texts))
                rest = self._emit_chats(link, entry.snapshot(), texts[:allowed])
                left = (rest.texts if rest else ()) + texts[allowed:]
                return Chats(left) if left else None
            case Chats(texts) if self._subscribers:
                return self._emit_chats(link, entry.snapshot(), texts)
            case Ping():
                entry.introduces = False
                self.emit(PingReceived(peer=entry.snapshot()))
            case Pong():
                entry.introduces = False
                self.emit(PongReceived(peer=entry.snapshot()))
            case RequestPeers():
                if self._throttle.heeds(link, entry):
                    self.discovery.answer(link)
                if link.direction is Direction.INCOMING:
                    entry.asked = True
                    entry.introduces = entry.introduces is None
                    self.merger.asked(entry)
            case PeerList():
                if self._throttle.heeds(link, entry):
                    self.discovery.heard(entry, link, message)
                entry.introduces = False
        return None

    def _is_late(self, entry: PeerEntry, link: IPeerLink) -> bool:
        """Give up a peer whose chat comes from a link that it had left.

        Of two links a peer speaks on one, and then perhaps on the other.  What
        still comes from the first was said before what has been heard since.
        """
        if link is entry.left:
            link.abort(CloseReason.REPLACED)
            return True
        if entry.chats_on in entry.links():
            entry.left = entry.chats_on
        entry.chats_on = link
        return False

    def turned_away(self, link: IPeerLink, refusal: Refusal) -> None:
        """The far end refused our dial."""
        target = link.target
        if target is None:
            return
        if refusal is Refusal.DUPLICATE:
            candidates = self._candidates(link, target)
            for entry in candidates:
                self.book.link(target, entry.key, proven=True)
            if len(candidates) == 1:
                entry = candidates[0]
                self.discovery.locate(entry, link)
                self._settle(link, Linked(entry.snapshot(), entry.key))
                return
        error = HandshakeRejected(target, _REFUSED_BECAUSE[refusal])
        self._settle(link, Failed(error))

    def far_end_finished(self, link: IPeerLink) -> bool:
        """Keep a link that is, or may soon be, merged with one that we dialled."""
        entry = self.registry.of_link(link)
        if entry is None:
            return False
        if entry.second is not None:
            return self.merger.far_end_finished(entry, link)
        if not self._may_be_merged(entry):
            return False
        self._lingering[link] = entry
        return True

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """Free what the link held; tell of the peer that is gone."""
        self._pending.discard(link)
        was_twin = link in self._twins
        self._twins.pop(link, None)
        self._lingering.pop(link, None)
        self.maintenance.forget(link)
        self.discovery.forget(link)
        self._throttle.forget(link)
        departure = self.registry.remove(link)
        match departure:
            case Left(entry):
                self._part(entry, reason)
            case Drained(entry) if reason in _CUT_SHORT:
                # Its last words are lost, or come later than the next ones would.
                entry.link.abort(reason)
            case Drained(entry):
                entry.link.resume(link)
            case Halved(entry):
                # What a slow consumer has not taken is lost, and no other link can
                # go on as if nothing had happened.
                lossy = reason in (CloseReason.SLOW_CONSUMER, CloseReason.REPLACED)
                if self.merger.forget(entry) and not lossy:
                    if entry.link.target is not None and self._closing is None:
                        self.discovery.introduce(entry.link)
                elif reason is not _DEAD:
                    # An original: it has forgotten us with the one link.
                    entry.link.close(reason)
            case Stranger():
                if was_twin and link.opened_at <= self._met_ourselves_at:
                    # Our own dial came back by a way that keeps our address.
                    self._is_ourselves(link)
                elif link.target is not None:
                    error = dial_error(link.target, reason, detail)
                    self._settle(link, Failed(error))
                elif reason in _TURNED_AT_THE_DOOR:
                    self.emit(
                        PeerRefused(
                            id="", name="", host=link.remote_host, reason=reason.value
                        )
                    )
                elif reason in _WORTH_TELLING:
                    self.emit(
                        NodeError(
                            context=f"Handshake with {link.remote_host}",
                            error=detail or reason.value,
                        )
                    )
        self._unsettled.discard(link)
        self._end_lingering()
        self.drains.check()

    def link_gone(self, link: IPeerLink) -> None:
        """A connection is closed."""
        self._open.pop(link, None)
        self._check_closed()

    def link_eased(self, link: IPeerLink) -> None:
        """A queue has shrunk."""
        self.drains.check()

    # Dials

    def _connect(self, target: Target) -> Deferred[IPeerLink]:
        if self.book.is_own(target):
            raise SelfConnection(target, "that is this node itself")
        factory = MeshClientFactory(self, target, opened_at=self.clock.seconds())
        connecting = self._network.endpoint(target).connect(factory)
        return cast("Deferred[IPeerLink]", connecting)

    def _dial_ended(self, report: DialReport) -> None:
        self._end_lingering()
        for event in events_of(report):
            self.emit(event)

    def _settle(self, link: IPeerLink, outcome: Outcome) -> None:
        """The dial that made the link has ended; only the first word counts.

        Its address may be dialled anew before the link has ended.
        """
        if link.target is not None and link in self._unsettled:
            self._unsettled.discard(link)
            self.dialer.settle(link.target, outcome)

    def _candidates(self, link: IPeerLink, target: Target) -> tuple[PeerEntry, ...]:
        """The peers that a refusing far end may be: those on its host."""
        here = self.registry.at_host(host_key(link))
        if isinstance(target, PeerAddress):
            named = [e for e in here if e.address and e.address.port == target.port]
            if named:
                return tuple(named)
        if self.book.failures(target) >= _DOUBTFUL_DUPLICATES:
            # A stale link at the far end would have been probed and dropped by
            # now: it is a peer that we reach by another address.
            return here
        return tuple(e for e in here if not (e.address and e.proven))

    def _is_ourselves(self, link: IPeerLink) -> None:
        if link.target is not None:
            error = SelfConnection(link.target, "that is this node itself")
            self._settle(link, Ourselves(error))
        else:
            self._met_ourselves_at = self.clock.seconds()

    def _refused(self, link: IPeerLink, hello: Hello, refusal: Refusal) -> None:
        if link.target is not None:
            error = MeshFull(link.target, "no seat is left for another peer")
            self._settle(link, Failed(error))
        else:
            self.emit(
                PeerRefused(
                    id=hello.id,
                    name=hello.name,
                    host=link.remote_host,
                    reason=refusal.value,
                )
            )

    def _twin_said(self, link: IPeerLink, message: Message) -> None:
        match message:
            case RequestPeers():
                if self._throttle.heeds(link, None):
                    self.discovery.answer(link)
            case PeerList() if self.discovery.is_ourselves(message):
                self._is_ourselves(link)
                link.close(CloseReason.OURSELVES)
            case PeerList():
                link.confirm()
                entry = self.registry.of_link(link)
                if entry is not None:
                    self.discovery.heard(entry, link, message)

    # Peers

    def _may_be_merged(self, entry: PeerEntry) -> bool:
        pending = [self.book.host_of(target) for target in self.dialer.targets()]
        pending += map(host_key, self._twins)
        return self.registry.may_be_merged(entry, pending)

    def _end_lingering(self) -> None:
        for link, entry in tuple(self._lingering.items()):
            if not self._may_be_merged(entry):
                link.close(CloseReason.CLOSED_BY_PEER)

    def _part(self, entry: PeerEntry, reason: CloseReason) -> None:
        if entry.draining is not None:
            entry.draining.abort(reason)
        now = self.clock.seconds()
        self.book.peer_left(entry.key, now, now - entry.connected_at)
        self.emit(PeerDisconnected(peer=entry.snapshot(), reason=reason))
        self.dialer.pump()

    def _check_closed(self) -> None:
        if self._closing is not None and not self._open and not self._closing.called:
            self._closing.callback(None)


def snapshots(registry: Registry) -> tuple[Peer, ...]:
    """Every peer as applications see it."""
    return tuple(entry.snapshot() for entry in registry.entries())
