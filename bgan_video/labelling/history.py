"""The rounds a person has been through: every run of the chain, with its labels and figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgan_video import config as config_module
from bgan_video.acquisition.suggestions import read_rows
from bgan_video.errors import UserError


@dataclass(frozen=True)
class Round:
    """A run that was trained on the answers to the one before.

    Attributes:
        name: Of the run.
        labels: How many it learned from.
        top1: Of the model that answers, on `split`; None where nothing is there to judge it by.
        split: test or validation.
        asked: Suggestions of this run that have a label by now.
        guessed: How many of them the run had guessed.
    """

    name: str
    labels: int
    top1: float | None
    split: str
    asked: int
    guessed: int


def rounds(run: Path | None) -> list[Round]:
    """The runs up to this one, the first one first.

    A run comes after another where its labels are a table in the other one's folder.
    """
    return list(_backwards(run))[::-1]


def _backwards(run: Path | None) -> Iterator[Round]:
    seen: set[Path] = set()
    while run is not None and run.resolve() not in seen and (run / "config.yaml").is_file():
        seen.add(run.resolve())
        yield _round(run)
        try:
            labels = config_module.load_run(run).data.label_list
        except UserError:  # of another version
            return
        run = Path(labels).parent if labels else None


def _round(run: Path) -> Round:
    metrics = _read(run / "metrics.json")
    level = next(iter(metrics.get("models", {}).values()), {})
    figures: dict[str, Any] = next((level[k] for k in ("video", "image") if k in level), {})
    answers = [row for row in _table(run) if row["rank"] and row["label"] and row["predicted"]]
    return Round(
        name=run.name,
        labels=_num_labelled(run),
        top1=figures.get("top1"),
        split=metrics.get("split", "test"),
        asked=len(answers),
        guessed=sum(row["label"] == row["predicted"] for row in answers),
    )


def _num_labelled(run: Path) -> int:
    items = _read(run / "manifest.json").get("items", [])
    return sum(bool(item.get("labelled")) for item in items)


def _table(run: Path) -> list[dict[str, str]]:
    file = run / "suggestions.csv"
    try:
        return read_rows(file) if file.is_file() else []
    except UserError:
        return []


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
