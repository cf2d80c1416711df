"""The feature store: what a frozen body says of each video's clips, computed once.

A store is a folder. `features.json` says how its features were made: body, weights, frames and
clips. `features-*.safetensors` hold them, a tensor `[clips, S, D]` float32 a video, S summaries
over a clip's frames. `index.jsonl` has a line a video, appended when its tensor is on the disk;
what no line names does not exist. A video is known by its path in the data set and its file's
fingerprint (of its size and both ends), so a store serves all data sets, folds and studies of the
same settings. `bgan_video.features` fills stores.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bgan_video.config import Summary
from bgan_video.data.manifest import Item
from bgan_video.errors import UserError
from bgan_video.files import write_atomically
from bgan_video.video.reader import BrokenVideo

Vectors = NDArray[np.float32]

SCHEMA = 1
SETTINGS = "features.json"
INDEX = "index.jsonl"
_DIGITS = 8


@dataclass(frozen=True)
class FeatureRecord:
    """A line of the index.

    Attributes:
        path: Of the video, relative to its data set's root, with forward slashes.
        fingerprint: Of the file.
        num_frames: Frames that decode.
        shard: Name of the file that holds the features; in it they have the video's path as name,
            one that is not UTF-8 as JSON writes it.
        checksum: BLAKE2b-128 of their bytes.
        error: Why there are none, in one line; empty where there are.
    """

    path: str
    fingerprint: str
    num_frames: int = 0
    shard: str = ""
    checksum: str = ""
    error: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What a video is known by."""
        return self.path, self.fingerprint


class FeatureStore:
    """Reads features by manifest item. Nothing stays open between two reads.

    Args:
        folder: Of the store.
        made_by: How its features are made, as `FrozenBody.settings` tells.
        summary: Which of a clip's summaries a vector is made of.

    Raises:
        UserError: The folder holds features that were made otherwise, or its index is damaged.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, Any], summary: Summary) -> None:
        self.folder = folder
        self.made_by = dict(made_by)
        self.summary: Summary = summary
        self._summaries: list[str] = self.made_by["summaries"]
        self._num_summaries = len(rows(self._summaries, summary))
        check_made_by(folder, made_by)
        self._records = {record.key: record for record in read_index(folder)}

    @property
    def num_summaries(self) -> int:
        """How many summaries, of equal length, lie one behind the other in a vector."""
        return self._num_summaries

    @property
    def length(self) -> int:
        """L, numbers of a clip's vector."""
        return self.num_summaries * self.made_by["num_features"]

    @property
    def records(self) -> list[FeatureRecord]:
        """The line of every video."""
        return list(self._records.values())

    def record(self, path: str, fingerprint: str) -> FeatureRecord | None:
        """The line of a video; None where the store has none."""
        return self._records.get((path, fingerprint))

    def read(self, item: Item) -> Vectors:
        """The vectors `[clips, length]` of a surveyed item, float32.

        Raises:
            UserError: The video is not in the store, or the store says why it has no features of it
                or is damaged there.
        """
        record = self.record(item.path, item.fingerprint)
        if record is None:
            raise UserError(
                f"{item.path} is not in the feature store {self.folder}; bgan-video features with "
                f"the run's settings adds it"
            )
        if record.error:
            raise UserError(f"{item.path}: {record.error}")
        try:
            features = read_tensor(self.folder, record)
        except BrokenVideo as error:
            raise UserError(f"{item.path}: {error.reason}") from None
        return vectors(features, self._summaries, self.summary)

    def read_all(self, items: Sequence[Item]) -> Vectors:
        """The vectors `[V, clips, length]` of some items; raises as `read`."""
        return np.stack([self.read(item) for item in items])


def vectors(features: Vectors, summaries: Sequence[str], summary: Summary) -> Vectors:
    """Of a video's features `[clips, S, D]`, the vectors `[clips, L]` of the summary asked for.

    Raises:
        UserError: As `rows`.
    """
    return features[:, rows(summaries, summary)].reshape(len(features), -1)


def rows(summaries: Sequence[str], summary: Summary) -> list[int]:
    """Which of the stored summaries a vector is made of, in its order.

    Raises:
        UserError: The body makes no such summary.
    """
    wanted = ["mean", "difference"] if summary == "both" else [summary]
    if not set(wanted) <= set(summaries):
        raise UserError(
            f"features.summary={summary} needs features of frames, and this body has only "
            f"{', '.join(summaries)} of a clip; allowed: {', '.join(summaries)}"
        )
    return [list(summaries).index(name) for name in wanted]


