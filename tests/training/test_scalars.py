"""Curves under the notebook's names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from bgan_video.training.scalars import Scalars

LOGGED = {"step": 30, "loss_d": 1.5, "d_real": 0.75, "train_top1": 0.5, "supervised": 0.1}


def evaluated(split: str) -> dict[str, Any]:
    figures = {"bayesian": {"image": {"top1": 0.5}}, "supervised": {"image": {"top1": 0.25}}}
    return {"step": 40, "split": split, "models": figures}


def recording() -> tuple[Scalars, list[tuple[str, float, int]]]:
    written: list[tuple[str, float, int]] = []
    recorder = SimpleNamespace(add_scalar=lambda *call: written.append(call))
    return Scalars([recorder]), written


def test_the_names_are_the_notebooks() -> None:
    writer, written = recording()
    writer.logged(LOGGED)
    assert written == [("Loss_D", 1.5, 30), ("D(x)", 0.75, 30), ("train_acc", 0.5, 30)]
    written.clear()
    writer.evaluated(evaluated("test"), "image")
    assert written == [("test_acc_semi", 50.0, 40), ("test_acc_sup", 25.0, 40)]
    written.clear()
    writer.evaluated(evaluated("validation"), "image")
    assert [name for name, *_ in written] == ["validation_acc_semi", "validation_acc_sup"]


def test_a_round_says_how_many_how_certain_and_how_many_changed() -> None:
    writer, written = recording()
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
