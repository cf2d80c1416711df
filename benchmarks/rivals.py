"""The table of a study of the posterior and its rivals, from the study's lines.

    bgan-video study configs/studies/posterior.yaml data.root=ISL
    python -m benchmarks.rivals studies/posterior

A row for each number of labels and each method, means over folds and seeds: figures as they are and
after a temperature fitted on the validation videos (`raw; scaled`), and the AUROC between known and
held-out classes. Intervals, by recording and seed, are in the study's own page.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Line = dict[str, Any]
BOTH = ("nll", "ece", "brier", "aurc")
OPEN = {"total_entropy": "entropy", "mutual_information": "mutual inf.", "p_fake": "p(fake)"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="the study's folder")
    folder: Path = parser.parse_args(arguments).study
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    print(table([json.loads(line) for line in text.splitlines()]))


def table(lines: list[Line]) -> str:
    """A Markdown table, in the order in which labels and methods first come."""
    cells: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        cells[line["labels"], line["method"]].append(line)
    heads = ["labels a class", "method", "top-1, %", *(f"{key.upper()}" for key in BOTH)]
    heads += [f"AUROC, {name}" for name in OPEN.values()] + ["networks", "cells", "seconds"]
    order = list(dict.fromkeys(line["labels"] for line in lines))
    placed = sorted(cells.items(), key=lambda cell: order.index(cell[0][0]))
    rows = [[*place, *figures(of)] for place, of in placed]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def figures(cells: list[Line]) -> list[str]:
    """The means of some cells, as texts."""
    whole = [next(f for name, f in c["figures"].items() if name != "clip") for c in cells]
    trusted = [c["calibration"] or {} for c in cells]
    scaled = [t.get("scaled") or {} for t in trusted]
    raw = {key: shown([f.get(key) for f in whole]) for key in ("nll", "ece", "brier")}
    raw["aurc"] = shown([t.get("aurc") for t in trusted])
    opened = [c["auroc"] or {} for c in cells]
    return [
        shown([100 * f["top1"] for f in whole], 1),
        *(f"{raw[key]}; {shown([s.get(key) for s in scaled])}" for key in BOTH),
        *(shown([o.get(name) for o in opened]) for name in OPEN),
        shown([c["networks"] for c in cells], 0),
        str(len(cells)),
        shown([c["seconds"] for c in cells], 0),
    ]


def shown(values: list[float | None], digits: int = 3) -> str:
    """Their mean; a dash where any is missing."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.{digits}f}" if len(known) == len(values) else "–"


if __name__ == "__main__":
    main()
