"""Run the cells of a study that are not finished, each in a process of its own.

Several processes may run the same study: each claims a cell by a lock, which the cell's process
inherits. So a study that is stopped stops its cell; one that is killed outright (SIGKILL) leaves a
cell that ends by itself, and that nobody else runs meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from bgan_video import config as config_module
from bgan_video.files import write_atomically
from bgan_video.reports import write_report
from bgan_video.reports.sections import show_duration
from bgan_video.studies import cells
from bgan_video.studies.grid import Cell, Study

# Given to a stopped cell before it is killed, in seconds.
_PATIENCE = 10.0


def run(
    study: Study, keep_weights: bool, say: Callable[[str], None], after_cell: Callable[[], object]
) -> None:
    """Run, resume or pass over every cell, until no cell is free.

    A cell that fails is said and passed over, also by processes that came before it failed; the
    next command tries it again.

    Args:
        study: What to run.
        keep_weights: Keep checkpoints, posterior and samples of finished cells.
        say: Gets the lines for the user.
        after_cell: Called when a cell has finished or failed.

    Raises:
        UserError: A begun cell has other settings than the study asks for now.
    """
    runner = _Runner(study, keep_weights, say)
    cells.check_unchanged(study)
    with _stoppable():
        while (cell := runner.run_next()) is not None:
            after_cell()
            say(runner.progress(cell))


def train_command(study: Study, cell: Cell) -> list[str]:
    """What a cell's process runs."""
    if cells.is_begun(study, cell):
        what = ["--resume", str(cells.folder(study, cell))]
    else:
        what = ["--config", str(cells.beside(study, cell, "yaml"))]
    return [sys.executable, "-m", "bgan_video.cli", "train", *what]


class _Runner:
    """One process's part in a study."""

    def __init__(self, study: Study, keep_weights: bool, say: Callable[[str], None]) -> None:
        self._study = study
        self._keep_weights = keep_weights
        self._say = say
        self._began = time.time()
        self._failed: set[str] = set()
        self._took: dict[str, list[float]] = defaultdict(list)

    def run_next(self) -> Cell | None:
        """Run the first cell that is free; None where there is none."""
        for cell in self._study.cells:
            if self._is_over(cell):
                continue
            with cells.claim(self._study, cell) as lock:
                # Another process may have ended it before the lock was free.
                if lock is not None and not self._is_over(cell):
                    self._run(cell, lock)
                    return cell
        return None

    def progress(self, cell: Cell) -> str:
        """Where the study stands after a cell, and how long the rest takes this process alone."""
        left = [c for c in self._study.cells if not cells.is_finished(self._study, c)]
        total = len(self._study.cells)
        line = f"[{total - len(left)}/{total}] {cell.name}"
        every = [seconds for of_method in self._took.values() for seconds in of_method]
        left = [c for c in left if not self._is_over(c)]
        if not left or not every:
            return line
        mean = sum(every) / len(every)
        means = {method: sum(s) / len(s) for method, s in self._took.items()}
        rest = sum(means.get(c.method, mean) for c in left)
        return f"{line}; about {show_duration(rest)} left for one process"

    def _run(self, cell: Cell, lock: BufferedWriter) -> None:
        started = time.monotonic()
        failure = _run_cell(self._study, cell, lock)
        if failure is not None:
            self._failed.add(cell.name)
            write_atomically(cells.beside(self._study, cell, "failed"), failure + "\n")
            self._say(f"{cell.name} failed: {failure}")
            return
        self._took[cell.method].append(time.monotonic() - started)
        if not self._keep_weights:
            cells.remove_weights(self._study, cell)
            write_report(cells.folder(self._study, cell))  # which told what to ask the networks

    def _is_over(self, cell: Cell) -> bool:
        """Whether it is finished, or failed here or elsewhere since this process began."""
        if cell.name in self._failed or cells.is_finished(self._study, cell):
            return True
        try:
            failed = cells.beside(self._study, cell, "failed").stat().st_mtime
        except FileNotFoundError:  # or another process tries it again
            return False
        return failed >= self._began


def _run_cell(study: Study, cell: Cell, lock: BufferedWriter) -> str | None:
    """Run a claimed cell to its end; the reason in a line where it failed."""
    study.cells_folder.mkdir(parents=True, exist_ok=True)
    cells.beside(study, cell, "failed").unlink(missing_ok=True)
    cells.remove_stump(study, cell)
    settings = config_module.to_yaml(cell.config)
    write_atomically(cells.beside(study, cell, "yaml"), settings)
    console = cells.beside(study, cell, "log")
    with console.open("ab") as output:
        # A group of its own, so that what it starts can be stopped with it.
        process = subprocess.Popen(
            train_command(study, cell),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            _stop(process)
    if code == 0 and cells.is_finished(study, cell):
        return None
    return _reason(code, console)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and what it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _reason(code: int, console: Path) -> str:
    """The last line that a failed cell said, and the signal that ended it."""
    lines = console.read_text(encoding="utf-8", errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    if code < 0:
        return f"ended by {signal.Signals(-code).name}; before it: {said}"
    return said if code else f"ended without figures: {said}"


@contextmanager
def _stoppable() -> Generator[None, None, None]:
    """Let SIGTERM and SIGHUP stop the study as Ctrl-C does, with its cell.

    Only the main thread can; elsewhere the program's own rules hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: under nohup a study outlives its terminal.
    kinds = [
        kind
        for kind in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(kind) is not signal.SIG_IGN
    ]
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
