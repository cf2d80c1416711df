import math

import pytest
import torch
from torch import distributions, nn

from bgan_video.sampling import (
    Gaussian,
    HierarchicalGaussian,
    Laplace,
    Prior,
    StudentT,
    named_prior,
    named_prior_parameters,
)


def some_params(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=dtype) for shape in [(3, 4), (5,), (), (2, 0)]
    ]


def check_prior(prior: Prior, distribution: distributions.Distribution) -> None:
    params = some_params()
    expected = sum(distribution.log_prob(param).sum() for param in params)
    torch.testing.assert_close(prior.log_prob(params), expected, rtol=1e-14, atol=1e-12)
    zeros = [torch.zeros_like(param) for param in params]
    unnormalised = prior.log_prob(zeros) - prior.log_prob(params)
    torch.testing.assert_close(prior.negative_log_density(params), unnormalised)


def check_gaussian(prior: type[Gaussian]) -> None:
    check_prior(prior(0.7), distributions.Normal(torch.zeros((), dtype=torch.float64), 0.7))


def test_gaussian_equals_torch():
    check_gaussian(Gaussian)


def test_laplace_equals_torch():
    check_prior(Laplace(0.7), distributions.Laplace(torch.zeros((), dtype=torch.float64), 0.7))


def test_student_t_equals_torch():
    zero = torch.zeros((), dtype=torch.float64)
    check_prior(StudentT(3.5, 0.7), distributions.StudentT(zero + 3.5, zero, zero + 0.7))


@pytest.mark.parametrize("count", [1, 3, 40])
def test_hierarchical_is_a_gaussian_whose_variance_is_integrated_out(count: int):
    """Against the integral over the precision, which is Gamma(df/2, rate df scale^2 / 2)."""
    df, scale = 3.5, 0.7
    theta = torch.linspace(-1.0, 2.0, count, dtype=torch.float64)
    log_precision = torch.linspace(-25, 12, 20_001, dtype=torch.float64)
    precision = log_precision.exp()
    gamma = distributions.Gamma(
        torch.tensor(df / 2, dtype=torch.float64), torch.tensor(df * scale**2 / 2)
    )
    normal = distributions.Normal(torch.zeros((), dtype=torch.float64), precision.rsqrt())
    joint = normal.log_prob(theta[:, None]).sum(0) + gamma.log_prob(precision) + log_precision
    step = log_precision[1] - log_precision[0]
    expected = torch.logsumexp(joint, 0) + step.log()
    actual = HierarchicalGaussian(df, scale).log_prob([theta])
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def test_hierarchical_of_one_weight_is_student_t_and_of_two_tensors_has_two_scales():
    params = [torch.tensor([0.3]), torch.tensor([-2.0])]
    hierarchical, student = HierarchicalGaussian(3.0, 0.7), StudentT(3.0, 0.7)
    torch.testing.assert_close(hierarchical.log_prob(params), student.log_prob(params))
    together = hierarchical.log_prob([torch.cat(params)])
    assert not torch.isclose(together, hierarchical.log_prob(params))


def test_hierarchical_pulls_a_large_tensor_as_a_gaussian_of_its_own_size():
    theta = 5 * torch.randn(10_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    theta.requires_grad_()
    HierarchicalGaussian(3.0, 0.1).negative_log_density([theta]).backward()
    variance = theta.detach().square().mean()
    torch.testing.assert_close(theta.grad, theta.detach() / variance, rtol=1e-3, atol=0)


def test_priors_by_name():
    assert named_prior("gaussian", 0.5, 3.0) == Gaussian(0.5)
    assert named_prior("laplace", 0.5, 3.0) == Laplace(0.5)
    assert named_prior("student_t", 0.5, 3.0) == StudentT(3.0, 0.5)
    assert named_prior("hierarchical", 0.5, 3.0) == HierarchicalGaussian(3.0, 0.5)
    with pytest.raises(ValueError, match="gaussian, laplace, student_t, hierarchical"):
        named_prior("cauchy", 0.5, 3.0)


PRIORS = [Gaussian(2.0), Laplace(2.0), StudentT(3.0, 2.0)]


@pytest.mark.parametrize("prior", [*PRIORS, HierarchicalGaussian(3.0, 2.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_parameters(prior: Prior, dtype: torch.dtype):
    assert prior.log_prob(some_params(dtype)).dtype == dtype
    assert prior.negative_log_density(some_params(dtype)).dtype == dtype


@pytest.mark.parametrize("prior", PRIORS)
def test_cutting_weights_into_tensors_changes_nothing(prior: Prior):
    whole = torch.linspace(-3, 3, 12, dtype=torch.float64)
    cut = [whole[:5], whole[5:6], whole[6:].view(2, 3)]
    torch.testing.assert_close(prior.log_prob([whole]), prior.log_prob(cut))


def test_gaussian_gradient_is_theta_over_variance():
    theta = torch.randn(7, dtype=torch.float64, requires_grad=True)
    Gaussian(0.5).negative_log_density([theta]).backward()
    torch.testing.assert_close(theta.grad, theta.detach() / 0.25)


def test_no_parameters_have_probability_one():
    assert Gaussian(1.0).log_prob([]) == 0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_bad_scale_is_named(bad: float):
    with pytest.raises(ValueError, match="std must be finite and > 0"):
        Gaussian(bad)
    with pytest.raises(ValueError, match="df must be"):
        StudentT(bad, 1.0)


def test_prior_parameters():
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    assert len(named_prior_parameters(module, exempt_bias_and_norm=False)) == 5
    (weight,) = named_prior_parameters(module, exempt_bias_and_norm=True)
    assert weight is module[0].weight
