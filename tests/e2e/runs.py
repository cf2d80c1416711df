"""Tiny runs on real video files, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

from bgan_video import config
from bgan_video.config import ON_FEATURES, Method

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


def log(run: Path) -> list[dict[str, float]]:
    """The log without what a clock says."""
    clock = ("seconds", "data_seconds", "items_per_second", "gpu_seconds")
    lines = (run / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in clock} for line in lines]
