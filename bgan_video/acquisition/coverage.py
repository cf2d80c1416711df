"""Which items to label first: those that stand for many others, in the space of their vectors.

With few labels the posterior does not yet know what it does not know, and what it is unsure of is
mostly odd: typical items, far from each other, teach more (Hacohen, Dekel & Weinshall 2022,
arXiv:2202.02794). Nothing here needs a label or a network that was trained on one.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

Floats = NDArray[np.float64]

CopiesOf = Callable[[int], Iterable[int]]
"""The near-copies of an item, which get its label and so are not asked for."""

NEAR_COPY = 0.85
"""Cosine between unit vectors of a recording's items from which on they are near-copies: of the 34
such pairs of hand signs and the 66 of Weizmann's actions all were of one class, in the space of
`features.summary=difference` (docs/labelling.md)."""

NEIGHBOURS = 20
"""Of an item, whose mean distance says how typical it is; this and the sizes: the authors' code."""
MOST_CLUSTERS = 500
SMALLEST_CLUSTER = 5
"""Smaller clusters come behind the larger ones with as few labels: they may be outliers."""
_ITERATIONS = 30


def unit_vectors(vectors: NDArray[np.floating]) -> Floats:
    """Vectors `[V, L]` centred over the items and brought to length 1."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(lengths > 0, lengths, 1.0)


def typical(
    vectors: Floats,
    known: Sequence[int],
    recordings: Sequence[str],
    budget: int,
    seed: int,
    copies_of: CopiesOf = lambda _: (),
) -> list[int]:
    """TypiClust: the most typical item of each of the largest clusters that have no label yet.

    The items are cut into as many clusters as there are labels and wishes together (k-means). A
    cluster's typical item is the one with the smallest mean distance to its nearest neighbours in
    the cluster. Recordings take turns, as in `batchbald.suggest`.

    Args:
        vectors: `[V, L]`, of length 1, of labelled items and candidates.
        known: The labelled items.
        recordings: Of each item: the recording or person it is from.
        budget: How many, >= 1; all candidates where there are fewer.
        seed: Of k-means.
        copies_of: What is no candidate any more once an item is chosen.

    Returns:
        Candidates, best first; no label is needed for any.
    """
    wanted = min(budget, len(vectors) - len(set(known)))
    if wanted == 0:
        return []
    members = _clusters(vectors, min(len(set(known)) + wanted, MOST_CLUSTERS), seed)
    covered = Counter(int(members[i]) for i in known)
    sizes = Counter(members.tolist())
    left = set(range(len(vectors))) - set(known)
    taken: Counter[str] = Counter()
    typicality = _typicality(vectors, members)
    chosen: list[int] = []
    while left and len(chosen) < wanted:
        turn = min(taken[recordings[i]] for i in left)
        open_items = [i for i in left if taken[recordings[i]] == turn]

        def worth(item: int) -> tuple[int, bool, int, float, int]:
            """Fewest labels first, then the largest cluster, then its most typical item."""
            cluster = int(members[item])
            is_odd = sizes[cluster] < SMALLEST_CLUSTER
            return -covered[cluster], not is_odd, sizes[cluster], typicality[item], -item

        best = max(open_items, key=worth)
        chosen.append(best)
        left -= {best, *copies_of(best)}
        covered[int(members[best])] += 1
        taken[recordings[best]] += 1
    return chosen


def near_copies(
    vectors: Floats, item: int, candidates: Sequence[int], recordings: Sequence[str]
) -> list[int]:
    """The candidates of an item's own recording that look the same.

    Args:
        vectors: `[V, L]`, of length 1.
        item: Of which.
        candidates: Items without a label.
        recordings: Of each item.
    """
    similarity = vectors @ vectors[item]
    return [
        i
        for i in candidates
        if i != item and recordings[i] == recordings[item] and similarity[i] >= NEAR_COPY
    ]


def _clusters(vectors: Floats, count: int, seed: int) -> NDArray[np.int32]:
    """The cluster of each item; fewer than `count` where items coincide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty cluster, which does no harm
        _, members = kmeans2(vectors, count, iter=_ITERATIONS, minit="++", rng=seed)
    return members


def _typicality(vectors: Floats, members: NDArray[np.int32]) -> Floats:
    """One over the mean distance to the nearest neighbours in the item's cluster."""
    typicality = np.zeros(len(vectors))
    for cluster in np.unique(members):
        inside = np.flatnonzero(members == cluster)
        if len(inside) == 1:
            continue
        similarity = np.clip(vectors[inside] @ vectors[inside].T, -1.0, 1.0)
        distance = np.sort(np.sqrt(2 - 2 * similarity), axis=1)[:, 1 : NEIGHBOURS + 1]
        typicality[inside] = 1 / (distance.mean(axis=1) + 1e-12)
    return typicality
