"""The report's section on rounds: what each believed, and what the answers were worth after it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bgan_video.config import BELIEVERS, model_of
from bgan_video.reports import plots
from bgan_video.reports.comparison import METRICS, number
from bgan_video.reports.plots import Picture, Series, label_of
from bgan_video.reports.reading import WHOLE_LEVELS, Row, RunFolder, section

_FIGURES = ("top1", "nll")
_ALONE, _SO_FAR = "of_round", "models"


@dataclass(frozen=True)
class RoundRow:
    """What one method did in one round, as text."""

    number: int
    method: str
    believed: str
    least: str
    median: str
    changed: str
    right: str
    """How many pseudo-labels are the true ones; never a ground to choose anything by."""
    figures: list[str]
    """Top-1 and NLL of the round's networks alone, then of the answer after it."""


@dataclass(frozen=True)
class Rounds:
    """Every round of every method that believes."""

    rows: list[RoundRow]
    pool: int
    """Unlabelled training items."""
    split: str
    """Where the figures are from."""
    answering: str
    """Which rounds answer in the end, of each method; empty where the run has not ended."""
    networks: str
    """Which networks learn from what is believed."""
    pictures: list[Picture]


def rounds(folder: RunFolder) -> Rounds | None:
    """The rounds of a run; None where it has none, or has not come to one yet."""
    evaluations = {n: row for row in folder.evaluations if (n := _round(row)) is not None}
    last = max([*evaluations, *folder.pseudo_labels], default=0)
    if last == 0:
        return None
    named = section(folder.config, "baseline").get("methods") or []
    methods = [method for method in BELIEVERS if method in named]
    labels = {str(i.get("path")): i.get("label") for i in folder.items if _is_unlabelled(i)}
    rows = [
        RoundRow(
            n,
            label_of(model_of(method)),
            *_of_pool(folder.pseudo_labels.get(n), method, labels),
            figures=[
                METRICS[key].show(_figure(evaluations.get(n, {}), whose, method, key))
                for whose in (_ALONE, _SO_FAR)
                for key in _FIGURES
            ],
        )
        for n in range(last + 1)
        for method in methods
    ]
    split = next((str(row.get("split")) for row in evaluations.values()), "validation")
    pictures = [_picture(evaluations, methods, key, split) for key in _FIGURES]
    answering = _answering(section(folder.metrics, "answering_rounds"))
    drawn = [found for found in pictures if found is not None]
    networks = _networks(section(folder.config, "rounds").get("start") == "warm")
    return Rounds(rows, len(labels), split, answering, networks, drawn)


def _networks(is_warm: bool) -> str:
    if not is_warm:
        return "fresh networks learn from them and the labels"
    return (
        "networks learn from them and the labels, the Bayesian GAN's and self-training's from "
        "where their round before ended"
    )


def _answering(by_model: Row) -> str:
    """The rounds that answer: `Bayesian GAN 2, 3, 4; self-training 0`."""
    said = ((m, ", ".join(map(str, of))) for m, of in by_model.items() if isinstance(of, list))
    return "; ".join(f"{label_of(model)} {numbers}" for model, numbers in said)


def _of_pool(
    lines: Sequence[Row] | None, method: str, labels: Mapping[str, object]
) -> tuple[str, str, str, str, str]:
    """How many are believed, least and median certainty, how many changed, how many are right."""
    if lines is None:
        return "–", "–", "–", "–", "–"
    own = [line for line in lines if line.get("model") == method]
    certain = [c for line in own if (c := number(line.get("certainty"))) is not None]
    least, median = (f"{of(certain):.2f}" if certain else "–" for of in (min, statistics.median))
    changed = sum(line.get("changed") is True for line in own)
    return f"{len(own)} of {len(labels)}", least, median, str(changed), _right(own, labels)


def _right(lines: Sequence[Row], labels: Mapping[str, object]) -> str:
    """How many pseudo-labels are the true labels, of those whose true label the manifest knows."""
    true = [(line.get("label"), labels.get(str(line.get("path")))) for line in lines]
    known = [said == label for said, label in true if isinstance(label, int) and label >= 0]
    if not lines:
        return "–"
    if not known:
        return "not known"
    of = f"{len(known)}" + " known" * (len(known) < len(lines))
    return f"{sum(known)} of {of} ({100 * sum(known) / len(known):.0f} %)"


def _picture(
    evaluations: Mapping[int, Row], methods: Sequence[str], key: str, split: str
) -> Picture | None:
    """A figure over the rounds: of each round alone, dashed, and of the answer so far."""
    curves: dict[str, Series] = {}
    styles: dict[str, tuple[str, str]] = {}
    models = [model_of(method) for method in methods]
    for method, color in zip(methods, plots.colors_of(models).values(), strict=True):
        for whose, dash, words in ((_SO_FAR, "-", "answer so far"), (_ALONE, "--", "round alone")):
            found = {n: _figure(row, whose, method, key) for n, row in sorted(evaluations.items())}
            known = [(n, value) for n, value in found.items() if value is not None]
            if len(known) > 1:
                text = f"{label_of(model_of(method))}, {words}"
                numbers, values = np.array(known, dtype=float).T
                curves[text], styles[text] = (numbers, values), (color, dash)
    return plots.rounds(f"{split} {METRICS[key].title}", curves, styles) if curves else None


def _figure(row: Row, whose: str, method: str, key: str) -> float | None:
    levels = section(section(row, whose), model_of(method))
    found = (number(section(levels, level).get(key)) for level in WHOLE_LEVELS)
    return next((value for value in found if value is not None), None)


def _round(row: Row) -> int | None:
    value = number(row.get("round"))
    return None if value is None else int(value)


def _is_unlabelled(item: Row) -> bool:
    return item.get("split") == "train" and not item.get("labelled")
