"""Frames of a run's items: from memory, a clip store, or files whose seeks are proven.

An image is a video of one frame; so is a vector, with its length in place of pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bgan_video import ranks
from bgan_video.config import Clip, Config
from bgan_video.data import cutting, images, parallel
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.parallel import Progress, silent
from bgan_video.data.reading import FEW_FILES, Array, Images, Reader, Seen, VideoFiles
from bgan_video.data.spans import file_of, frames_of, parted
from bgan_video.data.store.clip_store import Store
from bgan_video.errors import UserError
from bgan_video.video.reader import BrokenVideo, Decoder
from bgan_video.video.times import Times, frame_times

# Broken items a run may leave out where the settings do not say: one in so many.
_BROKEN_ONE_IN = 100
# Files that a rank reads for the first time before it tells the others what it found.
_BLOCK = 256


class Broken(NamedTuple):
    """A video that was left out, and why."""

    path: str
    reason: str


class Frames:
    """Decoded frames by item, at the training size.

    They come from the clip store where `data.store` names one. Else surveyed videos are kept in
    memory where all of them fit the budget, and images until it is spent; the rest is decoded anew
    for each clip. Processes forked afterwards share that memory.

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
        cpus = max(1, parallel.num_cpus() // ranks.on_machine())
        self._workers = config.data.num_workers or cpus
        self._room = config.data.cache_mib * 2**20
        self._sizes: dict[str, int] = {}
        self._kept: dict[str, Array] = {}
        self._seen: dict[str, Seen | BrokenVideo] = {}
        self._times: dict[str, Times] = {}
        self._decoder: Decoder = config.data.decoder
        self._needs_times = config.clip.fps is not None
        self._is_stored = config.data.store is not None

    def survey(self, item: Item) -> Item:
        """Count an item's frames and hash it.

        Raises:
            BrokenVideo: It is missing, or not one frame of it decodes.
            UserError: As `survey_all`.
        """
        (found,) = self.survey_all([item])
        if isinstance(found, BrokenVideo):
            raise found
        return found

    def survey_all(
        self, items: Sequence[Item], shared: bool = False
    ) -> Iterator[Item | BrokenVideo]:
        """Count the frames of items and hash them, in order; of a broken one, say why.

        A file that several items are parts of is read once.

        Args:
            items: Not read yet.
            shared: Whether all ranks are asked for the same items: each reads its share.

        Raises:
            UserError: The clip store has not an item, or has it of another file.
        """
        files = dict.fromkeys(file_of(item.path) for item in items)
        new = [file for file in files if file not in self._seen]

        def read(some: Sequence[str]) -> Iterator[Seen | BrokenVideo]:
            return self._reader.survey(some, self._workers)

        coming = zip(new, ranks.together(read, new, _BLOCK) if shared else read(new), strict=True)
        for item in items:
            file = file_of(item.path)
            while file not in self._seen:
                self._remember(*next(coming))
            seen = self._seen[file]
            yield seen if isinstance(seen, BrokenVideo) else self._placed(item, seen)

    def times(self, item: Item) -> Times:
        """When each of its frames is shown, in seconds after the first one of its file.

        Raises:
            BrokenVideo: Its file does not open any more.
        """
        times = self._times_of(file_of(item.path))
        return times[item.first_frame : item.first_frame + item.num_frames]

    def _placed(self, item: Item, seen: Seen) -> Item | BrokenVideo:
        """An item with its place in its file; why it has none where no frame is there."""
        file, span = parted(item.path)
        first, count = 0, seen.num_frames
        try:
            if span is not None:
                first, count = frames_of(span, self._times_of(file))
                if count < 1:
                    part = item.path.partition("#")[2]
                    return BrokenVideo(self.root / file, f"no frame at {part}")
            elif self._needs_times:
                self._times_of(file)  # here, so that processes forked afterwards have them
        except BrokenVideo as error:
            return error
        return dataclasses.replace(
            item, num_frames=count, first_frame=first, fingerprint=seen.fingerprint
        )

    def _times_of(self, file: str) -> Times:
        if file not in self._times:
            length = self._length_of(file)
            try:
                self._times[file] = frame_times(self.root / file, length, self._decoder)
            except BrokenVideo as error:
                if not self._is_stored:
                    raise
                why = "a clip store keeps no times, which clip.fps and parts of videos need"
                raise BrokenVideo(error.path, f"{error.reason} ({why})") from None
        return self._times[file]

    def _length_of(self, file: str) -> int:
        """How many frames a file has, surveyed or not."""
        if file not in self._seen:
            (found,) = self._reader.survey([file], 0)
            self._remember(file, found)
        seen = self._seen[file]
        if isinstance(seen, BrokenVideo):
            raise seen
        return seen.num_frames

    def _remember(self, file: str, seen: Seen | BrokenVideo) -> None:
        if isinstance(seen, Seen):
            if seen.frames is not None and seen.nbytes <= self._room:
                self._keep(file, seen.frames)
            elif seen.frames is None and seen.nbytes:
                self._sizes[file] = seen.nbytes
            seen = seen._replace(frames=None)
        self._seen[file] = seen

    def fill(self, progress: Progress = silent) -> bool:
        """Decode the surveyed videos into memory, if all of them fit; whether they do.

        Args:
            progress: Wraps the frames of the videos as they come.

        Raises:
            BrokenVideo: One no longer reads.
        """
        if sum(self._sizes.values()) > self._room:
            return False
        paths = list(self._sizes)
        workers = self._workers if len(paths) >= FEW_FILES else 0
        decoded = parallel.in_order(self._reader.read_all, paths, workers)
        came = progress(decoded, "decoding videos", len(paths))
        for path, frames in zip(paths, came, strict=True):
            self._keep(path, frames)
        self._sizes.clear()
        return True

    def _keep(self, path: str, frames: Array) -> None:
        self._room -= frames.nbytes
        self._kept[path] = frames

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
    manifest: Manifest, frames: Frames, config: Config, progress: Progress = silent
) -> tuple[Manifest, list[Broken]]:
    """Read every video once, by one of the ranks; leave the broken ones out, by name and reason.

    Args:
        manifest: Items that were not read yet.
        frames: Where they are read, and kept.
        config: `data.max_broken` says how many may be left out, `clip` what is too short.
        progress: Wraps the items as they are read.

    Returns:
        The manifest of what reads, and what does not.

    Raises:
        UserError: Too many videos are broken, or one is too short under `clip.short_clip=error`.
    """
    good: list[Item] = []
    broken: list[Broken] = []
    items = manifest.items
    found = progress(frames.survey_all(items, shared=True), f"reading {config.items}", len(items))
    for item, read in zip(items, found, strict=True):
        if isinstance(read, BrokenVideo):
            broken.append(Broken(item.path, read.reason))
            check_broken(broken, len(items), config)
            continue
        check_long_enough(read, frames, config.clip)
        good.append(read)
    try:
        if config.sees_clips:
            frames.fill(progress)
    except BrokenVideo as error:
        raise UserError(f"{error.path} no longer reads: {error.reason}") from None
    left_out = tuple(record.path for record in broken)
    return dataclasses.replace(manifest, items=tuple(good), broken=left_out), broken


def max_broken(config: Config, num_items: int) -> int:
    """How many broken items a run of so many may leave out."""
    chosen = config.data.max_broken
    return num_items // _BROKEN_ONE_IN if chosen is None else chosen


def check_long_enough(item: Item, frames: Frames, clip: Clip) -> None:
    """Raises UserError where an item is too short under `clip.short_clip=error`."""
    if reason := cutting.too_short(cutting.length_of(item, frames, clip), clip):
        raise UserError(f"{item.path} {reason}")


def check_broken(broken: Sequence[Broken], num_items: int, config: Config) -> None:
    """Raises UserError where more items are broken than `data.max_broken` allows of so many."""
    allowed = max_broken(config, num_items)
    if len(broken) <= allowed:
        return
    path, reason = broken[-1]
    check = "; bgan-video data check lists them all" if config.spatial_dims == 3 else ""
    by_default = "" if config.data.max_broken is not None else ", one in a hundred"
    raise UserError(
        f"broken {config.item_level} {path}: {reason}; {len(broken)} so far, allowed: "
        f"data.max_broken={allowed}{by_default} (raise it to leave such {config.items} out{check})"
    )
