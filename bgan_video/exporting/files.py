"""A program as a file: of `torch.export`, or ONNX."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from bgan_video.errors import UserError
from bgan_video.exporting.program import Program
from bgan_video.prediction.trained import TrainedRun

DESCRIPTION = "bgan_video.json"
"""What a file says of itself: an extra file of `torch.export`, or ONNX's metadata `bgan_video`."""
_BATCH = 2  # of the example: 1 would be taken for a constant


def describe(run: TrainedRun, program: Program) -> dict[str, Any]:
    """What whoever calls the program has to know."""
    clip = run.config.clip
    return {
        "classes": list(run.classes),
        "inputs": [
            {"name": i.name, "short_side": i.short_side, "size": i.size} for i in program.inputs
        ],
        "num_frames": clip.num_frames,
        "stride": clip.stride if clip.fps is None else None,
        "fps": clip.fps,
        "layout": "uint8 [batch, frames, height, width, RGB]",
        "networks": sum(len(part.networks) for part in program.bodies),
        "bodies": [
            {"name": name, "networks": len(part.networks)}
            for name, part in zip(run.answering_names, program.bodies, strict=True)
        ],
    }


def write_torch(run: TrainedRun, program: Program, file: Path) -> None:
    """Write what `torch.export.load` reads.

    Raises:
        UserError: A body cannot be traced.
    """
    exported = _exported(run, program)
    described = json.dumps(describe(run, program))
    torch.export.save(exported, file, extra_files={DESCRIPTION: described})


def write_onnx(run: TrainedRun, program: Program, file: Path) -> None:
    """Write what ONNX Runtime reads; weights stand in the file.

    Raises:
        UserError: The extra `onnx` is not installed, or a body cannot be written as ONNX.
    """
    try:
        import onnxscript  # noqa: F401  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ImportError:
        raise UserError("--to onnx needs pip install 'bgan_video[onnx]'") from None
    exported = _exported(run, program)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own parts
            made = torch.onnx.export(
                exported,
                dynamo=True,
                verbose=False,
                input_names=[given.name for given in program.inputs],
                output_names=program.outputs,
            )
    except Exception as error:
        raise UserError(_refusal(run, "ONNX", error)) from error
    assert made is not None
    made.model.metadata_props["bgan_video"] = json.dumps(describe(run, program))
    made.save(file, external_data=False)


def _exported(run: TrainedRun, program: Program) -> ExportedProgram:
    frames = run.config.clip.num_frames
    examples: list[Tensor] = []
    shapes: list[dict[int, Any]] = []
    batch = Dim("batch")
    for number, given in enumerate(program.inputs):
        # Neither square nor as small as can be, so that nothing is taken for a constant.
        height, width = given.short_side + 2, given.short_side + 4
        examples.append(torch.zeros(_BATCH, frames, height, width, 3, dtype=torch.uint8))
        free = (Dim(f"{name}_{number}", min=given.size) for name in ("height", "width"))
        shapes.append({0: batch, **dict(zip((2, 3), free, strict=True))})
    try:
        with torch.no_grad():
            return torch.export.export(
                program, tuple(examples), dynamic_shapes=(tuple(shapes),), strict=False
            )
    except Exception as error:
        raise UserError(_refusal(run, "torch.export", error)) from error


def _refusal(run: TrainedRun, what: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    bodies = ", ".join(run.answering_names)
    return f"{bodies} cannot be written by {what} ({reason}); --to hub keeps the run as it is"
