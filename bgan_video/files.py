"""Files a kill cannot leave half written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

_FINGERPRINT_BYTES = 1 << 16


def cache_folder() -> Path:
    """Where what can be made anew is kept: `BGAN_VIDEO_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("BGAN_VIDEO_CACHE")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "bgan_video"


def fingerprint(path: Path) -> str:
    """Hash of a file's size and both its ends: cheap for gigabytes, and no re-encode passes it."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_FINGERPRINT_BYTES))
        file.seek(max(0, size - _FINGERPRINT_BYTES))
        digest.update(file.read(_FINGERPRINT_BYTES))
    return digest.hexdigest()


def source_fingerprint(file: Path) -> str:
    """Fingerprint of a file; empty where it is not there or may not be read."""
    try:
        return fingerprint(file) if file.is_file() else ""
    except OSError:
        return ""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or leave the old one.

    Raises:
        OSError: It cannot be written; what was written of it is removed, to leave the room free.
    """
    partial = path.with_name(path.name + ".tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    sync(path.parent)


def written(text: str) -> str:
    """A text, with files' names in it, as UTF-8 can hold it: other bytes are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk itself.

    So that after a power failure nothing is there that was made of something that is not. Windows
    opens no folders; there this is left to the system.
    """
    if os.name != "posix" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def locked(path: Path, waits: Callable[[], None]) -> Generator[None, None, None]:
    """Hold a lock file alone, which the system takes back when its holder dies.

    Args:
        path: Made where it is not there.
        waits: Called once where another process holds it, before waiting for it.

    Raises:
        OSError: The file cannot be made.
    """
    import fcntl  # POSIX has it; nothing but writing what is shared needs it

    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held_alone(path: Path) -> Generator[None, None, None]:
    """Hold a lock file alone or fail at once; the system takes it back when this process dies.

    Forked processes do not inherit it, as they do that of `locked`: one that outlives its killed
    parent by a moment keeps nobody out. The same process may hold it twice. Windows has no such
    locks, and keeps nobody out.

    Args:
        path: Made where it is not there.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The file cannot be made.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # what some systems say of a file that is held
            raise BlockingIOError(error.errno, error.strerror) from None
        yield


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line, after taking off a line that a kill cut off.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    with path.open("ab+", buffering=0) as file:
        end = _end_of_lines(file)
        file.truncate(end)
        try:
            _write_all(file, (json.dumps(record) + "\n").encode())
        except OSError:
            file.truncate(end)
            raise


def _write_all(file: RawIOBase, data: bytes) -> None:
    """Raises OSError where the disk has no room for all of it."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _end_of_lines(file: RawIOBase) -> int:
    """Where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    if end == 0 or (file.seek(end - 1), file.read(1))[1] == b"\n":
        return end
    file.seek(0)
    return (file.read() or b"").rfind(b"\n") + 1


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines, up to one that a kill cut off; none without a file."""
    records: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def truncate_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, and a line cut off by a kill."""
    if path.is_file():
        kept = [record for record in read_lines(path) if record["step"] <= step]
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
