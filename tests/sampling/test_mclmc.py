"""Microcanonical Langevin: one step by hand, its law for many weights, its tuner, its mutants."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from bgan_video.sampling import MCLMC, kinetic_temperature
from tests.sampling.oracles import HESSIAN, NUM_CHAINS, START, assert_gaussian

LR, FRICTION, TEMPERATURE, NUM_DATA = 0.2, 0.3, 0.7, 50.0
UNIT = TEMPERATURE / NUM_DATA


def build(
    params: list[Any], sampler: type[MCLMC] = MCLMC, seed: int = 1, **changed: float
) -> MCLMC:
    settings: dict[str, Any] = {"lr": LR, "friction": FRICTION, "temperature": TEMPERATURE}
    generator = torch.Generator().manual_seed(seed)
    return sampler(params, num_data=NUM_DATA, generator=generator, **settings | changed)


def variance_over_target(h: float, noise: float = 0.0) -> float:
    """X of the docstring, by iterating it."""
    ratio = 1.0
    for _ in range(100):
        x = math.sqrt(h * ratio + noise)
        y = h / (2 * x)
        a = 1 / (math.cosh(x) - y * math.sinh(x))
        b = a * (math.sinh(x) - y * (math.cosh(x) - 1)) / x
        ratio = (1 + a) / (2 * b)
    return ratio


def check_law(
    sampler: type[MCLMC], lr: float = 0.4, friction: float = 0.3, deviation: float = 0.0
) -> None:
    """Elements of one long vector as chains: for large d they are independent, and their law known.

    The correlation of theta and r is that of baoa, sqrt(lr) / 2 times the variance of r.
    """
    theta = START.float().expand(NUM_CHAINS, 2).clone()
    of = build([theta], sampler, lr=lr, friction=friction)
    of.freeze()
    minibatch, hessian = torch.Generator().manual_seed(13), HESSIAN.float()
    for _ in range(200):
        theta.grad = theta @ hessian
        theta.grad += deviation * torch.randn(theta.shape, generator=minibatch)
        of.step()
    noise = lr * deviation**2 / UNIT
    ratio = variance_over_target(lr * float(HESSIAN.diagonal().mean()), noise)
    one = torch.eye(2, dtype=torch.float64)
    top = torch.cat([ratio * UNIT * HESSIAN.inverse(), math.sqrt(lr) / 2 * UNIT * one], 1)
    bottom = torch.cat([math.sqrt(lr) / 2 * UNIT * one, UNIT * one], 1)
    state = torch.cat([theta, of.state[theta]["momentum"]], 1)
    assert_gaussian(state, torch.zeros(4), torch.cat([top, bottom]), "microcanonical chains")


def check_step(sampler: type[MCLMC]) -> None:
    """One step of two groups, each with its own step size, by the formulas of the docstring."""
    random = torch.Generator().manual_seed(7)
    params = [torch.randn(n, generator=random, dtype=torch.float64) for n in (3, 4)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.5 * LR}]
    of = build(groups, sampler)
    root = torch.tensor([LR] * 3 + [0.5 * LR] * 4, dtype=torch.float64).sqrt()
    theta = torch.cat(params)
    r = torch.randn(7, generator=random, dtype=torch.float64)
    r *= math.sqrt(7 * UNIT) / r.norm()
    for param, part in zip(params, r.split([3, 4]), strict=True):
        of.state[param]["momentum"] = part.clone()
    g = torch.randn(7, generator=random, dtype=torch.float64) * 3
    for param, part in zip(params, g.split([3, 4]), strict=True):
        param.grad = part.clone()
    of.step()

    k, u = root * g, r / r.norm()
    e = -k / k.norm()
    x, c = float(k.norm()) * math.sqrt(7 / UNIT) / 6, float(e @ u)
    r = math.sqrt(7 * UNIT) * (u + e * (math.sinh(x) + c * (math.cosh(x) - 1)))
    r /= math.cosh(x) + c * math.sinh(x)
    theta = theta + root * r / 2
    noise = torch.Generator().manual_seed(1)
    xi = [torch.randn(n, generator=noise, dtype=torch.float64) for n in (3, 4)]
    std = math.sqrt((1 - math.exp(-2 * FRICTION)) * UNIT)
    z = math.exp(-FRICTION) * r + std * torch.cat(xi)
    r = math.sqrt(7 * UNIT) * z / z.norm()
    theta = theta + root * r / 2
    torch.testing.assert_close(torch.cat(params), theta, rtol=1e-6, atol=1e-9)
    momenta = torch.cat([of.state[param]["momentum"] for param in params])
    torch.testing.assert_close(momenta, r, rtol=1e-6, atol=1e-9)


CHECKS = [check_step, check_law]


class TemperatureIgnored(MCLMC):
    """Momenta of T = 1."""

    def radius(self, group: dict[str, Any], count: int) -> float:
        return super().radius({**group, "temperature": 1.0}, count)


class KickOfTheWholeLoss(MCLMC):
    """The gradient of U in place of that of L: N times too strong."""

    def kick(self, group, momenta, forces, count):
        return super().kick(group, momenta, [group["num_data"] * k for k in forces], count)


class Uphill(MCLMC):
    """Turns towards the gradient."""

    def kick(self, group, momenta, forces, count):
        return super().kick(group, momenta, [-k for k in forces], count)


class MomentaFivePercentLong(MCLMC):
    """Momenta 5 % too long."""

    def refresh(self, group, momenta, count):
        super().refresh(group, momenta, count)
        for momentum in momenta:
            momentum.mul_(1.05)


class KickFivePercentStrong(MCLMC):
    """d/(d - 1) twice, or any such slip."""

    def kick(self, group, momenta, forces, count):
        return super().kick(group, momenta, [1.05 * k for k in forces], count)


MUTANTS = [
    TemperatureIgnored,
    KickOfTheWholeLoss,
    Uphill,
    MomentaFivePercentLong,
    KickFivePercentStrong,
]


def rejections(sampler: type[MCLMC]) -> list[str]:
    names: list[str] = []
    for check in CHECKS:
        try:
            check(sampler)
        except AssertionError:
            names.append(check.__name__)
    return names


@pytest.mark.statistical
def test_the_correct_sampler_passes_every_check():
    check_step(MCLMC)
    check_law(MCLMC)


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_every_mutant_is_caught_by_its_law_alone(mutant: type[MCLMC]):
    assert "check_law" in rejections(mutant)


@pytest.mark.statistical
@pytest.mark.parametrize(("lr", "friction"), [(0.05, 0.1), (1.0, 0.3), (0.4, 2.0)])
def test_chains_have_their_law_at_any_step(lr: float, friction: float):
    check_law(MCLMC, lr, friction)


@pytest.mark.statistical
def test_noise_that_is_alike_in_all_directions_hardly_heats():
    """Noise that would heat SGHMC by two thirds: here it is 3 %, as the closed form says."""
    deviation = math.sqrt(0.4 * UNIT / 0.4)
    assert 1.03 < variance_over_target(0.6, 0.4) / variance_over_target(0.6) < 1.04
    check_law(MCLMC, deviation=deviation)


def test_the_closed_form_for_small_steps():
    assert variance_over_target(1e-3) == pytest.approx(1 + 1e-3 / 12, rel=1e-6)
    assert variance_over_target(1e-9, 1e-3) == pytest.approx(1 + 1e-3 / 12, rel=1e-6)


@pytest.mark.statistical
def test_few_weights_have_their_law_too():
    """Five weights in one chain, every 24th step: then draws are independent, the bias 1 %."""
    scale = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    theta = torch.zeros(5, dtype=torch.float64)
    of = build([theta], lr=0.1, friction=0.3)
    of.freeze()
    draws = []
    for step in range(2400):
        theta.grad = scale * theta
        of.step()
        if step % 24 == 23:
            draws.append(theta.clone())
    assert_gaussian(torch.stack(draws), torch.zeros(5), UNIT * (1 / scale).diag(), "few weights")


def test_the_temperature_of_all_weights_together_is_exact():
    params = [torch.randn(50), torch.randn(70)]
    of = build(params)
    for _ in range(3):
        for param in params:
            param.grad = param.clone()
        of.step()
    first, second = kinetic_temperature(of)
    assert (50 * first + 70 * second) / 120 == pytest.approx(TEMPERATURE, rel=1e-5)


CURVATURE = torch.linspace(0.5, 2, 2000).double()


def tuned(lr: float, energy_variance: float, deviation: float = 0.0) -> tuple[MCLMC, Tensor]:
    """A sampler tuned on a Gaussian, and where it stands."""
    theta = torch.randn(2000, generator=torch.Generator().manual_seed(2)).double()
    theta *= (UNIT / CURVATURE).sqrt()
    of = build([theta], lr=lr, energy_variance=energy_variance)
    minibatch = torch.Generator().manual_seed(3)
    for _ in range(1500):
        theta.grad = CURVATURE * theta + deviation * torch.randn(2000, generator=minibatch)
        of.step()
    return of, theta


def of_kick(of: MCLMC, theta: Tensor) -> tuple[float, float]:
    """Kinetic energy over T that the halves of a kick at theta add, by the docstring's formulas."""
    r, d = of.state[theta]["momentum"], len(theta)
    k = math.sqrt(of.param_groups[0]["lr"]) * of.shrink * CURVATURE * theta
    x = float(k.norm()) * math.sqrt(d / UNIT) / (d - 1)
    c = -float(k @ r / (k.norm() * r.norm()))
    half, whole = ((d - 1) * math.log(math.cosh(y) + c * math.sinh(y)) for y in (x / 2, x))
    return half, whole - half


