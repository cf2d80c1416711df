"""What the commands do, for programs: `train(config)`, `resume(folder)`, `load(folder)`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgan_video import config as config_module
from bgan_video import ranks
from bgan_video.acquisition.first import begin
from bgan_video.acquisition.suggestions import By, Suggestion, write_csv
from bgan_video.backend import on_cuda, resolve_backend
from bgan_video.config import Config, recipes
from bgan_video.data import layouts
from bgan_video.data.check import DataCheck, inspect
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError
from bgan_video.media import pictures
from bgan_video.prediction import outputs
from bgan_video.prediction.generated import generate, measure, side_by_side
from bgan_video.prediction.trained import TrainedRun, load
from bgan_video.prediction.video_files import Unreadable, VideoPrediction
from bgan_video.reports import timeline, write_report
from bgan_video.reports.page import REPORT_NAME
from bgan_video.reports.reading import BESIDE_NAME
from bgan_video.reports.text import comparison, recall_table
from bgan_video.training import (
    budget,
    changes,
    console,
    faults,
    loop,
    measuring,
    run_folder,
)
from bgan_video.training.plan import plan
from bgan_video.video import open_video

if TYPE_CHECKING:
    from bgan_video.data.store.prepare import Prepared
    from bgan_video.features import Extracted, FrozenBody
    from bgan_video.labelling.formats import Format
    from bgan_video.labelling.source import Source
    from bgan_video.reports.study_summary import Summary

__all__ = [
    "Result",
    "TrainedRun",
    "answers",
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
    "predict",
    "prepare",
    "recall_table",
    "resume",
    "sample",
    "show_beside",
    "study",
    "study_report",
    "study_states",
    "suggest",
    "suggest_first",
    "train",
    "train_or_resume",
    "verify",
    "verify_features",
    "within",
]


_THUMBNAIL = 72
"""Short side in pixels of a timeline's frames."""


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
        places = [word for word in overrides if word.partition("=")[0] in changes.PLACES]
        return _finish(loop.train(config, held, resume=folder), places)


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


def sample(run: TrainedRun, count: int, out: Path, select: bool = False) -> list[Path]:
    """Write pictures (and films of clips) of what each generator makes; the files' paths.

    Args:
        run: Whose generators.
        count: Items of each.
        out: An existing folder.
        select: Choose them among more by the run's judges of looks.

    Raises:
        UserError: The run has no generator or, to select by, no judge, or makes vectors.
    """
    if run.config.spatial_dims == 0:
        raise UserError(f"{run.folder} makes points, of which there is no picture")
    files: list[Path] = []
    for name, items in generate(run, count, select):
        files += pictures.write(out / f"samples_{name}", items, run.config.spatial_dims)
    return files


def show_beside(run: TrainedRun, select: bool = False) -> Path | None:
    """Write `samples/real_and_generated.webp`, which plays test clips beside generated ones.

    Args:
        run: Whose generators and test clips; one of images or vectors has no clips to play.
        select: As in `sample`.

    Returns:
        The file, where there are clips.

    Raises:
        UserError: The run has no generator or, to select by, no judge.
    """
    if run.config.spatial_dims != 3:
        return None
    return pictures.write_beside(run.folder / "samples" / BESIDE_NAME, *side_by_side(run, select))


def predict(
    run: TrainedRun,
    paths: Sequence[Path | str],
    out: Path | None = None,
    timelines: Path | None = None,
) -> Iterator[VideoPrediction | Unreadable]:
    """Predict files and folders, with progress on standard error.

    Args:
        run: Whose networks.
        paths: Files and folders.
        out: A `.csv` or `.jsonl` that gets a line a file; files it has are not predicted again.
        timelines: A folder that gets the timeline of each video of several windows.

    Raises:
        UserError: A folder holds nothing to predict, or `out` or `timelines` do not serve.
    """
    files = run.files(paths)
    bodies = run.answering_names if len(run.answering_names) > 1 else ()
    output = None if out is None else outputs.Output(out, run.classes, bodies)
    if timelines is not None:
        try:
            timelines.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"--timeline={timelines}: {error.strerror}") from None
    if output is not None and output.done:
        left = [file for file in files if str(file) not in output.done]
        console.say(f"{out} has {len(files) - len(left)} of {len(files)} files; going on")
        files = left
    said = run.predict(files) if files else iter(())
    for found in console.progress(said, "predicting", len(files)):
        if output is not None:
            output.add(found)
        if timelines is not None and isinstance(found, VideoPrediction) and len(found.windows) > 1:
            _timeline(run, found, timelines)
        yield found


