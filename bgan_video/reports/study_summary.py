"""A study in figures: means over cells by method and labels, and differences to the reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bgan_video.metrics.paired import FIGURES, Interval, Pair, paired_differences
from bgan_video.reports.comparison import METRICS, show_bounds
from bgan_video.reports.study_cells import FinishedRun, StudyCell

SHOWN = ("top1", "nll", "ece", "brier")


@dataclass(frozen=True)
class Mean:
    """Of a figure over cells; no standard error where there is one cell."""

    mean: float
    standard_error: float | None


@dataclass(frozen=True)
class Difference:
    """A method less the reference, over the cells both have."""

    cells: int
    folds: list[int]
    seeds: list[int]
    recordings: int
    """Different recordings over all folds, of the items the cells are judged on."""
    figures: dict[str, Interval]


@dataclass(frozen=True)
class BodyMeans:
    """One of several bodies of a method: what it says alone, over the cells that tell it."""

    name: str
    cells: int
    figures: dict[str, Mean]


@dataclass(frozen=True)
class Entry:
    """One method with one label setting."""

    method: str
    labels: str
    num_labelled: float | None
    """Labelled training items, the mean over cells."""
    cells: int
    figures: dict[str, Mean]
    networks: int | None
    seconds: float | None
    peak_memory_mib: float | None
    difference: Difference | None
    """None for the reference, and where no cell of both is finished."""
    bodies: list[BodyMeans]


@dataclass(frozen=True)
class Summary:
    """Everything `summary.json` has."""

    study: str
    label_key: str
    reference: str
    split: str
    """What the figures are of: test, or validation while one develops."""
    level: str | None
    methods: list[str]
    labels: list[str]
    planned: int
    finished: int
    failed: dict[str, str]
    """The reason, by cell."""
    missing: list[str]
    """Cells that are neither finished nor failed."""
    entries: list[Entry]

    def to_mapping(self) -> dict[str, Any]:
        """As plain nested dicts."""
        return dataclasses.asdict(self)

    def entry(self, method: str, labels: str) -> Entry | None:
        """That of a method and a label setting, where a cell of it is finished."""
        fit = (e for e in self.entries if (e.method, e.labels) == (method, labels))
        return next(fit, None)


def entries(
    cells: Sequence[StudyCell], methods: Sequence[str], labels: Sequence[str], reference: str
) -> list[Entry]:
    """An entry for every method and label setting with a finished cell, labels outermost."""
    made = []
    for setting in labels:
        by_method = {
            method: [c for c in cells if (c.method, c.labels) == (method, setting)]
            for method in methods
        }
        for method, own in by_method.items():
            if own:
                other = [] if method == reference else by_method[reference]
                made.append(_entry(own, difference(own, other)))
    return made


def difference(own: Sequence[StudyCell], other: Sequence[StudyCell]) -> Difference | None:
    """Own less other over the folds and seeds that both have, where the items are the same."""
    others = {(cell.fold, cell.seed): cell.run.items for cell in other}
    pairs = []
    for cell in own:
        mine, theirs = cell.run.items, others.get((cell.fold, cell.seed))
        if mine is not None and theirs is not None and mine.paths == theirs.paths:
            pairs.append(Pair(cell.fold, cell.seed, mine.recordings, mine.judged, theirs.judged))
    if not pairs:
        return None
    return Difference(
        cells=len(pairs),
        folds=sorted({pair.fold for pair in pairs}),
        seeds=sorted({pair.seed for pair in pairs}),
        recordings=len({(pair.fold, name) for pair in pairs for name in pair.recordings}),
        figures=paired_differences(pairs),
    )


def text(summary: Summary) -> str:
    """The summary as a table for a terminal."""
    wide = max(len(name) for name in ("method", *summary.methods, *summary.labels)) + 2
    header = (
        f"{'method':{wide}}{'labels':>{wide}}{'cells':>7}{'top-1':>16}{'NLL':>16}{'ECE':>16}"
        f"{'seconds':>10}   top-1 less {summary.reference} (95 %); all on {summary.split}"
    )
    rows = [_row(entry, wide) for entry in summary.entries]
    count = f"{summary.finished} of {summary.planned} cells finished"
    failed = [f"failed: {name}: {reason}" for name, reason in summary.failed.items()]
    return "\n".join([header, *rows, count, *failed] if rows else [count, *failed])


def show_seconds(seconds: float | None) -> str:
    """Of training a cell; not in minutes, since methods are to be compared at equal compute."""
    return "–" if seconds is None else f"{seconds:,.0f}"


def show_mean(key: str, of: Mean | None) -> str:
    """A mean and its standard error, a dash where there is none: `71.2 ± 1.3 %`."""
    if of is None:
        return "–"
    scale, digits, unit = (100, 1, " %") if METRICS[key].percent else (1, 3, "")
    shown = f"{scale * of.mean:.{digits}f}"
    if of.standard_error is None:
        return f"{shown}{unit} ± –"
    return f"{shown} ± {scale * of.standard_error:.{digits}f}{unit}"


def show_interval(key: str, of: Interval) -> str:
    """A difference and its interval, such as `+3.2 points (−1.0 to +7.1)`."""
    return f"{METRICS[key].show_difference(of.estimate)} ({show_bounds(of, key)})"


def _row(entry: Entry, wide: int) -> str:
    figures = "".join(f"{show_mean(key, entry.figures.get(key)):>16}" for key in FIGURES)
    paired = show_interval("top1", entry.difference.figures["top1"]) if entry.difference else "–"
    place = f"{entry.method:{wide}}{entry.labels:>{wide}}{entry.cells:>7}"
    return f"{place}{figures}{show_seconds(entry.seconds):>10}   {paired}"


def _entry(cells: Sequence[StudyCell], paired: Difference | None) -> Entry:
    runs = [cell.run for cell in cells]
    networks = {run.networks for run in runs}
    return Entry(
        method=cells[0].method,
        labels=cells[0].labels,
        num_labelled=_mean(runs, "num_labelled"),
        cells=len(cells),
        figures=_means([run.levels[run.level] for run in runs]),
        networks=networks.pop() if len(networks) == 1 else None,
        seconds=_mean(runs, "seconds"),
        peak_memory_mib=_mean(runs, "peak_memory_mib"),
        difference=paired,
        bodies=_bodies(runs),
    )


def _bodies(runs: Sequence[FinishedRun]) -> list[BodyMeans]:
    found: list[BodyMeans] = []
    for name in dict.fromkeys(name for run in runs for name in run.bodies):
        own = [run.bodies[name].get(run.level, {}) for run in runs if name in run.bodies]
        found.append(BodyMeans(name, len(own), _means(own)))
    return found


def _means(of_cells: Sequence[Mapping[str, float]]) -> dict[str, Mean]:
    by_key = {key: _known([figures.get(key) for figures in of_cells]) for key in SHOWN}
    return {key: mean(values) for key, values in by_key.items() if values}


def mean(values: Sequence[float]) -> Mean:
    """Mean and standard error, n - 1 in the variance."""
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Mean(float(np.mean(values)), error)


def _mean(runs: Sequence[FinishedRun], name: str) -> float | None:
    known = _known([getattr(run, name) for run in runs])
    return float(np.mean(known)) if known else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
