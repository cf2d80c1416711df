"""Typed reading of a run folder. Whatever is absent, empty or torn reads as nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.numpy import load_file
from yaml import YAMLError

from bgan_video import parsing
from bgan_video.config import CHANGES, Data, Method, model_of
from bgan_video.data.recordings import recording
from bgan_video.errors import UserError
from bgan_video.metrics.arrays import Floats
from bgan_video.metrics.scores import Judged, judge

Row = dict[str, Any]

FIRST_MODELS = ("bayesian", "supervised")
MODELS = tuple(map(model_of, get_args(Method)))
WHOLE_LEVELS = ("video", "image", "point")
"""Names of the level at which one test item is one prediction."""
UNCERTAINTIES = ("p_fake", "total_entropy", "expected_entropy", "mutual_information")
ROUND_NAME = re.compile(r"round_(\d+)\.jsonl")
BESIDE_NAME = "real_and_generated.webp"
"""A picture that plays real clips beside generated ones, where quality was measured."""
FAKE_NAME = re.compile(r"fake_samples_epoch_(\d+)_G_z(\d+)_m(\d+)\.(png|mp4)")


@dataclass(frozen=True)
class ModelPredictions:
    """What one model says about every item the run is judged on."""

    probs: Floats
    """`[V, K]`."""
    uncertainty: Mapping[str, Floats] = field(default_factory=dict)
    """Some of `UNCERTAINTIES`, each `[V]`."""

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable class of each item."""
        return self.probs.argmax(axis=1)

    @property
    def confidence(self) -> Floats:
        """The probability of that class."""
        return self.probs.max(axis=1)


@dataclass(frozen=True)
class Predictions:
    """True labels and every model's predictions of the items a run is judged on, in their order."""

    labels: NDArray[np.integer[Any]]
    models: Mapping[str, ModelPredictions]
    unusable: list[str] = field(default_factory=list)
    """Models whose probabilities are not finite or do not fit the labels."""

    def judged(self, model: str) -> Judged:
        """A model's answers against the labels."""
        return judge(self.models[model].probs, self.labels)


@dataclass(frozen=True)
class Sample:
    """One set of generated or real clips: a film, a contact sheet, or both."""

    name: str
    epoch: int | None = None
    png: Path | None = None
    mp4: Path | None = None


@dataclass(frozen=True)
class RunFolder:
    """Everything the report needs."""

    path: Path
    config_text: str
    config: Row
    environment: Row
    classes: list[str]
    items: list[Row]
    log: list[Row]
    evaluations: list[Row]
    metrics: Row
    quality: Row
    predictions: Predictions | None
    broken: list[Row]
    real: Sample | None
    fakes: dict[str, list[Sample]]
    """Samples of each generator, by epoch."""
    beside: Path | None = None
    """A picture that plays real clips beside generated ones."""
    pseudo_labels: dict[int, list[Row]] = field(default_factory=dict)
    """What each round of self-training believes."""
    changes: list[Row] = field(default_factory=list)
    """What was changed since the run began."""
    split: str = "test"
    """What the run is judged on: test, or validation while one develops."""
    networks_removed: bool = False
    """Whether there are none to ask any more: a study removes those of its cells."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(section(self.config, "run").get("name") or self.path.name)

    @property
    def answering(self) -> str | None:
        """The model that predicts and suggests, which `metrics.json` has first.

        None where there are no predictions of any.
        """
        predicted = {} if self.predictions is None else self.predictions.models
        named = [*section(self.metrics, "models"), *predicted]
        return next((name for name in named if name in predicted), None)

    @property
    def judged_items(self) -> list[Row]:
        """The manifest's items that the run is judged on."""
        return [item for item in self.items if item.get("split") == self.split]

    @property
    def unlabelled(self) -> list[Row]:
        """The manifest's training items that may be asked for."""
        return [i for i in self.items if i.get("split") == "train" and not i.get("labelled")]

    @property
    def recordings(self) -> tuple[str, ...] | None:
        """What each judged item was cut from; None where manifest and predictions do not fit."""
        labels = [] if self.predictions is None else self.predictions.labels.tolist()
        if not labels or [item.get("label") for item in self.judged_items] != labels:
            return None
        settings = section(self.config, "data")
        known = {key: settings[key] for key in ("layout", "groups_span_classes") if key in settings}
        try:
            data = parsing.build(Data, known)
        except UserError:
            return None
        groups = (str(item.get("group")) for item in self.judged_items)
        return tuple(recording(*of, data) for of in zip(labels, groups, strict=True))

    def class_name(self, index: int) -> str:
        """The name of a class, or its number where the manifest does not tell."""
        return self.classes[index] if index < len(self.classes) else f"class {index}"


