"""What the samplers sample: closed forms by algebra, and chains against their exact law."""

import math

import pytest
import torch
from torch import Tensor

from bgan_video.sampling import (
    SGHMC,
    SGLD,
    AdaptiveSGHMC,
    Gaussian,
    Integrator,
    StepSize,
    kinetic_temperature,
)
from tests.sampling.oracles import (
    CHECKS,
    HESSIAN,
    NUM_CHAINS,
    START,
    Settings,
    assert_gaussian,
    linear_step,
    solve_lyapunov,
    stationary_covariance,
    transition_matrix,
)

CURVATURE = 1.7


class UnitNoise(SGHMC):
    """Its noise is 1 per standard deviation, so that one step shows the noise matrix."""

    def standard_normal(self, like: Tensor) -> Tensor:
        return torch.ones_like(like)


def covariance_of_the_code(settings: Settings, curvature: float) -> Tensor:
    """Lyapunov solution for one parameter, with both matrices read off the code itself."""
    hessian = torch.tensor([[curvature]], dtype=torch.float64)
    theta = torch.zeros(1, 1, dtype=torch.float64)
    theta.grad = torch.zeros_like(theta)
    optimizer = settings.build(UnitNoise, [theta])
    optimizer.step()
    kick = torch.cat([theta, optimizer.momentum(theta)], 1)
    return solve_lyapunov(transition_matrix(SGHMC, settings, hessian), kick.T @ kick)


@pytest.mark.parametrize("friction", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("relative", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("integrator", ["symplectic", "euler", "baoa"])
def test_bias_and_kinetic_temperature(integrator: Integrator, friction: float, relative: float):
    """The closed forms of the docstrings, at several fractions of the largest stable step."""
    a = friction
    limit = {"symplectic": 2 * (2 - a), "euler": a, "baoa": 4.0}[integrator]
    h = relative * limit
    settings = Settings(lr=h / CURVATURE, friction=a, integrator=integrator)
    variance, kinetic = covariance_of_the_code(settings, CURVATURE).diagonal()
    unit = settings.temperature / settings.num_data
    position, velocity = 1.0, 1.0
    if integrator == "symplectic":
        position, velocity = 1 / (1 - h / (2 * (2 - a))), 1 / (1 - a / 2 - h / 4)
    elif integrator == "euler":
        velocity = 4 * a / ((a - h) * (4 - 2 * a + h))
        position = velocity * (2 - a + h) / 2
    assert variance.item() * CURVATURE / unit == pytest.approx(position, rel=1e-9)
    assert kinetic.item() / unit == pytest.approx(velocity, rel=1e-9)


@pytest.mark.parametrize("integrator", ["symplectic", "euler", "baoa"])
def test_limit_of_stability(integrator: Integrator):
    a = 0.2
    limit = {"symplectic": 2 * (2 - a), "euler": a, "baoa": 4.0}[integrator]
    for factor, stable in [(0.999, True), (1.001, False)]:
        settings = Settings(lr=factor * limit, friction=a, integrator=integrator)
        A = transition_matrix(SGHMC, settings, torch.ones(1, 1, dtype=torch.float64))
        assert (torch.linalg.eigvals(A).abs().max() < 1) == stable


@pytest.mark.parametrize("integrator", ["symplectic", "euler"])
def test_bias_shrinks_linearly_with_the_step(integrator: Integrator):
    biases = [
        covariance_of_the_code(Settings(lr=lr, integrator=integrator), 1.0)[0, 0] * 50 / 0.7 - 1
        for lr in (1e-4, 5e-5)
    ]
    assert math.log2(biases[0] / biases[1]) == pytest.approx(1, abs=1e-2)


def test_gradient_noise_heats_by_the_closed_form_and_beta_hat_removes_it():
    curvature = torch.ones(1, 1, dtype=torch.float64)
    settings = Settings(lr=0.01)
    unit = settings.temperature / settings.num_data
    variance = 0.5
    ideal = stationary_covariance(settings, curvature)
    heated = stationary_covariance(settings, curvature, variance)
    beta = settings.lr * variance / (2 * unit)
    torch.testing.assert_close(heated / ideal, torch.full_like(ideal, 1 + beta / settings.friction))
    corrected = Settings(lr=0.01, gradient_noise=beta)
    torch.testing.assert_close(stationary_covariance(corrected, curvature, variance), ideal)


@pytest.mark.statistical
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(lr=0.05, integrator="euler"),
        Settings(integrator="baoa"),
        Settings(gradient_noise=0.15),
        Settings(lr=0.05, integrator="euler", gradient_noise=0.1),
        Settings(temperature=4.0, num_data=3.0),
        Settings(temperature=1.0, num_data=50_000.0, friction=1.0),
        Settings(temperature=1.0, friction=2.5, integrator="baoa", lr=1.0),
    ],
    ids=str,
)
def test_chains_have_their_exact_law(check, settings: Settings):
    check(SGHMC, settings)


