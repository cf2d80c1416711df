"""Ends a process at a chosen write, as a power cut or `kill -9` would.

Python says of every file it opens, renames, removes or cuts (audit events); an injector listens,
counts those of a folder that change something, and at a chosen one ends the process with SIGKILL:
before it, or where a file is opened to be written, with half of a write done. After torchft's
event injector, which fails a replica at a chosen step.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bgan_video import cli
from bgan_video.reports import page

_CHANGING = {"os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir"}
# What commands import when they run, and a fork need not.
_IMPORTED_LATE = ["bgan_video.api", "bgan_video.data.store.prepare", "bgan_video.features"]
# Half of a line, and no part of any file format.
_TORN = b'{"step": 1, "los'


class Boundary(NamedTuple):
    """A place in the sequence of a run's writes.

    Attributes:
        number: Of the write, from 0.
        torn: Whether half of it is done.
        what: The event and the file, without numbers.
    """

    number: int
    torn: bool
    what: str


class Injector:
    """Listens to the writes into a folder; an audit hook, which lasts as long as its process.

    Args:
        folder: What lies in it, or beside it under its name behind a dot.
        at: Where the process ends; None where it is only listened to.
    """

    def __init__(self, folder: Path, at: Boundary | None) -> None:
        self._folder, self._at = folder, at
        self.seen: list[Boundary] = []

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if not given or not isinstance(given[0], str | os.PathLike):
            return
        path = os.fspath(given[0])
        opens = event == "open" and _writes(given[1], given[2])
        if not (opens or event in _CHANGING) or not self._is_within(path):
            return
        number = len({boundary.number for boundary in self.seen})
        what = f"{event} {_kind(Path(path), self._folder)}"
        self.seen.append(Boundary(number, False, what))
        if opens:
            self.seen.append(Boundary(number, True, what))
        if self._at is not None and self._at.number == number:
            if self._at.torn:
                self._at = None  # the next line opens a file too
                with open(path, "ab") as file:  # noqa: PTH123 - as what is interrupted does
                    file.write(_TORN)
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_within(self, path: str) -> bool:
        beside = self._folder.with_name(f".{self._folder.name}")
        return path.startswith((str(self._folder), str(beside)))


def _writes(mode: str | None, flags: int | None) -> bool:
    if mode is not None:
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _kind(path: Path, folder: Path) -> str:
    return re.sub(r"\d+", "#", os.path.relpath(path, folder))


def start(words: list[str], folder: Path, at: Boundary | None, heard: Path) -> BaseProcess:
    """Run a command in a process of its own, which ends at a boundary.

    Args:
        words: Of the command.
        folder: Whose writes are counted.
        at: Where it ends; None to let it finish.
        heard: Gets a line for each boundary, where it finished.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *_IMPORTED_LATE])
    process = context.Process(target=_run, args=[words, folder, at, heard])
    process.start()
    return process


def run(words: list[str], folder: Path, at: Boundary | None, heard: Path) -> int | None:
    """The exit code of a command that ends at a boundary (see `start`)."""
    process = start(words, folder, at, heard)
    process.join()
    return process.exitcode


def _run(words: list[str], folder: Path, at: Boundary | None, heard: Path) -> None:
    torch.set_num_threads(1)
    page.render = lambda _: "a page"  # drawing it takes longer than the run, and writes nothing
    quiet = os.open(heard.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    injector = Injector(folder, at)
    sys.addaudithook(injector)
    code = cli.main(words)
    lines = [f"{b.number} {int(b.torn)} {b.what}" for b in injector.seen]
    heard.write_text("\n".join(lines))
    sys.exit(code)


def read(heard: Path) -> list[Boundary]:
    """The boundaries of a command that finished."""
    parts = (line.split(" ", 2) for line in heard.read_text().splitlines())
    return [Boundary(int(number), torn == "1", what) for number, torn, what in parts]
