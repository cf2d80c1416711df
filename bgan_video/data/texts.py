"""Text files that people write: lists of videos, tables of labels and groups."""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bgan_video.errors import UserError

_DELIMITERS = ",;\t"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Row(NamedTuple):
    """A line of a table: its number in the file, and its cells by the names of their columns."""

    number: int
    cells: dict[str, str]


class Table(NamedTuple):
    """A table: the names of its columns, in small letters without blanks around, and its rows."""

    columns: tuple[str, ...]
    rows: list[Row]


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 as spreadsheets write it; marks are taken off.

    Raises:
        UserError: It does not read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} does not read: {error.strerror}") from None
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{line}: not UTF-8; save the file as UTF-8 text") from None


def read_rows(file: Path) -> list[tuple[int, list[str]]]:
    """The rows of a table between commas, semicolons or tabs: line and cells, empty rows left out.

    Raises:
        UserError: As `read_text`, or a quote is not closed.
    """
    text = read_text(file)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().casefold().startswith("sep="):  # a spreadsheet's note to itself
        text, skipped = rest, 1
        first = rest.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = ((reader.line_num + skipped, [plain(cell) for cell in cells]) for cells in reader)
    begun = skipped + 1
    found: list[tuple[int, list[str]]] = []
    try:
        for number, cells in rows:
            begun = number + 1
            if any(cells):
                found.append((number, cells))
    except csv.Error as error:
        raise UserError(
            f"{file}:{begun}: not a row of a table ({error}); a quote that opens a cell has to "
            f"close it, and one inside is written twice"
        ) from None
    return found


def read_table(file: Path) -> Table:
    """The rows of a table whose first row names its columns; `read_rows` reads them.

    Raises:
        UserError: It does not read, or a row has more cells than the header.
    """
    found = read_rows(file)
    columns = tuple(name.casefold() for name in found[0][1]) if found else ()
    rows: list[Row] = []
    for number, cells in found[1:]:
        if any(cells[len(columns) :]):
            raise UserError(
                f"{file}:{number}: {len(cells)} cells, where the header names {len(columns)}; put "
                f"a cell that holds the delimiter in quotes"
            )
        rows.append(Row(number, dict(zip(columns, cells, strict=False))))
    return Table(columns, rows)


def plain(text: str) -> str:
    """A name as it is compared: accents composed, no blanks around."""
    return unicodedata.normalize("NFC", text).strip()


def spellings(names: Iterable[str]) -> dict[str, str]:
    """Names as files and folders have them, by what a table makes of them (`plain`).

    Of two that a table cannot tell, the one that it can write is meant.
    """
    named = list(names)
    return {plain(name): name for name in named} | {name: name for name in named}


def meant(path: str) -> Iterator[str]:
    """What a path in a table may mean, likeliest first.

    As it stands; with the slashes of Windows turned; and with UTF-8 that a spreadsheet took for a
    Western code page (`lÃ¤uft` for `läuft`) put right.
    """
    turned = path.replace("\\", "/")
    mended: list[str] = []
    for name in (path, turned):
        try:
            mended.append(plain(name.encode("cp1252").decode("utf-8")))
        except UnicodeError:
            continue
    yield from dict.fromkeys((path, turned, *mended))


def some(names: Sequence[str], most: int) -> str:
    """The first names in a line, with dots where there are more."""
    return ", ".join([*names[:most], "…"] if len(names) > most else names)


def _encoding(data: bytes) -> str:
    """By its mark; without one, text in UTF-16 has a zero in every second of its first bytes."""
    head = data[:256]
    if head.startswith(_UTF16_MARKS):
        return "utf-16"
    for zeros, encoding in ((head[1::2], "utf-16-le"), (head[::2], "utf-16-be")):
        if zeros and zeros.count(0) > len(zeros) // 2:
            return encoding
    return "utf-8-sig"
