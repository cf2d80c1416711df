"""Views of a clip: from decoded frames `uint8 [T, H, W, C]` to a network's input in [-1, 1].

An image is a clip of one frame, and its view has no time axis; a vector is its own view.

Every random choice is drawn once a clip (never frame by frame, which would be motion of its own)
from the generator that is handed in, so a view is a pure function of frames, settings and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from numpy.typing import NDArray
from torch import Tensor

from bgan_video.config import Augment, Config, SpatialDims

Array = NDArray[Any]
Crop = Literal["left", "centre", "right"]
CROPS: dict[int, tuple[Crop, ...]] = {1: ("centre",), 3: ("left", "centre", "right")}

# Rec. 601 luma, the weights of a grey image.
_LUMA = (0.299, 0.587, 0.114)


class Window(NamedTuple):
    """A view before its colours: a quarter of its bytes. Of a batch both have an axis more.

    Attributes:
        pixels: `[T, S, S, C]` in 0..255, cropped, resized and perhaps mirrored.
        numbers: `[5]`: factors of brightness, contrast and saturation, top and left of the square
            that is erased.
    """

    pixels: Tensor
    numbers: Tensor


@dataclass(frozen=True)
class View:
    """A kind of training view: how far its random changes go."""

    size: int
    min_scale: float
    color: float
    erase: float
    flip: bool
    spatial_dims: SpatialDims = 3
    noise: float = 0.0

    def __call__(self, frames: Array, random: np.random.Generator) -> Tensor:
        """A view `[C, (T,) size, size]` of frames `[T, H, W, C]`, float32 in [-1, 1]."""
        if self.spatial_dims == 0:
            return _noisy(_vector(frames), self.noise, random)
        return self._finish(*self._begin(frames, random))

    def window(self, frames: Array, random: np.random.Generator) -> Window:
        """The same view of frames of pictures, to be finished elsewhere."""
        clip, numbers = self._begin(frames, random)
        return Window(rearrange(clip, "t c h w -> t h w c").contiguous(), torch.tensor(numbers))

    def finish(self, batch: Window) -> Tensor:
        """The views `[B, C, (T,) size, size]` of a batch of windows, where these are."""
        clips = rearrange(batch.pixels, "b t h w c -> b t c h w")
        return self._finish(clips, batch.numbers.view(-1, 5, 1, 1, 1, 1).unbind(1))

    def _begin(self, frames: Array, random: np.random.Generator) -> tuple[Tensor, Sequence[float]]:
        """The bytes `[T, C, size, size]` of a window, and its numbers."""
        clip = _random_crop(frames, self.size, self.min_scale, random)
        if self.flip and random.random() < 0.5:
            clip = clip.flip(-1)
        factors, corner = np.ones(3), np.zeros(2)
        if self.color > 0:
            factors = 1 + random.uniform(-self.color, self.color, size=3)
        if self.erase > 0:
            corner = random.integers(0, self.size - self._erased + 1, size=2)
        return clip, [*factors.tolist(), *corner.tolist()]

    def _finish(self, clips: Tensor, numbers: Sequence[float] | Sequence[Tensor]) -> Tensor:
        """Bytes `[..., T, C, size, size]` to views `[..., C, (T,) size, size]`."""
        *factors, top, left = numbers
        clips = clips.float() / 255
        if self.color > 0:
            clips = _change_color(clips, *factors)
        if self.erase > 0:
            clips = _erase_square(clips, self._erased, top, left)
        return _to_network(clips, self.spatial_dims)

    @property
    def _erased(self) -> int:
        """Side of the square cut out."""
        return round(self.size * self.erase)


def weak_view(config: Config) -> View:
    """What every network trains on."""
    a: Augment = config.augment
    noise = config.features.noise if config.features.length else 0.0
    return View(config.clip.size, a.min_scale, a.color, 0.0, a.flip, config.spatial_dims, noise)


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
    return _to_network(_crop(frames, side, along_y, along_x, size).float() / 255, spatial_dims)


def to_pixels(items: Tensor) -> NDArray[np.uint8]:
    """The pictures of views: uint8 `[N, (T,) H, W, 3]` of items `[N, C, (T,) H, W]` in [-1, 1].

    Grey ones get three equal colours.
    """
    pixels = ((items.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    pixels = rearrange(pixels, "n c ... -> n ... c")
    if pixels.shape[-1] == 1:
        pixels = repeat(pixels, "... 1 -> ... c", c=3)
    return pixels.numpy()


def _random_crop(frames: Array, size: int, min_scale: float, random: np.random.Generator) -> Tensor:
    scale = random.uniform(min_scale, 1.0)
    along_y, along_x = random.uniform(size=2)
    return _crop(frames, min(frames.shape[1:3]) * scale, along_y, along_x, size)


def _crop(frames: Array, side: float, along_y: float, along_x: float, size: int) -> Tensor:
    """A square of `side` pixels at `along` (0..1) of its way, as bytes `[T, C, size, size]`."""
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
    return clip


def _change_color(clips: Tensor, brightness: Any, contrast: Any, saturation: Any) -> Tensor:
    """Of one clip by numbers, of a batch by tensors of as many dimensions as the clips have."""
    clips = clips * brightness
    clips = torch.lerp(clips.mean(dim=(-4, -3, -2, -1), keepdim=True), clips, contrast)
    if clips.shape[-3] == 1:
        return clips.clamp_(0, 1)
    red, green, blue = (part * clips[..., i, :, :] for i, part in enumerate(_LUMA))
    grey = (red + green + blue).unsqueeze(-3)
    return torch.lerp(grey, clips, saturation).clamp_(0, 1)


def _erase_square(clips: Tensor, side: int, top: Any, left: Any) -> Tensor:
    """A grey square, at the same place in all frames (DeVries & Taylor 2017)."""
    if isinstance(top, int):
        clips[..., top : top + side, left : left + side] = 0.5
        return clips
    at = torch.arange(clips.shape[-1], device=clips.device)
    down, across = at[:, None] - top, at - left
    inside = (down >= 0) & (down < side) & (across >= 0) & (across < side)
    return clips.masked_fill(inside, 0.5)


def _to_network(clips: Tensor, spatial_dims: SpatialDims) -> Tensor:
    pattern = "... 1 c h w -> ... c h w" if spatial_dims == 2 else "... t c h w -> ... c t h w"
    return rearrange(clips, pattern) * 2 - 1


def _noisy(vector: Tensor, std: float, random: np.random.Generator) -> Tensor:
    if std == 0:
        return vector
    drawn = random.standard_normal(vector.shape, dtype=np.float32)
    return vector + std * torch.from_numpy(drawn)  # pyright: ignore[reportUnknownMemberType]


def _vector(frames: Array) -> Tensor:
    return torch.from_numpy(frames[0])  # pyright: ignore[reportUnknownMemberType] - torch's stub
