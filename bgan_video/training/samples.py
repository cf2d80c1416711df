"""Pictures and films of real and generated clips, from fixed latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from bgan_video import rng
from bgan_video.evaluation import sheets
from bgan_video.training.trainer import Trainer

NUM_SAMPLES = 8
FRAMES_PER_SECOND = 8.0


def write_real(folder: Path, clips: Tensor) -> None:
    """`real_samples.png` and `.mp4` of training clips as the networks see them."""
    _write(folder / "real_samples", clips[:NUM_SAMPLES])


@torch.no_grad()
def write_fake(folder: Path, trainer: Trainer, epoch: int) -> None:
    """A sheet and a film of each generator chain, always from the same latents."""
    config = trainer.config
    for index, chain in enumerate(trainer.generators):
        seed = rng.generator(config.run.seed, "samples", index)
        z = torch.randn((NUM_SAMPLES, config.generator.latent_dim), generator=seed)
        chain.network.eval()
        clips = chain.network(z.to(trainer.backend.device)).items
        chain.network.train()
        group, member = divmod(index, config.posterior.num_mcmc)
        _write(folder / f"fake_samples_epoch_{epoch:03d}_G_z{group:02d}_m{member:02d}", clips)


def _write(path: Path, clips: Tensor) -> None:
    frames = _to_uint8(clips)
    sheets.write_png(path.with_suffix(".png"), sheets.contact_sheet(frames))
    sheets.write_mp4(path.with_suffix(".mp4"), frames, FRAMES_PER_SECOND)


def _to_uint8(clips: Tensor) -> np.ndarray:
    """From `[N, 3, T, H, W]` in [-1, 1] to uint8 `[N, T, H, W, 3]`."""
    pixels = ((clips.float().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()
    return rearrange(pixels, "n c t h w -> n t h w c").numpy()
