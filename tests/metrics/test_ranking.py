"""Risk, coverage and AUROC against definitions and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.metrics.ranking import aurc, auroc, risk_coverage


def test_risk_coverage_against_hand_computation():
    confidence = np.array([0.6, 0.9, 0.8, 0.7])
    correct = np.array([False, True, False, True])
    coverage, risk = risk_coverage(confidence, correct)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_risk_coverage_does_not_depend_on_the_order_of_equal_items():
    confidence = np.array([0.9, 0.9, 0.5])
    one = risk_coverage(confidence, np.array([True, False, True]))[1]
    other = risk_coverage(confidence, np.array([False, True, True]))[1]
    assert one == pytest.approx([1 / 2, 1 / 2, 1 / 3])
    assert other == pytest.approx(one)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_aurc_is_the_mean_error_of_the_most_certain(said: list[tuple[int, bool]]) -> None:
    """Over every part of the items; of equally certain ones each counts with their mean error."""
    errors = {c: np.mean([not ok for other, ok in said if other == c]) for c, _ in said}
    ordered = sorted((c for c, _ in said), reverse=True)
    risks = [np.mean([errors[c] for c in ordered[: n + 1]]) for n in range(len(said))]
    certainty, right = np.array(said).T
    assert aurc(certainty, right) == pytest.approx(np.mean(risks))


def test_aurc_of_a_perfect_ranking_and_of_none() -> None:
    right = np.array([True, True, False, False])
    assert aurc(np.array([4.0, 3, 2, 1]), right) == pytest.approx((1 / 3 + 0.5) / 4)
    assert aurc(np.zeros(4), right) == pytest.approx(0.5)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_auroc_counts_pairs(unknown: list[int], known: list[int]) -> None:
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    found = auroc(np.array(unknown), np.array(known))
    assert found == pytest.approx(sum(pairs) / len(pairs))
