"""Bodies from torchvision (video) and timm (images applied to frames)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision.models.video as torchvision_video
from einops import rearrange, reduce
from safetensors.torch import load_file
from torch import Tensor, nn

from bgan_video.errors import UserError
from bgan_video.models import nd
from bgan_video.models.weights import PACKAGED, packaged_file

VIDEO_BACKBONES = ("r3d_18", "mc3_18", "r2plus1d_18")
TIMM_PREFIX = "timm:"

# Kinetics-400 statistics, as torchvision's video transforms use them.
_VIDEO_MEAN, _VIDEO_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


class Standardise(nn.Module):
    """From [-1, 1] to the mean and standard deviation a body was made for."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], spatial_dims: int) -> None:
        super().__init__()
        shape = (1, -1, *(1,) * spatial_dims)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2 - self.mean) / self.std


def video_body(name: str, weights: str | None) -> tuple[nn.Module, int]:
    """A torchvision video network without its classifier, from clips to `[B, 512]`."""
    network: Any = getattr(torchvision_video, name)(weights=None)
    num_features = network.fc.in_features
    network.fc = nn.Identity()
    load_weights(network, weights, classifier=("fc.",))
    for layer in network.modules():
        if type(layer) is nn.BatchNorm3d:
            layer.__class__ = nd.BatchNorm3d
    return nn.Sequential(Standardise(_VIDEO_MEAN, _VIDEO_STD, 3), network), num_features


def timm_body(
    model: str, size: int, spatial_dims: int, temporal: str, weights: str | None
) -> tuple[nn.Module, int]:
    """A timm image model as a body, on images or on the frames of clips.

    Raises:
        UserError: timm has no such model, or its layers cannot be inflated.
    """
    if not timm.is_model(model):
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        advice = f"did you mean {TIMM_PREFIX}{near[0]}?" if near else "see timm.list_models()"
        raise UserError(f"timm has no model {model!r}; {advice}")
    arguments: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    pretrained_cfg: Any = timm.get_pretrained_cfg(model)
    if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
        arguments["img_size"] = size
    network: Any = timm.create_model(model, **arguments)
    if weights in PACKAGED:
        _load_packaged(network, model, weights)
    else:
        load_weights(network, weights, classifier=("fc.", "head.", "classifier."))
    mean, std = network.default_cfg["mean"], network.default_cfg["std"]
    standardise = Standardise(mean, std, spatial_dims)
    if spatial_dims == 2:
        return nn.Sequential(standardise, network), network.num_features
    wrap = Inflated if temporal == "inflate" else FrameAverage
    return nn.Sequential(standardise, wrap(network)), network.num_features


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


def _load_packaged(network: nn.Module, model: str, name: str) -> None:
    """Load weights of a package, which are this model's tensor by tensor, under other names.

    Raises:
        UserError: They are another model's, or not installed.
    """
    if model != PACKAGED[name].model:
        raise UserError(f"the weights {name} are those of timm:{PACKAGED[name].model}, not {model}")
    state = torch.load(packaged_file(name), map_location="cpu", weights_only=True)
    names = network.state_dict()
    # The classifier comes last, and the body has none.
    network.load_state_dict(dict(zip(names, state.values(), strict=False)))


def load_weights(network: nn.Module, path: str | None, classifier: tuple[str, ...]) -> None:
    """Load pretrained weights of a body; the file's classifier, if it has one, is left out.

    Raises:
        UserError: No such file, not a state dict of tensors, or not of this architecture.
    """
    if path is None:
        return
    if not Path(path).is_file():
        raise UserError(f"discriminator.weights={path}: no such file")
    try:
        if path.endswith(".safetensors"):
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        known = network.state_dict()
        body = {k: v for k, v in state.items() if k in known or not k.startswith(classifier)}
        network.load_state_dict(body)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"discriminator.weights={path} does not hold this body's weights: {reason}"
        ) from None
