"""Calibration figures against definitions, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bgan_video.metrics import calibration
from bgan_video.metrics.metrics import metrics
from bgan_video.metrics.statistics import risk_coverage


def draw(
    seed: int, videos: int = 60, classes: int = 4, sharp: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    random = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(videos, classes, generator=random, dtype=torch.float64)
    p = logits.softmax(1)
    return p, torch.multinomial(p, 1, generator=random).squeeze(1)


def test_equal_mass_bins_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]])
    labels = torch.tensor([0, 1, 0, 0])
    # Sorted by confidence: 0.6 wrong, 0.7 wrong | 0.8 right, 0.9 right.
    assert calibration.equal_mass_ece(p, labels, bins=2) == pytest.approx((1.3 + 0.3) / 4)
    # One item a bin: the mean distance of confidence and outcome.
    assert calibration.equal_mass_ece(p, labels) == pytest.approx((0.6 + 0.7 + 0.2 + 0.1) / 4)


@given(st.integers(0, 10**6))
def test_bins_can_only_hide_miscalibration(seed: int) -> None:
    p, labels = draw(seed)
    fine = calibration.equal_mass_ece(p, labels, bins=60)
    assert calibration.equal_mass_ece(p, labels, bins=15) <= fine + 1e-12
    confidence, right = p.max(1).values, (p.argmax(1) == labels).double()
    one = calibration.equal_mass_ece(p, labels, bins=1)
    assert one == pytest.approx(abs((right - confidence).mean().item()))


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_aurc_is_the_area_under_the_reports_curve(seed: int, videos: int) -> None:
    p, labels = draw(seed, videos)
    certainty = (p.max(1).values * 8).round()  # with ties
    right = p.argmax(1) == labels
    _, risk = risk_coverage(certainty.numpy(), right.numpy())
    assert calibration.aurc(certainty, right) == pytest.approx(risk.mean())


def test_aurc_of_a_perfect_ranking_and_of_none() -> None:
    right = torch.tensor([True, True, False, False])
    assert calibration.aurc(torch.tensor([4.0, 3, 2, 1]), right) == pytest.approx((1 / 3 + 0.5) / 4)
    assert calibration.aurc(torch.zeros(4), right) == pytest.approx(0.5)


@given(st.integers(0, 10**6))
def test_no_other_temperature_has_a_lower_nll(seed: int) -> None:
    p, labels = draw(seed, sharp=1.0)
    p = p**3 / (p**3).sum(1, keepdim=True)  # too sure by far
    fitted = calibration.fit_temperature(p, labels)

    def nll(temperature: float) -> float:
        scaled = calibration.scale(p, temperature)
        return -scaled.gather(1, labels[:, None]).log().mean().item()

    grid = np.geomspace(*calibration.TEMPERATURES, 300)
    assert nll(fitted) <= min(map(nll, grid)) + 1e-9


@pytest.mark.statistical
def test_scaling_undoes_overconfidence() -> None:
    """The error of T at 20,000 items is about 1 %; five of those are allowed."""
    p, labels = draw(3, videos=20_000, sharp=1.0)
    sure = p**2 / (p**2).sum(1, keepdim=True)
    assert calibration.fit_temperature(sure, labels) == pytest.approx(2.0, rel=0.05)
    assert calibration.fit_temperature(p, labels) == pytest.approx(1.0, rel=0.05)


def test_temperatures_end_at_their_bounds() -> None:
    p = torch.tensor([[0.6, 0.4], [0.7, 0.3]], dtype=torch.float64)
    low, high = calibration.TEMPERATURES
    assert calibration.fit_temperature(p, torch.tensor([0, 0])) == pytest.approx(low)
    assert calibration.fit_temperature(p, torch.tensor([1, 1])) == pytest.approx(high)


def test_a_probability_of_zero_is_survived() -> None:
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    found = calibration.detail(p, torch.tensor([1, 0]), 2.0)
    assert all(np.isfinite(value) for value in found["scaled"].values())


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_scaling_keeps_the_ranking(seed: int, temperature: float) -> None:
    p, _ = draw(seed)
    scaled = calibration.scale(p, temperature)
    assert torch.equal(scaled.argmax(1), p.argmax(1))
    torch.testing.assert_close(scaled.sum(1), torch.ones(len(p), dtype=torch.float64))
    torch.testing.assert_close(calibration.scale(p, 1.0), p)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_auroc_counts_pairs(unknown: list[int], known: list[int]) -> None:
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    found = calibration.auroc(torch.tensor(unknown), torch.tensor(known))
    assert found == pytest.approx(sum(pairs) / len(pairs))


def test_detail_without_validation_has_nothing_scaled() -> None:
    p, labels = draw(1)
    found = calibration.detail(p, labels, None)
    assert (found["temperature"], found["scaled"]) == (None, None)
    assert set(found) == {"ece_equal_mass", "aurc", "temperature", "scaled"}
    again = calibration.detail(p, labels, 1.0)["scaled"]
    assert again["nll"] == pytest.approx(metrics(p, labels)["nll"])
