"""Accuracy and calibration against sums written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bgan_video.metrics.calibration import NUM_BINS
from bgan_video.metrics.scores import scores

ROWS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.35, 0.25, 0.4], [0.05, 0.9, 0.05]])
LABELS = torch.tensor([0, 0, 2, 1])


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(2, 9)))
    scale = draw(st.floats(0.1, 5))
    p = (torch.randn(shape, generator=random, dtype=torch.float64) * scale).softmax(1)
    return p, torch.randint(shape[1], (shape[0],), generator=random)


def binned(probabilities: Tensor, labels: Tensor) -> float:
    """Guo et al. 2017, eq. 3, one item at a time: bins (m/15, (m+1)/15] of the confidence."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        m = min(math.ceil(confidence * 15), 15)
        bins.setdefault(m, []).append((confidence, row.index(confidence) == label))
    gaps = [abs(sum(hit - c for c, hit in members)) for members in bins.values()]
    return sum(gaps) / len(labels)


def test_figures_of_four_predictions() -> None:
    m = scores(ROWS, LABELS)
    assert m["top1"] == 0.75
    assert m["top5"] == 1.0
    assert m["count"] == 4
    assert m["nll"] == pytest.approx(-sum(map(math.log, (0.7, 0.1, 0.4, 0.9))) / 4, rel=1e-6)
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.9**2 + 0.8**2 + 0.1**2]
    squares += [0.35**2 + 0.25**2 + 0.6**2, 0.05**2 + 0.1**2 + 0.05**2]
    assert m["brier"] == pytest.approx(sum(squares) / 4, rel=1e-6)
    # No two of the confidences .7, .8, .4, .9 share a bin.
    assert m["ece"] == pytest.approx((0.3 + 0.8 + 0.6 + 0.1) / 4, rel=1e-5)


@settings(deadline=None)
@given(predictions())
def test_ece_is_the_gap_of_fifteen_bins(prediction: tuple[Tensor, Tensor]) -> None:
    assert NUM_BINS == 15
    assert scores(*prediction)["ece"] == pytest.approx(binned(*prediction), abs=1e-5)


def test_the_gap_is_that_of_the_bin_not_of_its_items() -> None:
    p = torch.tensor([[0.75, 0.25], [0.76, 0.24]])
    assert scores(p, torch.tensor([0, 1]))["ece"] == pytest.approx(abs(1 - 0.75 - 0.76) / 2)


def test_certainty_shares_the_last_bin() -> None:
    p = torch.tensor([[1.0, 0.0], [0.95, 0.05]])
    assert scores(p, torch.tensor([1, 0]))["ece"] == pytest.approx((1.95 - 1) / 2, abs=1e-5)


def test_perfect_predictions() -> None:
    m = scores(torch.eye(7), torch.arange(7))
    expected = {"top1": 1, "top5": 1, "nll": 0, "ece": 0, "brier": 0, "count": 7}
    expected |= {"balanced_accuracy": 1, "macro_f1": 1}
    assert m == pytest.approx(expected, abs=1e-5)


def test_confidently_wrong_predictions_are_finite() -> None:
    m = scores(torch.eye(3)[[1, 2, 0]], torch.arange(3))
    assert m["top1"] == 0
    assert m["brier"] == 2
    assert m["ece"] == pytest.approx(1, abs=1e-5)
    assert math.isfinite(m["nll"])
    assert m["nll"] > 80


def test_small_probabilities_are_not_capped() -> None:
    p = torch.tensor([[1 - 1e-30, 1e-30]], dtype=torch.float64)
    assert scores(p, torch.tensor([1]))["nll"] == pytest.approx(30 * math.log(10))


def test_top_five_is_the_five_most_probable() -> None:
    p = torch.tensor([[0.3, 0.25, 0.2, 0.1, 0.08, 0.07]]).repeat(6, 1)
    m = scores(p, torch.arange(6))
    assert m["top1"] == pytest.approx(1 / 6)
    assert m["top5"] == pytest.approx(5 / 6)


@settings(deadline=None)
@given(predictions())
def test_figures_keep_their_bounds_and_ignore_the_order(p_and_y: tuple[Tensor, Tensor]) -> None:
    p, y = p_and_y
    m, back = scores(p, y), scores(p.flip(0), y.flip(0))
    assert m == pytest.approx(back, abs=1e-6)
    assert 0 <= m["top1"] <= m["top5"] <= 1
    assert 0 <= m["ece"] <= 1
    assert 0 <= m["brier"] <= 2
    assert m["nll"] >= 0


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        scores(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
