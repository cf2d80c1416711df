"""Paired differences of two methods over a study's cells, with bootstrap intervals.

Two things are drawn at random in a study: the seeds (whose labels are seen, where the weights
start) and the test recordings. Both are resampled, each for itself (Owen 2007's pigeonhole
bootstrap): a resample draws seeds with replacement, and in every fold recordings with replacement,
the same ones for all seeds of that fold; all items of a recording come and go together. Folds are
not resampled: they are few, and share their training data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bgan_video.metrics.statistics import NUM_BINS, Floats, bin_of
from bgan_video.rng import derive_seed

RESAMPLES = 10_000
LEVEL = 0.95
FIGURES = ("top1", "nll", "ece")
MAX_GROUPS = 1000
"""With more recordings (test images are each their own), so many bundles of them are drawn: the
spread of a mean is the same, and 10,000 draws of 10,000 images would take minutes."""


@dataclass(frozen=True)
class Judged:
    """What one model says of the test items of one cell, each `[V]`."""

    right: Floats
    """1 where the most probable class is the true one, else 0."""
    nll: Floats
    """Of the true class, in nats."""
    confidence: Floats
    """The largest probability."""


@dataclass(frozen=True)
class Pair:
    """Two models of the same fold and seed on the same test items."""

    fold: int
    seed: int
    recordings: tuple[str, ...]
    """Of each item: what it was cut from."""
    own: Judged
    other: Judged


@dataclass(frozen=True)
class Interval:
    """A difference and its interval; without one where there is one seed and one recording."""

    estimate: float
    low: float | None
    high: float | None


def paired_differences(pairs: Sequence[Pair]) -> dict[str, Interval]:
    """Own less other in top-1, NLL (nats) and ECE, each the mean over the pairs.

    The ECE is computed anew in every resample, cell by cell as in `metrics.json`, so that its
    interval covers the test recordings too. The ECE of a resample is too large (what is drawn
    twice scatters more around the diagonal), by an amount that need not cancel between the two
    models; so its resamples are shifted to have the estimate as their mean.

    Args:
        pairs: At least one; no fold and seed twice.
    """
    seeds = sorted({pair.seed for pair in pairs})
    groups = {fold: _groups(pairs, fold) for fold in sorted({pair.fold for pair in pairs})}
    sizes = {fold: max(of.values()) + 1 for fold, of in groups.items()}
    once = {fold: np.ones((1, size)) for fold, size in sizes.items()}
    estimate = _statistics(pairs, groups, dict.fromkeys(seeds, np.ones(1)), once)
    if len(seeds) == 1 and set(sizes.values()) == {1}:
        return {key: Interval(float(estimate[key][0]), None, None) for key in FIGURES}
    seed_draws = dict(zip(seeds, _draws(len(seeds), "seeds").T, strict=True))
    group_draws = {fold: _draws(size, "recordings", fold) for fold, size in sizes.items()}
    drawn = _statistics(pairs, groups, seed_draws, group_draws)
    drawn["ece"] += estimate["ece"] - drawn["ece"].mean()
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    bounds = {key: np.quantile(drawn[key], tails) for key in FIGURES}
    return {k: Interval(float(estimate[k][0]), *map(float, bounds[k])) for k in FIGURES}


def _groups(pairs: Sequence[Pair], fold: int) -> dict[str, int]:
    """The number of every recording of a fold, or of its bundle."""
    names = sorted({name for pair in pairs if pair.fold == fold for name in pair.recordings})
    order = np.random.default_rng(derive_seed("study", "bundles")).permutation(len(names))
    return {names[at]: place % MAX_GROUPS for place, at in enumerate(order)}


@lru_cache(maxsize=8)
def _draws(size: int, *stream: object) -> NDArray[np.float32]:
    """How often each of `size` is drawn in each resample, `[R, size]`.

    Kept, because all methods of a fold are compared on the same draws.
    """
    random = np.random.default_rng(derive_seed("study", *stream))
    return random.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float32)


def _statistics(
    pairs: Sequence[Pair],
    groups: Mapping[int, Mapping[str, int]],
    seed_draws: Mapping[int, Floats],
    group_draws: Mapping[int, Floats],
) -> dict[str, Floats]:
    """The mean difference over the pairs in each resample, `[R]`.

    Args:
        pairs: Of all folds and seeds.
        groups: By fold, the number of each recording.
        seed_draws: By seed, how often it is drawn, `[R]`.
        group_draws: By fold, how often each of its recordings is drawn, `[R, G]`.
    """
    totals: dict[str, Floats] = defaultdict(lambda: np.zeros(1))
    weight: Floats = np.zeros(1)
    for pair in pairs:
        index = np.array([groups[pair.fold][name] for name in pair.recordings])
        drawn = _of_pair(pair, index, group_draws[pair.fold])
        for key, values in drawn.items():
            totals[key] = totals[key] + seed_draws[pair.seed] * values
        weight = weight + seed_draws[pair.seed]
    return {key: totals[key] / weight for key in FIGURES}


def _of_pair(pair: Pair, index: NDArray[np.intp], draws: Floats) -> dict[str, Floats]:
    size = draws.shape[1]
    count = draws @ np.bincount(index, minlength=size).astype(draws.dtype)
    # A resample may have none of the recordings that a cell of fewer items has.
    count = np.maximum(count, 1)

    def mean(values: Floats) -> Floats:
        return draws @ np.bincount(index, values, size).astype(draws.dtype) / count

    def ece(model: Judged) -> Floats:
        gaps = np.zeros((size, NUM_BINS), draws.dtype)
        np.add.at(gaps, (index, bin_of(model.confidence)), model.right - model.confidence)
        return np.abs(draws @ gaps).sum(axis=1) / count

    return {
        "top1": mean(pair.own.right - pair.other.right),
        "nll": mean(pair.own.nll - pair.other.nll),
        "ece": ece(pair.own) - ece(pair.other),
    }
