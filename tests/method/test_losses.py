"""The terms of the objective against explicit softmax formulas in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from bgan_video.method import losses

Term = Callable[[Tensor], Tensor]
SURE = 1e4


def given(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
    """`hypothesis.given` without a deadline: the first use of a torch operation is slow."""
    return lambda test: settings(deadline=None)(given_(*args, **kwargs)(test))


@st.composite
def logits(draw: st.DrawFn, size: float = 8.0) -> Tensor:
    """`[B, K+1]` of float64."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(3, 7)))
    seed = draw(st.integers(0, 2**32 - 1))
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64) * draw(st.floats(0, size))


def softmax(x: Tensor) -> Tensor:
    e = x.exp()
    return e / e.sum(dim=1, keepdim=True)


def labels_for(x: Tensor) -> Tensor:
    return torch.arange(len(x)) % (x.shape[1] - 1)


def picked(probabilities: Tensor, index: Tensor) -> Tensor:
    return torch.stack([row[i] for row, i in zip(probabilities, index, strict=True)])


def weak_of(x: Tensor) -> Tensor:
    return softmax(x[:, 1:])


# Every term of a batch of logits, for what holds for all of them.
TERMS: dict[str, Term] = {
    "real": losses.real,
    "fake": losses.fake,
    "generator": losses.generator,
    "labelled": lambda x: losses.labelled(x, labels_for(x)),
    "supervised": lambda x: losses.supervised(x, labels_for(x)),
    "consistency": lambda x: losses.consistency(weak_of(x.detach().double()).to(x.dtype), x, 0.0),
    "imbalance": losses.imbalance,
}
terms = pytest.mark.parametrize("name", TERMS)


@given(logits())
def test_real_is_the_complement_cross_entropy(x: Tensor) -> None:
    expected = -(1 - softmax(x)[:, 0]).log().mean()
    torch.testing.assert_close(losses.real(x), expected, rtol=1e-9, atol=1e-9)


@given(logits())
def test_fake_is_the_cross_entropy_to_index_zero(x: Tensor) -> None:
    torch.testing.assert_close(losses.fake(x), -softmax(x)[:, 0].log().mean())


@given(logits())
def test_labelled_is_the_cross_entropy_to_one_above_the_class(x: Tensor) -> None:
    y = labels_for(x)
    expected = -picked(softmax(x), y + 1).log().mean()
    torch.testing.assert_close(losses.labelled(x, y), expected)


@given(logits(), st.floats(0, 3))
def test_labelled_weighs_real_against_fake_apart_from_the_classes(x: Tensor, weight: float) -> None:
    y = labels_for(x)
    is_class = -picked(softmax(x[:, 1:]), y).log().mean()
    is_real = -(1 - softmax(x)[:, 0]).log().mean()
    found = losses.labelled(x, y, real_weight=weight)
    torch.testing.assert_close(found, is_class + weight * is_real, rtol=1e-7, atol=1e-9)


@given(logits())
def test_supervised_never_sees_the_fake_logit(x: Tensor) -> None:
    y = labels_for(x)
    expected = -picked(softmax(x[:, 1:]), y).log().mean()
    torch.testing.assert_close(losses.supervised(x, y), expected)
    other = x.clone()
    other[:, 0] += 100
    assert torch.equal(losses.supervised(other, y), losses.supervised(x, y))


@given(logits())
def test_the_generator_wants_its_fakes_to_be_real(x: Tensor) -> None:
    expected = -softmax(x)[:, 1:].sum(dim=1).log().mean()
    torch.testing.assert_close(losses.generator(x), expected, rtol=1e-9, atol=1e-9)


@given(logits())
def test_class_probabilities_are_the_softmax_of_the_classes(x: Tensor) -> None:
    p = losses.class_probabilities(x)
    torch.testing.assert_close(p, weak_of(x))
    torch.testing.assert_close(p, softmax(x)[:, 1:] / (1 - softmax(x)[:, :1]), rtol=1e-4, atol=1e-6)


@given(logits(), st.floats(0, 1))
def test_consistency_averages_over_all_items_not_only_the_confident(x: Tensor, t: float) -> None:
    strong = x.flip(0) * 0.5
    weak = weak_of(x)
    total = 0.0
    for p, q in zip(weak, weak_of(strong), strict=True):
        if p.max() >= t:
            total -= q[p.argmax()].log().item()
    assert losses.consistency(weak, strong, t).item() == pytest.approx(total / len(x))


def test_an_item_at_the_threshold_is_confident() -> None:
    weak = torch.tensor([[0.75, 0.25]])
    strong = torch.tensor([[0.0, 1.0, -1.0]])
    assert losses.consistency(weak, strong, 0.75) > 0
    assert losses.consistency(weak, strong, 0.7500001) == 0


def test_consistency_moves_only_the_strong_view() -> None:
    weak = torch.tensor([[0.9, 0.1]], requires_grad=True)
    strong = torch.zeros(1, 3, requires_grad=True)
    losses.consistency(weak, strong, 0.5).backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.tolist() == [[0.0, -0.5, 0.5]]


