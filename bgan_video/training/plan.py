"""What a run would do, without doing it: `--dry-run`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from bgan_video import config as config_module
from bgan_video import launcher
from bgan_video.backend import Backend, resolve_backend
from bgan_video.config import DRAWN, FEATURES, ON_FEATURES, Config, Train
from bgan_video.data import layouts, splits
from bgan_video.data.frames import Frames
from bgan_video.data.labels import choice
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies
from bgan_video.method.rounds import check_prior, has_pool
from bgan_video.method.temperature import describe, noise_of, tempered
from bgan_video.method.timetable import (
    check_rivals,
    draws_in_run,
    posterior_size,
    rival_size,
    step_sizes,
)
from bgan_video.models import build_critic, build_generator, sized_discriminator
from bgan_video.models.bodies import PYTHON_PREFIX
from bgan_video.prediction.bodies import Body, kinds
from bgan_video.prediction.body_checks import body_settings
from bgan_video.prediction.body_checks import check as check_bodies
from bgan_video.prediction.body_checks import notes as body_notes
from bgan_video.training import compat, drawn, run_folder, trackers
from bgan_video.training.memory import peak_mib
from bgan_video.training.session import check_validation
from bgan_video.training.trainer import DataSize

# Weights, gradients and two moments of Adam, each float32.
_BYTES_PER_WEIGHT = 16
_ENSEMBLES = ("deep_ensemble", "self_training_ensemble")


class Kinds(NamedTuple):
    """A number for each kind of network."""

    discriminators: int
    critics: int
    generators: int


@dataclass(frozen=True)
class Alike:
    """Networks of one body, and the critics and generators of its game.

    Attributes:
        name: Of the body; empty where `discriminator.bodies` names none.
        config: Its settings.
        size: Parameters of one of each kind; 0 where there is none.
        frozen: How many of a discriminator's never move.
        counts: How many there are, by method.
    """

    name: str
    config: Config
    size: Kinds
    frozen: int
    counts: dict[str, Kinds]

    @property
    def weights(self) -> int:
        """Of all networks."""
        counts = self.counts.values()
        return sum(n * size for of in counts for n, size in zip(of, self.size, strict=True))

    @property
    def stored(self) -> int:
        """Weights of the classifiers that a run stores."""
        stored = sum(_stored(self.config, method) for method in self.counts)
        return stored * self.size.discriminators

    def __str__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        sizes = [f"{kind} of {size:,} parameters" for kind, size in self._there(self.size)]
        if self.frozen:
            sizes[0] += f" ({self.frozen:,} of them frozen)"
        counts = ", ".join(
            f"{method} {' + '.join(str(number) for _, number in self._there(count))}"
            for method, count in self.counts.items()
        )
        return f"networks: {name}{', '.join(sizes)}: {counts}"

    def _there(self, numbers: Kinds) -> Iterator[tuple[str, int]]:
        """Those of the kinds that there are, with their names."""
        of_kinds = zip(Kinds._fields, numbers, self.size, strict=True)
        return ((kind, number) for kind, number, size in of_kinds if size)


def networks(config: Config, bodies: Mapping[str, Config], num_classes: int) -> list[Alike]:
    """All networks of a run, but for those of methods on frozen features, which take no steps.

    Args:
        config: The run's settings.
        bodies: Those of the Bayesian GAN's bodies (`body_settings`).
        num_classes: K of the discriminators.

    Raises:
        UserError: The settings name networks, sizes or a schedule that cannot be.
    """
    if config.needs_schedule:
        step_sizes(config)
    methods = [method for method in config.baseline.methods if method not in ON_FEATURES]
    if not config.discriminator.bodies:
        return [_alike("", config, methods, num_classes)] if methods else []
    rivals = [method for method in methods if method != "bayesian_gan"]
    found = [_alike(config.discriminator.name, config, rivals, num_classes)] if rivals else []
    if "bayesian_gan" in methods:
        chains = bodies.items()
        found += [_alike(name, own, ["bayesian_gan"], num_classes) for name, own in chains]
    return found


def _alike(name: str, config: Config, methods: Sequence[str], num_classes: int) -> Alike:
    counts = {method: _networks(config, method) for method in methods}
    are_there = Kinds(*map(any, zip(*counts.values(), strict=True)))
    discriminator = learning = critic = generator = 0
    if are_there.discriminators:
        network = sized_discriminator(config, num_classes)
        discriminator, learning = _count(network), _count(network, learning=True)
    with torch.device("meta"):
        if are_there.critics:
            critic = _count(build_critic(config))
        if are_there.generators:
            generator = _count(build_generator(config))
    size = Kinds(discriminator, critic, generator)
    return Alike(name, config, size, discriminator - learning, counts)


def plan(config: Config) -> str:
    """The resolved settings, the networks' sizes, and the memory and data the run needs.

    Raises:
        UserError: Whatever would stop the run, as far as it shows without reading a video.
    """
    backend = resolve_backend(config.run, config.spatial_dims)
    frozen = FrozenBodies(backend)
    fits, bodies = check_bodies(config, frozen), body_settings(config, frozen)
    trackers.check(config)
    drawn.check(config)
    check_rivals(config)
    run_folder.settle(config, "run")  # a name that is taken says so
    _check_shares(config.train)
    manifest, frames = _data(config)
    t, c = config.train, config.clip
    num_classes = config.num_classes(manifest.num_classes)
    size = DataSize(num_classes, len(manifest.part("train")), len(manifest.labelled))
    alike = networks(config, bodies, num_classes)
    weights, stored = sum(a.weights for a in alike), sum(a.stored for a in alike) * 4
    splits_count = Counter(item.split for item in manifest.items)
    opened = _bodies(config, bodies, frames, num_classes)
    pixels = c.num_frames * c.size**2 if config.spatial_dims else 1
    item_mib = config.channels * pixels * 4 / 2**20
    cached = f"up to {config.data.cache_mib} MiB of decoded {config.items}"
    if config.data.store:
        cached = f"{config.items} from {config.data.store}"
    lines = [
        config_module.to_yaml(config).rstrip(),
        "",
        f"data: {manifest.name}, fold {manifest.fold}, {manifest.num_classes} classes; "
        f"{splits_count['train']} training {config.items}, "
        f"{len(manifest.labelled)} of them labelled, {splits_count['validation']} for validation, "
        f"{splits_count['test']} for test",
        *(f"note: {remark}" for remark in choice.remarks(manifest, config.data)),
        *(f"note: {note}" for note in body_notes(config)),
        *map(str, alike),
        *(f"weights: {fit}" for fit in fits),
        f"memory: {_memory(config, size, backend, opened)} at the peak of a training step, "
        f"{weights * _BYTES_PER_WEIGHT / 2**20:.0f} MiB of them for weights and optimisers, "
        f"{item_mib:.2f} MiB a sample; {cached}; {stored / 2**20:.0f} MiB of classifiers on disk",
        *_noise(config, alike, size.num_unlabelled),
        *_rounds(config, manifest),
        f"compute: {config.total_steps} steps of {t.labelled_batch_size} labelled and "
        f"{t.batch_size} unlabelled samples, {backend.precision} on {backend.hardware}",
    ]
    return "\n".join(lines)


def _data(config: Config) -> tuple[Manifest, Frames]:
    """The videos that are listed, of which none is read."""
    listed = layouts.read(config.data)
    frames = Frames(listed.root, config)  # a store that does not serve says so
    manifest = splits.split(listed, config.data, first_labels=config.compat.first_labels)
    check_prior(config.rounds, manifest.num_classes)
    if not manifest.labelled and not config.is_unsupervised:
        raise UserError(
            f"none of the training {config.items} of {listed.root} is labelled in fold "
            f"{config.data.fold}"
        )
    check_validation(config, manifest)
    return manifest, frames


def _check_shares(train: Train) -> None:
    """As `ranks.mine` refuses, of processes that have not met."""
    processes = launcher.launched()
    for key in ("batch_size", "labelled_batch_size"):
        if getattr(train, key) % processes:
            raise UserError(
                f"train.{key}={getattr(train, key)} cannot be shared by {processes} processes; "
                f"allowed: multiples of {processes}"
            )


def _bodies(
    config: Config, bodies: Mapping[str, Config], frames: Frames, num_classes: int
) -> list[Body]:
    """The bodies of the Bayesian GAN, of which nothing is read."""
    if not (config.discriminator.bodies and "bayesian_gan" in config.baseline.methods):
        return []
    named = zip(bodies.items(), kinds(config), strict=True)
    return [Body(name, kind, own, frames, num_classes) for (name, own), kind in named]


def _memory(config: Config, size: DataSize, backend: Backend, bodies: Sequence[Body]) -> str:
    """Of a step of tensors without numbers, which not every body of a user's can take."""
    try:
        return f"{peak_mib(config, size, backend, bodies):.0f} MiB"
    except RuntimeError:
        names = (of.discriminator.name for of in (config, *(body.config for body in bodies)))
        own = next((name for name in names if name.startswith(PYTHON_PREFIX)), None)
        if own is None:
            raise
        return f"an unknown amount ({own} computes with its numbers)"


