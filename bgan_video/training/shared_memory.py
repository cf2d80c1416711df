"""Whether the batches that loading processes hand over fit where they lie until they are taken."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bgan_video import ranks
from bgan_video.backend import on_cuda
from bgan_video.data.loading import Stream

# Where Linux keeps memory that processes share; containers often have 64 MiB of it.
SHARED = Path("/dev/shm")
# Steps whose batches each process of torch's DataLoader has ready or in the making.
_AHEAD = 2
_MIB = 2**20


def waiting_mib(streams: Collection[Stream[Any] | None], num_workers: int) -> float:
    """The MiB of batches that lie there at once: of the steps ahead, and of the one that learns.

    Args:
        streams: Of the run.
        num_workers: Processes that load them, of each of the run's ranks on this machine.
    """
    of_step = sum(_nbytes(stream) for stream in streams if stream is not None and stream.is_loaded)
    return ranks.on_machine() * (_AHEAD * num_workers + 1) * of_step / _MIB


def note(streams: Collection[Stream[Any] | None]) -> str | None:
    """A line where they do not fit, which would end the run with a bus error; None where they do.

    Args:
        streams: What the run is about to learn from.
    """
    chosen = max((s.config.data.num_workers for s in streams if s is not None), default=0)
    if chosen == 0 or not SHARED.is_dir():
        return None
    wanted, free = waiting_mib(streams, chosen), shutil.disk_usage(SHARED).free / _MIB
    if wanted <= free:
        return None
    fitting = max(n for n in range(chosen) if n == 0 or waiting_mib(streams, n) <= free)
    return (
        f"note: data.num_workers={chosen} loading processes keep up to {wanted:.0f} MiB of batches "
        f"in shared memory, and {SHARED} has {free:.0f} MiB left; give the container more "
        f"(docker run --shm-size=1g), or set data.num_workers={fitting}"
    )


def _nbytes(stream: Stream[Any]) -> int:
    """Of a batch's views; a GPU is handed bytes in place of floats."""
    config, clip = stream.config, stream.config.clip
    frames = clip.num_frames if config.spatial_dims == 3 else 1
    per_view = frames * clip.size**2 * config.channels * (1 if on_cuda(config.run) else 4)
    return len(stream.own) * stream.views * per_view
