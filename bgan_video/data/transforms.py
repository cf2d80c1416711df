"""Views of a clip: from decoded frames `uint8 [T, H, W, C]` to a network's input in [-1, 1].

An image is a clip of one frame, and its view has no time axis; a vector is its own view.

Every random choice is drawn once a clip (never frame by frame, which would be motion of its own)
from the generator that is handed in, so a view is a pure function of frames, settings and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from bgan_video.config import Augment, Config, SpatialDims

Array = NDArray[Any]
Crop = Literal["left", "centre", "right"]
CROPS: dict[int, tuple[Crop, ...]] = {1: ("centre",), 3: ("left", "centre", "right")}

# Rec. 601 luma, the weights of a grey image.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class View:
    """A kind of training view: how far its random changes go."""

    size: int
    min_scale: float
    color: float
    erase: float
    flip: bool
    spatial_dims: SpatialDims = 3

    def __call__(self, frames: Array, random: np.random.Generator) -> Tensor:
        """A view `[C, (T,) size, size]` of frames `[T, H, W, C]`, float32 in [-1, 1]."""
        if self.spatial_dims == 0:
            return _vector(frames)
        clip = _random_crop(frames, self.size, self.min_scale, random)
        if self.flip and random.random() < 0.5:
            clip = clip.flip(-1)
        if self.color > 0:
            clip = _jitter_color(clip, self.color, random)
        if self.erase > 0:
            clip = _erase_square(clip, self.erase, random)
        return _to_network(clip, self.spatial_dims)


def weak_view(config: Config) -> View:
    """What every network trains on."""
    a: Augment = config.augment
    return View(config.clip.size, a.min_scale, a.color, 0.0, a.flip, config.spatial_dims)


def strong_view(config: Config) -> View:
    """What the consistency term asks the same answer for."""
    a: Augment = config.augment
    size, dims = config.clip.size, config.spatial_dims
    return View(size, a.strong_min_scale, a.strong_color, a.strong_erase, a.flip, dims)


def test_view(
    frames: Array, size: int, load_size: int, crop: Crop, spatial_dims: SpatialDims
) -> Tensor:
    """A fixed crop of `size/load_size` of the short side, `[C, (T,) size, size]` in [-1, 1].

    Three crops lie side by side along the longer axis, as SlowFast's do.
    """
    if spatial_dims == 0:
        return _vector(frames)
    height, width = frames.shape[1:3]
    side = min(height, width) * size / load_size
    at = {"left": 0.0, "centre": 0.5, "right": 1.0}[crop]
    along_x, along_y = (at, 0.5) if width >= height else (0.5, at)
    return _to_network(_crop(frames, side, along_y, along_x, size), spatial_dims)


def _random_crop(frames: Array, size: int, min_scale: float, random: np.random.Generator) -> Tensor:
    scale = random.uniform(min_scale, 1.0)
    along_y, along_x = random.uniform(size=2)
    return _crop(frames, min(frames.shape[1:3]) * scale, along_y, along_x, size)


def _crop(frames: Array, side: float, along_y: float, along_x: float, size: int) -> Tensor:
    """A square of `side` pixels at `along` (0..1) of its way, as `[T, C, size, size]` in 0..1."""
    height, width = frames.shape[1:3]
    pixels = max(1, round(side))
    top = round((height - pixels) * along_y)
    left = round((width - pixels) * along_x)
    window = np.ascontiguousarray(frames[:, top : top + pixels, left : left + pixels])
    raw = torch.from_numpy(window)  # pyright: ignore[reportUnknownMemberType] - torch's stub
    clip = rearrange(raw, "t h w c -> t c h w")
    if pixels != size:
        # On bytes, channels last in memory: 2 to 10 times as fast as on floats, to a grey level.
        clip = F.interpolate(
            clip, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return clip.float() / 255


def _jitter_color(clip: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    brightness, contrast, saturation = 1 + random.uniform(-strength, strength, size=3)
    clip = clip * brightness
    clip = torch.lerp(clip.mean(), clip, contrast)
    if clip.shape[1] == 1:
        return clip.clamp_(0, 1)
    grey = (clip * clip.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return torch.lerp(grey, clip, saturation).clamp_(0, 1)


def _erase_square(clip: Tensor, part: float, random: np.random.Generator) -> Tensor:
    """A grey square, at the same place in all frames (DeVries & Taylor 2017)."""
    size = clip.shape[-1]
    side = round(size * part)
    top, left = random.integers(0, size - side + 1, size=2)
    clip = clip.clone()
    clip[..., top : top + side, left : left + side] = 0.5
    return clip


def _to_network(clip: Tensor, spatial_dims: SpatialDims) -> Tensor:
    pattern = "1 c h w -> c h w" if spatial_dims == 2 else "t c h w -> c t h w"
    return rearrange(clip, pattern) * 2 - 1


def _vector(frames: Array) -> Tensor:
    return torch.from_numpy(frames[0])  # pyright: ignore[reportUnknownMemberType] - torch's stub
