"""Curves under the notebook's names, with TensorBoard or without."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgan_video.training import scalars
from bgan_video.training.scalars import Scalars

LOGGED = {"step": 30, "loss_d": 1.5, "d_real": 0.75, "train_top1": 0.5, "supervised": 0.1}


def evaluated(split: str) -> dict[str, Any]:
    figures = {"bayesian": {"image": {"top1": 0.5}}, "supervised": {"image": {"top1": 0.25}}}
    return {"step": 40, "split": split, "models": figures}


def test_without_tensorboard_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scalars, "find_spec", lambda _: None)
    writer = Scalars(tmp_path)
    writer.logged(LOGGED)
    writer.evaluated(evaluated("test"), "image")
    writer.close()
    assert not list(tmp_path.iterdir())


def test_the_names_are_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, float, int]] = []
    monkeypatch.setattr(scalars, "find_spec", lambda _: None)
    writer = Scalars(tmp_path)
    recorder = SimpleNamespace(add_scalar=lambda *call: written.append(call))
    monkeypatch.setattr(writer, "_writer", recorder)
    writer.logged(LOGGED)
    assert written == [("Loss_D", 1.5, 30), ("D(x)", 0.75, 30), ("train_acc", 0.5, 30)]
    written.clear()
    writer.evaluated(evaluated("test"), "image")
    assert written == [("test_acc_semi", 50.0, 40), ("test_acc_sup", 25.0, 40)]
    written.clear()
    writer.evaluated(evaluated("validation"), "image")
    assert [name for name, *_ in written] == ["validation_acc_semi", "validation_acc_sup"]


def test_a_round_says_how_many_how_certain_and_how_many_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []
    monkeypatch.setattr(scalars, "find_spec", lambda _: None)
    writer = Scalars(tmp_path)
    recorder = SimpleNamespace(add_scalar=lambda *call: written.append(call))
    monkeypatch.setattr(writer, "_writer", recorder)
    line = {"model": "bayesian_gan", "certainty": 0.5, "changed": None}
    other = {"model": "self_training", "certainty": 0.25, "changed": False}
    writer.believed(300, [line, line | {"certainty": 0.75, "changed": True}, other])
    assert written == [
        ("rounds/bayesian_gan_believed", 2, 300),
        ("rounds/bayesian_gan_certainty", 0.625, 300),
        ("rounds/bayesian_gan_changed", 1, 300),
        ("rounds/self_training_believed", 1, 300),
        ("rounds/self_training_certainty", 0.25, 300),
        ("rounds/self_training_changed", 0, 300),
    ]
    written.clear()
    writer.believed(300, [])
    assert written == []


def test_event_files_hold_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = Scalars(tmp_path)
    writer.evaluated(evaluated("test"), "image")
    writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("test_acc_semi")[0].value == 50.0
