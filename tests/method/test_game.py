"""The game of generators against critics: losses by closed forms, and who feels what."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bgan_video import config
from bgan_video.method import losses
from bgan_video.method.game import Game
from bgan_video.models import Generated, build_critic, build_generator

N = 50
D = torch.float64


def settings(*overrides: str) -> config.Config:
    return config.load(
        None,
        [
            *("clip.size=16", "clip.num_frames=4", "generator.name=residual", "generator.width=8"),
            *("generator.latent_dim=3", "critic.name=hybrid", "critic.width=4", *overrides),
        ],
    )


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def test_pairing_is_the_mean_over_all_pairs_summed_over_heads() -> None:
    better, worse = random(0, 3, 2), random(1, 5, 2)
    pairs = [
        math.log1p(math.exp(-(better[i, h] - worse[j, h]).item()))
        for h in range(2)
        for i in range(3)
        for j in range(5)
    ]
    expected = sum(pairs) / 15
    assert losses.pairing(better, worse).item() == pytest.approx(expected, rel=1e-12)


def test_pairing_knows_no_zero() -> None:
    better, worse = random(2, 4, 1), random(3, 4, 1)
    shifted = losses.pairing(better + 7, worse + 7)
    torch.testing.assert_close(shifted, losses.pairing(better, worse))


def test_the_penalty_of_a_linear_critic_is_half_its_squared_weights() -> None:
    weight, x = random(4, 12), random(5, 6, 12).requires_grad_()
    penalty = losses.gradient_penalty((x @ weight)[:, None], x)
    torch.testing.assert_close(penalty, 0.5 * weight.square().sum())


def test_the_penalty_can_be_differentiated_by_the_weights() -> None:
    """½‖∇ₓ wᵀx²‖² = ½ Σ (2 w x)²: its gradient by w is 4 w x²."""
    weight, x = random(6, 5).requires_grad_(), random(7, 1, 5).requires_grad_()
    penalty = losses.gradient_penalty((x.square() @ weight)[:, None], x)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 4 * weight.detach() * x.detach()[0].square())


def items(seed: int, count: int) -> Tensor:
    return random(seed, count, 3, 4, 16, 16).tanh()


FRAMES = torch.tensor([0, 2])


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_a_critics_potential_is_the_formula(gamma: float) -> None:
    chosen = settings(f"critic.penalty={gamma}", "critic.penalty_every=4")
    game, critic = Game(chosen, N), build_critic(chosen).double()
    real, fakes = items(8, 3), items(9, 2)
    assert [game.penalises(step) for step in range(5)] == [gamma > 0, *[False] * 3, gamma > 0]
    found = game.critic(critic, real, fakes, FRAMES, game.penalises(0))
    prior = sum(p.square().sum() for p in critic.parameters()) / 2 / N
    expected = losses.pairing(critic(real, FRAMES), critic(fakes, FRAMES)) + prior
    for x in (real, fakes):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(x, FRAMES).sum(), x)
        expected = expected + 4 * gamma * 0.5 * slope.square().sum() / len(x)
    torch.testing.assert_close(found.total, expected)
    assert all(not term.requires_grad for term in found.terms.values())


def test_the_penalty_in_the_mean_over_steps_is_gamma() -> None:
    chosen = settings("critic.penalty=2", "critic.penalty_every=4", "posterior.bayes=false")
    game, critic = Game(chosen, N), build_critic(chosen).double()
    steps = [
        game.critic(critic, items(1, 2), items(2, 2), FRAMES, game.penalises(s)) for s in range(8)
    ]
    lazy = sum(step.terms.get("penalty", torch.zeros((), dtype=D)) for step in steps) / 8
    every = settings("critic.penalty=2", "critic.penalty_every=1", "posterior.bayes=false")
    exact = Game(every, N).critic(critic, items(1, 2), items(2, 2), FRAMES, True)
    torch.testing.assert_close(lazy, exact.terms["penalty"])


def test_a_generators_gradient_is_its_own() -> None:
    """That of the sum over generators, by the weights of one, is that of its own L_G."""
    chosen = settings("objective.mask_weight=0.1")
    game = Game(chosen, N)
    generators = [build_generator(chosen) for _ in range(2)]
    critics = [build_critic(chosen) for _ in range(2)]
    made: list[Generated] = [g(random(i, 2, 3).float()) for i, g in enumerate(generators)]
    real = items(3, 4).float()
    both = game.generators(generators, made, critics, real, FRAMES)
    first = list(generators[0].parameters())
    gradients = torch.autograd.grad(both.total, first, retain_graph=True)
    of_real = [critic(real, FRAMES) for critic in critics]
    judged = [critic(made[0].items, FRAMES) for critic in critics]
    pairs = zip(judged, of_real, strict=True)
    margins = [F.softplus(-(f[:, None] - r[None])).mean(dim=(0, 1)).sum() for f, r in pairs]
    assert made[0].mask is not None
    own = torch.stack(margins).mean() + 0.1 * made[0].mask.mean()
    own = own + sum(p.square().sum() for p in first) / 2 / N
    alone = torch.autograd.grad(own, first)
    for found, expected in zip(gradients, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_exact_under_autocast() -> None:
    chosen = settings("posterior.bayes=false")
    game, critic = Game(chosen, N), build_critic(chosen)
    real, fakes = items(4, 2).float(), items(5, 2).float()
    exact = game.critic(critic, real, fakes, FRAMES, True).terms["penalty"]
    with torch.autocast("cpu", torch.bfloat16):
        within = game.critic(critic, real, fakes, FRAMES, True).terms["penalty"]
    torch.testing.assert_close(within, exact, rtol=1e-6, atol=0)


def test_a_critic_is_an_ordinary_module_without_statistics() -> None:
    critic = build_critic(settings())
    assert not list(critic.buffers())
    assert not any(isinstance(m, nn.modules.batchnorm._NormBase) for m in critic.modules())
