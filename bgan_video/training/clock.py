"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Wall-clock seconds, items and data waits since the last log line."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._started = time.perf_counter()
        self._waited = 0.0
        self._items = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def count(self, items: int) -> None:
        """Items that went through a step."""
        self._items += items

    def lap(self) -> dict[str, float]:
        """Seconds, data seconds and items a second since the last lap."""
        seconds = time.perf_counter() - self._started
        lap = {
            "seconds": seconds,
            "data_seconds": self._waited,
            "items_per_second": self._items / seconds,
        }
        self._reset()
        return lap
