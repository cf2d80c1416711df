"""One pool of loading processes reads all streams, as each of them is read alone."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
import torch

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import loading
from bgan_video.data.frames import Frames
from bgan_video.data.loading import Stream, load
from bgan_video.data.manifest import Item
from bgan_video.data.streams import (
    ClipStream,
    labelled_batches,
    labelled_stream,
    unlabelled_batches,
    unlabelled_stream,
)
from bgan_video.errors import UserError

PARENT = os.getpid()
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than cores


class Pictures:
    """Stands for `Frames`: every frame has its video's number and its own."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
        self.reads.append(item.path)
        frames = np.empty((len(indices), 9, 9, 3), np.uint8)
        frames[..., :2] = int(item.group)
        frames[..., 2] = np.asarray(indices)[:, None, None] * 6
        return frames


class Processes(Pictures):
    """Every frame has the number of the process that read it, of the parent 0."""

    def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
        frames = super().read(item, indices)
        frames[:] = os.getpid() % 251 if os.getpid() != PARENT else 0
        return frames


def videos(count: int = 7) -> list[Item]:
    return [Item(f"{i}.avi", i % 3, str(i), "train", num_frames=40) for i in range(count)]


@cache
def settings(*overrides: str) -> Config:
    small = ["clip.size=8", "clip.num_frames=4", "train.batch_size=3"]
    views = ["train.labelled_batch_size=2", "objective.consistency_weight=1"]
    return config.load(None, [*small, *views, "run.device=cpu", *overrides])


def streams(of: Config, frames: Any = None) -> dict[str, Stream[Any] | None]:
    """Labels, unlabelled items, and a method that believes more."""
    pictures = cast(Frames, frames or Pictures())
    believed = [dataclasses.replace(item, label=9) for item in videos()[4:]]
    return {
        "labels": labelled_stream(videos(3), pictures, of),
        "unlabelled": unlabelled_stream(videos(), pictures, of),
        "own": labelled_stream(videos(4), pictures, of, believed),
    }


def alone(of: Config, first: int) -> Iterator[dict[str, Any]]:
    """What `load` gives, stream by stream, and in this process."""
    here = dataclasses.replace(of, data=dataclasses.replace(of.data, num_workers=0))
    pictures = cast(Frames, Pictures())
    believed = [dataclasses.replace(item, label=9) for item in videos()[4:]]
    labels = labelled_batches(videos(3), pictures, here, first)
    unlabelled = unlabelled_batches(videos(), pictures, here, first)
    own = labelled_batches(videos(4), pictures, here, first, believed)
    for batches in zip(labels, unlabelled, own, strict=False):
        yield dict(zip(("labels", "unlabelled", "own"), batches, strict=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 5])
def test_streams_are_what_each_is_alone_wherever_they_begin(workers: int, first: int) -> None:
    of = settings(f"data.num_workers={workers}")
    with closing(cast(Any, load(streams(of), first, of))) as batches:
        found = list(islice(batches, 7))
    for ours, expected in zip(found, islice(alone(of, first), 7), strict=True):
        assert list(ours) == list(expected)
        for name, batch in ours.items():
            assert type(batch) is type(expected[name])
            assert all(torch.equal(x, y) for x, y in zip(batch, expected[name], strict=True)), name


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_there_are_as_many_processes_as_workers_until_it_is_closed(workers: int) -> None:
    of = settings(f"data.num_workers={workers}")
    before = len(multiprocessing.active_children())
    with closing(cast(Any, load(streams(of), 0, of))) as batches:
        next(batches)
        assert len(multiprocessing.active_children()) - before == workers
    assert len(multiprocessing.active_children()) == before


def test_every_process_reads_all_streams() -> None:
    of = settings("data.num_workers=2", "augment.color=0")
    readers: dict[str, set[float]] = {"labels": set(), "unlabelled": set(), "own": set()}
    with closing(cast(Any, load(streams(of, Processes()), 0, of))) as batches:
        for step in islice(batches, 4):
            for name, batch in step.items():
                readers[name] |= set(batch[0].unique().tolist())
    assert len(readers["labels"]) == 2
    assert readers["labels"] == readers["unlabelled"] == readers["own"]
    assert -1 not in readers["labels"], "the run's own process reads none"


def test_a_stream_that_is_not_there_has_no_batches() -> None:
    of = settings("data.num_workers=1")
    given = {"labels": labelled_stream([], cast(Frames, Pictures()), of), "more": None}
    assert list(islice(load(given, 3, of), 4)) == [{"labels": None, "more": None}] * 4


def test_what_nobody_learns_from_is_read_once_and_without_processes() -> None:
    of = settings("data.num_workers=2", "baseline.methods=[supervised]", "augment.color=0")
    pictures = Pictures()
    given = {"unlabelled": unlabelled_stream(videos(), cast(Frames, pictures), of)}
    before = len(multiprocessing.active_children())
    first, *others = islice(load(given, 2, of), 5)
    assert len(multiprocessing.active_children()) == before
    assert len(pictures.reads) == of.train.batch_size
    assert all(other["unlabelled"] is first["unlabelled"] for other in others)
    (expected,) = islice(unlabelled_batches(videos(), cast(Frames, Pictures()), of, 2), 1)
    assert torch.equal(first["unlabelled"].weak, expected.weak)


def test_what_one_process_has_to_read_is_read_beside_the_others() -> None:
    """Vectors of frozen bodies: every loading process would keep all of them anew."""
    of = settings("data.num_workers=2", "augment.color=0")
    here = settings("data.num_workers=0", "augment.color=0")
    given = streams(of, Processes())
    given["vectors"] = labelled_stream(videos(3), cast(Frames, Processes()), here)
    with closing(cast(Any, load(given, 0, of))) as batches:
        step = next(batches)
    assert step["vectors"].x.unique().tolist() == [-1]
    assert -1 not in step["labels"].x.unique().tolist()


def test_streams_pickle_for_processes_that_are_not_forked() -> None:
    for stream in streams(settings("data.num_workers=1")).values():
        assert stream is not None
        again = pickle.loads(pickle.dumps(stream))
        pairs = zip(again.collated(3), stream.collated(3), strict=True)
        assert all(torch.equal(x, y) for x, y in pairs)


def test_a_time_out_names_the_videos_of_all_streams_that_were_being_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_out(*_: Any) -> Iterator[Any]:
        raise RuntimeError("DataLoader timed out after 3 seconds")
        yield

    reading = {"labelled": ["3.avi"], "unlabelled": ["5.avi", "3.avi"], "believed": []}
    monkeypatch.setattr(loading, "_loader", time_out)
    monkeypatch.setattr(ClipStream, "being_read", lambda of: reading[of._name])
    of = settings("data.num_workers=1")
    with pytest.raises(UserError, match=r"after 3 seconds \(it was reading 3\.avi, 5\.avi; data\."):
        next(load(streams(of), 0, of))
