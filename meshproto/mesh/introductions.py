"""The handshakes of ``mesh/2``: who is at the far end, and which link to keep."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from meshproto.config import NodeConfig
from meshproto.errors import HandshakeRejected
from meshproto.events import Event, PeerRefused
from meshproto.mesh.dials import Dials
from meshproto.mesh.refusals import REFUSED_BY_IT, REFUSED_BY_US
from meshproto.rules.identity import PeerKey, key_of
from meshproto.rules.interfaces import IPeerLink
from meshproto.rules.pairs import Decision, Established, Pairs, Unwanted, Verdict
from meshproto.rules.registry import Registry, host_key
from meshproto.wire.address import PeerAddress
from meshproto.wire.messages import (
    Greeting,
    Hello,
    Incarnation,
    Message,
    Ready,
    RefusalReason,
    Welcome,
)

#: Nothing proves an identity; a peer merely claims it, like its name.
_PROVEN = False

#: Refusals of an incoming link that are routine, so no event reports them.
_NO_NEWS = {RefusalReason.CROSSING, RefusalReason.OURSELVES}


class Introductions:
    """Has `Pairs` judge each step of a handshake, and carries out its decisions.

    ``max_payload`` is the largest payload that this node takes, in bytes.
    ``own_address`` returns the address at which the far end of a link can dial us.
    ``probe`` is called with a link that may be dead.
    """

    def __init__(
        self,
        config: NodeConfig,
        registry: Registry,
        dials: Dials,
        clock: IReactorTime,
        emit: Callable[[Event], None],
        *,
        identity: str,
        incarnation: Incarnation,
        max_payload: int,
        own_address: Callable[[IPeerLink], PeerAddress | None],
        probe: Callable[[IPeerLink], None],
    ) -> None:
        self._registry = registry
        self._dials = dials
        self._clock = clock
        self._emit = emit
        self._identity = identity
        self._incarnation = incarnation
        self._mesh = config.mesh
        self._headers = tuple(config.headers.items())
        self._max_payload = max_payload
        self._own_address = own_address
        self._probe = probe
        self._pairs: Pairs[IPeerLink] = Pairs(
            identity, incarnation, config.mesh, proven=_PROVEN
        )
        self._heard: dict[IPeerLink, Hello] = {}
        self._seated = 0

    def agreed(self, link: IPeerLink) -> None:
        """Both ends of a link speak ``mesh/2``."""
        self._pairs.opened(link)

    def own_hello(self, link: IPeerLink, own: Greeting, ended: int | None) -> Hello:
        """The hello that this node sends on a link."""
        address = self._own_address(link)
        return Hello(
            identity=self._identity,
            incarnation=self._incarnation,
            link=self._pairs.number_of(link),
            ended=ended,
            id=own.id,
            name=own.name,
            mesh=self._mesh,
            addresses=() if address is None else (address,),
            max_payload=self._max_payload,
            headers=self._headers,
        )

    def judge(self, link: IPeerLink, said: Message) -> Verdict:
        """The verdict on a handshake message from the far end of a link."""
        match said:
            case Hello():
                self._heard[link] = said
                decision = self._pairs.hello(
                    link,
                    link.direction,
                    said,
                    host_key(link),
                    seats=self._seats(),
                    now=self._clock.seconds(),
                )
            case Welcome():
                decision = self._pairs.welcome(link, seats=self._seats())
            case Ready():
                decision = self._pairs.ready(link)
            case _:
                raise TypeError(f"{said!r} is not to be judged")
        return self._carry_out(link, decision)

    def turned_away(self, link: IPeerLink, reason: RefusalReason) -> None:
        """The far end refused our dial."""
        hello = self._heard.get(link)
        if hello is None or link.target is None:
            return
        key = key_of(hello, proven=_PROVEN)
        entry = self._registry.of_key(key)
        if entry is not None:
            self._dials.linked(link, entry)
        elif reason is RefusalReason.CROSSING or (
            reason is RefusalReason.DUPLICATE and self._pairs.has_seat(key)
        ):
            self._dials.crossed(link, key)
        else:
            self._dials.refused(
                link, HandshakeRejected(link.target, REFUSED_BY_IT[reason])
            )

    def link_ended(self, link: IPeerLink) -> None:
        """The link has ended: release what it held."""
        if not self._pairs.is_open(link):
            return
        self._heard.pop(link, None)
        if link.seat is not None:
            self._seated -= 1
        self._pairs.ended(link)
        self._reserve()

    def _seats(self) -> int:
        """How many seats ``mesh/2`` peers may have: all but those of ``mesh/1``."""
        return self._registry.max_peers - (len(self._registry) - self._seated)

    def _reserve(self) -> None:
        self._registry.reserved = len(self._pairs) - self._seated

    def _carry_out(self, link: IPeerLink, decision: Decision[IPeerLink]) -> Verdict:
        verdict = decision.verdict
        if isinstance(verdict, Established):
            self._seat(link, decision.key)
        elif isinstance(verdict, Unwanted):
            self._unwanted(link, decision.key, verdict.reason)
        for closing in decision.closing:
            # Its dial did reach the peer, but the peer may not be announced before
            # READY, so the dial waits.
            self._dials.crossed(closing.link, decision.key)
            closing.link.close(closing.reason)
        for doubtful in decision.probing:
            self._probe(doubtful)
        self._reserve()
        return verdict

    def _seat(self, link: IPeerLink, key: PeerKey) -> None:
        self._seated += 1
        self._registry.seat(key, self._heard[link], link, self._clock.seconds())

    def _unwanted(self, link: IPeerLink, key: PeerKey, reason: RefusalReason) -> None:
        hello = self._heard[link]
        if link.target is None:
            if reason not in _NO_NEWS:
                self._emit(
                    PeerRefused(
                        id=hello.id,
                        name=hello.name,
                        host=link.remote_host,
                        reason=REFUSED_BY_US[reason],
                    )
                )
            return
        entry = self._registry.of_key(key)
        if reason is RefusalReason.OURSELVES:
            self._dials.found_ourselves(link)
        elif reason is RefusalReason.FULL:
            self._dials.no_seat_for(link)
        elif entry is not None:
            self._dials.linked(link, entry)
        elif reason is RefusalReason.CROSSING:
            self._dials.crossed(link, key)
        else:
            self._dials.refused(
                link, HandshakeRejected(link.target, REFUSED_BY_US[reason])
            )
