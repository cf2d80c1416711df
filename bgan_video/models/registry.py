"""From names in a config to networks."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.models.backbones import (
    TIMM_PREFIX,
    VIDEO_BACKBONES,
    load_weights,
    timm_body,
    video_body,
)
from bgan_video.models.discriminators import Classifier, dcgan_body
from bgan_video.models.generators import DCGANGenerator, TwoStreamGenerator
from bgan_video.models.shapes import Plan, SpatialDims, plan_clip, plan_image

RGB = 3


def _plan(config: Config, spatial_dims: SpatialDims) -> Plan:
    if spatial_dims == 2:
        return plan_image(config.clip.size)
    return plan_clip(config.clip.num_frames, config.clip.size)


def _dcgan(config: Config, spatial_dims: SpatialDims) -> nn.Module:
    g = config.generator
    return DCGANGenerator(_plan(config, spatial_dims), g.latent_dim, g.width, g.norm, RGB)


def _two_stream(config: Config, spatial_dims: SpatialDims) -> nn.Module:
    if spatial_dims == 2:
        raise UserError(
            "generator.name=two_stream makes clips; for images use generator.name=dcgan"
        )
    g = config.generator
    background = plan_image(config.clip.size)
    return TwoStreamGenerator(
        _plan(config, spatial_dims), background, g.latent_dim, g.width, g.norm, RGB
    )


GENERATORS: dict[str, Callable[[Config, SpatialDims], nn.Module]] = {
    "dcgan": _dcgan,
    "two_stream": _two_stream,
}


def build_generator(config: Config, spatial_dims: SpatialDims = 3) -> nn.Module:
    """The generator the config names.

    Raises:
        UserError: Unknown name, or sizes its strides do not allow.
    """
    name = config.generator.name
    if name not in GENERATORS:
        raise UserError(_unknown("generator.name", name, list(GENERATORS)))
    return GENERATORS[name](config, spatial_dims)


def build_discriminator(
    config: Config, num_classes: int, spatial_dims: SpatialDims = 3
) -> Classifier:
    """The K+1-class discriminator the config names; the supervised network is one as well.

    Raises:
        UserError: Unknown name, or sizes its strides do not allow.
    """
    d = config.discriminator
    if d.name == "dcgan":
        body, features = dcgan_body(_plan(config, spatial_dims), RGB, d.width, d.norm, d.head)
        load_weights(body, d.weights, classifier=("head.",))
    elif d.name in VIDEO_BACKBONES and spatial_dims == 3:
        body, features = video_body(d.name, d.weights)
    elif d.name.startswith(TIMM_PREFIX):
        model = d.name.removeprefix(TIMM_PREFIX)
        body, features = timm_body(model, config.clip.size, spatial_dims, d.temporal, d.weights)
    else:
        known = ["dcgan", *(VIDEO_BACKBONES if spatial_dims == 3 else ()), "timm:<model>"]
        raise UserError(_unknown("discriminator.name", d.name, known))
    appearance = None
    if d.input == "difference":
        if spatial_dims == 2:
            raise UserError("discriminator.input=difference needs clips; allowed for images: rgb")
        appearance = _appearance(config)
    return Classifier(body, features, num_classes + 1, d.dropout, appearance=appearance)


def _appearance(config: Config) -> nn.Module:
    """From clips to one logit: half as wide as the body, since textures are easier than motion."""
    d = config.discriminator
    plan = _plan(config, spatial_dims=3)
    body, features = dcgan_body(plan, RGB, max(1, d.width // 2), d.norm, d.head)
    return nn.Sequential(body, nn.Linear(features, 1))


def _unknown(key: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={name} is not known; allowed: {', '.join(known)}{advice}"
