"""Frames of a run's items: from a clip store, or from files that are each read through once.

An image is a video of one frame; so is a vector, with its length in place of pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from bgan_video.config import Config
from bgan_video.data import cutting, images
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.spans import file_of, frames_of, parted
from bgan_video.data.store.clip_store import Store, source_fingerprint
from bgan_video.errors import UserError
from bgan_video.video import reader
from bgan_video.video.reader import BrokenVideo, Decoder
from bgan_video.video.times import Times, frame_times

Array = NDArray[Any]


class Broken(NamedTuple):
    """A video that was left out, and why."""

    path: str
    reason: str


class Reader(Protocol):
    """Where the frames of items come from."""

    def read_all(self, path: str) -> Array:
        """All frames `[T, H, W, C]` of an item.

        Raises:
            BrokenVideo: It is missing, or not one frame decodes.
        """
        ...

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """Some of its frames, without reading all of it where that can be avoided."""
        ...

    def length(self, path: str) -> int | None:
        """How many frames it has; None where it has to be read to know.

        Raises:
            BrokenVideo: It is known to have none.
        """
        ...

    def fingerprint(self, path: str) -> str:
        """What changes where the item does; empty where it is not there."""
        ...


class VideoFiles:
    """Videos under a root, their frames at the training size."""

    def __init__(self, root: Path, decoder: Decoder, short_side: int) -> None:
        self._root = root
        self._decoder: Decoder = decoder
        self._short_side = short_side

    def read_all(self, path: str) -> Array:
        """See `Reader.read_all`."""
        return reader.read_all(self._file(path), self._decoder, self._short_side)

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """See `Reader.read`."""
        file = self._file(path)
        with reader.open_video(file, self._decoder, self._short_side) as video:
            try:
                return video.read(indices)
            except IndexError as error:
                raise BrokenVideo(file, str(error)) from None

    def length(self, path: str) -> None:
        """Not known: headers of videos claim more frames than decode."""

    def fingerprint(self, path: str) -> str:
        """See `Reader.fingerprint`."""
        try:
            file = self._file(path)
        except BrokenVideo:
            return ""
        return source_fingerprint(file)

    def _file(self, path: str) -> Path:
        """The file of an item. Links may lead out of the root; what a list says may not.

        Raises:
            BrokenVideo: The path is absolute or has a step upwards.
        """
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise BrokenVideo(self._root / path, "it lies outside data.root")
        return self._root / path


class Images:
    """Images as videos of one frame."""

    def __init__(self, source: images.Source) -> None:
        self._source = source

    def read_all(self, path: str) -> Array:
        """See `Reader.read_all`."""
        try:
            return self._source.read(path)[None]
        except images.ImageError as error:
            raise BrokenVideo(Path(path), str(error)) from None

    def read(self, path: str, indices: Sequence[int]) -> Array:
        """See `Reader.read`."""
        return self.read_all(path)[list(indices)]

    def length(self, path: str) -> None:
        """Not known: whether an image decodes shows when it is read."""

    def fingerprint(self, path: str) -> str:
        """See `Reader.fingerprint`."""
        try:
            stored = self._source.raw(path)
        except images.ImageError:
            return ""
        return hashlib.blake2b(stored, digest_size=16).hexdigest()


class Frames:
    """Decoded frames by item, at the training size.

    They come from the clip store where `data.store` names one. Else items read by `survey` stay in
    memory in the order they came until the budget is spent; the rest is decoded anew for each clip.
    Processes forked afterwards share that memory.

    Args:
        root: Folder the items' paths are relative to.
        config: Its `data` and `clip` sections say how to decode and how much to keep.
    """

    def __init__(self, root: str, config: Config) -> None:
        self.root = Path(root)
        self._reader: Reader
        if config.data.store:
            self._reader = Store(self.root, config)
        elif config.spatial_dims == 3:
            self._reader = VideoFiles(self.root, config.data.decoder, config.load_size)
        else:
            source = images.open_source(config.data.layout, root, config.data.download)
            self._reader = Images(source)
        self._room = config.data.cache_mib * 2**20
        self._kept: dict[str, Array] = {}
        # Files that several items are parts of are surveyed once.
        self._cut_up: dict[str, tuple[int, str]] = {}
        self._times: dict[str, Times] = {}
        self._needs_times = config.clip.fps is not None

    def survey(self, item: Item) -> Item:
        """Count an item's frames and hash it.

        Where the clip store does not know the count, the item is read as a whole, and kept if there
        is room.

        Raises:
            BrokenVideo: It is missing, or not one frame of it decodes.
            UserError: The clip store has not this item, or has it of another file.
        """
        file, span = parted(item.path)
        if span is None:
            length, known = self._survey_file(file)
            read = dataclasses.replace(item, num_frames=length, fingerprint=known)
        else:
            if file not in self._cut_up:
                self._cut_up[file] = self._survey_file(file)
            length, known = self._cut_up[file]
            first, count = frames_of(span, self._times_of(file, length))
            if count < 1:
                raise BrokenVideo(self.root / file, f"no frame at {item.path.partition('#')[2]}")
            read = dataclasses.replace(item, num_frames=count, fingerprint=known, first_frame=first)
        if self._needs_times:
            self.times(read)  # here, so that processes forked afterwards have them
        return read

    def times(self, item: Item) -> Times:
        """When each of its frames is shown, in seconds after the first one of its file.

        Raises:
            BrokenVideo: Its file does not open any more.
        """
        file, span = parted(item.path)
        length = item.num_frames if span is None else self._whole_length(file)
        times = self._times_of(file, length)
        return times[item.first_frame : item.first_frame + item.num_frames]

    def _times_of(self, file: str, length: int) -> Times:
        if file not in self._times:
            self._times[file] = frame_times(self.root / file, length)
        return self._times[file]

    def _whole_length(self, file: str) -> int:
        """How many frames a file has that items are parts of."""
        if file not in self._cut_up:
            self._cut_up[file] = self._survey_file(file)
        return self._cut_up[file][0]

    def _survey_file(self, file: str) -> tuple[int, str]:
        """How many frames a file has, and its fingerprint."""
        length = self._reader.length(file)
        if length is None:
            length = self._read_and_keep(file)
        return length, self._reader.fingerprint(file)

    def _read_and_keep(self, path: str) -> int:
        frames = self._reader.read_all(path)
        if frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._kept[path] = frames
        return len(frames)

    def read(self, item: Item, indices: Sequence[int]) -> Array:
        """The frames at `indices`, `[T, H, W, C]`.

        Raises:
            BrokenVideo: The file no longer reads as it did when it was surveyed.
        """
        file, placed = file_of(item.path), [item.first_frame + index for index in indices]
        kept = self._kept.get(file)
        return self._reader.read(file, placed) if kept is None else kept[placed]

    def check(self, item: Item) -> None:
        """Raises UserError where an item is not what it was when it was surveyed."""
        file = file_of(item.path)
        if self._reader.fingerprint(file) != item.fingerprint:
            raise UserError(
                f"{self.root / file} is not the file the run was made with; "
                f"data.root names the folder"
            )


def survey(
    manifest: Manifest, frames: Frames, config: Config, items: Iterable[Item]
) -> tuple[Manifest, list[Broken]]:
    """Read every video once; leave the broken ones out, by name and reason.

    Args:
        manifest: Items that were not read yet.
        frames: Where they are read, and kept.
        config: `data.max_broken` says how many may be left out, `clip` what is too short.
        items: The manifest's items; a caller may wrap them in a progress bar.

    Returns:
        The manifest of what reads, and what does not.

    Raises:
        UserError: Too many videos are broken, or one is too short under `clip.short_clip=error`.
    """
    good: list[Item] = []
    broken: list[Broken] = []
    for item in items:
        try:
            read = frames.survey(item)
        except BrokenVideo as error:
            broken.append(Broken(item.path, error.reason))
            if len(broken) > config.data.max_broken:
                raise UserError(_too_many(broken, config)) from None
            continue
        length = cutting.length_of(read, frames, config.clip)
        if reason := cutting.too_short(length, config.clip):
            raise UserError(f"{item.path} {reason}")
        good.append(read)
    left_out = tuple(record.path for record in broken)
    return dataclasses.replace(manifest, items=tuple(good), broken=left_out), broken


def _too_many(broken: list[Broken], config: Config) -> str:
    path, reason = broken[-1]
    check = "; bgan-video data check lists them all" if config.spatial_dims == 3 else ""
    return (
        f"broken {config.item_level} {path}: {reason}; {len(broken)} so far, allowed: "
        f"data.max_broken={config.data.max_broken} (raise it to leave such {config.items} "
        f"out{check})"
    )
