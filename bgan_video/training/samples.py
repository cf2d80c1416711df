"""Pictures and films of real and generated items, from fixed latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor

from bgan_video import rng
from bgan_video.config import Config
from bgan_video.evaluation import sheets
from bgan_video.training.trainer import Trainer, draw_latents

NUM_SAMPLES = {2: 64, 3: 8}
"""A grid of 8 × 8 images, or 8 rows of a clip's frames. Vectors have no picture."""
FRAMES_PER_SECOND = 8.0


def write_real(folder: Path, items: Tensor, config: Config) -> None:
    """`real_samples.png`, and `.mp4` of clips: training items as the networks see them."""
    _write(folder / "real_samples", items, config)


@torch.no_grad()
def write_fake(folder: Path, trainer: Trainer, epoch: int) -> None:
    """A sheet, and a film of clips, of each generator chain, always from the same latents."""
    config = trainer.config
    if config.spatial_dims == 0:
        return
    for index, chain in enumerate(trainer.generators):
        seed = rng.generator(config.run.seed, "samples", index)
        z = draw_latents(config, NUM_SAMPLES[config.spatial_dims], seed)
        chain.network.eval()
        items = chain.network(z.to(trainer.backend.device)).items
        chain.network.train()
        group, member = divmod(index, config.posterior.num_mcmc)
        name = f"fake_samples_epoch_{epoch:03d}_G_z{group:02d}_m{member:02d}"
        _write(folder / name, items, config)


def _write(path: Path, items: Tensor, config: Config) -> None:
    if config.spatial_dims == 0:
        return
    pixels = _to_uint8(items[: NUM_SAMPLES[config.spatial_dims]])
    if config.spatial_dims == 2:
        sheets.write_png(path.with_suffix(".png"), sheets.image_grid(pixels))
        return
    sheets.write_png(path.with_suffix(".png"), sheets.contact_sheet(pixels))
    sheets.write_mp4(path.with_suffix(".mp4"), pixels, FRAMES_PER_SECOND)


def _to_uint8(items: Tensor) -> np.ndarray:
    """From `[N, C, (T,) H, W]` in [-1, 1], of 1 or 3 colours, to uint8 `[N, (T,) H, W, 3]`."""
    pixels = ((items.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    pixels = rearrange(pixels, "n c ... -> n ... c")
    if pixels.shape[-1] == 1:
        pixels = repeat(pixels, "... 1 -> ... c", c=3)
    return pixels.numpy()
