"""Predictions as records, and in a file that goes on where a kill left it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bgan_video.errors import UserError
from bgan_video.files import write_atomically, written
from bgan_video.prediction.video_files import Unreadable, VideoPrediction

_FIGURES = ("p_fake", "total_entropy", "mutual_information", "unfamiliar", "num_frames")


def record(said: VideoPrediction | Unreadable, classes: Sequence[str]) -> dict[str, Any]:
    """A prediction as JSON has it: its figures, and its class by name; or why there is none.

    Its path is as `written` has it.
    Of several bodies `bodies` has each one's class and probabilities; of one there is no such key.
    """
    figures: dict[str, Any] = dataclasses.asdict(said) | {"classes": list(classes)}
    figures["path"] = written(said.path)
    if isinstance(said, Unreadable):
        return figures | {"error": written(said.error)}
    alone = {name: _classified(p, classes) for name, p in figures.pop("bodies").items()}
    more = {"bodies": alone} if alone else {}
    return _classified(said.probabilities, classes) | figures | more


def _classified(p: list[float], classes: Sequence[str]) -> dict[str, Any]:
    return {"class": classes[p.index(max(p))], "probabilities": p}


class Output:
    """A file of predictions, one a line, written as they come: `.csv` or `.jsonl`.

    Opened again it knows the files it has (`done`, as `written` has them), so that a command that
    was interrupted goes on. A line that a kill cut off is dropped.

    Args:
        path: Its suffix says which form.
        classes: Of the model.
        bodies: Their names where several answer: a table has two columns for each.

    Raises:
        UserError: Another suffix, no such folder, or the file holds something else.
    """

    def __init__(self, path: Path, classes: Sequence[str], bodies: Sequence[str] = ()) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise UserError(f"--out={path}; allowed: a file .csv or .jsonl")
        if not path.parent.is_dir():
            raise UserError(f"--out={path}: its folder does not exist")
        self._path, self._classes, self._bodies = path, classes, bodies
        self._is_csv = path.suffix == ".csv"
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_atomically(path, whole)
        self.done = self._known(whole) if whole else set[str]()
        if self._is_csv and not whole:
            # The mark by which a spreadsheet knows UTF-8.
            write_atomically(path, _line(self._columns).encode("utf-8-sig"))

    def add(self, said: VideoPrediction | Unreadable) -> None:
        """Append one prediction."""
        found = record(said, self._classes)
        line = self._row(found) if self._is_csv else json.dumps(found) + "\n"
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(line)

    @property
    def _columns(self) -> list[str]:
        of_classes = [f"p({name})" for name in self._classes]
        of_bodies = [f"{key}({name})" for name in self._bodies for key in ("class", "probability")]
        return ["path", "class", "probability", *_FIGURES, "error", *of_classes, *of_bodies]

    def _row(self, found: dict[str, Any]) -> str:
        if "error" in found:
            cells = {"path": found["path"], "error": found["error"]}
        else:
            p: list[float] = found["probabilities"]
            named = zip(self._classes, p, strict=True)
            shown = {f"p({name})": f"{value:.6f}" for name, value in named}
            cells = {key: _cell(found[key]) for key in ("path", "class", *_FIGURES)} | shown
            cells["probability"] = f"{max(p):.6f}"
            for name, alone in found.get("bodies", {}).items():
                cells[f"class({name})"] = alone["class"]
                cells[f"probability({name})"] = f"{max(alone['probabilities']):.6f}"
        return _line([cells.get(column, "") for column in self._columns])

    def _known(self, whole: bytes) -> set[str]:
        """The paths of a file that is there; raises UserError where it is not one of these."""
        text = whole.decode("utf-8-sig", errors="replace")
        another = "holds something else, or predictions of other classes or bodies"
        advice = f"--out={self._path} {another}; move it, or choose another file"
        if self._is_csv:
            header, *rows = list(csv.reader(io.StringIO(text, newline="")))
            if header != self._columns:
                raise UserError(advice)
            return {row[0] for row in rows if row}
        try:
            records = [json.loads(line) for line in text.splitlines()]
            if any(found["classes"] != list(self._classes) for found in records):
                raise UserError(advice)
            return {found["path"] for found in records}
        except (ValueError, KeyError, TypeError):
            raise UserError(advice) from None


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
