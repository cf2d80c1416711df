"""Calibration: how far confidence is from accuracy, and the temperature that mends it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from bgan_video.metrics.arrays import Bools, Floats, Labels
from bgan_video.metrics.ranking import with_ties

NUM_BINS = 15
TEMPERATURES = (0.05, 20.0)
"""Where a fitted temperature is looked for."""
TINY = 1e-38
"""Below the smallest probability a float32 softmax gives, so that it caps nothing but exact zeros.
"""
_HALVINGS = 60


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence, in bins of equal width of the largest probability."""

    counts: Labels
    accuracy: Floats
    """Mean accuracy of each bin; 0 where it is empty."""
    confidence: Floats
    """Mean confidence of each bin; 0 where it is empty."""


def reliability(confidence: Floats, right: Floats | Bools, bins: int = NUM_BINS) -> Reliability:
    """Bin predictions by confidence.

    Args:
        confidence: `[V]`, in 0..1.
        right: `[V]`, whether each is right.
        bins: Their number.
    """
    index = bin_of(confidence, bins)
    counts = np.bincount(index, minlength=bins)
    filled = np.maximum(counts, 1)
    return Reliability(
        counts=counts,
        accuracy=np.bincount(index, weights=right, minlength=bins) / filled,
        confidence=np.bincount(index, weights=confidence, minlength=bins) / filled,
    )


def bin_of(confidence: Floats, bins: int = NUM_BINS) -> NDArray[np.intp]:
    """The bin of each confidence; a bin holds its lower edge, the last one 1 as well."""
    return np.minimum((confidence * bins).astype(np.intp), bins - 1)


def ece(confidence: Floats, right: Floats | Bools, bins: int = NUM_BINS) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3), in 0..1.

    Args:
        confidence: `[V]`, at least one.
        right: `[V]`, whether each is right.
        bins: Their number.
    """
    gaps = np.bincount(bin_of(confidence, bins), right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def equal_mass_ece(confidence: Floats, right: Floats | Bools, bins: int = NUM_BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019), in 0..1.

    Args:
        confidence: `[V]`.
        right: `[V]`, whether each is right.
        bins: As many bins, or one an item where there are fewer; counts differ by one at most.
            Items of the same confidence count with their mean gap.
    """
    gaps = with_ties(confidence, right - confidence)
    parts = np.array_split(gaps, min(bins, len(gaps)))
    return float(sum(abs(part.sum()) for part in parts) / len(confidence))


def fit_temperature(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The T of softmax(log p / T) (Guo et al. 2017, section 4.2) that is best by NLL and prior.

    It minimises the NLL summed over items, plus (log T)^2 / 2: a Gaussian of width 1 on log T. The
    prior is worth about one item. Without it a few dozen items that are all right ask for T = 0,
    and make the first wrong answer elsewhere cost dozens of nats. Found by bisection.

    Args:
        probabilities: `[V, K]` of videos that no network was trained on.
        labels: `[V]`.
    """
    logits, y = _log(probabilities), np.asarray(labels)
    of_label = logits[np.arange(len(y)), y]

    def slope(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        expected = (logits * softmax(inverse * logits, axis=1)).sum(axis=1)
        return log_temperature - inverse * float((expected - of_label).sum())

    low, high = map(math.log, TEMPERATURES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def scale(probabilities: ArrayLike, temperature: float) -> Floats:
    """softmax(log p / T), `[V, K]`: softer for T > 1, the same ranking for any T."""
    return softmax(_log(probabilities) / temperature, axis=1)


def _log(probabilities: ArrayLike) -> Floats:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), TINY))
