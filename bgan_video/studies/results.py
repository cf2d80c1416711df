"""A study's results, written from the folders of its cells: lines, summary, page, picture."""

from __future__ import annotations

import json
from typing import Any

from bgan_video import config as config_module
from bgan_video.files import write_atomically
from bgan_video.reports import study_page, study_plots, study_summary
from bgan_video.reports.study_cells import StudyCell, read_finished
from bgan_video.reports.study_summary import Summary
from bgan_video.studies import cells
from bgan_video.studies.grid import Cell, Study

RESULTS, SUMMARY, PAGE, CURVE = "results.jsonl", "summary.json", "study.html", "label_curve.png"


def write(study: Study) -> Summary:
    """Write every result anew; processes that share the study do so one after the other.

    Raises:
        UserError: A cell was run with other settings, perhaps by another process, or a finished
            one has no figures of exactly one model; or the folder cannot be written.
    """
    with cells.results_locked(study):
        summary, finished = collect(study)
        lines = [json.dumps(_row(study, cell, of)) + "\n" for cell, of in finished]
        page = study_page.render(
            summary, [of for _, of in finished], study.text, " ".join(study.overrides)
        )
        write_atomically(study.out / RESULTS, "".join(lines))
        write_atomically(study.out / SUMMARY, json.dumps(summary.to_mapping(), indent=2) + "\n")
        write_atomically(study.out / CURVE, study_plots.label_curve_png(summary))
        write_atomically(study.out / PAGE, page)
    return summary


def collect(study: Study) -> tuple[Summary, list[tuple[Cell, StudyCell]]]:
    """The summary of what is finished, and the finished cells in the order of the grid.

    Raises:
        UserError: As `write`.
    """
    cells.check_unchanged(study)
    finished: list[tuple[Cell, StudyCell]] = []
    failed: dict[str, str] = {}
    missing: list[str] = []
    for cell in study.cells:
        if cells.is_finished(study, cell):
            run = read_finished(cells.folder(study, cell))
            place = StudyCell(cell.method, cell.labels, cell.fold, cell.seed, run)
            finished.append((cell, place))
        elif (failure := cells.failure(study, cell)) is not None:
            failed[cell.name] = failure
        else:
            missing.append(cell.name)
    places = [place for _, place in finished]
    summary = Summary(
        study=study.name,
        label_key=study.label_key,
        reference=study.reference,
        split=" and ".join(sorted({place.run.split for place in places})) or study.split,
        level=places[0].run.level if places else None,
        methods=list(study.methods),
        labels=list(study.labels),
        planned=len(study.cells),
        finished=len(finished),
        failed=failed,
        missing=missing,
        entries=study_summary.entries(places, study.methods, study.labels, study.reference),
    )
    return summary, finished


def _row(study: Study, cell: Cell, of: StudyCell) -> dict[str, Any]:
    """The line of a finished cell, which has the settings that the study asks for."""
    base, own = config_module.flat(study.base), config_module.flat(cell.config)
    run = of.run
    return {
        "study": study.name,
        "method": cell.method,
        "labels": cell.labels,
        "num_labelled": run.num_labelled,
        "fold": cell.fold,
        "seed": cell.seed,
        "split": run.split,
        "figures": run.levels,
        **({"bodies": run.bodies} if run.bodies else {}),
        "calibration": run.calibration,
        "auroc": run.auroc,
        "networks": run.networks,
        "seconds": run.seconds,
        "peak_memory_mib": run.peak_memory_mib,
        "settings": {
            key: value
            for key, value in own.items()
            if value != base[key] and key not in ("run.dir", "run.name")
        },
    }
