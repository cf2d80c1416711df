"""Tiny runs on real video files, through the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file

from bgan_video import api, config
from bgan_video.config import ON_FEATURES, Method
from bgan_video.data.manifest import Item, Manifest

REPOSITORY = Path(__file__).parent.parent.parent

METHODS = [method for method in get_args(Method) if method not in ON_FEATURES]
"""All but those of a pretrained body's features."""

# Every part of a run happens: burn-in, sampling, thinning, validation, checkpoints, samples.
TINY = [
    "clip.num_frames=4",
    "clip.size=16",
    "clip.test_clips=2",
    "data.labels_per_class=1",
    "generator.width=4",
    "generator.latent_dim=8",
    "discriminator.width=4",
    "discriminator.dropout=0.1",
    "objective.consistency_weight=1",
    "objective.consistency_threshold=0.2",
    "objective.pretext_weight=1",
    "posterior.burn_in=5",
    "posterior.friction=0.5",  # so that momenta are warm six steps later
    "posterior.thinning=2",
    "posterior.max_samples=2",
    f"baseline.methods=[{','.join(METHODS)}]",
    "train.steps=14",
    "train.rounds=1",
    "rounds.min_pool=0",
    "rounds.answer=later",
    "train.batch_size=4",
    "train.labelled_batch_size=4",
    "train.log_every=1",
    "train.evaluate_every=7",
    "train.checkpoint_every=4",
    "train.sample_every=7",
]

# What metrics.json says of each model at each level.
FIGURES = {"top1", "top5", "balanced_accuracy", "macro_f1", "nll", "ece", "brier", "count"}

# In place of all the methods above.
FEW = "baseline.methods=[bayesian_gan,supervised]"


def arguments(videos: Path, runs: Path, name: str, *more: str) -> list[str]:
    """Of `train_video.py`, for a tiny run."""
    where = ["data.layout=ucf101", f"data.root={videos}", f"run.dir={runs}", f"run.name={name}"]
    return [*where, *TINY, *more]


def start(*args: str) -> subprocess.Popen[str]:
    """`train_video.py` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train_video.py"), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def alone(run: Path, method: str, place: Path) -> Path:
    """A copy of a run as it is where this method alone was trained."""
    copy = place / method
    shutil.copytree(run, copy)
    settings = config.to_mapping(config.load(copy / "config.yaml"))
    settings["baseline"]["methods"] = [method]
    (copy / "config.yaml").write_text(config.to_yaml(config.from_mapping(settings)))
    return copy


def lines(file: Path) -> list[dict[str, Any]]:
    """Without what a clock says."""
    clock = {"seconds", "data_seconds", "items_per_second", "gpu_seconds"}
    rows = map(json.loads, file.read_text().splitlines())
    return [{key: value for key, value in row.items() if key not in clock} for row in rows]


def figures(run: Path) -> dict[str, Any]:
    """`metrics.json` without what a clock says."""
    found = json.loads((run / "metrics.json").read_text())
    return {k: v for k, v in found.items() if k not in ("seconds", "peak_memory_mib")}


def assert_same(one: Path, other: Path, kinds: Sequence[str]) -> None:
    """Log, evaluations, pseudo-labels, figures, predictions and every stored network.

    Args:
        one: A run's folder.
        other: Another's.
        kinds: The bank's words for networks that both have.
    """
    for name in ("log.jsonl", "evaluations.jsonl"):
        assert lines(one / name) == lines(other / name), name
    rounds = _names(one, other, "pseudo_labels/*")
    assert len(rounds) == config.load(one / "config.yaml").train.rounds
    for name in rounds:
        assert (one / name).read_text() == (other / name).read_text(), name
    assert figures(one) == figures(other)
    banks = [api.load(run).bank for run in (one, other)]
    for kind in kinds:
        records = [bank.records(kind) for bank in banks]
        assert len(records[0]) == len(records[1]) > 0, kind
        for left, right in zip(*records, strict=True):
            assert left.path.name == right.path.name
            _assert_equal(left.path, right.path)
    for name in _names(one, other, "predictions/*"):
        _assert_equal(one / name, other / name)


def _assert_equal(one: Path, other: Path) -> None:
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left), one.name


def _names(one: Path, other: Path, pattern: str) -> list[Path]:
    """The files that both runs have, at least one."""
    left, right = (sorted(p.relative_to(run) for p in run.glob(pattern)) for run in (one, other))
    assert left == right
    assert left, pattern
    return left


def scrambled(split: Callable[..., Manifest]) -> Callable[..., Manifest]:
    """Every unlabelled training item has another true class; splits and labels stay."""

    def other(manifest: Manifest, *args: Any, **more: Any) -> Manifest:
        found = split(manifest, *args, **more)
        k = found.num_classes

        def turned(place: int, item: Item) -> Item:
            if item.split != "train" or item.labelled:
                return item
            return dataclasses.replace(item, label=(item.label + 1 + place % (k - 1)) % k)

        return found.replace(tuple(turned(n, item) for n, item in enumerate(found.items)))

    return other


def assert_scrambled(one: Path, other: Path) -> None:
    """That the other run had other labels for what is hidden, and nothing else is another."""
    items = [api.load(run).manifest.items for run in (one, other)]
    for left, right in zip(*items, strict=True):
        is_hidden = left.split == "train" and not left.labelled
        assert (left.label != right.label) == is_hidden
        assert dataclasses.replace(left, label=right.label) == right


def log(run: Path) -> list[dict[str, float]]:
    """The log without what a clock says."""
    return lines(run / "log.jsonl")
