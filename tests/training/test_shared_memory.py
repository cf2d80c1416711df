"""Batches that wait in shared memory: how many bytes, and a word where they do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from bgan_video import config, ranks
from bgan_video.data.frames import Frames
from bgan_video.data.loading import Stream
from bgan_video.data.manifest import Item
from bgan_video.data.streams import labelled_stream, unlabelled_stream
from bgan_video.training import shared_memory

SETTINGS = ["clip.num_frames=8", "clip.size=32", "train.batch_size=16", "run.device=cpu"]
CLIP = 8 * 32 * 32 * 3 * 4 / 2**20
ITEMS = [Item(f"{i}.avi", i % 3, str(i), "train", num_frames=40) for i in range(6)]
FRAMES = cast(Frames, None)  # nothing is read


def streams(*more: str, believed: int = 0) -> list[Stream[Any] | None]:
    """Of labels, unlabelled items, and a method that believes some, if it does."""
    of = config.load("demo", [*SETTINGS, "train.labelled_batch_size=16", *more])
    own = labelled_stream(ITEMS, FRAMES, of, ITEMS[:believed]) if believed else None
    return [labelled_stream(ITEMS, FRAMES, of), unlabelled_stream(ITEMS, FRAMES, of), own]


def test_bytes_are_those_of_all_streams_and_views_ahead_and_in_use() -> None:
    workers = "data.num_workers=4"
    steps = 4 * 2 + 1
    both = shared_memory.waiting_mib(streams(workers), 4)
    assert both == pytest.approx(steps * (16 + 2 * 16) * CLIP), "the strong view too"
    one_view = streams(workers, "objective.consistency_weight=0")
    assert shared_memory.waiting_mib(one_view, 4) == pytest.approx(steps * (16 + 16) * CLIP)
    more = shared_memory.waiting_mib(streams(workers, believed=3), 4)
    assert more == pytest.approx(steps * (2 * 16 + 2 * 16) * CLIP), "a method's own stream too"


def test_what_the_runs_own_process_reads_does_not_lie_there() -> None:
    assert shared_memory.waiting_mib(streams(), 0) == 0
    supervised = streams("data.num_workers=4", "baseline.methods=[supervised]")
    assert shared_memory.waiting_mib(supervised, 4) == pytest.approx(9 * 16 * CLIP), "shown once"


def test_ranks_of_a_machine_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = streams("data.num_workers=4")
    monkeypatch.setattr(ranks, "mine", lambda size, what: range(0, size, 2))
    shared = streams("data.num_workers=4")
    monkeypatch.setattr(ranks, "on_machine", lambda: 2)
    both = shared_memory.waiting_mib(shared, 4)
    monkeypatch.undo()
    assert both == shared_memory.waiting_mib(alone, 4)


@pytest.mark.parametrize(("free_mib", "fitting"), [(64, 4), (30, 2), (8, 0)])
def test_a_small_container_is_said_and_what_fits_in_it(
    free_mib: int, fitting: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free_mib * 2**20)
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    line = shared_memory.note(streams("data.num_workers=4"))
    assert (line is None) == (fitting == 4)
    if line is not None:
        assert "40 MiB of batches" in line
        assert f"has {free_mib} MiB left" in line
        assert line.endswith(f"or set data.num_workers={fitting}")


def test_a_system_without_that_place_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "SHARED", Path("not") / "there")
    assert shared_memory.note(streams("data.num_workers=64", "train.batch_size=512")) is None
