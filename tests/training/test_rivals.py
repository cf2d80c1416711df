"""What the posterior is compared with: trained apart from it, and from one another."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.precision import Backend
from bgan_video.training import rivals
from bgan_video.training.chains import ADAM_BETAS
from bgan_video.training.rivals import Models
from bgan_video.training.trainer import DataSize

K, N, BURN_IN = 3, 20, 2
CPU = torch.device("cpu")
DROPOUT = "discriminator.dropout=0.3"
ALL = ["baseline.ensemble=3", "baseline.mc_dropout=0.4", "baseline.cold=true"]


def build(*overrides: str) -> Models:
    clips = ["clip.size=16", "clip.num_frames=4", "train.batch_size=4", "posterior.thinning=1"]
    widths = ["generator.width=4", "generator.latent_dim=3", "discriminator.width=4"]
    steps = [f"posterior.burn_in={BURN_IN}", "train.steps=9"]
    settings = config.load(None, [*clips, *widths, *steps, *overrides])
    backend = Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
    return rivals.build(settings, DataSize(K, N), backend)


def clips(seed: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, 16, 16, generator=random) * 2 - 1


def advance(of: Models, *steps: int, seed: int = 2) -> None:
    for step in steps:
        batch = LabelledBatch(clips(10 + step, 3), torch.tensor([0, 2, 1]))
        unlabelled = UnlabelledBatch(clips(seed + step, 4), clips(seed + step + 100, 4))
        of.step(step, batch, unlabelled)


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def discriminators(of: Models) -> list[nn.Module]:
    return [chain.network for chain in of.chains.discriminators]


def everything(of: Models) -> list[nn.Module]:
    baselines = [n for m in ("ensemble", "mc_dropout") for n in of.baselines.networks(m)]
    return [*(chain.network for chain in of.chains.chains), *baselines, *of.cold.networks]


# --- networks on the labels alone --------------------------------------------------------------


def test_the_supervised_network_is_adam_on_the_labelled_clips() -> None:
    of = build("baseline.lr=0.01")
    (supervised,) = of.baselines.networks("supervised")
    network = copy.deepcopy(supervised)
    adam = torch.optim.Adam(network.parameters(), lr=0.01, betas=ADAM_BETAS)
    for step in range(2):
        logits = network(clips(10 + step, 3))
        loss = nn.functional.cross_entropy(logits[:, 1:], torch.tensor([0, 2, 1]))
        adam.zero_grad()
        loss.backward()
        adam.step()
    advance(of, 0, 1)
    assert same(supervised, network)


@pytest.mark.parametrize(
    "overrides",
    [
        ["posterior.num_discriminators=1"],
        ["posterior.num_z=3", "posterior.num_mcmc=2"],
        ["posterior.bayes=false"],
        ["objective.adversarial_weight=0"],
        ["objective.consistency_weight=1"],
        ALL,
    ],
    ids=",".join,
)
def test_the_supervised_network_depends_on_the_labelled_clips_alone(overrides: list[str]) -> None:
    one, other = build(DROPOUT, *overrides), build(DROPOUT)
    advance(one, 0, 1, 2, seed=50)
    advance(other, 0, 1, 2)
    assert same(one.baselines.networks("supervised")[0], other.baselines.networks("supervised")[0])


def test_an_ensemble_is_the_supervised_network_and_others() -> None:
    of = build(*ALL)
    advance(of, 0, 1)
    members = of.baselines.networks("ensemble")
    assert len(members) == 3
    assert members[0] is of.baselines.networks("supervised")[0]
    assert not any(same(members[i], members[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    larger = build("baseline.ensemble=4", DROPOUT)
    smaller = build("baseline.ensemble=2", DROPOUT)
    for models in (larger, smaller):
        advance(models, 0, 1)
    assert same(larger.baselines.networks("ensemble")[1], smaller.baselines.networks("ensemble")[1])


def test_nothing_more_is_trained_than_was_asked_for() -> None:
    of = build()
    assert of.baselines.networks("ensemble") == []
    assert of.baselines.networks("mc_dropout") == []
    assert of.cold.networks == []
    none = build("baseline.supervised=false")
    advance(none, 0)
    assert none.baselines.networks("supervised") == []


def test_the_dropout_network_drops() -> None:
    (network,) = build(*ALL).baselines.networks("mc_dropout")
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.4]


# --- the twin at temperature 0 -----------------------------------------------------------------


def test_the_chains_do_not_notice_their_rivals() -> None:
    alone = build(DROPOUT)
    advance(alone, *range(5))
    watched = build(DROPOUT, *ALL)  # which seeds torch's own generator, that of dropout
    advance(watched, *range(5))
    assert all(map(same, discriminators(alone), discriminators(watched)))


def test_the_twin_branches_off_at_the_end_of_burn_in_and_is_the_same_gan_without_noise() -> None:
    twin = build(*ALL)
    cold = build("posterior.temperature=0")
    advance(twin, *range(BURN_IN))
    advance(cold, *range(BURN_IN))
    assert all(map(same, discriminators(twin), discriminators(cold)))
    for step in range(BURN_IN, 6):
        advance(twin, step)
        advance(cold, step)
        assert all(map(same, twin.cold.networks, discriminators(cold)))
        assert not any(map(same, twin.cold.networks, discriminators(twin)))


def test_a_twin_without_burn_in_starts_where_the_chains_start() -> None:
    of, start = build("posterior.burn_in=0", *ALL), build("posterior.burn_in=0")
    assert all(map(same, of.cold.networks, discriminators(start)))
    advance(of, 0)
    assert not any(map(same, of.cold.networks, discriminators(of)))


# --- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved_after", [1, BURN_IN, 4])
def test_saved_models_go_on_bit_for_bit(saved_after: int) -> None:
    whole = build(*ALL, DROPOUT)
    advance(whole, *range(6))
    first = build(*ALL, DROPOUT)
    advance(first, *range(saved_after))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    second = build(*ALL, DROPOUT)
    torch.randn(9)
    second.load_state_dict(state)
    advance(second, *range(saved_after, 6))
    assert all(map(same, everything(whole), everything(second)))
