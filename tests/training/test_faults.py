"""What is said of numbers that are not finite: where they are, and which step size moved them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bgan_video.training import faults
from bgan_video.training.faults import NotFiniteError
from bgan_video.training.lineup import Models
from tests.training.test_lineup import BURN_IN, advance, build

SIZES = [
    *("posterior.lr=0.5", "posterior.burn_in_lr=0.3", "posterior.generator_burn_in_lr=0.2"),
    *("baseline.lr=0.1", "baseline.methods=[bayesian_gan,supervised,ml_gan,cold_gan]"),
]


def said(of: Models, terms: dict[str, Tensor]) -> str:
    with pytest.raises(NotFiniteError) as caught:
        faults.check_finite(3, terms, of, "bgan-video train --resume run")
    return str(caught.value)


def chains_of(of: Models, model: str) -> dict[str, nn.Module]:
    (trainer,) = (m.trainer for m in of.learners if m.model == model)  # type: ignore[attr-defined]
    return {
        "discriminators": trainer.discriminators[0].network,
        "generators": trainer.generators[0].network,
    }


@pytest.mark.parametrize(
    ("model", "role", "setting"),
    [
        ("ml_gan", "discriminators", "posterior.burn_in_lr=0.03"),
        ("ml_gan", "generators", "posterior.generator_burn_in_lr=0.02"),
        ("cold_gan", "discriminators", "posterior.lr=0.05"),
        ("cold_gan", "generators", "posterior.lr=0.05"),
    ],
)
def test_a_rival_gan_is_told_the_step_size_that_moved_it(
    model: str, role: str, setting: str
) -> None:
    of = build(*SIZES)
    advance(of, *range(BURN_IN + 1))
    with torch.no_grad():
        next(chains_of(of, model)[role].parameters()).fill_(float("nan"))
    assert f"run {setting} " in said(of, {})


@pytest.mark.parametrize(
    ("term", "setting"),
    [
        ("supervised", "baseline.lr=0.01"),
        ("train_top1_supervised", "baseline.lr=0.01"),
        ("ml_gan", "posterior.burn_in_lr=0.03"),
        ("loss_g_ml_gan", "posterior.generator_burn_in_lr=0.02"),
        ("loss_d", "posterior.burn_in_lr=0.03"),
        ("loss_g", "posterior.generator_burn_in_lr=0.02"),
    ],
)
def test_a_term_alone_is_told_that_of_whose_it_is(term: str, setting: str) -> None:
    assert f"run {setting} " in said(build(*SIZES), {term: torch.tensor(float("nan"))})
