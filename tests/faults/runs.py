"""A run of less than a second, in which every kind of file is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.e2e.conftest import draw_shape

STEPS = 10
"""Of both rounds."""


def draw(folder: Path) -> Path:
    """Ten images of two classes."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 1)):
        for kind in ("bar", "disc"):
            place = folder / split / kind
            place.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(draw_shape(kind, random)).save(place / f"{index}.png")
    return folder


def settings(pictures: Path, run: Path, *more: str) -> list[str]:
    return [
        *(f"run.dir={run.parent}", f"run.name={run.name}", "run.device=cpu"),
        *("data.layout=image_folder", f"data.root={pictures}"),
        *("data.validation_fraction=0.3", "data.labels_per_class=1", "rounds.min_pool=0"),
        *("clip.num_frames=1", "clip.stride=1", "clip.test_clips=1", "clip.size=32"),
        *("generator.name=dcgan", "generator.width=4", "generator.latent_dim=4"),
        *("discriminator.width=4", "discriminator.input=rgb", "discriminator.dropout=0.2"),
        *("objective.pretext_weight=0", "posterior.burn_in=2", "posterior.thinning=2"),
        *("posterior.max_samples=1", "train.rounds=1", "train.steps=5", "train.batch_size=2"),
        *("train.labelled_batch_size=2", "train.log_every=1", "train.evaluate_every=3"),
        *("train.checkpoint_every=2", "train.sample_every=5"),
        *more,
    ]


def train(pictures: Path, run: Path, *more: str) -> list[str]:
    """A command that begins a run, or goes on with it."""
    return ["train", "--resume", "auto", *settings(pictures, run, *more)]
