"""One job on many things, by several processes or threads at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from bgan_video.errors import UserError

Thing = TypeVar("Thing")
Result = TypeVar("Result")

Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Wraps things as they come in a progress bar: what is done, and of how many."""

# Results that may wait for an earlier one, for each worker: more would only take memory.
_AHEAD = 4


def silent(things: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """Progress that nobody sees."""
    del what, total
    return things


def unsaid(_: str) -> None:
    """A line for the user that nobody sees."""


def num_cpus() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    job: Callable[[Thing], Result], things: Iterable[Thing], workers: int
) -> Generator[Result, None, None]:
    """The results of a job, in the order of the things.

    Args:
        job: Picklable, as its results are.
        things: What it is done on.
        workers: How many processes; 0 does it in this one.

    Raises:
        UserError: A process died; says what it may have been at.
    """
    if workers == 0:
        yield from map(job, things)
        return
    running: deque[tuple[Thing, Future[Result]]] = deque()
    pool = pool_of(job, workers)
    try:
        for thing in things:
            running.append((thing, pool.submit(work, thing)))
            if len(running) > _AHEAD * workers:
                yield running[0][1].result()
                running.popleft()
        while running:
            yield running[0][1].result()
            running.popleft()
    except BrokenProcessPool:
        at = ", ".join(str(thing) for thing, _ in list(running)[:workers])
        raise UserError(
            f"a process died at or after one of {at}; is there memory for {workers} of them? "
            f"data.num_workers sets how many"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    job: Callable[[Thing], Result], things: Iterable[Thing], threads: int
) -> Generator[Result, None, None]:
    """The results of a job, in the order of the things, made while earlier ones are used.

    For what lets other threads run, as decoders do.

    Args:
        job: Safe to do in several threads.
        things: What it is done on.
        threads: How many; as many results and one more may wait. 0 does it here, when asked.
    """
    if threads == 0:
        yield from map(job, things)
        return
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for thing in things:
                running.append(pool.submit(job, thing))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for waiting in running:
                waiting.cancel()


def pool_of(job: Callable[[Any], Any], workers: int) -> ProcessPoolExecutor:
    """Processes that `work` at a job; they die with this one, and leave Ctrl-C to it."""
    return ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(job,))


_job: Callable[[Any], Any] | None = None


def work(thing: Any) -> Any:
    """Do the pool's job on something, in one of its processes."""
    assert _job is not None
    return _job(thing)


def _begin_worker(job: Callable[[Any], Any]) -> None:
    global _job  # the one way in that a pool's initializer has
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A pool's workers wait for ever where their parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
