"""How well a score ranks: the right before the wrong, the known before the unknown."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bgan_video.metrics.arrays import Floats


def with_ties(key: ArrayLike, values: ArrayLike) -> Floats:
    """Values in the rising order of a key, `[V]`; of equal keys each counts with their mean.

    Items of the same key cannot be told apart, so nothing may depend on the order they came in.
    """
    distinct, group = np.unique(np.asarray(key, np.float64), return_inverse=True)
    sizes = np.bincount(group, minlength=len(distinct))
    totals = np.bincount(group, weights=np.asarray(values, np.float64), minlength=len(distinct))
    return np.repeat(totals / sizes, sizes)


def risk_coverage(certainty: ArrayLike, right: ArrayLike) -> tuple[Floats, Floats]:
    """Error rate among the most certain part of the items, for every part.

    Items of the same certainty cannot be told apart, so each counts with their mean error; the
    curve does not depend on the order of the items.

    Args:
        certainty: `[V]`.
        right: `[V]`, whether each is right.

    Returns:
        Coverage and risk, each `[V]`; the last risk is the error rate of all items.
    """
    errors = with_ties(-np.asarray(certainty, np.float64), 1 - np.asarray(right, np.float64))
    kept = np.arange(1, len(errors) + 1)
    return kept / len(errors), np.cumsum(errors) / kept


def aurc(certainty: ArrayLike, right: ArrayLike) -> float:
    """Area under the risk-coverage curve (Geifman & El-Yaniv 2017), in 0..1; less is better.

    The mean over V of the error rate among the v most certain items, v = 1..V.
    """
    return float(risk_coverage(certainty, right)[1].mean())


def auroc(unknown: ArrayLike, known: ArrayLike) -> float:
    """Probability that an unknown item scores above a known one, ties counted half.

    The Mann-Whitney statistic.

    Args:
        unknown: `[A]` scores.
        known: `[B]` scores.
    """
    ranked = np.sort(np.asarray(known, np.float64))
    of_unknown = np.asarray(unknown, np.float64)
    below = np.searchsorted(ranked, of_unknown, side="left")
    up_to = np.searchsorted(ranked, of_unknown, side="right")
    return float(((below + up_to) / 2).mean() / len(ranked))
