"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bgan_video.backend import Backend

Event = torch.cuda.Event


class Clock:
    """Seconds, items and data waits since the last log line.

    A GPU computes while Python already waits for the next batch. So on CUDA the GPU is asked: what
    it stood still for a batch, and what it took for the steps, by events among its kernels.

    Args:
        backend: Of the run.
    """

    def __init__(self, backend: Backend) -> None:
        self._on_cuda = backend.device.type == "cuda"
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._items = 0
        self._waits: list[tuple[Event, Event]] = []
        self._steps: list[tuple[Event, Event]] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is waiting for data; on CUDA as far as the GPU waits."""
        began = time.perf_counter()
        with self._between(self._waits):
            yield
        if not self._on_cuda:
            self._waited += time.perf_counter() - began

    @contextmanager
    def computing(self) -> Iterator[None]:
        """A training step."""
        with self._between(self._steps):
            yield

    def count(self, items: int) -> None:
        """Items that went through a step."""
        self._items += items

    def lap(self) -> dict[str, float]:
        """Seconds, data seconds and items a second since the last lap; on CUDA the GPU's too."""
        steps = _seconds(self._steps)  # the last of them is over then
        seconds = time.perf_counter() - self._started
        lap = {
            "seconds": seconds,
            "data_seconds": self._waited + _seconds(self._waits),
            "items_per_second": self._items / seconds,
        }
        if self._on_cuda:
            lap["gpu_seconds"] = steps
        self._reset()
        return lap

    @contextmanager
    def _between(self, pairs: list[tuple[Event, Event]]) -> Iterator[None]:
        if not self._on_cuda:
            yield
            return
        before, after = Event(enable_timing=True), Event(enable_timing=True)
        before.record()
        yield
        after.record()
        pairs.append((before, after))


def _seconds(pairs: list[tuple[Event, Event]]) -> float:
    for _, after in pairs[-1:]:
        after.synchronize()
    return sum(before.elapsed_time(after) for before, after in pairs) / 1000
