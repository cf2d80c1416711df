"""How long it takes to begin on many files, for the first time and again.

    python -m benchmarks.starting [NUMBER ...]

Small videos of `motion_shapes`, again and again under other names, each with a few bytes of its own
at its end, so that none passes for another. `data check` as a whole, with a cache that knows
nothing and with one that knows all; training up to its first step with the latter.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bgan_video.data import motion_shapes
from bgan_video.data.found import videos_under

NUMBERS = (1_000, 10_000)
_DATA = ("data.layout=video_folder", "data.labels_per_class=4")
_LOOK = 0.05  # seconds between two looks for the first step


def make(root: Path, number: int) -> None:
    """`number` files in a folder for each class."""
    source = motion_shapes.default_root()
    motion_shapes.render(source)
    contents = [(path, (source / path).read_bytes()) for path in videos_under(source)]
    for copy in range(number):
        path, content = contents[copy % len(contents)]
        folder = root / Path(path).parent.name
        folder.mkdir(parents=True, exist_ok=True)
        own = b"JUNK" + (8).to_bytes(4, "little") + copy.to_bytes(8, "little")
        (folder / f"{copy:05d}.avi").write_bytes(content + own)


def checking(place: Path) -> None:
    """`data check`."""
    _run(place, "data", "check", "--config", "configs/demo.yaml").wait()


def training(place: Path) -> None:
    """Training up to its first step; it is ended then."""
    where = (f"run.dir={place}", "run.name=starting", "train.log_every=1")
    process = _run(place, "train", "--config", "configs/demo.yaml", *where)
    while not (place / "starting" / "log.jsonl").is_file() and process.poll() is None:
        time.sleep(_LOOK)
    process.kill()
    process.wait()


def _run(place: Path, *words: str) -> subprocess.Popen[bytes]:
    """A command on the videos of a place, with a cache there."""
    return subprocess.Popen(
        [sys.executable, "-m", "bgan_video.cli", *words, *_DATA, f"data.root={place / 'videos'}"],
        env=os.environ | {"BGAN_VIDEO_CACHE": str(place / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def tell(what: str, act: Callable[[], None]) -> None:
    """Print the seconds that something takes, by the clock and of all its processes' CPU."""
    began, cpu = time.perf_counter(), _cpu()
    act()
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    load = os.getloadavg()[0]
    print(f"  {what:28} {seconds:6.1f} s, {cpu:6.1f} s of CPU; load average {load:.1f}", flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(numbers: list[int]) -> None:
    for number in numbers:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            make(place / "videos", number)
            print(f"{number} files", flush=True)
            for turn in ("first", "second"):
                tell(f"{turn} data check", partial(checking, place))
            tell("first step, files known", partial(training, place))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, default=NUMBERS)
    main(list(parser.parse_args().numbers))
