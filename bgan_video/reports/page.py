"""The report's page: collect every section from the run folder, render the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bgan_video.files import write_atomically
from bgan_video.reports import comparison, items, next_steps, rounds, sections, trust
from bgan_video.reports.reading import RunFolder, read_run

REPORT_NAME = "report.html"
LARGEST = 2_000_000
"""Bytes of a page that still goes by mail; films are left out, largest first, until it fits."""
_SHOWN_SUGGESTIONS = 20


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the run folder: one file that opens offline.

    Args:
        run_dir: The run folder; whatever it lacks, the report says so.

    Returns:
        The path of the report.

    Raises:
        UserError: The folder has no `config.yaml`.
    """
    folder = read_run(Path(run_dir))
    target = folder.path / REPORT_NAME
    write_atomically(target, render(folder))  # a reader never meets half a page
    return target


def render(folder: RunFolder) -> str:
    """The page as text, of at most `LARGEST` bytes where leaving films and sheets out does it."""
    template, values = environment().get_template("report.html"), collect(folder)
    page = template.render(values)
    for smaller in items.smaller_samples(values["samples"]):
        if len(page.encode()) <= LARGEST:
            break
        page = template.render(values | {"samples": smaller})
    return page


def environment() -> Environment:
    """Where the templates are, and how they are read."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def collect(folder: RunFolder) -> dict[str, Any]:
    """Every value the template shows."""
    pair = comparison.compared(folder)
    suggested = trust.suggestions(folder)
    kind = sections.item_kind(folder)
    return {
        "name": folder.name,
        "kind": kind,
        "lead": sections.lead(folder),
        "split": folder.split,
        "facts": sections.facts(folder),
        "nothing_judged": bool(folder.items) and not folder.judged_items,
        "tables": comparison.tables(folder.metrics),
        "recall": comparison.recall(folder.metrics),
        "verdict": comparison.verdict(pair, kind) if pair else None,
        "conclusion": comparison.conclusion(pair) if pair else None,
        "rivals": comparison.against_rivals(folder),
        "unusable": folder.predictions.unusable if folder.predictions else [],
        "curves": sections.learning_curves(folder),
        "rounds": rounds.rounds(folder),
        "calibration": sections.calibration(folder),
        "confusion": sections.confusion(folder),
        "uncertainty": sections.uncertainty(folder),
        "calibration_table": trust.calibration(folder),
        "open_set": trust.open_set(folder),
        "chains": trust.chains(folder),
        "suggestions": suggested[:_SHOWN_SUGGESTIONS],
        "next": next_steps.next_steps(folder, suggested),
        "samples": items.samples(folder),
        "quality": trust.quality(folder),
        "wrong": items.most_wrong(folder),
        "uncertain": items.most_uncertain(folder),
        "broken": folder.broken,
        "config_text": folder.config_text,
        "environment": folder.environment,
    }
