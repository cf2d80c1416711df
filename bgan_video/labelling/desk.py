"""What the page is about at the moment: suggestions, answers, classes, the training that runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bgan_video.acquisition.notes import COPY, answer_of
from bgan_video.acquisition.suggestions import By
from bgan_video.data.texts import plain
from bgan_video.errors import UserError
from bgan_video.labelling import again, history
from bgan_video.labelling.answers import Answers, held
from bgan_video.labelling.source import Source
from bgan_video.labelling.strips import Strip, strip

LONGEST_NAME = 80
_KEPT_STRIPS = 64


class Desk:
    """One person's work, in one or several tabs; no other page has its table until it is closed.

    Args:
        source: The videos.
        file: The table that the answers go to.
        budget: How many videos are asked for at a time.
        by: How they are chosen.
        open_run: Opens a run once it is trained.

    Raises:
        UserError: Another page has the table, it is one of other videos, or there is nothing left
            to ask.
    """

    def __init__(
        self, source: Source, file: Path, budget: int, by: By, open_run: Callable[[Path], Source]
    ) -> None:
        self._budget = budget
        self._by: By = by
        self._open_run = open_run
        self._lock = threading.Lock()
        self._training: again.Training | None = None
        self._held = ExitStack()
        try:
            self._sit(source, file)
            self._ask_where_none_is_open()
        except BaseException:
            self.close()
            raise

    @property
    def file(self) -> Path:
        """The table."""
        return self._answers.file

    def _sit(self, source: Source, file: Path) -> None:
        with ExitStack() as taken:
            taken.enter_context(held(file))
            answers = Answers(file, source.manifest)
            self._held.close()
            self._held = taken.pop_all()
        self.source, self._answers = source, answers
        self._strips: dict[str, Strip] = {}
        self._new_classes = [n for n in answers.counts if n not in source.manifest.classes]

    def _ask_where_none_is_open(self) -> None:
        if not self._answers.open:
            chosen = self.source.choose(self._budget, self._by, self._answers.known())
            self._answers.extend(chosen)

    @property
    def classes(self) -> list[str]:
        """Those of the data, and the new ones behind them."""
        return [*self.source.manifest.classes, *self._new_classes]

    def state(self, path: str | None = None) -> dict[str, Any]:
        """What a tab shows.

        Args:
            path: The video that it shows; by default the first one without an answer.
        """
        answers = self._answers
        row = next((r for r in answers.asked if r["path"] == path), None) if path else None
        row = row or next(iter(answers.open), None)
        upcoming = [r["path"] for r in answers.open[:2] if r is not row]
        counts = answers.counts
        copies = [r for r in answers.rows if row and r.get("note") == f"{COPY}{row['rank']}"]
        return {
            "name": self.source.name,
            "file": str(self.file),
            "classes": [{"name": n, "count": counts.get(n, 0)} for n in self.classes],
            "asked": len(answers.asked),
            "left": len(answers.open),
            "labels": sum(counts.values()),
            "last": answers.last,
            "can_add": self.source.config.data.layout == "video_folder",
            "upcoming": upcoming[0] if upcoming else None,
            "video": None if row is None else _shown(row, len(copies)),
            "ready": self._is_ready(),
            "command": str(self._command()),
            "training": self._training_state(),
            "rounds": [asdict(r) for r in history.rounds(self.source.run)],
        }

    def answer(self, path: str, given: str, before: str) -> None:
        """See `Answers.answer`; a label has to be one of the classes.

        Raises:
            UserError: It is not.
            ConflictError: As `Answers.answer`.
        """
        label = given.removeprefix("label:")
        if given.startswith("label:") and label not in self.classes:
            raise UserError(f"no class {label!r}")
        self._answers.answer(path, given, before)

    def add_class(self, name: str) -> None:
        """Know a class that no folder has.

        Raises:
            UserError: Its name does not serve, or the data's classes are settled.
        """
        name = plain(name)
        if self.source.config.data.layout != "video_folder":
            raise UserError("the classes of this data set are settled")
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or "${" in name:
            raise UserError(f"a class has a name of 1 to {LONGEST_NAME} letters on one line")
        near = {plain(known).casefold(): known for known in self.classes}.get(name.casefold())
        if near is not None:
            raise UserError(f"there is a class {near!r} already")
        self._new_classes.append(name)

    def more(self) -> None:
        """Ask for further videos.

        Raises:
            UserError: There are none left.
        """
        with self._lock:
            self._ask_where_none_is_open()

    def strip(self, path: str) -> Strip:
        """The picture of a suggestion's frames.

        Raises:
            KeyError: There is no such suggestion.
            BrokenVideo: It does not read.
        """
        if path not in {row["path"] for row in self._answers.asked}:
            raise KeyError(path)
        if path not in self._strips:
            item = next(item for item in self.source.manifest.items if item.path == path)
            made = strip(self.source.root, item, self.source.config.data.decoder)
            while len(self._strips) >= _KEPT_STRIPS:
                self._strips.pop(next(iter(self._strips)), None)
            self._strips[path] = made
        return self._strips[path]

    def train(self) -> None:
        """Start training on the answers, in a process of its own.

        Raises:
            UserError: It runs already, or there are too few labels.
        """
        with self._lock:
            if self._training is not None and self._training.state == "running":
                raise UserError("a training is running already")
            if not self._is_ready():
                raise UserError("training needs a label of two classes at least")
            log = self.file.with_name(f"{self.file.name}.training.log")
            self._training = again.Training(self._command(), log)

    def next_round(self) -> None:
        """Go on with the run that was trained.

        Raises:
            UserError: It is not done, or another page has its table; or there is nothing left to
                ask, which the page then shows of the new run.
        """
        with self._lock:
            if self._training is None or self._training.state != "done":
                raise UserError("the training is not done")
            folder = self._training.command.folder
            self._sit(self._open_run(folder), folder / "suggestions.csv")
            self._training = None
            self._ask_where_none_is_open()

    def close(self) -> None:
        """End a training that runs, and let go of the table."""
        if self._training is not None:
            self._training.stop()
        self._held.close()

    def _is_ready(self) -> bool:
        return len(self._answers.counts) > 1

    def _command(self) -> again.Command:
        return again.command(self.source, self.file.absolute(), self.classes)

    def _training_state(self) -> dict[str, str] | None:
        training = self._training
        if training is None:
            return None
        return {
            "state": training.state,
            "line": training.last_line,
            "run": training.command.folder.name,
        }


def _shown(row: dict[str, str], copies: int) -> dict[str, Any]:
    """A suggestion as the page shows it."""
    probability = row.get("probability")
    return {
        "path": row["path"],
        "rank": int(row["rank"]),
        "answer": answer_of(row),
        "guess": row.get("predicted") or None,
        "certainty": float(probability) if probability else None,
        "copies": copies,
    }
