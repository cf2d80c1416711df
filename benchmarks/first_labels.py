"""The first labels: typical videos against videos by chance, judged by a probe, in minutes.

    python -m benchmarks.first_labels --config isl_two_bodies data.root=isl

A probe on frozen features (`features.rivals.fit_probe`) is trained on the chosen videos and judged
on test, for every fold and seed. It stands in for whole runs, which `benchmarks.label_curve` makes.
Typical videos are chosen 8 at a time, as a person is asked for them. Also counted: the pairs of
training videos of one recording that `NEAR_COPY` calls near-copies, and how many are of one class.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bgan_video import config
from bgan_video.acquisition import coverage
from bgan_video.backend import resolve_backend
from bgan_video.config import recipes
from bgan_video.data import layouts, splits
from bgan_video.data.recordings import recording
from bgan_video.data.store.clip_store import source_fingerprint
from bgan_video.features import Scale, fill, frozen_body
from bgan_video.features.rivals import Labelled, fit_probe
from bgan_video.training import console

BATCH = 8
COUNTS = (8, 16, 32)
L2 = 1e-2


class Fold:
    """The features and labels of one fold."""

    def __init__(self, settings: config.Config) -> None:
        backend = resolve_backend(settings.run, 3)
        data = dataclasses.replace(settings.data, labels_per_class=None, validation_fraction=0)
        manifest = splits.pool(layouts.read(data), data)
        items = [
            dataclasses.replace(i, fingerprint=source_fingerprint(Path(manifest.root) / i.path))
            for i in manifest.items
        ]
        frozen = frozen_body(settings.features, backend)
        given = (manifest.root, settings, frozen, console.say, console.progress)
        store = fill(items, *given)
        training = [i for i in items if i.split == "train"]
        test = [i for i in items if i.split == "test"]
        raw = torch.from_numpy(store.read_all(training))
        scale = Scale.of(raw, store.num_summaries)
        self.num_classes = manifest.num_classes
        # A video is the mean of its clips: a few rows of a thousand numbers, fitted in no time.
        self.vectors, self.test = (
            scale(vectors).mean(dim=1, keepdim=True)
            for vectors in (raw, torch.from_numpy(store.read_all(test)))
        )
        self.labels = torch.tensor([i.label for i in training])
        self.test_labels = torch.tensor([i.label for i in test])
        self.recordings = [recording(i.label, i.group, data) for i in training]
        self.unit = coverage.unit_vectors(self.vectors[:, 0].numpy())

    def top1(self, chosen: Sequence[int]) -> float:
        """Of the probe on some training videos."""
        learned = Labelled(self.vectors[list(chosen)], self.labels[list(chosen)])
        said = fit_probe(learned, self.num_classes, L2)(self.test)
        return (said.argmax(dim=1) == self.test_labels).double().mean().item()

    def typical(self, count: int, seed: int) -> list[int]:
        chosen: list[int] = []
        while len(chosen) < count:
            chosen += coverage.typical(self.unit, chosen, self.recordings, BATCH, seed)
        return chosen

    def by_chance(self, count: int, seed: int) -> list[int]:
        """One of each recording before any twice, as `typical` has it."""
        turns: dict[str, int] = {}
        order = np.random.default_rng(seed).permutation(len(self.recordings)).tolist()
        ranked = []
        for place, item in enumerate(order):
            name = self.recordings[item]
            turns[name] = turns.get(name, -1) + 1
            ranked.append((turns[name], place, item))
        return [item for _, _, item in sorted(ranked)[:count]]

    def copies(self) -> tuple[int, int]:
        """Pairs of near-copies, and how many of them are of one class."""
        everyone = range(len(self.recordings))
        pairs = [
            (a, b)
            for a in everyone
            for b in coverage.near_copies(self.unit, a, everyone, self.recordings)
            if a < b
        ]
        return len(pairs), sum(bool(self.labels[a] == self.labels[b]) for a, b in pairs)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="isl_two_bodies")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options, rest = parser.parse_known_args(arguments)
    found: dict[tuple[int, str], list[float]] = {}
    pairs = alike = 0
    for number in options.folds:
        given = [*options.overrides, *rest, f"data.fold={number}"]
        fold = Fold(config.load(recipes.find(options.config), given))
        counted = fold.copies()
        pairs, alike = pairs + counted[0], alike + counted[1]
        for seed in range(options.seeds):
            most = max(COUNTS)
            orders = {"typical": fold.typical(most, seed), "chance": fold.by_chance(most, seed)}
            for name, order in orders.items():
                for count in COUNTS:
                    found.setdefault((count, name), []).append(fold.top1(order[:count]))
    for (count, name), values in sorted(found.items()):
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        print(f"{count:3d} labels  {name:8} top-1 {np.mean(values):.3f} ± {error:.3f}")
    for count in COUNTS:
        ahead = np.subtract(found[count, "typical"], found[count, "chance"])
        error = ahead.std(ddof=1) / np.sqrt(len(ahead)) if len(ahead) > 1 else 0.0
        print(f"{count:3d} labels  paired difference {ahead.mean():+.3f} ± {error:.3f}")
    print(f"near-copies: {pairs} pairs, {alike} of them of one class")


if __name__ == "__main__":
    main()
