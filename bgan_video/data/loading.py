"""The loading processes of a run: the same ones read the batches of all its streams.

What a step learns from is one task, and a process does it alone: its labelled clips, its unlabelled
ones, and whatever methods see of their own. The next step's is the next process's. So all processes
have as much to do, whichever stream is dear, and there are `data.num_workers` of them however many
streams there are. Evaluation is read by as many threads (`prediction/chunks.py`, docs/adr/0024).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from bgan_video.backend import on_cuda
from bgan_video.config import Config
from bgan_video.errors import UserError

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Stream(Generic[Batch]):
    """Batches by number that nobody has read yet. It pickles, for processes that are not forked.

    Attributes:
        samples: By number, each a pure function of it.
        size: Samples of a batch, >= 1.
        own: Which of them are read here, in 0..size-1; the others are other ranks'.
        finish: From what samples collate to, to the batch; in the run's own process.
        being_read: Names of the videos that loading processes are reading at this moment.
        views: Views of each sample.
        config: Of the views.
        repeats: Whether the first batch is the only one that is read, and comes again and again.
    """

    samples: Dataset[Any]
    size: int
    own: Sequence[int]
    finish: Callable[[Any], Batch]
    being_read: Callable[[], Sequence[str]]
    views: int
    config: Config
    repeats: bool = False

    @property
    def is_loaded(self) -> bool:
        """Whether loading processes read it, and not the run's own."""
        return self.config.data.num_workers > 0 and not self.repeats

    def collated(self, number: int) -> Any:
        """What is read of a batch."""
        samples = [self.samples[number * self.size + i] for i in self.own]
        return torch.utils.data.default_collate(samples)  # pyright: ignore - torch's stub


class _Steps(Dataset[dict[str, Any]]):
    """What is read for a step, by its number and by stream."""

    def __init__(self, streams: Mapping[str, Stream[Any]]) -> None:
        self._streams = streams

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {name: stream.collated(number) for name, stream in self._streams.items()}


def load(
    streams: Mapping[str, Stream[Any] | None], first: int, config: Config
) -> Iterator[dict[str, Any]]:
    """The batches of all streams, by name: those of number `first`, then of the next, without end.

    Processes begin with the first ones that are asked for, and end when the iterator is closed.

    Args:
        streams: By name; None has no batches, and is None every time.
        first: Number of the first batches.
        config: The run's, which says how many processes there are.

    Raises:
        UserError: In one line: a video no longer reads, or a process died or hangs.
    """
    given = {name: stream for name, stream in streams.items() if stream is not None}
    repeating = {name: stream for name, stream in given.items() if stream.repeats}
    loaded = {name: stream for name, stream in given.items() if stream.is_loaded}
    others = {n: s for n, s in given.items() if not s.repeats and not s.is_loaded}
    parts = [_read(loaded, first, config), _read(others, first, config)]
    again: dict[str, Any] | None = None
    while True:
        batches: dict[str, Any] = dict.fromkeys(streams)
        for part in parts:
            batches |= next(part)
        if again is None:  # not before processes are forked, which read at the same time then
            again = next(_read(repeating, first, config))
        yield batches | again


def _read(
    streams: Mapping[str, Stream[Any]], first: int, config: Config
) -> Iterator[dict[str, Any]]:
    """The batches of streams that are read alike; what fails in a worker is said in one line."""
    steps = _loader(streams, first, config)
    while True:
        try:
            found = next(steps)
        except UserError as error:
            # A worker's error comes with its traceback; what the user is meant to read is its end.
            raise UserError(str(error).strip().rpartition("UserError: ")[2]) from None
        except (RuntimeError, ConnectionError, EOFError) as error:
            # The latter two: a loader died with a batch half handed over.
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader"):
                raise
            reading = {path for stream in streams.values() for path in stream.being_read()}
            at = ", ".join(sorted(reading)) or "no video"
            said = " ".join(str(error).split()) or "a loading process died"
            raise UserError(
                f"{said} (it was reading {at}; data.num_workers={config.data.num_workers}, "
                f"data.worker_timeout={config.data.worker_timeout:g} seconds)"
            ) from None
        yield {name: streams[name].finish(part) for name, part in found.items()}


def _loader(
    streams: Mapping[str, Stream[Any]], first: int, config: Config
) -> Iterator[dict[str, Any]]:
    is_loaded = any(stream.is_loaded for stream in streams.values())
    loader = DataLoader(
        _Steps(streams),
        batch_size=None,  # what torch would make a batch of is a step's batches already
        sampler=count(first),
        num_workers=config.data.num_workers if is_loaded else 0,
        timeout=config.data.worker_timeout if is_loaded else 0,
        pin_memory=on_cuda(config.run),
        generator=torch.Generator(),  # its own, so that torch's global one is left alone
        worker_init_fn=_stand_apart,
    )
    return iter(loader)


def _stand_apart(_: int) -> None:
    """Ctrl-C reaches all processes of a terminal's group, and a run that saves needs its loaders.

    A loader notices by itself that its parent has gone.
    """
    if os.name == "posix":
        os.setpgrp()
