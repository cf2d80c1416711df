"""Device and number format of a run.

Under autocast only the forward passes are in half precision; parameters, momentum, noise, priors
and losses stay float32. fp16 needs loss scaling: gradients are unscaled, and a step whose gradients
overflowed is skipped, before a sampler adds noise (`torch.amp.GradScaler.step` does both).
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bgan_video import ranks
from bgan_video.config import Run, SpatialDims
from bgan_video.errors import UserError

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Backend:
    """Where a run computes, and in what format.

    Attributes:
        device: One CPU or GPU.
        precision: fp32, bf16 or fp16.
        scaler: Of losses in fp16.
        records: Whether training steps are recorded and replayed.
        spares_memory: Whether memory is dearer than a forward pass.
    """

    device: torch.device
    precision: str
    scaler: torch.amp.GradScaler = field(repr=False)
    records: bool = False
    spares_memory: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """The context of every forward pass."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, in the layout that its convolutions are fastest in."""
        tensor = tensor.to(self.device, non_blocking=True)
        if self.device.type != "cuda":
            return tensor
        # Tensor cores read channels last; else cuDNN turns every operand around and back.
        form = _CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format)
        return tensor.contiguous(memory_format=form)

    def with_own_scaler(self) -> Backend:
        """The same backend for networks that are stepped, and may overflow, apart from others."""
        return dataclasses.replace(self, scaler=_scaler(self.device.type, self.precision))

    def forget_peak_memory(self) -> None:
        """Begin to measure anew, where it can be: on CUDA."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    @property
    def peak_memory_mib(self) -> float:
        """The most memory in use since the process began, of tensors on CUDA since it was forgot.

        On a CPU it is that of the whole process.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB here

    @property
    def hardware(self) -> str:
        """The processor's or accelerator's name."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return _processor_name()


def resolve_backend(run: Run, spatial_dims: SpatialDims) -> Backend:
    """The backend the settings ask for.

    Args:
        run: Device and precision.
        spatial_dims: Of the items; 3 for clips.

    Raises:
        UserError: CUDA where there is none, fp16 on a CPU, bf16 on a CPU for clips or on a GPU
            without it.
    """
    name = "cuda" if on_cuda(run) else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("run.device=cuda, but this machine has no CUDA device; allowed: auto, cpu")
    precision = run.precision
    if name == "cuda":
        # Emulated, as on a T4, its convolutions are slow or missing.
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has_bf16:
            raise UserError("run.precision=bf16, but this GPU has none; allowed: auto, fp16, fp32")
        if precision == "auto":
            precision = "bf16" if has_bf16 else "fp16"
        _forbid_tf32()
    elif precision == "auto":
        precision = "fp32"
    if name == "cpu" and precision == "fp16":
        allowed = "auto, fp32" if spatial_dims == 3 else "auto, fp32, bf16"
        raise UserError(f"run.precision=fp16 needs CUDA; allowed on CPU: {allowed}")
    if name == "cpu" and precision == "bf16" and spatial_dims == 3:
        # Seen with torch 2.15: every few steps a block of a strided Conv3d's weight gradient is not
        # finite; the same inputs give it right the next time, so it is memory nobody wrote.
        raise UserError(
            "run.precision=bf16 needs CUDA for videos, since gradients of 3-D convolutions are "
            "wrong in it on CPUs; allowed on CPU: auto, fp32"
        )
    if name == "cuda":
        _set_determinism(run.deterministic)
    # In fp16 it depends on the gradients whether a step is made: nothing that can be recorded.
    # Nor what ranks say to one another.
    records = name == "cuda" and run.compile and precision != "fp16" and ranks.launched() == 1
    return Backend(
        torch.device(name),
        precision,
        _scaler(name, precision),
        records,
        spares_memory=name == "cuda",
    )


def on_cuda(run: Run) -> bool:
    """Whether a run computes on a GPU, where there is one."""
    return run.device == "cuda" or (run.device == "auto" and torch.cuda.is_available())


def _forbid_tf32() -> None:
    """Products and convolutions in fp32 with all 23 bits of mantissa, not the 10 of TF32.

    By the older switches, which set what belongs together. With one of the newer ones alone
    (`cudnn.conv.fp32_precision`) torch raises where `cudnn.allow_tf32` is read, as in Inductor.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _set_determinism(asked: bool) -> None:
    """On CUDA: the same numbers in every run, or the fastest kernels that cuDNN finds."""
    torch.backends.cudnn.deterministic = asked
    torch.backends.cudnn.benchmark = not asked
    torch.use_deterministic_algorithms(asked)
    # Torch refuses to be deterministic without, and reads it once, when cuBLAS first computes: a
    # later run in this process may be the one that asks.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _scaler(device: str, precision: str) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(device, enabled=precision == "fp16")


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a file
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return f"{names[0]} ({torch.get_num_threads()} threads)" if names else "CPU"
