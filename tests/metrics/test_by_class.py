"""Figures by class against their definitions, and against another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_recall

from bgan_video.metrics.by_class import balanced_accuracy, macro_f1, recalls
from bgan_video.metrics.scores import scores

K = 4


def one_hot(predicted: list[int]) -> np.ndarray:
    return np.eye(K)[predicted]


def test_a_class_that_is_never_found_halves_the_balanced_accuracy_alone() -> None:
    labels = [0] * 9 + [1]
    p = one_hot([0] * 10)
    assert recalls(p, labels)[:2].tolist() == [1, 0]
    assert np.isnan(recalls(p, labels)[2:]).all()
    assert scores(p, labels)["top1"] == 0.9
    assert balanced_accuracy(p, labels) == 0.5
    assert macro_f1(p, labels) == pytest.approx((18 / 19 + 0) / 2)


def test_a_class_that_is_only_predicted_counts_in_f1() -> None:
    assert macro_f1(one_hot([0, 2]), [0, 0]) == pytest.approx((2 / 3 + 0) / 2)
    assert balanced_accuracy(one_hot([0, 2]), [0, 0]) == 0.5


@given(st.lists(st.tuples(st.integers(0, K - 1), st.integers(0, K - 1)), min_size=1, max_size=30))
def test_as_torchmetrics_has_it(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = (list(part) for part in zip(*pairs, strict=True))
    given = (torch.tensor(predicted), torch.tensor(labels), K)
    p = one_hot(predicted)
    there = sorted(set(labels))
    theirs = multiclass_recall(*given, average=None)[there]
    assert recalls(p, labels)[there] == pytest.approx(theirs.numpy())
    assert balanced_accuracy(p, labels) == pytest.approx(theirs.mean().item())
    named = sorted({*labels, *predicted})
    assert macro_f1(p, labels) == pytest.approx(
        multiclass_f1_score(*given, average=None)[named].mean().item()
    )
