"""The table of suggestions while a person fills it in: every answer is on the disk at once."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bgan_video.acquisition.notes import COPY, NOTES, answer_of
from bgan_video.acquisition.suggestions import (
    Suggestion,
    labelled_rows,
    read_rows,
    suggested_rows,
    write_rows,
)
from bgan_video.data.manifest import Manifest
from bgan_video.data.texts import spellings
from bgan_video.errors import UserError
from bgan_video.files import locked


class ConflictError(Exception):
    """Someone else has answered meanwhile: another tab, or another program."""


class Answers:
    """A table of suggestions and labels.

    An answer names the one that it replaces, so that of two tabs the later one is told, and an
    answer that comes twice does no harm. A label goes to the near-copies of its video as well.

    Args:
        file: The table; read where it is there.
        manifest: Its labels are the table's last rows.

    Raises:
        UserError: The file is there, and is no such table or is one of other videos.
    """

    def __init__(self, file: Path, manifest: Manifest) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._order: list[str] = []
        if file.is_file():
            self.rows = _as_named(read_rows(file), manifest)
            self._check_belongs(manifest)
        else:
            self.rows = labelled_rows(manifest)
        self._written = self._on_disk()

    @property
    def asked(self) -> list[dict[str, str]]:
        """The rows of suggestions, in the order in which they are asked."""
        return [row for row in self.rows if row.get("rank")]

    @property
    def open(self) -> list[dict[str, str]]:
        """Those that have no answer yet."""
        return [row for row in self.asked if not answer_of(row)]

    @property
    def counts(self) -> dict[str, int]:
        """How many videos have each label, near-copies and earlier labels among them."""
        labels = [row["label"] for row in self.rows if row.get("label")]
        return {name: labels.count(name) for name in sorted(set(labels))}

    @property
    def last(self) -> dict[str, str] | None:
        """Path and answer of what was answered last since the page was opened."""
        if not self._order:
            return None
        row = next(row for row in self.asked if row["path"] == self._order[-1])
        return {"path": row["path"], "answer": answer_of(row)}

    def known(self) -> dict[str, bool]:
        """Paths that were asked for, near-copies among them, and whether they have a label."""
        rows = [row for row in self.rows if row.get("rank") or row.get("note")]
        return {row["path"]: bool(row.get("label")) for row in rows}

    def extend(self, chosen: Sequence[Suggestion]) -> None:
        """Ask for more, behind what is asked already.

        Raises:
            ConflictError: Another program wrote the table.
            UserError: It cannot be written.
        """
        with self._lock:
            last = max((int(row["rank"]) for row in self.asked), default=0)
            rows = suggested_rows(chosen, first=last + 1)
            fresh = {row["path"] for row in rows}
            end = sum(bool(row.get("rank") or row.get("note")) for row in self.rows)
            kept = [row for row in self.rows if row["path"] not in fresh]
            self._save([*kept[:end], *rows, *kept[end:]])

    def answer(self, path: str, given: str, before: str) -> None:
        """Answer for a video, or take its answer back.

        Args:
            path: A suggestion's.
            given: `label:<class>`, one of the notes, or nothing: no answer.
            before: The answer it replaces, in the same words.

        Raises:
            ConflictError: It has another answer by now, or another program wrote the table.
            KeyError: There is no such suggestion.
            UserError: The table cannot be written.
        """
        with self._lock:
            row = next((row for row in self.asked if row["path"] == path), None)
            if row is None:
                raise KeyError(path)
            if answer_of(row) == given:
                return
            if answer_of(row) != before:
                raise ConflictError("this video was answered in another tab")
            self._save([_answered(each, row, given) for each in self.rows])
            self._order = [each for each in self._order if each != path]
            if given:
                self._order.append(path)

    def _save(self, rows: list[dict[str, str]]) -> None:
        if self._on_disk() != self._written:
            raise ConflictError(
                f"{self.file} was changed by another program; start bgan-video label again"
            )
        write_rows(self.file, rows)
        self.rows, self._written = rows, self._on_disk()

    def _on_disk(self) -> bytes | None:
        return self.file.read_bytes() if self.file.is_file() else None

    def _check_belongs(self, manifest: Manifest) -> None:
        known = {item.path for item in manifest.items}
        strange = [row["path"] for row in self.rows if row["path"] not in known]
        if strange:
            raise UserError(
                f"{self.file} is about other videos: {strange[0]!r} is not in {manifest.root}; "
                f"choose another file with --out"
            )


def fill(file: Path, given: Mapping[str, str]) -> tuple[int, int]:
    """Fill a table of suggestions in with answers from elsewhere, all of them or none.

    Args:
        file: The table.
        given: By path, in the words of `answer_of`; both as a table has them (`texts.plain`).

    Returns:
        How many suggestions got an answer now, and how many are left open.

    Raises:
        UserError: It is no such table, has no such suggestion, or another answer for it; or a page
            is open on it.
    """
    with held(file):
        rows = read_rows(file)
        asked = {row["path"]: row for row in rows if row["rank"]}
        new = 0
        for path, answer in given.items():
            row = asked.get(path)
            if row is None:
                raise UserError(
                    f"{file} does not ask for {path}; is it the table of these answers?"
                )
            if answer_of(row) not in ("", answer):
                raise UserError(
                    f"{file} has the answer {_told(answer_of(row))} for {path}, not "
                    f"{_told(answer)}; take one of them out"
                )
            new += not answer_of(row)
            rows = [_answered(each, row, answer) for each in rows]
        write_rows(file, rows)
    left = sum(bool(row["rank"]) and not answer_of(row) for row in rows)
    return new, left


def _as_named(rows: Sequence[dict[str, str]], manifest: Manifest) -> list[dict[str, str]]:
    """The rows with the manifest's own names of videos and classes."""
    paths, classes = spellings(item.path for item in manifest.items), spellings(manifest.classes)
    known = {"path": paths, "label": classes, "predicted": classes}
    return [row | {key: of.get(row[key], row[key]) for key, of in known.items()} for row in rows]


def _answered(each: dict[str, str], asked: Mapping[str, str], given: str) -> dict[str, str]:
    """A row as it stands after the answer to `asked`: a label is one for near-copies as well."""
    label = given.removeprefix("label:") if given.startswith("label:") else ""
    if each is asked:
        return each | {"label": label, "note": given if given in NOTES else ""}
    if each.get("note") == f"{COPY}{asked['rank']}":
        return each | {"label": label}
    return each


def _told(answer: str) -> str:
    return answer.removeprefix("label:")


@contextmanager
def held(file: Path) -> Generator[None, None, None]:
    """Keep a table for one page.

    Raises:
        UserError: Another page has it, or its folder cannot be written.
    """

    def refuse() -> None:
        raise UserError(f"another bgan-video label is open on {file}; end it, or use its page")

    try:
        with locked(file.with_name(f"{file.name}.lock"), refuse):
            yield
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