def error_of_steps(of: MCLMC, theta: Tensor, steps: int = 100) -> float:
    """Mean square per weight of the energy errors between the middles of kicks, U itself taken."""
    of.freeze()
    errors: list[float] = []
    last = before = math.nan
    for _ in range(steps + 1):
        first, second = of_kick(of, theta)
        now = float((CURVATURE * theta.square()).sum()) / (2 * UNIT)
        errors.append(last + now - before + first)
        last, before = second, now
        theta.grad = CURVATURE * theta
        of.step()
    return sum(error**2 for error in errors[1:]) / steps / len(theta)


@pytest.mark.parametrize("energy_variance", [1e-4, 1e-3])
def test_the_tuner_reaches_the_wanted_energy_error(energy_variance: float):
    """Measured afterwards by the energies themselves, which the sampler never looks at."""
    of, theta = tuned(2.0, energy_variance)
    assert of.shrink < 1
    assert error_of_steps(of, theta) == pytest.approx(energy_variance, rel=0.25)


def test_the_tuner_never_lengthens_the_step():
    assert tuned(0.01, 1.0)[0].shrink == 1.0


def test_minibatch_noise_shortens_the_step():
    assert tuned(2.0, 1e-3, deviation=1.0)[0].shrink < tuned(2.0, 1e-3)[0].shrink


