"""A trained run, opened from its folder: evaluate it, or predict with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bgan_video import config as config_module
from bgan_video import precision
from bgan_video.config import Config
from bgan_video.data.decode import BrokenVideo
from bgan_video.data.frames import Frames, too_short
from bgan_video.data.layouts import VIDEO_SUFFIXES
from bgan_video.data.manifest import Item, Manifest, Split, fingerprint
from bgan_video.errors import UserError
from bgan_video.evaluation.clips import test_chunks
from bgan_video.evaluation.metrics import Metrics
from bgan_video.evaluation.predict import (
    Networks,
    Prediction,
    Stored,
    figures,
    predict,
    predict_all,
)
from bgan_video.files import append_line, write_atomically
from bgan_video.inference import SampleBank
from bgan_video.models import build_discriminator

# What may differ from the run's own settings when it is only looked at.
ADJUSTABLE = (
    "clip.test_clips",
    "clip.test_crops",
    "data.root",
    "data.decoder",
    "run.device",
    "run.precision",
)
# Written last: before it, the bank may hold some chains of a step and not the others.
FINISHED = Path("posterior") / "finished.json"
# The stored networks of each model, by the bank's word for them.
_KINDS = {"bayesian": "discriminator", "supervised": "supervised"}


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one file. Entropies in nats.

    Attributes:
        path: As it was given.
        probabilities: Of the classes, in the manifest's order.
        p_fake: Mean probability of 'fake'.
        total_entropy: Of the posterior-mean probabilities.
        mutual_information: Between label and weights: high where the networks disagree.
    """

    path: str
    probabilities: list[float]
    p_fake: float
    total_entropy: float
    mutual_information: float


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be predicted, and why."""

    path: str
    error: str


class TrainedRun:
    """A finished run.

    Args:
        folder: The run's folder.
        overrides: `key=value` for the settings in `ADJUSTABLE`.

    Raises:
        UserError: Not a run, not finished, or a setting that belongs to the training.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        self.config = _adjusted(folder, overrides)
        self.backend = precision.resolve(self.config.run)
        manifest = (folder / "manifest.json").read_text(encoding="utf-8")
        self.manifest = Manifest.from_json(manifest)
        self.bank = SampleBank(folder / "posterior", self.config.posterior.max_samples)
        if not (folder / FINISHED).is_file():
            raise UserError(
                f"{folder} is not finished; finish it with train_video.py --resume {folder}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.manifest.classes

    def networks(self, model: str) -> Networks:
        """The stored networks of `bayesian` or `supervised`."""
        module = empty_discriminator(self.config, self.manifest).to(self.backend.device)
        return Stored(self.bank, _KINDS[model], module)

    @property
    def models(self) -> list[str]:
        """The models this run has."""
        return [model for model, kind in _KINDS.items() if self.bank.records(kind)]

    def predict_items(self, items: Sequence[Item], frames: Frames) -> dict[str, Prediction]:
        """Every model's prediction of some surveyed items."""
        networks = {model: self.networks(model) for model in self.models}
        return predict_all(networks, test_chunks(items, frames, self.config), self.backend)

    def evaluate(self, split: Split = "test") -> dict[str, Any]:
        """Evaluate every model on a split; the test split writes `metrics.json` and predictions.

        Raises:
            UserError: The split is empty, or a video changed.
        """
        items = self.manifest.part(split)
        if not items:
            raise UserError(f"{self.folder}: fold {self.manifest.fold} has no {split} videos")
        frames = Frames(self.config.data.root or self.manifest.root, self.config)
        for item in items:
            _check_same(frames.root / item.path, item)
        labels = torch.tensor([item.label for item in items])
        predictions = self.predict_items(items, frames)
        models = {model: figures(p, labels) for model, p in predictions.items()}
        step = self.config.train.steps
        if split == "test":
            self._write_metrics(step, models)
            _write_predictions(
                self.folder / "predictions" / "test.safetensors", predictions, labels
            )
        append_line(
            self.folder / "evaluations.jsonl",
            {
                "step": step,
                "split": split,
                "samples": len({r.step for r in self.bank.records("discriminator")}),
                "test_clips": self.config.clip.test_clips,
                "test_crops": self.config.clip.test_crops,
                "models": models,
            },
        )
        return models

    def predict(self, paths: Sequence[Path | str]) -> Iterator[VideoPrediction | Unreadable]:
        """Predict video files, or all videos in folders, one by one with the Bayesian model.

        A file that does not read is one `Unreadable`; the rest go on.
        """
        networks = self.networks("bayesian")
        for path in _expand(paths):
            frames = Frames("", self.config)
            try:
                item = frames.survey(Item(str(path), 0, "", "test"))
            except BrokenVideo as error:
                yield Unreadable(str(path), error.reason)
                continue
            if reason := too_short(item, self.config):
                yield Unreadable(str(path), reason)
                continue
            p = predict(networks, test_chunks([item], frames, self.config), self.backend)
            yield VideoPrediction(
                str(path),
                p.video_probabilities[0].tolist(),
                p.p_fake.item(),
                p.total_entropy.item(),
                p.mutual_information.item(),
            )

    def _write_metrics(self, step: int, models: dict[str, dict[str, Metrics]]) -> None:
        manifest = self.manifest
        content = {
            "schema": 1,
            "step": step,
            "seconds": _training_seconds(self.folder / "log.jsonl"),
            "data": {
                "name": manifest.name,
                "num_classes": manifest.num_classes,
                "num_labelled": len(manifest.labelled),
                "num_unlabelled": len(manifest.part("train")),
                "num_test": len(manifest.part("test")),
                "fold": manifest.fold,
            },
            "models": models,
        }
        write_atomically(self.folder / "metrics.json", json.dumps(content, indent=2) + "\n")


def load(folder: Path | str, overrides: Sequence[str] = ()) -> TrainedRun:
    """Open a finished run."""
    return TrainedRun(Path(folder), overrides)


def empty_discriminator(config: Config, manifest: Manifest) -> nn.Module:
    """A discriminator to load stored weights into; draws no random number anyone else uses."""
    with torch.random.fork_rng(devices=[]):
        return build_discriminator(config.without_weights(), manifest.num_classes)


def _adjusted(folder: Path, overrides: Sequence[str]) -> Config:
    for override in overrides:
        key = override.partition("=")[0]
        if key not in ADJUSTABLE:
            raise UserError(
                f"{key} cannot be set for a trained run; allowed: {', '.join(ADJUSTABLE)}"
            )
    return config_module.load_run(folder, overrides)


def _expand(paths: Sequence[Path | str]) -> Iterator[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in VIDEO_SUFFIXES]
            if not found:
                raise UserError(f"{path} holds no videos ({' '.join(VIDEO_SUFFIXES)})")
            yield from found
        else:
            yield path


def _check_same(path: Path, item: Item) -> None:
    if not path.is_file() or fingerprint(path) != item.fingerprint:
        raise UserError(f"{path} is not the file the run was made with; data.root names the folder")


def _training_seconds(log: Path) -> float:
    lines = log.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["seconds"] for line in lines)


def _write_predictions(path: Path, predictions: dict[str, Prediction], labels: Tensor) -> None:
    some = next(iter(predictions.values()))
    per_video = len(some.clip_probabilities) // len(labels)
    tensors = {
        "video_labels": labels,
        "clip_labels": labels.repeat_interleave(per_video),
    }
    for model, p in predictions.items():
        tensors[f"{model}/clip_probs"] = p.clip_probabilities.float()
        tensors[f"{model}/video_probs"] = p.video_probabilities.float()
        tensors[f"{model}/p_fake"] = p.p_fake.float()
        tensors[f"{model}/total_entropy"] = p.total_entropy.float()
        tensors[f"{model}/expected_entropy"] = p.expected_entropy.float()
        tensors[f"{model}/mutual_information"] = p.mutual_information.float()
    write_atomically(path, save(tensors))
