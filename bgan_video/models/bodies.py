"""From the name in a config to a body: the project's own, a library's, or the user's."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import torch
from torch import nn

from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.models import published
from bgan_video.models.backbones import (
    TIMM_PREFIX,
    VIDEO_BACKBONES,
    BuiltBody,
    timm_body,
    video_body,
)
from bgan_video.models.discriminators import dcgan_body
from bgan_video.models.finetuning import freeze
from bgan_video.models.shapes import Plan, plan_clip, plan_image
from bgan_video.models.weights import Fit, load_weights

PYTHON_PREFIX = "python:"

_PUBLISHED = {
    "notebook": published.notebook_body,
    "tensorflow": published.tensorflow_body,
}


def plan_of(config: Config) -> Plan:
    """The strides that bring items of the config's size down to a few places."""
    if config.spatial_dims == 2:
        return plan_image(config.clip.size)
    return plan_clip(config.clip.num_frames, config.clip.size)


def unknown(key: str, name: str, known: list[str], config: Config) -> str:
    """Why a name serves nothing, what is allowed, and what was perhaps meant."""
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={name} is not known for {config.items}; allowed: {', '.join(known)}{advice}"


def build_body(config: Config) -> BuiltBody:
    """The body that `discriminator.name` names, with `discriminator.weights` in it.

    Raises:
        UserError: Unknown name, sizes it does not allow, or weights that do not fit.
    """
    d, size, dims = config.discriminator, config.clip.size, config.spatial_dims
    if d.weights is not None and d.name in ("mlp", "linear", *_PUBLISHED):
        raise UserError(
            f"discriminator.weights={d.weights}: discriminator.name={d.name} takes none; allowed "
            f"for dcgan, torchvision's, timm's and your own networks; set it to null"
        )
    if d.name == "linear" and dims == 0:
        return _plain(nn.Identity(), config.channels)
    if d.name == "mlp" and dims == 0:
        return _plain(*published.mlp_body(d.width, config.channels))
    if d.name == "dcgan" and dims != 0:
        body = dcgan_body(plan_of(config), config.channels, d.width, d.norm, d.head)
        return _plain(*body, weights=d.weights)
    if d.name in _PUBLISHED and dims == 2:
        return _plain(*_PUBLISHED[d.name](d.width, size, config.channels))
    if d.name in VIDEO_BACKBONES and dims == 3:
        return video_body(d.name, config.clip.num_frames, size, d.weights)
    if d.name.startswith(TIMM_PREFIX) and dims != 0:
        model = d.name.removeprefix(TIMM_PREFIX)
        return timm_body(model, size, dims, d.temporal, d.weights)
    if _is_own(d.name):
        module, num_features = _own_body(config)
        inner = _unwrapped(module)
        fit = load_weights(inner, d.weights) if d.weights else None
        return BuiltBody(module, num_features, inner, fit)
    own = f"{PYTHON_PREFIX}<module>:<function>"
    known = {
        0: ["mlp", "linear", own],
        2: ["dcgan", *_PUBLISHED, "timm:<model>", own],
        3: ["dcgan", *VIDEO_BACKBONES, "timm:<model>", own],
    }
    raise UserError(unknown("discriminator.name", d.name, known[dims], config))


def look_at_body(config: Config) -> Fit | None:
    """Build a body that is not the project's own once, and let it see an item of zeros.

    What its library, its weights or its author got wrong shows here, in a line, before any data.

    Returns:
        What became of the weights, where there are any.

    Raises:
        UserError: As `build_body`; or the body does not take such items, makes other features, has
            no weights that a prior could be centred at, or not the layers that are to be frozen.
    """
    d, c = config.discriminator, config.clip
    is_ours = d.name in ("dcgan", "mlp", "linear", *_PUBLISHED)
    if config.posterior.prior_mean == "pretrained" and d.weights is None and not _is_own(d.name):
        raise UserError(
            f"posterior.prior_mean=pretrained needs weights to centre the prior at, and {d.name} "
            f"has none; set discriminator.weights, or posterior.prior_mean=zero"
        )
    with torch.random.fork_rng(devices=[]):
        body = build_body(config)
    freeze(body.network, d.freeze)
    if is_ours:
        return body.fit
    shape = (config.channels, c.num_frames, c.size, c.size)
    if config.spatial_dims < 3:
        shape = (config.channels, c.size, c.size)[: 1 + config.spatial_dims]
    try:
        with torch.no_grad():
            features = body.module.eval()(torch.zeros(1, *shape))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"discriminator.name={d.name} does not take {config.items} of shape {list(shape)} "
            f"({reason}); choose the clip.size and clip.num_frames that it was made for"
        ) from error
    found = list(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
    if found != [1, body.num_features]:
        raise UserError(
            f"discriminator.name={d.name} makes {found} of one item; a body makes features "
            f"[items, {body.num_features}]"
        )
    return body.fit


def _is_own(name: str) -> bool:
    return name.startswith(PYTHON_PREFIX)


def _plain(module: nn.Module, num_features: int, weights: str | None = None) -> BuiltBody:
    fit = load_weights(module, weights) if weights else None
    return BuiltBody(module, num_features, module, fit)


def _unwrapped(module: nn.Module) -> nn.Module:
    """The network inside of modules that only hold one: its names are those of its library."""
    while not [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        inside = [child for child in module.children() if child.state_dict()]
        if len(inside) != 1:
            break
        module = inside[0]
    return module


def _own_body(config: Config) -> tuple[nn.Module, int]:
    """What the function behind `python:` makes of the settings.

    Raises:
        UserError: No such module or function, or it returns something else.
    """
    name = config.discriminator.name
    path, colon, function = name.removeprefix(PYTHON_PREFIX).partition(":")
    if not (path and colon and function):
        raise UserError(f"discriminator.name={name}; write {PYTHON_PREFIX}package.module:function")
    try:
        make: Any = getattr(importlib.import_module(path), function)
    except ImportError as error:
        raise UserError(
            f"discriminator.name={name}: {error}; install the package, or name its folder in "
            f"PYTHONPATH"
        ) from error
    except AttributeError:
        raise UserError(f"discriminator.name={name}: {path} has no {function}") from None
    made = make(config)
    is_pair = isinstance(made, tuple) and len(made) == 2
    if not (is_pair and isinstance(made[0], nn.Module) and isinstance(made[1], int)):
        raise UserError(
            f"discriminator.name={name}: the function returns {type(made).__name__}; it returns a "
            f"torch module and its number of features"
        )
    return made
