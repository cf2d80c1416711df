"""What the commands do, for programs: `train(config)`, `resume(folder)`, `load(folder)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgan_video import config as config_module
from bgan_video.acquisition.first import begin
from bgan_video.acquisition.suggestions import By, Suggestion, write_csv
from bgan_video.backend import resolve_backend
from bgan_video.config import Config, recipes
from bgan_video.data import layouts
from bgan_video.data.check import DataCheck, inspect
from bgan_video.data.manifest import Item
from bgan_video.errors import UserError
from bgan_video.media import pictures
from bgan_video.prediction.generated import generate, measure
from bgan_video.prediction.trained import TrainedRun, load
from bgan_video.reports import write_report
from bgan_video.reports.plots import label_of
from bgan_video.training import console, loop, run_folder
from bgan_video.training.plan import plan

if TYPE_CHECKING:
    from bgan_video.data.store.prepare import Prepared
    from bgan_video.features import Extracted, FrozenBody
    from bgan_video.labelling.source import Source
    from bgan_video.reports.study_summary import Summary

__all__ = [
    "Result",
    "TrainedRun",
    "check_data",
    "comparison",
    "export",
    "features",
    "generate",
    "label",
    "label_first",
    "load",
    "measure",
    "plan",
    "prepare",
    "resume",
    "sample",
    "study",
    "study_report",
    "study_states",
    "suggest_first",
    "train",
    "verify",
    "verify_features",
]


@dataclass(frozen=True)
class Result:
    """A finished run: where it is, its figures by model and level, of which split, its report."""

    folder: Path
    models: dict[str, Any] | None
    split: str
    report: Path

    def __str__(self) -> str:
        figures = f"nothing to classify: no {self.split} figures"
        if self.models:
            figures = comparison(self.models, self.split)
        return f"{figures}\nreport: {self.report}"


def train(config: Config, default_name: str = "run") -> Result:
    """Train, evaluate on `train.final_split` and write the report.

    Args:
        config: What `bgan_video.config.load` gave.
        default_name: The run's name where the config gives none.

    Raises:
        UserError: Data, device or settings do not go together.
    """
    return _finish(loop.train(run_folder.settle(config, default_name)))


def resume(folder: Path | str, overrides: Sequence[str] = ()) -> Result:
    """Continue a run from its last checkpoint, to the same end it would have had.

    Args:
        folder: The run's.
        overrides: Where its data are now: `data.root=…`, `data.store=…`.

    Raises:
        UserError: Another setting is given, or the data are not those the run began with.
    """
    folder = Path(folder)
    config = run_folder.open_config(folder, overrides)
    return _finish(loop.train(config, resume=folder), overrides)


def sample(run: TrainedRun, count: int, out: Path) -> list[Path]:
    """Write pictures (and films of clips) of what each generator makes; the files' paths.

    Args:
        run: Whose generators.
        count: Items of each.
        out: An existing folder.

    Raises:
        UserError: The run has no generator, or makes vectors.
    """
    if run.config.spatial_dims == 0:
        raise UserError(f"{run.folder} makes points, of which there is no picture")
    files: list[Path] = []
    for name, items in generate(run, count):
        files += pictures.write(out / f"samples_{name}", items, run.config.spatial_dims)
    return files


def prepare(config: Config) -> Prepared:
    """Decode the videos of a data set into the clip store `data.store`, or go on with it.

    Raises:
        UserError: The store or its place does not serve, or the disk is full.
    """
    # Here: it locks files as POSIX systems do, and nothing else needs it.
    from bgan_video.data.store import prepare

    return prepare.prepare(layouts.read(config.data), config, console.say, console.progress)


def verify(config: Config) -> int:
    """Compare the clip store with its checksums; returns how many videos it has.

    Raises:
        UserError: Names the videos that are damaged.
    """
    from bgan_video.data.store import prepare

    return prepare.verify(config, console.say, console.progress)


def features(config: Config) -> Extracted:
    """Compute the features of a data set's videos into the feature store, or go on with it.

    Raises:
        UserError: Body, data, settings or the store's place do not serve.
    """
    from bgan_video.features import extract

    body = _frozen_body(config)
    return extract(layouts.read(config.data), config, body, console.say, console.progress)


def verify_features(config: Config) -> int:
    """Compare the feature store with its checksums; returns how many videos it has.

    Raises:
        UserError: Names the videos whose features are damaged.
    """
    from bgan_video.features import verify

    return verify(config, _frozen_body(config), console.say, console.progress)


def _frozen_body(config: Config) -> FrozenBody:
    from bgan_video.features import frozen_body

    if config.spatial_dims != 3:
        raise UserError(
            f"features are those of videos, and data.layout={config.data.layout} has "
            f"{config.items}; choose a layout of videos"
        )
    return frozen_body(config.features, resolve_backend(config.run, config.spatial_dims))


def study(
    file: Path,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    keep_weights: bool = False,
) -> Summary:
    """Run the cells of a study that are not finished; results are written after each.

    Args:
        file: The study file.
        out: The study's folder; by default `studies/<file's stem>`.
        overrides: `key=value` for all cells.
        keep_weights: Keep checkpoints, posterior and samples of finished cells.

    Returns:
        The figures of what is finished now; cells in `missing` are run by other processes.

    Raises:
        UserError: The file, a cell's settings or the folder do not serve.
    """
    from bgan_video.studies import grid, results, runner  # POSIX locks, as in `prepare`

    planned = grid.read(file, out, overrides)
    runner.run(planned, keep_weights, console.say, lambda: results.write(planned))
    return results.write(planned)


def study_report(file: Path, out: Path | None = None, overrides: Sequence[str] = ()) -> Summary:
    """Write a study's results from what its folder holds; arguments as in `study`."""
    from bgan_video.studies import grid, results

    return results.write(grid.read(file, out, overrides))


def study_states(
    file: Path, out: Path | None = None, overrides: Sequence[str] = ()
) -> dict[str, str]:
    """Where each cell of a study stands, in the order of running; arguments as in `study`."""
    from bgan_video.studies import cells, grid

    planned = grid.read(file, out, overrides)
    cells.check_unchanged(planned)
    return {cell.name: cells.state(planned, cell) for cell in planned.cells}


def suggest_first(config: Config, budget: int, file: Path, by: By = "auto") -> list[Suggestion]:
    """The videos to label first, where nothing was trained yet; written as a table to be filled in.

    Args:
        config: What will train on them; how many labels it asks for does not matter.
        budget: How many, >= 1; fewer where there are fewer.
        file: The CSV to write, to be given to `data.label_list`.
        by: `auto` or `typical`.

    Raises:
        UserError: The data do not serve, or the file is there and has labels filled in.
    """
    beginning = begin(config, console.say, console.progress)
    chosen = beginning.choose(budget, by)
    write_csv(file, chosen, beginning.manifest)
    return chosen


def label(
    run: Path,
    overrides: Sequence[str] = (),
    file: Path | None = None,
    budget: int = 20,
    by: By = "auto",
    port: int = 0,
) -> None:
    """Show the label page of a run until Ctrl-C.

    Args:
        run: The run's folder.
        overrides: Where its data are now, and other settings that may differ.
        file: The table that answers go to; by default `suggestions.csv` in the run's folder.
        budget: How many videos are asked for at a time, >= 1.
        by: How they are chosen.
        port: To listen on, on 127.0.0.1; 0 for a free one.

    Raises:
        UserError: No such run, or the extra `label` is not installed.
    """
    from bgan_video.labelling import source

    table = file or run / "suggestions.csv"
    _page(source.of_run(load(run, overrides), overrides), table, budget, by, port)


def label_first(
    settings: str,
    overrides: Sequence[str],
    file: Path,
    budget: int = 20,
    by: By = "auto",
    port: int = 0,
) -> None:
    """Show the label page of a data set that has no run yet, until Ctrl-C.

    Args:
        settings: The settings file or recipe that will train.
        overrides: `key=value` beside it, such as `data.root=…`.
        file: The table that answers go to.
        budget: How many videos are asked for at a time, >= 1.
        by: `auto` or `typical`.
        port: To listen on, on 127.0.0.1; 0 for a free one.

    Raises:
        UserError: The data do not serve, or the extra `label` is not installed.
    """
    from bgan_video.labelling import source

    config = config_module.load(recipes.find(settings), overrides)
    beginning = begin(config, console.say, console.progress)
    _page(source.of_beginning(beginning, settings, overrides), file, budget, by, port)


def _page(source: Source, table: Path, budget: int, by: By, port: int) -> None:
    try:
        from bgan_video.labelling import server
    except ImportError:
        raise UserError("the label page needs pip install 'bgan_video[label]'") from None
    from bgan_video.labelling.answers import held
    from bgan_video.labelling.desk import Desk
    from bgan_video.labelling.source import of_run

    def open_run(folder: Path) -> Source:
        return of_run(load(folder))

    with held(table):
        server.serve(Desk(source, table, budget, by, open_run), port, console.say)


def export(run: TrainedRun, to: str, out: Path | None = None) -> Path:
    """Take a run away: as one program of all its networks, or as a folder for a model hub.

    Args:
        run: Whose answering model; networks that are written as a program run in float32.
        to: `torch` (`torch.export`), `onnx`, or `hub`.
        out: The file, or the hub's folder; by default in the run's folder `export`.

    Returns:
        Where it is.

    Raises:
        UserError: The run cannot be written that way, or an extra is not installed.
    """
    from bgan_video.exporting import files, hub, program

    default = {"torch": "program.pt2", "onnx": "program.onnx", "hub": run.folder.name}
    if to not in default:
        raise UserError(f"--to={to}; allowed: {', '.join(default)}")
    place = out or run.folder / "export" / default[to]
    place.parent.mkdir(parents=True, exist_ok=True)
    if to == "hub":
        hub.write_hub(run, place)
        return place
    write = {"torch": files.write_torch, "onnx": files.write_onnx}[to]
    write(run, program.of_run(run), place)
    return place


def comparison(models: dict[str, Any], split: str) -> str:
    """A table of models by level and figure, on a split."""
    header = f"{f'on {split}':26}{'top-1':>9}{'top-5':>9}{'NLL':>9}{'ECE':>9}{'Brier':>9}"
    rows = [
        f"{label_of(model):18}{level:8}"
        + "".join(f"{100 * figures[key]:8.1f}%" for key in ("top1", "top5"))
        + "".join(f"{figures[key]:9.3f}" for key in ("nll", "ece", "brier"))
        for level in next(iter(models.values()))
        for model, levels in models.items()
        for figures in [levels[level]]
    ]
    return "\n".join([header, *rows])


def check_data(config: Config, read: bool = True) -> DataCheck:
    """What the videos of a config are, and what is wrong with them; `read` decodes every file.

    Raises:
        UserError: Root, lists or settings do not serve.
    """

    def progress(items: Sequence[Item]) -> Iterable[Item]:
        return console.progress(items, "reading videos", len(items))

    return inspect(config, read, progress)


def _finish(folder: Path, overrides: Sequence[str] = ()) -> Result:
    run = load(folder, overrides)
    split = run.config.train.final_split
    has_items = run.manifest.part(split)
    models = run.evaluate() if has_items and not run.config.is_unsupervised else None
    return Result(folder, models, split, write_report(folder))
