"""What a run would do, without doing it: `--dry-run`."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from bgan_video import config as config_module
from bgan_video.backend import Backend, resolve_backend
from bgan_video.config import FEATURES, Config, Method
from bgan_video.data import layouts, splits
from bgan_video.data.frames import Frames
from bgan_video.data.labels import choice
from bgan_video.data.manifest import Manifest
from bgan_video.method.rounds import check_prior, has_pool
from bgan_video.method.temperature import describe, noise_of
from bgan_video.method.timetable import posterior_size, rival_size, step_sizes
from bgan_video.models import build_generator, sized_discriminator
from bgan_video.models.bodies import PYTHON_PREFIX
from bgan_video.prediction.bodies import names as body_names
from bgan_video.prediction.body_checks import check as check_bodies
from bgan_video.training import trackers
from bgan_video.training.memory import peak_mib
from bgan_video.training.trainer import DataSize

# Weights, gradients and two moments of Adam, each float32.
_BYTES_PER_WEIGHT = 16


def network_sizes(config: Config, num_classes: int) -> tuple[int, int]:
    """Parameters of a discriminator and of a generator.

    Raises:
        UserError: The settings name networks, sizes or a schedule that cannot be.
    """
    if config.needs_schedule:
        step_sizes(config)
    discriminator, generator, _ = _parameters(config, num_classes)
    return discriminator, generator


def _parameters(config: Config, num_classes: int) -> tuple[int, int, int]:
    """Of a discriminator, of a generator, and how many of the former are frozen."""
    with torch.device("meta"):
        generator = _count(build_generator(config))
    network = sized_discriminator(config, num_classes)
    discriminator = _count(network)
    return discriminator, generator, discriminator - _count(network, learning=True)


def plan(config: Config) -> str:
    """The resolved settings, the networks' sizes, and the memory and data the run needs.

    Raises:
        UserError: Whatever would stop the run, as far as it shows without reading a video.
    """
    backend = resolve_backend(config.run, config.spatial_dims)
    fits = check_bodies(config, backend)
    network_sizes(config, num_classes=2)
    trackers.check(config)
    listed = layouts.read(config.data)
    if config.data.store:
        Frames(listed.root, config)  # a store that does not serve says so
    manifest = splits.split(listed, config.data, first_labels=config.compat.first_labels)
    check_prior(config.rounds, manifest.num_classes)
    t, c = config.train, config.clip
    num_classes = config.num_classes(manifest.num_classes)
    size = DataSize(num_classes, len(manifest.part("train")), len(manifest.labelled))
    discriminator, generator, frozen = _parameters(config, num_classes)
    counts = {method: _networks(config, method) for method in config.baseline.methods}
    weights = sum(d * discriminator + g * generator for d, g in counts.values())
    stored = sum(_stored(config, method) for method in config.baseline.methods) * discriminator * 4
    splits_count = Counter(item.split for item in manifest.items)
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
        f"networks: discriminators of {discriminator:,} parameters"
        + (f" ({frozen:,} of them frozen)" if frozen else "")
        + f", generators of {generator:,}: "
        + ", ".join(f"{method} {d} + {g}" for method, (d, g) in counts.items()),
        *(f"weights: {fit}" for fit in fits),
        f"memory: {_memory(config, size, backend)} at the peak of a training step, "
        f"{weights * _BYTES_PER_WEIGHT / 2**20:.0f} MiB of them for weights and optimisers, "
        f"{item_mib:.2f} MiB a sample; {cached}; {stored / 2**20:.0f} MiB of classifiers on disk",
        *_noise(config, discriminator - frozen, size.num_unlabelled),
        *_rounds(config, manifest),
        f"compute: {config.total_steps} steps of {t.labelled_batch_size} labelled and "
        f"{t.batch_size} unlabelled samples, {backend.precision} on {backend.hardware}",
    ]
    return "\n".join(lines)


def _memory(config: Config, size: DataSize, backend: Backend) -> str:
    """Of a step of tensors without numbers, which not every body of a user's can take."""
    try:
        return f"{peak_mib(config, size, backend):.0f} MiB"
    except RuntimeError:
        if not config.discriminator.name.startswith(PYTHON_PREFIX):
            raise
        return f"an unknown amount ({config.discriminator.name} computes with its numbers)"


def _noise(config: Config, weights: int, num_data: int) -> list[str]:
    """What the first body's chains are sampled at; a features body's d is known once it is open."""
    samples = config.samples_posterior and config.has_discriminators
    if not (samples and "bayesian_gan" in config.baseline.methods):
        return []
    if body_names(config)[0].startswith(FEATURES):
        return [f"noise: features.temperature={config.features.temperature:g}"]
    return [describe(noise_of(config, weights, num_data), config.items)]


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


def _networks(config: Config, method: Method) -> tuple[int, int]:
    """How many networks of a discriminator's body, and how many generators, a method trains."""
    p, is_game = config.posterior, config.has_generators
    if method in ("bayesian_gan", "cold_gan"):
        discriminators = p.num_discriminators * config.has_discriminators
        return discriminators * p.num_mcmc, p.num_z * p.num_mcmc * is_game
    if method == "ml_gan":
        return int(config.has_discriminators), int(is_game)
    if method == "deep_ensemble":
        return rival_size(config), 0
    averages = method in ("mean_teacher", "fixmatch")
    return 1 + averages, 0


def _stored(config: Config, method: Method) -> int:
    """How many classifiers of a method a run stores."""
    if method in ("bayesian_gan", "cold_gan"):
        return posterior_size(config)
    return rival_size(config) if method == "deep_ensemble" else 1


def _count(network: nn.Module, learning: bool = False) -> int:
    """Of all parameters, or of those that learn."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not learning)
