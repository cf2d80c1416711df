"""What labels weigh by class, where classes are of unlike size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

ClassWeights = Literal["none", "balanced", "effective"]


def class_weights(
    kind: ClassWeights, frequencies: Sequence[float], total: int
) -> tuple[float, ...] | None:
    """What the labelled term of an item weighs, by its class; None where all weigh the same.

    With class k a part f_k of what is drawn, and `n_k = f_k·N`: `balanced` is `1/n_k`, each class
    as much as any other; `effective` is `(1 - β)/(1 - β^n_k)` with `β = (N - 1)/N`, one over the
    effective number of items where each new one overlaps those before (Cui et al. 2019, eq. 2;
    their `β = (N - 1)/N` is of a volume of N items). Scaled so that the mean over what is drawn is
    1, and the term keeps its weight against all others; 0 of a class that is never drawn.

    Args:
        kind: Which.
        frequencies: `[K]`, f: how often each class is among what the term is the mean over.
        total: N, the items that bear a label.
    """
    if kind == "none" or total == 0:
        return None
    beta = (total - 1) / total
    raw = [
        0.0 if f == 0 else 1 / f if kind == "balanced" else (1 - beta) / (1 - beta ** (f * total))
        for f in frequencies
    ]
    mean = sum(f * weight for f, weight in zip(frequencies, raw, strict=True))
    return tuple(weight / mean for weight in raw)
