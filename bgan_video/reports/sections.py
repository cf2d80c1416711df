"""The report's sections: from a run folder to pictures, rows and sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bgan_video.config import (
    FEATURES,
    ITEMS,
    ON_FEATURES,
    Baseline,
    Features,
    model_of,
    spatial_dims_of,
)
from bgan_video.metrics import ranking
from bgan_video.metrics.calibration import ece, reliability
from bgan_video.reports import plots
from bgan_video.reports.comparison import number
from bgan_video.reports.plots import Picture, Series, label_of
from bgan_video.reports.reading import (
    WHOLE_LEVELS,
    Predictions,
    Row,
    RunFolder,
    model_order,
    section,
)

LOSSES = ("loss_d", "loss_g")
TERMS = (
    "real",
    "fake",
    "labelled",
    "consistency",
    "pretext",
    "prior_d",
    "generator",
    "mask",
    "prior_g",
    "supervised",
)
JUDGEMENTS = {"d_real": "D(x)", "d_fake_before": "D(G(z)) before", "d_fake_after": "D(G(z)) after"}


def item_kind(folder: RunFolder) -> str:
    """What the items are called: by the level of the figures, or by the layout."""
    for model in section(folder.metrics, "models").values():
        for level in WHOLE_LEVELS:
            if isinstance(model, dict) and level in model:
                return f"{level}s"
    return ITEMS[spatial_dims_of(str(section(folder.config, "data").get("layout")))]


def lead(folder: RunFolder) -> str:
    """Which methods the run trained."""
    methods = section(folder.config, "baseline").get("methods") or Baseline.methods
    if {*methods} == {"bayesian_gan", "supervised"}:
        return "A Bayesian GAN trained on few labels, against a network trained on labels alone."
    named = [label_of(model_of(m)) if m != "bayesian_gan" else "Bayesian GAN" for m in methods]
    return f"Trained on few labels: {', '.join(named)}."


def facts(folder: RunFolder) -> list[tuple[str, str]]:
    """What was trained, on what, how long and where."""
    data, environment = section(folder.metrics, "data"), folder.environment
    counts = _counts(folder) | {key: value for key, value in data.items() if value is not None}
    seconds = number(folder.metrics.get("seconds"))
    speed = [number(row.get("items_per_second")) for row in folder.log]
    known_speed = [value for value in speed if value is not None]
    layout = section(folder.config, "data").get("layout")
    rows = {
        "data": data.get("name") or layout,
        "fold": data.get("fold"),
        "classes": counts.get("num_classes"),
        "labelled": counts.get("num_labelled"),
        "unlabelled": counts.get("num_unlabelled"),
        folder.split: _count_judged(folder, counts),
        "pretrained weights": pretrained_weights(folder.config),
        "judged by": judged_by(folder.metrics),
        "steps": folder.metrics.get("step"),
        "rolled back": _rolled_back(folder.changes),
        "time": None if seconds is None else show_duration(seconds),
        "speed": f"{np.median(known_speed):.0f} items/s" if known_speed else None,
        "hardware": environment.get("hardware") or environment.get("device"),
        "precision": environment.get("precision"),
    }
    return [(key, str(value)) for key, value in rows.items() if value is not None]


def pretrained_weights(config: Row) -> str | None:
    """The names of weights that others trained, and of the bodies that have them.

    Args:
        config: A run's settings, as nested dicts.
    """
    discriminator, features = section(config, "discriminator"), section(config, "features")
    told: list[str] = []
    if weights := discriminator.get("weights"):
        told.append(f"{Path(str(weights)).name} ({discriminator.get('name')})")
    methods = {*(section(config, "baseline").get("methods") or Baseline.methods)}
    bodies = (discriminator.get("bodies") or []) if "bayesian_gan" in methods else []
    frozen = [str(b).removeprefix(FEATURES) for b in bodies if str(b).startswith(FEATURES)]
    if methods & {*ON_FEATURES}:
        frozen.append(str(features.get("body", Features.body)))
    own = features.get("weights")
    for body in dict.fromkeys(frozen):
        told.append(f"{Path(str(own)).name} ({body}, frozen)" if own else f"{body} (frozen)")
    return ", ".join(told) or None


def judged_by(metrics: Row) -> str | None:
    """The clips of each test video, which `evaluate` may have set otherwise than the run."""
    clips, crops = number(metrics.get("test_clips")), number(metrics.get("test_crops"))
    told: list[str] = []
    if clips is not None and crops is not None and clips * crops > 1:
        told.append(f"{clips:g} clips × {crops:g} crops" if crops > 1 else f"{clips:g} clips")
    if metrics.get("renormalised"):
        told.append("normalisation statistics taken anew")
    return "; ".join(told) or None


def _rolled_back(changes: Sequence[Row]) -> str | None:
    """What was not finite, and from where the run went on with halved step sizes each time."""
    told = [
        f"{row.get('what')} not finite after step {row.get('after')}: from step {row.get('step')} "
        f"on with all step sizes halved"
        for row in changes
        if "settings" in row
    ]
    return "; ".join(told) or None


def show_duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def learning_curves(folder: RunFolder) -> list[Picture]:
    """Losses and terms, what the discriminators say, and top-1."""
    ends = burn_in_ends(folder.log)
    losses = _named_series(folder.log, {key: key for key in LOSSES})
    terms = _named_series(folder.log, {key: key for key in TERMS})
    judgements = _named_series(folder.log, JUDGEMENTS)
    pretext = _named_series(folder.log, {"pretext_top1": "which transformation"})
    panels = {"losses": losses, "terms": terms, "probability of being real": judgements}
    panels["top-1 of the pretext task"] = pretext
    pictures = [plots.lines(title, named, ends) for title, named in panels.items() if named]
    training = series(folder.log, "train_top1")
    split, held_out = _held_out(folder.evaluations)
    if training is not None or held_out:
        pictures.append(plots.accuracy(training, held_out, ends, split))
    return pictures


def burn_in_ends(log: Sequence[Row]) -> list[float]:
    """The last logged step of each round's burn-in, where sampling followed."""
    phases = [(row.get("phase"), number(row.get("step"))) for row in log]
    return [
        step
        for (phase, step), (then, _) in pairwise(phases)
        if (phase, then) == ("burn_in", "sampling") and step is not None
    ]