@pytest.mark.statistical
def test_kinetic_temperature_of_chains():
    """Its relative error over n elements is sqrt(2 / n) = 0.4 %; six of those are allowed."""
    settings = Settings(integrator="baoa")
    params = [torch.zeros(NUM_CHAINS, 4), torch.zeros(NUM_CHAINS, 4)]
    sampler = settings.build(SGHMC, params, torch.Generator().manual_seed(21))
    for _ in range(60):
        for param in params:
            param.grad = 2 * param
        sampler.step()
    tolerance = 6 * math.sqrt(2 / params[0].numel())
    assert kinetic_temperature(sampler) == pytest.approx([0.7, 0.7], rel=tolerance)


@pytest.mark.statistical
def test_change_of_step_size_keeps_the_target():
    """From equilibrium at one step size straight to another: no transient to wait for."""
    settings = Settings(integrator="baoa", lr=0.01)
    unit = settings.temperature / settings.num_data
    generator = torch.Generator().manual_seed(22)
    factor = torch.linalg.cholesky(unit * HESSIAN.inverse()).float()
    theta = torch.randn(NUM_CHAINS, 2, generator=generator) @ factor.T
    sampler = settings.build(SGHMC, [theta], generator)
    # at the end of a step of baoa the momentum is correlated with theta: r = p + sqrt(lr) H theta/2
    momentum = sampler.momentum(theta)
    for lr in (0.01, 0.3):
        covariance = stationary_covariance(Settings(integrator="baoa", lr=lr), HESSIAN)
        cross = covariance[2:, :2] @ covariance[:2, :2].inverse()
        rest = covariance[2:, 2:] - cross @ covariance[:2, 2:]
        draw = torch.randn(NUM_CHAINS, 2, generator=generator)
        momentum.copy_(theta @ cross.T.float() + draw @ torch.linalg.cholesky(rest).T.float())
        sampler.param_groups[0]["lr"] = lr
        theta.grad = theta @ HESSIAN.float()
        sampler.step()
        what = f"after a step of {lr}"
        assert_gaussian(theta, torch.zeros(2), unit * HESSIAN.inverse(), what)


@pytest.mark.statistical
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_sgld_has_its_exact_law(temperature: float):
    lr, num_data, steps = 0.2, 30.0, 60
    theta = START.float().expand(NUM_CHAINS, 2).clone()
    sampler = SGLD([theta], lr, temperature, num_data, torch.Generator().manual_seed(23))
    A = torch.eye(2, dtype=torch.float64) - lr * HESSIAN
    Q = 2 * lr * temperature / num_data * torch.eye(2, dtype=torch.float64)
    mean, covariance = START, torch.zeros(2, 2, dtype=torch.float64)
    for _ in range(steps):
        theta.grad = theta @ HESSIAN.float()
        sampler.step()
        mean, covariance = A @ mean, A @ covariance @ A.T + Q
    assert_gaussian(theta, mean, covariance, "SGLD")
    variance = solve_lyapunov(torch.full_like(A[:1, :1], 1 - lr), Q[:1, :1]).item()
    assert variance == pytest.approx(temperature / num_data / (1 - lr / 2))


def test_cold_sgld_is_gradient_descent():
    theta = START.clone()
    theta.grad = HESSIAN @ theta
    SGLD([theta], 0.1, 0.0, 10).step()
    torch.testing.assert_close(theta, START - 0.1 * HESSIAN @ START)


@pytest.mark.statistical
def test_frozen_adaptive_sghmc_has_its_exact_law_and_its_target():
    lr, a, unit, steps = 0.1, 0.3, 1 / 40, 150
    square = torch.tensor([0.25, 4.0])
    theta = START.float().expand(NUM_CHAINS, 2).clone()
    sampler = AdaptiveSGHMC([theta], lr, a, 1.0, 40.0, torch.Generator().manual_seed(24))
    theta.grad = theta @ HESSIAN.float()
    sampler.step()
    sampler.freeze()
    state = sampler.state[theta]
    state["square"].copy_(square.expand_as(theta))  # one preconditioner for all chains
    theta.copy_(START.float().expand_as(theta))
    state["momentum"].zero_()

    S = (lr / square.double().sqrt()).sqrt().diag()
    one = torch.eye(2, dtype=torch.float64)

    def matrices(S: Tensor) -> tuple[Tensor, Tensor]:
        kick = torch.cat([-S @ HESSIAN, (1 - a) * one], 1)
        A = torch.cat([torch.cat([one, 0 * one], 1) + S @ kick, kick])
        return A, torch.cat([S, one])

    A, B = matrices(S)
    mean = torch.cat([START, torch.zeros(2)])
    covariance = torch.zeros(4, 4, dtype=torch.float64)
    for _ in range(steps):
        theta.grad = theta @ HESSIAN.float()
        sampler.step()
        mean, covariance = A @ mean, A @ covariance @ A.T + 2 * a * unit * B @ B.T
    actual = torch.cat([theta, state["momentum"]], 1)
    assert_gaussian(actual, mean, covariance, "adaptive SGHMC")
    assert torch.equal(state["square"], square.expand_as(theta))

    A, B = matrices(1e-2 * S)  # the target as the step goes to zero
    limit = solve_lyapunov(A, 2 * a * unit * B @ B.T)[:2, :2]
    torch.testing.assert_close(limit, unit * HESSIAN.inverse(), rtol=1e-4, atol=1e-6)


