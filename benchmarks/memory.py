"""Memory that commands take above their start, for videos of 8 seconds to an hour.

    python -m benchmarks.memory FOLDER [--decoder pyav]

1920×1080 at one frame a second with a keyframe every ten. The folder keeps the files, to be used
again. Each command runs in a process of its own, the first one with a cache that knows nothing; its
start is when everything is imported. Of the processes that a command starts, the largest counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.long_videos import Kind, make
from bgan_video.data import motion_shapes

LARGE = Kind(1, 1920, 1080, 10)
SHOWN = ("1 min", "60 min")
_SHORT = ("train.steps=4", "posterior.burn_in=2", "posterior.thinning=1", "train.evaluate_every=4")


def lay_out(root: Path, film: Path) -> None:
    """A long video nobody has looked at, beside a few labelled ones."""
    source = motion_shapes.default_root()
    motion_shapes.render(source)
    for name in ("Grow", "MoveUp"):
        (root / name).mkdir(parents=True)
        for path in sorted((source / name).glob("*.avi"))[:10]:
            shutil.copy(path, root / name)
    (root / "unlabelled").mkdir()
    (root / "unlabelled" / "film.mp4").symlink_to(film.absolute())


def commands(place: Path, film: Path, decoder: str) -> dict[str, tuple[str, ...]]:
    data = ("data.layout=video_folder", f"data.root={place / 'videos'}", "data.labels_per_class=2")
    words = (*data, f"data.decoder={decoder}", "data.num_workers=0", "data.segment_seconds=10")
    run = (*words, *_SHORT, f"run.dir={place}", "run.name=run")
    return {
        "data check": ("data", "check", *words),
        "prepare": ("prepare", *words, f"data.store={place / 'some.store'}"),
        "train": ("train", *run),
        "predict": ("predict", str(place / "run"), str(film), "--json"),
    }


def above_start(words: tuple[str, ...], cache: Path) -> float:
    """MiB at the peak of a command above what it took when all was imported."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, words, str(cache)).result()


def _run(words: tuple[str, ...], cache: str) -> float:
    os.environ["BGAN_VIDEO_CACHE"] = cache
    with Path(os.devnull).open("w") as nowhere:
        for output in (1, 2):
            os.dup2(nowhere.fileno(), output)
    from bgan_video import api, cli

    del api
    start = _peak(resource.RUSAGE_SELF)
    if cli.main(words) != 0:
        raise RuntimeError(f"bgan-video {' '.join(words)} failed")
    return max(_peak(resource.RUSAGE_SELF), _peak(resource.RUSAGE_CHILDREN)) - start


def _peak(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def main(folder: Path, decoder: str) -> None:
    files = make(folder, LARGE)
    for length in SHOWN:
        print(f"{length}, {decoder}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            lay_out(place / "videos", files[length])
            for name, words in commands(place, files[length], decoder).items():
                taken = above_start(words, place / "cache")
                print(f"  {name:24} {taken:6.0f} MiB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the videos are, or are made")
    parser.add_argument("--decoder", default="decord", help="data.decoder (default: decord)")
    options = parser.parse_args()
    main(options.folder, options.decoder)
