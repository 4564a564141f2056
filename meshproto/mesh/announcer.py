"""Delivers events to the application's subscribers.

All subscribers see events in the same order.  An event that a subscriber causes
is delivered after all have had the current one.  A subscriber that raises is logged
and does not affect the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from meshproto.events import ChatReceived, ChatsReceived, Event, Peer, chat_draft
from meshproto.rules.interfaces import IPeerLink

#: Deliver at most this many messages between two looks at the clock, fewer if the
#: subscribers are slow.  Runs of at most `_FEW` are delivered without a look.
_LONGEST_STRIDE: Final = 128
_FEW: Final = 4

#: Called with each event of the kinds it asked for.
Subscriber = Callable[[Any], object]


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    subscriber: Subscriber
    kinds: tuple[type[Event], ...]

    def hears(self, kind: type[Event]) -> bool:
        if kind is ChatsReceived:
            # Only on request: a subscriber to all events has had each ChatReceived.
            return kind in self.kinds
        return issubclass(kind, self.kinds)


class Announcer:
    """The subscribers of one node, and the events not yet delivered to them."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._stride = _FEW
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._of_kind: dict[type[Event], tuple[Subscriber, ...]] = {}
        self._hear_chat = self._hear_runs = False
        # A sole subscriber to chat is called directly, without a loop.
        self._only_of_chat: Subscriber | None = None
        self._untold: deque[Event] = deque()
        self._telling = False

    def subscribe(
        self, subscriber: Subscriber, kinds: tuple[type[Event], ...]
    ) -> Callable[[], None]:
        """Call ``subscriber`` with events of these kinds.

        Returns a function that ends the subscription.  Raises `TypeError` for a
        kind that is not an `Event` class.
        """
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, Event)):
                raise TypeError(f"{kind!r} is no kind of event")
        subscription = _Subscription(subscriber, kinds)
        self._set((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            self._set(
                tuple(each for each in self._subscriptions if each is not subscription)
            )

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Deliver an event to its subscribers, after those before it."""
        self._untold.append(event)
        if self._telling:
            return
        self._telling = True
        try:
            self._tell_untold()
        finally:
            self._telling = False

    def emit_chats(
        self, link: IPeerLink, peer: Peer, texts: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Deliver chat until its link is paused, ends or has had its turn.

        Returns the texts not delivered.  Does the same as `emit` for each text, with
        fewer calls: this is the hottest loop of a node.
        """
        if self._telling:
            if self._hear_chat:
                self._untold.extend(
                    ChatReceived(peer=peer, text=text) for text in texts
                )
            if self._hear_runs:
                self._untold.append(ChatsReceived(peer=peer, texts=texts))
            return ()
        draft, untold = chat_draft, self._untold
        count = len(texts)
        told = 0 if self._hear_chat else count
        told_in_runs = 0
        self._telling = True
        try:
            while told < count:
                goal = told + self._stride
                if goal >= count:
                    goal = count
                rest = iter(texts if goal - told == count else texts[told:goal])
                for text in rest:
                    event = draft()
                    event.peer = peer
                    event.text = text
                    event.__class__ = ChatReceived
                    tell = self._only_of_chat or self._tell
                    try:
                        tell(event)
                    except Exception:
                        self._failed(tell, event)
                    if untold:
                        # Deliver the texts so far before the events they caused.
                        told = goal - length_hint(rest)
                        told_in_runs = self._tell_run(peer, texts, told_in_runs, told)
                        self._tell_untold()
                    if not link.reading:
                        told = goal - length_hint(rest)
                        break
                else:
                    told = goal
                    if count > _FEW and not self._is_over(link):
                        continue
                break
            if self._hear_runs:
                self._tell_run(peer, texts, told_in_runs, told)
                self._tell_untold()
        finally:
            self._telling = False
        return texts[told:] if told < count else ()

    def _is_over(self, link: IPeerLink) -> bool:
        """Whether the turn of a link is over; asked after each stride.

        Also adjusts the stride: one that overran the turn was too long for these
        subscribers.
        """
        if self._clock.seconds() >= link.turn_ends:
            self._stride = max(self._stride // 8, 1)
            return True
        if self._stride < _LONGEST_STRIDE:
            self._stride *= 2
        return False

    def _tell_run(
        self, peer: Peer, texts: tuple[str, ...], begin: int, end: int
    ) -> int:
        """Deliver ``texts[begin:end]`` as one run; returns ``end``."""
        if self._hear_runs and begin < end:
            self._tell(ChatsReceived(peer=peer, texts=texts[begin:end]))
        return end

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        # A new tuple, so that unsubscribing during a delivery is safe.
        self._subscriptions = subscriptions
        self._of_kind.clear()
        of_chat = self._subscribers(ChatReceived)
        self._hear_chat = bool(of_chat)
        self._only_of_chat = of_chat[0] if len(of_chat) == 1 else None
        self._hear_runs = bool(self._subscribers(ChatsReceived))

    def _subscribers(self, kind: type[Event]) -> tuple[Subscriber, ...]:
        found = self._of_kind.get(kind)
        if found is None:
            found = self._of_kind[kind] = tuple(
                each.subscriber for each in self._subscriptions if each.hears(kind)
            )
        return found

    def _tell_untold(self) -> None:
        while self._untold:
            self._tell(self._untold.popleft())

    def _tell(self, event: Event) -> None:
        for subscriber in self._subscribers(type(event)):
            try:
                subscriber(event)
            except Exception:
                self._failed(subscriber, event)

    def _failed(self, subscriber: Subscriber, event: Event) -> None:
        self._log.failure(
            "Subscriber {subscriber} failed on {event}",
            subscriber=subscriber,
            event=event,
        )