def regression(num_data: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(31)
    X = torch.linalg.qr(torch.randn(num_data, 2, generator=generator)).Q * math.sqrt(num_data)
    y = X @ torch.tensor([1.0, -0.5]) + 0.5 * torch.randn(num_data, generator=generator)
    return X, y


@pytest.mark.statistical
@pytest.mark.parametrize("corrected", [False, True])
def test_conjugate_regression_with_minibatches(corrected: bool):
    """Against the exact covariance under minibatch noise, which is linear in the covariance.

    An item's gradient is (h_i e + c_i), e = theta - posterior mean; with B items drawn with
    replacement its covariance is (E[(h_i - h) S (h_i - h)] + Cov c) / B at E e = 0, E ee' = S.
    """
    num_data, batch, noise_variance, std = 400, 20, 0.25, 1.5
    X, y = regression(num_data)
    prior = Gaussian(std)
    settings = Settings(lr=0.004, friction=0.2, temperature=1.0, num_data=num_data)

    H_items = X.double()[:, :, None] * X.double()[:, None] / noise_variance
    H = H_items.mean(0) + torch.eye(2, dtype=torch.float64) / (num_data * std**2)
    posterior = H.inverse() / num_data
    mean = H.inverse() @ (X.T @ y).double() / (num_data * noise_variance)
    c = ((X @ mean.float() - y)[:, None] * X).double() / noise_variance
    C = torch.cov(c.T, correction=0)
    if corrected:
        beta = settings.lr * num_data * C.diagonal().mean().item() / batch / 2
        settings = Settings(settings.lr, 0.2, 1.0, num_data, gradient_noise=beta)

    A, B = linear_step(settings, H)
    S = torch.zeros(4, 4, dtype=torch.float64)
    deviation = H_items - H_items.mean(0)
    identity = torch.eye(2, dtype=torch.float64)
    steps = 500
    for _ in range(steps):
        spread = (deviation @ S[:2, :2] @ deviation).mean(0)
        added = settings.noise_std**2 * identity + settings.lr * (spread + C) / batch
        S = A @ S @ A.T + B @ added @ B.T

    chains = 4096
    generator = torch.Generator().manual_seed(32)
    theta = mean.float().expand(chains, 2).clone().requires_grad_()
    sampler = settings.build(SGHMC, [theta], generator)
    for _ in range(steps):
        index = torch.randint(num_data, (chains, batch), generator=generator)
        residual = torch.einsum("cbd,cd->cb", X[index], theta) - y[index]
        loss = residual.square().mean(1).sum() / (2 * noise_variance)
        sampler.zero_grad()
        (loss + prior.negative_log_density([theta]) / num_data).backward()
        sampler.step()
    assert_gaussian(theta.detach(), mean, S[:2, :2], "regression")

    # theory: 1 + (gradient noise not accounted for) / friction, and the bias of the step
    inflation = S[:2, :2].diagonal() / posterior.diagonal()
    heat = settings.lr * num_data * C.diagonal() / batch / 2 - settings.gradient_noise
    step_bias = 1 / (1 - settings.lr * H.diagonal() / (2 * (2 - settings.friction)))
    expected = (1 + heat / settings.friction) * step_bias
    torch.testing.assert_close(inflation, expected, rtol=0.02, atol=0)
    assert bool((inflation < 1.1).all()) if corrected else bool((inflation > 1.3).all())


@pytest.mark.statistical
def test_cyclical_schedule_visits_both_modes():
    """A mixture of N(-2, 1/4) and N(2, 1/4), entered at the left mode.

    In a constant small step the barrier holds nearly every chain; the large steps that open a
    cycle cross it. The target gives each mode one half, which the later cycles reach. 4096 chains
    know a fraction to 0.8 %.
    """

    def potential(theta: Tensor) -> Tensor:
        wells = torch.stack([(theta - 2) ** 2, (theta + 2) ** 2]) * 2
        return -torch.logsumexp(-wells, 0).sum()

    def right_fraction(kind: str, lr: float) -> float:
        schedule = StepSize(
            kind=kind, lr=lr, total_steps=600, num_cycles=6, thinning=100, exploration=0.0
        )
        theta = torch.full((4096,), -2.0, requires_grad=True)
        generator = torch.Generator().manual_seed(41)
        sampler = SGHMC([theta], lr, 0.1, 1.0, 1.0, "symplectic", generator)
        samples: list[Tensor] = []
        for step in range(schedule.total_steps):
            sampler.param_groups[0]["lr"] = schedule.lr_at(step)
            sampler.zero_grad()
            potential(theta).backward()
            sampler.step()
            if schedule.takes_sample(step):
                samples.append(theta.detach() > 0)
        assert len(samples) == 6
        return torch.stack(samples[3:]).float().mean().item()

    assert right_fraction("constant", 0.005) < 0.02
    assert right_fraction("cyclical", 0.8) == pytest.approx(0.5, abs=0.05)
