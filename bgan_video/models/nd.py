"""Layers for images and clips: the number of spatial-like dimensions is an argument.

`spatial_dims=2` means `[B, C, H, W]`, `spatial_dims=3` means `[B, C, T, H, W]`. Sizes, kernels and
strides are tuples over those axes, time first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bgan_video.models.shapes import Stage

_CONV: dict[int, type[Any]] = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_TRANSPOSE: dict[int, type[Any]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def at_least_float32(x: Tensor) -> Tensor:
    """`x`, in float32 where it is of half precision."""
    return x if x.dtype == torch.float64 else x.float()


def resized(items: Tensor, size: int) -> Tensor:
    """Images or clips `[B, C, (T,) H, W]` at `size` pixels a side, with antialiasing."""
    if items.shape[-1] == size:
        return items
    images = items if items.ndim == 4 else rearrange(items, "b c t h w -> (b t) c h w")
    seen = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return seen if items.ndim == 4 else rearrange(seen, "(b t) c h w -> b c t h w", b=len(items))


class BatchNorm3d(nn.BatchNorm3d):
    """Of clips that lie channels last, through the kernels that torch has for images alone.

    To a norm over all but the channels, time and height are one axis. For clips torch takes kernels
    for any layout, which take 3 to 5 times as long.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_contiguous(memory_format=torch.channels_last_3d) or not input.is_cuda:
            return super().forward(input)
        return super().forward(input.flatten(2, 3)).unflatten(2, input.shape[2:4])

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (4, 5):
            raise ValueError(f"clips have five dimensions, got {input.dim()}")


_BATCH_NORM: dict[int, type[Any]] = {2: nn.BatchNorm2d, 3: BatchNorm3d}
_KERNELS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# Wu & He 2018 find 2 to 32 groups alike; 8 leaves several channels a group at small widths.
_MAX_GROUPS = 8


def downsample(channels_in: int, channels_out: int, stage: Stage, *, bias: bool) -> nn.Module:
    """The strided convolution of one stage."""
    return _CONV[len(stage.kernel)](
        channels_in, channels_out, stage.kernel, stage.stride, stage.padding, bias=bias
    )


def upsample(channels_in: int, channels_out: int, stage: Stage, *, bias: bool) -> nn.Module:
    """The transposed convolution that undoes `downsample`'s change of size."""
    return _CONV_TRANSPOSE[len(stage.kernel)](
        channels_in, channels_out, stage.kernel, stage.stride, stage.padding, bias=bias
    )


def as_map(x: Tensor, extents: Sequence[int]) -> Tensor:
    """From numbers `[B, C·cells]` to a map `[B, C, *extents]`."""
    names = [f"s{i}" for i in range(len(extents))]
    axes = " ".join(names)
    return rearrange(x, f"b (c {axes}) -> b c {axes}", **dict(zip(names, extents, strict=True)))


def same_size(
    channels_in: int, channels_out: int, kernel: tuple[int, ...], *, bias: bool = True
) -> nn.Module:
    """A convolution of an odd kernel that leaves the size as it is."""
    return _CONV[len(kernel)](channels_in, channels_out, kernel, padding="same", bias=bias)


def norm(kind: str, channels: int, spatial_dims: int) -> nn.Module:
    """Batch or group normalisation with its own statistics, or none."""
    if kind == "batch":
        return _BATCH_NORM[spatial_dims](channels)
    if kind == "group":
        groups = next(g for g in range(min(_MAX_GROUPS, channels), 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def initialise_dcgan(module: nn.Module) -> None:
    """N(0, 0.02) for kernels, N(1, 0.02) for norm scales, zero biases (Radford et al. 2016)."""
    for layer in module.modules():
        if isinstance(layer, _KERNELS):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, (*BATCH_NORMS, nn.GroupNorm)):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class Head(nn.Linear):
    """A linear layer outside of autocast: logits of two digits tie."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise by the batch at hand without moving batch norm's running statistics.

    Running statistics are what evaluation uses, on real data: fakes and distorted views must not
    enter them (in the published PyTorch code half of what they average is fake).
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS)]
    tracked = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, track in zip(layers, tracked, strict=True):
            layer.track_running_stats = track
