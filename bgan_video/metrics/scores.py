"""What class probabilities are worth: of each item, and the figures of a set of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bgan_video.metrics.arrays import Floats
from bgan_video.metrics.by_class import balanced_accuracy, macro_f1
from bgan_video.metrics.calibration import TINY, ece

Scores = dict[str, float]


@dataclass(frozen=True)
class Judged:
    """What one model says of some items, each `[V]`."""

    right: Floats
    """1 where the most probable class is the true one, else 0."""
    nll: Floats
    """Of the true class, in nats."""
    confidence: Floats
    """The largest probability."""


def judge(probabilities: ArrayLike, labels: ArrayLike) -> Judged:
    """Every item for itself.

    Args:
        probabilities: `[V, K]`, rows sum to 1. Of equally probable classes the first is meant.
        labels: `[V]`, 0..K-1.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    of_true = p[np.arange(len(y)), y]
    return Judged(
        right=(p.argmax(axis=1) == y).astype(np.float64),
        nll=-np.log(np.maximum(of_true, TINY)),
        confidence=p.max(axis=1),
    )


def scores(probabilities: ArrayLike, labels: ArrayLike) -> Scores:
    """Top-1, top-5, balanced accuracy, macro F1, NLL, ECE and Brier score, and of how many items.

    Args:
        probabilities: `[V, K]`, rows sum to 1. With K < 5, top-5 is top-K and thus 1.
        labels: `[V]`, 0..K-1.

    Returns:
        `nll` in nats (≥ 0), `ece` over bins of equal width in 0..1, `brier` as the sum over classes
        (Brier 1950) in 0..2, the rest in 0..1.

    Raises:
        ValueError: No item.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if len(y) == 0:
        raise ValueError("no items to evaluate")
    judged = judge(p, y)
    ranked = np.argsort(-p, axis=1, kind="stable")
    one_hot = np.eye(p.shape[1])[y]
    return {
        "top1": float(judged.right.mean()),
        "top5": float((ranked[:, :5] == y[:, None]).any(axis=1).mean()),
        "balanced_accuracy": balanced_accuracy(p, y),
        "macro_f1": macro_f1(p, y),
        "nll": float(judged.nll.mean()),
        "ece": ece(judged.confidence, judged.right),
        "brier": float(((p - one_hot) ** 2).sum(axis=1).mean()),
        "count": len(y),
    }
