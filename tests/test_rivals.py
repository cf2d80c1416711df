"""The table of a study of rivals, from lines that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import rivals


def line(method: str, labels: str, top1: float, **changes: Any) -> dict[str, Any]:
    figures = {"top1": top1, "nll": 0.5, "ece": 0.1, "brier": 0.4}
    scaled = {"nll": 0.25, "ece": 0.05, "brier": 0.3, "aurc": 0.01}
    return {
        "method": method,
        "labels": labels,
        "figures": {"clip": {"top1": 0}, "video": figures},
        "calibration": {"aurc": 0.02, "scaled": scaled},
        "auroc": {"total_entropy": 0.7, "mutual_information": 0.6},
        "networks": 4,
        "seconds": 60.0,
        **changes,
    }


def test_a_row_is_the_mean_of_its_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line("swag", "2", 0.5), line("swag", "2", 0.75), line("laplace", "8", 0.9)]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(found) + "\n" for found in lines))
    rivals.main([str(tmp_path)])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| labels a class | method | top-1, % | NLL | ECE | BRIER | AURC |")
    assert rows == [
        "| 2 | swag | 62.5 | 0.500; 0.250 | 0.100; 0.050 | 0.400; 0.300 | 0.020; 0.010 "
        "| 0.700 | 0.600 | – | 4 | 2 | 60 |",
        "| 8 | laplace | 90.0 | 0.500; 0.250 | 0.100; 0.050 | 0.400; 0.300 | 0.020; 0.010 "
        "| 0.700 | 0.600 | – | 4 | 1 | 60 |",
    ]
    assert len(head.split("|")) == len(rows[0].split("|"))


def test_labels_stand_as_they_first_come() -> None:
    shown = rivals.table([line("swag", labels, 0.5) for labels in ("1", "2", "16", "8")])
    assert [row.split(" | ")[0] for row in shown.splitlines()[2:]] == ["| 1", "| 2", "| 16", "| 8"]


def test_what_was_not_measured_is_a_dash() -> None:
    of_validation = line("swag", "2", 0.5, calibration=None, auroc=None)
    row = rivals.table([of_validation]).splitlines()[-1]
    assert row == (
        "| 2 | swag | 50.0 | 0.500; – | 0.100; – | 0.400; – | –; – | – | – | – | 4 | 1 | 60 |"
    )
