"""Fill a clip store: decode each video once, in parallel, and go on after a kill.

One process at a time fills a store (a lock the system takes back when its holders die); its workers
append to shards of their own, and it alone appends to the index, after the frames are on the disk.
So a kill at any moment costs the videos that were being decoded, and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from bgan_video.config import Config
from bgan_video.data.frames import Broken
from bgan_video.data.manifest import Manifest
from bgan_video.data.reading import say_stand_in
from bgan_video.data.spans import file_of
from bgan_video.data.store import clip_store, shards
from bgan_video.data.store.clip_store import StoredVideo
from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.video import reader
from bgan_video.video.reader import BrokenVideo

Say = Callable[[str], None]
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]

LOCK = "lock"
# Decoded before the start, evenly over the data set, to tell the size of all.
_ESTIMATED_FROM = 8


@dataclass(frozen=True)
class Prepared:
    """What a store holds of a data set.

    Attributes:
        folder: The store.
        videos: How many videos it has frames of.
        added: How many of them were decoded just now.
        num_bytes: Size of the frames.
        rejected: The videos that do not read, and why.
    """

    folder: str
    videos: int
    added: int
    num_bytes: int
    rejected: list[Broken]

    def __str__(self) -> str:
        lines = [f"{path}: does not read: {reason}" for path, reason in self.rejected]
        return "\n".join(
            [
                *lines,
                f"{self.folder}: {self.videos} videos, {_size(self.num_bytes)}; {self.added} of "
                f"them new, {len(self.rejected)} files do not read",
            ]
        )


def prepare(manifest: Manifest, config: Config, say: Say, progress: Progress) -> Prepared:
    """Decode what the store has not, or has of another file; tell the size first.

    Files that did not read are tried again. A second process waits for the first one.

    Args:
        manifest: The videos, as a layout gives them.
        config: `data.store` names the folder, `data.num_workers` how many processes decode.
        say: Gets the lines for the user.
        progress: Wraps the videos as they are done.

    Raises:
        UserError: The store is of another size, its place is not writable or has no room, or a
            decoding process died. What was written stays and serves.
    """
    folder, root = folder_of(config), Path(manifest.root)
    say_stand_in(config.data.decoder, say)
    paths = list(dict.fromkeys(file_of(item.path) for item in manifest.items))
    with _locked(folder, config, say):
        clip_store.check_settings(folder, config)
        _drop_unfinished(folder)
        records = clip_store.read_index(folder)
        todo = [path for path in paths if _is_due(records.get(path), root / path)]
        if todo:
            _check_room(todo, root, config, say)
        added = _fill(folder, root, config, todo, records, progress)
    held = [records[path] for path in paths]
    return Prepared(
        folder=str(folder),
        videos=sum(not record.error for record in held),
        added=added,
        num_bytes=sum(record.num_bytes for record in held),
        rejected=[Broken(record.path, record.error) for record in held if record.error],
    )


def _fill(
    folder: Path,
    root: Path,
    config: Config,
    todo: Sequence[str],
    records: dict[str, StoredVideo],
    progress: Progress,
) -> int:
    """Decode videos into the store and enter them in `records`; returns how many read."""
    job = shards.Job(folder, root, config)
    decoded = shards.decoded(todo, job, config.data.num_workers)
    added = 0
    with (folder / clip_store.INDEX).open("ab", buffering=0) as index:
        try:
            for record in progress(decoded, "decoding videos", len(todo)):
                if record != records.get(record.path):
                    _append(index, [record])
                    records[record.path] = record
                added += not record.error
        except OSError as error:
            raise UserError(
                f"data.store={folder}: {error.strerror} after {added} of {len(todo)} videos; they "
                f"are kept: make room, and run the command again to go on"
            ) from None
    return added


def verify(config: Config, say: Say, progress: Progress) -> int:
    """Compare all frames with their checksums; what is damaged is marked, to be decoded anew.

    Returns:
        How many videos the store has frames of, all of them whole.

    Raises:
        UserError: No store, or names the videos that are damaged.
    """
    folder = folder_of(config)
    clip_store.check_settings(folder, config)
    damaged: list[StoredVideo] = []
    with _locked(folder, config, say):
        _drop_unfinished(folder)
        whole = [record for record in clip_store.read_index(folder).values() if not record.error]
        for record in progress(whole, "verifying videos", len(whole)):
            if not _is_whole(folder, record):
                reason = f"damaged in {folder}"
                damaged.append(StoredVideo(record.path, record.fingerprint, error=reason))
        names = ", ".join(record.path for record in damaged)
        try:
            with (folder / clip_store.INDEX).open("ab", buffering=0) as index:
                _append(index, damaged)
        except OSError as error:
            raise UserError(
                f"data.store={folder}: {error.strerror}; damaged and not marked: {names}"
            ) from None
    if damaged:
        raise UserError(
            f"data.store={folder}: {len(damaged)} of {len(whole)} videos are damaged: {names}; "
            f"decode them anew: {clip_store.command(config)}"
        )
    return len(whole)


def folder_of(config: Config) -> Path:
    """The store's folder; raises UserError where the settings name none."""
    if config.data.store is None:
        raise UserError(
            "data.store is not set: which folder? For example data.store="
            f"{config.data.layout}.store"
        )
    return Path(config.data.store)


