"""Bodies from torchvision (video) and timm (images applied to frames)."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from einops import rearrange, reduce
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes
from torchvision.models import video as torchvision_video

from bgan_video.errors import UserError
from bgan_video.models import nd
from bgan_video.models.weights import PACKAGED, Fit, State, load_packaged, load_weights

VIDEO_BACKBONES = tuple(torchvision.models.list_models(module=torchvision_video))
TIMM_PREFIX = "timm:"


class BuiltBody(NamedTuple):
    """What makes features of items.

    Attributes:
        module: From items `[B, C, (T,) H, W]` in [-1, 1] to features `[B, F]`.
        num_features: F.
        network: Its part whose names are those of its library and of files of weights.
        fit: What became of the file's tensors; None where no weights were loaded.
    """

    module: nn.Module
    num_features: int
    network: nn.Module
    fit: Fit | None = None


class Standardise(nn.Module):
    """From [-1, 1] to the mean and standard deviation a body was made for."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], spatial_dims: int) -> None:
        super().__init__()
        shape = (1, -1, *(1,) * spatial_dims)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 - self.mean) / self.std


def video_body(name: str, num_frames: int, size: int, weights: str | None) -> BuiltBody:
    """A torchvision video classifier without its classifier, for clips of any size.

    S3D averages its last map over all places, whatever their number: at the 224 pixels and 16
    frames it was made for, that is its own average.
    """
    network: Any = torchvision.models.get_model(name, weights=None)
    head = next(key for key in ("fc", "head", "classifier") if hasattr(network, key))
    layers = [m for m in getattr(network, head).modules() if isinstance(m, nn.Linear | nn.Conv3d)]
    num_features = layers[-1].weight.shape[1]
    setattr(network, head, nn.Identity())
    convert = None
    if name == "s3d":
        network.avgpool = nn.AdaptiveAvgPool3d(1)
    elif name.startswith("mvit"):
        _place_positions(network, num_frames, size)
        convert = _resampled_positions
    fit = load_weights(network, weights, (head,), convert) if weights else None
    for layer in network.modules():
        if type(layer) is nn.BatchNorm3d:
            layer.__class__ = nd.BatchNorm3d
    seen: Any = torchvision.models.get_model_weights(name)["DEFAULT"].transforms()
    standardise = Standardise(seen.mean, seen.std, 3)
    return BuiltBody(nn.Sequential(standardise, network), num_features, network, fit)


def _place_positions(network: Any, num_frames: int, size: int) -> None:
    """Tell an MViT, which is built for 16 frames of 224 pixels, the size of its items.

    Relative positions are interpolated by torchvision itself; absolute ones are tables of a size.
    """
    conv, positions = network.conv_proj, network.pos_encoding
    axes = ((num_frames, size, size), conv.kernel_size, conv.stride, conv.padding)
    t, h, w = (
        (length + 2 * padding - kernel) // stride + 1
        for length, kernel, stride, padding in zip(*axes, strict=True)
    )
    positions.temporal_size, positions.spatial_size = t, (h, w)
    for table, length in (("spatial_pos", h * w), ("temporal_pos", t)):
        made = getattr(positions, table)
        if made is not None:
            fresh = nn.init.trunc_normal_(made.new_empty(length, made.shape[1]), std=0.02)
            setattr(positions, table, nn.Parameter(fresh))


def _resampled_positions(state: State, network: nn.Module) -> State:
    """The absolute positions of an MViT on another grid, which in space is square."""
    space, time = "pos_encoding.spatial_pos", "pos_encoding.temporal_pos"
    own = network.state_dict()
    if space in state and time in state:
        old, new = (round(len(table) ** 0.5) for table in (state[space], own[space]))
        grid = rearrange(state[space], "(h w) c -> 1 c h w", h=old)
        grid = F.interpolate(grid, (new, new), mode="bicubic", antialias=True)
        state[space] = rearrange(grid, "1 c h w -> (h w) c")
        line = rearrange(state[time], "t c -> 1 c t")
        line = F.interpolate(line, len(own[time]), mode="linear")
        state[time] = rearrange(line, "1 c t -> t c")
    return state


def timm_body(
    model: str,
    size: int,
    spatial_dims: int,
    temporal: str,
    weights: str | None,
    setting: str = "discriminator.weights",
) -> BuiltBody:
    """A timm image model as a body, on images or on the frames of clips.

    Args:
        model: Its name in timm.
        size: Pixels a side of its images.
        spatial_dims: 2 for images, 3 for clips.
        temporal: What is done with the frames of clips: `pool` or `inflate`.
        weights: A file, or a name in `PACKAGED`.
        setting: That names the weights.

    Raises:
        UserError: timm has no such model or not at this size, its layers cannot be inflated, or
            the weights do not fit.
    """
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        advice = f"did you mean {TIMM_PREFIX}{near[0]}?" if near else "see timm.list_models()"
        raise UserError(f"timm has no model {model!r}; {advice}")
    network = _timm_network(model, size)
    fit = None
    if weights in PACKAGED:
        fit = load_packaged(network, model, weights)
    elif weights is not None:
        named = network.pretrained_cfg["classifier"] or ()
        classifiers = (named,) if isinstance(named, str) else named
        fit = load_weights(network, weights, classifiers, _timm_conversion, setting)
    cfg = network.pretrained_cfg
    standardise = Standardise(cfg["mean"], cfg["std"], spatial_dims)
    num_features = network.head_hidden_size
    module: nn.Module = network
    if spatial_dims == 3 and temporal == "inflate":
        module, num_features = Inflated(network), network.num_features
    elif spatial_dims == 3:
        module = FrameAverage(network)
    return BuiltBody(nn.Sequential(standardise, module), num_features, network, fit)


