"""A training step by one process, and by several that share its batch.

    python -m benchmarks.scaling [--config demo] [--processes 1 2] [--steps 40]

Batches in memory, one thread a process, group norm (batches of several processes have no other on
CPUs). The numbers of processes take turns, so that other load hits all alike; every turn begins
processes anew. What a step spends on handing gradients over has waiting for the slowest in it.
Beside other work on the machine the clock tells of that work; seconds of a process's own CPU tell
what its step costs, without the waiting.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from bgan_video import config, ranks
from bgan_video.backend import on_cuda, resolve_backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

TURNS = 2
WARM_UP = 3
NORMS = ("generator.norm=group", "discriminator.norm=group")
CLASSES = 8


@dataclass(frozen=True)
class Turn:
    """What a process measured.

    Attributes:
        steps: Seconds of each, by the clock.
        cpu: The same of this process's CPU.
        handing: Of them, seconds in which gradients were handed over.
        nbytes: Of the gradients of a step.
    """

    steps: list[float]
    cpu: list[float]
    handing: list[float]
    nbytes: int


def measure(c: Config, steps: int, warm_up: int = WARM_UP) -> Turn:
    """Steps of this process, one of so many as there are, on its share of random batches."""
    t, shape = c.train, (3, c.clip.num_frames, c.clip.size, c.clip.size)
    random = torch.Generator().manual_seed(0)
    own = list(ranks.mine(t.labelled_batch_size, "train.labelled_batch_size"))
    labels = torch.arange(t.labelled_batch_size) % CLASSES
    x = torch.randn(t.labelled_batch_size, *shape, generator=random)
    labelled = LabelledBatch(x[own], labels[own])
    own = list(ranks.mine(t.batch_size, "train.batch_size"))
    views = torch.randn(2, t.batch_size, *shape, generator=random)[:, own]
    models = build(c, DataSize(CLASSES, 1000, 32), resolve_backend(c.run, c.spatial_dims))
    turn, mean, handed = Turn([], [], [], 0), ranks.mean_gradients, [0.0, 0.0]

    def handing(parameters: Iterable[nn.Parameter]) -> None:
        given = list(parameters)
        began = time.perf_counter()
        mean(given)
        handed[0] += time.perf_counter() - began
        handed[1] += sum(p.grad.nbytes for p in given if p.grad is not None)

    ranks.mean_gradients = handing
    try:
        for index in range(warm_up + steps):
            handed[:] = 0.0, 0.0
            began, cpu = time.perf_counter(), time.process_time()
            models.step(index, labelled, UnlabelledBatch(views[0], views[1]), {})
            if on_cuda(c.run):
                torch.cuda.synchronize()
            if index >= warm_up:
                turn.steps.append(time.perf_counter() - began)
                turn.cpu.append(time.process_time() - cpu)
                turn.handing.append(handed[0])
    finally:
        ranks.mean_gradients = mean
    return dataclasses.replace(turn, nbytes=int(handed[1]))


def work(words: Sequence[str], steps: int, out: Path) -> None:
    """As one of the processes: the first one writes what it measured."""
    c = config.load(words[0], [*NORMS, *words[1:]])
    with ranks.joined(on_cuda(c.run)):
        turn = measure(c, steps)
        if ranks.is_first():
            out.write_text(json.dumps(dataclasses.asdict(turn)))


def launched(processes: int, words: Sequence[str], steps: int) -> Turn:
    """A turn of so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "turn.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        worker = ["-m", "benchmarks.scaling", "--work", str(out), "--steps", str(steps)]
        command = [sys.executable, *launcher, *worker, "--config", *words]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return Turn(**json.loads(out.read_text()))


def main(
    counts: Sequence[int],
    words: Sequence[str],
    steps: int,
    launch: Callable[[int, Sequence[str], int], Turn] = launched,
) -> dict[int, float]:
    """Print a table; median seconds of a step by number of processes."""
    turns: dict[int, list[Turn]] = {count: [] for count in counts}
    for _ in range(TURNS):
        for count in counts:
            turns[count].append(launch(count, words, -(-steps // TURNS)))
    found = {count: _medians(of) for count, of in turns.items()}
    first = counts[0]
    print(f"load average {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    print("| processes | ms a step | handing over | efficiency | ms of CPU | efficiency | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for count, (clock, cpu, handing) in found.items():
        gains = [first * found[first][k] / count / found[count][k] for k in (0, 1)]
        told = [f"{1000 * clock:.0f}", f"{1000 * handing:.0f}", f"{100 * gains[0]:.0f} %"]
        told += [f"{1000 * cpu:.0f}", f"{100 * gains[1]:.0f} %"]
        print(f"| {count} | {' | '.join(told)} | {turns[count][0].nbytes / 1e6:.1f} |")
    return {count: clock for count, (clock, _, _) in found.items()}


def _medians(turns: Sequence[Turn]) -> tuple[float, float, float]:
    """Seconds of a step: by the clock, of CPU, of handing over."""
    of_all = ([t.steps for t in turns], [t.cpu for t in turns], [t.handing for t in turns])
    clock, cpu, handing = (statistics.median(chain(*seconds)) for seconds in of_all)
    return clock, cpu, handing


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=["demo"], metavar="WORD")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.config, options.steps, options.work)
    else:
        main(options.processes, options.config, options.steps)
