"""Losses of the first steps of every recipe at toy size: what a change of numerics shows in.

python -m tests.golden.trajectories

writes them anew; whoever commits them says in the changelog why they are others. They are computed
in float64: kernels add in another order on another CPU or in another torch, a game makes more of it
with every step, and in float32 two CPUs were 4 % apart after ten steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.bodies import of_features
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

CONFIGS = Path(__file__).parents[2] / "configs"
FILE = Path(__file__).with_name("losses.json")
STEPS, BURN_IN, CLASSES, BATCH, LENGTH = 20, 10, 4, 4, 16
RELATIVE = 1e-5
"""Measured: docs/faults.md."""

_TOY = [
    "run.device=cpu",
    "generator.width=4",
    "discriminator.width=4",
    f"train.batch_size={BATCH}",
    f"train.labelled_batch_size={BATCH}",
    f"train.steps={STEPS}",
    f"posterior.burn_in={BURN_IN}",
    "posterior.thinning=5",
]
_OF_CLIPS = ["clip.num_frames=8", "clip.size=32", "clip.load_size=null"]


def names() -> list[str]:
    """The recipes, and of those with a body of features that body too."""
    files = sorted(f for f in CONFIGS.rglob("*.yaml") if f.parent.name != "studies")
    found = [file.relative_to(CONFIGS).with_suffix("").as_posix() for file in files]
    return found + [f"{name}, features" for name in found if _sees_features(config.load(name))]


def settings(name: str) -> Config:
    """A recipe with narrow networks, small batches and few steps; all else as it is written."""
    recipe, _, of_body = name.partition(", ")
    written = config.load(CONFIGS / f"{recipe}.yaml")
    toy = [*_TOY, *(_OF_CLIPS if written.spatial_dims == 3 else [])]
    if written.train.fake_batch_size is not None:
        toy.append(f"train.fake_batch_size={BATCH}")
    small = config.load(CONFIGS / f"{recipe}.yaml", toy)
    return of_features(small, LENGTH) if of_body else small


def losses(name: str) -> dict[str, list[float]]:
    """What every step of a recipe logs as its losses, on the same random items."""
    with _float64():
        return _losses(settings(name))


def _losses(c: Config) -> dict[str, list[float]]:
    size = DataSize(c.num_classes(CLASSES), 100, 4 * CLASSES)
    models = build(c, size, resolve_backend(c.run, c.spatial_dims))
    random = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {}
    for step in range(STEPS):
        weak, strong, x = (_items(c, random) for _ in range(3))
        labelled = None if c.is_unsupervised else LabelledBatch(x, torch.arange(BATCH) % CLASSES)
        terms = models.step(step, labelled, UnlabelledBatch(weak, strong))
        for key in terms.keys() & {"loss_d", "loss_g", "loss_c", *c.baseline.methods}:
            found.setdefault(key, []).append(float(f"{terms[key].item():.7g}"))
    return dict(sorted(found.items()))


@contextmanager
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _items(c: Config, random: torch.Generator) -> Tensor:
    sides = [c.clip.num_frames] * (c.spatial_dims == 3) + [c.clip.size] * min(c.spatial_dims, 2)
    return torch.rand(BATCH, c.channels, *sides, generator=random) * 2 - 1


def _sees_features(c: Config) -> bool:
    return any(body.startswith("features:") for body in c.discriminator.bodies)


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(losses(name))}" for name in names())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
