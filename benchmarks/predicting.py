"""What the networks add to decoding in `predict`: short files, processor time and the clock.

    python -m benchmarks.predicting RUN FOLDER [--repeats 5] [key=value …]

A turn reads all files of a folder as `predict` does and does nothing with them, predicts them by
the first network of the answering model, and by all of its networks. Turns alternate, networks are
loaded before; medians, and what decoding alone takes as a part of it. RUN has one body of clips.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bgan_video import api
from bgan_video.data import parallel
from bgan_video.prediction.opened import open_file, workers
from bgan_video.prediction.predict import kept
from bgan_video.prediction.trained import TrainedRun
from bgan_video.prediction.video_files import Judge, predict_files

DECODING = "decoding alone"


class Took(NamedTuple):
    """Seconds of all threads of this process, and by the clock."""

    cpu: float
    clock: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    run = api.load(options.run, options.overrides)
    done = variants(run, options.folder)
    files = len(run.files([options.folder]))
    print(f"{files} files, {run.config.data.decoder}, {workers(run.config)} decoding threads")
    print(table(measured(done, options.repeats)))


def variants(run: TrainedRun, folder: Path) -> dict[str, Callable[[], object]]:
    """What takes turns; each goes over all files once."""
    (body,) = run.answering_bodies(run.frames(()))
    networks = list(kept(run.answering_networks(body)))
    files = run.files([folder])
    read = partial(open_file, config=run.config, sizes=[], sees_clips=True)

    def decode() -> object:
        return deque(parallel.ahead(read, files, workers(run.config)), maxlen=0)

    def predict(count: int) -> object:
        judge = Judge(networks[:count])
        return deque(predict_files(files, [judge], run.config, run.backend), maxlen=0)

    counts = sorted({1, len(networks)})
    return {DECODING: decode} | {f"predict, {n} networks": partial(predict, n) for n in counts}


def measured(done: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Took]:
    """Medians of turns that alternate, behind one that warms up."""
    took: dict[str, list[Took]] = {name: [] for name in done}
    for _ in range(1 + repeats):
        for name, go in done.items():
            cpu, clock = time.process_time(), time.perf_counter()
            go()
            took[name].append(Took(time.process_time() - cpu, time.perf_counter() - clock))
    return {
        name: Took(*(statistics.median(column) for column in zip(*turns[1:], strict=True)))
        for name, turns in took.items()
    }


def table(took: Mapping[str, Took]) -> str:
    """Seconds, and the part of them that decoding alone takes."""
    alone = took[DECODING]
    lines = ["|  | CPU, s | of it decoding | clock, s | of it decoding |", "| --- " * 5 + "|"]
    for name, (cpu, clock) in took.items():
        parts = f"{alone.cpu / cpu:.2f} | {clock:.2f} | {alone.clock / clock:.2f}"
        lines.append(f"| {name} | {cpu:.2f} | {parts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