@given(logits())
def test_imbalance_is_the_divergence_of_the_mean_prediction_from_uniform(x: Tensor) -> None:
    mean = weak_of(x).mean(dim=0)
    uniform = torch.full_like(mean, 1 / len(mean))
    expected = (uniform * (uniform / mean).log()).sum()
    torch.testing.assert_close(losses.imbalance(x), expected, rtol=1e-9, atol=1e-9)


def test_imbalance_is_of_the_batch_and_not_of_its_items() -> None:
    """Sure of every item and of every class equally often: nothing is out of balance."""
    every = torch.full((3, 4), -SURE)
    every[:, 1:].fill_diagonal_(SURE)
    assert losses.imbalance(every).item() == pytest.approx(0, abs=1e-6)
    other = every.clone()
    other[:, losses.FAKE] = SURE
    assert torch.equal(losses.imbalance(other), losses.imbalance(every))


def test_imbalance_still_learns_where_one_class_took_all() -> None:
    x = torch.full((2, 4), -SURE)
    x[:, 1] = SURE
    x.requires_grad_()
    loss = losses.imbalance(x)
    loss.backward()
    assert loss.item() == pytest.approx(2 / 3 * 2 * SURE - math.log(3))
    assert x.grad is not None
    assert x.grad.sum(dim=0).tolist() == pytest.approx([0, 2 / 3, -1 / 3, -1 / 3], abs=1e-3)


def test_feature_matching_compares_means_over_items() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    fake = torch.tensor([[0.0, 0.0], [3.0, 3.0], [6.0, 0.0]])  # means (2, 3) and (3, 1)
    assert losses.feature_matching(real, fake).item() == pytest.approx((1 + 4) / 2)
    assert losses.feature_matching(real, real.flip(0)) == 0


def test_mask_sparsity_is_the_mean_absolute_value() -> None:
    assert losses.mask_sparsity(torch.tensor([[0.5, -1.0], [0.0, 0.5]])) == 0.5


@terms
@given(x=logits(), shift=st.floats(-50, 50))
def test_terms_do_not_change_when_all_logits_shift(name: str, x: Tensor, shift: float) -> None:
    term = TERMS[name]
    torch.testing.assert_close(term(x + shift), term(x), rtol=1e-9, atol=1e-9)


@terms
@given(x=logits())
def test_terms_are_never_negative(name: str, x: Tensor) -> None:
    assert TERMS[name](x) >= -1e-12


@terms
@given(x=logits(size=3.0))
def test_gradients_are_those_of_finite_differences(name: str, x: Tensor) -> None:
    term = TERMS[name]
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term(point), point)
    along = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    # The consistency target must not flip on the way: it is fixed by the point itself.
    fixed = (
        term
        if name != "consistency"
        else (lambda other: losses.consistency(weak_of(x), other, 0.0))
    )
    h = 1e-5
    slope = (fixed(x + h * along) - fixed(x - h * along)) / (2 * h)
    torch.testing.assert_close((gradient * along).sum(), slope, rtol=1e-5, atol=1e-7)


@terms
@pytest.mark.parametrize("index", range(4))
def test_huge_logits_keep_values_and_gradients_finite(name: str, index: int) -> None:
    x = torch.full((4, 4), -SURE)
    x[:, index] = SURE
    x.requires_grad_()
    loss = TERMS[name](x)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("sure", [20.0, 100.0, SURE])
def test_a_generator_still_learns_where_the_discriminator_is_sure(sure: float) -> None:
    x = torch.tensor([[sure, -sure, -sure]]).requires_grad_()
    losses.generator(x).backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([1.0, -0.5, -0.5], abs=1e-3)


@pytest.mark.parametrize("sure", [20.0, SURE])
def test_a_discriminator_learns_from_what_it_got_wrong(sure: float) -> None:
    x = torch.tensor([[-sure, sure, -sure]]).requires_grad_()
    losses.fake(x).backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([-1.0, 1.0, 0.0], abs=1e-6)


@terms
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(name: str, half: torch.dtype) -> None:
    x = torch.randn(64, 11, generator=torch.Generator().manual_seed(0)).to(half)
    term = TERMS[name]
    assert term(x).dtype == torch.float32
    torch.testing.assert_close(term(x).double(), term(x.double()), rtol=1e-5, atol=1e-5)


def test_sums_that_half_precision_cannot_hold_are_computed_in_float32() -> None:
    features = torch.full((4, 2), 300.0, dtype=torch.float16)
    assert losses.feature_matching(torch.zeros_like(features), features) == 90000.0
    assert losses.mask_sparsity(torch.full((3,), 0.1).bfloat16()).dtype == torch.float32


def test_double_precision_is_kept() -> None:
    x = torch.randn(4, 4, dtype=torch.float64)
    assert all(term(x).dtype == torch.float64 for term in TERMS.values())


def test_index_zero_is_fake() -> None:
    fakes = torch.tensor([[9.0, 0.0, 0.0]])
    assert losses.FAKE == 0
    assert losses.log_fake(fakes).exp().item() == pytest.approx(1, abs=1e-3)
    assert losses.log_real(fakes).exp().item() == pytest.approx(0, abs=1e-3)


