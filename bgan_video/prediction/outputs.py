"""Predictions as records, and in a file that goes on where a kill left it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class _Line(NamedTuple):
    """A line that is there: of which run and file, whether that did not read, and as it stands."""

    run: str
    path: str
    failed: bool
    text: str


class Output:
    """A file of predictions, one a line, written as they come: `.csv` or `.jsonl`.

    Opened again it knows the files it has predictions of (`done`, as `written` has them), so that a
    command that was interrupted goes on. A line that a kill cut off is dropped.

    Args:
        path: Its suffix says which form.
        run: Whose predictions they are (`judging.identity`), which every line says.
        classes: Of the model.
        bodies: Their names where several answer: a table has two columns for each.

    Raises:
        UserError: Another suffix, no such folder, or the file holds something else, or another
            run's predictions.
    """

    def __init__(
        self, path: Path, run: str, classes: Sequence[str], bodies: Sequence[str] = ()
    ) -> None:
        if path.suffix not in (".csv", ".jsonl"):
            raise UserError(f"--out={path}; allowed: a file .csv or .jsonl")
        if not path.parent.is_dir():
            raise UserError(f"--out={path}: its folder does not exist")
        self._path, self._run, self._classes, self._bodies = path, run, classes, bodies
        self._is_csv = path.suffix == ".csv"
        # The mark by which a spreadsheet knows UTF-8.
        self._header = _line(self._columns).encode("utf-8-sig") if self._is_csv else b""
        lines = self._kept(lambda _: True)
        self.done = {line.path for line in lines if not line.failed}

    def left(self, files: Sequence[Path]) -> list[Path]:
        """The files without a prediction; what is there of some that did not read is taken out."""
        left = {written(str(file)): file for file in files if written(str(file)) not in self.done}
        self._kept(lambda line: line.path not in left)
        return [*left.values()]

    def add(self, said: VideoPrediction | Unreadable) -> None:
        """Append one prediction."""
        found = record(said, self._classes) | {"run": self._run}
        line = self._row(found) if self._is_csv else json.dumps(found) + "\n"
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write(line)

    @property
    def _columns(self) -> list[str]:
        of_classes = [f"p({name})" for name in self._classes]
        of_bodies = [f"{key}({name})" for name in self._bodies for key in ("class", "probability")]
        of_all = ["path", "class", "probability", *_FIGURES, "error", "run"]
        return [*of_all, *of_classes, *of_bodies]

    def _row(self, found: dict[str, Any]) -> str:
        if "error" in found:
            cells = {key: found[key] for key in ("path", "error")}
        else:
            p: list[float] = found["probabilities"]
            named = zip(self._classes, p, strict=True)
            shown = {f"p({name})": f"{value:.6f}" for name, value in named}
            cells = {key: _cell(found[key]) for key in ("path", "class", *_FIGURES)} | shown
            cells["probability"] = f"{max(p):.6f}"
            for name, alone in found.get("bodies", {}).items():
                cells[f"class({name})"] = alone["class"]
                cells[f"probability({name})"] = f"{max(alone['probabilities']):.6f}"
        cells["run"] = found["run"]
        return _line([cells.get(column, "") for column in self._columns])

    def _kept(self, is_kept: Callable[[_Line], bool]) -> list[_Line]:
        """The whole lines of the file, of which it keeps some; one that is not there begins."""
        content = self._path.read_bytes() if self._path.is_file() else b""
        lines = [line for line in self._known(content) if is_kept(line)]
        kept = self._header + "".join(line.text for line in lines).encode()
        if kept != content:
            write_atomically(self._path, kept)
        return lines

    def _known(self, content: bytes) -> list[_Line]:
        """The whole lines of a file that is there; raises UserError where they are not of these."""
        whole = content[: _end_of_lines(content, self._is_csv)]
        another = "holds something else, or predictions of other classes, bodies or an old version"
        advice = "move it, or choose another file"
        try:
            read = self._of_csv if self._is_csv else self._of_json
            lines = read(whole.decode("utf-8-sig"))
        except (ValueError, KeyError, TypeError):
            lines = None
        begins = self._header or b"{"
        if lines is None or (not lines and not content.startswith(begins[: len(content)])):
            raise UserError(f"--out={self._path} {another}; {advice}")
        for line in lines:
            if line.run != self._run:
                of = f"has predictions of run {line.run}, not of {self._run}"
                raise UserError(f"--out={self._path} {of}; {advice}")
        return lines

    def _of_csv(self, text: str) -> list[_Line]:
        """Raises ValueError or KeyError where it is another table."""
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [self._columns]
        if header != self._columns:
            raise ValueError
        named = [(dict(zip(header, row, strict=True)), row) for row in rows if row]
        return [_Line(c["run"], c["path"], bool(c["error"]), _line(row)) for c, row in named]

    def _of_json(self, text: str) -> list[_Line]:
        """Raises ValueError, KeyError or TypeError where they are no such records."""
        found = [(json.loads(line), line + "\n") for line in text.splitlines()]
        if any(of["classes"] != list(self._classes) for of, _ in found):
            raise ValueError
        return [_Line(of["run"], of["path"], "error" in of, line) for of, line in found]


def _end_of_lines(content: bytes, is_csv: bool) -> int:
    """Where the last whole line ends; that of a table may go on behind a break in quotes."""
    end = content.rfind(b"\n") + 1
    while is_csv and content.count(b'"', 0, end) % 2:
        end = content.rfind(b"\n", 0, end - 1) + 1
    return end


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
