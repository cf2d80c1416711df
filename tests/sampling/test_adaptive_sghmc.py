"""The learned preconditioner of AdaptiveSGHMC; its stationary law is in test_stationarity."""

import copy

import pytest
import torch
from torch import Tensor

from bgan_video.sampling import AdaptiveSGHMC


def cold(params: list[Tensor]) -> AdaptiveSGHMC:
    return AdaptiveSGHMC(params, lr=0.01, friction=0.1, temperature=0.0, num_data=10)


def descend(scale: Tensor, steps: int) -> Tensor:
    theta = torch.ones(2, dtype=torch.float64)
    sampler = cold([theta])
    for _ in range(steps):
        theta.grad = scale * theta.sin()
        sampler.step()
    return theta


def test_path_does_not_depend_on_the_scale_of_the_gradient():
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(
        descend(one, 30), descend(torch.tensor([1e-2, 1e3]) * one, 30), rtol=1e-5, atol=1e-6
    )


def test_running_means_follow_the_recursion():
    gradients = [3.0, -1.0, 2.0, 0.5]
    theta = torch.zeros(1, dtype=torch.float64)
    sampler = cold([theta])
    window, mean, square = 1.0, gradients[0], gradients[0] ** 2
    for gradient in gradients:
        theta.grad = torch.full_like(theta, gradient)
        sampler.step()
    for gradient in gradients[1:]:
        window, mean, square = (
            window - window * mean**2 / square + 1,
            mean + (gradient - mean) / (window + 1),
            square + (gradient**2 - square) / (window + 1),
        )
    state = sampler.state[theta]
    assert state["window"].item() == pytest.approx(window)
    assert state["mean"].item() == pytest.approx(mean)
    assert state["square"].item() == pytest.approx(square)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_the_running_square_nears_the_mean_square_of_noisy_gradients(scale: float):
    generator = torch.Generator().manual_seed(0)
    theta = torch.zeros(20_000)
    sampler = cold([theta])
    for _ in range(300):
        theta.grad = scale * torch.randn(20_000, generator=generator)
        sampler.observe()
    square = sampler.state[theta]["square"] / scale**2
    assert square.mean() == pytest.approx(1, abs=0.02)
    low, high = torch.quantile(square, torch.tensor([0.01, 0.99])).tolist()
    assert 0.5 < low < high < 2
    assert square.min() > 0


def test_freeze_holds_the_preconditioner_and_survives_a_state_dict():
    theta = torch.ones(3)
    sampler = cold([theta])
    theta.grad = torch.ones(3)
    sampler.step()
    sampler.freeze()
    before = {key: sampler.state[theta][key].clone() for key in ("window", "mean", "square")}
    resumed = cold([theta.clone()])
    resumed.load_state_dict(copy.deepcopy(sampler.state_dict()))
    for optimizer in (sampler, resumed):
        (param,) = optimizer.param_groups[0]["params"]
        param.grad = torch.full((3,), 5.0)
        optimizer.step()
        assert all(torch.equal(optimizer.state[param][key], before[key]) for key in before)
    assert torch.equal(theta, resumed.param_groups[0]["params"][0])


def test_weights_at_rest_that_a_prior_alone_pulls_at_stay_stable():
    """One of nine rows has the gradient of a weak prior, under which burn-in shrinks it to zero."""
    theta = torch.randn(9, 50, generator=torch.Generator().manual_seed(1))
    curvature = torch.full((9, 1), 1.0)
    curvature[0] = 1e-6
    theta[0] = 1e-8
    generator = torch.Generator().manual_seed(2)
    sampler = AdaptiveSGHMC(
        [theta], lr=0.01, friction=0.1, temperature=1.0, num_data=100, generator=generator
    )
    for _ in range(50):
        theta.grad = curvature * theta
        sampler.observe()
    sampler.freeze()
    for _ in range(300):
        theta.grad = curvature * theta
        sampler.step()
    assert theta.isfinite().all()
    assert theta[1:].abs().max() < 5
    assert theta[0].abs().max() < 100


def test_gradient_that_comes_after_freeze_is_an_error():
    theta = torch.ones(3)
    sampler = cold([theta])
    sampler.freeze()
    theta.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="first gradient after freeze"):
        sampler.step()


def test_bad_friction_is_named():
    with pytest.raises(ValueError, match=r"friction must be finite and in \(0, 1\], got 2"):
        AdaptiveSGHMC([torch.zeros(1)], lr=0.1, friction=2.0, temperature=1.0, num_data=1)


def test_observing_learns_what_stepping_learns_and_moves_nothing():
    generator = torch.Generator().manual_seed(3)
    gradients = torch.randn(6, 5, generator=generator)
    still, moved = torch.zeros(5), torch.zeros(5)
    observer, mover = (AdaptiveSGHMC([p], 0.1, 0.3, 0.0, 10) for p in (still, moved))
    for gradient in gradients:
        still.grad, moved.grad = gradient.clone(), gradient.clone()
        observer.observe()
        mover.step()
    assert torch.equal(still, torch.zeros(5))
    for name in ("mean", "square", "window"):
        assert torch.equal(observer.state[still][name], mover.state[moved][name])
    assert torch.equal(observer.state[still]["momentum"], torch.zeros(5))
    observer.freeze()
    observer.step()
    assert not torch.equal(still, torch.zeros(5))
