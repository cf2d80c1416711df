"""What a run's stored generators make, and how far it is from real items."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.metrics.quality import Quality, quality
from bgan_video.models import build_generator, draw_latents
from bgan_video.prediction.chunks import test_chunks
from bgan_video.prediction.predict import Current
from bgan_video.prediction.trained import TrainedRun

BATCH = 64
MAX_COUNT = 2000
"""Real and generated items that are compared: the Fréchet distance takes a matrix root a set."""


@torch.no_grad()
def generate(run: TrainedRun, count: int) -> Iterator[tuple[str, Tensor]]:
    """Items of every generator chain, always from the same latents.

    Args:
        run: Whose generators.
        count: Items of each.

    Yields:
        The chain's name `z<group>_m<member>` and its items `[count, C, (T,) H, W]` on the CPU.

    Raises:
        UserError: The run has no generator.
    """
    config, device = run.config, run.backend.device
    if not run.bank.records("generator"):
        raise UserError(
            f"{run.folder} trained no generator (objective.adversarial_weight=0, or no "
            f"bayesian_gan among baseline.methods)"
        )
    with torch.random.fork_rng(devices=[]):
        module = build_generator(config).to(device).eval()
    for record, state in run.bank.iterate("generator"):
        module.load_state_dict(state)
        z = draw_latents(config, count, rng.generator(config.run.seed, "generate", record.chain))
        with run.backend.autocast():
            parts = [module(part.to(device)).items.float().cpu() for part in z.split(BATCH)]
        group, member = divmod(record.chain, config.posterior.num_mcmc)
        yield f"z{group:02d}_m{member:02d}", torch.cat(parts)


def measure(run: TrainedRun, extractor: TrainedRun | None = None) -> Quality:
    """Generated items against test items, in the features of a supervised network.

    All generators give equally many; a video gives one clip. The result is stored in the run's
    `quality.json`.

    Args:
        run: Whose generators and test items.
        extractor: The run whose supervised network makes the features; by default the run itself.

    Raises:
        UserError: No generator, no supervised network, too few items, or other sizes.
    """
    judge = extractor or run
    if "supervised" not in judge.models:
        raise UserError(f"{judge.folder} trained no supervised network to compare features of")
    _check_same_shape(run, judge)
    network = next(iter(judge.networks("supervised")))
    one_clip = dataclasses.replace(run.config.clip, test_clips=1, test_crops=1)
    config = dataclasses.replace(run.config, clip=one_clip)
    items = rng.shuffled(run.manifest.part("test"), config.run.seed, "quality")[: 2 * MAX_COUNT]
    chunks = test_chunks(items, run.frames(items), config)
    real = features(network, (x for c in chunks for x in c.clips.split(BATCH)), judge.backend)
    each = math.ceil(len(items) / 2 / len(run.bank.records("generator")))
    made = torch.cat([x for _, x in generate(run, each)])
    fake = features(network, made.split(BATCH), judge.backend)
    distances = quality(real, fake, _name(judge), rng.generator(config.run.seed, "quality"))
    text = json.dumps(dataclasses.asdict(distances), indent=2) + "\n"
    write_atomically(run.folder / "quality.json", text)
    return distances


def _name(judge: TrainedRun) -> str:
    """What a reader has to know of the extractor: `FID` is only what Inception's features give."""
    manifest = judge.manifest
    return (
        f"supervised {judge.config.discriminator.name} of {judge.folder.resolve().name} "
        f"({len(manifest.labelled)} labels of {manifest.name})"
    )


def _check_same_shape(run: TrainedRun, judge: TrainedRun) -> None:
    mine, its = (
        (r.config.spatial_dims, r.config.channels, r.config.clip.num_frames, r.config.clip.size)
        for r in (run, judge)
    )
    if mine != its:
        raise UserError(
            f"{judge.folder} sees items of (dimensions, colours, frames, size) {its}, "
            f"{run.folder} makes {mine}"
        )


@torch.no_grad()
def features(network: nn.Module, batches: Iterable[Tensor], backend: Backend) -> Tensor:
    """Penultimate features of all items in evaluation mode, `[N, F]`, float64 on the CPU.

    Args:
        network: With a method `features`, as `models.Classifier` has. Its mode is put back.
        batches: `[B, C, (T,) H, W]` each, in [-1, 1].
        backend: Device and precision of the forward passes.
    """
    features: list[Tensor] = []
    for evaluated in Current([network]):
        body: Any = evaluated.features
        for batch in batches:
            with backend.autocast():
                of_batch = body(batch.to(backend.device))
            features.append(of_batch.double().cpu())
    return torch.cat(features)
