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
from bgan_video.training.models import Models, build
from bgan_video.training.trainer import DataSize

if TYPE_CHECKING:
    from benchmarks.gpu import Report

WARM_UP = 4
REPEATS = 20
SECONDS_A_STEPPER = 6.0
"""Fewer repeats where they would take longer, but three at least."""


@dataclass(frozen=True)
class Workload:
    """A recipe whose step is measured, and how many classes and items it is for."""

    name: str
    recipe: str
    size: DataSize
    overrides: Sequence[str] = ()


WORKLOADS = (
    Workload("demo", "configs/demo.yaml", DataSize(8, 320, 32)),
    Workload("cifar10_original", "configs/image/cifar10_original.yaml", DataSize(10, 50_000, 4000)),
    Workload("ucf101", "configs/ucf101.yaml", DataSize(101, 8000, 1010)),
    Workload(
        "r3d_18",
        "configs/ucf101.yaml",
        DataSize(101, 8000, 1010),
        ["discriminator.name=r3d_18", "clip.size=112"],
    ),
)
_TOY_VIDEO = ["clip.size=16", "clip.num_frames=4", "generator.width=4", "discriminator.width=4"]
_TOY_BATCH = ["train.batch_size=4", "train.labelled_batch_size=4", "train.fake_batch_size=2"]


def load(workload: Workload, toy: bool, *more: str) -> Config:
    """The workload's settings; at toy size small enough for seconds on a CPU."""
    words = [*workload.overrides, *more]
    if toy:
        is_image = "image" in workload.recipe
        words += _TOY_BATCH + (["posterior.num_z=2"] if is_image else _TOY_VIDEO)
        words += ["run.device=cpu", *(["generator.width=4", "discriminator.width=4"])]
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


def median_seconds(step: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a step, by events on a GPU, after a warm-up."""
    began = time.perf_counter()
    warm = 0
    while warm < WARM_UP and time.perf_counter() - began < SECONDS_A_STEPPER / 2:
        step()
        _wait(device)
        warm += 1
    each = (time.perf_counter() - began) / warm
    repeats = max(3, min(repeats, int(SECONDS_A_STEPPER / each)))
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
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
        found[name] = counter.get_total_flops() / median_seconds(step, device, 10) / 1e12
    return found


def steps(report: Report, toy: bool) -> None:
    """Every workload: eager fp32 and as it is set; the notebook's loop beside its recipe."""
    device = torch.device("cpu" if toy else "cuda")
    torch.backends.cudnn.benchmark = True
    for name, tflops in ceilings(device, toy).items():
        report.add("ceiling, bf16", {"operation": name, "TFLOP/s": tflops})
    for workload in WORKLOADS:
        if workload.name == "cifar10_original":
            report.section("notebook", lambda w=workload: _notebook(report, w, device, toy))
        for form in ["fp32", "auto"]:
            more = [f"run.precision={form}", "run.deterministic=false"]
            report.section(
                "steps", lambda w=workload, m=more: measure(report, w, load(w, toy, *m), m[0])
            )


def measure(report: Report, workload: Workload, c: Config, name: str) -> None:
    """One row: time, arithmetic and peak memory of a step."""
    backend = resolve_backend(c.run, c.spatial_dims)
    _free()
    backend.forget_peak_memory()
    models = build(c, workload.size, backend)
    labelled, unlabelled = batches(c, workload.size, backend.device)

    def step() -> object:
        return models.step(1, labelled, unlabelled)

    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    seconds = median_seconds(step, backend.device, REPEATS)
    items = c.train.batch_size + c.train.labelled_batch_size
    best = max(row["TFLOP/s"] for row in report.sections["ceiling, bf16"])
    row = {
        "workload": workload.name,
        "settings": name,
        "ms": 1000 * seconds,
        "items/s": items / seconds,
        "TFLOP": flops / 1e12,
        "TFLOP/s": flops / seconds / 1e12,
        "% of ceiling": 100 * flops / seconds / 1e12 / best,
        "peak MiB": backend.peak_memory_mib,
    }
    before = [r for r in report.sections.get("steps", []) if r.get("workload") == workload.name]
    if before:
        row["times fp32"] = before[0]["ms"] / row["ms"]
    report.add("steps", row)


def _notebook(report: Report, workload: Workload, device: torch.device, toy: bool) -> None:
    """The notebook's loop as torch runs it by default, with TF32 convolutions, and without."""
    c = load(workload, toy)
    labelled, unlabelled = batches(c, workload.size, device)
    cudnn: Any = torch.backends.cudnn
    for form in ("tf32", "ieee"):
        cudnn.conv.fp32_precision = form
        _free()
        loop = notebook_loop.NotebookLoop(
            c.posterior.num_z, c.train.batch_size, width=c.discriminator.width, device=device
        )
        seconds = median_seconds(partial(loop.step, labelled, unlabelled.weak), device, REPEATS)
        items = c.train.batch_size + c.train.labelled_batch_size
        row = {"loop": "notebook", "convolutions": form, "ms": 1000 * seconds}
        report.add("notebook", row | {"items/s": items / seconds})


def agreement(report: Report, toy: bool) -> None:
    """Losses of the first step on the device and on the CPU, from the same latents."""
    workload = WORKLOADS[0]
    devices = ["cpu"] if toy else ["cpu", "cuda"]
    found: dict[str, dict[str, float]] = {}
    for name in devices:
        c = load(workload, toy, "run.precision=fp32", f"run.device={name}")
        backend = resolve_backend(c.run, c.spatial_dims)
        models = build(c, workload.size, backend)
        _same_latents(models)
        terms = models.step(0, *batches(c, workload.size, backend.device))
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
