"""Figures of a set of class probabilities: accuracy and calibration."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

Metrics = dict[str, float]

CALIBRATION_BINS = 15
# torchmetrics puts a confidence of exactly 1 into a bin of its own; it belongs to the last one.
_SURE = 1 - 1e-6
# Below the smallest probability a float32 softmax gives, so that it caps nothing but exact zeros.
_TINY = 1e-38


def metrics(probabilities: Tensor, labels: Tensor) -> Metrics:
    """Top-1, top-5, NLL, ECE and Brier score, and how many items they are the mean of.

    Args:
        probabilities: `[B, K]`, rows sum to 1. With K < 5, top-5 is top-K and thus 1.
        labels: `[B]`, 0..K-1.

    Returns:
        `nll` in nats (≥ 0), `ece` over 15 bins of equal width (Guo et al. 2017, eq. 3) in 0..1,
        `brier` as the sum over classes (Brier 1950) in 0..2, the rest in 0..1.

    Raises:
        ValueError: No item.
    """
    if len(labels) == 0:
        raise ValueError("no items to evaluate")
    p = probabilities.double()
    num_classes = p.shape[1]
    ranked = p.topk(min(5, num_classes), dim=1).indices == labels[:, None]
    of_label = p.gather(1, labels[:, None]).squeeze(1)
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    ece = multiclass_calibration_error(
        p.float().clamp_max(_SURE), labels, num_classes, n_bins=CALIBRATION_BINS, norm="l1"
    )
    return {
        "top1": ranked[:, 0].double().mean().item(),
        "top5": ranked.any(dim=1).double().mean().item(),
        "nll": -of_label.clamp_min(_TINY).log().mean().item(),
        "ece": float(ece),
        "brier": (p - one_hot).square().sum(dim=1).mean().item(),
        "count": len(labels),
    }
