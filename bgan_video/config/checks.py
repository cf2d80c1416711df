"""Settings that contradict each other, each refused in one line."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from bgan_video.config.kinds import (
    DRAWN,
    GANS,
    IN_ROUNDS,
    LABEL_CHOICES,
    NEED_LABELS,
    ON_FEATURES,
)
from bgan_video.config.sections import Data
from bgan_video.errors import UserError

if TYPE_CHECKING:
    from bgan_video.config.schema import Config


def check(config: Config) -> None:
    """Refuse what cannot be meant.

    Raises:
        UserError: Says which settings, what is allowed, and what to do.
    """
    of_data, of_methods = (_layout, _of_layouts, _labels), (_baselines, _learning, _rounds, _shares)
    for part in (*of_data, _sampling, *of_methods, _pretext, _items, _pairs, _critics, _compat):
        part(config)


def _layout(config: Config) -> None:
    if (config.data.layout == "table") != bool(config.data.table):
        raise UserError(
            f"data.layout={config.data.layout} with data.table={config.data.table}: a table names "
            f"the videos of data.layout=table, and of no other; set both, or neither"
        )


_OF_LAYOUTS = {
    "train_on_unused": (("hmdb51",), "whose lists leave videos unused"),
    "classes": (("video_folder",), "whose classes are folders"),
    "groups": (("video_folder",), "whose files name none (a table has a column group)"),
    "groups_span_classes": (("ucf101",), "where g01 may be one recording of each class"),
    "lists": (("motion_shapes", "ucf101", "hmdb51"), "whose splits are lists"),
    "download": (("mnist", "cifar10", "svhn", "celeba"), "which torchvision can fetch"),
}
"""Settings of `data` that some layouts alone read, and why those."""


def _of_layouts(config: Config) -> None:
    layout, unset = config.data.layout, Data()
    for key, (layouts, why) in _OF_LAYOUTS.items():
        value, default = getattr(config.data, key), getattr(unset, key)
        if value != default and layout not in layouts:
            raise UserError(
                f"data.{key} is for data.layout={' or '.join(layouts)}, {why}; not for "
                f"data.layout={layout}: set it to {json.dumps(default)}"
            )


def _labels(config: Config) -> None:
    chosen = [key for key in LABEL_CHOICES if getattr(config.data, key) is not None]
    if len(chosen) > 1:
        raise UserError(
            f"data.{chosen[0]} and data.{chosen[1]} both choose the labels; set one to null"
        )
    if config.data.held_out_in_pool and config.data.held_out is None:
        raise UserError(
            "data.held_out_in_pool leaves the classes of data.held_out in the pool, and that names "
            "none; name some, or set it to false"
        )
    if config.train.class_weights != "none" and config.train.labelled_sampling == "balanced":
        raise UserError(
            f"train.class_weights={config.train.class_weights} and train.labelled_sampling="
            f"balanced both even the classes out, together too far; set one to none or natural"
        )
    if config.is_unsupervised and config.objective.consistency_weight > 0:
        raise UserError(
            "objective.consistency_weight needs classes, and data.num_labelled=0 has none; "
            "set it to 0"
        )


def _sampling(config: Config) -> None:
    p, steps = config.posterior, config.train.steps
    if not config.needs_schedule:
        return
    if p.burn_in >= steps:
        raise UserError(
            f"posterior.burn_in={p.burn_in} leaves no step to sample in; "
            f"allowed: below train.steps={steps}"
        )
    sampling = steps - p.burn_in
    if p.schedule != "cyclical" and sampling < p.thinning:
        raise UserError(
            f"posterior.thinning={p.thinning} takes no sample in the {sampling} steps after "
            f"burn-in; allowed: 1..{sampling}"
        )
    # A cycle explores for four fifths of its steps, and has to keep one step for sampling.
    if p.schedule == "cyclical" and sampling < 5 * p.num_cycles:
        raise UserError(
            f"posterior.schedule=cyclical: posterior.num_cycles={p.num_cycles} does not fit "
            f"into the {sampling} steps after burn-in; allowed: 1..{sampling // 5}"
        )
    if p.sampler == "adaptive_sghmc" and p.burn_in == 0:
        raise UserError(
            "posterior.sampler=adaptive_sghmc learns its step sizes in burn-in, and "
            "posterior.burn_in=0 has none; allowed: 1 and more"
        )
    cold = p.temperature == 0 or p.schedule == "cyclical" or "cold_gan" in config.baseline.methods
    if p.sampler == "mclmc" and cold:
        raise UserError(
            "posterior.sampler=mclmc has momenta whose length is the temperature's, and "
            "posterior.temperature=0, posterior.schedule=cyclical (which explores at 0) or "
            "cold_gan gives them none; take another sampler, or none of these"
        )
    most = 0.0 if p.integrator == "baoa" else p.friction
    if p.gradient_noise > most:
        raise UserError(
            f"posterior.gradient_noise={p.gradient_noise} with posterior.integrator="
            f"{p.integrator}; allowed: 0..{most:g} (posterior.friction; 0 for baoa)"
        )


def _baselines(config: Config) -> None:
    methods = config.baseline.methods
    if not methods or len(set(methods)) < len(methods):
        raise UserError(
            f"baseline.methods={list(methods)}: name at least one method, and each once"
        )
    if config.baseline.num_networks == 1 and "deep_ensemble" in methods:
        raise UserError("baseline.num_networks=1 is no ensemble; allowed: 2 and more, or null")
    if "cold_gan" in methods and not ("bayesian_gan" in methods and config.samples_posterior):
        raise UserError(
            "baseline.methods: cold_gan follows chains that sample; it needs bayesian_gan beside "
            "it, posterior.bayes=true and compat.adam=false"
        )
    if "cold_gan" in methods and config.discriminator.bodies:
        raise UserError(
            "baseline.methods: cold_gan follows the chains of one body, and discriminator.bodies "
            "names some; take one of them out"
        )
    on_features = [method for method in methods if method in ON_FEATURES]
    if on_features and config.spatial_dims != 3:
        raise UserError(
            f"baseline.methods: {on_features[0]} is for features of videos, not {config.items}; "
            f"take it out"
        )
    need_labels = [method for method in methods if method in NEED_LABELS]
    if config.is_unsupervised and need_labels:
        raise UserError(
            f"data.num_labelled=0 leaves {', '.join(need_labels)} nothing to learn; set "
            f"baseline.methods=[bayesian_gan]"
        )


def _learning(config: Config) -> None:
    """Without labels all that is left to learn is the game, which the first body plays."""
    if not config.is_unsupervised:
        return
    if not (config.has_generators or config.has_discriminators):
        raise UserError(
            "data.num_labelled=0 without a game leaves nothing to learn: "
            "objective.adversarial_weight=0 and critic.name=none; set the weight above 0, or "
            "critic.name=hybrid, or use labels"
        )
    if config.discriminator.bodies[1:]:
        raise UserError(
            f"data.num_labelled=0 leaves discriminator.bodies beyond the first "
            f"({', '.join(config.discriminator.bodies[1:])}) nothing to learn; name one body, or "
            f"use labels"
        )
    rivals = [m for m in config.baseline.methods if m in GANS and m != "bayesian_gan"]
    if rivals and not config.has_discriminators:
        raise UserError(
            f"data.num_labelled=0 beside critics leaves {', '.join(rivals)} no discriminator, and "
            f"nothing else is stored of a rival; set baseline.methods=[bayesian_gan], and compare "
            f"with a run of its own: posterior.bayes=false, or posterior.temperature=0"
        )


def _rounds(config: Config) -> None:
    rounds, r = config.train.rounds, config.rounds
    in_rounds = {*IN_ROUNDS} & {*config.baseline.methods}
    if rounds == 0 and in_rounds:
        raise UserError(
            f"baseline.methods: {min(in_rounds)} learns in rounds, and train.rounds=0 has none; "
            f"set train.rounds to 1 or more"
        )
    if rounds > 0 and config.is_unsupervised:
        raise UserError(
            "train.rounds believes classes, and data.num_labelled=0 has none; set train.rounds=0"
        )
    if (r.balance == "given") != (r.class_prior is not None):
        raise UserError(
            "rounds.balance=given and rounds.class_prior (a part for each class) go together; set "
            "both, or neither"
        )
    given = r.class_prior
    if given is not None and not (all(0 <= part < math.inf for part in given) and sum(given) > 0):
        raise UserError(f"rounds.class_prior={list(given)}; allowed: numbers from 0, not all 0")
    if rounds > 0 and config.train.labelled_batch_size == 1:
        raise UserError(
            "train.rounds puts pseudo-labels beside true ones, which keep half of every batch, and "
            "train.labelled_batch_size=1 has room for one; allowed: 2 and more"
        )


def _shares(config: Config) -> None:
    """One network a round would be `self_training` under another name."""
    p, rounds, given = config.posterior, 1 + config.train.rounds, config.baseline.num_networks
    sharing = [m for m in config.baseline.methods if m in ("self_training_ensemble", *DRAWN)]
    if sharing and given is not None and given < 2 * rounds:
        raise UserError(
            f"baseline.num_networks={given} leaves {sharing[0]} fewer than 2 networks in a round, "
            f"of 1 + train.rounds={rounds} rounds; allowed: {2 * rounds} and more, or null"
        )
    chains = p.num_discriminators * p.num_mcmc
    if "self_training_ensemble" in sharing and given is None and chains < 2:
        raise UserError(
            f"baseline.methods: self_training_ensemble has as many networks in a round as there "
            f"are chains, and one is none; set baseline.num_networks to {2 * rounds} or more"
        )
    if "swag" in sharing and config.train.steps < 8:
        raise UserError(
            f"baseline.methods: swag needs two iterates in the last quarter of the steps, and "
            f"train.steps={config.train.steps} has fewer; allowed: 8 and more"
        )


def _items(config: Config) -> None:
    c = config.clip
    if c.load_size is not None and c.load_size < c.size:
        raise UserError(
            f"clip.load_size={c.load_size} is below clip.size={c.size}; "
            f"allowed: at least clip.size, or null"
        )
    size = config.generator.size
    if size is not None and size != c.size and not config.has_critics:
        raise UserError(
            f"generator.size={size}, but the classifiers play the game and see clip.size={c.size}; "
            f"set critic.name=hybrid, or generator.size=null"
        )
    if config.spatial_dims == 3 or config.features.length:
        return
    if config.data.fold != 1:
        raise UserError(
            f"data.fold={config.data.fold}: data.layout={config.data.layout} has one split of its "
            f"own; allowed: 1"
        )
    if config.data.store is not None:
        raise UserError(
            f"data.store holds videos, but data.layout={config.data.layout} has {config.items}; "
            f"set it to null"
        )
    if config.data.segment_seconds is not None:
        raise UserError(
            f"data.segment_seconds cuts videos, but data.layout={config.data.layout} has "
            f"{config.items}; set it to null"
        )
    if c.fps is not None:
        raise UserError(
            f"clip.fps={c.fps:g}, but data.layout={config.data.layout} has {config.items}; set it "
            f"to null"
        )
    for key in ("num_frames", "stride", "test_clips", "test_crops"):
        if getattr(c, key) != 1:
            raise UserError(
                f"clip.{key}={getattr(c, key)}, but data.layout={config.data.layout} has "
                f"{config.items}; allowed: 1"
            )


def _pretext(config: Config) -> None:
    """The pretext task turns pictures, asks for time's direction, and teaches under Adam."""
    methods, d = {*config.baseline.methods}, config.discriminator
    if config.objective.pretext_weight == 0 or not methods & {*GANS}:
        return
    what = f"objective.pretext_weight={config.objective.pretext_weight:g}"
    if config.spatial_dims == 0:
        raise UserError(
            f"{what} turns pictures, and data.layout={config.data.layout} has {config.items}; "
            f"set it to 0"
        )
    if config.adam_steps == 0 and methods & {"bayesian_gan", "cold_gan"}:
        raise UserError(
            f"{what} teaches while Adam runs, and posterior.burn_in=0 leaves it no step; set it to "
            f"0, or posterior.burn_in to 1 or more"
        )
    if config.spatial_dims == 3 and config.clip.num_frames == 1:
        raise UserError(
            f"{what} asks for the direction of time, and clip.num_frames=1 has none; set it to 0, "
            f"or clip.num_frames to 2 or more"
        )
    averages = d.name.startswith("timm:") and d.temporal == "pool" and d.input == "rgb"
    if config.spatial_dims == 3 and averages:
        raise UserError(
            f"{what} asks for the direction of time, and discriminator.name={d.name} with "
            f"temporal=pool averages over frames; set it to 0, or discriminator.temporal=inflate "
            f"or discriminator.input=difference"
        )


