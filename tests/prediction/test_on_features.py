"""What videos count in a probe's loss."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import config
from bgan_video.data.manifest import Item
from bgan_video.prediction import trained
from bgan_video.prediction.on_features import counts
from tests.prediction.finished import run_of


def items(labels: list[int], weight: float = 1.0) -> list[Item]:
    return [
        Item(f"{i}.mp4", label, f"{i}", split="train", labelled=True, weight=weight)
        for i, label in enumerate(labels)
    ]


PLAIN = config.load(None)


@given(st.integers(1, 30), st.integers(0, 30))
def test_pseudo_labels_count_at_most_as_much_as_labels(labels: int, pseudo: int) -> None:
    found = counts(items([0] * labels), items([0] * pseudo), PLAIN)
    assert found[:labels].tolist() == [1.0] * labels
    assert found[labels:].sum() <= labels + 1e-9
    assert (found <= 1).all()


def test_weighed_classes_count_alike_and_rows_as_their_weights_say() -> None:
    labels = [0, 0, 0, 1]
    even = counts(items(labels), [], config.load(None, ["train.class_weights=balanced"]))
    seen = counts(items(labels), [], config.load(None, ["train.labelled_sampling=balanced"]))
    for found in (even, seen):
        assert found[:3].sum().item() == pytest.approx(found[3].item())
        assert found.mean().item() == pytest.approx(1.0)
    rows = [*items([0], weight=3.0), *items([1], weight=1.0)]
    assert counts(rows, [], PLAIN).tolist() == [1.5, 0.5]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 60), st.integers(0, 60))
def test_weighed_classes_count_alike_however_many_pseudo_labels(
    zeros: int, ones: int, more_zeros: int, more_ones: int
) -> None:
    labels, pseudo = [0] * zeros + [1] * ones, [0] * more_zeros + [1] * more_ones
    of = config.load(None, ["train.class_weights=balanced"])
    found, plain = (counts(items(labels), items(pseudo), c) for c in (of, PLAIN))
    of_ones = torch.tensor([*labels, *pseudo]) == 1
    assert found[of_ones].sum().item() == pytest.approx(found[~of_ones].sum().item())
    assert found.sum().item() == pytest.approx(plain.sum().item())


def test_classes_of_pseudo_labels_are_weighed_with_those_of_labels() -> None:
    of = config.load(None, ["train.class_weights=balanced"])
    labels, pseudo = [0, 1], [1, 1]
    found = counts(items(labels), items(pseudo), of)
    expected = {k: 4 / (2 * n) for k, n in Counter(labels + pseudo).items()}
    assert found.tolist() == pytest.approx([expected[k] for k in labels + pseudo])


def test_a_probe_that_answers_comes_before_rivals_that_see_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads `metrics.json` takes the first model for the one that answers."""
    given = ["baseline.methods=[linear_probe,supervised]", "run.device=cpu"]
    run = run_of(tmp_path, config.load(None, given), {})
    for model in ("linear_probe", "supervised"):
        run.bank.add(model, 1, 0, {})
    asked = SimpleNamespace(ask=lambda of, *_: dict.fromkeys(of, "said"))
    monkeypatch.setattr(trained, "predict_models", lambda *_: ({"supervised": "said"}, {}))
    monkeypatch.setattr(trained.TrainedRun, "_features_body", lambda *_: asked)
    monkeypatch.setattr(trained.TrainedRun, "networks", lambda *_: ())
    predictions, _ = run.predict_items((), run.frames(()))
    assert [*predictions] == ["linear_probe", "supervised"]
    assert run.answering == "linear_probe"
