"""The residual generator and the critic: what each output depends on, and on what it must not."""

from __future__ import annotations

import pytest
import torch

from bgan_video.models import build_critic, build_generator
from bgan_video.models.residual import ResidualGenerator
from bgan_video.models.shapes import SpatialDims, plan_clip, plan_image
from tests.models.building import items, settings

RESIDUAL = "generator.name=residual"


@pytest.mark.parametrize("dims", [2, 3])
def test_an_item_does_not_depend_on_those_made_with_it(dims: SpatialDims) -> None:
    generator = build_generator(settings(RESIDUAL, dims=dims))
    z = torch.randn(4, 6)
    together = generator(z).items
    torch.testing.assert_close(generator(z[2:3]).items, together[2:3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize(("frames", "size"), [(4, 16), (8, 16), (8, 32), (16, 64)])
def test_no_two_neighbouring_frames_are_the_same(frames: int, size: int) -> None:
    """Doubled frames that nothing convolves again would be."""
    torch.manual_seed(0)
    generator = ResidualGenerator(plan_clip(frames, size), 6, 16, 3, plan_image(size))
    change = generator(torch.randn(2, 6)).items.diff(dim=2).abs().mean(dim=(0, 1, 3, 4))
    assert change.min() > 1e-6


def test_two_streams_blend_a_still_ground_and_one_stream_has_none() -> None:
    generator = build_generator(settings(RESIDUAL))
    made = generator(torch.randn(2, 6))
    assert made.mask is not None
    assert made.mask.min() > 0
    assert made.mask.max() < 1
    with torch.no_grad():
        generator.moving.paint.convolution.bias[0] = -50.0
        still = generator(torch.randn(2, 6)).items
    assert still.diff(dim=2).abs().max() < 1e-6
    alone = build_generator(settings(RESIDUAL, "generator.streams=1"))
    assert alone(torch.randn(2, 6)).mask is None


@pytest.mark.parametrize("dims", [2, 3])
def test_a_critic_judges_each_item_by_itself(dims: SpatialDims) -> None:
    critic = build_critic(settings("critic.name=hybrid", dims=dims))
    x = items(16, 4, dims).requires_grad_()
    frames = torch.tensor([1, 3]) if dims == 3 else None
    judged = critic(x, frames)
    assert judged.shape == (len(x), dims - 1)
    (gradient,) = torch.autograd.grad(judged[0].sum(), x)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().max() == 0


def test_single_frames_are_those_asked_for() -> None:
    critic = build_critic(settings("critic.name=hybrid"))
    x = items(16, 4, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, torch.tensor([1, 3]))[:, 1].sum(), x)
    seen = gradient.abs().amax(dim=(0, 1, 3, 4)) > 0
    assert seen.tolist() == [False, True, False, True]
