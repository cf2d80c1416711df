"""Clips a second from video files: ours against what the decoders do by themselves.

    python -m benchmarks.decoding [FOLDER]
    python -m benchmarks.decoding --long [FOLDER]  # videos of up to an hour, made there

A clip is 16 frames in a row from a random start of a random file, opening included. The folder is
searched for videos at any depth; without one, it is `motion_shapes`.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.nn import functional
from torchvision.datasets.video_utils import VideoClips

from benchmarks import long_videos
from benchmarks.__main__ import interleaved
from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.data.manifest import VIDEO_SUFFIXES
from bgan_video.errors import UserError
from bgan_video.video.decoders import Decoder, passes
from bgan_video.video.reader import open_video, read_all

NUM_FRAMES = 16
NUM_FILES = 64
SIZES = (64, 112)
WORKERS = 2
CLIPS_PER_TURN = 16

# A file and the number of its frames; a way to read frames `start` to `start + 16` at a short side.
Video = tuple[Path, int]
Read = Callable[[Path, int, int], np.ndarray]


def ours(decoder: Decoder, path: Path, start: int, size: int) -> np.ndarray:
    with open_video(path, decoder, size) as video:
        return video.read(range(start, start + NUM_FRAMES))


def decord_seeking(path: Path, start: int, size: int) -> np.ndarray:
    """decord's own way: not exact where a file has B-frames."""
    import decord

    width, height = _shape(path, size)
    reader = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
    return reader.get_batch(range(start, min(start + NUM_FRAMES, len(reader)))).asnumpy()


def pyav_seeking(path: Path, start: int, size: int) -> np.ndarray:
    """To the keyframe before a time stamp, then forwards: not exact where stamps are missing."""
    width, height = _shape(path, size)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        when = start / float(stream.average_rate or 25)
        container.seek(int(when / float(stream.time_base or 1)), stream=stream)
        found: list[np.ndarray] = []
        for frame in container.decode(stream):
            if frame.time is None or frame.time > when - 1e-3:
                found.append(frame.reformat(width, height, format="rgb24").to_ndarray())
            if len(found) == NUM_FRAMES:
                break
    return np.array(found)


def torchcodec_seeking(path: Path, start: int, size: int) -> np.ndarray:
    """torchcodec's own way: not exact where B-frames are packed."""
    from torchcodec import decoders, transforms

    width, height = _shape(path, size)
    resize = transforms.Resize((height, width))
    video: Any = decoders.VideoDecoder(str(path), dimension_order="NHWC", transforms=[resize])
    return video.get_frames_in_range(start, start + NUM_FRAMES).data.numpy()


def torchvision_clips(path: Path, start: int, size: int) -> np.ndarray:
    """As torchvision's UCF101 reads: with torchcodec, its sound too, and resized afterwards."""
    frames, *_ = _torchvision_index(path).get_clip(start)
    pixels = frames.permute(0, 3, 1, 2)
    width, height = _shape(path, size)
    return functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True).numpy()


@cache
def _torchvision_index(path: Path) -> VideoClips:
    """One file's clips; made beforehand, as a data set makes them when it is opened."""
    with redirect_stderr(io.StringIO()):  # a progress bar
        return VideoClips([str(path)], NUM_FRAMES, 1, output_format="THWC")


def ways() -> dict[str, Read]:
    """What can be timed here."""
    found: dict[str, Read] = {
        "ours, PyAV (auto)": partial(ours, "pyav"),
        "PyAV, seeking": pyav_seeking,
    }
    others: dict[Decoder, dict[str, Read]] = {
        "decord": {"decord, seeking": decord_seeking},
        "torchcodec": {
            "torchcodec, seeking": torchcodec_seeking,
            "torchvision UCF101": torchvision_clips,
        },
    }
    for decoder, own in others.items():
        try:
            passes(decoder)
        except UserError as error:
            print(f"left out: {', '.join(own)}; {error}")
        else:
            found |= {f"ours, {decoder}": partial(ours, decoder), **own}
    return found


def measure(reads: dict[str, Read], videos: list[Video], size: int) -> None:
    """Print clips a second in this process, per CPU second, and from two processes at once."""
    turns = {name: partial(_turn, read, videos, size) for name, read in reads.items()}
    cpu = {name: _cpu_seconds(turn) for name, turn in turns.items()}
    alone = interleaved(turns)
    # Not forked: torch and the decoders have threads in this process.
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        shared = interleaved({name: partial(_both, pool, turn) for name, turn in turns.items()})
    print(f"\n{size} pixels  {'1 process':>22} {'per CPU second':>16} {f'{WORKERS} processes':>13}")
    for name in turns:
        clips = (
            CLIPS_PER_TURN / alone[name],
            CLIPS_PER_TURN / cpu[name],
            WORKERS * CLIPS_PER_TURN / shared[name],
        )
        print(f"  {name:22} {clips[0]:9.1f} {clips[1]:16.1f} {clips[2]:13.1f}  clips/s")


def _turn(read: Read, videos: list[Video], size: int) -> None:
    """Read some clips, the same for every way."""
    random = np.random.default_rng(0)
    for _ in range(CLIPS_PER_TURN):
        path, length = videos[random.integers(len(videos))]
        read(path, int(random.integers(length - NUM_FRAMES + 1)), size)


def _both(pool: ProcessPoolExecutor, turn: Callable[[], None]) -> None:
    for job in [pool.submit(turn) for _ in range(WORKERS)]:
        job.result()


def _cpu_seconds(turn: Callable[[], None]) -> float:
    """Of all threads: what a loaded machine cannot blur."""
    turn()
    started = time.process_time()
    turn()
    return time.process_time() - started


@cache
def _shape(path: Path, size: int) -> tuple[int, int]:
    """Width and height for a short side; kept, so that it costs the rivals nothing."""
    with open_video(path, "pyav", size) as video:
        height, width = video.read([0]).shape[1:3]
    return width, height


def find(folder: str | None) -> list[Video]:
    """Files with enough frames, and how many they have."""
    if folder is None:
        manifest = layouts.read(Data())
        paths = [Path(manifest.root) / item.path for item in manifest.items]
    else:
        found = sorted(Path(folder).rglob("*"))
        paths = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    videos = [(path, len(read_all(path, size=8))) for path in paths[:NUM_FILES]]
    return [(path, length) for path, length in videos if length >= NUM_FRAMES]


def main(folder: str | None = None) -> None:
    videos = find(folder)
    if not videos:
        raise UserError(f"{folder}: no video of {NUM_FRAMES} frames or more")
    path, _ = videos[0]
    height, width = read_all(path).shape[1:3]
    load = os.getloadavg()[0]
    print(f"\n{len(videos)} videos like {path.name}, {width}x{height}; load average {load:.1f}")
    torch.set_num_threads(1)
    reads = ways()
    for size in SIZES:
        measure(reads, videos, size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="by default motion_shapes")
    parser.add_argument("--long", action="store_true", help="videos of 8 seconds to an hour")
    options = parser.parse_args()
    (long_videos.main if options.long else main)(options.folder)
