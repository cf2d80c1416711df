"""Training without any label: discriminators that know real and fake only."""

from __future__ import annotations

import copy
from itertools import islice

import pytest
import torch
from torch import Tensor

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import UnlabelledBatch, labelled_batches
from bgan_video.errors import UserError
from bgan_video.models import draw_latents
from bgan_video.training.lineup import Models, build
from bgan_video.training.plan import networks
from bgan_video.training.trainer import DataSize

N = 20
UNSUPERVISED = ["data.num_labelled=0", "baseline.methods=[bayesian_gan]"]
IMAGES = ["data.layout=image_folder", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
SMALL = ["clip.size=16", "generator.name=dcgan", "generator.width=4", "generator.latent_dim=3"]
SMALL += ["discriminator.width=4", "train.batch_size=4", "posterior.burn_in=1"]
SMALL += ["posterior.thinning=1", "train.steps=9"]
GAME = ["critic.name=hybrid", "objective.adversarial_weight=0"]


def settings(*overrides: str) -> Config:
    return config.load(None, [*IMAGES, *SMALL, *UNSUPERVISED, *overrides])


def models(*overrides: str) -> Models:
    c = settings(*overrides)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    backend = Backend(torch.device("cpu"), "fp32", scaler)
    return build(c, DataSize(c.num_classes(10), N, 0), backend)


def pictures(seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(4, 3, 16, 16, generator=random) * 2 - 1


def advance(of: Models, *steps: int) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for step in steps:
        terms = of.step(step, None, UnlabelledBatch(pictures(step), torch.zeros(4)))
    return terms


def test_there_are_two_logits_whatever_the_classes_of_the_data() -> None:
    c = settings()
    assert c.is_unsupervised
    assert c.num_classes(10) == 1
    assert not config.load(None, IMAGES).is_unsupervised
    for chain in models().chains.discriminators:
        assert chain.network(pictures(0)).shape == (4, 2)
    (with_one_class,) = networks(c, {}, c.num_classes(10))
    (with_ten,) = networks(c, {}, 10)
    assert with_ten.size.discriminators - with_one_class.size.discriminators == 9 * (
        8 + 1
    )  # rows of the head, each with a bias


def test_no_term_needs_a_label() -> None:
    terms = advance(models(), 0, 1, 2)
    assert {"real", "fake", "generator", "prior_d", "prior_g", "loss_d", "loss_g"} <= set(terms)
    assert not {"labelled", "train_top1", "supervised", "train_top1_supervised"} & set(terms)
    assert all(term.isfinite() for term in terms.values())
    total = terms["real"] + terms["fake"] + terms["prior_d"]
    torch.testing.assert_close(terms["loss_d"], total)


def test_every_network_learns_and_none_is_supervised() -> None:
    of = models()
    before = [copy.deepcopy(chain.network) for chain in of.chains.chains]
    advance(of, 0)
    for old, chain in zip(before, of.chains.chains, strict=True):
        pairs = zip(old.parameters(), chain.network.parameters(), strict=True)
        assert not any(torch.equal(was, now) for was, now in pairs)
    assert of.learners == []


def test_the_twin_at_temperature_zero_needs_no_label_either() -> None:
    of = models("baseline.methods=[bayesian_gan,cold_gan]")
    advance(of, 0, 1, 2)
    (cold,) = of.learners
    assert len(cold.networks) == 2


def test_running_statistics_are_those_of_the_unlabelled_items() -> None:
    of = models()
    expected = [copy.deepcopy(chain.network) for chain in of.chains.discriminators]
    advance(of, 0)
    for copied, chain in zip(expected, of.chains.discriminators, strict=True):
        copied(pictures(0))
        ours, theirs = chain.network.state_dict(), copied.state_dict()
        names = [name for name in ours if "running" in name]
        assert names
        for name in names:
            assert torch.equal(ours[name], theirs[name]), name
            assert not torch.equal(ours[name], torch.zeros_like(ours[name]))


def test_there_is_a_batch_of_labels_for_every_step_and_it_is_none() -> None:
    stream = labelled_batches([], None, settings(), first=3)  # type: ignore[arg-type]
    assert list(islice(stream, 5)) == [None] * 5


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["baseline.methods=[bayesian_gan,supervised]"], "supervised nothing"),
        (["baseline.methods=[fixmatch,mean_teacher]"], "fixmatch, mean_teacher nothing"),
        (["objective.consistency_weight=1"], "objective.consistency_weight"),
        (["data.labels_per_class=2"], "data.labels_per_class"),
        (["data.label_list=a.csv"], "data.label_list"),
        ([*GAME, "baseline.methods=[bayesian_gan,ml_gan]"], "ml_gan no discriminator"),
        ([*GAME, "baseline.methods=[bayesian_gan,cold_gan]"], "cold_gan no discriminator"),
    ],
    ids=str,
)
def test_what_needs_labels_is_refused(overrides: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        settings(*overrides)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


# --- latents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("latent", "variance"), [("normal", 1.0), ("uniform", 1 / 3)])
def test_latents_are_of_the_law_that_was_asked_for(latent: str, variance: float) -> None:
    c = settings(f"generator.latent={latent}", "generator.latent_dim=100")
    z = draw_latents(c, 1000, torch.Generator().manual_seed(0))
    assert z.shape == (1000, 100)
    # 100,000 draws; a variance is known to sqrt(2/100,000) = 0.45 % or better, 5 of it.
    assert z.var().item() == pytest.approx(variance, rel=0.0225)
    assert abs(z.mean().item()) < 5 / 100_000**0.5
    assert (z.abs().max() <= 1) == (latent == "uniform")


@pytest.mark.parametrize("latent", ["normal", "uniform"])
def test_a_trainers_latents_are_of_that_law(latent: str) -> None:
    of = models(f"generator.latent={latent}").chains
    seen: list[Tensor] = []
    for chain in of.generators:
        chain.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    twin = models(f"generator.latent={latent}").chains
    expected = [twin.latents(of.fakes_per_generator) for _ in of.generators]
    of.step(0, None, UnlabelledBatch(pictures(0), torch.zeros(4)))
    assert len(seen) == 2
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    many = twin.latents(1000)
    assert (many.abs().max() <= 1) == (latent == "uniform")