def _timm_network(model: str, size: int) -> Any:
    arguments: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    pretrained_cfg: Any = timm.get_pretrained_cfg(model)
    if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
        arguments["img_size"] = size
    try:
        try:
            return timm.create_model(model, **arguments)
        except (NotImplementedError, DataDependentOutputException):
            # It asks a tensor for numbers, and those of `meta` and of a pretended step have none.
            with _disable_current_modes(), torch.device("cpu"):
                network = timm.create_model(model, **arguments)
            return _as_tensors_are_made(network)
    except (AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
        made_for = (
            "×".join(map(str, pretrained_cfg.input_size[1:])) if pretrained_cfg else "another"
        )
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"timm:{model} cannot be made for {size}×{size} pixels, it was made for {made_for}: "
            f"{reason or type(error).__name__}"
        ) from None


def _as_tensors_are_made(network: nn.Module) -> nn.Module:
    """The network with new tensors of the same sizes, where and as tensors are made now."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_like(parameter)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, _like(buffer))
    return network


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _timm_conversion(state: State, network: nn.Module) -> State:
    """What timm does to published weights of a family, and positions on the body's grid.

    The first is by convention a function of one name beside the family's class, which
    `pretrained=True` uses; most of these resample positions too.
    """
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    state = dict(state if convert is None else convert(state, network))
    for name, own in network.state_dict().items():
        is_table = name.rpartition(".")[2].startswith("pos_embed")
        if is_table and name in state and state[name].shape != own.shape:
            state[name] = _on_grid_of(own, state[name])
    return state


def _on_grid_of(own: Tensor, table: Tensor) -> Tensor:
    """Position embeddings resampled; as they are where neither of timm's layouts explains them.

    They are `[1, tokens + h·w, C]` with a square grid, `[1, h, w, C]` or `[1, C, h, w]`.
    """
    if table.ndim == own.ndim == 3 and table.shape[2] == own.shape[2]:
        counts = table.shape[1], own.shape[1]
        for tokens in range(3):  # of the class, and of distillation
            old, new = (math.isqrt(max(0, count - tokens)) for count in counts)
            if counts == (tokens + old**2, tokens + new**2):
                return resample_abs_pos_embed(table, [new, new], [old, old], tokens)
    if table.ndim == own.ndim == 4 and table.shape[1] == own.shape[1]:
        return F.interpolate(table, own.shape[2:], mode="bicubic", antialias=True)
    if table.ndim == own.ndim == 4 and table.shape[3] == own.shape[3]:
        moved = rearrange(table, "1 h w c -> 1 c h w")
        moved = F.interpolate(moved, own.shape[1:3], mode="bicubic", antialias=True)
        return rearrange(moved, "1 c h w -> 1 h w c")
    return table


class FrameAverage(nn.Module):
    """An image model on every frame, features averaged over time (blind to the order of frames)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        features = self.network(rearrange(x, "b c t h w -> (b t) c h w"))
        return reduce(features, "(b t) f -> b f", "mean", t=x.shape[2])


# Beside 2-D convolutions, batch norms and max pools: what a plain ResNet is made of. Anything else
# may reduce over axes 2 and 3 by number, which in a clip are time and height.
_INFLATABLE = (
    "Sequential",
    "BasicBlock",
    "Bottleneck",
    "ReLU",
    "Identity",
    "SelectAdaptivePool2d",
    "AdaptiveAvgPool2d",
    "Flatten",
)


class Inflated(nn.Module):
    """A convolutional image model with its kernels repeated in time (Carreira & Zisserman 2017).

    A k×k kernel becomes 3×k×k with a third of its weight in each slice, so that in a static clip a
    frame keeps its features, but for those near the clip's ends, where zeros are padded; 1×1
    kernels stay within the frame.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        _inflate_children(network)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_features(x).flatten(2).mean(dim=2)


def _inflate_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Conv2d:
            setattr(module, name, _inflate_conv(child))
        elif type(child) is nn.BatchNorm2d:
            setattr(module, name, _inflate_norm(child))
        elif type(child) is nn.MaxPool2d:
            assert isinstance(child.kernel_size, int)
            pool = nn.MaxPool3d(
                (1, child.kernel_size, child.kernel_size),
                (1, child.stride, child.stride),  # pyright: ignore[reportArgumentType]
                (0, child.padding, child.padding),  # pyright: ignore[reportArgumentType]
            )
            setattr(module, name, pool)
        elif type(child).__name__ not in _INFLATABLE:
            raise UserError(
                f"discriminator.temporal=inflate does not know the layer {type(child).__name__} "
                "of this timm model; use a plain ResNet, or discriminator.temporal=pool"
            )
        else:
            _inflate_children(child)


def _inflate_conv(conv: nn.Conv2d) -> nn.Conv3d:
    depth = 3 if max(conv.kernel_size) > 1 else 1
    assert not isinstance(conv.padding, str)
    inflated = nn.Conv3d(
        conv.in_channels,
        conv.out_channels,
        _with_time(depth, conv.kernel_size),
        _with_time(1, conv.stride),
        _with_time(depth // 2, conv.padding),
        _with_time(1, conv.dilation),
        conv.groups,
        conv.bias is not None,
    )
    with torch.no_grad():
        inflated.weight.copy_(conv.weight.unsqueeze(2).expand_as(inflated.weight) / depth)
        if conv.bias is not None and inflated.bias is not None:
            inflated.bias.copy_(conv.bias)
    return inflated


def _with_time(time: int, spatial: tuple[int, ...]) -> tuple[int, int, int]:
    height, width = spatial
    return time, height, width


def _inflate_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm3d:
    inflated = nd.BatchNorm3d(norm.num_features, norm.eps, norm.momentum, norm.affine)
    inflated.load_state_dict(norm.state_dict())
    return inflated
