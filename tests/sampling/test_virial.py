"""The configurational temperature on potentials whose law is known."""

import math

import pytest
import torch

from bgan_video.sampling import SGHMC, SGLD, Virial

WEIGHTS = 40_000
UNIT = 0.7 / 50


def chains(sampler: type, curvature: float, **settings: float):
    theta = torch.randn(WEIGHTS, generator=torch.Generator().manual_seed(1))
    theta *= math.sqrt(UNIT / curvature)
    noise = torch.Generator().manual_seed(2)
    common = {"lr": 0.05, "temperature": 0.7, "num_data": 50.0, "generator": noise}
    return theta, sampler([theta], **common, **settings)


@pytest.mark.statistical
@pytest.mark.parametrize(("sampler", "settings"), [(SGHMC, {"friction": 0.3}), (SGLD, {})])
def test_at_rest_it_is_the_target_times_the_closed_forms_of_step_and_minibatch(sampler, settings):
    """Over 60 steps the error is that of sqrt(2 / d) and of what minibatches add: below 1 %."""
    theta, of = chains(sampler, 1.0, **settings)
    virial, minibatch, deviation = Virial(of), torch.Generator().manual_seed(3), 0.1
    for step in range(160):
        theta.grad = theta + deviation * torch.randn(theta.shape, generator=minibatch)
        of.step()
        if step == 99:
            virial.take()
    h, beta = 0.05, 0.05 * deviation**2 / (2 * UNIT)
    expected = (1 + beta) / (1 - h / 2)
    if sampler is SGHMC:
        expected = (1 + beta / 0.3) / (1 - h / (2 * (2 - 0.3)))
    (found,) = virial.take()
    assert found == pytest.approx(0.7 * expected, rel=0.02)


def test_cold_weights_and_weights_that_drift_show():
    theta, of = chains(SGHMC, 1.0, friction=0.3)
    virial = Virial(of)
    theta.mul_(3)
    theta.grad = theta.clone()
    of.step()
    assert virial.take() == pytest.approx([9 * 0.7], rel=0.05)
    theta.grad = -theta
    of.step()
    assert virial.take()[0] < 0
    assert virial.take() == []


def test_a_parameter_without_a_gradient_counts_nothing():
    seen, unseen = torch.ones(3), torch.ones(2)
    of = SGLD([seen, unseen], lr=0.1, temperature=0.0, num_data=10.0)
    virial = Virial(of)
    seen.grad = torch.full_like(seen, 2.0)
    of.step()
    assert virial.take() == [20.0, 0.0]


def test_what_was_summed_is_saved():
    theta, of = chains(SGLD, 1.0)
    virial, other = Virial(of), Virial(of)
    theta.grad = theta.clone()
    of.step()
    expected = virial.take()
    again = Virial(of)
    again.load_state_dict(other.state_dict())
    assert again.take() == expected
