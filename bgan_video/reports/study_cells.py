"""Typed reading of a study's finished cells: figures, and what was said of every test item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bgan_video.errors import UserError
from bgan_video.metrics.scores import Judged
from bgan_video.reports.comparison import METRICS, number
from bgan_video.reports.reading import WHOLE_LEVELS, Row, RunFolder, read_run, section


@dataclass(frozen=True)
class PredictedItems:
    """What the cell's model says of the items it is judged on, in the manifest's order."""

    paths: tuple[str, ...]
    recordings: tuple[str, ...]
    judged: Judged


@dataclass(frozen=True)
class FinishedRun:
    """What a study reads of one run folder."""

    split: str
    """What it was judged on."""
    levels: dict[str, dict[str, float]]
    """The figures of the run's one model by level (clip; video, image or point)."""
    calibration: Row | None
    """Whether its probabilities can be trusted, raw and scaled; None where test was not seen."""
    auroc: Row | None
    """How well its measures tell held-out classes from known ones; None where none were."""
    num_labelled: int | None
    networks: int | None
    seconds: float | None
    peak_memory_mib: float | None
    items: PredictedItems | None
    """None where the predictions are missing or do not fit the manifest."""
    bodies: dict[str, dict[str, dict[str, float]]]
    """Of several bodies in that model, what each says alone: by its name, as `levels`."""

    @property
    def level(self) -> str:
        """Where one test item is one prediction."""
        return next(level for level in WHOLE_LEVELS if level in self.levels)


@dataclass(frozen=True)
class StudyCell:
    """A finished cell and its place in the grid."""

    method: str
    labels: str
    fold: int
    seed: int
    run: FinishedRun


def read_finished(folder: Path) -> FinishedRun:
    """Read the run folder of a finished cell; a second time only where it was written anew.

    Raises:
        UserError: `metrics.json` has not the figures of exactly one model.
    """
    return _read(folder, (folder / "metrics.json").stat().st_mtime_ns)


@cache
def _read(folder: Path, _written: int) -> FinishedRun:
    run = read_run(folder)
    models = section(run.metrics, "models")
    if len(models) != 1:
        raise UserError(
            f"{folder}/metrics.json has the figures of {len(models)} models "
            f"({', '.join(models)}); a study's cell trains one: set baseline.methods to one method"
        )
    (name,) = models
    levels, bodies = _levels(models[name]), section(run.metrics, "bodies")
    if not set(levels) & set(WHOLE_LEVELS):
        raise UserError(f"{folder}/metrics.json has no figures of {name}")
    labelled = number(section(run.metrics, "data").get("num_labelled"))
    networks = number(section(run.metrics, "networks").get(name))
    trusted = section(section(run.metrics, "calibration"), name)
    return FinishedRun(
        split=run.split,
        levels=levels,
        calibration=next((section(trusted, level) for level in levels if level in trusted), None),
        auroc=section(section(section(run.metrics, "open_set"), "auroc"), name) or None,
        num_labelled=None if labelled is None else int(labelled),
        networks=None if networks is None else int(networks),
        seconds=number(run.metrics.get("seconds")),
        peak_memory_mib=number(run.metrics.get("peak_memory_mib")),
        items=_items(run, name),
        bodies={body: _levels(of) for body, of in bodies.items()},
    )


def _levels(of: Row) -> dict[str, dict[str, float]]:
    levels = {level: _figures(section(of, level)) for level in (*WHOLE_LEVELS, "clip")}
    return {level: figures for level, figures in levels.items() if figures}


def _figures(level: Row) -> dict[str, float]:
    figures = {key: number(level.get(key)) for key in METRICS}
    return {key: value for key, value in figures.items() if value is not None}


def _items(run: RunFolder, model: str) -> PredictedItems | None:
    recordings = run.recordings
    if run.predictions is None or recordings is None or model not in run.predictions.models:
        return None
    paths = tuple(str(item.get("path")) for item in run.judged_items)
    return PredictedItems(paths, recordings, run.predictions.judged(model))
