"""What asks a person for labels, of a run or before there is one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bgan_video import config as config_module
from bgan_video.acquisition.first import begin, check_untrained
from bgan_video.acquisition.suggestions import By, Suggestion, check_free, write_csv
from bgan_video.config import Config, recipes
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError
from bgan_video.prediction.trained import TrainedRun, load
from bgan_video.training import console

if TYPE_CHECKING:
    from bgan_video.labelling.formats import Format
    from bgan_video.labelling.source import Source


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
        UserError: The data do not serve, information is asked for, or the file is there and has
            answers filled in.
    """
    check_untrained(by)  # this and the next before minutes of reading
    check_free(file)
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
        UserError: No such run, the port is not free, or the extra `label` is not installed.
    """
    from bgan_video.labelling import source

    _check_shows(port)
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
        UserError: The data do not serve, information is asked for, the port is not free, or the
            extra `label` is not installed.
    """
    from bgan_video.labelling import source

    check_untrained(by)
    _check_shows(port)
    config = config_module.load(recipes.find(settings), overrides)
    beginning = begin(config, console.say, console.progress)
    _page(source.of_beginning(beginning, settings, overrides), file, budget, by, port)


def _check_shows(port: int) -> None:
    """Raises UserError where the page could not be shown, before anything is read for it."""
    try:
        from bgan_video.labelling import server
    except ImportError:
        raise UserError("the label page needs pip install 'bgan_video[label]'") from None
    server.check_port(port)


def _page(source: Source, table: Path, budget: int, by: By, port: int) -> None:
    from bgan_video.labelling import server
    from bgan_video.labelling.desk import Desk
    from bgan_video.labelling.source import of_run

    def open_run(folder: Path) -> Source:
        return of_run(load(folder))

    with closing(Desk(source, table, budget, by, open_run)) as desk:
        server.serve(desk, port, console.say)