def _pairs(config: Config) -> None:
    p = config.posterior
    if p.independent and p.num_z != p.num_discriminators:
        raise UserError(
            f"posterior.independent pairs each generator with a discriminator, but "
            f"posterior.num_z={p.num_z} and posterior.num_discriminators={p.num_discriminators}; "
            f"make them equal"
        )
    if p.independent and config.objective.consistency_weight > 0:
        raise UserError(
            "posterior.independent with objective.consistency_weight: the pseudo-labels are the "
            "mean over all chains; set one of them to 0 or false"
        )


def _critics(config: Config) -> None:
    if not config.has_critics:
        return
    if config.spatial_dims == 0:
        raise UserError(
            f"critic.name={config.critic.name} judges looks, and data.layout={config.data.layout} "
            f"has {config.items}; set it to none"
        )
    p, critics = config.posterior, config.critic.num
    if p.independent and critics != p.num_z:
        raise UserError(
            f"posterior.independent pairs each generator with a critic, but posterior.num_z="
            f"{p.num_z} and critic.num={critics}; make them equal"
        )


def _compat(config: Config) -> None:
    t = config.train
    pairs = config.compat.feature_matching == "huber"
    if pairs and config.objective.feature_matching_weight and t.fake_batch_size != t.batch_size:
        raise UserError(
            f"compat.feature_matching=huber compares fakes and real items pair by pair; set "
            f"train.fake_batch_size={t.batch_size}, as train.batch_size is"
        )
    if config.compat.adam and t.adam_schedule != "constant":
        raise UserError(
            "compat.adam adds the published codes' noise, which is made for one step size; set "
            "train.adam_schedule=constant"
        )
    if config.compat.adam and config.discriminator.body_lr != 1:
        raise UserError(
            "compat.adam adds the published codes' noise, which is made for one step size; set "
            "discriminator.body_lr=1"
        )
    if config.compat.first_labels and not config.data.num_labelled:
        raise UserError("compat.first_labels needs data.num_labelled: how many?")
