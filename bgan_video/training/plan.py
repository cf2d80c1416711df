"""What a run would do, without doing it: `--dry-run`."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from bgan_video import config as config_module
from bgan_video import precision
from bgan_video.config import Config
from bgan_video.data import labels, layouts, splits
from bgan_video.data.frames import Frames
from bgan_video.models import build_discriminator, build_generator
from bgan_video.training.chains import step_sizes

# Weights, gradients and two moments of Adam, each float32.
_BYTES_PER_WEIGHT = 16


def network_sizes(config: Config, num_classes: int) -> tuple[int, int]:
    """Parameters of a discriminator and of a generator, without memory for them.

    Raises:
        UserError: The settings name networks, sizes or a schedule that cannot be.
    """
    if config.samples_posterior:
        step_sizes(config)
    with torch.device("meta"):
        discriminator = build_discriminator(config.without_weights(), num_classes)
        return _count(discriminator), _count(build_generator(config))


def plan(config: Config) -> str:
    """The resolved settings, the networks' sizes, and the memory and data the run needs.

    Raises:
        UserError: Whatever would stop the run, as far as it shows without reading a video.
    """
    backend = precision.resolve(config.run)
    listed = layouts.read(config.data)
    if config.data.store:
        Frames(listed.root, config)  # a store that does not serve says so
    manifest = splits.split(listed, config.data, first_labels=config.compat.first_labels)
    p, t, c = config.posterior, config.train, config.clip
    discriminator, generator = network_sizes(config, config.num_classes(manifest.num_classes))
    num_d = p.num_discriminators * p.num_mcmc
    num_g = p.num_z * p.num_mcmc if config.objective.adversarial_weight > 0 else 0
    b = config.baseline
    num_baselines = max(b.supervised, b.ensemble) + (b.mc_dropout > 0)
    copies = 1 + b.cold
    weights = (copies * num_d + num_baselines) * discriminator + copies * num_g * generator
    bank = (p.max_samples if config.samples_posterior else 1) * copies * num_d * discriminator * 4
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
        *(f"note: {remark}" for remark in labels.remarks(manifest, config.data)),
        f"networks: {num_d} discriminators of {discriminator:,} parameters, "
        f"{num_g} generators of {generator:,}"
        + (" (all of them again at temperature 0)" if b.cold else "")
        + (f", {num_baselines} on the labels alone" if num_baselines else ""),
        f"memory: {weights * _BYTES_PER_WEIGHT / 2**20:.0f} MiB for weights and optimisers, "
        f"{item_mib:.2f} MiB a sample, {cached}, {bank / 2**20:.0f} MiB of posterior samples on "
        f"disk",
        f"compute: {t.steps} steps of {t.labelled_batch_size} labelled and {t.batch_size} "
        f"unlabelled samples, {backend.precision} on {backend.hardware}",
    ]
    return "\n".join(lines)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
