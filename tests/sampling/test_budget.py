"""The noise of a temperature in nats of mean loss, on a potential whose mean loss is known."""

import pytest
import torch

from bgan_video.sampling import SGHMC, Noise


def test_a_budget_is_kept_and_never_exceeds_the_posteriors_own_temperature():
    noise = Noise.within(0.1, weights=500_000, num_data=200)
    assert noise.nats == pytest.approx(0.1)
    assert noise.temperature == pytest.approx(8e-5)
    capped = Noise.within(0.1, weights=10, num_data=200)
    assert capped.temperature == 1
    assert capped.nats == pytest.approx(10 / 400)


@pytest.mark.statistical
def test_weights_at_rest_have_the_mean_loss_of_the_budget():
    """L = 1/2 sum c theta^2 over d weights; its relative error over d is sqrt(2/d) = 0.6 %."""
    theta = torch.zeros(50_000)
    curvature = torch.linspace(0.5, 2, len(theta))
    noise = Noise.within(3.0, len(theta), num_data=400)
    sampler = SGHMC(
        [theta],
        lr=0.2,
        friction=0.3,
        temperature=noise.temperature,
        num_data=noise.num_data,
        integrator="baoa",
        generator=torch.Generator().manual_seed(5),
    )
    for _ in range(150):
        theta.grad = curvature * theta
        sampler.step()
    loss = 0.5 * (curvature * theta.square()).sum()
    assert loss.item() == pytest.approx(noise.nats, rel=6 * (2 / len(theta)) ** 0.5)
