"""A writer of synthetic run folders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bgan_video.media import sheets

CONFIG = """\
run:
  name: synthetic-run
data:
  layout: motion_shapes
posterior:
  bayes: true
  burn_in: 300
"""
CLASSES = ["still", "left", "right", "up", "down", "circle", "zoom", "shake"]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


def _predict(rng, labels, num_classes: int, signal: float, spread: float) -> np.ndarray:
    logits = rng.normal(size=(len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += signal
    return _softmax(spread * logits)


def _entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log(probs + 1e-12)).sum(axis=1)


def _figures(probs: np.ndarray, labels: np.ndarray) -> dict:
    """Metrics, computed without the report's code: a loop over the bins, as the ECE is defined."""
    confidence, right = probs.max(axis=1).astype(float), probs.argmax(axis=1) == labels
    ece = 0.0
    for low in range(15):
        inside = (confidence * 15 >= low) & ((confidence * 15 < low + 1) | (low == 14))
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    of_true = probs[np.arange(len(labels)), labels]
    top5 = (probs > of_true[:, None]).sum(axis=1) < 5
    brier = ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1)
    return {
        "top1": float(right.mean()),
        "top5": float(top5.mean()),
        "nll": float(-np.log(of_true).mean()),
        "ece": float(ece),
        "brier": float(brier.mean()),
        "count": len(labels),
    }


def _write_predictions(path: Path, rng, labels: np.ndarray, num_classes: int) -> dict:
    clip_labels = labels.repeat(2)
    tensors = {"video_labels": labels, "clip_labels": clip_labels}
    common = np.log(_predict(rng, labels, num_classes, 2.0, 1.6))
    members = [_softmax(common + rng.normal(size=common.shape)) for _ in range(4)]
    bayesian = np.mean(members, axis=0).astype(np.float32)
    expected = np.mean([_entropy(member) for member in members], axis=0)
    tensors |= {
        "bayesian/video_probs": bayesian,
        "bayesian/clip_probs": _predict(rng, clip_labels, num_classes, 1.8, 1.6),
        "bayesian/p_fake": rng.uniform(0, 0.4, len(labels)).astype(np.float32),
        "bayesian/total_entropy": _entropy(bayesian).astype(np.float32),
        "bayesian/expected_entropy": expected.astype(np.float32),
        "bayesian/mutual_information": (_entropy(bayesian) - expected).astype(np.float32),
        "supervised/video_probs": _predict(rng, labels, num_classes, 1.8, 2.4),
        "supervised/clip_probs": _predict(rng, clip_labels, num_classes, 1.6, 2.4),
    }
    path.parent.mkdir()
    save_file(tensors, path)
    return {
        model: {
            "clip": _figures(tensors[f"{model}/clip_probs"], clip_labels),
            "video": _figures(tensors[f"{model}/video_probs"], labels),
        }
        for model in ("bayesian", "supervised")
    }


def _log(rng, steps: int) -> list[dict]:
    rows = []
    for step in range(10, steps + 1, 10):
        decay, noise = math.exp(-step / 300), rng.normal(size=8) * 0.05
        rows.append(
            {
                "step": step, "epoch": step // 50,
                "phase": "burn_in" if step <= 300 else "sampling",
                "loss_d": 1.2 + 2 * decay + noise[0], "loss_g": 1.5 - decay + noise[1],
                "real": 0.4 + decay + noise[2], "fake": 0.5 + 0.5 * decay + noise[3],
                "labelled": 2 * decay + 0.1 + abs(noise[4]), "prior_d": 0.2,
                "generator": 1 - decay / 2,
                "prior_g": 0.1, "supervised": 2 * decay + abs(noise[5]),
                "d_real": 0.7 + noise[5], "d_fake_before": 0.35 + noise[6],
                "d_fake_after": 0.4 + noise[7], "train_top1": min(1.0, 1 - 0.8 * decay + noise[0]),
                "items_per_second": 118 + 20 * noise[1], "data_seconds": 0.01, "lr": 1e-3,
            }
        )  # fmt: skip
    return rows


