"""Small networks and items for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.models import Classifier, build_discriminator
from bgan_video.models.shapes import SpatialDims

SIZES = [8, 10, 12, 14, 16, 24]
K = 5
# An image is a clip of one frame to everything but the networks.
IMAGES = ["data.layout=cifar10", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]


def settings(
    *overrides: str, size: int = 16, frames: int = 4, width: int = 4, dims: SpatialDims = 3
) -> config.Config:
    small = [f"clip.size={size}", f"clip.num_frames={frames}", "generator.latent_dim=6"]
    small += IMAGES if dims == 2 else []
    widths = [f"generator.width={width}", f"discriminator.width={width}"]
    return config.load(None, [*small, *widths, *overrides])


def items(size: int, frames: int, spatial_dims: SpatialDims = 3, batch: int = 3) -> Tensor:
    shape = (batch, 3, size, size) if spatial_dims == 2 else (batch, 3, frames, size, size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def refusal(build: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_learns_everywhere(module: nn.Module, output: Tensor) -> None:
    along = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * along).sum().backward()
    without = [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().sum() == 0
    ]
    assert without == []


def with_scales_of_one(network: nn.Module) -> nn.Module:
    """timm starts the last norm of a residual block at zero: behind it nothing learns at first."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
    return network


def inflated_resnet() -> Classifier:
    chosen = settings("discriminator.name=timm:resnet18", "discriminator.temporal=inflate")
    return build_discriminator(chosen, K)
