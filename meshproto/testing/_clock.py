"""A virtual clock that goes from event to event."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


class Owner(Protocol):
    """Whoever a call belongs to may be unable to make it for a while."""

    def suspend(self, call: DelayedCall) -> bool:
        """Keep a call that is due; returns whether it was kept."""


@implementer(IReactorTime)
class SimClock:
    """A virtual clock that goes from event to event.

    It has the interface of `twisted.internet.task.Clock`, but keeps its calls
    in a heap, and while a call runs `seconds` is the very time at which it was
    due.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._order = count()
        self._owners: dict[DelayedCall, Owner] = {}
        self.steps = 0

    def seconds(self) -> float:
        """The virtual time, in seconds."""
        return self._now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call back ``delay`` virtual seconds from now."""
        return self.call_for(None, delay, callable, args, kw)

    def call_for(
        self,
        owner: Owner | None,
        delay: float,
        callable: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kw: dict[str, Any] | None = None,
    ) -> IDelayedCall:
        """Call back for an owner, who may keep the call when it is due."""
        if delay < 0:
            raise ValueError(f"{delay} is in the past")
        call = DelayedCall(
            self._now + delay,
            callable,
            args,
            kw or {},
            self._forget,
            self.push,
            self.seconds,
        )
        if owner is not None:
            self._owners[call] = owner
        self.push(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls that have not been made, the next one first."""
        return [call for _, _, call in sorted(self._heap) if call.active()]

    def step(self, until: float | None = None) -> bool:
        """Make the next call, unless it is due after ``until``.

        Returns whether there was one.
        """
        while self._heap:
            due, _, call = self._heap[0]
            if not call.active() or call.time != due:
                heapq.heappop(self._heap)
            elif call.delayed_time > 0:
                heapq.heappop(self._heap)
                call.activate_delay()
                self.push(call)
            elif until is not None and due > until:
                return False
            else:
                heapq.heappop(self._heap)
                self._now = max(self._now, due)
                owner = self._owners.get(call)
                if owner is not None and owner.suspend(call):
                    continue
                self._owners.pop(call, None)
                self.steps += 1
                call.called = 1
                call.func(*call.args, **call.kw)
                return True
        return False

    def advance(self, seconds: float) -> None:
        """Make every call of the next ``seconds``, then stand at their end."""
        end = self._now + seconds
        while self.step(until=end):
            pass
        self._now = end

    def push(self, call: DelayedCall) -> None:
        """Take up a call; one that is overdue is made at the next step."""
        heapq.heappush(self._heap, (call.time, next(self._order), call))

    def _forget(self, call: DelayedCall) -> None:
        self._owners.pop(call, None)