@given(logits())
def test_real_and_fake_are_complements_item_by_item(x: Tensor) -> None:
    total = losses.log_real(x).exp() + losses.log_fake(x).exp()
    torch.testing.assert_close(total, torch.ones(len(x), dtype=x.dtype))


def test_terms_are_means_over_the_batch() -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name in ("real", "fake", "generator"):
        alone = torch.stack([TERMS[name](row[None]) for row in x])
        torch.testing.assert_close(TERMS[name](x), alone.mean())


# --- what the published codes compute ----------------------------------------------------------


def nll_of_the_complement(x: Tensor, c: float) -> Tensor:
    """The notebook's criterion: `nll_loss(log(1 - softmax + c), 0)`."""
    log_probabilities = torch.log(1 - torch.softmax(x, dim=1) + c)
    return torch.nn.functional.nll_loss(log_probabilities, torch.zeros(len(x), dtype=torch.long))


CLAMPS = [1e-4, 1e-8]  # of the notebook and of TensorFlow's first commit
clamps = pytest.mark.parametrize("c", CLAMPS)


@clamps
@given(x=logits())
def test_with_a_clamp_real_and_generator_are_the_published_criterion(c: float, x: Tensor) -> None:
    expected = nll_of_the_complement(x, c)
    torch.testing.assert_close(losses.real(x, c), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(losses.generator(x, c), expected, rtol=1e-12, atol=1e-12)


@clamps
@given(x=logits(size=3.0))
def test_a_clamp_is_all_that_tells_the_published_criterion_from_ours(c: float, x: Tensor) -> None:
    """`-log(1 - p + c) = -log(1 - p) - log(1 + c / (1 - p))`."""
    p_real = 1 - softmax(x)[:, 0]
    difference = (1 + c / p_real).log().mean()
    torch.testing.assert_close(losses.real(x) - losses.real(x, c), difference, rtol=1e-6, atol=1e-9)
    assert losses.real(x, c) < losses.real(x)


@given(logits())
def test_k_logits_are_ours_with_a_fake_logit_of_zero(x: Tensor) -> None:
    """The later TensorFlow code: s = lse(l), real softplus(s) - s, fake softplus(s)."""
    of_classes = x[:, 1:]
    ours = torch.cat([torch.zeros_like(x[:, :1]), of_classes], dim=1)
    s = of_classes.exp().sum(dim=1).log()
    softplus = (1 + s.exp()).log()
    torch.testing.assert_close(losses.real(ours), (softplus - s).mean(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(losses.generator(ours), (softplus - s).mean(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(losses.fake(ours), softplus.mean(), rtol=1e-9, atol=1e-9)


def of_confidence(difference: float) -> Tensor:
    """One item whose fake logit stands that far above ten equal others."""
    x = torch.zeros(1, 11, dtype=torch.float64)
    x[0, 0] = difference
    return x.requires_grad_()


def slope(loss: Tensor, x: Tensor) -> float:
    """Of the fake logit: 1 where the generator is pushed as hard as can be."""
    return torch.autograd.grad(loss, x)[0][0, 0].item()


@pytest.mark.parametrize(("difference", "left"), [(9, 0.92), (12, 0.38), (20, 2e-4)])
def test_a_clamp_lets_go_of_a_generator_the_discriminator_is_sure_of(
    difference: float, left: float
) -> None:
    x = of_confidence(difference)
    p_fake, p_real = softmax(x)[0, 0].item(), softmax(x)[0, 1:].sum().item()
    assert slope(losses.generator(x), x) == pytest.approx(p_fake, rel=1e-9)
    assert p_fake > 0.998
    clamped = slope(losses.generator(x, 1e-4), x)
    assert clamped == pytest.approx(p_fake * p_real / (p_real + 1e-4), rel=1e-6)
    assert clamped == pytest.approx(left, rel=0.05)


def test_a_clamp_is_the_end_of_the_loss() -> None:
    x = of_confidence(100)
    assert losses.real(x, 1e-4).item() == pytest.approx(9.21, abs=5e-3)
    assert losses.real(x).item() == pytest.approx(100 - math.log(10))


def test_samplewise_matching_is_hubers_loss_pair_by_pair() -> None:
    real = torch.tensor([[0.0, 0.0], [1.0, 5.0]])
    fake = torch.tensor([[0.5, -1.0], [1.0, 2.0]])
    # Half the square up to 1, distance less a half beyond.
    expected = (0.125 + 0.5 + 0.0 + 2.5) / 4
    assert losses.samplewise_matching(real, fake).item() == pytest.approx(expected)
    means = ((0.5 - 0.75) ** 2 + (2.5 - 0.5) ** 2) / 2
    assert losses.feature_matching(real, fake).item() == pytest.approx(means)


def test_samplewise_matching_minds_the_pairs_and_means_do_not() -> None:
    real = torch.tensor([[0.0], [4.0]])
    assert losses.feature_matching(real, real.flip(0)) == 0
    assert losses.samplewise_matching(real, real) == 0
    assert losses.samplewise_matching(real, real.flip(0)).item() == pytest.approx(3.5)
