"""Calibration figures against definitions, brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from bgan_video.metrics import calibration
from bgan_video.metrics.arrays import Floats, Labels
from bgan_video.metrics.scores import judge


def draw(
    seed: int, videos: int = 60, classes: int = 4, sharp: float = 2.0
) -> tuple[Floats, Labels]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    random = np.random.default_rng(seed)
    p = softmax(sharp * random.normal(size=(videos, classes)), axis=1)
    below = p.cumsum(axis=1)[:, :-1] < random.uniform(size=(videos, 1))
    return p, below.sum(axis=1)


def equal_mass(p: Floats, labels: Labels, bins: int = 15) -> float:
    judged = judge(p, labels)
    return calibration.equal_mass_ece(judged.confidence, judged.right, bins)


def test_equal_mass_bins_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 0])
    # Sorted by confidence: 0.6 wrong, 0.7 wrong | 0.8 right, 0.9 right.
    assert equal_mass(p, labels, bins=2) == pytest.approx((1.3 + 0.3) / 4)
    # One item a bin: the mean distance of confidence and outcome.
    assert equal_mass(p, labels) == pytest.approx((0.6 + 0.7 + 0.2 + 0.1) / 4)


@given(st.integers(0, 10**6))
def test_bins_can_only_hide_miscalibration(seed: int) -> None:
    p, labels = draw(seed)
    fine = equal_mass(p, labels, bins=60)
    assert equal_mass(p, labels, bins=15) <= fine + 1e-12
    confidence, right = p.max(1), p.argmax(1) == labels
    one = equal_mass(p, labels, bins=1)
    assert one == pytest.approx(abs((right - confidence).mean()))


@given(st.integers(0, 10**6))
def test_no_other_temperature_is_better_by_likelihood_and_prior(seed: int) -> None:
    p, labels = draw(seed, sharp=1.0)
    p = p**3 / (p**3).sum(1, keepdims=True)  # too sure by far
    fitted = calibration.fit_temperature(p, labels)

    def lost(temperature: float) -> float:
        scaled = calibration.scale(p, temperature)
        nll = -np.log(scaled[np.arange(len(labels)), labels]).sum()
        return nll + math.log(temperature) ** 2 / 2

    grid = np.geomspace(*calibration.TEMPERATURES, 300)
    assert lost(fitted) <= min(map(lost, grid)) + 1e-9


@pytest.mark.statistical
def test_scaling_undoes_overconfidence() -> None:
    """The error of T at 20,000 items is about 1 %; five of those are allowed."""
    p, labels = draw(3, videos=20_000, sharp=1.0)
    sure = p**2 / (p**2).sum(1, keepdims=True)
    assert calibration.fit_temperature(sure, labels) == pytest.approx(2.0, rel=0.05)
    assert calibration.fit_temperature(p, labels) == pytest.approx(1.0, rel=0.05)


def test_few_items_that_are_all_right_or_all_wrong_ask_for_no_extremes() -> None:
    p = np.tile([0.9, 0.05, 0.05], (32, 1))
    assert 0.3 < calibration.fit_temperature(p, np.zeros(32, int)) < 0.7
    assert 1 < calibration.fit_temperature(p, np.ones(32, int)) < calibration.TEMPERATURES[1]


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_scaling_keeps_the_ranking(seed: int, temperature: float) -> None:
    p, _ = draw(seed)
    scaled = calibration.scale(p, temperature)
    assert np.array_equal(scaled.argmax(1), p.argmax(1))
    np.testing.assert_allclose(scaled.sum(1), 1)
    np.testing.assert_allclose(calibration.scale(p, 1.0), p)


def test_reliability_and_ece_against_hand_computation():
    # Bins of 1/15: 0.50 in bin 7, 0.90 and 0.92 in bin 13, 1.0 in the last one.
    confidence = np.array([0.50, 0.90, 0.92, 1.0])
    correct = np.array([True, True, False, True])
    bins = calibration.reliability(confidence, correct)
    assert bins.counts.tolist() == [0] * 7 + [1] + [0] * 5 + [2, 1]
    assert bins.accuracy[[7, 13, 14]].tolist() == [1.0, 0.5, 1.0]
    assert bins.confidence[[7, 13, 14]] == pytest.approx([0.5, 0.91, 1.0])
    assert calibration.ece(confidence, correct) == pytest.approx((1 * 0.5 + 2 * 0.41 + 1 * 0.0) / 4)


def test_ece_is_that_of_torchmetrics():
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(6, 0.4), size=500).astype(np.float32)
    labels = rng.integers(0, 6, 500)
    expected = multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(labels), 6, n_bins=15, norm="l1"
    )
    found = calibration.ece(probs.max(axis=1), probs.argmax(axis=1) == labels)
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_items_of_the_same_confidence_count_alike_in_any_order() -> None:
    confidence = np.full(100, 0.5)
    right = np.arange(100) < 50
    for order in (right, right[::-1], np.tile([True, False], 50)):
        assert calibration.equal_mass_ece(confidence, order) == pytest.approx(0)
