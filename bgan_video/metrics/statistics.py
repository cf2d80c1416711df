"""The numbers behind the report's figures: pure functions on numpy arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence, in equal-width bins of the largest probability."""

    counts: NDArray[np.integer[Any]]
    accuracy: Floats
    """Mean accuracy of each bin; 0 where it is empty."""
    confidence: Floats
    """Mean confidence of each bin; 0 where it is empty."""

    @property
    def ece(self) -> float:
        """Expected calibration error (L1): the mean gap, weighted by count."""
        total = self.counts.sum()
        return float((self.counts * np.abs(self.accuracy - self.confidence)).sum() / max(total, 1))


def reliability(confidence: Floats, correct: Bools, bins: int = NUM_BINS) -> Reliability:
    """Bin predictions by confidence; a bin holds its lower edge, the last one 1 as well."""
    index = bin_of(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    filled = np.maximum(counts, 1)
    return Reliability(
        counts=counts,
        accuracy=np.bincount(index, weights=correct, minlength=bins) / filled,
        confidence=np.bincount(index, weights=confidence, minlength=bins) / filled,
    )


def bin_of(confidence: Floats, bins: int = NUM_BINS) -> NDArray[np.intp]:
    """The bin of each confidence; the last bin holds 1 as well."""
    return np.minimum((confidence * bins).astype(np.intp), bins - 1)


def confusion(labels: Labels, predicted: Labels, num_classes: int) -> NDArray[np.int64]:
    """Counts `[true, predicted]`."""
    pairs = labels.astype(np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def row_normalised(counts: NDArray[np.int64]) -> Floats:
    """Each row as parts of its sum; a class without items keeps zeros."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def risk_coverage(confidence: Floats, correct: Bools) -> tuple[Floats, Floats]:
    """Error rate among the most confident part of the items, for every part.

    Items of the same confidence cannot be told apart, so each counts with their mean error; the
    curve does not depend on the order of the items.

    Returns:
        Coverage and risk, each `[V]`; the last risk is the error rate of all items.
    """
    values, group = np.unique(-confidence, return_inverse=True)
    sizes = np.bincount(group, minlength=len(values))
    errors = np.bincount(group, weights=~correct, minlength=len(values)) / sizes
    kept = np.arange(1, len(confidence) + 1)
    return kept / len(confidence), np.cumsum(np.repeat(errors, sizes)) / kept


@dataclass(frozen=True)
class PairedDifference:
    """Two classifiers on the same items."""

    count: int
    first_right: int
    second_right: int
    only_first: int
    only_second: int

    @property
    def difference(self) -> float:
        """Accuracy of the first less that of the second."""
        return (self.only_first - self.only_second) / self.count

    @property
    def standard_error(self) -> float:
        """Binomial standard error of the paired difference.

        Only items on which the two disagree move it, so it is smaller than that of two
        independent test sets.
        """
        disagree = self.only_first + self.only_second
        spread = disagree - (self.only_first - self.only_second) ** 2 / self.count
        return math.sqrt(max(spread, 0.0)) / self.count

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test: the disagreements as tosses of a fair coin."""
        disagree = self.only_first + self.only_second
        fewer = min(self.only_first, self.only_second)
        tail = sum(math.comb(disagree, k) for k in range(fewer + 1))
        return min(1.0, 2 * tail / 2**disagree)


def paired_difference(first: Bools, second: Bools) -> PairedDifference:
    """Compare two arrays that say which items were right."""
    return PairedDifference(
        count=len(first),
        first_right=int(first.sum()),
        second_right=int(second.sum()),
        only_first=int((first & ~second).sum()),
        only_second=int((second & ~first).sum()),
    )


def entropy(probs: Floats) -> Floats:
    """Entropy of each row in nats."""
    return -np.where(probs > 0, probs * np.log(np.maximum(probs, 1e-300)), 0.0).sum(axis=1)


def thin(steps: Floats, values: Floats, limit: int = 400) -> tuple[Floats, Floats]:
    """At most `limit` points: means over runs of consecutive points."""
    if len(steps) <= limit:
        return steps, values
    pieces = np.linspace(0, len(steps), limit + 1).astype(int)[:-1]
    sizes = np.diff([*pieces, len(steps)])
    return np.add.reduceat(steps, pieces) / sizes, np.add.reduceat(values, pieces) / sizes
