"""The settings of each body's networks, and of what they see."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from bgan_video.config import FEATURES, ON_FEATURES, Config, Critic, Discriminator, Features
from bgan_video.errors import UserError
from bgan_video.models.bodies import PYTHON_PREFIX

# A linear layer is there after a few hundred steps of Adam or fewer; the rest of a round samples.
_BURN_IN_PART = 3


def names(config: Config) -> tuple[str, ...]:
    """The bodies of the Bayesian GAN, at least one."""
    return config.discriminator.bodies or (config.discriminator.name,)


def features_of(config: Config, name: str) -> Features:
    """Which features a body `features:…` sees."""
    return dataclasses.replace(config.features, body=name.removeprefix(FEATURES))


def seen_features(config: Config) -> tuple[Features, ...]:
    """Which features a run sees: those of its bodies, and of `features.body` where a method does.

    Those of `features.body` alone where it sees none.
    """
    methods = {*config.baseline.methods}
    bodies = config.discriminator.bodies if "bayesian_gan" in methods else ()
    seen = [features_of(config, name) for name in bodies if name.startswith(FEATURES)]
    if methods & {*ON_FEATURES} or not seen:
        seen.append(config.features)
    return tuple(dict.fromkeys(seen))


def of_clips(config: Config, name: str, index: int) -> Config:
    """The settings of a body that sees clips; generators play against the first one.

    Weights are those of `discriminator.name`, and so is what is meant for pretrained weights: of
    another body, which has none, all layers learn.
    """
    network, _, seen = name.partition("@")
    d = config.discriminator
    if network != d.name:
        d = _without_pretrained(d)
        if not network.startswith(PYTHON_PREFIX):  # a body of one's own brings weights itself
            posterior = dataclasses.replace(config.posterior, prior_mean="zero")
            config = dataclasses.replace(config, posterior=posterior)
    d = dataclasses.replace(d, name=network, input=_input(config, name, seen), bodies=())
    if index == 0:
        return dataclasses.replace(config, discriminator=d)
    return dataclasses.replace(
        config, discriminator=d, critic=Critic(), objective=_without_game(config)
    )


def of_features(config: Config, length: int) -> Config:
    """The settings of a linear layer on vectors of that length.

    The prior's scale goes with one over the square root of the length; the potential's N is that of
    the items that bear a label, whose term weighs 1 whatever `objective.labelled_weight` is. So at
    temperature 1 the chains sample the stated posterior. Vectors are read in the run's own process:
    each loading process would keep all of them anew.
    """
    f, steps = config.features, config.train.steps
    burn_in = steps // _BURN_IN_PART
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, store=None, num_workers=0),
        clip=dataclasses.replace(
            config.clip, num_frames=1, stride=1, fps=None, test_clips=f.clips, test_crops=1
        ),
        features=dataclasses.replace(f, length=length),
        discriminator=dataclasses.replace(
            _without_pretrained(config.discriminator),
            name="linear",
            input="rgb",
            bodies=(),
            dropout=0.0,
        ),
        critic=Critic(),
        objective=dataclasses.replace(_without_game(config), labelled_weight=1.0),
        posterior=dataclasses.replace(
            config.posterior,
            prior="gaussian",
            prior_mean="zero",
            prior_fan_in=False,
            prior_std_bias=None,
            prior_std_norm=None,
            prior_std_head=None,
            prior_std=f.prior_scale / math.sqrt(length),
            lr=f.lr,
            burn_in_lr=f.lr,
            burn_in=burn_in,
            schedule="constant",
            thinning=max(1, (steps - burn_in) // config.posterior.max_samples),
            temperature=f.temperature,
        ),
        baseline=dataclasses.replace(config.baseline, methods=("bayesian_gan",)),
    )


def chain_settings(config: Config) -> Config:
    """The settings that the first body's chains sample by, whatever the length of a vector."""
    is_of_features = names(config)[0].startswith(FEATURES)
    return of_features(config, length=1) if is_of_features else config


def _input(config: Config, name: str, seen: str) -> Any:
    if seen not in ("", "rgb", "difference"):
        raise UserError(f"discriminator.bodies: {name}; allowed behind @: rgb, difference")
    return seen or config.discriminator.input


def _without_pretrained(discriminator: Discriminator) -> Discriminator:
    return dataclasses.replace(
        discriminator, weights=None, freeze=0, freeze_norm=False, body_lr=1.0
    )


def _without_game(config: Config) -> Any:
    return dataclasses.replace(
        config.objective,
        adversarial_weight=0.0,
        consistency_weight=0.0,
        pretext_weight=0.0,
        balance_weight=0.0,
    )
