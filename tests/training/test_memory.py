"""The memory of a step, simulated, against that of a step that is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Method
from bgan_video.data.frames import Frames
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.bodies import of_features
from bgan_video.models import sized_discriminator
from bgan_video.prediction.bodies import FIRST_KIND, Body
from bgan_video.training.lineup import build
from bgan_video.training.memory import _LiveBytes, peak_mib
from bgan_video.training.trainer import DataSize

SIZE = DataSize(3, 40, 6)
BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))


FRAMES = Frames(Path(), config.Config())
TWIN = "baseline.methods=[bayesian_gan,cold_gan]"
ADAPTIVE = "posterior.sampler=adaptive_sghmc"


def settings(*overrides: str) -> config.Config:
    clips = [
        "clip.size=16",
        "clip.num_frames=4",
        "train.batch_size=6",
        "objective.pretext_weight=1",
    ]
    widths = ["generator.width=8", "discriminator.width=8", "objective.consistency_weight=1"]
    return config.load(None, [*clips, *widths, *overrides])


@pytest.mark.parametrize("methods", ["bayesian_gan", ",".join(get_args(Method))])
def test_the_simulated_step_takes_what_the_step_takes(methods: str) -> None:
    """Nor does a step ask for a number that a GPU's host would wait for: there are none."""
    c = settings(f"baseline.methods=[{methods}]", "train.rounds=1")
    with _LiveBytes() as live:
        models = build(c, SIZE, BACKEND)
        labelled = LabelledBatch(torch.zeros(16, 3, 4, 16, 16), torch.zeros(16, dtype=torch.long))
        weak = torch.zeros(6, 3, 4, 16, 16)
        for step in range(2):
            models.step(step, labelled, UnlabelledBatch(weak, weak.clone()))
    assert peak_mib(c, SIZE, BACKEND) == pytest.approx(live.peak / 2**20, rel=0.01)


def test_what_takes_more_memory() -> None:
    small = peak_mib(settings(), SIZE, BACKEND)
    assert peak_mib(settings("train.batch_size=60"), SIZE, BACKEND) > 2 * small
    assert peak_mib(settings("discriminator.width=32"), SIZE, BACKEND) > small
    halved = dataclasses.replace(BACKEND, precision="bf16")
    assert peak_mib(settings("train.batch_size=60"), SIZE, halved) < peak_mib(
        settings("train.batch_size=60"), SIZE, BACKEND
    )


@pytest.mark.parametrize(("burn_in", "more"), [(0, TWIN), (1, TWIN), (1, ADAPTIVE)])
def test_the_end_of_burn_in_is_not_simulated(burn_in: int, more: str) -> None:
    """What is copied and learned from numbers there has none."""
    plain = ("objective.pretext_weight=0", "train.batch_size=1", more)
    short = settings(*plain, f"posterior.burn_in={burn_in}")
    assert peak_mib(short, SIZE, BACKEND) == peak_mib(settings(*plain), SIZE, BACKEND)


def test_nor_is_that_of_a_features_body() -> None:
    steps = ("train.steps=5", "posterior.burn_in=3", "posterior.thinning=1")
    alone = ("discriminator.bodies=[features:a]", "baseline.methods=[bayesian_gan]")
    c = settings(ADAPTIVE, *steps, *alone)
    own = of_features(c, 10)
    assert own.posterior.burn_in == 1
    assert peak_mib(c, SIZE, BACKEND, [Body("features:a", FIRST_KIND, own, FRAMES, 3)]) > 0


def test_with_memory_spared_one_chains_graph_lives_at_a_time() -> None:
    spared = dataclasses.replace(BACKEND, spares_memory=True)
    few, many = (
        settings("train.batch_size=60", f"posterior.num_discriminators={n}") for n in (1, 3)
    )

    def growth(backend: Backend) -> float:
        return peak_mib(many, SIZE, backend) - peak_mib(few, SIZE, backend)

    assert growth(spared) < growth(BACKEND) / 3


def test_a_body_that_asks_for_numbers_while_it_is_made_is_simulated_too() -> None:
    c = settings(
        "discriminator.name=timm:deit_tiny_distilled_patch16_224",
        "objective.pretext_weight=0",
        "baseline.methods=[supervised]",
        "clip.size=32",
    )
    weights = sum(p.numel() for p in sized_discriminator(c, 3).parameters()) * 4 / 2**20
    assert peak_mib(c, SIZE, BACKEND) > 4 * weights, "weights, gradients, two states of Adam"
