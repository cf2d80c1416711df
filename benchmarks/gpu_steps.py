"""Training steps on a GPU: time, arithmetic, memory, and agreement with the CPU."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import notebook_loop
from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.training.lineup import Models, build
from bgan_video.training.memory import peak_mib
from bgan_video.training.trainer import DataSize

if TYPE_CHECKING:
    from benchmarks.gpu import Report

WARM_UP = 4
"""Of which the third records the step."""
REPEATS, FEWEST = 20, 3
SECONDS_A_STEPPER = 3.0
"""Fewer repeats where they would take longer, and on a CPU, where the figures mean nothing."""


@dataclass(frozen=True)
class Workload:
    """A recipe whose step is measured, and how many classes and items it is for."""

    name: str
    recipe: str
    size: DataSize
    overrides: Sequence[str] = ()


DEMO = Workload("demo", "configs/demo.yaml", DataSize(8, 320, 32))
CIFAR10 = Workload(
    "cifar10_original", "configs/image/cifar10_original.yaml", DataSize(10, 50_000, 4000)
)
UCF101 = Workload("ucf101", "configs/ucf101.yaml", DataSize(101, 8000, 1010))
# Half of the recipe's clips: in fp32 the step of all 128 does not fit into 80 GB.
R3D_18 = Workload(
    "r3d_18",
    UCF101.recipe,
    UCF101.size,
    [
        *("discriminator.name=r3d_18", "clip.size=112"),
        *("train.batch_size=32", "train.labelled_batch_size=32"),
    ],
)
EAGER_FP32 = ("eager fp32", ["run.precision=fp32", "run.compile=false"])
EAGER = ("eager", ["run.compile=false"])
RECORDED = ("as it is set", [])
# The most telling first.
STEPS = [
    (workload, settings)
    for settings in (RECORDED, EAGER_FP32, EAGER)
    for workload in (DEMO, CIFAR10, UCF101, R3D_18)
]
_TOY = ["run.device=cpu", "train.batch_size=4", "train.labelled_batch_size=4"]
_TOY += ["train.fake_batch_size=2", "generator.width=4", "discriminator.width=4"]
_TOY_VIDEO = ["discriminator.name=dcgan", "clip.size=16", "clip.num_frames=4"]


def load(workload: Workload, toy: bool, *more: str) -> Config:
    """The workload's settings; at toy size small enough for seconds on a CPU."""
    words = [*workload.overrides, *more]
    if toy:
        words += [*_TOY, *(["posterior.num_z=2"] if workload is CIFAR10 else _TOY_VIDEO)]
    return config.load(workload.recipe, words)


def batches(
    c: Config, size: DataSize, device: torch.device
) -> tuple[LabelledBatch, UnlabelledBatch]:
    """Random items of a step, on the device."""
    random = torch.Generator().manual_seed(0)
    t = c.train
    shape = (3, c.clip.num_frames, c.clip.size, c.clip.size)
    if c.spatial_dims == 2:
        shape = (3, c.clip.size, c.clip.size)

    def items(count: int) -> Tensor:
        return (torch.rand(count, *shape, generator=random) * 2 - 1).to(device)

    targets = (torch.arange(t.labelled_batch_size) % size.num_classes).to(device)
    labelled = LabelledBatch(items(t.labelled_batch_size), targets)
    return labelled, UnlabelledBatch(items(t.batch_size), items(t.batch_size))


