"""Where everything about a node's links comes together.

The hub is the `IPeerHost` of every link: it puts what happens on a link to the
parts that decide (registry, address book, session), carries out what they
decide, and tells the application.  It has no rule of its own.
"""

from __future__ import annotations

import random
from typing import assert_never, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshproto.config import NodeConfig
from meshproto.errors import (
    HandshakeRejected,
    MeshFull,
    SelfConnection,
)
from meshproto.events import (
    CloseReason,
    Direction,
    NodeError,
    PeerConnected,
    PeerDisconnected,
    PeerRefused,
    PingReceived,
    PongReceived,
)
from meshproto.interfaces import INetwork
from meshproto.link.factory import MeshClientFactory
from meshproto.link.interfaces import IPeerHost, LinkLimits
from meshproto.mesh.announcer import Announcer
from meshproto.mesh.dialer import (
    Dialer,
    DialReport,
    Failed,
    Linked,
    Outcome,
    dial_error,
    events_of,
)
from meshproto.mesh.discovery import Discovery
from meshproto.mesh.drain import Drains
from meshproto.mesh.fanout import Fanout
from meshproto.mesh.maintenance import Maintenance
from meshproto.mesh.merger import Merger
from meshproto.mesh.throttle import Throttle
from meshproto.rules.addressbook import AddressBook
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pending import PendingLinks, Turned
from meshproto.rules.registry import (
    Admitted,
    Crossed,
    Drained,
    Duplicate,
    Full,
    Halved,
    Itself,
    Left,
    PeerEntry,
    Registry,
    Replaced,
    Stranger,
    Twin,
    Verdict,
    host_key,
)
from meshproto.rules.turns import Turns
from meshproto.wire.address import IPAddress, PeerAddress, Target
from meshproto.wire.interfaces import IWire
from meshproto.wire.mesh1 import Mesh1
from meshproto.wire.messages import (
    Chats,
    Greeting,
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
        self.turns = Turns()
        self.announcer = Announcer(clock)
        self._emit = self.announcer.emit
        self.limits = LinkLimits(
            max_handshake_line=config.max_handshake_line,
            handshake_timeout=config.connection_timeout,
            drain_timeout=config.probe_timeout,
            flush_timeout=config.stop_timeout,
            send_queue=config.send_queue_hard,
            stall_timeout=config.stall_timeout,
        )
        self._wire = Mesh1(
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
            self._emit,
            interval=config.discovery_interval,
            advertised=config.advertised(),
            dial=self.dialer.pump,
        )
        self.maintenance = Maintenance(
            self.registry,
            clock,
            self._emit,
            interval=config.maintenance_interval,
            peer_timeout=config.peer_timeout,
            probe_timeout=config.probe_timeout,
        )
        self.merger = Merger(
            self.registry,
            clock,
            pending=self._pending_hosts,
            introduce=self.discovery.introduce,
            probe=self.maintenance.probe,
        )
        self.fanout = Fanout(self.registry, clock, self._wire)
        self.drains = Drains(self.registry, clock, config.send_queue_soft)
        self._throttle = Throttle(config, clock, self._emit)
        self._network = network
        self._pending = PendingLinks(config.max_pending, config.max_pending_per_host)
        self._hello: Greeting | None = None
        self._open: dict[IPeerLink, None] = {}
        self._pauses: dict[object, None] = {}
        self._unsettled: set[IPeerLink] = set()
        self._twins: dict[IPeerLink, None] = {}
        self._met_ourselves_at = float("-inf")
        self._closing: Deferred[None] | None = None

    # The application's side

    def open(self, hello: Greeting, port: int, bound: IPAddress | None) -> None:
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
            if link in self._open:
                # Next time it is the turn of another one first.
                self._open[link] = self._open.pop(link)
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

    def wire(self) -> IWire:
        """``mesh/1``."""
        return self._wire

    def own_greeting(self) -> Greeting:
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

    def greeting_received(
        self, link: IPeerLink, hello: Greeting, confirmed: bool
    ) -> Verdict:
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
        if entry.second is link:
            self.merger.crossed(entry)
        elif entry.draining is None:
            self._emit(
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
        self.merger.review()
        for reason in tuple(self._pauses):
            link.pause(reason)

    def message_received(self, link: IPeerLink, message: Message) -> Message | None:
        """Hand a message to whom it concerns."""
        entry = self.registry.of_link(link)
        if entry is None:
            self._twin_said(link, message)
            return None
        if isinstance(message, Chats):
            if entry.speaks_elsewhere(link):
                return message
            return self._chats_received(link, entry, message.texts)
        ends_introduction = entry.hears(link, message)
        match message:
            case Ping():
                self._emit(PingReceived(peer=entry.snapshot()))
            case Pong():
                self._emit(PongReceived(peer=entry.snapshot()))
            case RequestPeers():
                if self._throttle.heeds(link, entry):
                    self.discovery.answer(link)
                if link.direction is Direction.INCOMING:
                    self.merger.asked(entry)
            case PeerList():
                if self._throttle.heeds(link, entry):
                    self.discovery.heard(entry, link, message, ends_introduction)
        return None

    def _chats_received(
        self, link: IPeerLink, entry: PeerEntry, texts: tuple[str, ...]
    ) -> Chats | None:
        if not entry.chats(link):
            # It comes from a link that the peer had left: others are ahead of it.
            link.abort(CloseReason.REPLACED)
            return None
        too_many: tuple[str, ...] = ()
        if self._throttle.limits_chat:
            allowed = self._throttle.chat(link, entry, len(texts))
            texts, too_many = texts[:allowed], texts[allowed:]
        left = self.announcer.emit_chats(link, entry.snapshot(), texts)
        if self._throttle.limits_chat:
            self._throttle.chatted(link, entry, len(left), bool(too_many))
        left += too_many
        return Chats(left) if left else None

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
        because = _REFUSED_BECAUSE[refusal]
        if refusal is Refusal.DUPLICATE and self._is_doubtful(target):
            because = (
                "refused (DUPLICATE), another node seems to use "
                f"the ID {self.registry.own_id}: give this one another ID"
            )
        self._settle(link, Failed(HandshakeRejected(target, because)))

    def far_end_finished(self, link: IPeerLink) -> bool:
        """Keep a link that is, or may soon be, merged with one that we dialled."""
        entry = self.registry.of_link(link)
        return entry is not None and self.merger.far_end_finished(entry, link)

    def link_ended(self, link: IPeerLink, reason: CloseReason, detail: str) -> None:
        """Free what the link held; tell of the peer that is gone."""
        self._pending.discard(link)
        was_twin = link in self._twins
        self._twins.pop(link, None)
        self.maintenance.forget(link)
        self.discovery.forget(link)
        self._throttle.forget(link)
        departure = self.registry.remove(link)
        match departure:
            case Left(entry):
                self._part(entry, reason)
            case Drained(entry) if departure.loses_words(reason):
                entry.link.abort(reason)
            case Drained(entry):
                entry.link.resume(link)
            case Halved(entry):
                if self.merger.forget(entry) and not departure.loses_words(reason):
                    if entry.link.target is not None and self._closing is None:
                        self.discovery.introduce(entry.link)
                elif reason is not _DEAD:
                    # An original: it has forgotten us with the one link.
                    entry.link.close(reason)
            case Stranger():
                if was_twin and link.opened_at <= self._met_ourselves_at:
                    # Our own dial came back by a way that keeps our address.
                    self._is_ourselves(link)
                elif link.target is None:
                    self._tell_of_stranger(link, reason, detail)
        if link.target is not None:
            # Settles the dial, unless that has been done.
            error = dial_error(link.target, reason, detail)
            self._settle(link, Failed(error))
        self.merger.review()
        self.drains.check()

    def _tell_of_stranger(
        self, link: IPeerLink, reason: CloseReason, detail: str
    ) -> None:
        host = link.remote_host
        if reason in _TURNED_AT_THE_DOOR:
            self._emit(PeerRefused(id="", name="", host=host, reason=reason.value))
        elif reason in _WORTH_TELLING:
            error = detail or reason.value
            self._emit(NodeError(context=f"Handshake with {host}", error=error))

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
        self.merger.review()
        for event in events_of(report):
            self._emit(event)

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
        if self._is_doubtful(target):
            # It is a peer that we reach by another address.
            return here
        return tuple(e for e in here if not (e.address and e.proven))

    def _is_doubtful(self, target: Target) -> bool:
        """Whether a far end that says DUPLICATE means another node than us.

        It would have probed and dropped a stale link to this one by now.
        """
        return self.book.failures(target) >= _DOUBTFUL_DUPLICATES

    def _is_ourselves(self, link: IPeerLink) -> None:
        if link.target is not None:
            error = SelfConnection(link.target, "that is this node itself")
            self._settle(link, Failed(error))
        else:
            self._met_ourselves_at = self.clock.seconds()

    def _refused(self, link: IPeerLink, hello: Greeting, refusal: Refusal) -> None:
        if link.target is not None:
            error = MeshFull(link.target, "no seat is left for another peer")
            self._settle(link, Failed(error))
        else:
            self._emit(
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

    def _pending_hosts(self) -> list[str | None]:
        """The hosts of our dials that have not ended, None where unknown."""
        dialled = [self.book.host_of(target) for target in self.dialer.targets()]
        return [*dialled, *map(host_key, self._twins)]

    def _part(self, entry: PeerEntry, reason: CloseReason) -> None:
        if entry.draining is not None:
            entry.draining.abort(reason)
        now = self.clock.seconds()
        self.book.peer_left(entry.key, now, now - entry.connected_at)
        self._emit(PeerDisconnected(peer=entry.snapshot(), reason=reason))
        self.dialer.pump()

    def _check_closed(self) -> None:
        if self._closing is not None and not self._open and not self._closing.called:
            self._closing.callback(None)
