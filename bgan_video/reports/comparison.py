"""The semi-supervised posterior against the purely supervised network: table and verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bgan_video.metrics.statistics import PairedDifference, paired_difference
from bgan_video.reports.plots import label_of
from bgan_video.reports.run_folder import (
    FIRST_MODELS,
    WHOLE_LEVELS,
    Predictions,
    model_order,
    section,
)

LEVELS = (*WHOLE_LEVELS, "clip")
SIGNIFICANT = 0.05


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
    "nll": Metric("NLL (nats)", percent=False, higher_is_better=False),
    "ece": Metric("ECE", percent=True, higher_is_better=False),
    "brier": Metric("Brier", percent=False, higher_is_better=False),
}


@dataclass(frozen=True)
class Cell:
    """One figure of one model."""

    text: str
    best: bool


@dataclass(frozen=True)
class TableRow:
    """One figure of every model, and the difference of the two compared ones."""

    title: str
    cells: list[Cell]
    difference: str
    direction: str


@dataclass(frozen=True)
class Table:
    """All figures at one level."""

    level: str
    count: int | None
    models: list[str]
    rows: list[TableRow]


def tables(metrics: Mapping[str, Any]) -> list[Table]:
    """A table for each level `metrics.json` has."""
    models = section(metrics, "models")
    names = model_order(models)
    made = []
    for level in LEVELS:
        figures = {name: section(section(models, name), level) for name in names}
        present = [name for name in names if figures[name]]
        if present:
            rows = [_row(key, [figures[name] for name in present], present) for key in METRICS]
            rows = [*_network_counts(metrics, present), *rows]
            made.append(Table(level, _count(figures), [label_of(n) for n in present], rows))
    return made


def number(value: Any) -> float | None:
    """A finite number, or nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def paired(predictions: Predictions | None) -> PairedDifference | None:
    """The two compared models on the same items."""
    if predictions is None or any(name not in predictions.models for name in FIRST_MODELS):
        return None
    first, second = (
        predictions.models[name].predicted == predictions.labels for name in FIRST_MODELS
    )
    return paired_difference(first, second)


@dataclass(frozen=True)
class RivalRow:
    """The semi-supervised model against one other, on the same items."""

    rival: str
    difference: str
    standard_error: str
    p_value: str


def against_rivals(predictions: Predictions | None) -> list[RivalRow]:
    """The semi-supervised model against every other, where there are more than the two compared."""
    if predictions is None or len(predictions.models) < 3 or "bayesian" not in predictions.models:
        return []
    right = {n: m.predicted == predictions.labels for n, m in predictions.models.items()}
    own = right.pop("bayesian")
    pairs = {name: paired_difference(own, other) for name, other in right.items()}
    return [
        RivalRow(
            label_of(name),
            METRICS["top1"].show_difference(pair.difference),
            f"{100 * pair.standard_error:.1f}",
            _show_p(pair.p_value).removeprefix("= "),
        )
        for name, pair in pairs.items()
    ]


def verdict(pair: PairedDifference, items: str, split: str) -> str:
    """What the items of a split allow one to say, whichever model is ahead."""
    difference = METRICS["top1"].show_difference(pair.difference)
    return (
        f"On {pair.count} {split} {items} the semi-supervised model is right on {pair.first_right} "
        f"({_percent(pair.first_right, pair)}) and the supervised one on {pair.second_right} "
        f"({_percent(pair.second_right, pair)}): a difference of {difference}, with a paired "
        f"binomial standard error of {100 * pair.standard_error:.1f} ({pair.only_first} {items} "
        f"only the former has right, {pair.only_second} only the latter; exact McNemar test, "
        f"p {_show_p(pair.p_value)})."
    )


def conclusion(pair: PairedDifference, split: str) -> str:
    """The verdict in one short sentence."""
    if pair.p_value >= SIGNIFICANT:
        return "Neither model is shown to be the better one: chance can explain the difference."
    if pair.difference > 0:
        return f"The semi-supervised model is the better one on this {split} split."
    return "The supervised network is the better one: semi-supervised training did not pay here."


def _network_counts(metrics: Mapping[str, Any], names: list[str]) -> list[TableRow]:
    """How many networks each model's probabilities are the mean of."""
    counts = section(metrics, "networks")
    cells = [Cell("–" if name not in counts else str(counts[name]), best=False) for name in names]
    return [TableRow("networks", cells, "", "averaged")] if counts else []


def _row(key: str, figures: list[dict[str, Any]], names: list[str]) -> TableRow:
    metric = METRICS[key]
    values = [number(model.get(key)) for model in figures]
    known = [value for value in values if value is not None]
    best = (max if metric.higher_is_better else min)(known, default=None)
    cells = [
        # Equal figures have no better one.
        Cell(metric.show(value), best=value == best and len(set(known)) > 1)
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


def _percent(right: int, pair: PairedDifference) -> str:
    return f"{100 * right / pair.count:.1f} %"


def _show_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
