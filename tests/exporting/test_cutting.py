"""What an exported run says of how its clips are cut, and that the example cuts them so."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bgan_video import config
from bgan_video.exporting import files, hub
from bgan_video.models import build_discriminator
from bgan_video.prediction.trained import TrainedRun
from bgan_video.video import timed
from bgan_video.video.clips import uniform_clips
from bgan_video.video.reader import open_video
from bgan_video.video.times import frame_times
from tests.prediction.finished import CLASSES, run_of

PROGRAM: Any = SimpleNamespace(inputs=(), bodies=[SimpleNamespace(networks=[0])])


def run(folder: Path, *overrides: str) -> TrainedRun:
    small = ["clip.num_frames=4", "clip.size=16", "discriminator.width=4", "run.device=cpu"]
    c = config.load(None, [*small, *overrides])
    return run_of(folder, c, build_discriminator(c, len(CLASSES)).state_dict())


def test_a_run_cut_by_time_tells_frames_a_second_and_no_stride(tmp_path: Path) -> None:
    of = run(tmp_path, "clip.fps=12.5")
    told = files.describe(of, PROGRAM)
    assert (told["num_frames"], told["fps"], told["stride"]) == (4, 12.5, None)
    card = hub.card(of, {}, "hub")
    assert "4 frames at 12.5 a second, seen" in card
    assert "stride" not in card


def test_a_run_cut_by_a_stride_tells_that(tmp_path: Path) -> None:
    of = run(tmp_path, "clip.stride=3")
    told = files.describe(of, PROGRAM)
    assert (told["num_frames"], told["fps"], told["stride"]) == (4, None, 3)
    assert "4 frames at a stride of 3, seen" in hub.card(of, {}, "hub")


@pytest.mark.parametrize("fps", [None, 5.0])
def test_the_serving_example_cuts_clips_as_the_run_did(
    fps: float | None, small_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("starlette")

    def load(_: str, extra_files: dict[str, str]) -> Any:
        told = {"num_frames": 4, "stride": None if fps else 1, "fps": fps}
        extra_files["bgan_video.json"] = json.dumps(told)
        return SimpleNamespace(module=lambda: None)

    monkeypatch.setattr(torch.export, "load", load)
    monkeypatch.setenv("PROGRAM", "program.pt2")
    monkeypatch.delitem(sys.modules, "examples.serve", raising=False)
    serve = importlib.import_module("examples.serve")
    monkeypatch.delitem(sys.modules, "examples.serve")  # others load a program of their own
    video = min(small_videos.glob("*/*.avi"))
    with open_video(video) as reader:
        length = len(reader)
    (wanted,) = uniform_clips(length, 4, 1, 1, "loop")
    if fps:
        (by_time,) = timed.uniform_clips(frame_times(video, length, "auto"), 4, fps, 1, "loop")
        assert by_time != wanted, "so that the test can tell"
        wanted = by_time
    assert serve.middle(video, length) == wanted
