"""Last-layer Laplace against autograd's Hessian and the closed form of its evidence, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian

from bgan_video.errors import UserError
from bgan_video.sampling import LastLayer, last_layer

F, K, DRAWS = 5, 3, 4_000


@pytest.fixture(autouse=True)
def _library() -> None:
    pytest.importorskip("laplace", reason="laplace-torch is not installed")


def layer(items: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(items, F, generator=random, dtype=torch.float64)
    labels = torch.randint(K, (items,), generator=random)
    return features, labels, torch.randn(K, F, generator=random, dtype=torch.float64)


def potential(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    logits = features @ weight.view(K, F).T
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def curvature(features: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    found = hessian(lambda w: potential(features, labels, w), weight.flatten())
    assert isinstance(found, Tensor)
    return found


def test_of_one_item_the_precision_is_the_hessian_and_the_priors() -> None:
    given = layer(items=1)
    found = LastLayer(*given)
    expected = curvature(*given) + found.prior_precision * torch.eye(K * F, dtype=torch.float64)
    torch.testing.assert_close(found.precision, expected)


def test_of_items_that_are_alike_it_is_theirs_together() -> None:
    """Their factors are the same, so that the product of sums is the sum of products."""
    (x, y, w), items = layer(items=1), 40
    given = (x.expand(items, F), y.expand(items), w)
    found = LastLayer(*given)
    expected = curvature(*given) + found.prior_precision * torch.eye(K * F, dtype=torch.float64)
    torch.testing.assert_close(found.precision, expected)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_the_prior_is_the_one_of_highest_evidence(scale: float) -> None:
    """log p(y) ~ -U(w) - δ/2 |w|^2 + P/2 log δ - 1/2 log det(H + δ) of other δ, near and far."""
    (x, y, w), items = layer(items=1), 40
    given = (scale * x.expand(items, F), y.expand(items), w / scale)
    found, h = LastLayer(*given), curvature(*given)

    def evidence(precision: float) -> float:
        prior = precision * torch.eye(len(h), dtype=torch.float64)
        fit = potential(*given) + precision / 2 * given[2].square().sum()
        return float(0.5 * prior.logdet() - 0.5 * (h + prior).logdet() - fit)

    best = evidence(found.prior_precision)
    for factor in (1e-3, 0.1, 0.8, 1.25, 10.0, 1e3):
        assert evidence(factor * found.prior_precision) < best


def test_draws_have_the_precisions_inverse_as_covariance() -> None:
    _, _, weight = given = layer(items=30)
    found, random = LastLayer(*given), torch.Generator().manual_seed(1)
    drawn = torch.stack([found.draw(random).flatten() for _ in range(DRAWS)])
    expected = found.precision.inverse()
    scale = expected.diag().sqrt()
    assert ((drawn.mean(dim=0) - weight.flatten()) / scale).abs().max() < 5 / DRAWS**0.5
    off = (drawn.T.cov() - expected) / torch.outer(scale, scale)
    assert off.abs().max() < 5 * 1.42 / DRAWS**0.5


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_layer, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'bgan_video\[laplace\]'"):
        LastLayer(*layer(items=3))
