"""What the label column says: one class a video, or several, which is refused."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from bgan_video.errors import UserError

_NOT_BUILT = (
    "several labels for one video are not supported: every video, or part of a video, is of one "
    "class"
)
_LIST = re.compile(r"\[.*,.*\]|\[\s*['\"\d].*\]|\{.*\}")


def check_single_labels(rows: Sequence[tuple[str, str, str]]) -> None:
    """Refuse a table that is meant for several labels a video, and rows that repeat one.

    Args:
        rows: Path (with its part), label and place in the file of every row.

    Raises:
        UserError: Names the row, and what can be done.
    """
    seen: dict[str, tuple[str, str]] = {}
    for path, label, where in rows:
        if path in seen:
            other, place = seen[path]
            if other != label:
                raise UserError(
                    f"{where}: {path} is {label or 'without a label'} here and "
                    f"{other or 'without a label'} at {place}; {_NOT_BUILT}; keep one row, or say "
                    f"with start and end which part is which"
                )
            raise UserError(f"{where}: {path} stands at {place} already; keep one of the rows")
        seen[path] = label, where
    for _, label, where in rows:
        if _LIST.fullmatch(label):
            raise UserError(f"{where}: the label {label!r} is a list; {_NOT_BUILT}")
    _refuse_joined([(label, where) for _, label, where in rows if label])


def _refuse_joined(labels: Sequence[tuple[str, str]]) -> None:
    """Refuse `run|jump` and `run, jump` where `run` and `jump` are classes, or parts of others."""
    names = {label for label, _ in labels}
    uses: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for part in _parts(name, "|;"):
            uses[part].add(name)
    for label, where in labels:
        joined = _parts(label, "|;")
        shares = len(joined) > 1 and any(len(uses[part]) > 1 for part in joined)
        listed = _parts(label, ",+&/")
        if shares or (len(listed) > 1 and names.issuperset(listed)):
            parts = ", ".join(joined if shares else listed)
            raise UserError(f"{where}: the label {label!r} seems to be {parts}; {_NOT_BUILT}")


def _parts(label: str, separators: str) -> list[str]:
    parts = re.split(f"[{re.escape(separators)}]", label)
    return [part.strip() for part in parts if part.strip()]