def _noise(config: Config, alike: Sequence[Alike], num_data: int) -> list[str]:
    """What the first body's chains are sampled at."""
    first = next((a for a in alike if "bayesian_gan" in a.counts), None)
    if first is None or not (config.samples_posterior and config.has_discriminators):
        return []
    if first.name.startswith(FEATURES):
        return [f"noise: features.temperature={config.features.temperature:g}"]
    noise = noise_of(first.config, first.size.discriminators - first.frozen, num_data)
    own = tempered(first.config, noise)
    of_chains = compat.temperature(own, "discriminator", own.posterior.lr, num_data)
    return [describe(dataclasses.replace(noise, temperature=of_chains), config.items)]


def _rounds(config: Config, manifest: Manifest) -> list[str]:
    """The bodies, and what the rounds will believe."""
    bodies = config.discriminator.bodies
    lines = [f"bodies: {', '.join(bodies)}, each with chains of its own"] if bodies else []
    if config.train.rounds == 0:
        return lines
    labelled = len(manifest.labelled)
    pool = len(manifest.part("train")) - labelled
    if not has_pool(config.rounds, labelled, pool):
        believed = f"nothing is believed: rounds.min_pool={config.rounds.min_pool:g}"
    else:
        believed = f"in the end up to {int(config.rounds.believed * pool)} are believed"
    return [
        *lines,
        f"rounds: {config.train.rounds} after the first, of {config.train.steps} steps each; "
        f"{pool} unlabelled {config.items} stand against {labelled} labelled ones; {believed}",
    ]


def _networks(config: Config, method: str) -> Kinds:
    """How many networks of each kind a method trains."""
    p, is_game = config.posterior, config.has_generators
    if method in ("bayesian_gan", "cold_gan"):
        discriminators = p.num_discriminators * config.has_discriminators
        critics = config.critic.num * config.has_critics
        return Kinds(*(p.num_mcmc * n for n in (discriminators, critics, p.num_z * is_game)))
    if method == "ml_gan":
        return Kinds(int(config.has_discriminators), int(config.has_critics), int(is_game))
    if method in _ENSEMBLES:
        return Kinds(rival_size(config), 0, 0)
    averages = method in ("mean_teacher", "fixmatch")
    return Kinds(1 + averages, 0, 0)


def _stored(config: Config, method: str) -> int:
    """How many classifiers of a method a run stores."""
    if method in ("bayesian_gan", "cold_gan"):
        return posterior_size(config)
    if method in DRAWN:
        return draws_in_run(config)
    return rival_size(config) if method in _ENSEMBLES else 1


def _count(network: nn.Module, learning: bool = False) -> int:
    """Of all parameters, or of those that learn."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)