def _evaluations(steps: int) -> list[dict]:
    def row(step: int) -> dict:
        growth = 1 - math.exp(-step / 350)
        models = {
            "bayesian": {"clip": {"top1": 0.66 * growth}, "video": {"top1": 0.125 + 0.6 * growth}},
            "supervised": {"clip": {"top1": 0.5 * growth}, "video": {"top1": 0.1 + 0.5 * growth}},
        }  # fmt: skip
        diagnostics = {
            "noise": {"temperature": 0.01, "weights": 6000, "num_data": 400, "nats": 0.075},
            "kinetic": {"target": 0.01, "median": 0.0105, "layers": {"D.a": 0.01, "G.b": 0.011}},
            "configurational": {"target": 0.01, "median": 0.03, "layers": {"D.a": 0.03}},
            "function_space": {"chains": 2, "draws": 10, "r_hat_median": 1.08, "bulk_min": None},
            "verdict": [f"On target at step {step}."],
        }
        return {"step": step, "split": "validation", "seconds": 3.0, "samples": 10,
                "models": models, "diagnostics": diagnostics}  # fmt: skip

    return [row(step) for step in range(200, steps + 1, 200)]


def _moving_squares(count: int, length: int, side: int, shift: int = 0) -> np.ndarray:
    clips = np.full((count, length, side, side, 3), 30, dtype=np.uint8)
    for n in range(count):
        for t in range(length):
            at = (3 * t + 5 * n + shift) % (side - 12)
            clips[n, t, 10 + n : 22 + n, at : at + 12] = (240, 60 + 40 * (n % 5), 40 * (n % 6))
    return clips


def _write_samples(folder: Path, rng) -> None:
    folder.mkdir()
    real = _moving_squares(4, 16, 32)
    sheets.write_png(folder / "real_samples.png", sheets.contact_sheet(real))
    sheets.write_mp4(folder / "real_samples.mp4", real, fps=8)
    for z in range(2):
        for epoch in (1, 5, 10):
            clips = _moving_squares(4, 16, 32, shift=7 * z)
            noise = rng.integers(-255, 255, clips.shape) // epoch
            clips = np.clip(clips + noise, 0, 255).astype(np.uint8)
            stem = folder / f"fake_samples_epoch_{epoch:03d}_G_z{z:02d}_m00"
            sheets.write_png(stem.with_suffix(".png"), sheets.contact_sheet(clips))
            sheets.write_mp4(stem.with_suffix(".mp4"), clips, fps=8)


def write_run(folder: Path, num_test: int = 240, num_classes: int = 8, steps: int = 1000) -> Path:
    """A run folder with everything in it."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    labels = np.arange(num_test) % num_classes
    names = (CLASSES + [f"class-{n}" for n in range(num_classes)])[:num_classes]
    train = [("train", n, n % num_classes, n < 5 * num_classes) for n in range(400)]
    items = train + [("test", n, int(label), False) for n, label in enumerate(labels)]
    manifest_items = [
        {"path": f"{names[label]}/{split}_{n:04d}.mp4", "label": label, "group": f"g{n // 4}",
         "split": split, "labelled": labelled, "fingerprint": ""}
        for split, n, label, labelled in items
    ]  # fmt: skip
    _write_json(
        folder / "manifest.json",
        {"schema": 1, "name": "motion_shapes", "classes": names, "items": manifest_items},
    )
    _write_json(
        folder / "environment.json",
        {"python": "3.12", "torch": "2.11", "device": "cpu", "hardware": "8-core CPU",
         "precision": "fp32", "threads": 8},
    )  # fmt: skip
    _write_lines(folder / "log.jsonl", _log(rng, steps))
    _write_lines(folder / "evaluations.jsonl", _evaluations(steps))
    models = _write_predictions(
        folder / "predictions" / "test.safetensors", rng, labels, num_classes
    )
    data = {"name": "motion_shapes", "num_classes": num_classes, "num_labelled": 5 * num_classes,
            "num_unlabelled": 400, "num_test": num_test, "fold": 1}  # fmt: skip
    _write_json(
        folder / "metrics.json",
        {"schema": 1, "step": steps, "seconds": 412.0, "data": data, "models": models},
    )
    _write_samples(folder / "samples", rng)
    (folder / "posterior").mkdir()
    (folder / "posterior" / "discriminator_1_0.safetensors").write_bytes(b"weights")
    _write_json(folder / "posterior" / "finished.json", {})
    _write_lines(folder / "broken.jsonl", [{"path": "left/cut.mp4", "reason": "<no video stream>"}])
    return folder


@pytest.fixture(name="write_run")
def _write_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture(scope="session", name="shared_run")
def _shared_run(tmp_path_factory) -> Path:
    """A full run folder that no test changes."""
    return write_run(tmp_path_factory.mktemp("reports") / "run")
