"""Closed forms the samplers are held against, and the checks that hold them.

Every statistical assertion goes through `assert_plausible`, so that the false-alarm rate of the
whole suite is declared here: FALSE_ALARM, split evenly (Bonferroni) over NUM_P_VALUES.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bgan_video.sampling import SGHMC, Integrator

FALSE_ALARM = 1e-3  # of all of tests/sampling together
NUM_P_VALUES = 2000  # at most; held by conftest.py
THRESHOLD = FALSE_ALARM / NUM_P_VALUES
NUM_CHAINS = 32_768

HESSIAN = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
START = torch.tensor([3.0, -2.0], dtype=torch.float64)

num_p_values = 0


def assert_plausible(p_values: Tensor, what: str) -> None:
    """Fails where a p-value is too small to be chance, or is not a number."""
    global num_p_values
    num_p_values += p_values.numel()
    assert bool((p_values > THRESHOLD).all()), f"{what}: p = {p_values.tolist()}"


def normal_p(z: Tensor) -> Tensor:
    """Two-sided p-value of standard normal numbers."""
    return torch.special.erfc(z.abs() / math.sqrt(2))


def chi2_p(x: Tensor, df: int) -> Tensor:
    """Two-sided p-value of chi-square numbers."""
    half = torch.full_like(x, df / 2)
    lower, upper = torch.special.gammainc(half, x / 2), torch.special.gammaincc(half, x / 2)
    return 2 * torch.minimum(lower, upper)


def assert_gaussian(samples: Tensor, mean: Tensor, covariance: Tensor, what: str) -> None:
    """Holds independent rows [n, d] against N(mean, covariance): means, variances, correlations."""
    n, d = samples.shape
    assert bool(samples.isfinite().all()), f"{what}: not finite"
    factor = torch.linalg.cholesky(covariance.double())
    white = torch.linalg.solve_triangular(factor, (samples.double() - mean).T, upper=False).T
    scatter = white.T @ white
    rows, columns = torch.tril_indices(d, d, offset=-1)
    assert_plausible(normal_p(white.sum(0) / math.sqrt(n)), f"{what}: means")
    assert_plausible(chi2_p(scatter.diagonal(), n), f"{what}: variances")
    assert_plausible(normal_p(scatter[rows, columns] / math.sqrt(n)), f"{what}: correlations")


@dataclass(frozen=True)
class Settings:
    """Settings of an SGHMC sampler."""

    lr: float = 0.2
    friction: float = 0.3
    temperature: float = 0.7
    num_data: float = 50.0
    integrator: Integrator = "symplectic"
    gradient_noise: float = 0.0

    def build(
        self, sampler: type[SGHMC], params: list[Tensor], generator: torch.Generator | None = None
    ) -> SGHMC:
        return sampler(params, generator=generator, **vars(self))

    @property
    def noise_std(self) -> float:
        """The noise of one step, in units of r = v / sqrt(lr)."""
        unit = self.temperature / self.num_data
        if self.integrator == "baoa":
            return math.sqrt((1 - math.exp(-2 * self.friction)) * unit)
        return math.sqrt(2 * (self.friction - self.gradient_noise) * unit)


def linear_step(settings: Settings, hessian: Tensor) -> tuple[Tensor, Tensor]:
    """(A, B) of z' = A z + B noise for z = (theta, r) and L = 1/2 theta' H theta, by hand."""
    s, a = math.sqrt(settings.lr), settings.friction
    one = torch.eye(len(hessian), dtype=torch.float64)
    if settings.integrator == "symplectic":
        top, bottom = [one - s * s * hessian, s * (1 - a) * one], [-s * hessian, (1 - a) * one]
        noise = [s * one, one]
    elif settings.integrator == "euler":
        top, bottom = [one, s * one], [-s * hessian, (1 - a) * one]
        noise = [0 * one, one]
    else:
        c = math.exp(-a)
        top = [one - s * s / 2 * (1 + c) * hessian, s / 2 * (1 + c) * one]
        bottom = [-c * s * hessian, c * one]
        noise = [s / 2 * one, one]
    return torch.cat([torch.cat(top, 1), torch.cat(bottom, 1)]), torch.cat(noise)


def solve_lyapunov(A: Tensor, Q: Tensor) -> Tensor:
    """S = A S A' + Q, through the Kronecker product."""
    d = len(A)
    identity = torch.eye(d * d, dtype=A.dtype)
    return torch.linalg.solve(identity - torch.kron(A, A), Q.reshape(-1)).reshape(d, d)


