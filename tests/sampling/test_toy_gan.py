"""Both posteriors of a Bayesian GAN small enough to be computed: chains against a grid.

Items are single numbers. A discriminator of two weights (a, b) has the logits 0, a x + b, b - a x
of fake and of two classes; a generator of two weights maps z to s z + m. Each posterior is the
conditional of the paper (Saatchi & Wilson 2017, eq. 1 and 2) given fixed items of the other side;
that alternating between the two has a joint law is not claimed there or here.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from bgan_video import config
from bgan_video.data.streams import LabelledBatch
from bgan_video.method import losses
from bgan_video.method.objective import Objective, RealOutputs, Shown
from bgan_video.sampling import SGHMC, Gaussian
from tests.sampling.mutants import NoiseOverN
from tests.sampling.oracles import assert_plausible, chi2_p, normal_p

NUM_DATA = 20
STD = 1.5
CHAINS, STEPS, BINS = 4096, 300, 20
REAL = torch.linspace(-2.2, 2.4, NUM_DATA)
LABELLED = torch.tensor([-2.0, -0.7, 0.6, 2.1])
TARGETS = torch.tensor([1, 0, 0, 0])  # one that does not fit
FAKES = torch.tensor([-0.6, -0.3, 0.1, 0.2, 0.4, 1.4])
LATENTS = torch.tensor([-1.3, -0.5, 0.2, 0.9, 1.6])
JUDGE = torch.tensor([1.1, -0.8])

Potential = Callable[[Tensor], Tensor]


def logits(theta: Tensor, x: Tensor) -> Tensor:
    """`[B, 3]` of items `[B]`."""
    a, b = theta
    return torch.stack([torch.zeros_like(x), a * x + b, b - a * x], dim=1)


def prior(theta: Tensor) -> Tensor:
    return Gaussian(STD).energy(theta) / NUM_DATA


def of_discriminator(theta: Tensor) -> Tensor:
    """L_D, as in `objective`, with the weights of the published codes."""
    x, labelled, fakes = (t.to(theta.dtype) for t in (REAL, LABELLED, FAKES))
    terms = losses.real(logits(theta, x)) + losses.fake(logits(theta, fakes))
    return terms + losses.labelled(logits(theta, labelled), TARGETS) + prior(theta)


def of_generator(theta: Tensor) -> Tensor:
    """L_G: items s z + m against one discriminator."""
    scale, shift = theta
    made = scale * LATENTS.to(theta.dtype) + shift
    return losses.generator(logits(JUDGE.to(theta.dtype), made)) + prior(theta)


def sample(sampler: type[SGHMC], potential: Potential, lr: float, friction: float) -> Tensor:
    """The weights of many chains after many steps, `[CHAINS, 2]`."""
    generator = torch.Generator().manual_seed(61)
    theta = STD * torch.randn(CHAINS, 2, generator=generator)
    chains = sampler([theta], lr, friction, 1.0, NUM_DATA, "baoa", generator)
    gradient = vmap(grad(potential))
    for _ in range(STEPS):
        theta.grad = gradient(theta)
        chains.step()
    return theta


def marginals(potential: Potential) -> tuple[Tensor, list[Tensor]]:
    """A grid `[G]` and the posterior mass of either weight on it, in float64."""
    grid = torch.linspace(-6 * STD, 6 * STD, 401, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    energy = NUM_DATA * vmap(potential, chunk_size=20_000)(points).reshape(len(grid), -1)
    mass = (-energy + energy.min()).exp()
    mass /= mass.sum()
    assert mass[0].sum() + mass[-1].sum() + mass[:, 0].sum() + mass[:, -1].sum() < 1e-7
    return grid, [mass.sum(1), mass.sum(0)]


def check(sampler: type[SGHMC], potential: Potential, lr: float, friction: float) -> None:
    """Chains against the marginals: counts in 20 bins of equal mass, and means."""
    theta = sample(sampler, potential, lr, friction).double()
    grid, of_weights = marginals(potential)
    step = float(grid[1] - grid[0])
    for name, values, mass in zip("ab", theta.unbind(1), of_weights, strict=True):
        # The mass of a grid point lies evenly about it.
        edges = torch.cat([grid[:1] - step / 2, grid + step / 2])
        upper = mass.cumsum(0)
        quantiles = torch.arange(1, BINS, dtype=torch.float64) / BINS
        place = torch.searchsorted(upper, quantiles)
        below = upper[place] - mass[place]
        cuts = edges[place] + step * (quantiles - below) / mass[place]
        counts = torch.bincount(torch.bucketize(values.contiguous(), cuts), minlength=BINS).double()
        statistic = ((counts - CHAINS / BINS).square() / (CHAINS / BINS)).sum()
        assert_plausible(chi2_p(statistic[None], BINS - 1), f"marginal of {name}")
        mean = (mass * grid).sum()
        spread = ((mass * (grid - mean).square()).sum()).sqrt()
        z = (values.mean() - mean) / (spread / math.sqrt(CHAINS))
        assert_plausible(normal_p(z[None]), f"mean of {name}")


# Step size and friction such that the slowest direction forgets its start e^-10 times or more.
POTENTIALS = {
    "discriminator": (of_discriminator, 0.05, 0.3),
    "generator": (of_generator, 0.3, 0.1),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", POTENTIALS)
def test_chains_have_the_posterior_of_the_grid(name: str):
    check(SGHMC, *POTENTIALS[name])


@pytest.mark.statistical
def test_chains_with_the_noise_of_the_published_codes_have_not():
    with pytest.raises(AssertionError, match="marginal of a: p = "):
        check(NoiseOverN, *POTENTIALS["discriminator"])


class Toy(nn.Module):
    """The discriminator as a module that the objective can look at."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def features(self, x: Tensor) -> Tensor:
        return x

    def judge(self, features: Tensor, x: Tensor) -> Tensor:
        del x
        return logits(self.theta, features)

    def forward(self, x: Tensor) -> Tensor:
        return logits(self.theta, x)


def test_the_toy_potential_is_the_objective():
    """What the grid integrates is what runs descend, value and gradient."""
    toy = Toy(torch.tensor([0.4, -1.2], dtype=torch.float64))
    objective = Objective(config.Config(posterior=config.Posterior(prior_std=STD)), NUM_DATA, 1)
    batch = LabelledBatch(LABELLED.double(), TARGETS)
    real = RealOutputs.of(toy, batch, REAL.double())  # type: ignore[arg-type]
    total = objective.discriminator(
        toy, real, Shown(FAKES.double(), REAL.double()), objective.weights(0)
    ).total  # type: ignore[arg-type]
    torch.testing.assert_close(total, of_discriminator(toy.theta))
    total.backward()
    torch.testing.assert_close(toy.theta.grad, grad(of_discriminator)(toy.theta.detach()))
