"""A generator of residual blocks, for images and clips from one definition.

Blocks convolve *before* height and width are doubled, which costs a quarter of what the same
convolutions cost behind it, and *after* time is: frames that were doubled and not convolved again
would be the same frame twice. Nothing is normalised over the batch: every place of a map is
divided by the root mean square of its channels (Karras et al. 2018, section 4.2), then scaled and
shifted by the latent (Perez et al. 2018, FiLM), so that no item depends on the others made with it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bgan_video.models import nd
from bgan_video.models.generators import Generated, over_still
from bgan_video.models.shapes import Plan, Sizes

_EPSILON = 1e-6
_LEAST_WIDTH = 16
# The convolutions at full size are where pixels abound: they have a part of the channels before.
_LAST_PART = 2


class Modulated(nn.Module):
    """`leaky((1 + scale(w)) ⊙ pixel_norm(x) + shift(w))`, made larger, then a convolution.

    All but the convolution look at one place alone, so they come to the same before nearest
    upsampling as behind it, for a fraction of the places.

    Args:
        channels_in: Of x.
        channels_out: Of the result.
        kernel: Odd, over (time,) height and width.
        latent_dim: Of w.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: Sizes, latent_dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(latent_dim, 2 * channels_in)
        self.convolution = nd.same_size(channels_in, channels_out, kernel)

    def forward(self, x: Tensor, w: Tensor, factors: Sizes = ()) -> Tensor:
        scale, shift = rearrange(
            self.modulation(w), f"b (two c) -> two b c {' '.join('1' * (x.ndim - 2))}", two=2
        )
        x = x * (x.square().mean(dim=1, keepdim=True) + _EPSILON).rsqrt()
        x = F.leaky_relu(torch.addcmul(shift, 1 + scale, x), 0.2)
        return self.convolution(_upsample(x, factors))


class Block(nn.Module):
    """Two modulated convolutions beside a skip, behind upsampling by `factors`."""

    def __init__(self, channels_in: int, channels_out: int, dims: int, latent_dim: int) -> None:
        super().__init__()
        kernel = (3,) * dims
        self.first = Modulated(channels_in, channels_out, kernel, latent_dim)
        self.second = Modulated(channels_out, channels_out, kernel, latent_dim)
        self.skip: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.skip = nd.same_size(channels_in, channels_out, (1,) * dims, bias=False)

    def forward(self, x: Tensor, w: Tensor, factors: Sizes) -> Tensor:
        added = self.second(self.first(x, w, factors), w)
        return (_upsample(self.skip(x), factors) + added) / math.sqrt(2)


class Stream(nn.Module):
    """From w to maps of the full size: blocks between nearest upsamplings.

    Time is doubled by the first stages, where frames cost least, so that blocks behind it move what
    they drew (`shapes.Plan`, run backwards, doubles it last).

    Args:
        plan: The strides from the full size down to the smallest map.
        latent_dim: Of w.
        width: Channels of the smallest map; from the second block on half as many each.
        channels: Of the result.
    """

    def __init__(self, plan: Plan, latent_dim: int, width: int, channels: int) -> None:
        super().__init__()
        dims = plan.spatial_dims
        self.base = plan.base
        self.strides = sorted((stage.stride for stage in plan.stages), reverse=True)
        self.begin = nn.Linear(latent_dim, width * math.prod(plan.base))
        widths = [width, *(max(_LEAST_WIDTH, width >> i) for i in range(len(plan.stages) - 1))]
        pairs = pairwise(widths)
        self.blocks = nn.ModuleList(Block(a, b, dims, latent_dim) for a, b in pairs)
        # Frames that were not doubled at the end need no kernel over time at full size.
        kernel = (*(2 * s - 1 for s in self.strides[-1][:-2]), 3, 3)
        within = max(_LEAST_WIDTH, widths[-1] // _LAST_PART)
        self.smooth = Modulated(widths[-1], within, kernel, latent_dim)
        self.paint = Modulated(within, channels, kernel, latent_dim)

    def forward(self, w: Tensor) -> Tensor:
        x = nd.as_map(self.begin(w), self.base)
        *inner, last = self.strides
        for block, (*time, height, width) in zip(self.blocks, inner, strict=True):
            x = block(x, w, (*time, 1, 1))
            x = _upsample(x, (*(1 for _ in time), height, width))
        return self.paint(self.smooth(x, w, last), w)


class ResidualGenerator(nn.Module):
    """One stream, or a moving foreground over a still background (VGAN's `m⊙f + (1-m)⊙b`).

    Args:
        plan: Of the items.
        latent_dim: Z.
        width: Channels of the smallest map.
        channels: Of the items.
        background: Strides of a still background's image; None for one stream.
    """

    def __init__(
        self,
        plan: Plan,
        latent_dim: int,
        width: int,
        channels: int,
        background: Plan | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.mapping = nn.Sequential(
            nn.Linear(latent_dim, latent_dim), nn.LeakyReLU(0.2), nn.Linear(latent_dim, latent_dim)
        )
        masks = int(background is not None)
        self.moving = Stream(plan, latent_dim, width, channels + masks)
        self.still = None
        if background is not None:
            self.still = Stream(background, latent_dim, width, channels)

    def forward(self, z: Tensor) -> Generated:
        w = self.mapping(z)
        drawn = nd.at_least_float32(self.moving(w))  # [B, C (+ 1), (T,) H, W]
        if self.still is None:
            return Generated(drawn.tanh(), mask=None)
        mask, foreground = drawn[:, :1].sigmoid(), drawn[:, 1:].tanh()
        return over_still(foreground, mask, nd.at_least_float32(self.still(w)).tanh())


def _upsample(x: Tensor, factors: Sizes) -> Tensor:
    if {*factors} <= {1}:
        return x
    return F.interpolate(x, scale_factor=[float(f) for f in factors], mode="nearest")
