"""The clip store: videos decoded once, as uint8 frames at the training size.

A store is a folder. `store.json` says how its frames were made, `frames-*.bin` hold them back to
back and nothing else, and `index.jsonl` has a line a video, appended when its frames are on the
disk. A later line of the same video replaces an earlier one; what no line names does not exist.
`bgan_video.data.store.prepare` writes stores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import mmap
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bgan_video.config import Config
from bgan_video.data.reading import Seen
from bgan_video.errors import UserError
from bgan_video.files import source_fingerprint
from bgan_video.video.decoders import in_use
from bgan_video.video.reader import BrokenVideo

Array = NDArray[np.uint8]

SCHEMA = 1
SETTINGS = "store.json"
INDEX = "index.jsonl"
# Frames of a video that are looked at together.
_PIECE = 64


@dataclass(frozen=True)
class StoredVideo:
    """A line of the index.

    Attributes:
        path: Of the video, relative to the root, with forward slashes.
        fingerprint: Of the file that was decoded; empty where there was none.
        error: Why there are no frames, in one line; empty where there are.
        shard: Name of the file that holds the frames.
        offset: Where in it they start, in bytes.
        shape: `[T, H, W, 3]` of the frames.
        checksum: BLAKE2b-128 of their bytes.
    """

    path: str
    fingerprint: str
    error: str = ""
    shard: str = ""
    offset: int = 0
    shape: tuple[int, ...] = ()
    checksum: str = ""

    @property
    def num_bytes(self) -> int:
        """Size of the frames; 0 of a video without any."""
        return 0 if self.error else math.prod(self.shape)

    def to_line(self) -> str:
        """The record as a line of the index."""
        return json.dumps(dataclasses.asdict(self)) + "\n"


class Store:
    """Reads a store in place of the video files.

    Each read maps the frames it needs and lets them go again: nothing is open between two reads,
    so processes may fork at any time, and the memory of a run does not grow with what it has read.

    Args:
        root: Folder of the video files; where they are still there, they are compared.
        config: `data.store` names the folder; size and decoder have to be the store's.

    Raises:
        UserError: No store, or one whose frames are not those the settings ask for.
    """

    def __init__(self, root: Path, config: Config) -> None:
        assert config.data.store is not None
        self._root = root
        self._folder = Path(config.data.store)
        self._command = command(config)
        check_settings(self._folder, config)
        self._records = read_index(self._folder)

    def survey(self, paths: Sequence[str], workers: int) -> Iterator[Seen | BrokenVideo]:
        """How many frames each video has, from the index; of one that has none, why.

        Raises:
            UserError: A video is not in the store, or its file is there and is another one.
        """
        del workers
        for path in paths:
            record = self._record(path)
            self._check_source(record)
            if record.error:
                yield BrokenVideo(self._root / path, record.error)
            else:
                yield Seen(record.shape[0], record.fingerprint)

    def read_all(self, path: str) -> Array:
        """All frames `[T, H, W, 3]` of a video; raises as `read`."""
        return self.read(path, range(self._length(path)))

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """The frames at `indices`, `[T, H, W, 3]`, in that order, repeats allowed.

        Raises:
            BrokenVideo: It has no such frame, or the store is not whole.
            UserError: The video is not in the store.
        """
        length = self._length(path)
        first, stop = min(indices), max(indices) + 1
        if first < 0 or stop > length:
            raise BrokenVideo(self._root / path, f"it has {length} frames, not {first}..{stop - 1}")
        try:
            frames = map_frames(self._folder, self._record(path), first, stop)
        except (OSError, ValueError) as error:
            reason = f"{self._folder} is damaged ({error}); bgan-video prepare --verify says where"
            raise BrokenVideo(self._root / path, reason) from None
        return frames[[index - first for index in indices]]

    def fingerprint(self, path: str) -> str:
        """Of the file the frames were decoded from.

        Raises:
            UserError: The video is not in the store, or its file is there and is another one.
        """
        record = self._record(path)
        self._check_source(record)
        return record.fingerprint

    def _length(self, path: str) -> int:
        record = self._record(path)
        if record.error:
            raise BrokenVideo(self._root / path, record.error)
        return record.shape[0]

    def _record(self, path: str) -> StoredVideo:
        record = self._records.get(path)
        if record is None:
            raise UserError(f"{path} is not in data.store={self._folder}; add it: {self._command}")
        return record

    def _check_source(self, record: StoredVideo) -> None:
        now = source_fingerprint(self._root / record.path)
        if now and now != record.fingerprint:
            raise UserError(
                f"{self._root / record.path} changed since data.store={self._folder} read it; "
                f"read it anew: {self._command}"
            )


def check_settings(folder: Path, config: Config) -> None:
    """Compare how a store was made with what the settings ask for.

    Raises:
        UserError: No store, or the frames of another size, decoder or version.
    """
    try:
        made: Any = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"data.store={folder} is not there or not a clip store; make it: {command(config)}"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / SETTINGS} does not read: {error}") from None
    if made.get("decoder") == "auto":  # as older stores have it
        made["decoder"] = "pyav"
    wanted = settings(config)
    # What decord decoded elsewhere serves where only PyAV could stand in for it.
    if made in (wanted, wanted | {"decoder": config.data.decoder}):
        return
    what = {"schema": "version", "short_side": "short side", "decoder": "data.decoder"}
    key = next(key for key in what if made.get(key) != wanted[key])
    other = folder.with_name(f"{folder.stem}-{config.load_size}{folder.suffix}")
    raise UserError(
        f"data.store={folder} holds frames of {what[key]} {made.get(key)}, the settings ask for "
        f"{wanted[key]}; make another: {command(config, other)}"
    )


def settings(config: Config) -> dict[str, Any]:
    """What the bytes of a store depend on, beside the videos."""
    decoder = in_use(config.data.decoder)
    return {"schema": SCHEMA, "short_side": config.load_size, "decoder": decoder}


def command(config: Config, folder: Path | None = None) -> str:
    """The command that makes the store these settings need, in `folder` if it is given."""
    d, c = config.data, config.clip
    keys = {
        "data.layout": d.layout,
        "data.root": d.root,
        "data.lists": d.lists,
        "data.table": f"[{','.join(d.table)}]" if d.table else None,
        "data.fold": None if d.fold == 1 else d.fold,
        "data.decoder": d.decoder,
        "clip.size": c.size,
        "clip.load_size": c.load_size,
        "data.store": folder or d.store,
    }
    words = [f"{key}={value}" for key, value in keys.items() if value is not None]
    return shlex.join(["bgan-video", "prepare", *words])


def read_index(folder: Path) -> dict[str, StoredVideo]:
    """The videos of a store by path; raises as `read_lines`."""
    return {record.path: record for record in read_lines(folder)}


def read_lines(folder: Path) -> list[StoredVideo]:
    """Every line of a store's index, replaced ones too; the last may be cut off by a kill.

    Raises:
        UserError: Another line does not read.
    """
    file = folder / INDEX
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    whole, _, _ = content.rpartition("\n")
    records: list[StoredVideo] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            values = json.loads(line)
            records.append(StoredVideo(**values | {"shape": tuple(values["shape"])}))
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{file}:{number} is damaged; take the line out, and prepare") from None
    return records


def map_frames(folder: Path, record: StoredVideo, first: int, stop: int) -> Array:
    """Frames `first` to `stop - 1` of a video, `[stop - first, H, W, 3]`, mapped, read-only.

    The mapping lasts as long as the array.

    Raises:
        OSError: The shard is not there or not readable.
        ValueError: The shard ends before the frames do. (A mapping beyond the end of a file would
            kill the process on access instead.)
    """
    shape = (stop - first, *record.shape[1:])
    frame_bytes = math.prod(record.shape[1:])
    start = record.offset + first * frame_bytes
    skipped = start % mmap.ALLOCATIONGRANULARITY
    with (folder / record.shard).open("rb", buffering=0) as file:
        mapped = mmap.mmap(
            file.fileno(),
            skipped + math.prod(shape),
            access=mmap.ACCESS_READ,
            offset=start - skipped,
        )
    return np.frombuffer(mapped, np.uint8, math.prod(shape), skipped).reshape(shape)


def new_checksum() -> hashlib.blake2b:
    """BLAKE2b-128, to be fed with the bytes of a video's frames."""
    return hashlib.blake2b(digest_size=16)


def pieces(folder: Path, record: StoredVideo) -> Iterator[Array]:
    """The frames of a video, `[n, H, W, 3]` at a time; raises as `map_frames`."""
    for first in range(0, record.shape[0], _PIECE):
        yield map_frames(folder, record, first, min(first + _PIECE, record.shape[0]))
