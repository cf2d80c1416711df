"""The semi-supervised posterior against the purely supervised network: table and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bgan_video.metrics.paired import Interval, Pair, paired_differences
from bgan_video.reports.plots import label_of
from bgan_video.reports.reading import (
    FIRST_MODELS,
    WHOLE_LEVELS,
    RunFolder,
    model_order,
    section,
)

LEVELS = (*WHOLE_LEVELS, "clip")


@dataclass(frozen=True)
class Metric:
    """How one figure of `metrics.json` is shown."""

    title: str
    percent: bool
    higher_is_better: bool

    def show(self, value: float | None) -> str:
        """The figure as text."""
        if value is None:
            return "–"
        return f"{100 * value:.1f} %" if self.percent else f"{value:.3f}"

    def show_difference(self, value: float) -> str:
        """A difference as text: in points where the figure is a percentage."""
        # Rounded twice, so that float noise around a half does not show as another digit.
        shown, unit = (
            (round(round(100 * value, 6), 1), " points") if self.percent else (round(value, 3), "")
        )
        sign = "+" if shown > 0 else "−" if shown < 0 else ""
        return f"{sign}{abs(shown):.{1 if self.percent else 3}f}{unit}"


METRICS = {
    "top1": Metric("top-1", percent=True, higher_is_better=True),
    "top5": Metric("top-5", percent=True, higher_is_better=True),
    "balanced_accuracy": Metric("balanced accuracy", percent=True, higher_is_better=True),
    "macro_f1": Metric("macro F1", percent=True, higher_is_better=True),
    "nll": Metric("NLL (nats)", percent=False, higher_is_better=False),
    "ece": Metric("ECE", percent=True, higher_is_better=False),
    "brier": Metric("Brier", percent=False, higher_is_better=False),
}


@dataclass(frozen=True)
class TableCell:
    """One figure of one model."""

    text: str
    best: bool


@dataclass(frozen=True)
class TableRow:
    """One figure of every model, and the difference of the two compared ones."""

    title: str
    cells: list[TableCell]
    difference: str
    direction: str


@dataclass(frozen=True)
class LevelTable:
    """All figures at one level."""

    level: str
    count: int | None
    models: list[str]
    rows: list[TableRow]


def tables(metrics: Mapping[str, Any]) -> list[LevelTable]:
    """A table for each level `metrics.json` has; the bodies of the posterior behind all models."""
    bodies = section(metrics, "bodies")
    models = with_bodies(section(metrics, "models"), bodies)
    names = [*model_order(section(metrics, "models")), *with_bodies({}, bodies)]
    made = []
    for level in LEVELS:
        figures = {name: section(section(models, name), level) for name in names}
        present = [name for name in names if figures[name]]
        if present:
            rows = [_row(key, [figures[name] for name in present], present) for key in METRICS]
            rows = [*_network_counts(metrics, present), *rows]
            made.append(LevelTable(level, _count(figures), [label_of(n) for n in present], rows))
    return made


def with_bodies(models: Mapping[str, Any], bodies: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of models and, behind them, of each of several bodies, by what tables call it."""
    return {**models, **{f"body {name}": figures for name, figures in bodies.items()}}


@dataclass(frozen=True)
class RecallTable:
    """Recall by class: the models, and of every class the figures of each."""

    models: list[str]
    rows: list[tuple[str, list[str]]]


def recall(metrics: Mapping[str, Any]) -> RecallTable | None:
    """What each model finds of each class; None of a run without these figures."""
    of_models = section(metrics, "recall")
    names = model_order(of_models)
    if not names:
        return None
    show = METRICS["balanced_accuracy"].show
    classes = section(of_models, names[0])
    rows = [(c, [show(number(section(of_models, n).get(c))) for n in names]) for c in classes]
    return RecallTable([label_of(name) for name in names], rows)


