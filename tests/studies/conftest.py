from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bgan_video import config
from bgan_video.reports import plots
from bgan_video.studies import cells, grid, runner
from bgan_video.studies.grid import Cell, Study
from bgan_video.training import run_folder
from tests.studies import fake

GRID = {
    "config": "recipe.yaml",
    "settings": {"train.steps": 300, "posterior.burn_in": 100},
    "methods": {"supervised": {}, "bayesian_gan": {}, "flat": {"posterior.prior_std": 1000}},
    "labels": {"data.labels_per_class": [1, 4]},
    "folds": [1, 2],
    "seeds": [0, 1],
    "reference": "supervised",
}


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a study file: the grid above with changes; None takes a key away."""

    def write(**changes: object) -> Path:
        (tmp_path / "recipe.yaml").write_text("clip: {size: 32}\ndata: {labels_per_class: 2}\n")
        content = {key: value for key, value in {**GRID, **changes}.items() if value is not None}
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    return write


@pytest.fixture
def read_study(write_study: Callable[..., Path], tmp_path: Path) -> Callable[..., Study]:
    """The study of such a file, with its folder in `out`."""
    return lambda **changes: grid.read(write_study(**changes), tmp_path / "out")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """Cells are fakes in the place of training."""
    monkeypatch.setattr(runner, "train_command", _fake_command)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are composed but not drawn, which is most of the page's time."""
    monkeypatch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))


def _fake_command(study: Study, cell: Cell) -> list[str]:
    settings = cells.beside(study, cell, "yaml")
    if cells.is_begun(study, cell):
        settings = cells.folder(study, cell) / "config.yaml"
    return [sys.executable, str(Path(__file__).parent / "fake.py"), str(settings)]


def finish(study: Study, *, skip: tuple[str, ...] = ()) -> None:
    """Write every cell but some as a finished fake; skill grows with labels, and by method."""
    skills = {name: 0.5 + 0.5 * n for n, name in enumerate(study.methods)}
    for n, cell in enumerate(study.cells):
        if cell.name not in skip:
            more = 0.0 if cell.labels == study.labels[0] else 1.0
            mapping = config.to_mapping(run_folder.anchored(cell.config))
            skill = skills[cell.method] + more
            fake.write_cell(cells.folder(study, cell), mapping, skill, seed=n)
