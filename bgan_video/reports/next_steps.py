"""The report's first lines: what to label next, which classes to trust, and which not."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bgan_video.metrics.arrays import Labels
from bgan_video.metrics.confusion import confusion_counts
from bgan_video.reports.reading import ModelPredictions, RunFolder
from bgan_video.reports.sections import item_kind

TRUSTED = 0.8
"""Part of a class's answers that has to be right, by the lower end of its interval."""
_Z = 1.96
_NAMED = 3


@dataclass(frozen=True)
class ClassRow:
    """What the answering model does with one class.

    Attributes:
        name: Of the class.
        count: Items of it.
        found: How many of them are given it.
        said: How many items are given it in all.
        low: Lower end of the 95 % interval (Wilson 1927) of the part of its answers that is right.
        taken_for: The class that its items are given most often instead; empty where none is.
        verdict: trust, doubt, or unknown: too few answers to tell.
    """

    name: str
    count: int
    found: int
    said: int
    low: float
    taken_for: str
    verdict: str


@dataclass(frozen=True)
class Next:
    """Three lines, and the table behind two of them."""

    lines: list[str]
    classes: list[ClassRow]


def next_steps(folder: RunFolder, suggested: Sequence[dict[str, str]]) -> Next:
    """What to do with a run.

    Args:
        folder: The run's.
        suggested: The rows of its table of suggestions that have no answer yet.
    """
    rows = _class_rows(folder)
    return Next([_label(folder, suggested), *_trust(folder, rows)], rows)


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927); all of 0..1 where nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    part, spread = right / count, _Z**2 / count
    centre = (part + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(part * (1 - part) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _label(folder: RunFolder, suggested: Sequence[dict[str, str]]) -> str:
    kind, run = item_kind(folder), shlex.quote(str(folder.path))
    # The label page plays videos.
    command = f"bgan-video {'label' if kind == 'videos' else 'suggest'} {run}"
    if left := [row.get("path", "") for row in suggested]:
        shows = "" if folder.networks_removed else f"; {command} shows them"
        return f"Label next: {_some(left, _NAMED)} (in suggestions.csv){shows}."
    if folder.networks_removed:
        return f"Which {kind} to label next cannot be asked: the run's networks were removed."
    if folder.items and not folder.unlabelled:
        return f"Nothing is left to label: every one of the training {kind} is labelled."
    return f"Label more: {command} names the {kind} that would teach most."


def _trust(folder: RunFolder, rows: Sequence[ClassRow]) -> list[str]:
    if not rows:
        missing = f"nothing was judged on {folder.split}"
        return [f"Trust no class yet: {missing}.", "Doubt every answer until something was."]
    trusted = [row.name for row in rows if row.verdict == "trust"]
    doubted = [_doubt(row) for row in rows if row.verdict == "doubt"]
    unknown = [row.name for row in rows if row.verdict == "unknown"]
    open_ones = f" Too few answers to tell: {_some(unknown, _NAMED)}." if unknown else ""
    least = f"{100 * TRUSTED:.0f} %"
    first = (
        f"Trust answers of: {_some(trusted, 2 * _NAMED)} (right {least} of the time or more)."
        if trusted
        else f"No class is known to be right {least} of the time when it is named."
    )
    second = f"Do not trust: {_some(doubted, _NAMED)}." if doubted else "No class is known to fail."
    return [first, second + open_ones]


def _some(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _doubt(row: ClassRow) -> str:
    right = f"{row.found} of {row.said} answers right" if row.said else "never named"
    mixed = f", its own taken for {row.taken_for}" if row.taken_for else ""
    return f"{row.name} ({right}{mixed})"


def _class_rows(folder: RunFolder) -> list[ClassRow]:
    predictions, answering = folder.predictions, folder.answering
    if predictions is None or answering is None:
        return []
    return list(_rows(folder, predictions.labels, predictions.models[answering]))


def _rows(folder: RunFolder, labels: Labels, model: ModelPredictions) -> Iterable[ClassRow]:
    size = model.probs.shape[1]
    counts = confusion_counts(labels, model.predicted, size)
    for label in range(size):
        right, said = int(counts[label, label]), int(counts[:, label].sum())
        wrong = counts[label].copy()
        wrong[label] = 0
        low, high = wilson(right, said)
        is_never = said == 0 and counts[label].sum() > 0
        verdict = (
            "trust" if low >= TRUSTED else "doubt" if high < TRUSTED or is_never else "unknown"
        )
        taken = folder.class_name(int(wrong.argmax())) if wrong.any() else ""
        name = folder.class_name(label)
        yield ClassRow(name, int(counts[label].sum()), right, said, low, taken, verdict)
