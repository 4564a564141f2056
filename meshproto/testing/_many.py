"""Plays many seeds, in as many processes as there are jobs."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor

from meshproto.testing._swarm import Run, Swarm

#: Seeds that a process plays before it reports.
_BATCH = 8


def play(seed: int) -> Run:
    """Play one seed."""
    return Swarm(seed).run()


def play_batch(seeds: range) -> list[Run]:
    """Play some seeds, in a process that does nothing else."""
    return [play(seed) for seed in seeds]


def prepare() -> None:
    """Make a process ready for many runs."""
    # Whoever started it is interrupted as well, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    collect_less()


def collect_less() -> None:
    """Every run collects its own rubbish, and no run makes much of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def play_all(seeds: range, jobs: int) -> Generator[Run, None, None]:
    """Play every seed, several at a time; results come in the seeds' order."""
    if jobs == 1:
        yield from map(play, seeds)
        return
    batches = (seeds[start : start + _BATCH] for start in range(0, len(seeds), _BATCH))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=prepare)
    waiting: deque[Future[list[Run]]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(play_batch, batch))
            # No more than keeps all busy: results and tasks need room as well.
            if len(waiting) >= 4 * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BaseException:
        for process in tuple(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
