"""Confusions counted by hand."""

from __future__ import annotations

import numpy as np

from bgan_video.metrics.confusion import confusion_counts, row_normalised


def test_confusion_rows_are_true_classes():
    counts = confusion_counts(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    parts = row_normalised(counts)
    assert parts.tolist() == [[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
