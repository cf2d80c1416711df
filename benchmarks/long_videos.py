"""What a clip costs in videos of 8 seconds to an hour, and what their first reading costs.

    python -m benchmarks.decoding --long [FOLDER]

H.264 of 160×120 at 25 frames a second with a keyframe every ten seconds. A minute is encoded;
longer ones are the same packets again. The folder keeps the files, to be used again.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from bgan_video.video import index
from bgan_video.video.decoders import Decoder, versions
from bgan_video.video.reader import OpenFiles, open_video

NUM_FRAMES, SIZE = 16, 73
LENGTHS = {"8 s": 8, "1 min": 60, "10 min": 600, "60 min": 3600}
CLIPS, REPEATS = 60, 2

Read = Callable[[Path, int], Any]


class Kind(NamedTuple):
    """Frames a second, their size in pixels, and frames from one keyframe to the next."""

    rate: int
    width: int
    height: int
    gop: int


SMALL = Kind(25, 160, 120, 250)


def write(path: Path, seconds: int, kind: Kind) -> None:
    """Encode moving stripes on a moving ground."""
    rate, width, height, gop = kind
    ground = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    ground = ground.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as opened:
        container: Any = opened
        options = {"preset": "veryfast", "crf": "28", "x264-params": "scenecut=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = gop
        for number in range(seconds * rate):
            picture = np.roll(ground, 3 * number % width, 1)
            top = 2 * number % (height - 20)
            picture[top : top + 20] = 255 - picture[top : top + 20]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(source: Path, path: Path, times: int) -> None:
    """The packets of a video again and again, its frames one after another."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        old = read.streams.video[0]
        new = written.add_stream_from_template(old)
        packets = [packet for packet in read.demux(old) if packet.dts is not None]
        length = sum(packet.duration or 0 for packet in packets)
        kept = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in packets]
        for turn in range(times):
            for content, pts, dts, duration, is_keyframe in kept:
                packet = av.Packet(content)
                packet.pts, packet.dts = (pts or 0) + turn * length, (dts or 0) + turn * length
                packet.duration, packet.is_keyframe = duration, is_keyframe
                packet.time_base, packet.stream = old.time_base, new
                written.mux(packet)


def make(folder: Path, kind: Kind = SMALL) -> dict[str, Path]:
    """The files by their length, made where they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{seconds}s.mp4" for name, seconds in LENGTHS.items()}
    for name in ("8 s", "1 min"):
        if not paths[name].is_file():
            write(paths[name], LENGTHS[name], kind)
    for name in ("10 min", "60 min"):
        if not paths[name].is_file():
            repeat(paths["1 min"], paths[name], LENGTHS[name] // 60)
    return paths


def opened_each_time(decoder: Decoder, path: Path, start: int) -> Any:
    with open_video(path, decoder, SIZE) as video:
        return video.read(range(start, start + NUM_FRAMES))


def kept_open(files: OpenFiles, path: Path, start: int) -> Any:
    return files.read(path, range(start, start + NUM_FRAMES))


class DecordByItself:
    """decord's own seek, which is not exact in every file."""

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps
        self._open: dict[Path, Any] = {}

    def __call__(self, path: Path, start: int) -> Any:
        import decord

        reader = self._open.get(path)
        if reader is None:
            width = round(SIZE * SMALL.width / SMALL.height)
            reader = decord.VideoReader(str(path), width=width, height=SIZE, num_threads=1)
        if self._keeps:
            self._open[path] = reader
        return reader.get_batch(range(start, start + NUM_FRAMES)).asnumpy()


def ways(decoders: list[Decoder]) -> dict[str, Read]:
    found: dict[str, Read] = {}
    for decoder in decoders:
        found[f"ours, {decoder}, opened each time"] = partial(opened_each_time, decoder)
        found[f"ours, {decoder}, kept open"] = partial(kept_open, OpenFiles(decoder, SIZE, 4))
    if "decord" in decoders:
        found["decord by itself, opened each time"] = DecordByItself(keeps=False)
        found["decord by itself, kept open"] = DecordByItself(keeps=True)
    return found


def spread(length: int, count: int) -> list[int]:
    """Starts below `length`, spread evenly, and so over the distances from a keyframe.

    Of sixty random ones the mean distance differs by a sixth from file to file.
    """
    golden = (math.sqrt(5) - 1) / 2
    return [int(number * golden % 1 * length) for number in range(1, count + 1)]


def milliseconds(reads: dict[str, Read], path: Path, starts: list[int]) -> dict[str, list[float]]:
    """CPU of clips at some starts; of each the least of some repeats, taken in turns.

    What else a machine does only ever adds to a time.
    """
    least: dict[str, list[float]] = {name: [] for name in reads}
    for start in starts:
        taken = [
            {name: _seconds(read, path, start) for name, read in reads.items()}
            for _ in range(REPEATS)
        ]
        for name, times in least.items():
            times.append(1000 * min(turn[name] for turn in taken))
    return least


def _seconds(read: Read, path: Path, start: int) -> float:
    read(path, 0)  # a file that is open stands elsewhere
    began = time.process_time()
    read(path, start)
    return time.process_time() - began


def decoded(path: Path, decoder: Decoder, start: int) -> int:
    """Frames that are decoded for a clip: its own, and those from the last proven place on."""
    mark = index.of(path, decoder).mark(start)
    return start + NUM_FRAMES - (0 if mark is None else mark.frame)


def first_reading(path: Path, decoder: Decoder) -> float:
    """Seconds of CPU, with a cache that knows nothing."""
    with tempfile.TemporaryDirectory() as empty:
        usual = os.environ.get("BGAN_VIDEO_CACHE")
        os.environ["BGAN_VIDEO_CACHE"] = empty
        try:
            began = time.process_time()
            index.of(path, decoder)
            return time.process_time() - began
        finally:
            del os.environ["BGAN_VIDEO_CACHE"]
            if usual is not None:
                os.environ["BGAN_VIDEO_CACHE"] = usual


def main(folder: str | None) -> None:
    decoders: list[Decoder] = ["pyav", "decord"] if versions("decord") else ["pyav"]
    with tempfile.TemporaryDirectory() as scratch:
        for name, path in make(Path(folder or scratch)).items():
            cost = {decoder: first_reading(path, decoder) for decoder in decoders}
            length = index.of(path, "pyav").num_frames
            said = ", ".join(f"{decoder} {seconds:.1f} s" for decoder, seconds in cost.items())
            print(f"\n{name}: {length} frames; first reading {said} of CPU")
            starts = spread(length - NUM_FRAMES, CLIPS)
            frames = [decoded(path, decoders[-1], start) for start in starts]
            print(f"  {statistics.mean(frames):.0f} frames are decoded for a clip")
            for way, taken in milliseconds(ways(decoders), path, starts).items():
                of_frames = [1000 * ms / n for ms, n in zip(taken, frames, strict=True)]
                median, of_frame = statistics.median(taken), statistics.median(of_frames)
                told = f"{median:8.1f} ms of CPU a clip, {of_frame:5.0f} µs a decoded frame"
                print(f"  {way:38} {told}", flush=True)
