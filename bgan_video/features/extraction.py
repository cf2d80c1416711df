"""From video files to a feature store: each video decoded once, in the background."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor

from bgan_video import ranks
from bgan_video.config import Config
from bgan_video.data import feature_store, parallel
from bgan_video.data.cutting import Length, rows_of, too_short, uniform_clips
from bgan_video.data.feature_store import FeatureRecord, FeatureStore, Vectors
from bgan_video.data.frames import Broken
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.spans import file_of, frames_of, parted
from bgan_video.data.transforms import test_view
from bgan_video.errors import UserError
from bgan_video.features.bodies import FrozenBody
from bgan_video.files import cache_folder, locked, source_fingerprint, write_atomically
from bgan_video.video.decoders import Pixels
from bgan_video.video.reader import BrokenVideo, OpenVideo, open_video
from bgan_video.video.times import frame_times

Say = Callable[[str], None]
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]

# A shard is written at the first of the two, so that a kill costs a minute and files stay few.
_SHARD_VIDEOS = 256
_SHARD_SECONDS = 60.0
# Videos that a rank computes before it hands their features over to the one that writes.
_BLOCK = 32


class Readable(Protocol):
    """An open video, or frames of one that are in memory."""

    def read(self, indices: Sequence[int]) -> Pixels:
        """The frames at `indices`, `[T, H, W, 3]`."""
        ...


@dataclass(frozen=True)
class Extracted:
    """What a store holds of a data set.

    Attributes:
        folder: The store.
        videos: How many videos it has features of.
        added: How many of them were computed just now.
        clips: Of each video.
        length: Numbers of a clip's vector, as `features.summary` makes it.
        rejected: The videos that do not read, and why.
    """

    folder: str
    videos: int
    added: int
    clips: int
    length: int
    rejected: list[Broken]

    def __str__(self) -> str:
        lines = [f"{path}: does not read: {reason}" for path, reason in self.rejected]
        return "\n".join(
            [
                *lines,
                f"{self.folder}: {self.videos} videos × {self.clips} clips × {self.length} "
                f"numbers; {self.added} of them new, {len(self.rejected)} files do not read",
            ]
        )


@dataclass(frozen=True)
class _Decoded:
    """A video's frames that clips are made of.

    Attributes:
        item: Surveyed.
        frames: uint8 `[U, H, W, 3]`, each frame once.
        rows: Of each clip, which of them.
    """

    item: Item
    frames: Pixels
    rows: list[list[int]]


def store_folder(config: Config, body: FrozenBody) -> Path:
    """The folder of the features that this body makes under these settings."""
    chosen = config.features.store
    parent = Path(chosen) if chosen else cache_folder() / "features"
    return parent / feature_store.folder_name(body.settings(config))


def open_store(config: Config, body: FrozenBody) -> FeatureStore:
    """The store as it is now.

    Raises:
        UserError: It is damaged, the body makes no such summary, or there is nothing to sum up.
    """
    if config.clip.num_frames == 1 and config.features.summary != "mean":
        raise UserError(
            f"features.summary={config.features.summary} compares neighbouring frames, and "
            f"clip.num_frames=1 has none; set features.summary=mean, or clip.num_frames to 2 or "
            f"more"
        )
    folder = store_folder(config, body)
    return FeatureStore(folder, body.settings(config), config.features.summary)


def fill(
    items: Sequence[Item],
    root: Path | str,
    config: Config,
    body: FrozenBody,
    say: Say,
    progress: Progress,
) -> FeatureStore:
    """Compute the features that the store has not; what it has costs nothing.

    A second process waits for the first one. What was done before a kill stays. Of several ranks
    each computes its share, and the first one writes.

    Args:
        items: Of a manifest, surveyed or not.
        root: Folder that their paths are relative to.
        config: Which frames (`clip`), how many clips and where to keep them (`features`).
        body: That makes the features.
        say: Gets the lines for the user.
        progress: Wraps the videos as they are done.

    Returns:
        The store, with a line for every item: of one that does not read, why.

    Raises:
        UserError: The place is not writable or full, a video changed since it was surveyed, or is
            too short under `clip.short_clip=error`.
    """
    folder, root = store_folder(config, body), Path(root)
    wanted = list({item.path: item for item in items}.values())

    def left() -> list[Item]:
        store = open_store(config, body)
        return [item for item in wanted if _is_due(store, item, root)]

    def begin() -> list[Item]:
        _begin(folder, config, body)
        return left()  # a process that was waited for may have added some

    if not ranks.first_says(lambda: bool(left())):
        return open_store(config, body)
    with _held(folder, say) if ranks.is_first() else nullcontext():
        due = ranks.first_says(begin)
        made = ranks.together(partial(_computed, root=root, config=config, body=body), due, _BLOCK)
        done = progress(made, f"features of {body.name}", len(due))
        store = open_store(config, body)
        new = (pair for pair in done if pair[0] != store.record(*pair[0].key))
        if ranks.is_first():
            _write(folder, new)
        else:
            deque(new, maxlen=0)
        ranks.meet(folder)
    return open_store(config, body)


def _begin(folder: Path, config: Config, body: FrozenBody) -> None:
    """Say in a store how its features are made, and take off what a kill left behind."""
    settings = json.dumps(body.settings(config), indent=2) + "\n"
    if not (folder / feature_store.SETTINGS).is_file():
        write_atomically(folder / feature_store.SETTINGS, settings)
    feature_store.drop_unfinished(folder)


@contextmanager
def _held(folder: Path, say: Say) -> Generator[None, None, None]:
    """Hold a store alone; whatever its place refuses is a UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", lambda: say(f"another process is filling {folder}; waiting")):
            yield
    except OSError as error:
        raise UserError(
            f"features.store: {folder}: {error.strerror}; the features written so far are kept: "
            f"the same command goes on"
        ) from None


