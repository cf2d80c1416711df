"""Generators of images and clips: from a latent `[B, Z]` to items in [-1, 1].

What makes an item of the last layers' outputs is computed in float32 whatever their precision: a
still background blended in bf16 flickers by half a grey level, which frame differences show.
"""

from __future__ import annotations

from typing import NamedTuple

from einops import repeat
from torch import Tensor, nn

from bgan_video.models import nd
from bgan_video.models.shapes import Plan


class Generated(NamedTuple):
    """What a generator makes: `items [B, C, (T,) H, W]`, and the mask of a two-stream one."""

    items: Tensor
    mask: Tensor | None


def over_still(foreground: Tensor, mask: Tensor, still: Tensor) -> Generated:
    """A moving foreground over one image that every frame shows: `m⊙f + (1-m)⊙b`.

    Args:
        foreground: `[B, C, T, H, W]`.
        mask: `[B, 1, T, H, W]` in 0..1.
        still: `[B, C, H, W]`.
    """
    background = repeat(still, "b c h w -> b c t h w", t=foreground.shape[2])
    return Generated(mask * foreground + (1 - mask) * background, mask)


class Trunk(nn.Module):
    """Latent → features at half the final size: projection, then all but the last upsampling.

    The DCGAN stack (Radford et al. 2016) in two or three dimensions; each stage halves the width.
    """

    def __init__(self, plan: Plan, latent_dim: int, width: int, norm: str) -> None:
        super().__init__()
        self.base = plan.base
        bias = norm == "none"
        channels = width << (len(plan.stages) - 1)
        cells = 1
        for extent in plan.base:
            cells *= extent
        self.project = nn.Linear(latent_dim, channels * cells, bias=bias)
        layers: list[nn.Module] = [nd.norm(norm, channels, plan.spatial_dims), nn.ReLU()]
        for stage in reversed(plan.stages[1:]):
            layers += [
                nd.upsample(channels, channels // 2, stage, bias=bias),
                nd.norm(norm, channels // 2, plan.spatial_dims),
                nn.ReLU(),
            ]
            channels //= 2
        self.stages = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        x = nd.as_map(self.project(z), self.base)  # [B, 8w, T0, H0, W0]
        return self.stages(x)  # [B, w, T/2, H/2, W/2]


class DCGANGenerator(nn.Module):
    """One stream: every pixel of every frame from one stack (for clips, VGAN's one-stream form)."""

    def __init__(self, plan: Plan, latent_dim: int, width: int, norm: str, channels: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.trunk = Trunk(plan, latent_dim, width, norm)
        self.paint = nd.upsample(width, channels, plan.stages[0], bias=True)
        nd.initialise_dcgan(self)

    def forward(self, z: Tensor) -> Generated:
        return Generated(nd.at_least_float32(self.paint(self.trunk(z))).tanh(), mask=None)


class TwoStreamGenerator(nn.Module):
    """A moving foreground over a static background: `m⊙f + (1-m)⊙b`.

    Vondrick, Pirsiavash & Torralba 2016 (VGAN), section 3.1: foreground and mask are two heads of
    one 3-D stack, the background is a 2-D stack shown in every frame, all from the same latent.
    """

    def __init__(
        self,
        plan: Plan,
        background_plan: Plan,
        latent_dim: int,
        width: int,
        norm: str,
        channels: int,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.trunk = Trunk(plan, latent_dim, width, norm)
        self.foreground = nd.upsample(width, channels, plan.stages[0], bias=True)
        self.mask = nd.upsample(width, 1, plan.stages[0], bias=True)
        self.background = DCGANGenerator(background_plan, latent_dim, width, norm, channels)
        nd.initialise_dcgan(self)

    def forward(self, z: Tensor) -> Generated:
        features = self.trunk(z)
        foreground = nd.at_least_float32(self.foreground(features)).tanh()  # [B, C, T, H, W]
        mask = nd.at_least_float32(self.mask(features)).sigmoid()  # [B, 1, T, H, W]
        return over_still(foreground, mask, self.background(z).items)