def read_run(run_dir: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        UserError: It has no `config.yaml`, so it is no run folder.
    """
    config_path = run_dir / "config.yaml"
    if not config_path.is_file():
        raise UserError(f"{run_dir} is not a run folder: it has no config.yaml")
    manifest, metrics = (_read_json(run_dir / f"{n}.json") for n in ("manifest", "metrics"))
    split = "validation" if metrics.get("split") == "validation" else "test"
    real, fakes = _read_samples(run_dir / "samples")
    return RunFolder(
        path=run_dir,
        config_text=config_path.read_text(encoding="utf-8", errors="replace"),
        config=_read_yaml(config_path),
        environment=_read_json(run_dir / "environment.json"),
        classes=[str(name) for name in manifest.get("classes") or []],
        items=[item for item in manifest.get("items") or [] if isinstance(item, dict)],
        log=_read_lines(run_dir / "log.jsonl"),
        evaluations=_read_lines(run_dir / "evaluations.jsonl"),
        metrics=metrics,
        quality=_read_json(run_dir / "quality.json"),
        predictions=_read_predictions(run_dir / "predictions" / f"{split}.safetensors"),
        broken=_read_lines(run_dir / "broken.jsonl"),
        real=real,
        fakes=fakes,
        beside=_existing(run_dir / "samples" / BESIDE_NAME),
        pseudo_labels=_read_rounds(run_dir / "pseudo_labels"),
        changes=_read_lines(run_dir / CHANGES),
        split=split,
        networks_removed=_are_removed(run_dir / "posterior"),
    )


def section(mapping: Mapping[str, Any], key: str) -> Row:
    """A nested mapping, empty where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, dict) else {}


def model_order(names: Iterable[str]) -> list[str]:
    """The two compared models first, then their rivals, then any others by name."""
    present = set(names)
    first = [name for name in MODELS if name in present]
    return first + sorted(present.difference(first))


def _read_yaml(path: Path) -> Row:
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError):
        return {}
    return {str(key): value for key, value in loaded.items()} if isinstance(loaded, dict) else {}


def _read_json(path: Path) -> Row:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _read_lines(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rows = (_parse_line(line) for line in lines)
    return [row for row in rows if row is not None]


def _parse_line(line: str) -> Row | None:
    # A killed run leaves its last line half written; that line is not an error of the report.
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _read_rounds(folder: Path) -> dict[int, list[Row]]:
    names = ((ROUND_NAME.fullmatch(path.name), path) for path in folder.glob("round_*.jsonl"))
    return {int(match[1]): _read_lines(path) for match, path in names if match is not None}


def _read_predictions(path: Path) -> Predictions | None:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    for level in WHOLE_LEVELS:
        labels = tensors.get(f"{level}_labels")
        if labels is not None and len(labels):
            return _split_models(tensors, level, labels)
    return None


def _split_models(
    tensors: Mapping[str, Floats], level: str, labels: NDArray[np.integer[Any]]
) -> Predictions:
    suffix = f"/{level}_probs"
    models, unusable = {}, []
    names = {key.removesuffix(suffix): key for key in tensors if key.endswith(suffix)}
    for name in model_order(names):
        probs = tensors[names[name]].astype(np.float64)
        if _fits(probs, labels):
            models[name] = ModelPredictions(probs, _read_uncertainty(tensors, name, len(labels)))
        else:
            unusable.append(name)
    return Predictions(labels, models, unusable)


def _fits(probs: Floats, labels: NDArray[np.integer[Any]]) -> bool:
    return (
        probs.ndim == 2
        and len(probs) == len(labels)
        and 0 <= labels.min() <= labels.max() < probs.shape[1]
        and bool(np.isfinite(probs).all())
    )


def _read_uncertainty(tensors: Mapping[str, Floats], name: str, count: int) -> dict[str, Floats]:
    measures = {key: tensors.get(f"{name}/{key}") for key in UNCERTAINTIES}
    return {
        key: value
        for key, value in measures.items()
        if value is not None and value.shape == (count,) and np.isfinite(value).all()
    }


def _read_samples(folder: Path) -> tuple[Sample | None, dict[str, list[Sample]]]:
    by_sample: dict[tuple[str, int], dict[str, Path]] = {}
    for path in sorted(folder.glob("fake_samples_epoch_*")):
        if match := FAKE_NAME.fullmatch(path.name):
            epoch, z, m, kind = match.groups()
            by_sample.setdefault((f"G z{z} m{m}", int(epoch)), {})[kind] = path
    fakes: dict[str, list[Sample]] = {}
    for (name, epoch), files in sorted(by_sample.items()):
        fakes.setdefault(name, []).append(Sample(name, epoch, files.get("png"), files.get("mp4")))
    png, mp4 = (_existing(folder / f"real_samples.{kind}") for kind in ("png", "mp4"))
    real = Sample("real", png=png, mp4=mp4) if png or mp4 else None
    return real, fakes


def _are_removed(posterior: Path) -> bool:
    """Whether a finished run's networks are gone."""
    is_finished = (posterior / "finished.json").is_file()
    return is_finished and not any(posterior.glob("*.safetensors"))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