def extract(
    manifest: Manifest, config: Config, body: FrozenBody, say: Say, progress: Progress
) -> Extracted:
    """Compute the features of a data set that the store has not, and tell what it holds then.

    Raises:
        UserError: As `fill`.
    """
    root = Path(manifest.root)
    keys = {(item.path, source_fingerprint(root / file_of(item.path))) for item in manifest.items}
    before = open_store(config, body)
    known = {key for key in keys if (found := before.record(*key)) and not found.error}
    store = fill(manifest.items, root, config, body, say, progress)
    held = [record for key in sorted(keys) if (record := store.record(*key)) is not None]
    whole = {record.key for record in held if not record.error}
    return Extracted(
        folder=str(store.folder),
        videos=len(whole),
        added=len(whole - known),
        clips=config.features.clips,
        length=store.length,
        rejected=[Broken(record.path, record.error) for record in held if record.error],
    )


def verify(config: Config, body: FrozenBody, say: Say, progress: Progress) -> int:
    """Compare all features with their checksums; what is damaged is marked, to be computed anew.

    Returns:
        How many videos the store has features of, all of them whole.

    Raises:
        UserError: There is no store, or names the videos whose features are damaged.
    """
    store = open_store(config, body)
    if not (store.folder / feature_store.SETTINGS).is_file():
        raise UserError(
            f"there is no feature store of these settings in {store.folder.parent}; bgan-video "
            f"features without --verify makes it"
        )
    damaged: list[FeatureRecord] = []
    with _held(store.folder, say):
        feature_store.drop_unfinished(store.folder)
        store = open_store(config, body)
        whole = [record for record in store.records if not record.error]
        for record in progress(whole, "verifying features", len(whole)):
            try:
                feature_store.read_tensor(store.folder, record)
            except BrokenVideo as error:
                damaged.append(FeatureRecord(*record.key, error=error.reason))
        feature_store.append(store.folder, [(record, None) for record in damaged])
    if damaged:
        names = ", ".join(record.path for record in damaged)
        raise UserError(
            f"{store.folder}: the features of {len(damaged)} of {len(whole)} videos are damaged: "
            f"{names}; bgan-video features without --verify computes them anew"
        )
    return len(whole)


def clip_vectors(
    reader: Readable, length: Length, config: Config, body: FrozenBody, start: int = 0
) -> Vectors:
    """The vectors `[clips, L]` of an open video's clips, as `FeatureStore.read` gives them.

    Args:
        reader: Of a video decoded with `body.size` as its short side.
        length: Of the video, or of a part of it.
        config: Which frames make clips, and which summary a vector is.
        body: That makes the features.
        start: First frame of the part.
    """
    features = _features(*_clip_frames(reader, length, config, start), body)
    return feature_store.vectors(features, body.summaries, config.features.summary)


