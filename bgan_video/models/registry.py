"""From names in a config to networks."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bgan_video.config import Config, SpatialDims
from bgan_video.errors import UserError
from bgan_video.models import nd, published
from bgan_video.models.backbones import (
    TIMM_PREFIX,
    VIDEO_BACKBONES,
    load_weights,
    timm_body,
    video_body,
)
from bgan_video.models.discriminators import Classifier, dcgan_body
from bgan_video.models.generators import DCGANGenerator, TwoStreamGenerator
from bgan_video.models.shapes import Plan, plan_clip, plan_image

_PUBLISHED_BODIES = {
    "notebook": published.notebook_body,
    "tensorflow": published.tensorflow_body,
}


def _plan(config: Config) -> Plan:
    if config.spatial_dims == 2:
        return plan_image(config.clip.size)
    return plan_clip(config.clip.num_frames, config.clip.size)


def _dcgan(config: Config) -> nn.Module:
    g = config.generator
    return DCGANGenerator(_plan(config), g.latent_dim, g.width, g.norm, config.channels)


def _two_stream(config: Config) -> nn.Module:
    g = config.generator
    background = plan_image(config.clip.size)
    return TwoStreamGenerator(
        _plan(config), background, g.latent_dim, g.width, g.norm, config.channels
    )


def _notebook(config: Config) -> nn.Module:
    g = config.generator
    return published.notebook_generator(g.latent_dim, g.width, config.clip.size, config.channels)


def _tensorflow(config: Config) -> nn.Module:
    g = config.generator
    return published.tensorflow_generator(g.latent_dim, g.width, config.clip.size, config.channels)


def _mlp(config: Config) -> nn.Module:
    g = config.generator
    return published.mlp_generator(g.latent_dim, g.width, config.channels)


GENERATORS: dict[SpatialDims, dict[str, Callable[[Config], nn.Module]]] = {
    3: {"two_stream": _two_stream, "dcgan": _dcgan},
    2: {"dcgan": _dcgan, "notebook": _notebook, "tensorflow": _tensorflow},
    0: {"mlp": _mlp},
}
"""By what they make: clips, images or vectors."""


def build_generator(config: Config) -> nn.Module:
    """The generator the config names.

    Raises:
        UserError: Unknown name, or sizes its strides do not allow.
    """
    name, known = config.generator.name, GENERATORS[config.spatial_dims]
    if name not in known:
        raise UserError(_unknown("generator.name", name, list(known), config))
    return known[name](config)


def draw_latents(config: Config, count: int, random: torch.Generator) -> Tensor:
    """Latents `[count, Z]` of the distribution the config names, on the device of `random`."""
    shape = (count, config.generator.latent_dim)
    if config.generator.latent == "uniform":
        return torch.rand(shape, generator=random, device=random.device) * 2 - 1
    return torch.randn(shape, generator=random, device=random.device)


def build_discriminator(config: Config, num_classes: int) -> Classifier:
    """The K+1-class discriminator the config names; the supervised network is one as well.

    Raises:
        UserError: Unknown name, or sizes its strides do not allow.
    """
    d = config.discriminator
    body, features = _body(config)
    appearance = None
    if d.input == "difference":
        if config.spatial_dims != 3:
            raise UserError(
                f"discriminator.input=difference needs clips; allowed for {config.items}: rgb"
            )
        if d.fake == "beside":
            appearance = _appearance(config)
    # The notebook's last layer is a convolution without bias.
    bias = d.name != "notebook"
    network = Classifier(
        body,
        features,
        num_classes + 1,
        d.dropout,
        differences=d.input == "difference",
        appearance=appearance,
        head_bias=bias,
    )
    if d.name == "tensorflow":
        published.initialise_tensorflow(network)
    return network


def _body(config: Config) -> tuple[nn.Module, int]:
    d, size, dims = config.discriminator, config.clip.size, config.spatial_dims
    if d.weights is not None and d.name in ("mlp", "linear", *_PUBLISHED_BODIES):
        raise UserError(
            f"discriminator.weights={d.weights}: discriminator.name={d.name} takes none; allowed "
            f"for dcgan, torchvision's and timm's networks; set it to null"
        )
    if d.name == "linear" and dims == 0:
        return nn.Identity(), config.channels
    if d.name == "mlp" and dims == 0:
        return published.mlp_body(d.width, config.channels)
    if d.name == "dcgan" and dims != 0:
        body, features = dcgan_body(_plan(config), config.channels, d.width, d.norm, d.head)
        load_weights(body, d.weights, classifier=("head.",))
        return body, features
    if d.name in _PUBLISHED_BODIES and dims == 2:
        return _PUBLISHED_BODIES[d.name](d.width, size, config.channels)
    if d.name in VIDEO_BACKBONES and dims == 3:
        return video_body(d.name, d.weights)
    if d.name.startswith(TIMM_PREFIX) and dims != 0:
        model = d.name.removeprefix(TIMM_PREFIX)
        return timm_body(model, size, dims, d.temporal, d.weights)
    known = {
        0: ["mlp", "linear"],
        2: ["dcgan", *_PUBLISHED_BODIES, "timm:<model>"],
        3: ["dcgan", *VIDEO_BACKBONES, "timm:<model>"],
    }
    raise UserError(_unknown("discriminator.name", d.name, known[dims], config))


def _appearance(config: Config) -> nn.Module:
    """From clips to one logit: half as wide as the body, since textures are easier than motion.

    Without batch norm: it would normalise real clips and fakes apart, and the average of what was
    normalised is much the same for both (docs/experiments.md, 14).
    """
    d = config.discriminator
    width = max(1, d.width // 2)
    body, features = dcgan_body(_plan(config), config.channels, width, "none", d.head)
    return nn.Sequential(body, nd.Head(features, 1))


def _unknown(key: str, name: str, known: list[str], config: Config) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={name} is not known for {config.items}; allowed: {', '.join(known)}{advice}"
