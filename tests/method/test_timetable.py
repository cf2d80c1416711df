"""Step sizes of Adam, and how many networks a run ends with."""

from __future__ import annotations

import pytest
import torch

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.errors import UserError
from bgan_video.method.timetable import (
    adam_lr,
    check_rivals,
    draws_in_round,
    posterior_size,
    rival_size,
)
from bgan_video.training.learners import LabelsOnly
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

CLIPS = ["clip.size=16", "clip.num_frames=4", "train.batch_size=4", "generator.latent_dim=3"]
SMALL = [*CLIPS, "generator.width=4", "discriminator.width=4", "train.steps=10"]
COSINE = "train.adam_schedule=cosine"


def settings(*overrides: str) -> config.Config:
    return config.load(None, [*SMALL, "posterior.burn_in=8", "posterior.thinning=1", *overrides])


def test_cosine_is_that_of_torch() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.Adam([weight], lr=0.3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=10)
    for step in range(10):
        assert adam_lr(settings(COSINE), 0.3, step, 10) == pytest.approx(schedule.get_last_lr()[0])
        assert adam_lr(settings(), 0.3, step, 10) == 0.3
        adam.step()
        schedule.step()


@pytest.mark.parametrize("overrides", [[], ["posterior.bayes=false"]], ids=["burn-in", "adam"])
def test_chains_and_rivals_follow_it_over_their_own_steps(overrides: list[str]) -> None:
    c = settings(COSINE, "posterior.burn_in_lr=0.01", "posterior.lr=0.002", *overrides)
    backend = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
    of = build(c, DataSize(3, 20, 3), backend)
    assert of.chains is not None
    (rival,) = of.learners
    assert isinstance(rival, LabelsOnly)
    x = torch.randn(4, 3, 4, 16, 16)
    for step in range(10):
        of.step(step, LabelledBatch(x[:3], torch.tensor([0, 1, 2])), UnlabelledBatch(x, x))
        own = of.chains.discriminators[0].optimizer.param_groups[0]["lr"]
        steps = 10 if overrides else 8
        expected = adam_lr(c, 0.01, step, steps) if step < steps else 0.002
        assert own == pytest.approx(expected)
        other = rival.state_dict()["members"][0]["optimizer"]["param_groups"][0]["lr"]
        assert other == pytest.approx(adam_lr(c, 0.01, step, 10))


def test_it_does_not_go_with_the_noise_of_the_published_codes() -> None:
    with pytest.raises(UserError, match=r"train\.adam_schedule=constant"):
        settings(COSINE, "compat.adam=true")


@pytest.mark.parametrize(
    ("overrides", "networks"),
    [
        ([], 4),
        (["posterior.max_samples=1", "posterior.num_mcmc=3"], 6),
        (["posterior.thinning=2"], 2),
        (["posterior.bayes=false", "posterior.num_discriminators=3"], 3),
    ],
    ids=str,
)
def test_the_posterior_has_as_many_networks_as_chains_times_samples(
    overrides: list[str], networks: int
) -> None:
    assert posterior_size(settings(*overrides)) == networks
    assert rival_size(settings(*overrides)) == networks
    assert rival_size(settings(*overrides, "baseline.num_networks=7")) == 7


@pytest.mark.parametrize("method", ["deep_ensemble", "mc_dropout", "swag", "laplace"])
def test_a_rival_of_hundreds_has_to_be_asked_for(method: str) -> None:
    many = ["train.steps=600", "posterior.burn_in=200", "posterior.max_samples=400"]
    many = [*many, f"baseline.methods=[bayesian_gan,{method}]"]
    with pytest.raises(UserError, match=rf"{method} would be 800 networks.*baseline\.num_networks"):
        check_rivals(settings(*many))
    check_rivals(settings(*many, "baseline.num_networks=800"))
    check_rivals(settings(*many, "posterior.max_samples=32"))  # 64 networks


def test_rivals_are_as_many_as_samples_of_features_bodies_that_have_a_schedule_of_their_own() -> (
    None
):
    """300 steps, of which 200 sample: 10 samples of each of two chains, whatever `posterior` is."""
    own = ["train.steps=300", "objective.adversarial_weight=0", "posterior.burn_in=290"]
    of = settings(*own, "posterior.thinning=5", "discriminator.bodies=[features:x]")
    assert posterior_size(of) == rival_size(of) == draws_in_round(of, 0) == 20
    of = settings(*own, "posterior.thinning=5", "discriminator.bodies=[dcgan,features:x]")
    assert posterior_size(of) == rival_size(of) == draws_in_round(of, 0) == 4


def test_an_ensemble_is_two_where_the_posterior_is_one_network() -> None:
    assert rival_size(settings("posterior.bayes=false", "posterior.num_discriminators=1")) == 2