def summarised(features: Tensor, summaries: Sequence[str]) -> Tensor:
    """Of frames' features `[clips, T, D]`, what is kept of each clip: `[clips, S, D]`.

    The mean over frames is blind to their order. The mean absolute difference of neighbouring
    frames' features is what moves, in the body's own terms; 0 of a single frame.
    """
    change = features.diff(dim=1).abs()
    made = {
        "mean": features.mean(dim=1),
        "difference": change.sum(dim=1) / max(1, change.shape[1]),
    }
    return torch.stack([made[name] for name in summaries], dim=1)


def _computed(
    items: Sequence[Item], root: Path, config: Config, body: FrozenBody
) -> Iterator[tuple[FeatureRecord, Vectors | None]]:
    """A line and the features of each video, in order."""

    def decode(item: Item) -> _Decoded | FeatureRecord:
        return _decode(item, root, config, body.size)

    for found in parallel.ahead(decode, items, max(1, config.data.num_workers)):
        if isinstance(found, FeatureRecord):
            yield found, None
            continue
        item = found.item
        record = FeatureRecord(item.path, item.fingerprint, item.num_frames)
        yield record, _features(found.frames, found.rows, body)


def _decode(item: Item, root: Path, config: Config, size: int) -> _Decoded | FeatureRecord:
    """The frames of a video's clips; a line that says why there are none."""
    file = root / file_of(item.path)
    now = source_fingerprint(file)
    if item.fingerprint not in ("", now):
        state = "changed since it was surveyed" if now else "is not there"
        raise UserError(f"{file} {state}, and its features are not in the feature store")
    try:
        with open_video(file, config.data.decoder, size) as reader:
            read, length = _measured(item, file, reader, config)
            if reason := too_short(length, config.clip):
                raise UserError(f"{item.path} {reason}")
            read = dataclasses.replace(read, fingerprint=now)
            return _Decoded(read, *_clip_frames(reader, length, config, read.first_frame))
    except BrokenVideo as error:
        return FeatureRecord(item.path, now, error=error.reason)


def _measured(item: Item, file: Path, reader: OpenVideo, config: Config) -> tuple[Item, Length]:
    """An item with its place in its file, and how long it is."""
    _, span = parted(item.path)
    is_whole = span is None
    if item.num_frames and config.clip.fps is None:
        return item, Length(item.num_frames)
    whole = item.num_frames if is_whole and item.num_frames else len(reader)
    if is_whole and config.clip.fps is None:
        return dataclasses.replace(item, num_frames=whole), Length(whole)
    times = frame_times(file, whole, config.data.decoder)
    first, count = (0, whole) if span is None else frames_of(span, times)
    if count < 1:
        raise BrokenVideo(file, f"no frame at {item.path.partition('#')[2]}")
    by_time = None if config.clip.fps is None else times[first : first + count]
    placed = dataclasses.replace(item, num_frames=count, first_frame=first)
    return placed, Length(count, by_time)


def _clip_frames(
    reader: Readable, length: Length, config: Config, start: int = 0
) -> tuple[Pixels, list[list[int]]]:
    """Each frame of a video's clips once, and which of them each clip is made of."""
    wanted, rows = rows_of(uniform_clips(length, config.clip, config.features.clips))
    return reader.read([start + index for index in wanted]), rows


def _features(frames: Pixels, rows: Sequence[Sequence[int]], body: FrozenBody) -> Vectors:
    """Features `[clips, S, D]`; the body sees every frame once, however many clips it is in."""
    images = test_view(frames, body.size, body.size, "centre", 3)
    of_frames = body(rearrange(images, "c t h w -> t c h w"))
    return summarised(of_frames[torch.tensor(rows)], body.summaries).numpy()


def _write(folder: Path, found: Iterable[tuple[FeatureRecord, Vectors | None]]) -> None:
    """Write features as they come, whole shards at a time; what is left, also at Ctrl-C."""
    waiting: list[tuple[FeatureRecord, Vectors | None]] = []
    written = time.monotonic()
    try:
        for pair in found:
            waiting.append(pair)
            is_old = time.monotonic() - written >= _SHARD_SECONDS
            if is_old or len(waiting) == _SHARD_VIDEOS:
                feature_store.append(folder, waiting)
                waiting, written = [], time.monotonic()
    finally:
        feature_store.append(folder, waiting)


def _is_due(store: FeatureStore, item: Item, root: Path) -> bool:
    """Whether a video has to be read; one that did not read before is tried again."""
    known = item.fingerprint or source_fingerprint(root / file_of(item.path))
    record = store.record(item.path, known)
    return record is None or bool(record.error)
