"""Paired differences of two methods over a study's cells, with intervals.

Two things are drawn at random in a study: the seeds (whose labels are seen, where the weights
start) and the test recordings. Each is resampled for itself (a bootstrap of clusters): the seeds,
and in every fold the recordings, the same ones for all seeds of that fold; all items of a recording
come and go together. Folds are not resampled: they are few, and share their training data.

Each resampling gives a variance. With n seeds or recordings it is (n - 1)/n of what it should be
(the narrowness bias of Hesterberg 2015), so it is multiplied by n/(n - 1). Their sum is the
variance of the difference, and the interval is that of Student's t with the degrees of freedom of
Satterthwaite (1946). Percentiles of the resamples would not do, nor would BCa: those of three seeds
lie between the least and the greatest of the three, where the truth is in three of four studies.

Where all n seeds or recordings differ by the same, nothing varies, and a few such ones show little:
the next one may differ the other way, by as much, with a probability of up to 1 - 0.025^(1/n)
(Clopper & Pearson 1934). From six on such an interval does not hold 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # the quantile function of Student's t

from bgan_video.metrics.arrays import Floats
from bgan_video.metrics.calibration import NUM_BINS, bin_of
from bgan_video.metrics.scores import Judged

RESAMPLES = 10_000
LEVEL = 0.95
FIGURES = ("top1", "nll", "ece")
MAX_GROUPS = 1000
"""With more recordings (test images are each their own), so many bundles of them are drawn: the
spread of a mean is the same, and 10,000 draws of 10,000 images would take minutes."""
_ROUNDING = 1e-5
"""Of a mean in float32."""
_SEEDS, _BUNDLES = 0, 1
"""Streams of random numbers; those of a fold's recordings are `2 + fold`."""


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

    @property
    def holds_zero(self) -> bool:
        """Whether chance can explain the difference."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def paired_differences(pairs: Sequence[Pair]) -> dict[str, Interval]:
    """Own less other in top-1, NLL (nats) and ECE, each the mean over the pairs.

    The ECE is computed anew in every resample, cell by cell as in `metrics.json`, so that its
    interval covers the test recordings too. Its resamples lie above the estimate (what is drawn
    twice scatters more around the diagonal); only their spread is used.

    A variance that only one seed, or in a fold one recording, could tell is not in the interval.

    Args:
        pairs: At least one; no fold and seed twice.
    """
    seeds = sorted({pair.seed for pair in pairs})
    groups = {fold: _groups(pairs, fold) for fold in sorted({pair.fold for pair in pairs})}
    sizes = {fold: max(of.values()) + 1 for fold, of in groups.items()}
    every_seed = dict.fromkeys(seeds, np.ones(1))
    every_group = {fold: np.ones((1, size)) for fold, size in sizes.items()}
    estimate = _differences(pairs, groups, every_seed, every_group)
    resamples: list[tuple[int, dict[str, Floats]]] = []
    if len(seeds) > 1:
        drawn = dict(zip(seeds, _draws(len(seeds), _SEEDS).T, strict=True))
        resamples.append((len(seeds), _differences(pairs, groups, drawn, every_group)))
    for fold, size in sizes.items():
        if size > 1:
            drawn_groups = every_group | {fold: _draws(size, 2 + fold)}
            resamples.append((size, _differences(pairs, groups, every_seed, drawn_groups)))
    return {
        key: _interval(float(estimate[key][0]), [(n, of[key]) for n, of in resamples])
        for key in FIGURES
    }


def _interval(estimate: float, resamples: Sequence[tuple[int, Floats]]) -> Interval:
    """Student's, from how many there were to draw and the resamples of each source of chance.

    Where nothing varies it is that of the source with the fewest.
    """
    if not resamples:
        return Interval(estimate, None, None)
    counts = np.array([count for count, _ in resamples])
    variances = np.array([float(np.var(drawn, dtype=np.float64)) for _, drawn in resamples])
    variances *= counts / (counts - 1)
    total = variances.sum()
    if np.sqrt(total) <= _ROUNDING * abs(estimate):
        alike = ((1 - LEVEL) / 2) ** (1 / counts.min())
        return Interval(estimate, *sorted((estimate, estimate * (2 * alike - 1))))
    freedom = total**2 / (variances**2 / (counts - 1)).sum()
    half = float(stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(total))
    return Interval(estimate, estimate - half, estimate + half)


def _groups(pairs: Sequence[Pair], fold: int) -> dict[str, int]:
    """The number of every recording of a fold, or of its bundle."""
    names = sorted({name for pair in pairs if pair.fold == fold for name in pair.recordings})
    order = np.random.default_rng(_BUNDLES).permutation(len(names))
    return {names[at]: place % MAX_GROUPS for place, at in enumerate(order)}


@lru_cache(maxsize=8)
def _draws(size: int, stream: int) -> NDArray[np.float32]:
    """How often each of `size` is drawn in each resample, `[R, size]`.

    Kept, because all methods of a fold are compared on the same draws.
    """
    random = np.random.default_rng(stream)
    return random.multinomial(size, np.full(size, 1 / size), RESAMPLES).astype(np.float32)


def _differences(
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
