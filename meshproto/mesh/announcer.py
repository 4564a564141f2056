"""Tells the application what happens.

Everybody hears of everything in one order.  What a subscriber makes happen is
told when all have heard of what it was told, and one that raises harms nobody.
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

#: So many messages are told at most before the clock is looked at again; fewer
#: where the subscribers are slow.  Runs of at most `_FEW` are told without looking.
_LONGEST_STRIDE: Final = 128
_FEW: Final = 4

#: It takes the kinds of events that it has asked for.
Subscriber = Callable[[Any], object]


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    subscriber: Subscriber
    kinds: tuple[type[Event], ...]

    def hears(self, kind: type[Event]) -> bool:
        if kind is ChatsReceived:
            # It would be told the same thing twice.
            return kind in self.kinds
        return issubclass(kind, self.kinds)


class Announcer:
    """The subscribers of one node, and what they have not been told yet."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._stride = _FEW
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._of_kind: dict[type[Event], tuple[Subscriber, ...]] = {}
        self._hear_chat = self._hear_runs = False
        # Where there is one that hears chat it is called without a loop.
        self._only_of_chat: Subscriber | None = None
        self._untold: deque[Event] = deque()
        self._telling = False

    def subscribe(
        self, subscriber: Subscriber, kinds: tuple[type[Event], ...]
    ) -> Callable[[], None]:
        """Call ``subscriber`` for events of these kinds until the result is called.

        Raises `TypeError` for a kind that is none.
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
        """Tell every subscriber."""
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
        """Tell of chat until its link is paused, ends or has had its turn.

        Returns what is left.  For each text this does what `emit` does, but
        with fewer calls: no other part of a node is run as often.
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
                        # Nothing that a text has caused is told before it.
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
        """Whether the turn of a link is, at the end of a stride.

        A stride that went beyond it was too long for these subscribers.
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
        """Tell of the texts between those two; returns where that ends."""
        if self._hear_runs and begin < end:
            self._tell(ChatsReceived(peer=peer, texts=texts[begin:end]))
        return end

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        # A new tuple, so that one who leaves while all are told disturbs nobody.
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
