"""Convergence of chains: closed forms, and ArviZ's own figures."""

import math

import pytest
import torch
from torch import Tensor

from bgan_video.sampling import (
    bulk_effective_size,
    effective_sample_size,
    monte_carlo_error,
    r_hat,
    tail_effective_size,
)

ALL = [r_hat, effective_sample_size, bulk_effective_size, tail_effective_size, monte_carlo_error]


def ar1(phi: float, chains: int, draws: int) -> Tensor:
    """Stationary AR(1) with unit variance."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(draws, chains, generator=generator, dtype=torch.float64)
    x = [noise[0]]
    for step in noise[1:]:
        x.append(phi * x[-1] + math.sqrt(1 - phi * phi) * step)
    return torch.stack(x, 1)


@pytest.mark.parametrize("phi", [0.9, 0.5, 0.0, -0.5])
@pytest.mark.parametrize("size", [(4, 100), (2, 8), (3, 37), (4, 11), (4, 4), (2, 1000)])
@pytest.mark.parametrize("has_ties", [False, True])
def test_every_figure_is_arvizs(size: tuple[int, int], phi: float, has_ties: bool):
    arviz = pytest.importorskip("arviz_stats.base").array_stats
    draws = ar1(phi, *size)
    if has_ties:
        draws = draws.round()
    theirs = draws.numpy()
    assert r_hat(draws) == pytest.approx(arviz.rhat(theirs))
    assert effective_sample_size(draws) == pytest.approx(arviz.ess(theirs, method="mean"))
    assert bulk_effective_size(draws) == pytest.approx(arviz.ess(theirs, method="bulk"))
    expected = arviz.ess(theirs, method="tail", prob=(0.05, 0.95))
    below = [draws <= draws.quantile(part) for part in (0.05, 0.95)]
    if all(0 < of.sum() < of.numel() for of in below):  # of constants ours is NaN
        assert tail_effective_size(draws) == pytest.approx(expected)
    assert monte_carlo_error(draws) == pytest.approx(arviz.mcse(theirs, method="mean"))


@pytest.mark.parametrize("phi", [0.9, 0.5, 0.0, -0.3])
def test_effective_sample_size_of_ar1(phi: float):
    # the closed form; the estimate's own error over 8 chains of 20,000 is a few per cent
    draws = ar1(phi, 8, 20_000)
    expected = draws.numel() * (1 - phi) / (1 + phi)
    assert effective_sample_size(draws) == pytest.approx(expected, rel=0.1)
    assert bulk_effective_size(draws) == pytest.approx(expected, rel=0.1)
    assert monte_carlo_error(draws) == pytest.approx(1 / math.sqrt(expected), rel=0.1)


def test_gain_of_antithetic_draws_is_bounded():
    draws = ar1(-0.95, 4, 5_000)
    bound = draws.numel() * math.log10(draws.numel())
    assert effective_sample_size(draws) == pytest.approx(bound)


def test_twenty_draws_that_hang_together_are_not_twenty():
    """What was printed before: draws with a correlation of 0.9 taken for independent ones."""
    assert bulk_effective_size(ar1(0.9, 4, 100)) < 0.15 * 400


def test_effective_sample_size_of_chains_that_disagree_is_small():
    draws = ar1(0.0, 4, 1000) + 3 * torch.arange(4)[:, None]
    assert effective_sample_size(draws) < 20


def test_r_hat_tells_mixed_from_unmixed():
    mixed = ar1(0.5, 4, 4000)
    assert r_hat(mixed) < 1.01
    assert r_hat(mixed + torch.arange(4)[:, None]) > 1.2
    assert r_hat(mixed + torch.linspace(0, 3, 4000)) > 1.2  # a trend, the same in all chains
    assert r_hat(mixed * torch.tensor([1.0, 1.0, 1.0, 4.0])[:, None]) > 1.1  # the folded one


def test_all_but_the_error_ignore_place_and_scale():
    draws = ar1(0.5, 4, 400)
    for figure in ALL[:-1]:
        assert figure(1e3 * draws - 7) == pytest.approx(figure(draws))
    assert monte_carlo_error(1e3 * draws - 7) == pytest.approx(1e3 * monte_carlo_error(draws))


def test_ranks_ignore_what_is_monotone():
    """The log of a probability has the R-hat and the bulk of the probability."""
    draws = ar1(0.5, 4, 400)
    assert bulk_effective_size(draws.exp()) == pytest.approx(bulk_effective_size(draws))


@pytest.mark.parametrize("figure", ALL, ids=lambda f: f.__name__)
def test_constant_chains_have_no_figure(figure):
    assert math.isnan(figure(torch.ones(2, 10)))


@pytest.mark.parametrize("figure", ALL, ids=lambda f: f.__name__)
def test_bad_draws(figure):
    with pytest.raises(ValueError, match=r"draws must be \[chains, draws >= 4\], got \[2, 3\]"):
        figure(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="finite"):
        figure(torch.full((2, 8), math.nan))
