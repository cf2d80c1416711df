import numpy as np
import pytest

from bgan_video.metrics import statistics


def test_reliability_and_ece_against_hand_computation():
    # Bins of 1/15: 0.50 in bin 7, 0.90 and 0.92 in bin 13, 1.0 in the last one.
    confidence = np.array([0.50, 0.90, 0.92, 1.0])
    correct = np.array([True, True, False, True])
    bins = statistics.reliability(confidence, correct)
    assert bins.counts.tolist() == [0] * 7 + [1] + [0] * 5 + [2, 1]
    assert bins.accuracy[[7, 13, 14]].tolist() == [1.0, 0.5, 1.0]
    assert bins.confidence[[7, 13, 14]] == pytest.approx([0.5, 0.91, 1.0])
    assert bins.ece == pytest.approx((1 * 0.5 + 2 * 0.41 + 1 * 0.0) / 4)


def test_ece_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(6, 0.4), size=500).astype(np.float32)
    labels = rng.integers(0, 6, 500)
    expected = metrics.multiclass_calibration_error(
        torch.from_numpy(probs), torch.from_numpy(labels), 6, n_bins=15, norm="l1"
    )
    found = statistics.reliability(probs.max(axis=1), probs.argmax(axis=1) == labels).ece
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_confusion_rows_are_true_classes():
    counts = statistics.confusion(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    parts = statistics.row_normalised(counts)
    assert parts.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_risk_coverage_against_hand_computation():
    confidence = np.array([0.6, 0.9, 0.8, 0.7])
    correct = np.array([False, True, False, True])
    coverage, risk = statistics.risk_coverage(confidence, correct)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_risk_coverage_does_not_depend_on_the_order_of_equal_items():
    confidence = np.array([0.9, 0.9, 0.5])
    one = statistics.risk_coverage(confidence, np.array([True, False, True]))[1]
    other = statistics.risk_coverage(confidence, np.array([False, True, True]))[1]
    assert one == pytest.approx([1 / 2, 1 / 2, 1 / 3])
    assert other == pytest.approx(one)


def test_paired_difference_against_hand_computation():
    first = np.array([True] * 6 + [False] * 4)
    second = np.array([True] * 2 + [False] * 7 + [True])
    pair = statistics.paired_difference(first, second)
    assert (pair.first_right, pair.second_right) == (6, 3)
    assert (pair.only_first, pair.only_second) == (4, 1)
    assert pair.difference == pytest.approx(0.3)
    # Each item contributes +1 (4 times), -1 (once) or 0: the error of their mean.
    contributions = np.array([1] * 4 + [-1] + [0] * 5)
    assert pair.standard_error == pytest.approx(contributions.std() / np.sqrt(10))
    # Five fair coins: P(at most one head) = 6/32, both sides.
    assert pair.p_value == pytest.approx(12 / 32)


def test_paired_difference_of_equal_models_proves_nothing():
    right = np.array([True, False, True])
    pair = statistics.paired_difference(right, right)
    assert (pair.difference, pair.standard_error, pair.p_value) == (0.0, 0.0, 1.0)


def test_paired_difference_of_many_items_does_not_overflow():
    right = np.ones(4000, dtype=bool)
    assert statistics.paired_difference(right, ~right).p_value == 0.0


def test_entropy_in_nats():
    probs = np.array([[0.5, 0.5], [1.0, 0.0]])
    assert statistics.entropy(probs) == pytest.approx([np.log(2), 0.0])


def test_thin_keeps_short_series_and_averages_long_ones():
    steps = np.arange(10.0)
    assert statistics.thin(steps, steps, limit=10)[0] is steps
    thinned, values = statistics.thin(steps, 2 * steps, limit=5)
    assert thinned.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert values.tolist() == [1, 5, 9, 13, 17]
