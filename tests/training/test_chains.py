"""Chains: Adam, then SGHMC; what the schedule sets; a chain that is saved and goes on."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.errors import UserError
from bgan_video.sampling import MCLMC, SGHMC, SGLD, AdaptiveSGHMC
from bgan_video.training import records
from bgan_video.training.chains import (
    ADAM_BETAS,
    Chain,
    initialised,
    step_sizes,
    without_gradients,
)

CPU = torch.device("cpu")
BACKEND = Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
BURN_IN, STEPS, NUM_DATA = 3, 13, 40
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def settings(*overrides: str) -> config.Config:
    steps = [f"train.steps={STEPS}", f"posterior.burn_in={BURN_IN}", "posterior.thinning=1"]
    return config.load(None, [*steps, "posterior.temperature=0.5", *overrides])


def small() -> nn.Module:
    """Weights and running statistics."""
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))


def chain(*overrides: str, seed: int = 0, noise: int = 1) -> Chain[nn.Module]:
    generator = torch.Generator().manual_seed(noise)
    network = initialised(small, BACKEND, "test", seed)
    return Chain(network, settings(*overrides), "discriminator", 0.02, NUM_DATA, generator, BACKEND)


def advance(of: Chain[nn.Module], *steps: int) -> None:
    for step in steps:
        of.begin_step(step)
        of.optimizer.zero_grad()
        of.network(X).square().mean().backward()
        of.optimizer.step()


def noise_of(of: Chain[nn.Module]) -> Tensor:
    assert isinstance(of.optimizer, SGHMC)
    assert of.optimizer.generator is not None
    return of.optimizer.generator.get_state()


def group_of(of: Chain[nn.Module]) -> dict[str, Any]:
    (group,) = of.optimizer.param_groups
    return group


def assert_same(left: nn.Module, right: nn.Module) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- burn-in and sampling ----------------------------------------------------------------------


@pytest.mark.parametrize("burn_in", [0, 1, 3])
def test_adam_gives_way_to_sghmc_exactly_at_the_end_of_burn_in(burn_in: int) -> None:
    of = chain(f"posterior.burn_in={burn_in}")
    adam, seen = of.optimizer, []
    for step in range(STEPS):
        advance(of, step)
        seen.append(of.optimizer)
        assert of.is_sampling == (step >= burn_in)
        assert bool(of.temperatures()) == (step >= burn_in)
    assert isinstance(adam, torch.optim.Adam)
    assert all(optimizer is adam for optimizer in seen[:burn_in])
    # One sampler to the end: a new one would start at rest.
    assert isinstance(seen[burn_in], SGHMC)
    assert all(optimizer is seen[burn_in] for optimizer in seen[burn_in:])


def test_burn_in_is_adam_with_its_own_step_size() -> None:
    of, network = chain(), initialised(small, BACKEND, "test", 0)
    adam = torch.optim.Adam(network.parameters(), lr=0.02, betas=ADAM_BETAS)
    for step in range(BURN_IN):
        advance(of, step)
        adam.zero_grad()
        network(X).square().mean().backward()
        adam.step()
        assert_same(of.network, network)


def test_the_sampler_gets_the_posteriors_settings_and_the_chains_n() -> None:
    of = chain("posterior.friction=0.3", "posterior.integrator=baoa", "posterior.lr=0.007")
    of.begin_step(BURN_IN)
    wanted = {"friction": 0.3, "integrator": "baoa", "lr": 0.007, "num_data": NUM_DATA}
    assert {key: group_of(of)[key] for key in wanted} == wanted
    assert group_of(of)["temperature"] == 0.5
    assert {id(p) for p in group_of(of)["params"]} == {id(p) for p in of.network.parameters()}


def test_maximum_likelihood_stays_with_adam() -> None:
    of = chain("posterior.bayes=false")
    adam = of.optimizer
    for step in range(STEPS):
        of.begin_step(step)
        assert of.optimizer is adam
        assert group_of(of)["lr"] == 0.02
    assert isinstance(adam, torch.optim.Adam)
    assert not of.is_sampling
    assert of.temperatures() == {}


@pytest.mark.parametrize("name", ["sghmc", "sgld", "adaptive_sghmc", "mclmc"])
def test_every_sampler_takes_over_after_burn_in(name: str) -> None:
    of = chain(f"posterior.sampler={name}")
    advance(of, *range(STEPS))
    kinds = {"sghmc": SGHMC, "sgld": SGLD, "adaptive_sghmc": AdaptiveSGHMC, "mclmc": MCLMC}
    assert isinstance(of.optimizer, kinds[name])
    wanted = {"lr": 1e-3, "temperature": 0.5, "num_data": NUM_DATA}
    assert {key: group_of(of)[key] for key in wanted} == wanted
    names = [parameter for parameter, _ in of.network.named_parameters()]
    assert list(of.temperatures()) == ([] if name == "sgld" else names)


@pytest.mark.parametrize("name", ["sghmc", "sgld", "adaptive_sghmc", "mclmc"])
def test_configurational_temperatures_are_means_of_every_step_since_the_last(name: str) -> None:
    of = chain(f"posterior.sampler={name}")
    advance(of, *range(BURN_IN))
    assert of.configurational_temperatures() == {}
    by_hand = []
    for step in range(BURN_IN, STEPS):
        weight = of.network[0].weight.detach().clone()
        advance(of, step)
        by_hand.append(NUM_DATA * (weight * of.network[0].weight.grad).mean().item())
    found = of.configurational_temperatures()
    assert list(found) == [name for name, _ in of.network.named_parameters()]
    assert found["0.weight"] == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)
    assert of.configurational_temperatures() == {}


def test_adaptive_sghmc_that_saw_no_gradient_is_refused() -> None:
    of = chain("posterior.sampler=adaptive_sghmc")
    with pytest.raises(UserError, match="has seen no gradient in burn-in"):
        of.begin_step(BURN_IN)


def test_temperatures_are_means_over_the_chains_that_have_a_momentum() -> None:
    """In fp16 the first step of one may be left out."""
    moved, waiting = chain(seed=0), chain(seed=1)
    advance(moved, *range(BURN_IN + 1))
    advance(waiting, *range(BURN_IN))
    waiting.begin_step(BURN_IN)
    alone = records._mean_temperatures([moved.temperatures()])
    assert set(alone) == {name for name, _ in moved.network.named_parameters()}
    both = [waiting.temperatures(), moved.temperatures()]
    assert records._mean_temperatures(both) == alone
    assert records._mean_temperatures(both[:1]) == records._mean_temperatures([]) == {}


def test_adaptive_sghmc_learns_in_burn_in_and_is_held_afterwards() -> None:
    of = chain("posterior.sampler=adaptive_sghmc")
    by_hand = AdaptiveSGHMC(chain().network.parameters(), 0.1, 0.1, 1, 1)
    copies = by_hand.param_groups[0]["params"]
    for step in range(BURN_IN):
        advance(of, step)
        for copy, param in zip(copies, of.network.parameters(), strict=True):
            assert param.grad is not None
            copy.grad = param.grad.clone()
        by_hand.observe()
    advance(of, *range(BURN_IN, STEPS))
    assert group_of(of)["frozen"]
    for copy, param in zip(copies, of.network.parameters(), strict=True):
        assert torch.equal(of.optimizer.state[param]["square"], by_hand.state[copy]["square"])


def test_mclmc_tunes_in_the_first_tenth_of_the_sampling_phase() -> None:
    of = chain("posterior.sampler=mclmc", "posterior.energy_variance=0.01", "train.steps=33")
    for step in range(BURN_IN, 33):
        of.begin_step(step)
        assert group_of(of)["frozen"] == (step >= BURN_IN + 3)
        assert of.moves[3] == group_of(of)["frozen"]
    assert group_of(of)["energy_variance"] == 0.01


def test_beta_hat_reaches_the_sampler() -> None:
    of = chain("posterior.gradient_noise=0.05")
    of.begin_step(BURN_IN)
    assert group_of(of)["gradient_noise"] == 0.05


# --- the schedule ------------------------------------------------------------------------------


def test_a_constant_schedule_keeps_step_size_and_temperature() -> None:
    of = chain("posterior.lr=0.01")
    for step in range(BURN_IN, STEPS):
        of.begin_step(step)
        assert (group_of(of)["lr"], group_of(of)["temperature"]) == (0.01, 0.5)


def test_an_exponential_schedule_is_set_step_by_step() -> None:
    of = chain("posterior.lr=0.01", "posterior.schedule=exponential", "posterior.lr_decay=2")
    for step in range(BURN_IN, STEPS):
        of.begin_step(step)
        expected = 0.01 * math.exp(-2 * (step - BURN_IN) / (STEPS - BURN_IN))
        assert group_of(of)["lr"] == pytest.approx(expected)
        assert group_of(of)["temperature"] == 0.5


def test_a_cycle_explores_cold_and_samples_warm() -> None:
    cyclical = ["posterior.schedule=cyclical", "posterior.num_cycles=2", "posterior.lr=0.01"]
    of = chain(*cyclical)
    temperatures = []
    for step in range(BURN_IN, STEPS):
        of.begin_step(step)
        phase = (step - BURN_IN) % 5 / 5
        assert group_of(of)["lr"] == pytest.approx(0.005 * (math.cos(math.pi * phase) + 1))
        temperatures.append(group_of(of)["temperature"])
    assert temperatures == [0, 0, 0, 0, 0.5] * 2
    assert temperatures[4] > 0
    assert step_sizes(settings(*cyclical)).takes_sample(BURN_IN + 4)


def test_no_noise_is_drawn_while_a_cycle_explores() -> None:
    of = chain("posterior.schedule=cyclical", "posterior.num_cycles=2")
    advance(of, *range(BURN_IN + 1))
    for step in range(BURN_IN + 1, STEPS):
        before = noise_of(of)
        advance(of, step)
        exploring = (step - BURN_IN) % 5 < 4
        assert torch.equal(noise_of(of), before) == exploring


# --- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler",
    [
        *(f"integrator={name}" for name in ("symplectic", "euler", "baoa")),
        *(f"sampler={name}" for name in ("adaptive_sghmc", "mclmc")),
    ],
)
@pytest.mark.parametrize("saved_after", [1, BURN_IN, BURN_IN + 1, BURN_IN + 4])
def test_a_saved_chain_goes_on_bit_for_bit(saved_after: int, sampler: str) -> None:
    overrides = [f"posterior.{sampler}", "posterior.schedule=exponential"]
    whole = chain(*overrides)
    advance(whole, *range(STEPS))

    noise = torch.Generator().manual_seed(1)
    network = initialised(small, BACKEND, "test", 0)
    first = Chain(network, settings(*overrides), "discriminator", 0.02, NUM_DATA, noise, BACKEND)
    advance(first, *range(saved_after))
    file = io.BytesIO()
    torch.save((first.state_dict(), noise.get_state()), file)
    file.seek(0)
    state, noise_state = torch.load(file, weights_only=True)

    other = torch.Generator().manual_seed(99)
    network = initialised(small, BACKEND, "test", 7)
    second = Chain(network, settings(*overrides), "discriminator", 0.02, NUM_DATA, other, BACKEND)
    other.set_state(noise_state)
    second.load_state_dict(state)
    assert second.is_sampling == (saved_after > BURN_IN)
    advance(second, *range(saved_after, STEPS))

    assert_same(second.network, whole.network)
    assert second.temperatures() == whole.temperatures()
    assert second.configurational_temperatures() == whole.configurational_temperatures()


# --- initial weights ---------------------------------------------------------------------------


def test_initial_weights_depend_on_the_seed_alone() -> None:
    first = initialised(small, BACKEND, 5, "discriminator", 0)
    torch.manual_seed(123)
    torch.randn(17)
    assert_same(initialised(small, BACKEND, 5, "discriminator", 0), first)
    others = [(5, "discriminator", 1), (5, "generator", 0), (6, "discriminator", 0)]
    weights = [initialised(small, BACKEND, *seed)[0].weight for seed in others]
    weights.append(first[0].weight)
    for i, one in enumerate(weights):
        assert not any(torch.equal(one, other) for other in weights[:i])


def test_initial_weights_are_drawn_without_touching_the_global_random_state() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    initialised(small, BACKEND, 5)
    assert torch.equal(torch.get_rng_state(), before)

    def broken() -> nn.Module:
        torch.randn(3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        initialised(broken, BACKEND, 5)
    assert torch.equal(torch.get_rng_state(), before)


# --- looking through networks ------------------------------------------------------------------


def test_gradients_go_through_and_none_is_kept() -> None:
    networks = [small(), small()]
    x = X.clone().requires_grad_()
    with without_gradients(networks):
        assert not any(p.requires_grad for network in networks for p in network.parameters())
        total = sum(network(x).square().sum() for network in networks)
    assert all(p.requires_grad for network in networks for p in network.parameters())
    assert isinstance(total, Tensor)
    total.backward()
    assert all(p.grad is None for network in networks for p in network.parameters())
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_weights_learn_again_after_an_error() -> None:
    network = small()
    with pytest.raises(RuntimeError), without_gradients([network]):
        raise RuntimeError
    assert all(p.requires_grad for p in network.parameters())
