"""Cells that finish at once: run folders as training leaves them, without training.

As a program, `python fake.py CONFIG.yaml [FOLDER]` is a cell's process: it makes the run folder the
settings name. Texts beside the cells steer it, so that a test can make a cell fail or wait.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import save_file

CLASSES = ("left", "right", "up", "down")
NUM_RECORDINGS, PER_RECORDING = 12, 2


def write_cell(folder: Path, config: dict, skill: float = 1.0, seed: int = 0) -> None:
    """A finished run folder; `skill` is how much the right class stands out."""
    begin(folder, config)
    split = config["train"]["final_split"]
    labels = np.tile(np.arange(len(CLASSES)), NUM_RECORDINGS * PER_RECORDING // len(CLASSES))
    items = [
        {"path": f"test_{n}.avi", "label": int(label), "group": f"person{n // PER_RECORDING}",
         "split": split, "labelled": False}
        for n, label in enumerate(labels)
    ]  # fmt: skip
    write_json(folder / "manifest.json", {"classes": CLASSES, "items": items})
    logits = np.random.default_rng(seed).normal(size=(len(labels), len(CLASSES)))
    logits[np.arange(len(labels)), labels] += skill
    probs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    right = probs.argmax(1) == labels
    nll = -np.log(probs[np.arange(len(labels)), labels])
    figures = {"top1": float(right.mean()), "top5": 1.0, "nll": float(nll.mean()),
               "ece": ece(probs.max(1), right), "brier": 0.5, "count": len(labels)}  # fmt: skip
    write_json(
        folder / "metrics.json",
        {
            "split": split,
            "seconds": 60.0 + seed,
            "peak_memory_mib": 800.0,
            "data": {"num_labelled": 4 * (config["data"]["labels_per_class"] or 10)},
            "models": {"bayesian": {"clip": figures, "video": figures}},
            "networks": {"bayesian": 4},
            "calibration": {"bayesian": {"video": {"aurc": 0.1, "scaled": {"nll": 0.5}}}},
            "open_set": {"auroc": {"bayesian": {"total_entropy": 0.75}}},
        },
    )
    (folder / "predictions").mkdir(exist_ok=True)
    tensors = {"video_labels": labels, "bayesian/video_probs": probs}
    save_file(tensors, folder / "predictions" / f"{split}.safetensors")


def begin(folder: Path, config: dict) -> None:
    """What a run has from its start, with weights to be removed at its end."""
    for name in ("checkpoints", "samples", "posterior"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "checkpoints" / "step_1.pt").write_text("weights")
    (folder / "posterior" / "d.safetensors").write_text("weights")
    (folder / "posterior" / "finished.json").write_text("{}")


def ece(confidence: np.ndarray, right: np.ndarray) -> float:
    """As it is defined: a loop over the bins."""
    total = 0.0
    for low in range(15):
        inside = (confidence * 15 >= low) & ((confidence * 15 < low + 1) | (low == 14))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(total)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def main(settings: Path, resumed: bool) -> None:
    config = yaml.safe_load(settings.read_text())
    folder = settings.parent if resumed else settings.with_suffix("")
    steer = folder.parent / "steer"
    sys.stdout.write(f"{folder.name} {'resumed' if resumed else 'begins'}\n")
    sys.stdout.flush()
    with (folder.parent / "order.txt").open("a") as file:
        file.write(folder.name + "\n")
    begin(folder, config)
    wish = (steer / folder.name).read_text() if (steer / folder.name).is_file() else ""
    if wish == "fail":
        sys.exit("error: data.fold=7 is not there")
    if wish == "wait":
        time.sleep(60)
    time.sleep(float(wish or 0))
    write_cell(folder, config, seed=config["run"]["seed"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), resumed=Path(sys.argv[1]).name == "config.yaml")
