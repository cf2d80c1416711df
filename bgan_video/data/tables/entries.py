"""The rows of a person's own tables, of Kinetics' and of Something-Something's, in one form."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast

from bgan_video.data.spans import Span, number_from_zero, parted, span_of
from bgan_video.data.texts import Table, plain, read_table, read_text
from bgan_video.errors import UserError

COLUMNS = ("path", "label", "split", "group", "start", "end", "weight")
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}
"""What tables call the parts of a data set."""
_KINETICS = {"label", "youtube_id", "time_start", "time_end"}


class Entry(NamedTuple):
    """A row of a table.

    Attributes:
        where: Its file and line.
        files: What its file may be called, relative to the root, and the part of it that is meant;
            likeliest first. A name without folder and suffix is looked for at any depth.
        label: Its class; empty where the table names none.
        split: One of the values of `SPLITS`; empty where the table names none.
        group: The recording or person; empty where the table names none.
        weight: How often its label is seen, against one of weight 1.
    """

    where: str
    files: tuple[tuple[str, Span | None], ...]
    label: str
    split: str
    group: str = ""
    weight: float = 1.0


def read_entries(file: Path) -> list[Entry]:
    """The rows of one table.

    Raises:
        UserError: It does not read; a column that is needed is missing; a cell makes no sense.
    """
    if file.suffix.casefold() == ".json":
        return list(_something_something(file))
    table = read_table(file)
    if set(table.columns) >= _KINETICS:
        return list(_kinetics(file, table))
    return list(_own(file, table))


def _own(file: Path, table: Table) -> Iterator[Entry]:
    """A person's own table: `path`, and any of the other columns."""
    _check_columns(file, table)
    for number, cells in table.rows:
        where = f"{file}:{number}"
        path, inside = parted(cells.get("path", ""))
        if not path:
            raise UserError(f"{where}: no path; every row names a video")
        yield Entry(
            where,
            ((path, span_of(where, cells) or inside),),
            cells.get("label", ""),
            _split(where, cells.get("split", "")),
            cells.get("group", ""),
            _weight(where, cells.get("weight", "")),
        )


def _kinetics(file: Path, table: Table) -> Iterator[Entry]:
    """Kinetics' own lists: `label,youtube_id,time_start,time_end,split`.

    Its loaders call a clip `<id>_<start>_<end>.mp4`, six digits each; a file `<id>.*` is the video
    that the clip is a part of.
    """
    for number, cells in table.rows:
        where = f"{file}:{number}"
        video = cells.get("youtube_id", "")
        span = span_of(where, cells, ("time_start", "time_end"))
        if not video or span is None or span.end is None:
            raise UserError(
                f"{where}: a clip has youtube_id, time_start and time_end; one is empty"
            )
        clip = f"{video}_{int(span.start):06d}_{int(span.end):06d}"
        yield Entry(
            where,
            ((clip, None), (video, span)),
            cells.get("label", ""),
            _split(where, cells.get("split", "")) or split_of_file(file),
            video,
        )


def _something_something(file: Path) -> Iterator[Entry]:
    """Something-Something's lists: objects with `id` and `template`; the file's name says which.

    A class is a template without its brackets, as its own list of classes has it.
    """
    try:
        records: Any = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(records, list) or not records:
        raise UserError(f"{file}: a JSON table is a list of objects with id and template")
    split = split_of_file(file)
    if not split:
        raise UserError(f"{file}: its name says no split; allowed: one with train, validation, …")
    for number, record in enumerate(cast(list[Any], records), 1):
        if not isinstance(record, dict) or "id" not in record:
            raise UserError(f"{file}: entry {number} has no id; allowed: objects with id, template")
        record = cast(dict[str, Any], record)
        template = str(record.get("template") or record.get("label") or "")
        label = plain(template.replace("[", "").replace("]", ""))
        yield Entry(f"{file}, entry {number}", ((str(record["id"]), None),), label, split)


def _check_columns(file: Path, table: Table) -> None:
    """Raises UserError where there is no path, or a column seems to be meant for another."""
    if "path" not in table.columns:
        found = ", ".join(table.columns) or "nothing"
        raise UserError(
            f"{file}:1: a table has a column path, and any of {', '.join(COLUMNS[1:])}; found: "
            f"{found}"
        )
    for name in table.columns:
        near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.75)
        if near and name not in COLUMNS and near[0] not in table.columns:
            raise UserError(f"{file}:1: unknown column {name!r}; did you mean {near[0]}?")
    repeated = [n for n in COLUMNS if table.columns.count(n) > 1]
    if repeated:
        raise UserError(f"{file}:1: the column {repeated[0]} is there twice; name it once")


def _weight(where: str, text: str) -> float:
    weight = number_from_zero(text.replace(",", ".")) if text else 1.0
    if weight is None:
        raise UserError(f"{where}: weight={text!r}; allowed: a number from 0")
    return weight


def _split(where: str, text: str) -> str:
    if text and text.casefold() not in SPLITS:
        raise UserError(f"{where}: split {text!r}; allowed: train, validation, test, unlabelled")
    return SPLITS[text.casefold()] if text else ""


def split_of_file(file: Path) -> str:
    """The split that a file's name tells: `something-something-v2-train.json`."""
    words = plain(PurePosixPath(file.name).stem).casefold().replace("_", "-").split("-")
    return next((SPLITS[word] for word in reversed(words) if word in SPLITS), "")
