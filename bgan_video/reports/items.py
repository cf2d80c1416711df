"""The parts of the report that show single items: clips, and the videos worth looking at."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bgan_video.reports.reading import ModelPredictions, Predictions, RunFolder, Sample

SHOWN_ITEMS = 10
SHOWN_EPOCHS = 6
MEDIA = {"png": "image/png", "mp4": "video/mp4", "webp": "image/webp"}


@dataclass(frozen=True)
class Film:
    """A sample ready for the page; `sheet` or `video` is empty where there is no such file."""

    title: str
    sheet: str
    video: str


@dataclass(frozen=True)
class Samples:
    """Real clips, each generator's last ones, and how the first generator's changed.

    `beside` is a picture that plays real clips beside generated ones, empty where there is none.
    """

    real: Film | None
    last: list[Film]
    progress: list[Film]
    beside: str = ""


@dataclass(frozen=True)
class ItemRow:
    """An item the run is judged on, in a table."""

    path: str
    true: str
    predicted: str
    probability: str
    true_probability: str
    measure: str
    supervised: str


def samples(folder: RunFolder) -> Samples:
    """The clips to show."""
    last = [versions[-1] for versions in folder.fakes.values()]
    first = next(iter(folder.fakes.values()), [])
    return Samples(
        real=_film(folder.real, "real") if folder.real else None,
        last=[_film(sample, f"{sample.name}, epoch {sample.epoch}") for sample in last],
        progress=[_sheet(sample, f"epoch {sample.epoch}") for sample in _spread(first)],
        beside=data_uri(folder.beside),
    )


def smaller_samples(samples: Samples) -> Iterator[Samples]:
    """The same with less to show each time, and then nothing.

    First without progress, then without films of what was generated, then real clips, one sheet,
    and what plays beside real ones.
    """
    still = [replace(film, video="") for film in samples.last]
    yield replace(samples, progress=[])
    yield replace(samples, progress=[], last=still)
    real = replace(samples.real, video="") if samples.real else None
    yield Samples(real, still[:1], [], samples.beside)
    yield Samples(None, [], [])


def most_wrong(folder: RunFolder) -> list[ItemRow]:
    """The wrong test items the posterior is most confident about."""
    posterior = _posterior(folder)
    if posterior is None:
        return []
    predictions, model = posterior
    wrong = np.flatnonzero(model.predicted != predictions.labels)
    order = wrong[np.argsort(-model.confidence[wrong], kind="stable")]
    return _rows(folder, predictions, model, order[:SHOWN_ITEMS])


def most_uncertain(folder: RunFolder) -> list[ItemRow]:
    """The test items the posterior's samples disagree on most."""
    posterior = _posterior(folder)
    if posterior is None:
        return []
    predictions, model = posterior
    order = np.argsort(-_measure(model), kind="stable")
    return _rows(folder, predictions, model, order[:SHOWN_ITEMS])


def data_uri(path: Path | None) -> str:
    """A file as a data URI; empty where there is none."""
    if path is None or not path.stat().st_size:
        return ""
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{MEDIA[path.suffix.removeprefix('.')]};base64,{encoded}"


def _posterior(folder: RunFolder) -> tuple[Predictions, ModelPredictions] | None:
    predictions = folder.predictions
    if predictions is None or "bayesian" not in predictions.models:
        return None
    return predictions, predictions.models["bayesian"]


def _measure(model: ModelPredictions) -> np.ndarray:
    """Mutual information; 0 where the samples' disagreement was not recorded."""
    known = model.uncertainty.get("mutual_information")
    return np.zeros(len(model.probs)) if known is None else known


def _rows(
    folder: RunFolder, predictions: Predictions, model: ModelPredictions, order: np.ndarray
) -> list[ItemRow]:
    paths = _paths(folder, predictions)
    supervised = predictions.models.get("supervised")
    measure = _measure(model)
    return [
        ItemRow(
            path=paths[index],
            true=folder.class_name(int(predictions.labels[index])),
            predicted=folder.class_name(int(model.predicted[index])),
            probability=f"{model.confidence[index]:.3f}",
            true_probability=f"{model.probs[index, predictions.labels[index]]:.3f}",
            measure=f"{measure[index]:.3f}",
            supervised=folder.class_name(int(supervised.predicted[index])) if supervised else "–",
        )
        for index in order.tolist()
    ]


def _paths(folder: RunFolder, predictions: Predictions) -> list[str]:
    """Paths of the items; only numbers where the manifest does not fit the predictions."""
    items = folder.judged_items
    if [item.get("label") for item in items] == predictions.labels.tolist():
        return [str(item.get("path")) for item in items]
    return [f"{folder.split} item {index}" for index in range(len(predictions.labels))]


def _spread(versions: list[Sample]) -> list[Sample]:
    """A few of a generator's versions, evenly spaced from the first to the last."""
    if len(versions) < 2:
        return []
    picks = np.linspace(0, len(versions) - 1, min(len(versions), SHOWN_EPOCHS)).round().astype(int)
    return [versions[index] for index in picks if versions[index].png]


def _film(sample: Sample, title: str) -> Film:
    return Film(title, sheet=data_uri(sample.png), video=data_uri(sample.mp4))


def _sheet(sample: Sample, title: str) -> Film:
    return Film(title, sheet=data_uri(sample.png), video="")