def _timeline(run: TrainedRun, found: VideoPrediction, folder: Path) -> None:
    """The timeline of a video under its name, numbered where another one has that name."""
    path = Path(found.path)
    middles = [(window.start + window.end) // 2 for window in found.windows]
    with open_video(path, run.config.data.decoder, _THUMBNAIL) as reader:
        frames = reader.read(middles)
    names = (path.stem, *(f"{path.stem}-{number}" for number in range(2, 10_000)))
    name = next(name for name in names if not (folder / f"{name}.html").exists())
    timeline.write(folder, name, outputs.record(found, run.classes), frames)


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

    with ranks.joined(on_cuda(config.run)):
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


def suggest(
    run: TrainedRun,
    budget: int,
    file: Path | None = None,
    by: By = "auto",
    to: Format = "csv",
) -> tuple[list[Suggestion], list[Path]]:
    """The unlabelled training videos of a run to label next.

    Args:
        run: Whose networks are asked.
        budget: How many, >= 1; fewer where there are fewer.
        file: The table to write, to be filled in and given to `data.label_list`; by default
            `suggestions.csv` in the run's folder.
        by: How they are chosen.
        to: What is written beside the table, for another program.

    Returns:
        The suggestions, and the files that were written; the first one is the table.

    Raises:
        UserError: As `TrainedRun.suggest`.
    """
    table = file or run.folder / "suggestions.csv"
    chosen = run.suggest(budget, table, by)
    return chosen, [table, *_beside(table, chosen, run.config, run.manifest, to)]


def suggest_first(
    config: Config, budget: int, file: Path, by: By = "auto", to: Format = "csv"
) -> tuple[list[Suggestion], list[Path]]:
    """The videos to label first, where nothing was trained yet; written as a table to be filled in.

    Args:
        config: What will train on them; how many labels it asks for does not matter.
        budget: How many, >= 1; fewer where there are fewer.
        file: The CSV to write, to be given to `data.label_list`.
        by: `auto` or `typical`.
        to: What is written beside the table, for another program.

    Returns:
        As `suggest`.

    Raises:
        UserError: The data do not serve, or the file is there and has labels filled in.
    """
    beginning = begin(config, console.say, console.progress)
    chosen = beginning.choose(budget, by)
    write_csv(file, chosen, beginning.manifest)
    return chosen, [file, *_beside(file, chosen, config, beginning.manifest, to)]


def _beside(
    table: Path, chosen: Sequence[Suggestion], config: Config, manifest: Manifest, to: Format
) -> list[Path]:
    from bgan_video.labelling import formats  # POSIX locks, as in `prepare`

    root = Path(config.data.root or manifest.root)
    return formats.write(to, chosen, table, root, manifest.classes)


def answers(table: Path, file: Path) -> tuple[int, int]:
    """Fill a table of suggestions in with what was answered in Label Studio or FiftyOne.

    Args:
        table: As `suggest` wrote it.
        file: Label Studio's JSON export, or FiftyOne's `samples.json` or its folder.

    Returns:
        How many suggestions got an answer now, and how many are left open.

    Raises:
        UserError: Either does not read, the table does not ask for a video, or has another answer.
    """
    from bgan_video.labelling import formats
    from bgan_video.labelling.answers import fill

    return fill(table, formats.read(file))


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


def check_data(config: Config, read: bool = True) -> DataCheck:
    """What the videos of a config are, and what is wrong with them; `read` decodes every file.

    Raises:
        UserError: Root, lists or settings do not serve.
    """
    return inspect(config, read, console.progress)


def _finish(folder: Path, overrides: Sequence[str] = ()) -> Result:
    run = load(folder, overrides)
    split = run.final_split
    has_items = run.manifest.part(split)
    models = run.evaluate() if has_items and not run.config.is_unsupervised else None
    if not ranks.is_first():
        return Result(folder, models, split, folder / REPORT_NAME)
    more = (run.recall, run.body_figures) if models else ()
    return Result(folder, models, split, write_report(folder), *more)
