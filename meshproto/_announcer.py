"""Tells the application what happens.

Everybody hears of everything in one order.  What a subscriber makes happen is
told when all have heard of what it was told, and one that raises harms nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.logger import Logger

from meshproto.events import ChatReceived, Event, Peer, chat_draft
from meshproto.interfaces import IPeerLink


class Announcer:
    """The subscribers of one node, and what they have not been told yet."""

    _log = Logger()

    def __init__(self) -> None:
        self._subscribers: tuple[Callable[[Event], object], ...] = ()
        # The usual application has one; it is called without a loop around it.
        self._only: Callable[[Event], object] | None = None
        self._untold: deque[Event] = deque()
        self._telling = False

    def subscribe(self, subscriber: Callable[[Event], object]) -> Callable[[], None]:
        """Call ``subscriber`` for every event until the result is called."""
        # A tuple, so that one who leaves while all are told disturbs nobody.
        self._set_subscribers((*self._subscribers, subscriber))

        def unsubscribe() -> None:
            others = list(self._subscribers)
            if subscriber in others:
                others.remove(subscriber)
                self._set_subscribers(tuple(others))

        return unsubscribe

    def _set_subscribers(
        self, subscribers: tuple[Callable[[Event], object], ...]
    ) -> None:
        self._subscribers = subscribers
        self._only = subscribers[0] if len(subscribers) == 1 else None

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
        """Tell of chat until its link is paused or ends; returns what is left.

        For each text this does what `emit` does, but with fewer calls: no other
        part of a node is run as often.
        """
        if not self._subscribers:
            return ()
        if self._telling:
            self._untold.extend(ChatReceived(peer=peer, text=text) for text in texts)
            return ()
        draft, untold = chat_draft, self._untold
        rest = iter(texts)
        self._telling = True
        try:
            for text in rest:
                event = draft()
                event.peer = peer
                event.text = text
                event.__class__ = ChatReceived
                tell = self._only or self._tell
                try:
                    tell(event)
                except Exception:
                    self._failed(tell, event)
                if untold:
                    self._tell_untold()
                if not link.reading:
                    break
        finally:
            self._telling = False
        return tuple(rest)

    def _tell_untold(self) -> None:
        while self._untold:
            self._tell(self._untold.popleft())

    def _tell(self, event: Event) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                self._failed(subscriber, event)

    def _failed(self, subscriber: Callable[[Event], object], event: Event) -> None:
        self._log.failure(
            "Subscriber {subscriber} failed on {event}",
            subscriber=subscriber,
            event=event,
        )
