"""Whether the batches that loading processes hand over fit where they lie until they are taken."""

from __future__ import annotations

import shutil
from pathlib import Path

from bgan_video.backend import on_cuda
from bgan_video.config import Config

# Where Linux keeps memory that processes share; containers often have 64 MiB of it.
SHARED = Path("/dev/shm")
# Batches that each process of torch's DataLoader has ready or in the making.
_AHEAD = 2
_MIB = 2**20


def waiting_mib(config: Config) -> float:
    """The MiB of all batches that wait at once, of the labelled and of the unlabelled stream."""
    clip, t = config.clip, config.train
    frames = clip.num_frames if config.spatial_dims == 3 else 1
    pixels = frames * clip.size**2 * config.channels
    per_view = pixels * (1 if on_cuda(config.run) else 4)
    views = t.labelled_batch_size
    if config.needs_unlabelled:
        views += t.batch_size * (2 if config.needs_strong_views else 1)
    return config.data.num_workers * _AHEAD * views * per_view / _MIB


def note(config: Config) -> str | None:
    """A line where they do not fit, which would end the run with a bus error; None where they do.

    Args:
        config: The run's settings.
    """
    if not SHARED.is_dir() or not config.sees_clips:
        return None
    wanted, free = waiting_mib(config), shutil.disk_usage(SHARED).free / _MIB
    if wanted <= free:
        return None
    return (
        f"note: data.num_workers={config.data.num_workers} loading processes keep up to "
        f"{wanted:.0f} MiB of batches in shared memory, and {SHARED} has {free:.0f} MiB left; "
        f"give the container more (docker run --shm-size=1g), or set data.num_workers=0"
    )
