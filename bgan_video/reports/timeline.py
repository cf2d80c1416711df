"""A long video's predictions over time: a table, and a small page with its frames."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgan_video.files import write_atomically
from bgan_video.reports.page import environment

_QUALITY = 70


def write(
    folder: Path, name: str, found: Mapping[str, Any], frames: NDArray[np.uint8]
) -> list[Path]:
    """Write `<name>.csv` and `<name>.html`, which opens offline; returns both.

    Args:
        folder: An existing one.
        name: Of the files, numbered where a file has it, another timeline's or a person's.
        found: The prediction of one video, as `predict --json` has it.
        frames: `[W, H, W', 3]`, one of each window.
    """
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    places = ((folder / f"{own}.csv", folder / f"{own}.html") for own in names)
    table, page = next(both for both in places if not any(file.exists() for file in both))
    classes, windows = list(found["classes"]), list(found["windows"])
    write_atomically(table, _table(windows, classes).encode("utf-8-sig"))
    rows = [_row(w, classes, frame) for w, frame in zip(windows, frames, strict=True)]
    template = environment().get_template("timeline.html")
    write_atomically(page, template.render(found=found, rows=rows, style=_style(classes)))
    return [table, page]


def _table(windows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    places = ["start_seconds", "end_seconds", "start", "end"]
    figures = ["p_fake", "total_entropy", "mutual_information"]
    rows.writerow([*places, "class", "probability", *figures, *(f"p({c})" for c in classes)])
    for window in windows:
        p = window["probabilities"]
        shown = ["" if window[key] is None else f"{window[key]:.6f}" for key in figures]
        of_classes = [f"{value:.6f}" for value in p]
        best = [classes[p.index(max(p))], f"{max(p):.6f}"]
        rows.writerow([*(window[key] for key in places), *best, *shown, *of_classes])
    return text.getvalue()


def _row(
    window: Mapping[str, Any], classes: Sequence[str], frame: NDArray[np.uint8]
) -> dict[str, Any]:
    p = window["probabilities"]
    best = p.index(max(p))
    return {
        "from": clock(window["start_seconds"]),
        "to": clock(window["end_seconds"]),
        "number": best,
        "name": classes[best],
        "percent": round(100 * p[best]),
        "entropy": window["total_entropy"],
        "mutual_information": window["mutual_information"],
        "picture": _picture(frame),
    }


def clock(seconds: float) -> str:
    """A moment as players show it: `1:02.5`, `1:01:02.5`."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{minutes:02d}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"
    return f"{hours}:{tail}" if hours else tail


def _picture(frame: NDArray[np.uint8]) -> str:
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def _style(classes: Sequence[str]) -> list[str]:
    """A colour for each class, evenly around the circle, as dark as white text needs."""
    return [f"hsl({360 * k // len(classes)} 60% 38%)" for k in range(len(classes))]
