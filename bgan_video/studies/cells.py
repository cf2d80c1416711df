"""What is on the disk of a study's cells: finished, failed, claimed; and what may be removed.

Beside a cell's run folder `NAME/` are its settings `NAME.yaml`, what it said `NAME.log`, and where
it failed `NAME.failed`. Its lock is in `locks/`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import Literal

from bgan_video import config as config_module
from bgan_video.errors import UserError
from bgan_video.studies.grid import Cell, Study
from bgan_video.training import changes, run_folder

State = Literal["finished", "failed", "running", "unfinished", "to do"]

# A copied or moved study folder is the same study.
_WHERE = ("run.dir", "run.name")


def folder(study: Study, cell: Cell) -> Path:
    """The cell's run folder."""
    return study.cells_folder / cell.name


def beside(study: Study, cell: Cell, suffix: str) -> Path:
    """A file beside the run folder."""
    return study.cells_folder / f"{cell.name}.{suffix}"


def is_finished(study: Study, cell: Cell) -> bool:
    """Whether the cell's figures are there, which are written last, and what they are made of."""
    run = folder(study, cell)
    if not (run / "metrics.json").is_file():
        return False
    # Validation is what is judged where the data have no test part.
    of_split = (cell.config.train.final_split, "validation")
    return any((run / "predictions" / f"{split}.safetensors").is_file() for split in of_split)


def is_begun(study: Study, cell: Cell) -> bool:
    """Whether there is a run to resume (or that is finished)."""
    return (folder(study, cell) / "config.yaml").is_file()


def state(study: Study, cell: Cell) -> State:
    """Where the cell stands; whoever runs it holds its lock."""
    if is_finished(study, cell):
        return "finished"
    if _lock_file(study, cell).is_file():
        with claim(study, cell) as claimed:
            if claimed is None:
                return "running"
    if beside(study, cell, "failed").is_file():
        return "failed"
    return "unfinished" if is_begun(study, cell) else "to do"


def failure(study: Study, cell: Cell) -> str | None:
    """Why the cell failed; None where it did not, or another process tries it again."""
    try:
        return beside(study, cell, "failed").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def check_unchanged(study: Study) -> None:
    """Refuse to mix runs of other settings into the study.

    A roll-back is none: `train.roll_back` says that a run may do so. Nor is another loading.

    Raises:
        UserError: Names a begun or finished cell and the key that differs.
    """
    for cell in study.cells:
        if is_begun(study, cell):
            where = folder(study, cell)
            made = config_module.flat(config_module.load(where / "config.yaml"))
            made |= changes.lowered(where)
            wanted = config_module.flat(run_folder.anchored(cell.config))
            for key in (key for key in wanted if key not in _WHERE and wanted[key] != made[key]):
                raise UserError(
                    f"{where} was run with {key}={made[key]}, the study now asks for "
                    f"{wanted[key]}; give that setting, or another --out, or remove that folder to "
                    f"run it anew"
                )


@contextmanager
def claim(study: Study, cell: Cell) -> Generator[BufferedWriter | None, None, None]:
    """Hold the cell alone; None where another process does.

    The system takes the lock back when its last holder dies, and the cell's own process holds it
    as well.
    """
    with _opened(_lock_file(study, cell)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield lock


@contextmanager
def results_locked(study: Study) -> Generator[None, None, None]:
    """Hold the study's results alone; waits for whoever writes them."""
    with _opened(study.out / "locks" / "results") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_weights(study: Study, cell: Cell) -> None:
    """Remove what only further use of the cell's networks would need."""
    run = folder(study, cell)
    for name in ("checkpoints", "samples"):
        shutil.rmtree(run / name, ignore_errors=True)
    for file in (run / "posterior").glob("*.safetensors"):
        file.unlink(missing_ok=True)


def remove_stump(study: Study, cell: Cell) -> None:
    """Remove a run folder that a kill left before it had settings; the name is free again."""
    if not is_begun(study, cell):
        shutil.rmtree(folder(study, cell), ignore_errors=True)


def _lock_file(study: Study, cell: Cell) -> Path:
    return study.out / "locks" / cell.name


@contextmanager
def _opened(path: Path) -> Generator[BufferedWriter, None, None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write in {path.parent}: {os.strerror(error.errno or 0)}") from None
    with file:
        yield file
