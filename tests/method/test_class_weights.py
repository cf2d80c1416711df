"""Weights of classes: their definitions, and that they reach every term that learns from labels."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.method.class_weights import ClassWeights, class_weights

LABELS = [0] * 12 + [1] * 3 + [2]


def of_labels(kind: ClassWeights, labels: list[int], num_classes: int) -> tuple[float, ...] | None:
    """Where every item is drawn as often as any other."""
    counts = Counter(labels)
    found = [counts[k] / len(labels) for k in range(num_classes)]
    return class_weights(kind, found, len(labels))


def test_balanced_classes_weigh_the_same_in_all() -> None:
    weights = of_labels("balanced", LABELS, 4)
    assert weights is not None
    sums = [weights[k] * n for k, n in Counter(LABELS).items()]
    assert sums == pytest.approx([16 / 3] * 3)
    assert weights[3] == 0


def test_the_effective_number_by_hand() -> None:
    weights = of_labels("effective", LABELS, 3)
    assert weights is not None
    beta = 15 / 16
    raw = [(1 - beta) / (1 - beta**n) for n in (12, 3, 1)]
    assert weights[0] / weights[2] == pytest.approx(raw[0] / raw[2])
    assert weights[1] / weights[2] == pytest.approx(raw[1] / raw[2])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_the_mean_weight_is_one_and_the_effective_lies_between(labels: list[int]) -> None:
    counts = Counter(labels)
    kinds: list[ClassWeights] = ["balanced", "effective"]
    found = {kind: of_labels(kind, labels, 5) for kind in kinds}
    for weights in found.values():
        assert weights is not None
        assert sum(weights[label] for label in labels) / len(labels) == pytest.approx(1)
    small, large = min(counts, key=lambda k: counts[k]), max(counts, key=lambda k: counts[k])
    ratios = [of[small] / of[large] for of in found.values() if of]
    assert ratios[0] >= ratios[1] * (1 - 1e-9)
    assert ratios[1] >= 1 - 1e-9


def test_without_weights_there_are_none() -> None:
    assert of_labels("none", LABELS, 3) is None
    assert class_weights("balanced", [0.0, 0.0], 0) is None


def test_balanced_classes_weigh_the_same_however_often_each_is_drawn() -> None:
    weights = class_weights("balanced", [0.7, 0.3], 110)
    assert weights == pytest.approx((0.5 / 0.7, 0.5 / 0.3))


def test_the_weighed_term_is_the_mean_of_weighed_entropies() -> None:
    logits, y = torch.randn(5, 4), torch.tensor([0, 0, 1, 2, 0])
    weights = torch.tensor([0.5, 2.0, 3.0])
    each = torch.stack([losses.supervised(logits[i : i + 1], y[i : i + 1]) for i in range(5)])
    expected = (weights[y] * each).mean()
    torch.testing.assert_close(losses.supervised(logits, y, weights), expected)
    torch.testing.assert_close(
        losses.labelled(logits, y, 0.5, weights), expected + 0.5 * losses.real(logits)
    )
    torch.testing.assert_close(
        losses.supervised(logits, y, torch.ones(3)), losses.supervised(logits, y)
    )


def test_weights_and_sampling_together_go_too_far() -> None:
    with pytest.raises(UserError, match="together too far"):
        config.load(None, ["train.class_weights=balanced", "train.labelled_sampling=balanced"])
