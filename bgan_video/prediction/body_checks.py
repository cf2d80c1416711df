"""What can be known of a run's bodies and networks before any video is read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from bgan_video.config import FEATURES, ON_FEATURES, Config, Discriminator, Posterior
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies, open_store
from bgan_video.method.bodies import features_of, names, of_clips, of_features
from bgan_video.models import Fit, look_at_body, sized_discriminator


def check(config: Config, frozen: FrozenBodies) -> list[Fit]:
    """Look at the bodies that the run's networks have, with their weights.

    Args:
        config: The run's settings.
        frozen: Its frozen bodies, which stay open for what follows.

    Returns:
        What became of the weights, where there are any.

    Raises:
        UserError: No such body, twice the same one, or weights that are not there, do not fit or
            are of no body.
    """
    d = config.discriminator
    if {*config.baseline.methods} & {*ON_FEATURES}:
        open_store(config, frozen(config.features))
    _check_names(config)
    looked = {d.name: config} if config.trains_named_body else {}
    named = body_settings(config, frozen) if d.bodies else {}
    for name, own in named.items():
        sized_discriminator(own, num_classes=2)
        if not name.startswith(FEATURES):
            looked[own.discriminator.name] = own
    _check_named(d, list(looked))
    _check_centre(config, named)
    fits = (look_at_body(own) for own in looked.values())
    return [fit for fit in fits if fit is not None]


def notes(config: Config) -> list[str]:
    """What is set and does not hold, in lines for the user."""
    lines = [*_unread_by_samplers(config), *_unread_sections(config), *_unread_by_bodies(config)]
    if config.has_critics and config.objective.feature_matching_weight > 0:
        lines.append(
            "objective.feature_matching_weight: not with critic.name=hybrid, whose generators face "
            "critics alone"
        )
    return lines


_READ_WHERE = {
    ("sampler", ("sghmc",)): ("integrator", "gradient_noise"),
    ("sampler", ("sghmc", "adaptive_sghmc", "mclmc")): ("friction",),
    ("sampler", ("mclmc",)): ("energy_variance",),
    ("temperature", ("auto",)): ("noise_budget",),
    ("schedule", ("constant", "exponential")): ("thinning",),
    ("schedule", ("exponential",)): ("lr_decay",),
    ("schedule", ("cyclical",)): ("num_cycles",),
    ("prior", ("student_t", "hierarchical")): ("prior_df",),
}
"""Settings of the posterior that another one has to have some value for."""


def _unread_by_samplers(config: Config) -> list[str]:
    """What one sampler, schedule or prior alone has."""
    given, plain = config.posterior, Posterior()
    lines: list[str] = []
    for (setting, values), keys in _READ_WHERE.items():
        now = getattr(given, setting)
        unread = [f"posterior.{key}" for key in keys if getattr(given, key) != getattr(plain, key)]
        if unread and now not in values and config.samples_posterior:
            where = f"posterior.{setting}={' or '.join(values)}"
            lines.append(f"{', '.join(unread)}: for {where} alone, not for {now}")
    return lines


def _unread_sections(config: Config) -> list[str]:
    """What rounds and critics alone have, where there are none."""
    absent = {
        "train.rounds=1 or more": ("rounds", config.rounds, config.train.rounds == 0),
        "critic.name=hybrid": ("critic", config.critic, not config.has_critics),
    }
    lines: list[str] = []
    for where, (section, given, is_absent) in absent.items():
        values, plain = dataclasses.asdict(given), dataclasses.asdict(type(given)())
        unread = [f"{section}.{key}" for key in values if values[key] != plain[key]]
        if is_absent and unread:
            lines.append(f"{', '.join(unread)}: for {where} alone")
    return lines


def _unread_by_bodies(config: Config) -> list[str]:
    """What does not hold for bodies of the Bayesian GAN."""
    if not config.discriminator.bodies or "bayesian_gan" not in config.baseline.methods:
        return []
    lines: list[str] = []
    further = [name for name in names(config)[1:] if not name.startswith(FEATURES)]
    weighed = ("consistency_weight", "pretext_weight", "balance_weight")
    dropped = [f"objective.{key}" for key in weighed if getattr(config.objective, key) > 0]
    if further and dropped:
        lines.append(
            f"{', '.join(dropped)}: for the body {names(config)[0]} alone; {', '.join(further)} "
            f"learns from labels and what rounds believe"
        )
    if config.objective.labelled_weight != 1 and any(n.startswith(FEATURES) for n in names(config)):
        lines.append("objective.labelled_weight: not for bodies of features, whose labels weigh 1")
    if config.has_features_alone:
        given, own, plain = config.posterior, of_features(config, length=1).posterior, Posterior()
        keys = (field.name for field in dataclasses.fields(Posterior))
        unread = [
            f"posterior.{key}"
            for key in keys
            if getattr(given, key) not in (getattr(plain, key), getattr(own, key))
        ]
        if unread:
            lines.append(
                f"{', '.join(unread)}: not for bodies of features, whose chains go by the section "
                f"features"
            )
    return lines


def body_settings(config: Config, frozen: FrozenBodies) -> dict[str, Config]:
    """The settings of each body of the Bayesian GAN, by name, without a video having been read.

    Arguments as of `check`.

    Raises:
        UserError: No such features, or no such input.
    """
    if not config.discriminator.bodies:
        return {config.discriminator.name: config}
    found: dict[str, Config] = {}
    for index, name in enumerate(config.discriminator.bodies):
        if name.startswith(FEATURES):
            own = dataclasses.replace(config, features=features_of(config, name))
            length = open_store(own, frozen(own.features)).length
            found[name] = of_features(own, length)
        else:
            found[name] = of_clips(config, name, index)
    return found


def _check_named(d: Discriminator, there: Sequence[str]) -> None:
    """Refuse what is meant for the body `name` where no network has it."""
    plain = Discriminator()
    for key in ("weights", "freeze", "freeze_norm", "body_lr"):
        value, unset = getattr(d, key), getattr(plain, key)
        if value != unset and d.name not in there:
            raise UserError(
                f"discriminator.{key}={value} is for discriminator.name={d.name}, which no "
                f"network of this run has ({', '.join(there) or 'frozen features alone'}); name "
                f"the body that it is for, or set it to {json.dumps(unset)}"
            )


def _check_centre(config: Config, bodies: Mapping[str, Config]) -> None:
    """Refuse a centred prior that none of several bodies has."""
    of_bodies = [own.posterior.prior_mean for own in bodies.values()]
    if config.posterior.prior_mean == "pretrained" and bodies and "pretrained" not in of_bodies:
        raise UserError(
            f"posterior.prior_mean=pretrained is for discriminator.name="
            f"{config.discriminator.name}, which is none of discriminator.bodies "
            f"({', '.join(bodies)}); name the body whose weights are the centre, or set it to zero"
        )


def _check_names(config: Config) -> None:
    """Refuse bodies that cannot stand beside each other, or with such data."""
    chosen = config.discriminator.bodies
    repeated = [name for name in chosen if chosen.count(name) > 1]
    if repeated:
        raise UserError(f"discriminator.bodies names {repeated[0]} twice; name each body once")
    if chosen and chosen[0].startswith(FEATURES) and config.gans_need_unlabelled:
        raise UserError(
            f"discriminator.bodies: generators and unlabelled clips are for the first body, and "
            f"{chosen[0]} sees no clips; name one that does first, or set the weights of "
            f"objective (adversarial_weight, …) to 0"
        )
    for name in chosen:
        if name.startswith(FEATURES) and config.spatial_dims != 3:
            raise UserError(f"discriminator.bodies: {name} is for videos, not {config.items}")
