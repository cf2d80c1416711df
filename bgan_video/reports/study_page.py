"""The page of a study: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bgan_video.metrics.calibration import reliability
from bgan_video.metrics.paired import FIGURES, RESAMPLES
from bgan_video.reports import sections, study_plots
from bgan_video.reports.comparison import METRICS
from bgan_video.reports.page import environment
from bgan_video.reports.plots import Picture
from bgan_video.reports.study_cells import StudyCell
from bgan_video.reports.study_summary import (
    SHOWN,
    BodyMeans,
    Difference,
    Entry,
    Summary,
    show_interval,
    show_mean,
    show_seconds,
)


def render(summary: Summary, cells: Sequence[StudyCell], study_text: str, command: str) -> str:
    """The page as text.

    Args:
        summary: The study's figures.
        cells: Its finished cells.
        study_text: The study file.
        command: What was given beside it, such as `train.steps=300`; empty where nothing was.
    """
    content = collect(summary, cells) | {"study_text": study_text, "command": command}
    return environment().get_template("study.html").render(content)


def collect(summary: Summary, cells: Sequence[StudyCell]) -> dict[str, Any]:
    """Every value the template shows, but for the study file."""
    compared = [entry for entry in summary.entries if entry.difference is not None]
    return {
        "summary": summary,
        "facts": _facts(summary),
        "titles": [METRICS[key].title for key in SHOWN],
        "results": [row for entry in summary.entries for row in _results(entry, summary)],
        "curves": [study_plots.label_curves(summary)] if summary.entries else [],
        "paired_titles": [_paired_title(key) for key in FIGURES],
        "paired": [_paired(entry, entry.difference) for entry in compared if entry.difference],
        "forests": [study_plots.forest(summary, key) for key in FIGURES] if compared else [],
        "resamples": f"{RESAMPLES:,}",
        "reliability": _reliability(summary, cells),
        "costs": [_cost(method, summary) for method in summary.methods],
    }


def _paired_title(key: str) -> str:
    metric = METRICS[key]
    return f"{metric.title} (points)" if metric.percent else metric.title


def _facts(summary: Summary) -> list[tuple[str, str]]:
    recordings = [e.difference.recordings for e in summary.entries if e.difference is not None]
    rows = {
        "methods": str(len(summary.methods)),
        "label settings": str(len(summary.labels)),
        "cells finished": f"{summary.finished} of {summary.planned}",
        "reference": summary.reference,
        f"{summary.split} recordings": str(max(recordings)) if recordings else None,
    }
    return [(key, value) for key, value in rows.items() if value is not None]


def _results(entry: Entry, summary: Summary) -> list[dict[str, Any]]:
    """The row of a method, and below it one for each of its bodies."""
    row = _result(entry, summary)
    return [row, *(row | _of_body(body) for body in entry.bodies)]


def _of_body(body: BodyMeans) -> dict[str, Any]:
    """What differs in the row of a body; it is a part of a method, and no rival of any."""
    shown = [{"text": show_mean(key, body.figures.get(key)), "best": False} for key in SHOWN]
    name = f"body {body.name}"
    return {"method": name, "is_body": True, "cells": body.cells, "figures": shown, "seconds": "–"}


def _result(entry: Entry, summary: Summary) -> dict[str, Any]:
    """A row of the results table; the best mean of a label setting is marked."""
    rivals = [other for other in summary.entries if other.labels == entry.labels]
    cells = []
    for key in SHOWN:
        means = [other.figures[key].mean for other in rivals if key in other.figures]
        own = entry.figures.get(key)
        best = (max if METRICS[key].higher_is_better else min)(means, default=None)
        is_best = own is not None and own.mean == best and len(set(means)) > 1
        cells.append({"text": show_mean(key, own), "best": is_best})
    count = "–" if entry.num_labelled is None else f"{entry.num_labelled:g}"
    return {
        "labels": entry.labels,
        "num_labelled": count,
        "method": entry.method,
        "is_body": False,
        "cells": entry.cells,
        "figures": cells,
        "seconds": show_seconds(entry.seconds),
    }


def _paired(entry: Entry, difference: Difference) -> dict[str, Any]:
    return {
        "labels": entry.labels,
        "method": entry.method,
        "figures": [
            show_interval(key, difference.figures[key]).replace(" points", "") for key in FIGURES
        ],
        "cells": difference.cells,
        "folds": ", ".join(map(str, difference.folds)),
        "seeds": ", ".join(map(str, difference.seeds)),
        "recordings": difference.recordings,
    }


def _reliability(summary: Summary, cells: Sequence[StudyCell]) -> list[Picture]:
    """A picture for each label setting: the items of all cells of a method in one curve."""
    pictures = []
    for setting in summary.labels:
        bins = {}
        for method in summary.methods:
            judged = [
                cell.run.items.judged
                for cell in cells
                if (cell.method, cell.labels) == (method, setting) and cell.run.items is not None
            ]
            if judged:
                confidence = np.concatenate([own.confidence for own in judged])
                right = np.concatenate([own.right for own in judged])
                bins[method] = reliability(confidence, right)
        if bins:
            title = f"{summary.label_key}: {setting}"
            pictures.append(study_plots.reliability(title, bins, summary.methods))
    return pictures


def _cost(method: str, summary: Summary) -> dict[str, str]:
    """Means over all cells of a method; a dash for what was not recorded."""
    own = [entry for entry in summary.entries if entry.method == method]
    seconds = [(entry.seconds, entry.cells) for entry in own if entry.seconds is not None]
    memory = [e.peak_memory_mib for e in own if e.peak_memory_mib is not None]
    networks = sorted({entry.networks for entry in own if entry.networks is not None})
    spent = sum(s * n for s, n in seconds)
    return {
        "method": method,
        "cells": str(sum(entry.cells for entry in own)),
        "seconds": sections.show_duration(spent / sum(n for _, n in seconds)) if seconds else "–",
        "total": sections.show_duration(spent) if seconds else "–",
        "memory": f"{max(memory):.0f} MiB" if memory else "–",
        "networks": ", ".join(map(str, networks)) or "–",
    }
