"""Signals of a process in which threads block in calls of the system.

What a process does about a signal is changed while signals may arrive.  The
interpreter prints a traceback for one that it has received but not handled by
then, so it is held back, in the main thread here and in every other for good.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Within it this thread, and a thread that it starts, receive none of them.

    They arrive afterwards.  Where the system cannot do that, nothing happens.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_signal(number: int, handler: signal.Handlers) -> None:
    """Take a signal from its handler: ignore it, or let it do its default."""
    with held_back({number}):
        signal.signal(number, handler)
