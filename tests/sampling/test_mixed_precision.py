"""The same stationarity with the loss in half precision, and with steps that are skipped."""

import math

import pytest
import torch
from torch import Tensor

from bgan_video.sampling import SGHMC, kinetic_temperature
from tests.sampling.oracles import (
    NUM_CHAINS,
    START,
    Settings,
    assert_gaussian,
    law_after,
    stationary_covariance,
)

# Exact in bf16 and in fp16, as is every product with it that they round.
FACTOR = torch.tensor([[1.0, 0.25], [0.0, 1.25]], dtype=torch.float64)
HESSIAN = FACTOR @ FACTOR.T
STEPS = 100


def run(device: str, dtype: torch.dtype, settings: Settings) -> tuple[Tensor, SGHMC]:
    """Chains whose loss 1/2 |F' theta|^2 goes through a matrix product under autocast.

    Rounding theta and the product to bf16 (relative error u < 2^-8) acts like gradient noise of
    variance below (u theta)^2: with theta^2 about T/(N c) that is a beta-hat below lr c u^2 / 2,
    1e-6 of a friction of 0.3, and no 32,768 chains can see it.
    """
    theta = START.float().expand(NUM_CHAINS, 2).clone().to(device).requires_grad_()
    noise = torch.Generator(device).manual_seed(51)
    sampler = settings.build(SGHMC, [theta], noise)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**4, enabled=dtype == torch.float16)
    factor = FACTOR.float().to(device)
    for _ in range(STEPS):
        with torch.autocast(device, dtype):
            product = theta @ factor
        assert product.dtype == dtype
        loss = 0.5 * product.float().square().sum()
        sampler.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(sampler)
        scaler.update()
    return theta.detach(), sampler


def check_stationary(device: str, dtype: torch.dtype) -> None:
    """Also called on a GPU, with fp16 and its scaler."""
    settings = Settings()
    mean, covariance = law_after(settings, HESSIAN, START, STEPS, 0.0)
    torch.testing.assert_close(
        covariance, stationary_covariance(settings, HESSIAN), rtol=1e-3, atol=1e-6
    )
    theta, sampler = run(device, dtype, settings)
    state = torch.cat([theta, sampler.state[sampler.param_groups[0]["params"][0]]["momentum"]], 1)
    assert_gaussian(state.cpu(), mean, covariance, f"{dtype} on {device}")


@pytest.mark.statistical
def test_chains_under_bf16_autocast_have_their_exact_law():
    check_stationary("cpu", torch.bfloat16)


@pytest.mark.parametrize("integrator", ["symplectic", "euler", "baoa"])
def test_skipped_steps_are_as_if_they_had_not_been(integrator: str):
    """No weight, momentum or random number moves; the loss scale touches no noise."""
    lr = 0.05 if integrator == "euler" else 0.2
    settings = Settings(lr=lr, integrator=integrator)

    def chains(overflows: set[int], scale: float) -> tuple[Tensor, list[float]]:
        theta = START.float().expand(64, 2).clone().requires_grad_()
        sampler = settings.build(SGHMC, [theta], torch.Generator().manual_seed(53))
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=7)
        for step in range(30 + len(overflows)):
            loss = 0.5 * (theta @ FACTOR.float()).square().sum()
            sampler.zero_grad()
            scaler.scale(loss * math.inf if step in overflows else loss).backward()
            scaler.step(sampler)
            scaler.update()
        return theta.detach(), kinetic_temperature(sampler)

    never, temperature = chains(set(), 1.0)
    often, same_temperature = chains({0, 3, 4, 11, 25}, 1024.0)
    assert torch.equal(never, often)
    assert temperature == same_temperature
