"""What features cost: extraction against a plain loop, and training on ten thousand videos.

    python -m benchmarks.features

The plain loop decodes the same frames with the same decoder, cuts them and runs the same body on
them, a video at a time; `bgan-video features` beside it decodes ahead, sums up, hashes and writes.
The large store holds noise, 10 clips x 1,280 numbers a video, of copies of rendered clips.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from benchmarks.__main__ import interleaved
from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data import feature_store, layouts, motion_shapes
from bgan_video.data.cutting import Length, rows_of, uniform_clips
from bgan_video.data.manifest import Manifest
from bgan_video.data.transforms import test_view
from bgan_video.features import FrozenBody, extraction, frozen_body
from bgan_video.files import source_fingerprint
from bgan_video.prediction.judging import FINISHED
from bgan_video.training import loop, run_folder
from bgan_video.video.reader import open_video

VIDEOS = 8
RUNS = ((2_000, 0), (10_000, 0), (10_001, 1024))
"""Videos, and `data.cache_mib`; each number of videos once, since it names the run's folder."""
SHARD = 250


def extracting(root: Path, place: Path) -> None:
    """Seconds of `bgan-video features` over those of a plain loop, in turns."""
    words = ["data.layout=motion_shapes", f"data.root={root}"]
    of = config.load(None, words)
    body = frozen_body(of.features, resolve_backend(of.run, 3))
    whole = layouts.read(of.data)
    some = dataclasses.replace(whole, items=whole.items[:VIDEOS])
    number = iter(range(10**6))

    def stored() -> None:
        fresh = config.load(None, [*words, f"features.store={place / str(next(number))}"])
        extraction.extract(some, fresh, body, lambda _: None, lambda items, *_: items)

    variants = {"features": stored, "plain": lambda: plain(some, of, body)}
    seconds = interleaved(variants, repeats=5, warm_up=1)
    ratio = seconds["features"] / seconds["plain"]
    print(f"features of {VIDEOS} videos, {body.name}: {seconds['features']:.1f} s")
    print(f"  a plain loop: {seconds['plain']:.1f} s; ratio {ratio:.2f}")


def plain(some: Manifest, of: Config, body: FrozenBody) -> None:
    """What anybody would write."""
    for item in some.items:
        with open_video(Path(some.root) / item.path, of.data.decoder, body.size) as reader:
            wanted, _ = rows_of(uniform_clips(Length(len(reader)), of.clip, of.features.clips))
            images = test_view(reader.read(wanted), body.size, body.size, "centre", 3)
            body(rearrange(images, "c t h w -> t c h w"))


def many_videos(root: Path, folder: Path, count: int) -> None:
    """A folder of classes with `count` copies of rendered clips."""
    clips = sorted(root.rglob("*.mp4")) or sorted(root.rglob("*.avi"))
    for number in range(count):
        source = clips[number % len(clips)]
        target = folder / source.parent.name / f"{number:05d}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def fill_with_noise(of: Config) -> None:
    """A feature store of all videos, whose classes lie a little apart."""
    body = frozen_body(of.features, resolve_backend(of.run, 3))
    manifest = layouts.read(of.data)
    folder = extraction.store_folder(of, body)
    folder.mkdir(parents=True)
    (folder / feature_store.SETTINGS).write_text(json.dumps(body.settings(of)))
    made = body.settings(of)
    shape = (of.features.clips, len(made["summaries"]), made["num_features"])
    random = np.random.default_rng(0)
    centres = random.standard_normal((manifest.num_classes, *shape[1:]), np.float32)
    for start in range(0, len(manifest.items), SHARD):
        found = []
        for item in manifest.items[start : start + SHARD]:
            print_of = source_fingerprint(Path(manifest.root) / item.path)
            record = feature_store.FeatureRecord(item.path, print_of, num_frames=16)
            noise = random.standard_normal(shape, np.float32)
            found.append((record, noise + 0.3 * centres[item.label]))
        feature_store.append(folder, found)


def training(root: Path, place: Path, count: int, cache_mib: int) -> dict[str, float]:
    """Seconds and peak memory of a run with rounds on a store of `count` videos.

    The peak is that of this process so far: a later run that needs less shows nothing.
    """
    videos = place / f"videos-{count}"
    many_videos(root, videos, count)
    of = config.load(
        "configs/video_folder_pretrained.yaml",
        [
            f"data.root={videos}",
            "data.labels_per_class=8",
            f"data.cache_mib={cache_mib}",
            "features.clips=10",
            f"features.store={place / f'features-{count}'}",
            f"run.dir={place}",
            f"run.name=run-{count}",
            "baseline.methods=[bayesian_gan]",
        ],
    )
    fill_with_noise(of)
    began = time.perf_counter()
    with ExitStack() as held:
        folder = loop.train(run_folder.settle(of, "features"), held)
    seconds = time.perf_counter() - began
    lines: list[Any] = [json.loads(x) for x in (folder / "log.jsonl").read_text().splitlines()]
    finished = json.loads((folder / FINISHED).read_text())
    return {
        "seconds, all": seconds,
        "seconds of steps": sum(line["seconds"] for line in lines),
        "peak MiB": finished["peak_memory_mib"],
    }


def main() -> None:
    root = motion_shapes.default_root()
    motion_shapes.render(root)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        extracting(root, place)
        for count, cache_mib in RUNS:
            found = training(root, place, count, cache_mib)
            said = ", ".join(f"{name} {value:.0f}" for name, value in found.items())
            print(f"{count} videos x 10 clips x 1,280 numbers, {cache_mib} MiB kept: {said}")


if __name__ == "__main__":
    main()
