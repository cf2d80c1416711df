"""SWAG's Gaussian against its closed form."""

from __future__ import annotations

import pytest
import torch

from bgan_video.sampling import PathGaussian

K, D, DRAWS = 5, 4, 40_000


def path() -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    mixed = torch.randn(D, D, generator=random, dtype=torch.float64)
    return 3 + torch.randn(K, D, generator=random, dtype=torch.float64) @ mixed


def test_draws_have_half_of_each_weights_variance_and_half_of_the_low_rank_covariance() -> None:
    iterates = path()
    gaussian, random = PathGaussian(iterates), torch.Generator().manual_seed(2)
    drawn = torch.stack([gaussian.draw(random) for _ in range(DRAWS)])
    variance = torch.diag(iterates.var(dim=0, correction=0))
    expected = (variance + iterates.T.cov(correction=1)) / 2
    scale = expected.diag().sqrt()
    off = (drawn.mean(dim=0) - iterates.mean(dim=0)) / scale
    assert off.abs().max() < 5 / DRAWS**0.5
    # A covariance of standard normals is off by sqrt((1 + r^2)/n) at most 1.42 / sqrt(n) a sigma.
    off = (drawn.T.cov() - expected) / torch.outer(scale, scale)
    assert off.abs().max() < 5 * 1.42 / DRAWS**0.5


def test_a_draw_depends_on_its_generator_alone() -> None:
    gaussian = PathGaussian(path())
    first, again, other = (gaussian.draw(torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_that_stood_still_stay() -> None:
    iterates = path()
    iterates[:, 2] = 7
    assert PathGaussian(iterates).draw(torch.Generator().manual_seed(0))[2] == 7


def test_one_iterate_is_no_path() -> None:
    with pytest.raises(ValueError, match="2 iterates or more, got 1"):
        PathGaussian(torch.zeros(1, D))