def folder_name(made_by: Mapping[str, Any]) -> str:
    """A name for the features made this way, the same for the same settings and weights."""
    text = json.dumps(made_by, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGITS // 2).hexdigest()
    body = "".join(c if c.isalnum() or c in "-_." else "-" for c in made_by["body"])
    return f"{body}-{made_by['size']}-{digest}"


def check_made_by(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Compare how a store was made with what is asked for; a folder without one is not compared.

    Raises:
        UserError: They differ, or it does not read.
    """
    file = folder / SETTINGS
    if not file.is_file():
        return
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} does not read: {error}") from None
    differing = sorted(key for key in {*found, *made_by} if found.get(key) != made_by.get(key))
    if differing:
        key = differing[0]
        raise UserError(
            f"{folder} holds features made with {key}={found.get(key)}, the settings ask for "
            f"{made_by.get(key)}; give features.store another folder"
        )


def read_index(folder: Path) -> list[FeatureRecord]:
    """Every whole line of a store's index; the last may be cut off by a kill.

    Raises:
        UserError: Another line does not read.
    """
    file = folder / INDEX
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    records: list[FeatureRecord] = []
    for number, line in enumerate(content.rpartition("\n")[0].splitlines(), 1):
        try:
            records.append(FeatureRecord(**json.loads(line)))
        except (ValueError, TypeError):
            raise UserError(
                f"{file}:{number} is damaged; take the line out, and run bgan-video features"
            ) from None
    return records


def read_tensor(folder: Path, record: FeatureRecord) -> Vectors:
    """The features `[clips, S, D]` of a video, compared with their checksum.

    Raises:
        BrokenVideo: They are damaged, or gone.
    """
    try:
        opened: Any = safe_open(folder / record.shard, "np")
        with opened as shard:
            features: Vectors = shard.get_tensor(_tensor_name(record.path))
    except (SafetensorError, OSError) as error:
        reason = str(error)
    else:
        if checksum(features) == record.checksum:
            return features
        reason = "its checksum differs"
    raise BrokenVideo(
        Path(record.path),
        f"{folder} is damaged ({reason}); bgan-video features --verify says where",
    )


def checksum(features: Vectors) -> str:
    """BLAKE2b-128 of the bytes of a contiguous array."""
    return hashlib.blake2b(features.data.cast("B"), digest_size=16).hexdigest()


def append(folder: Path, found: Sequence[tuple[FeatureRecord, Vectors | None]]) -> None:
    """Write a shard of some videos' features, then the lines that name them.

    Args:
        folder: Of the store, which no other process writes.
        found: A line a video without shard and checksum, and its features `[clips, S, D]`, None
            where there are none. No two of one path.

    Raises:
        OSError: The disk has no room; what was there before stays.
    """
    tensors = {_tensor_name(r.path): features for r, features in found if features is not None}
    name = _free_name(folder) if tensors else ""
    if tensors:
        write_atomically(folder / name, save(tensors))
    lines = [
        record
        if features is None
        else dataclasses.replace(record, shard=name, checksum=checksum(features))
        for record, features in found
    ]
    text = "".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in lines)
    with (folder / INDEX).open("ab") as index:
        index.write(text.encode())
        index.flush()
        os.fsync(index.fileno())


def drop_unfinished(folder: Path) -> None:
    """Take off what a kill left behind: half a line, and shards that no line names."""
    index = folder / INDEX
    if index.is_file():
        content = index.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(index, whole)
    named = {record.shard for record in read_index(folder)}
    for shard in folder.glob("features-*.safetensors*"):
        if shard.name not in named:
            with suppress(FileNotFoundError):
                shard.unlink()


def _tensor_name(path: str) -> str:
    """A path as safetensors can hold it: where it has bytes that are no UTF-8, in quotes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return json.dumps(path)
    return path


def _free_name(folder: Path) -> str:
    number = sum(1 for _ in folder.glob("features-*.safetensors"))
    while (folder / (name := f"features-{number:05d}.safetensors")).exists():
        number += 1
    return name
