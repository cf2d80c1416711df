"""What is saved, and what is said of it, where there is no next batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bgan_video import ranks
from bgan_video.errors import UserError
from bgan_video.training import checkpoints, loop, saving

SAVED, DONE = 4, 7


@pytest.mark.parametrize(
    ("processes", "weight", "told"),
    [(1, 0.5, DONE), (1, float("nan"), SAVED), (2, 0.5, SAVED)],
    ids=["alone", "not finite", "of several"],
)
def test_so_many_steps_are_saved_as_it_says(
    processes: int, weight: float, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()

    def save(step: int, _: Any, of: Any) -> None:
        checkpoints.save(folder, "a run", step, of.state_dict())

    models: Any = SimpleNamespace(state_dict=lambda: {"weight": torch.tensor(weight)})
    monkeypatch.setattr(saving, "save", save)
    monkeypatch.setattr(ranks, "count", lambda: processes)
    checkpoints.save(folder, "a run", SAVED, {})
    session: Any = SimpleNamespace(folder=tmp_path)
    said = f"^a video broke; {told} steps are saved: put it right"
    with (
        pytest.raises(UserError, match=said),
        loop._saved_before(DONE, SAVED, session, models),
    ):
        raise UserError("a video broke")
    assert checkpoints.newest_step(folder) == told
