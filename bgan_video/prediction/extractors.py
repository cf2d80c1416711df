"""What makes the features that generated and real items are compared in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bgan_video.backend import Backend
from bgan_video.errors import UserError
from bgan_video.features import videomae
from bgan_video.method.losses import class_probabilities
from bgan_video.prediction.predict import Current
from bgan_video.prediction.trained import TrainedRun, load

Judged = tuple[Tensor, Tensor | None]
"""Features `[N, F]`, and class probabilities `[N, K]` where classes are told; float64, CPU."""


@dataclass(frozen=True)
class Extractor:
    """A network that makes features.

    Attributes:
        name: What a reader has to know of it: `FID` is only what Inception's features give.
        judged: What it makes of batches `[B, C, (T,) H, W]` in [-1, 1].
    """

    name: str
    judged: Callable[[Iterable[Tensor]], Judged]


def named(run: TrainedRun, text: str, overrides: Sequence[str] = ()) -> Extractor:
    """The extractor that a person names.

    Args:
        run: Whose items it will see.
        text: A run's folder, or `videomae:` and the file of its weights.
        overrides: Where that run computes.

    Raises:
        UserError: As `of_run` and `of_videomae`; no such run.
    """
    if text.startswith(videomae.PREFIX):
        return of_videomae(run, Path(text.removeprefix(videomae.PREFIX)))
    return of_run(run, load(text, overrides))


def of_run(run: TrainedRun, judge: TrainedRun) -> Extractor:
    """The supervised network of a run, which tells classes too.

    Args:
        run: Whose items it will see.
        judge: Whose network it is.

    Raises:
        UserError: There is none, or it sees items of another size.
    """
    if "supervised" not in judge.models:
        raise UserError(f"{judge.folder} trained no supervised network to compare features of")
    _check_same_shape(run, judge)
    network, manifest = next(iter(judge.networks("supervised"))), judge.manifest
    name = (
        f"supervised {judge.config.discriminator.name} of {judge.folder.resolve().name} "
        f"({len(manifest.labelled)} labels of {manifest.name})"
    )
    return Extractor(name, lambda batches: judged(network, batches, judge.backend))


def of_videomae(run: TrainedRun, file: Path) -> Extractor:
    """CD-FVD's VideoMAE, which tells no class of a run.

    Args:
        run: Whose items it will see, and on whose device.
        file: Its weights.

    Raises:
        UserError: As `features.videomae.videomae`.
    """
    network = videomae.videomae(file, run.config, run.backend.device)

    def features(batches: Iterable[Tensor]) -> Judged:
        return torch.cat([network(batch).double() for batch in batches]), None

    return Extractor(network.name, features)


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
def judged(
    network: nn.Module, batches: Iterable[Tensor], backend: Backend
) -> tuple[Tensor, Tensor]:
    """Penultimate features `[N, F]` and class probabilities `[N, K]`, float64 on the CPU.

    Args:
        network: A `models.Classifier`. It is evaluated, and its mode is put back.
        batches: `[B, C, (T,) H, W]` each, in [-1, 1].
        backend: Device and precision of the forward passes.
    """
    features: list[Tensor] = []
    probabilities: list[Tensor] = []
    for evaluated in Current([network]):
        classifier: Any = evaluated
        for batch in batches:
            x = batch.to(backend.device)
            with backend.autocast():
                of_batch = classifier.features(x)
                logits = classifier.judge(of_batch, x)
            features.append(of_batch.double().cpu())
            probabilities.append(class_probabilities(logits).double().cpu())
    return torch.cat(features), torch.cat(probabilities)
