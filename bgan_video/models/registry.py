"""From names in a config to networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bgan_video.config import Config, SpatialDims
from bgan_video.errors import UserError
from bgan_video.models import nd, published
from bgan_video.models.bodies import PYTHON_PREFIX, build_body, plan_of, unknown
from bgan_video.models.critics import Critic
from bgan_video.models.discriminators import Classifier, dcgan_body
from bgan_video.models.finetuning import freeze, freeze_norms
from bgan_video.models.generators import DCGANGenerator, TwoStreamGenerator
from bgan_video.models.residual import ResidualGenerator
from bgan_video.models.shapes import plan_image


def _dcgan(config: Config) -> nn.Module:
    g = config.generator
    return DCGANGenerator(plan_of(config), g.latent_dim, g.width, g.norm, config.channels)


def _two_stream(config: Config) -> nn.Module:
    g = config.generator
    background = plan_image(config.clip.size)
    return TwoStreamGenerator(
        plan_of(config), background, g.latent_dim, g.width, g.norm, config.channels
    )


def _residual(config: Config) -> nn.Module:
    g = config.generator
    background = None
    if config.spatial_dims == 3 and g.streams == 2:
        background = plan_image(config.clip.size)
    return ResidualGenerator(plan_of(config), g.latent_dim, g.width, config.channels, background)


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
    3: {"residual": _residual, "two_stream": _two_stream, "dcgan": _dcgan},
    2: {"residual": _residual, "dcgan": _dcgan, "notebook": _notebook, "tensorflow": _tensorflow},
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
        raise UserError(unknown("generator.name", name, list(known), config))
    with _naming(config):
        return known[name](config.of_game)


def build_critic(config: Config) -> Critic:
    """What judges the looks of generated items beside the classifiers.

    Raises:
        UserError: Sizes its strides do not allow.
    """
    seen, width = config.of_game, config.critic.width
    with _naming(config):
        return Critic(plan_of(seen), plan_image(seen.clip.size), config.channels, width)


@contextmanager
def _naming(config: Config) -> Iterator[None]:
    """What does not fit is told of the setting that it comes from."""
    try:
        yield
    except UserError as error:
        if config.generator.size is None:
            raise
        raise UserError(str(error).replace("clip.size", "generator.size")) from None


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
    body = build_body(config)
    appearance = None
    if d.input == "difference":
        if config.spatial_dims != 3:
            raise UserError(
                f"discriminator.input=difference needs clips; allowed for {config.items}: rgb"
            )
        # Without a game nobody learns what is fake, and the branch would be computed for nothing.
        if d.fake == "beside" and config.objective.adversarial_weight > 0:
            appearance = _appearance(config)
    # The notebook's last layer is a convolution without bias.
    bias = d.name != "notebook"
    network = Classifier(
        body.module,
        body.num_features,
        num_classes + 1,
        d.dropout,
        differences=d.input == "difference",
        appearance=appearance,
        head_bias=bias,
        body_lr=d.body_lr,
    )
    if d.name == "tensorflow":
        published.initialise_tensorflow(network)
    freeze(body.network, d.freeze)
    if d.freeze_norm:
        freeze_norms(body.network)
    return network


def sized_discriminator(config: Config, num_classes: int) -> Classifier:
    """A discriminator that can be counted, without weights and without memory for them.

    But for a body of the user's, which may need numbers to be made. Draws no random number anyone
    else uses.

    Raises:
        UserError: As `build_discriminator`.
    """
    is_own = config.discriminator.name.startswith(PYTHON_PREFIX)
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if is_own else "meta"):
        return build_discriminator(config.without_weights(), num_classes)


def _appearance(config: Config) -> nn.Module:
    """From clips to one logit: half as wide as the body, since textures are easier than motion.

    Without batch norm: it would normalise real clips and fakes apart, and the average of what was
    normalised is much the same for both (docs/experiments.md, 14).
    """
    d = config.discriminator
    width = max(1, d.width // 2)
    body, features = dcgan_body(plan_of(config), config.channels, width, "none", d.head)
    return nn.Sequential(body, nd.Head(features, 1))
