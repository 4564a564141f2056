"""Decides which lines are shown, so that no peer can fill a disk or a screen.

Every line that a peer causes takes three tokens: one of its source, one of its host,
and one of all hosts together.  A line without its tokens is not even made, only
counted.  Ten seconds later, one line says how many were left out, and who is
connected if peers came and went.

For what a peer says, the source is the peer.  For peers that come and go, it is
their host, so connecting under a new ID each time does not help.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil, inf

from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    ChatReceived,
    ChatsReceived,
    CloseReason,
    ConnectionFailed,
    DataReceived,
    DebugEvent,
    DialAttemptFailed,
    Event,
    NodeError,
    NodeStarted,
    Peer,
    PeerConnected,
    PeerDisconnected,
    PeerListReceived,
    PeerReaped,
    PeerRefused,
    PeerRequestReceived,
    PeersDiscovered,
    PeerThrottled,
    PingReceived,
    PongReceived,
)
from meshproto.rules.ratelimit import SourceLimit, TokenBucket, source_of
from meshproto.run.render import Narrator
from meshproto.run.visible import visible

#: Seconds after which one line sums up what was left out of a source.
WINDOW = 10.0
#: How many sources, hosts and seeds to remember, each.
MAX_KEPT = 1000
#: How many names a summary lists.
MAX_NAMED = 10
#: Seconds between lines about a seed that stays dead: the first pause, the longest.
SEED_PAUSE, MAX_SEED_PAUSE = 30.0, 3600.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Lines per second, and in a burst."""

    per_second: float
    at_once: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How many lines are shown.

    ``chat`` limits what one peer says; None means no limit.  ``moves`` limits, per
    host, lines about peers that come and go and the addresses they send.  ``host``
    limits all lines of one host, ``everything`` those of all hosts.
    """

    chat: Rate | None
    moves: Rate
    host: Rate
    everything: Rate


#: For a log: generous to people, but never more than 100 lines a second.
LOG = Rates(
    chat=Rate(10, 100),
    moves=Rate(10, 200),
    host=Rate(50, 500),
    everything=Rate(100, 1000),
)
#: For a person reading along.  A page that a peer pastes is shown whole.
SCREEN = Rates(
    chat=Rate(5, 100),
    moves=Rate(5, 50),
    host=Rate(20, 200),
    everything=Rate(30, 400),
)
#: For a program that reads what peers say.
PIPE = replace(LOG, chat=None)

#: For failed handshakes from one host, and for each seed,
ERRORS = Rate(1 / WINDOW, 50)
#: and for each kind of chatter of one peer.
CHATTER = Rate(1 / WINDOW, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut(Event):
    """``count`` lines of one peer, one host or many sources were left out."""

    count: int
    peer: Peer | None = None
    host: str = ""


def shown_kinds(debug: bool) -> tuple[type[Event], ...]:
    """The kinds of events to pass to `Quiet`; wire chatter only with ``debug``.

    They include chat in runs: most of a flood is not shown, so it need not become
    one event per message.
    """
    kinds = (
        NodeStarted,
        NodeError,
        BootstrapSucceeded,
        BootstrapFailed,
        PeerConnected,
        PeerDisconnected,
        PeerReaped,
        PeersDiscovered,
        ChatsReceived,
        DataReceived,
        PeerThrottled,
        ConnectionFailed,
    )
    return (*kinds, DebugEvent) if debug else kinds


#: A kind of event, and what identifies its source.
_Key = tuple[type[Event] | str, ...]


class _Source:
    """What one source may still show, and what has been left out."""

    __slots__ = ("about", "bucket", "dry_until", "host", "last", "left_out", "since")

    def __init__(self, host: str, bucket: TokenBucket) -> None:
        self.host = host
        self.bucket = bucket
        self.left_out = 0
        self.since = self.last = self.dry_until = 0.0
        self.about: Event | Peer | None = None


class _Seed:
    """A bootstrap address that does not answer."""

    __slots__ = ("next_at", "pause", "reason")

    def __init__(self, reason: str, now: float) -> None:
        self.reason = reason
        self.pause = SEED_PAUSE
        self.next_at = now + SEED_PAUSE


class Quiet:
    """Decides which events are shown, and has ``narrator`` make their lines.

    ``now`` returns the time in seconds; if the clock is set back, time stands still.
    With ``debug``, every failure of a seed is shown.
    """

    def __init__(
        self,
        narrator: Narrator,
        now: Callable[[], float],
        rates: Rates,
        *,
        debug: bool = False,
    ) -> None:
        self._narrator = narrator
        self._now = now
        self._rates = rates
        self._debug = debug
        self._read_at = now()
        self._time = 0.0
        everything = rates.everything
        self._everything = TokenBucket(everything.per_second, everything.at_once, 0.0)
        self._hosts = SourceLimit(
            rates.host.per_second, rates.host.at_once, max_sources=MAX_KEPT
        )
        self._sources: OrderedDict[_Key, _Source] = OrderedDict()
        #: Sources with lines left out, longest-waiting first.
        self._untold: OrderedDict[_Key, _Source] = OrderedDict()
        self._due_at = inf
        self._seeds: OrderedDict[str, _Seed] = OrderedDict()
        #: Lines left out of sources that get no summary of their own.
        self._others = self._others_lines = 0
        self._others_at = inf

    def lines(self, event: Event) -> Sequence[tuple[Event, str]]:
        """The lines to show for an event, each with its event.

        Each message of a `ChatsReceived` is a line with a `ChatReceived`.  Summaries
        that are due come first.
        """
        now = self._advance()
        told = self._due(now, now) if now >= self._due_at else []
        match event:
            case ChatReceived() | DataReceived():
                if self._takes_chat(event.peer, now, 1):
                    self._tell(event, told)
            case ChatsReceived(peer=peer, texts=texts):
                for text in texts[: self._takes_chat(peer, now, len(texts))]:
                    self._tell(ChatReceived(peer=peer, text=text), told)
            case DebugEvent() if not self._debug:
                pass
            case _ if self._is_shown(event, now):
                self._tell(event, told)
            case _:
                self._narrator.skip(event)
        return told

    def wait(self) -> float | None:
        """Seconds until the next summary is due; None if there is none."""
        if self._due_at == inf:
            return None
        return max(self._due_at - self._advance(), 0.0)

    def due(self) -> Sequence[tuple[Event, str]]:
        """The summaries that are due by now."""
        now = self._advance()
        return self._due(now, now)

    def rest(self) -> Sequence[tuple[Event, str]]:
        """All remaining summaries, due or not; for the end of the program."""
        return self._due(self._advance(), inf)

    def _advance(self) -> float:
        read = self._now()
        if read > self._read_at:
            self._time += read - self._read_at
        self._read_at = read
        return self._time

    def _tell(self, event: Event, told: list[tuple[Event, str]]) -> None:
        line = self._narrator.line(event)
        if line is not None:
            told.append((event, line))

    def _takes_chat(self, peer: Peer, now: float, lines: int) -> int:
        """How many of a peer's messages to show; counts the rest as left out."""
        rate = self._rates.chat
        if rate is None:
            return lines
        key = ChatReceived, peer.id, peer.host
        return self._take(key, rate, peer.host, peer, now, lines)

    def _is_shown(self, event: Event, now: float) -> bool:
        """Whether to show an event other than chat now."""
        if isinstance(event, BootstrapFailed):
            if self._debug:
                return True
            if not self._is_news(event, now):
                return False
        elif isinstance(event, BootstrapSucceeded):
            self._seeds.pop(str(event.target), None)
        source = self._source(event)
        return source is None or self._take(*source, event, now) == 1

    def _source(self, event: Event) -> tuple[_Key, Rate, str] | None:
        """An event's source, its rate and its host; None if it needs no limit."""
        match event:
            case PeerDisconnected(reason=CloseReason.STOPPED):
                return None
            case PeerConnected(peer=peer) | PeerDisconnected(peer=peer):
                key = PeerConnected, source_of(peer.host)
                return key, self._rates.moves, peer.host
            case PeersDiscovered(peer=peer) | PeerThrottled(peer=peer):
                return (type(event), source_of(peer.host)), self._rates.moves, peer.host
            case NodeError(context=context):
                return (NodeError, context), ERRORS, context
            case BootstrapFailed(target=target) | BootstrapSucceeded(target=target):
                return (type(event), str(target)), ERRORS, str(target)
            case PeerRefused(host=host):
                return (PeerRefused, source_of(host)), CHATTER, host
            case DialAttemptFailed(target=target):
                return (DialAttemptFailed, str(target)), CHATTER, str(target)
            case (
                PingReceived(peer=peer)
                | PongReceived(peer=peer)
                | PeerRequestReceived(peer=peer)
                | PeerListReceived(peer=peer)
            ):
                return (type(event), peer.id, peer.host), CHATTER, peer.host
            case _:
                # The node's own doing, or as rare as a dead peer.
                return None

    def _take(
        self,
        key: _Key,
        rate: Rate,
        host: str,
        about: Event | Peer,
        now: float,
        wanted: int = 1,
    ) -> int:
        """How many of the wanted lines to show; counts the rest as left out.

        ``about`` is kept for their summary.
        """
        source = self._sources.get(key)
        if source is None:
            self._forget_some(now)
            bucket = TokenBucket(rate.per_second, rate.at_once, now)
            source = self._sources[key] = _Source(host, bucket)
        elif source.left_out and now < source.dry_until:
            # The fast path: a flood comes here up to a million times a second.
            source.left_out += wanted
            source.last = now
            source.about = about
            return 0
        else:
            self._sources.move_to_end(key)
        taken = source.bucket.take(now, wanted)
        if taken:
            taken = self._room(source.host, now, taken)
        if taken < wanted:
            if not source.left_out:
                source.since = now
                self._untold[key] = source
                self._due_at = min(self._due_at, now + WINDOW)
            source.left_out += wanted - taken
            source.last = now
            source.about = about
            source.dry_until = now + source.bucket.wait(now)
        return taken

    def _room(self, host: str, now: float, wanted: int) -> int:
        """How many lines of a host may be shown among all others."""
        host = source_of(host)
        allowed = 0
        while allowed < wanted and self._hosts.allows(host, now):
            allowed += 1
        return self._everything.take(now, allowed)

    def _forget_some(self, now: float) -> None:
        # Forget up to two for each new one, so that quiet sources do not pile up.
        for key, oldest in tuple(islice(self._sources.items(), 2)):
            too_many = len(self._sources) >= MAX_KEPT
            if not too_many and (oldest.left_out or not oldest.bucket.is_full(now)):
                break
            del self._sources[key]
            if oldest.left_out:
                del self._untold[key]
                self._add_to_others(oldest, now)

    def _add_to_others(self, source: _Source, now: float) -> None:
        if not self._others:
            self._others_at = now + WINDOW
            self._due_at = min(self._due_at, self._others_at)
        self._others += 1
        self._others_lines += source.left_out

    def _due(self, now: float, until: float) -> list[tuple[Event, str]]:
        """The summaries due at or before ``until``."""
        told: list[tuple[Event, str]] = []
        while self._untold:
            key, source = next(iter(self._untold.items()))
            if source.since + WINDOW > until:
                break
            del self._untold[key]
            if self._room(source.host, now, 1):
                told.append(self._summary(source))
            else:
                self._add_to_others(source, now)
            source.left_out, source.about = 0, None
        if self._others and self._others_at <= until:
            told.append(self._summary_of_others())
            self._others = self._others_lines = 0
            self._others_at = inf
        self._due_at = self._others_at
        for first in self._untold.values():
            self._due_at = min(self._due_at, first.since + WINDOW)
            break
        return told

    def _is_news(self, event: BootstrapFailed, now: float) -> bool:
        target = str(event.target)
        seed = self._seeds.pop(target, None)
        if seed is None or seed.reason != event.reason:
            is_news = True
            seed = _Seed(event.reason, now)
        elif is_news := now >= seed.next_at:
            seed.pause = min(2 * seed.pause, MAX_SEED_PAUSE)
            seed.next_at = now + seed.pause
        self._seeds[target] = seed
        if len(self._seeds) > MAX_KEPT:
            self._seeds.popitem(last=False)
        return is_news

    def _summary(self, source: _Source) -> tuple[Event, str]:
        """One line that sums up what was left out of a source, with its event."""
        about, count = source.about, source.left_out
        more = f"{count} more"
        seconds = f"in {max(ceil(source.last - source.since), 1)} s"
        match about:
            case Peer():
                what = "message" if count == 1 else "messages"
                line = f"{more} {what} from {self._narrator.label(about)} {seconds}"
                told = LeftOut(count=count, peer=about, host=about.host)
            case PeerConnected(peer=peer) | PeerDisconnected(peer=peer):
                host = source_of(peer.host)
                line = (
                    f"{more} connects and disconnects from {visible(host)} {seconds}; "
                    f"{self._who_is_there(host)}"
                )
                told = LeftOut(count=count, host=host)
            case _:
                assert about is not None
                # An event without a line is never counted.
                line = self._narrator.line(about) or ""
                return (
                    about,
                    line if count == 1 else f"{line} (and {count - 1} more like it)",
                )
        return told, self._narrator.fitted(f"[NETWORK] {line}")

    def _who_is_there(self, host: str) -> str:
        peers = [peer for peer in self._narrator.peers if source_of(peer.host) == host]
        names = ", ".join(map(self._narrator.label, peers[:MAX_NAMED]))
        if len(peers) > MAX_NAMED:
            names += f" and {len(peers) - MAX_NAMED} more"
        return f"connected from there: {names or 'nobody'} ({self._narrator.seats})"

    def _summary_of_others(self) -> tuple[Event, str]:
        line = (
            f"[NETWORK] {self._others_lines} more lines about {self._others} "
            f"peers and addresses ({self._narrator.seats})"
        )
        return LeftOut(count=self._others_lines), line
