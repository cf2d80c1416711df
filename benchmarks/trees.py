"""A training step of this tree against that of another, such as a checkout of the commit before.

    git worktree add ../before HEAD~1
    python -m benchmarks.trees ../before [--config demo] [--turns 6] [--steps 5]

Two processes, one of each tree, do a step in turns, so that other load hits both alike. One
thread, batches in memory. A turn begins both anew, in one this tree's first, in the next the
other's: of two equal trees the one begun first was found the slower by 9 to 25 %. Each pair of
steps gives a ratio, each turn their median; the table has the geometric mean over turns, and the
turns' least and largest. CPU tells what a step costs, the clock of other work too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import torch

import bgan_video
from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

HERE = Path(__file__).parents[1]
WARM_UP = 2
CLASSES = 8


class Seconds(NamedTuple):
    """Of a step: by the clock, and of CPU."""

    clock: float
    cpu: float


Steps = Generator[Seconds, None, None]
Launch = Callable[[Path, Sequence[str]], Steps]


def measured(words: Sequence[str]) -> Iterator[Seconds]:
    """Steps of a recipe on random clips, by this process, without end."""
    c = config.load(words[0], ["run.device=cpu", *words[1:]])
    t, shape = c.train, (3, c.clip.num_frames, c.clip.size, c.clip.size)
    models = build(c, DataSize(CLASSES, 1000, 32), resolve_backend(c.run, c.spatial_dims))
    labels = torch.arange(t.labelled_batch_size) % CLASSES
    labelled = LabelledBatch(torch.randn(t.labelled_batch_size, *shape), labels)
    unlabelled = UnlabelledBatch(*torch.randn(2, t.batch_size, *shape))
    for index in count():
        began, used = time.perf_counter(), time.process_time()
        models.step(index, labelled, unlabelled, {})
        if index >= WARM_UP:
            yield Seconds(time.perf_counter() - began, time.process_time() - used)


def serve(words: Sequence[str]) -> None:
    """A step for each line that comes in; first which package it is of."""
    print(Path(bgan_video.__file__).parent, flush=True)
    for _, seconds in zip(sys.stdin, measured(words), strict=False):
        print(json.dumps(seconds), flush=True)


def launched(tree: Path, words: Sequence[str]) -> Steps:
    """Steps by a new process, whose `bgan_video` is the one of a tree, as they are asked for."""
    command = [sys.executable, __file__, str(tree), "--serve", "--config", *words]
    env = os.environ | {"PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        package = process.stdout.readline().strip()
        if Path(package).parent != tree.resolve():
            raise SystemExit(f"{tree} is no checkout: {package or 'nothing'} was measured")
        while True:
            print(file=process.stdin, flush=True)
            yield Seconds(*json.loads(process.stdout.readline()))


def taken(
    other: Path, words: Sequence[str], steps: int, other_first: bool, launch: Launch
) -> list[tuple[Seconds, Seconds]]:
    """A turn: pairs of this tree's step and the other's, the first of a pair begun first."""
    with closing(launch(HERE, words)) as ours, closing(launch(other, words)) as theirs:
        order = [theirs, ours] if other_first else [ours, theirs]
        pairs = [(next(order[0]), next(order[1])) for _ in range(steps)]
    return [(b, a) for a, b in pairs] if other_first else pairs


def main(
    other: Path,
    words: Sequence[str],
    turns: int,
    steps: int,
    launch: Launch = launched,
) -> dict[str, float]:
    """Print a table; the mean ratios, this tree's step to the other's."""
    rounds = [taken(other, words, steps, turn % 2 == 1, launch) for turn in range(turns)]
    print(f"{turns} turns of {steps} steps, load average {os.getloadavg()[0]:.1f}")
    print("| | this tree | the other | ratio, mean of turns | least and largest |")
    print("| --- | --- | --- | --- | --- |")
    ratios: dict[str, float] = {}
    for kind in Seconds._fields:
        of_turns = [[(getattr(a, kind), getattr(b, kind)) for a, b in pairs] for pairs in rounds]
        by_turn = [statistics.median(a / b for a, b in pairs) for pairs in of_turns]
        ratios[kind] = statistics.geometric_mean(by_turn)
        both = zip(*chain.from_iterable(of_turns), strict=True)
        medians = " | ".join(f"{1000 * statistics.median(of):.0f} ms" for of in both)
        spread = f"{min(by_turn):.3f} to {max(by_turn):.3f}"
        print(f"| {kind} | {medians} | {ratios[kind]:.3f} | {spread} |")
    return ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="the other tree")
    parser.add_argument("--config", nargs="+", default=["demo"], metavar="WORD")
    parser.add_argument("--turns", type=int, default=6, help="even (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.config)
    elif options.turns % 2:
        parser.error(f"--turns {options.turns}: each tree begins first as often as the other; even")
    else:
        main(options.other, options.config, options.turns, options.steps)
