"""What compares: the cells of a study, run, read and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bgan_video.training import console

if TYPE_CHECKING:
    from bgan_video.reports.study_summary import Summary


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
