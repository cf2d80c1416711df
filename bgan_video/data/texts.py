"""Text files that people write: lists of videos, tables of labels and groups."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from bgan_video.errors import UserError


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, with or without the byte-order mark of a spreadsheet.

    Raises:
        UserError: It does not read, or is in another encoding.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}:{line}: not UTF-8; save the file as UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{file} does not read: {error.strerror}") from None


def read_table(file: Path) -> csv.DictReader[str]:
    """The rows of a CSV file with a header, of a UTF-8 file as `read_text` has it."""
    return csv.DictReader(io.StringIO(read_text(file), newline=""))


def some(names: Sequence[str], most: int) -> str:
    """The first names in a line, with dots where there are more."""
    return ", ".join([*names[:most], "…"] if len(names) > most else names)