def series(rows: Sequence[Row], key: str) -> Series | None:
    """Steps and values of a logged figure, where it was a number at least once."""
    points = [(number(row.get("step")), number(row.get(key))) for row in rows]
    known = [point for point in points if None not in point]
    if not known:
        return None
    steps, values = np.array(known, dtype=float).T
    return steps, values


def calibration(folder: RunFolder) -> list[Picture]:
    """The reliability diagram of every model."""
    predictions = _usable(folder)
    if predictions is None:
        return []
    pictures = []
    for name, color in plots.colors_of(list(predictions.models)).items():
        model = predictions.models[name]
        right = model.predicted == predictions.labels
        bins, gap = reliability(model.confidence, right), ece(model.confidence, right)
        pictures.append(plots.reliability(name, color, bins, gap, item_kind(folder)))
    return pictures


def confusion(folder: RunFolder) -> dict[str, Any] | None:
    """A confusion matrix for each model, and whether they need the page's whole width."""
    predictions = _usable(folder)
    if predictions is None:
        return None
    size = max(model.probs.shape[1] for model in predictions.models.values())
    names = [folder.class_name(index) for index in range(size)]
    pictures = [
        plots.confusion(name, color, predictions.models[name], predictions.labels, names)
        for name, color in plots.colors_of(list(predictions.models)).items()
    ]
    return {"pictures": pictures, "large": size > plots.MAX_NUMBERED_CLASSES}


def uncertainty(folder: RunFolder) -> list[Picture]:
    """Histograms of the posterior's uncertainty, and risk against coverage for every model."""
    predictions = _usable(folder)
    if predictions is None:
        return []
    kind, pictures = item_kind(folder), []
    posterior = predictions.models.get("bayesian")
    if posterior is not None:
        measures = {
            key.replace("_", " "): np.maximum(posterior.uncertainty[key], 0)
            for key in ("mutual_information", "total_entropy")
            if key in posterior.uncertainty
        }
        right, color = posterior.predicted == predictions.labels, plots.COLORS["bayesian"]
        pictures = [
            plots.uncertainty(title, values, right, color, kind)
            for title, values in measures.items()
        ]
    return [*pictures, _risk_coverage(predictions, kind)]


def _risk_coverage(predictions: Predictions, kind: str) -> Picture:
    curves: dict[str, Series] = {}
    styles: dict[str, tuple[str, str]] = {}
    colors = plots.colors_of(list(predictions.models))
    for name, model in predictions.models.items():
        orders = {"probability": (model.confidence, "-")}
        if "mutual_information" in model.uncertainty:
            orders["mutual information"] = (-model.uncertainty["mutual_information"], "--")
        for order, (certainty, dash) in orders.items():
            right = model.predicted == predictions.labels
            coverage, risk = ranking.risk_coverage(certainty, right)
            text = f"{label_of(name)}, by {order} (area {risk.mean():.3f})"
            curves[text], styles[text] = (coverage, risk), (colors[name], dash)
    return plots.risk_coverage(curves, styles, kind)


def _usable(folder: RunFolder) -> Predictions | None:
    predictions = folder.predictions
    return predictions if predictions is not None and predictions.models else None


def _named_series(rows: Sequence[Row], titles: Mapping[str, str]) -> dict[str, Series]:
    named = {title: series(rows, key) for key, title in titles.items()}
    return {title: points for title, points in named.items() if points is not None}


def _held_out(evaluations: Sequence[Row]) -> tuple[str, dict[str, Series]]:
    """Top-1 of each model on validation; on test only where there is no validation."""
    for split in ("validation", "test"):
        rows = [row for row in evaluations if row.get("split") == split]
        names = model_order(name for row in rows for name in section(row, "models"))
        top1 = {
            name: points
            for name in names
            if (points := series([_top1_row(row, name) for row in rows], "top1")) is not None
        }
        if top1:
            return split, top1
    return "validation", {}


def _top1_row(row: Row, model: str) -> Row:
    levels = section(section(row, "models"), model)
    top1 = (section(levels, level).get("top1") for level in (*WHOLE_LEVELS, "clip"))
    return {"step": row.get("step"), "top1": next((v for v in top1 if v is not None), None)}


def _count_judged(folder: RunFolder, counts: Row) -> Any:
    """Items the run is judged on; `metrics.json` counts those of test alone."""
    return counts.get("num_test") if folder.split == "test" else len(folder.judged_items) or None


def _counts(folder: RunFolder) -> Row:
    if not folder.items:
        return {}
    training = [item for item in folder.items if item.get("split") == "train"]
    return {
        "num_classes": len(folder.classes) or None,
        "num_labelled": sum(bool(item.get("labelled")) for item in training),
        # Labelled clips are unlabelled data too: the GAN sees all of the training split.
        "num_unlabelled": len(training),
        "num_test": len(folder.judged_items),
    }