def stationary_covariance(
    settings: Settings, hessian: Tensor, gradient_covariance: float = 0.0
) -> Tensor:
    """Covariance of (theta, r) in the long run."""
    A, B = linear_step(settings, hessian)
    variance = settings.noise_std**2 + settings.lr * gradient_covariance
    return solve_lyapunov(A, variance * B @ B.T)


def law_after(
    settings: Settings, hessian: Tensor, start: Tensor, steps: int, gradient_covariance: float
) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of (theta, r) after some steps from (start, 0)."""
    A, B = linear_step(settings, hessian)
    Q = (settings.noise_std**2 + settings.lr * gradient_covariance) * B @ B.T
    mean, covariance = torch.cat([start, torch.zeros_like(start)]), torch.zeros_like(Q)
    for _ in range(steps):
        mean, covariance = A @ mean, A @ covariance @ A.T + Q
    return mean, covariance


def transition_matrix(sampler: type[SGHMC], settings: Settings, hessian: Tensor) -> Tensor:
    """The matrix that one step at T = 0 applies to (theta, r), read off basis vectors."""
    d = len(hessian)
    basis = torch.eye(2 * d, dtype=torch.float64)
    theta = basis[:, :d].clone()
    optimizer = settings.build(sampler, [theta])
    optimizer.param_groups[0]["temperature"] = 0.0
    optimizer.state[theta]["momentum"] = basis[:, d:].clone()
    theta.grad = theta @ hessian
    optimizer.step()
    return torch.cat([theta, optimizer.state[theta]["momentum"]], 1).T


def check_transition(sampler: type[SGHMC], settings: Settings) -> None:
    """At T = 0 one step is the matrix of the closed form."""
    expected, _ = linear_step(settings, HESSIAN)
    actual = transition_matrix(sampler, settings, HESSIAN)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-14)


def check_noise(sampler: type[SGHMC], settings: Settings) -> None:
    """The noise of a step: its size, and independence of elements, parameters and steps."""
    params = [torch.zeros(NUM_CHAINS, 2), torch.zeros(NUM_CHAINS, 2)]
    optimizer = settings.build(sampler, params, torch.Generator().manual_seed(11))
    decay = float(linear_step(settings, HESSIAN)[0][-1, -1])
    noise: list[Tensor] = []
    for _ in range(2):
        before = [optimizer.momentum(param).clone() for param in params]
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
        after = [optimizer.momentum(param) for param in params]
        noise += [new - decay * old for new, old in zip(after, before, strict=True)]
    columns = torch.cat(noise, 1)
    expected = settings.noise_std**2 * torch.eye(columns.shape[1], dtype=torch.float64)
    assert_gaussian(columns, torch.zeros(columns.shape[1]), expected, "noise of one step")


def check_chains(sampler: type[SGHMC], settings: Settings) -> None:
    """Many chains on a correlated Gaussian against their exact law, in equilibrium by then.

    The gradients carry exactly the noise that `settings.gradient_noise` says they carry.
    """
    steps = 100
    unit = settings.temperature / settings.num_data
    gradient_variance = 2 * settings.gradient_noise * unit / settings.lr
    mean, covariance = law_after(settings, HESSIAN, START, steps, gradient_variance)
    limit = stationary_covariance(settings, HESSIAN, gradient_variance)
    torch.testing.assert_close(covariance, limit, rtol=1e-4, atol=1e-6)

    theta = START.float().expand(NUM_CHAINS, 2).clone()
    optimizer = settings.build(sampler, [theta], torch.Generator().manual_seed(12))
    minibatch = torch.Generator().manual_seed(13)
    hessian = HESSIAN.float()
    for _ in range(steps):
        theta.grad = theta @ hessian
        if gradient_variance > 0:
            theta.grad += math.sqrt(gradient_variance) * torch.randn(
                theta.shape, generator=minibatch
            )
        optimizer.step()
    state = torch.cat([theta, optimizer.momentum(theta)], 1)
    assert_gaussian(state, mean, covariance, f"{settings.integrator} chains")


CHECKS: list[Callable[[type[SGHMC], Settings], None]] = [
    check_transition,
    check_noise,
    check_chains,
]
