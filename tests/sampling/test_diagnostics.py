import math

import pytest
import torch

from bgan_video.sampling import effective_sample_size, split_r_hat


def ar1(phi: float, chains: int, draws: int) -> torch.Tensor:
    """Stationary AR(1) with unit variance."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(draws, chains, generator=generator, dtype=torch.float64)
    x = [noise[0]]
    for step in noise[1:]:
        x.append(phi * x[-1] + math.sqrt(1 - phi * phi) * step)
    return torch.stack(x, 1)


@pytest.mark.parametrize("phi", [0.9, 0.5, 0.0, -0.3])
def test_effective_sample_size_of_ar1(phi: float):
    # the closed form; the estimate's own error over 8 chains of 20,000 is a few per cent
    draws = ar1(phi, 8, 20_000)
    expected = draws.numel() * (1 - phi) / (1 + phi)
    assert effective_sample_size(draws) == pytest.approx(expected, rel=0.1)


def test_gain_of_antithetic_draws_is_bounded():
    draws = ar1(-0.95, 4, 5_000)
    bound = draws.numel() * math.log10(draws.numel())
    assert effective_sample_size(draws) == pytest.approx(bound)


def test_effective_sample_size_of_chains_that_disagree_is_small():
    draws = ar1(0.0, 4, 1000) + 3 * torch.arange(4)[:, None]
    assert effective_sample_size(draws) < 20


def test_split_r_hat_by_hand():
    draws = torch.tensor([[1.0, 2.0, 4.0, 6.0, 99.0], [0.0, 2.0, 1.0, 5.0, 99.0]])
    halves = [[1.0, 2.0], [4.0, 6.0], [0.0, 2.0], [1.0, 5.0]]
    within = sum((a - b) ** 2 / 2 for a, b in halves) / 4
    means = [(a + b) / 2 for a, b in halves]
    centre = sum(means) / 4
    between = 2 * sum((mean - centre) ** 2 for mean in means) / 3
    expected = math.sqrt((within / 2 + between / 2) / within)
    assert split_r_hat(draws) == pytest.approx(expected, rel=1e-14)


def test_split_r_hat_tells_mixed_from_unmixed():
    mixed = ar1(0.5, 4, 4000)
    assert split_r_hat(mixed) < 1.01
    assert split_r_hat(mixed + torch.arange(4)[:, None]) > 1.2
    assert split_r_hat(mixed + torch.linspace(0, 3, 4000)) > 1.2  # a trend, the same in all chains


def test_both_ignore_place_and_scale():
    draws = ar1(0.5, 4, 400)
    assert split_r_hat(1e3 * draws - 7) == pytest.approx(split_r_hat(draws))
    assert effective_sample_size(1e3 * draws - 7) == pytest.approx(effective_sample_size(draws))


def test_constant_chains_have_no_answer():
    assert math.isnan(split_r_hat(torch.ones(2, 10)))
    assert math.isnan(effective_sample_size(torch.ones(2, 10)))


@pytest.mark.parametrize("diagnostic", [split_r_hat, effective_sample_size])
def test_bad_draws(diagnostic):
    with pytest.raises(ValueError, match=r"draws must be \[chains, draws >= 4\], got \[2, 3\]"):
        diagnostic(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="finite"):
        diagnostic(torch.full((2, 8), math.nan))