def number(value: Any) -> float | None:
    """A finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Compared:
    """Two models on the same items of a split."""

    split: str
    count: int
    recordings: int
    first_right: int
    second_right: int
    top1: Interval
    """Accuracy of the first less that of the second."""


def compared(folder: RunFolder, rival: str = "supervised") -> Compared | None:
    """The semi-supervised model against another on the test items.

    None where one of the two said nothing, or the manifest does not name the recordings.
    """
    predictions, recordings = folder.predictions, folder.recordings
    if (
        predictions is None
        or recordings is None
        or not {"bayesian", rival} <= {*predictions.models}
    ):
        return None
    pair = Pair(1, 0, recordings, predictions.judged("bayesian"), predictions.judged(rival))
    return Compared(
        split=folder.split,
        count=len(recordings),
        recordings=len({*recordings}),
        first_right=int(pair.own.right.sum()),
        second_right=int(pair.other.right.sum()),
        top1=paired_differences([pair])["top1"],
    )


@dataclass(frozen=True)
class RivalRow:
    """The semi-supervised model against one other, on the same items."""

    rival: str
    difference: str
    interval: str


def against_rivals(folder: RunFolder) -> list[RivalRow]:
    """The semi-supervised model against every other, where there are more than the two compared."""
    models = list(folder.predictions.models) if folder.predictions else []
    if len(models) < 3:
        return []
    pairs = {name: compared(folder, name) for name in models if name != "bayesian"}
    return [
        RivalRow(
            label_of(name), METRICS["top1"].show_difference(of.top1.estimate), show_bounds(of.top1)
        )
        for name, of in pairs.items()
        if of is not None
    ]


def show_bounds(of: Interval, key: str = "top1") -> str:
    """An interval as text, such as `−1.0 to +7.1`; a dash where there is none."""
    if of.low is None or of.high is None:
        return "–"
    show = METRICS[key].show_difference
    return f"{show(of.low).removesuffix(' points')} to {show(of.high).removesuffix(' points')}"


def verdict(of: Compared, items: str) -> str:
    """What the items allow one to say, whichever model is ahead."""
    difference = METRICS["top1"].show_difference(of.top1.estimate)
    judged = f"{of.count} {of.split} {items}"
    if of.recordings < of.count:
        judged = f"{judged} of {of.recordings} recordings"
    return (
        f"On {judged} the semi-supervised model is right on {of.first_right} "
        f"({_percent(of.first_right, of.count)}) and the supervised one on {of.second_right} "
        f"({_percent(of.second_right, of.count)}): a difference of {difference} "
        f"(95 % interval {show_bounds(of.top1)})."
    )


def conclusion(of: Compared) -> str:
    """The verdict in one short sentence."""
    if of.recordings == 1:
        return "One recording cannot tell which model is the better one."
    if of.top1.holds_zero:
        return "Neither model is shown to be the better one: chance can explain the difference."
    if of.top1.estimate > 0:
        return f"The semi-supervised model is the better one on this {of.split} split."
    return "The supervised network is the better one: semi-supervised training did not pay here."


def _network_counts(metrics: Mapping[str, Any], names: list[str]) -> list[TableRow]:
    """How many networks each model's probabilities are the mean of."""
    counts = section(metrics, "networks")
    cells = [
        TableCell("–" if name not in counts else str(counts[name]), best=False) for name in names
    ]
    return [TableRow("networks", cells, "", "averaged")] if counts else []


def _row(key: str, figures: list[dict[str, Any]], names: list[str]) -> TableRow:
    metric = METRICS[key]
    values = [number(model.get(key)) for model in figures]
    known = [value for value in values if value is not None]
    best = (max if metric.higher_is_better else min)(known, default=None)
    cells = [
        # Equal figures have no better one.
        TableCell(metric.show(value), best=value == best and len(set(known)) > 1)
        for value in values
    ]
    first, second = (dict(zip(names, values, strict=True)).get(name) for name in FIRST_MODELS)
    difference = "–"
    if first is not None and second is not None:
        difference = metric.show_difference(first - second)
    direction = "higher is better" if metric.higher_is_better else "lower is better"
    return TableRow(metric.title, cells, difference, direction)


def _count(figures: Mapping[str, dict[str, Any]]) -> int | None:
    counts = (number(model.get("count")) for model in figures.values())
    return next((int(count) for count in counts if count is not None), None)


def _percent(right: int, count: int) -> str:
    return f"{100 * right / count:.1f} %"
