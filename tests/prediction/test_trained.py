"""A run that is opened: what is no run, and what is refused before minutes of work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bgan_video import config
from bgan_video.acquisition.suggestions import write_rows
from bgan_video.errors import UserError
from bgan_video.prediction.trained import TrainedRun
from tests.prediction.finished import run_of


def test_settings_alone_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config.to_yaml(config.load(None, ["run.device=cpu"])))
    with pytest.raises(UserError, match=r"is not a run folder: it holds no manifest\.json"):
        TrainedRun(tmp_path)


def test_a_table_with_answers_is_refused_before_anything_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tmp_path, config.load(None, ["run.device=cpu"]), {"w": torch.zeros(1)})

    def choose(*_: object) -> None:
        raise AssertionError("videos were chosen")

    monkeypatch.setattr(run, "choose", choose)
    write_rows(tmp_path / "suggestions.csv", [{"path": "a.avi", "label": "x", "rank": "1"}])
    with pytest.raises(UserError, match="filled in; move it"):
        run.suggest(5)
