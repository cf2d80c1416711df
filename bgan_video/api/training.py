"""What trains: a run from its settings, or one that was cut off."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bgan_video import ranks
from bgan_video.backend import on_cuda
from bgan_video.config import Config
from bgan_video.prediction.trained import load
from bgan_video.reports import write_report
from bgan_video.reports.page import REPORT_NAME
from bgan_video.reports.text import comparison, recall_table
from bgan_video.training import budget, changes, faults, loop, measuring, run_folder


@dataclass(frozen=True)
class Result:
    """A finished run: where it is, its figures by model and level, of which split, its report.

    `recall` is each model's by class, `bodies` has the figures of each of several bodies.
    """

    folder: Path
    models: dict[str, Any] | None
    split: str
    report: Path
    recall: dict[str, dict[str, float | None]] | None = None
    bodies: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        figures = f"nothing to classify: no {self.split} figures"
        if self.models:
            figures = comparison(self.models, self.split, self.bodies)
        if self.recall:
            figures += f"\n{recall_table(self.recall)}"
        return f"{figures}\nreport: {self.report}"


def train(config: Config, default_name: str = "run") -> Result:
    """Train, evaluate on `train.final_split` and write the report.

    Args:
        config: What `bgan_video.config.load` gave.
        default_name: The run's name where the config gives none.

    Raises:
        UserError: Data, device or settings do not go together.
    """
    with ranks.joined(on_cuda(config.run)), ExitStack() as held:
        settled = ranks.first_says(lambda: run_folder.settle(config, default_name))
        with faults.explained(settled.run_dir):
            return _finish(loop.train(settled, held))


def resume(folder: Path | str, overrides: Sequence[str] = ()) -> Result:
    """Continue a run from its newest sound checkpoint, to the same end it would have had.

    Args:
        folder: The run's.
        overrides: What may change: where data are and how they are loaded, a lower step size.

    Raises:
        UserError: Another setting is given, the data are not those the run began with, or another
            process is at work in the folder.
    """
    folder = Path(folder)
    config = run_folder.open_config(folder, overrides)
    with ranks.joined(on_cuda(config.run)), ExitStack() as held, faults.explained(folder):
        if ranks.is_first():
            run_folder.claim(folder, held)
        ended = loop.train(config, held, resume=folder)
        return _finish(ended, changes.whereabouts(config, overrides))


def train_or_resume(config: Config, default_name: str = "run") -> Result:
    """Train, or continue the run of that name: one command, however often it is cut off.

    Args:
        config: As of `train`.
        default_name: As of `train`, but never numbered.

    Raises:
        UserError: As `train` and `resume`; the run began with settings that may not change.
    """
    config = config if config.run.name else config.named(default_name)
    folder = config.run_dir
    with ranks.joined(on_cuda(config.run)):
        if not ranks.first_says(lambda: (folder / "config.yaml").is_file()):
            return train(config)
        return resume(folder, changes.differing(folder, run_folder.anchored(config)))


def within(config: Config, time: str, kept: Collection[str] = ()) -> Config:
    """The settings nearest to a recipe's that train within a time on this machine; says them.

    What a step, reading and judging cost is measured on the run's own videos, which takes about a
    minute of that time.

    Args:
        config: The recipe, with what the user set.
        time: Such as `90s`, `10m` or `1h30m`.
        kept: Dotted keys that the user set, such as `train.rounds`; they stay.

    Raises:
        UserError: Even the least does not fit, or what would stop the run.
    """
    return measuring.within(config, budget.parse(time), kept)


def _finish(folder: Path, overrides: Sequence[str] = ()) -> Result:
    run = load(folder, overrides)
    split = run.final_split
    has_items = run.manifest.part(split)
    models = run.evaluate() if has_items and not run.config.is_unsupervised else None
    if not ranks.is_first():
        return Result(folder, models, split, folder / REPORT_NAME)
    more = (run.recall, run.body_figures) if models else ()
    return Result(folder, models, split, write_report(folder), *more)
