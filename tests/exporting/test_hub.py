"""A run that is taken away, made without training: where it goes, and what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bgan_video import api, config
from bgan_video.errors import UserError
from bgan_video.prediction.trained import TrainedRun
from tests.prediction.finished import run_of


@pytest.fixture
def run(tmp_path: Path) -> TrainedRun:
    folder = tmp_path / "run"
    folder.mkdir()
    return run_of(folder, config.load(None, ["run.device=cpu"]), {"w": torch.zeros(1)})


@pytest.mark.parametrize(
    ("to", "out", "said"),
    [
        ("torch", "folder", "is a folder; give the name of a file"),
        ("hub", "file", "is a file; give the name of a folder"),
        ("torch", "file/program.pt2", "File exists"),
    ],
)
def test_a_place_that_does_not_serve_is_told(
    to: str, out: str, said: str, run: TrainedRun, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"--out={tmp_path / out}.*{said}"):
        api.export(run, to, tmp_path / out)
