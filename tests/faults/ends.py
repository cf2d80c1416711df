"""What a command leaves, without what a clock says: equal where nothing was lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

_CLOCK = {"seconds", "data_seconds", "items_per_second", "gpu_seconds", "peak_memory_mib"}
# Pictures; and the name of the run and its folder, which differ between two of them.
_BY_NAME = (".png", ".mp4", ".html", "environment.json", "config.yaml", "lock")


def of_run(run: Path) -> dict[str, Any]:
    """Every file of a run folder by name, with its content in a form that can be compared."""
    files = (f for f in run.rglob("*") if f.is_file() and "tensorboard" not in f.parts)
    return {str(file.relative_to(run)): _content(file) for file in sorted(files)}


def of_store(store: Path) -> set[str]:
    """The frames or features that an index has, by video; where they lie depends on kills."""
    index = next(store.rglob("index.jsonl"))
    places = {"shard", "offset", "file", "key"}
    lines = {r["path"]: r for r in map(json.loads, index.read_text().splitlines())}
    return {json.dumps({k: v for k, v in r.items() if k not in places}) for r in lines.values()}


def _content(file: Path) -> Any:
    if file.name.endswith(_BY_NAME):
        return None
    if file.suffix == ".pt":
        return _values(torch.load(file, weights_only=True))
    if file.suffix in (".json", ".jsonl"):
        lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        return [_values(json.loads(line)) for line in lines]
    if file.suffix == ".safetensors":  # whose header is in no order
        with safe_open(file, framework="pt") as opened:
            return opened.metadata(), _values(load_file(file))
    return file.read_bytes()


def _values(part: Any) -> Any:
    """Tensors as bytes, and no value of a clock; `run` tells runs apart."""
    if isinstance(part, Tensor):
        return part.numpy().tobytes()
    if isinstance(part, Mapping):
        return {k: _values(v) for k, v in part.items() if k not in _CLOCK and k != "run"}
    return [_values(v) for v in part] if isinstance(part, list | tuple) else part
