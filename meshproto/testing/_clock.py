"""A virtual clock that goes from event to event."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

#: The place in the queue of what is in none.
NOWHERE = -1


class Owner(Protocol):
    """Whoever a call belongs to may be unable to make it for a while."""

    def suspend(self, call: SimCall) -> bool:
        """Keep a call that is due; returns whether it was kept."""


class Timed(Protocol):
    """What a clock wakes.

    ``place`` is its place in the queue, `NOWHERE` when it is in none.  Entries
    of the queue are never removed: one whose thing has another place by then is
    passed over, so cancelling and moving cost nothing.
    """

    place: int

    def fire(self) -> bool:
        """The time has come; returns whether anything was done."""


@implementer(IDelayedCall)
class SimCall:
    """A call that a `SimClock` will make."""

    __slots__ = ("_args", "_clock", "_kw", "_state", "func", "owner", "place", "time")

    def __init__(
        self,
        clock: SimClock,
        owner: Owner | None,
        time: float,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kw: dict[str, Any] | None,
    ) -> None:
        self.owner = owner
        self.time = time
        self.func = func
        self.place = NOWHERE
        self._clock = clock
        self._args = args
        self._kw = kw
        self._state: type[Exception] | None = None

    def getTime(self) -> float:
        """When the call is due, in the clock's seconds."""
        return self.time

    def active(self) -> bool:
        """Whether the call has neither been made nor cancelled."""
        return self._state is None

    def cancel(self) -> None:
        """Do not make the call."""
        self._require_active()
        self._state = AlreadyCancelled
        self.place = NOWHERE

    def reset(self, secondsFromNow: float) -> None:
        """Make the call that long from now instead."""
        self._require_active()
        self._move(self._clock.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Make the call that much later."""
        self._require_active()
        self._move(self.time + secondsLater)

    def fire(self) -> bool:
        """Make the call, unless its owner keeps it."""
        if self.owner is not None and self.owner.suspend(self):
            return False
        self._state = AlreadyCalled
        if self._kw:
            self.func(*self._args, **self._kw)
        else:
            self.func(*self._args)
        return True

    def _move(self, time: float) -> None:
        self.time = time
        self._clock.push(time, self)

    def _require_active(self) -> None:
        if self._state is not None:
            raise self._state


@implementer(IReactorTime)
class SimClock:
    """A virtual clock that goes from event to event.

    It has the interface of `twisted.internet.task.Clock`, but keeps its calls
    in a heap, and while a call runs `seconds` is the very time at which it was
    due.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        #: After so many steps `advance` raises: somebody calls back for ever.
        self.max_steps = inf
        self._heap: list[tuple[float, int, Timed]] = []
        self._last_place = NOWHERE

    def seconds(self) -> float:
        """The virtual time, in seconds."""
        return self.now

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
        call = SimCall(self, owner, self.now + delay, callable, args, kw)
        self.push(call.time, call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls that have not been made, the next one first."""
        return [
            timed
            for _, place, timed in sorted(self._heap, key=lambda entry: entry[:2])
            if timed.place == place and isinstance(timed, SimCall)
        ]

    def step(self, until: float | None = None) -> bool:
        """Make the next call, unless it is due after ``until``.

        Returns whether there was one.
        """
        return self._go(inf if until is None else until, 1) == 1

    def advance(self, seconds: float) -> None:
        """Make every call of the next ``seconds``, then stand at their end."""
        end = self.now + seconds
        self._go(end, self.max_steps - self.steps)
        if self.steps >= self.max_steps:
            raise RuntimeError(
                f"{self.steps} steps by {self.now:.3f} s, next: {self._next()}"
            )
        self.now = end

    def push(self, time: float, timed: Timed) -> None:
        """Wake something at a time, and at no other that was set before."""
        self._last_place = timed.place = place = self._last_place + 1
        heapq.heappush(self._heap, (time, place, timed))

    def _next(self) -> str:
        """What is due next, for people."""
        if not self._heap:
            return "nothing"
        timed = self._heap[0][2]
        what = timed.func if isinstance(timed, SimCall) else type(timed)
        return getattr(what, "__qualname__", repr(what))

    def _go(self, until: float, most: float) -> int:
        heap, pop = self._heap, heapq.heappop
        done = 0
        while heap and done < most:
            due, place, timed = heap[0]
            if due > until:
                break
            pop(heap)
            if timed.place != place:
                continue
            if due > self.now:
                self.now = due
            timed.place = NOWHERE
            if timed.fire():
                done += 1
                self.steps += 1
        return done
