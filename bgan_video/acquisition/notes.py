"""What a table of suggestions has in place of a label."""

from __future__ import annotations

from collections.abc import Mapping

SKIPPED = "skipped"
NONE_OF_THESE = "none of these"
NOTES = (SKIPPED, NONE_OF_THESE)
"""Notes that are answers: their video is not asked for again."""

COPY = "copy of "
"""A near-copy's note, before the rank of the video whose label answers for it."""


def answer_of(row: Mapping[str, str]) -> str:
    """A suggestion's answer: `label:<class>`, one of `NOTES`, or nothing."""
    if row.get("label"):
        return f"label:{row['label']}"
    return row["note"] if row.get("note") in NOTES else ""
