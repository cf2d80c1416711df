"""The timeline of a long video: its table, and a page that opens offline."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from bgan_video.reports import timeline


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (62.54, "1:02.5"), (3662.54, "1:01:02.5")],
)
def test_moments_are_shown_as_players_do(seconds: float, shown: str) -> None:
    assert timeline.clock(seconds) == shown


def test_a_page_and_a_table_of_every_window(tmp_path: Path) -> None:
    windows = [
        {
            "start": 20 * n,
            "end": 20 * n + 20,
            "start_seconds": 0.8 * n,
            "end_seconds": 0.8 * n + 0.8,
            "probabilities": [p, 1 - p],
            "p_fake": None,
            "total_entropy": 0.3,
            "mutual_information": 0.01,
        }
        for n, p in enumerate((0.9, 0.2, 0.6))
    ]
    found = {"path": "a<b>.mp4", "class": "x", "classes": ["x", "y & z"], "windows": windows}
    table, page = timeline.write(tmp_path, "a", found, np.zeros((3, 8, 10, 3), np.uint8))
    with table.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    assert [row["class"] for row in rows] == ["x", "y & z", "x"]
    assert [row["start_seconds"] for row in rows] == ["0.0", "0.8", "1.6"]
    assert rows[1]["probability"] == rows[1]["p(y & z)"] == "0.800000"
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 3
    assert "a&lt;b&gt;.mp4" in html
    assert "y &amp; z" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "0:01.6–0:02.4" in html

    again = timeline.write(tmp_path, "a", found, np.ones((3, 8, 10, 3), np.uint8))
    assert again == [tmp_path / "a-2.csv", tmp_path / "a-2.html"]
    assert page.read_text() == html


def test_a_persons_table_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    found = {"path": "a.mp4", "class": "x", "classes": ["x", "y"], "windows": []}
    table, _ = timeline.write(tmp_path, "a", found, np.zeros((0, 8, 10, 3), np.uint8))
    assert table == tmp_path / "a-2.csv"
    assert (tmp_path / "a.csv").read_text() == "mine"
