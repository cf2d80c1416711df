"""Figures that no large class hides: recall of every class, balanced accuracy, macro F1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bgan_video.metrics.arrays import Floats
from bgan_video.metrics.confusion import confusion_counts


def recalls(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    """The part of each class's items that is found, `[K]` in 0..1; NaN of a class without items.

    Args:
        probabilities: `[V, K]`. Of equally probable classes the first is meant.
        labels: `[V]`, 0..K-1.
    """
    counts = _counts(probabilities, labels)
    sizes = counts.sum(axis=1)
    return np.where(sizes > 0, counts.diagonal() / np.maximum(sizes, 1), np.nan)


def balanced_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean recall of the classes that have items, in 0..1; arguments as in `recalls`."""
    return float(np.nanmean(recalls(probabilities, labels)))


def macro_f1(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean F1 of the classes that have items or are predicted, in 0..1.

    `F1 = 2·TP / (2·TP + FP + FN)`; arguments as in `recalls`.
    """
    counts = _counts(probabilities, labels)
    named = counts.sum(axis=0) + counts.sum(axis=1)  # 2·TP + FP + FN
    there = named > 0
    return float((2 * counts.diagonal()[there] / named[there]).mean())


def _counts(probabilities: ArrayLike, labels: ArrayLike) -> Floats:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    return confusion_counts(y, p.argmax(axis=1), p.shape[1]).astype(np.float64)