@contextmanager
def _locked(folder: Path, config: Config, say: Say) -> Generator[None, None, None]:
    """Hold the store alone, begun if it is new; a folder of other files is left alone.

    Workers inherit the lock where they are forked: it is free once the last of them has gone.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
        if names and not names & {LOCK, clip_store.SETTINGS}:
            raise UserError(f"data.store={folder} holds other files; give it a new or empty folder")
        lock = (folder / LOCK).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is filling {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / clip_store.SETTINGS).is_file():
            made = json.dumps(clip_store.settings(config))
            write_atomically(folder / clip_store.SETTINGS, made + "\n")
    except OSError as error:
        raise UserError(f"data.store={folder}: {error.strerror}") from None
    with lock:
        yield


def _append(index: FileIO, records: Sequence[StoredVideo]) -> None:
    """Raises OSError where the disk has no room for the lines."""
    lines = "".join(record.to_line() for record in records).encode()
    if index.write(lines) < len(lines):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _drop_unfinished(folder: Path) -> None:
    """Take off what a kill left behind: half a line, and frames that no line names.

    Frames a later line replaced stay: a run that read the index before may be reading them.
    """
    index = folder / clip_store.INDEX
    if index.is_file():
        content = index.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(index, whole)
    ends: dict[str, int] = {}
    for record in clip_store.read_lines(folder):
        ends[record.shard] = max(ends.get(record.shard, 0), record.offset + record.num_bytes)
    for shard in folder.glob("frames-*.bin"):
        end = ends.get(shard.name, 0)
        if end == 0:
            shard.unlink()
        elif shard.stat().st_size > end:
            os.truncate(shard, end)


def _is_due(record: StoredVideo | None, file: Path) -> bool:
    """Whether a video has to be decoded; one whose file has gone keeps its frames."""
    if record is None or record.error:
        return True
    now = clip_store.source_fingerprint(file)
    return now not in ("", record.fingerprint)


def _check_room(todo: Sequence[str], root: Path, config: Config, say: Say) -> None:
    """Tell how large the frames will be, from a few videos.

    Raises:
        UserError: There is less room than that.
    """
    sizes = [file.stat().st_size if file.is_file() else 0 for file in map(root.joinpath, todo)]
    encoded = decoded = 0
    step = -(-len(todo) // _ESTIMATED_FROM)
    for path, size in zip(todo[::step], sizes[::step], strict=True):
        with (
            suppress(BrokenVideo, MemoryError),
            reader.open_video(root / path, config.data.decoder, config.load_size) as video,
        ):
            decoded += len(video) * video.read([0]).nbytes
            encoded += size
    folder = folder_of(config)
    free = shutil.disk_usage(folder).free
    if not encoded:
        return
    needed = int(decoded / encoded * sum(sizes))
    about = f"{len(todo)} videos at {config.load_size} pixels need about {_size(needed)}"
    if needed > free:
        raise UserError(
            f"{about}, data.store={folder} has {_size(free)} free; make room, or lower clip.size"
        )
    say(f"{about} in {folder} ({_size(free)} free)")


def _is_whole(folder: Path, record: StoredVideo) -> bool:
    digest = clip_store.new_checksum()
    try:
        for frames in clip_store.pieces(folder, record):
            digest.update(frames.data.cast("B"))
    except (OSError, ValueError):
        return False
    return digest.hexdigest() == record.checksum


def _size(num_bytes: int) -> str:
    unit, name = (2**30, "GiB") if num_bytes >= 2**30 else (2**20, "MiB")
    return f"{num_bytes / unit:.1f} {name}"
