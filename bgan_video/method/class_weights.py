"""What labels weigh by class, where classes are of unlike size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

ClassWeights = Literal["none", "balanced", "effective"]


def class_weights(
    kind: ClassWeights, labels: Sequence[int], num_classes: int
) -> tuple[float, ...] | None:
    """What the labelled term of an item weighs, by its class; None where all weigh the same.

    With n_k labels of class k and N of all: `balanced` is `1/n_k`, each class as much as any other;
    `effective` is `(1 - β)/(1 - β^n_k)` with `β = (N - 1)/N`, one over the effective number of
    items where each new one overlaps those before (Cui et al. 2019, eq. 2; their `β = (N - 1)/N` is
    of a volume of N items). Scaled so that the mean over the labels is 1, and the term keeps its
    weight against all others; 0 of a class without a label.

    Args:
        kind: Which.
        labels: Of the labelled items, 0..K-1.
        num_classes: K.
    """
    total = len(labels)
    if kind == "none" or total == 0:
        return None
    counts = Counter(labels)
    beta = (total - 1) / total
    raw = [
        0.0 if n == 0 else 1 / n if kind == "balanced" else (1 - beta) / (1 - beta**n)
        for n in (counts[k] for k in range(num_classes))
    ]
    mean = sum(raw[label] for label in labels) / total
    return tuple(weight / mean for weight in raw)
