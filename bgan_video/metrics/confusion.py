"""Which classes are taken for which."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bgan_video.metrics.arrays import Floats, Labels


def confusion_counts(labels: Labels, predicted: Labels, num_classes: int) -> NDArray[np.int64]:
    """Counts `[true, predicted]`."""
    pairs = labels.astype(np.int64) * num_classes + predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def row_normalised(counts: NDArray[np.int64]) -> Floats:
    """Each row as parts of its sum; a class without items keeps zeros."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
