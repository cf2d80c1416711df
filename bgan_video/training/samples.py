"""Pictures and films of real and generated items, from fixed latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bgan_video import rng
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.media import pictures
from bgan_video.models import draw_latents

NUM_SAMPLES = {0: 0, 2: 64, 3: 8}
"""A grid of 8 × 8 images, or 8 rows of a clip's frames. Vectors have no picture."""


def write_real(folder: Path, items: Tensor, config: Config) -> None:
    """`real_samples.png`, and `.mp4` of clips: training items as the networks see them."""
    shown = items[: NUM_SAMPLES[config.spatial_dims]]
    pictures.write(folder / "real_samples", shown, config.spatial_dims)


@torch.no_grad()
def write_fake(
    folder: Path, config: Config, backend: Backend, generators: Sequence[nn.Module], epoch: int
) -> None:
    """A sheet, and a film of clips, of each generator chain, always from the same latents."""
    for index, network in enumerate(generators):
        seed = rng.generator(config.run.seed, "samples", index)
        z = draw_latents(config, NUM_SAMPLES[config.spatial_dims], seed)
        network.eval()
        items = network(z.to(backend.device)).items
        network.train()
        group, member = divmod(index, config.posterior.num_mcmc)
        name = f"fake_samples_epoch_{epoch:03d}_G_z{group:02d}_m{member:02d}"
        pictures.write(folder / name, items, config.spatial_dims)
