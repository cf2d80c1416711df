"""Training on the answers: the command that does it, and a process of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from bgan_video.config import LABEL_CHOICES
from bgan_video.labelling.source import Source

_OTHER_LABELS = [key for key in LABEL_CHOICES if key != "label_list"]
_ODD = re.compile(r"[^\w./-]")
"""What makes a path more than a word of YAML."""


@dataclass(frozen=True)
class Command:
    """A training run to come.

    Attributes:
        words: Behind `bgan-video`.
        folder: The run's.
    """

    words: Sequence[str]
    folder: Path

    def __str__(self) -> str:
        return shlex.join(["bgan-video", *self.words])


def command(source: Source, table: Path, classes: Sequence[str]) -> Command:
    """How to train on a table of labels, in a run of a free name.

    Args:
        source: What was labelled.
        table: The answers.
        classes: Those that the page has; new ones among them.
    """
    file, overrides = source.settings
    folder = _free_folder(source)
    kept = [o for o in overrides if not o.startswith(("run.name=", "data.classes="))]
    new = [name for name in classes if name not in source.manifest.classes]
    named = [*source.config.data.classes, *new]
    more = [f"data.classes=[{','.join(map(_quoted, named))}]"] if named else []
    settings = [
        *kept,
        *(f"data.{key}=null" for key in _OTHER_LABELS),
        f"data.label_list={_word(str(table))}",
        *more,
        f"run.dir={_word(str(folder.parent))}",
        f"run.name={_word(folder.name)}",
    ]
    return Command(["train", "--config", file, *settings], folder)


class Training:
    """A training run in a process of its own, whose lines are kept in a file.

    Args:
        command: What to run.
        log: Where its lines go.
    """

    def __init__(self, command: Command, log: Path) -> None:
        self.command, self._log = command, log
        with log.open("wb") as lines:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bgan_video.cli", *command.words],
                stdout=lines,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    @property
    def state(self) -> str:
        """running, done or failed."""
        code = self._process.poll()
        return "running" if code is None else ("failed" if code else "done")

    @property
    def last_line(self) -> str:
        """What it said last."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")

    def stop(self) -> None:
        """End it, as Ctrl-C would; `--resume` goes on with it."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def _free_folder(source: Source) -> Path:
    """`<name>-2` after `<name>`; of a first run its data's name."""
    if source.run is None:
        parent, stem, number = Path(source.config.run.dir), _plain(source.name), 1
    else:
        parent = source.run.parent
        match = re.fullmatch(r"(.+)-(\d+)", source.run.name)
        stem, number = (match[1], int(match[2]) + 1) if match else (source.run.name, 2)
    while (parent / _numbered(stem, number)).exists():
        number += 1
    return parent / _numbered(stem, number)


def _numbered(stem: str, number: int) -> str:
    return stem if number == 1 else f"{stem}-{number}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("_.") or "run"


def _word(text: str) -> str:
    """A text as it is where that is read as the same text, else as a YAML string: 007 is none."""
    is_plain = not _ODD.search(text) and OmegaConf.from_dotlist([f"text={text}"]).text == text
    return text if is_plain else _quoted(text)


def _quoted(name: str) -> str:
    """A name as a YAML string."""
    return "'" + name.replace("'", "''") + "'"
