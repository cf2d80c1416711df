"""Files a kill cannot leave half written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
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
    """Write a whole file or leave the old one."""
    partial = path.with_name(path.name + ".tmp")
    data = content.encode() if isinstance(content, str) else content
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


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


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON object as a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def truncate_after(path: Path, step: int) -> None:
    """Drop the lines of later steps, and a line cut off by a kill."""
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["step"] <= step:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))
