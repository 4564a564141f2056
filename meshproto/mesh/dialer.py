"""Dials the addresses that the address book says are due, a few at a time.

Owns every dial under way and the one timer that waits for the next address.
Each dial from the book needs a free seat, so the node does not dial more peers
than it can take.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from meshproto.errors import (
    ConnectError,
    DialFailed,
    HandshakeFailed,
    HandshakeTimeout,
    MeshError,
    MeshFull,
    NotRunning,
)
from meshproto.events import (
    BootstrapFailed,
    BootstrapSucceeded,
    CloseReason,
    ConnectionFailed,
    DialAttemptFailed,
    Event,
    NodeError,
    Peer,
)
from meshproto.rules.addressbook import AddressBook, Forgotten, Retry
from meshproto.rules.identity import PeerKey
from meshproto.rules.interfaces import IPeerLink
from meshproto.wire.address import Target


@dataclass(frozen=True, slots=True)
class Linked:
    """The dial led to a peer, over this link or an existing one."""

    peer: Peer
    key: PeerKey


@dataclass(frozen=True, slots=True)
class Failed:
    """The dial failed; ``error`` says why."""

    error: MeshError


Outcome = Linked | Failed


@dataclass(frozen=True, slots=True)
class DialReport:
    """The result of a dial.

    ``wanted``: a caller is waiting for it.  ``given``: it is a bootstrap address.
    ``retry``: when it is dialled again, None if it is not.
    """

    target: Target
    outcome: Outcome
    wanted: bool
    given: bool
    retry: Retry | None = None


@dataclass(slots=True, eq=False)
class _Attempt:
    target: Target
    waiters: list[Deferred[Peer]] = field(default_factory=list)
    connecting: Deferred[IPeerLink] | None = None
    timeout: IDelayedCall | None = None
    link: IPeerLink | None = None


class Dialer:
    """The dials of one node.

    ``connect(target)`` makes the connection.  ``seats()`` returns the number of
    seats taken and the total.  ``on_report`` is called at the end of every dial,
    after the book is updated and before the waiting callers are told.
    """

    def __init__(
        self,
        book: AddressBook,
        clock: IReactorTime,
        *,
        max_dials: int,
        timeout: float,
        connect: Callable[[Target], Deferred[IPeerLink]],
        seats: Callable[[], tuple[int, int]],
        on_report: Callable[[DialReport], None],
    ) -> None:
        self._book = book
        self._clock = clock
        self._max_dials = max_dials
        self._timeout = timeout
        self._connect = connect
        self._seats = seats
        self._on_report = on_report
        self._attempts: dict[Target, _Attempt] = {}
        self._wanted: deque[_Attempt] = deque()
        self._retry: IDelayedCall | None = None
        self._running = False
        self._pumping = False

    def __len__(self) -> int:
        """How many dials are under way."""
        return len(self._attempts)

    def targets(self) -> tuple[Target, ...]:
        """The addresses being dialled, or queued because a caller asked."""
        return (*self._attempts, *(attempt.target for attempt in self._wanted))

    def start(self) -> None:
        """Start dialling what is due."""
        self._running = True
        self.pump()

    def stop(self) -> None:
        """Give up every dial; waiting callers get `NotRunning`."""
        self._running = False
        self._cancel_retry()
        abandoned = [*self._attempts.values(), *self._wanted]
        self._attempts.clear()
        self._wanted.clear()
        for attempt in abandoned:
            self._book.dial_ended(attempt.target)
            self._disarm(attempt)
            if attempt.connecting is not None:
                attempt.connecting.cancel()
            for waiter in attempt.waiters:
                waiter.errback(NotRunning("the node has been stopped"))

    def dial(self, target: Target) -> Deferred[Peer]:
        """Dial an address as soon as possible, or join a dial under way.

        Fires with the peer.  Fails with a `ConnectError`, or with `NotRunning` if
        the node stops first.  Cancelling gives up the wait, not the dial.
        """
        attempt = self._attempts.get(target)
        if attempt is None:
            attempt = next((a for a in self._wanted if a.target == target), None)
        if attempt is None:
            attempt = _Attempt(target)
            self._wanted.append(attempt)
        waiter: Deferred[Peer] = Deferred(attempt.waiters.remove)
        attempt.waiters.append(waiter)
        self.pump()
        return waiter

    def pump(self) -> None:
        """Start as many dials as the limits allow; set a timer for the next."""
        if self._pumping or not self._running:
            return
        self._pumping = True
        try:
            while self._wanted and self._has_room(wanted=True):
                self._begin(self._wanted.popleft())
            if self._has_room():
                for target in self._book.due(self._clock.seconds()):
                    if not self._has_room():
                        break
                    if self._running and target not in self._attempts:
                        self._begin(_Attempt(target))
        finally:
            self._pumping = False
        self._time_next()

    def settle(self, target: Target, outcome: Outcome) -> None:
        """End the dial of an address; does nothing if none is under way."""
        attempt = self._attempts.pop(target, None)
        if attempt is None:
            return
        self._disarm(attempt)
        given = self._book.is_given(target)
        retry = None
        match outcome:
            case Linked(_, key):
                self._book.dial_ended(target)
                self._book.link(target, key, proven=True)
            case Failed(MeshFull()):
                self._book.postpone(target, self._clock.seconds())
            case Failed():
                lonely = self._seats()[0] == 0
                decision = self._book.dial_failed(
                    target, self._clock.seconds(), lonely=lonely
                )
                retry = None if isinstance(decision, Forgotten) else decision
        waiters, attempt.waiters = attempt.waiters, []
        self._on_report(DialReport(target, outcome, bool(waiters), given, retry))
        for waiter in waiters:
            if isinstance(outcome, Linked):
                waiter.callback(outcome.peer)
            else:
                waiter.errback(outcome.error)
        self.pump()

    def _has_room(self, *, wanted: bool = False) -> bool:
        if not self._running or len(self._attempts) >= self._max_dials:
            return False
        taken, seats = self._seats()
        return wanted or taken + len(self._attempts) < seats

    def _begin(self, attempt: _Attempt) -> None:
        target = attempt.target
        self._attempts[target] = attempt
        self._book.dial_started(target)
        try:
            connecting = self._connect(target)
        except ConnectError as error:
            self.settle(target, Failed(error))
            return
        except Exception:
            # An endpoint plugin may raise anything.
            reason = dial_failure_text(Failure())
            self.settle(target, Failed(DialFailed(target, reason)))
            return
        attempt.connecting = connecting
        # Not every endpoint has a timeout of its own.
        attempt.timeout = self._clock.callLater(self._timeout, connecting.cancel)
        connecting.addCallbacks(
            self._connected,
            self._failed,
            callbackArgs=(attempt,),
            errbackArgs=(attempt,),
        )

    def _connected(self, link: IPeerLink, attempt: _Attempt) -> None:
        attempt.connecting = None
        self._disarm(attempt)
        if self._attempts.get(attempt.target) is attempt:
            attempt.link = link

    def _failed(self, failure: Failure, attempt: _Attempt) -> None:
        attempt.connecting = None
        if self._attempts.get(attempt.target) is attempt:
            reason = dial_failure_text(failure)
            self.settle(attempt.target, Failed(DialFailed(attempt.target, reason)))

    def _disarm(self, attempt: _Attempt) -> None:
        if attempt.timeout is not None and attempt.timeout.active():
            attempt.timeout.cancel()
        attempt.timeout = None

    def _time_next(self) -> None:
        self._cancel_retry()
        if not self._has_room():
            # The end of a dial, or of a peer's link, pumps again.
            return
        due = self._book.next_due()
        if due is not None:
            delay = max(0.0, due - self._clock.seconds())
            self._retry = self._clock.callLater(delay, self._retry_due)

    def _retry_due(self) -> None:
        self._retry = None
        self.pump()

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


def dial_failure_text(failure: Failure) -> str:
    """Why a dial failed, in a few words for people."""
    if failure.check(CancelledError):
        return "timed out"
    text = failure.getErrorMessage().strip()
    for prefix in (
        "Connection was refused by other side",
        "User timeout caused connection failure",
        "TCP connection timed out",
        "DNS lookup failed",
        "No route to host",
        "An error occurred while connecting",
    ):
        if text.startswith(prefix):
            return _SHORT.get(prefix, text.rstrip("."))
    return text.rstrip(".") or type(failure.value).__name__


_SHORT = {
    "Connection was refused by other side": "connection refused",
    "User timeout caused connection failure": "timed out",
    "TCP connection timed out": "timed out",
    "DNS lookup failed": "host name not found",
    "No route to host": "no route to host",
}


def events_of(report: DialReport) -> tuple[Event, ...]:
    """The events that tell the application how a dial ended."""
    target = report.target
    match report.outcome:
        case Linked():
            return (BootstrapSucceeded(target=target),) if report.given else ()
        case Failed(error):
            reason = error.reason if isinstance(error, ConnectError) else str(error)
    events: list[Event] = []
    if report.given and report.retry is not None:
        events.append(
            BootstrapFailed(
                target=target,
                reason=reason,
                attempt=report.retry.failures,
                retry_in=report.retry.delay,
            )
        )
    elif report.given:
        events.append(NodeError(context=f"Bootstrap address {target}", error=reason))
    if report.wanted:
        events.append(ConnectionFailed(target=target, reason=reason))
    elif not report.given:
        events.append(DialAttemptFailed(target=target, reason=reason))
    return tuple(events)


def dial_error(target: Target, reason: CloseReason, detail: str) -> ConnectError:
    """The error for a dial whose link ended before its handshake did."""
    match reason:
        case CloseReason.HANDSHAKE_TIMEOUT:
            return HandshakeTimeout(target, "no answer to the handshake")
        case CloseReason.CLOSED_BY_PEER:
            return HandshakeFailed(target, detail or "closed without an answer")
        case CloseReason.CONNECTION_LOST:
            return DialFailed(target, detail or reason.value)
        case _:
            return HandshakeFailed(target, detail or reason.value)
