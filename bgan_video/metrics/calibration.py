"""Calibration beyond the six figures of `metrics`: other bins, ranking, temperature scaling."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bgan_video.metrics.metrics import CALIBRATION_BINS, metrics

TEMPERATURES = (0.05, 20.0)
"""Where a fitted temperature is looked for."""
_HALVINGS = 60
_TINY = 1e-38


def detail(probabilities: Tensor, labels: Tensor, temperature: float | None) -> dict[str, Any]:
    """What `metrics` leaves out, and the figures after temperature scaling.

    Args:
        probabilities: `[V, K]`.
        labels: `[V]`.
        temperature: Fitted on other videos; None where there were none.
    """
    correct = probabilities.argmax(dim=1) == labels
    scaled = None
    if temperature is not None:
        p = scale(probabilities, temperature)
        figures = metrics(p, labels)
        scaled = {key: figures[key] for key in ("nll", "ece", "brier")}
        scaled["ece_equal_mass"] = equal_mass_ece(p, labels)
    return {
        "ece_equal_mass": equal_mass_ece(probabilities, labels),
        "aurc": aurc(probabilities.max(dim=1).values, correct),
        "temperature": temperature,
        "scaled": scaled,
    }


def equal_mass_ece(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error over bins of equal count (Nixon et al. 2019), in 0..1.

    Args:
        probabilities: `[V, K]`.
        labels: `[V]`.
        bins: As many bins, or one an item where there are fewer; counts differ by one at most.
    """
    confidence, predicted = probabilities.double().max(dim=1)
    order = confidence.argsort(stable=True)
    gap = ((predicted == labels).double() - confidence)[order]
    parts = torch.tensor_split(gap, min(bins, len(gap)))
    return sum(abs(part.sum().item()) for part in parts) / len(gap)


def aurc(certainty: Tensor, correct: Tensor) -> float:
    """Area under the risk-coverage curve (Geifman & El-Yaniv 2017), in 0..1; less is better.

    The mean over V of the error rate among the v most certain items, v = 1..V. Items of one
    certainty count with their mean error, whatever their order.

    Args:
        certainty: `[V]`.
        correct: `[V]`, bool.
    """
    _, place, counts = certainty.double().neg().unique(return_inverse=True, return_counts=True)
    errors = torch.zeros(len(counts), dtype=torch.float64)
    errors.index_add_(0, place, (~correct).double())
    risk = (errors / counts).repeat_interleave(counts).cumsum(0)
    return (risk / torch.arange(1, len(risk) + 1)).mean().item()


def fit_temperature(probabilities: Tensor, labels: Tensor) -> float:
    """The T that minimises the NLL of softmax(log p / T) (Guo et al. 2017, section 4.2).

    The NLL is convex in 1/T, so its derivative has one sign change: found by bisection, at the
    bounds of `TEMPERATURES` where there is none inside.

    Args:
        probabilities: `[V, K]` of videos that no network was trained on.
        labels: `[V]`.
    """
    logits = _log(probabilities)
    of_label = logits.gather(1, labels[:, None]).squeeze(1)

    def slope(inverse: float) -> float:
        expected = (logits * (inverse * logits).softmax(dim=1)).sum(dim=1)
        return (expected - of_label).mean().item()

    low, high = (math.log(1 / t) for t in reversed(TEMPERATURES))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if slope(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp(-(low + high) / 2)


def scale(probabilities: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T), `[V, K]`: softer for T > 1, the same ranking for any T."""
    return (_log(probabilities) / temperature).softmax(dim=1)


def auroc(unknown: Tensor, known: Tensor) -> float:
    """Probability that an unknown item scores above a known one, ties counted half.

    The Mann-Whitney statistic.

    Args:
        unknown: `[A]` scores.
        known: `[B]` scores.
    """
    ranked = known.double().sort().values
    scores = unknown.double()
    below = torch.searchsorted(ranked, scores, side="left")
    up_to = torch.searchsorted(ranked, scores, side="right")
    return ((below + up_to).double() / 2).mean().item() / len(ranked)


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.double().clamp_min(_TINY).log()
