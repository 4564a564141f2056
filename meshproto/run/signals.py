"""Signal handling in a process with threads that block in system calls.

Signals may arrive while their handlers are being changed.  If the interpreter has
received one but not yet handled it by then, it prints a traceback.  So signals are
blocked: in the main thread during the change, in all other threads always.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def held_back(numbers: Iterable[int]) -> Iterator[None]:
    """Block these signals in this thread, and in threads started meanwhile.

    They arrive afterwards.  Does nothing on systems that cannot block signals.
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
    """Replace the handler of a signal: ignore it, or restore its default action."""
    with held_back({number}):
        signal.signal(number, handler)
