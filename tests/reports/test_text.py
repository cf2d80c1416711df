"""A run's figures as lines on a console."""

from __future__ import annotations

from bgan_video.reports.text import recall_table


def test_of_many_classes_those_are_shown_that_are_found_least() -> None:
    """Not those of which there are none."""
    recall = {f"none {n}": None for n in range(20)} | {f"some {n}": n / 20 for n in range(20)}
    header, *lines, rest = recall_table({"bayesian": recall}).splitlines()
    assert "semi-supervised" in header
    assert [line.split()[1] for line in lines] == [str(n) for n in range(12)]
    assert all(line.startswith("some") for line in lines)
    assert rest == "… and 28 more classes in metrics.json"