def median_seconds(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a step, by events on a GPU, after a warm-up."""
    began = 0.0
    for _ in range(WARM_UP):
        began = time.perf_counter()
        step()
        _wait(device)
    each = time.perf_counter() - began
    repeats = max(FEWEST, min(REPEATS, int(SECONDS_A_STEPPER / each)))
    if device.type != "cuda":
        times = []
        for _ in range(FEWEST):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
        return statistics.median(times)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    _wait(device)
    return statistics.median(a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(events))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ceilings(device: torch.device, toy: bool) -> dict[str, float]:
    """TFLOP/s of large convolutions, forwards and backwards, the best of a few shapes."""
    found: dict[str, float] = {}
    shapes = [
        ("conv2d", nn.Conv2d(512, 512, 3, padding=1), (128, 512, 32, 32)),
        ("conv3d", nn.Conv3d(256, 256, 3, padding=1), (32, 256, 8, 28, 28)),
        ("strided conv3d", nn.Conv3d(256, 512, 4, 2, 1), (64, 256, 8, 16, 16)),
    ]
    if toy:
        shapes = [("conv2d", nn.Conv2d(8, 8, 3, padding=1), (2, 8, 8, 8))]
    for name, layer, shape in shapes:
        form: Any = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        layer = layer.to(device, torch.bfloat16, memory_format=form)
        x = torch.randn(shape, device=device, dtype=torch.bfloat16).to(memory_format=form)
        x.requires_grad_()

        def step(layer: nn.Module = layer, x: Tensor = x) -> None:
            layer(x).mean().backward()

        with FlopCounterMode(display=False) as counter:
            step()
        found[name] = counter.get_total_flops() / median_seconds(step, device) / 1e12
    return found


def steps(report: Report, toy: bool) -> None:
    """Every workload as it is set, and one by one launched; the notebook's loop beside its own."""
    device = torch.device("cpu" if toy else "cuda")
    torch.backends.cudnn.benchmark = True
    for name, tflops in ceilings(device, toy).items():
        report.add("ceiling", {"in bf16": name, "TFLOP/s": tflops})
    for workload, (name, more) in STEPS:
        if workload is CIFAR10 and name == RECORDED[0]:
            report.section("notebook", partial(_notebook, report, device, toy))
        c = load(workload, toy, *more)
        report.section("steps", partial(measure, report, workload, c, name))
    report.section("goals", partial(goals, report))


def measure(report: Report, workload: Workload, c: Config, name: str) -> None:
    """One row: time, arithmetic and memory of a step."""
    backend = resolve_backend(c.run, c.spatial_dims)
    _free()
    backend.forget_peak_memory()
    models = build(c, workload.size, backend)
    labelled, unlabelled = batches(c, workload.size, backend.device)
    step = partial(models.step, 1, labelled, unlabelled)
    with FlopCounterMode(display=False) as counter:  # the first step is launched one by one
        step()
    tflop = counter.get_total_flops() / 1e12
    began = time.perf_counter()
    seconds = median_seconds(step, backend.device)
    items = c.train.batch_size + c.train.labelled_batch_size
    best = max(row["TFLOP/s"] for row in report.sections["ceiling"])
    on_cuda = backend.device.type == "cuda"
    row = {
        "workload": workload.name,
        "settings": name,
        "precision": backend.precision,
        "ms": 1000 * seconds,
        "items/s": items / seconds,
        "TFLOP": tflop,
        "TFLOP/s": tflop / seconds,
        "% of ceiling": 100 * tflop / seconds / best,
        "peak MiB": backend.peak_memory_mib,
        "estimate MiB": peak_mib(c, workload.size, backend) if name == RECORDED[0] else "",
        "reserved MiB": torch.cuda.max_memory_reserved() / 2**20 if on_cuda else "",
        "seconds taken": time.perf_counter() - began,
    }
    report.add("steps", row)


def goals(report: Report) -> None:
    """How many times as fast as what, and whether the estimate of memory holds."""
    rows = [row for row in report.sections["steps"] if "ms" in row]
    found = {(row["workload"], row["settings"]): row for row in rows}
    notebook = [row["ms"] for row in report.sections.get("notebook", []) if "ms" in row]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        ours = found.get((workload, RECORDED[0]))
        if ours is None:
            continue
        goal: dict[str, object] = {"workload": workload, "% of ceiling": ours["% of ceiling"]}
        for name in (EAGER_FP32[0], EAGER[0]):
            if (workload, name) in found:
                goal[f"times {name}"] = found[workload, name]["ms"] / ours["ms"]
        if workload == CIFAR10.name and notebook:
            goal["times the notebook's loop"] = min(notebook) / ours["ms"]
        goal["estimate / peak"] = ours["estimate MiB"] / ours["peak MiB"]
        report.add("goals", goal)


def _notebook(report: Report, device: torch.device, toy: bool) -> None:
    """The notebook's loop as torch runs it by default, with TF32 convolutions, and without."""
    c = load(CIFAR10, toy)
    labelled, unlabelled = batches(c, CIFAR10.size, device)
    for form in ("tf32", "fp32"):
        torch.backends.cudnn.allow_tf32 = form == "tf32"
        _free()
        loop = notebook_loop.NotebookLoop(
            c.posterior.num_z, c.train.batch_size, width=c.discriminator.width, device=device
        )
        seconds = median_seconds(partial(loop.step, labelled, unlabelled.weak), device)
        items = c.train.batch_size + c.train.labelled_batch_size
        row = {"loop": "notebook", "convolutions": form, "ms": 1000 * seconds}
        report.add("notebook", row | {"items/s": items / seconds})


def agreement(report: Report, toy: bool) -> None:
    """Losses of the first step on the device and on the CPU, from the same latents."""
    devices = ["cpu"] if toy else ["cpu", "cuda"]
    found: dict[str, dict[str, float]] = {}
    for name in devices:
        c = load(DEMO, toy, "run.precision=fp32", "run.compile=false", f"run.device={name}")
        backend = resolve_backend(c.run, c.spatial_dims)
        models = build(c, DEMO.size, backend)
        _same_latents(models)
        terms = models.step(0, *batches(c, DEMO.size, backend.device))
        found[name] = {key: value.item() for key, value in terms.items()}
    for key, value in found["cpu"].items():
        other = found[devices[-1]][key]
        relative = abs(other - value) / max(abs(value), 1e-12)
        report.add("step 1", {"term": key, "cpu": value, devices[-1]: other, "relative": relative})


def _same_latents(models: Models) -> None:
    """Latents drawn on the CPU, which a GPU's generator would not draw."""
    chains = models.chains
    assert chains is not None
    random = torch.Generator().manual_seed(0)
    dim, device = chains.config.generator.latent_dim, chains.backend.device
    chains.latents = lambda count: torch.randn(count, dim, generator=random).to(device)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
