"""Folds of videos that come without a split of their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from bgan_video.rng import shuffled

NUM_FOLDS = 5


def group_folds(groups_and_labels: Sequence[tuple[str, int]], num_folds: int) -> dict[str, int]:
    """A fold 0..num_folds-1 for every group, such that each class is spread over the folds.

    The same on every machine and for every seed: it stands in for an official split.
    """
    members: dict[str, Counter[int]] = defaultdict(Counter)
    for group, label in groups_and_labels:
        members[group][label] += 1
    held = [Counter[int]() for _ in range(num_folds)]
    folds: dict[str, int] = {}
    for group in shuffled(sorted(members), "folds"):
        # The fold with fewest videos of this group's classes; the first one among equals.
        load = [sum(h[label] for label in members[group]) for h in held]
        folds[group] = load.index(min(load))
        held[folds[group]].update(members[group])
    return folds
