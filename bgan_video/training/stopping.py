"""Ctrl-C and SIGTERM: the step is finished, the run saved, and only then does it end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bgan_video import ranks

_KINDS = (signal.SIGINT, signal.SIGTERM)
_SAID = b"\nending after this step and a checkpoint; once more ends at once\n"


class Stop:
    """Whether the run was asked to end.

    Attributes:
        signal: That asked; None while none did.
    """

    signal: int | None = None


@contextmanager
def watching(stop: Stop) -> Iterator[None]:
    """Remember a first SIGINT or SIGTERM in `stop`; the next one does what it did before.

    What is ignored stays so: under nohup a run outlives its terminal. Only the main thread hears
    signals; elsewhere the program's own rules hold.
    """
    if not _hears():
        yield
        return
    before: dict[signal.Signals, Any] = {
        kind: handler
        for kind in _KINDS
        if (handler := signal.getsignal(kind)) not in (signal.SIG_IGN, None)
    }

    def put_back() -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)

    def remember(number: int, _: FrameType | None) -> None:
        stop.signal = number
        put_back()
        # Not by `print`: the signal may have come in the middle of one.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, _SAID)

    for kind in before:
        signal.signal(kind, remember)
    try:
        yield
    finally:
        put_back()


@contextmanager
def heard_out() -> Iterator[None]:
    """What dies within says why: of several processes the launcher ends the others by SIGTERM."""
    try:
        yield
    except Exception:
        if ranks.launched() > 1 and _hears():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise


def _hears() -> bool:
    return threading.current_thread() is threading.main_thread()