def test_a_frozen_sampler_keeps_its_step_and_goes_on_from_its_state():
    def run(of: MCLMC, theta: Tensor, steps: int) -> None:
        for _ in range(steps):
            theta.grad = theta.clone()
            of.step()

    theta = torch.randn(100, generator=torch.Generator().manual_seed(4))
    of = build([theta], lr=3.0)
    run(of, theta, 20)
    copy = theta.clone()
    again = build([copy], lr=3.0)
    again.load_state_dict(deepcopy(of.state_dict()))
    again.generator.set_state(of.generator.get_state())
    for sampler, param in ((of, theta), (again, copy)):
        run(sampler, param, 5)
        sampler.freeze()
    held = of.shrink
    run(of, theta, 5)
    run(again, copy, 5)
    assert torch.equal(theta, copy)
    assert of.shrink == held < 1
    assert "moved" not in of.state[theta]


@pytest.mark.parametrize("setting", ["temperature", "friction", "energy_variance"])
def test_what_it_cannot_do_is_refused(setting: str):
    with pytest.raises(ValueError, match=f"{setting} must be finite and > 0"):
        build([torch.zeros(3)], **{setting: 0.0})


def test_one_weight_has_no_direction():
    theta = torch.zeros(1)
    of = build([theta])
    of.step()
    theta.grad = torch.ones(1)
    with pytest.raises(ValueError, match="two weights, got 1"):
        of.step()
