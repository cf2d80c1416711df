"""Where the time of a step and of a clip goes: medians of interleaved repeats in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

REPEATS = 15
WARM_UP = 3


def interleaved(
    variants: Mapping[str, Callable[[], object]], repeats: int = REPEATS, warm_up: int = WARM_UP
) -> dict[str, float]:
    """Median seconds of each variant, taken in turns, so that other load hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(warm_up + repeats):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[warm_up:]) for name, times in seconds.items()}


def training_steps() -> None:
    formats = ("fp32", "bf16", "fp16") if torch.cuda.is_available() else ("fp32",)
    variants = {
        f"{recipe} {form}": stepper(f"configs/{recipe}.yaml", form)
        for recipe in ("demo", "ucf101" if torch.cuda.is_available() else "weizmann4")
        for form in formats
    }
    print("\ntraining step, data in memory")
    for name, seconds in interleaved(variants).items():
        print(f"  {name:20} {1000 * seconds:9.1f} ms")


def stepper(recipe: str, form: str) -> Callable[[], object]:
    c = config.load(recipe, [f"run.precision={form}"])
    models = build(c, DataSize(8, 1000, 32), resolve_backend(c.run, c.spatial_dims))
    shape = (3, c.clip.num_frames, c.clip.size, c.clip.size)
    t = c.train
    targets = torch.arange(t.labelled_batch_size) % 8
    labelled = LabelledBatch(torch.randn(t.labelled_batch_size, *shape), targets)
    views = torch.randn(2, t.batch_size, *shape)
    unlabelled = UnlabelledBatch(views[0], views[1])
    return lambda: models.step(0, labelled, unlabelled)


if __name__ == "__main__":
    from benchmarks import decoding  # it times with `interleaved` above

    backend = resolve_backend(config.Run(), 3)
    print(f"{backend.hardware}, torch {torch.__version__}")
    training_steps()
    decoding.main()
