"""What the clip store is worth: clips a second, and how long training waits for them.

python -m benchmarks.store
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.__main__ import interleaved
from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import layouts, motion_shapes
from bgan_video.data.frames import Frames, survey
from bgan_video.data.manifest import Item
from bgan_video.data.store import prepare
from bgan_video.training import console, loop, run_folder
from bgan_video.video import clips

# Enough for a mean over starts and videos, few enough to alternate often.
CLIPS = 64
STEPS = 60


class Raw(Dataset[torch.Tensor]):
    """Clips of 16 frames at stride 2 from a random start, as they are stored."""

    def __init__(self, items: Sequence[Item], frames: Frames) -> None:
        self.items, self._frames = items, frames

    def __getitem__(self, number: int) -> torch.Tensor:
        random = np.random.default_rng(number)
        item = self.items[random.integers(len(self.items))]
        indices = clips.random_clip(item.num_frames, 16, 2, "loop", random.random())
        return torch.from_numpy(self._frames.read(item, indices))


def raw_clips(of: Config) -> Raw:
    """With nothing kept in memory."""
    manifest = layouts.read(of.data)
    frames = Frames(manifest.root, of)
    readable, _ = survey(manifest, frames, of)
    return Raw(readable.items, frames)


def one_thread(of: Raw) -> Callable[[], object]:
    numbers = iter(range(10**9))
    return lambda: [of[next(numbers)] for _ in range(CLIPS)]


def two_workers(of: Raw) -> Callable[[], object]:
    """Of a loader that was started before, 32 clips a batch."""
    endless: Iterator[list[int]] = ([32 * b + i for i in range(32)] for b in range(10**6))
    batches = iter(DataLoader(of, batch_sampler=endless, num_workers=2))
    return lambda: [next(batches) for _ in range(CLIPS // 32)]


def reading(root: Path, folder: Path) -> None:
    where = ["data.layout=ucf101", f"data.root={root}", "clip.size=64", "clip.load_size=64"]
    stored = config.load(None, [*where, f"data.store={folder}"])
    prepare.prepare(layouts.read(stored.data), stored, console.say, console.progress)
    began = time.perf_counter()
    raw = raw_clips(stored)
    print(f"survey of {len(raw.items)} videos from the store: {time.perf_counter() - began:.2f} s")
    variants = {"store, 1 thread": one_thread(raw), "store, 2 workers": two_workers(raw)}
    for decoder in ("decord", "pyav"):
        direct = config.load(None, [*where, "data.cache_mib=0", f"data.decoder={decoder}"])
        variants[f"{decoder}, 1 thread"] = one_thread(raw_clips(direct))
    print("clips of 16 frames at 64x64")
    for name, seconds in interleaved(variants).items():
        print(f"  {name:20} {CLIPS / seconds:9.0f} clips/s")


def waiting(root: Path, place: Path) -> None:
    """The part of a step that the loop waits for data, past the start of the loaders."""
    sources = {
        "store": [f"data.store={place / 'demo.store'}"],
        "store, 2 workers": [f"data.store={place / 'demo.store'}", "data.num_workers=2"],
        "files": ["data.cache_mib=0"],
        "files, 2 workers": ["data.cache_mib=0", "data.num_workers=2"],
    }
    short = [f"train.steps={STEPS}", "posterior.burn_in=40", "train.evaluate_every=1000"]
    print(f"waiting for data in {STEPS} steps of configs/demo.yaml")
    for name, source in sources.items():
        words = [*source, *short, f"data.root={root}", f"run.dir={place}"]
        of = config.load("configs/demo.yaml", [*words, f"run.name={name.replace(', ', '-')}"])
        if of.data.store:
            prepare.prepare(layouts.read(of.data), of, console.say, console.progress)
        with ExitStack() as held:
            folder = loop.train(run_folder.settle(of, name), held)
        lines: list[Any] = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()]
        waited, seconds = (sum(x[key] for x in lines[1:]) for key in ("data_seconds", "seconds"))
        step = seconds / (STEPS - lines[0]["step"])
        print(f"  {name:20} {100 * waited / seconds:5.1f} % of {1000 * step:.0f} ms a step")


if __name__ == "__main__":
    root = motion_shapes.default_root()
    motion_shapes.render(root)
    with tempfile.TemporaryDirectory() as scratch:
        reading(root, Path(scratch) / "64.store")
        waiting(root, Path(scratch))
