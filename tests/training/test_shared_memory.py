"""Batches that wait in shared memory: how many bytes, and a word where they do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bgan_video import config
from bgan_video.training import shared_memory

SETTINGS = ["clip.num_frames=8", "clip.size=32", "train.batch_size=16", "run.device=cpu"]


def settings(*more: str) -> config.Config:
    return config.load("demo", [*SETTINGS, "train.labelled_batch_size=16", *more])


def test_bytes_are_those_of_both_streams_and_of_all_views() -> None:
    of_four = shared_memory.waiting_mib(settings("data.num_workers=4"))
    clip = 8 * 32 * 32 * 3 * 4
    assert of_four == 4 * 2 * (16 + 2 * 16) * clip / 2**20, "the strong view too"
    one_view = settings("data.num_workers=4", "objective.consistency_weight=0")
    assert shared_memory.waiting_mib(one_view) == 4 * 2 * (16 + 16) * clip / 2**20
    assert shared_memory.waiting_mib(settings()) == 0, "nothing waits in one process"


@pytest.mark.parametrize(("free_mib", "fits"), [(64, True), (8, False)])
def test_a_small_container_is_said(
    free_mib: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free_mib * 2**20)
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    line = shared_memory.note(settings("data.num_workers=4"))
    assert (line is None) == fits
    if line is not None:
        assert "36 MiB of batches" in line
        assert "has 8 MiB left" in line
        assert "data.num_workers=0" in line


def test_a_system_without_that_place_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "SHARED", Path("not") / "there")
    assert shared_memory.note(settings("data.num_workers=64", "train.batch_size=512")) is None
