"""Frames of a run's videos: every file is read through once, and kept while memory allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgan_video.config import Config
from bgan_video.data import clips, decode
from bgan_video.data.decode import BrokenVideo, Decoder
from bgan_video.data.manifest import Item, Manifest, fingerprint
from bgan_video.errors import UserError


class Broken(NamedTuple):
    """A video that was left out, and why."""

    path: str
    reason: str


class Frames:
    """Decoded frames by item, at the training size.

    Videos read by `survey` stay in memory in the order they came until the budget is spent; the
    rest is decoded anew for each clip. Processes forked afterwards share that memory.

    Args:
        root: Folder the items' paths are relative to.
        config: Its `data` and `clip` sections say how to decode and how much to keep.
    """

    def __init__(self, root: str, config: Config) -> None:
        self.root = Path(root)
        self._decoder: Decoder = config.data.decoder
        self._short_side = config.load_size
        self._room = config.data.cache_mib * 2**20
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def survey(self, item: Item) -> Item:
        """Read a whole video once: count its frames, hash it, keep it if there is room.

        Raises:
            BrokenVideo: The file is missing, or not one frame of it decodes.
        """
        path = self.root / item.path
        frames = decode.read_all(path, self._decoder, self._short_side)
        if frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._kept[item.path] = frames
        return dataclasses.replace(item, num_frames=len(frames), fingerprint=fingerprint(path))

    def read(self, item: Item, indices: Sequence[int]) -> NDArray[np.uint8]:
        """The frames at `indices`, uint8 `[T, H, W, 3]`.

        Raises:
            BrokenVideo: The file no longer reads as it did when it was surveyed.
        """
        kept = self._kept.get(item.path)
        if kept is not None:
            return kept[list(indices)]
        path = self.root / item.path
        with decode.open_video(path, self._decoder, self._short_side) as reader:
            try:
                return reader.read(indices)
            except IndexError as error:
                raise BrokenVideo(path, str(error)) from None


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
                raise UserError(_too_many(broken, config.data.max_broken)) from None
            continue
        if reason := too_short(read, config):
            raise UserError(f"{item.path} {reason}")
        good.append(read)
    return manifest.replace(tuple(good)), broken


def too_short(item: Item, config: Config) -> str:
    """Why no clip can be cut from a surveyed video; empty where one can."""
    needed = clips.span(config.clip.num_frames, config.clip.stride)
    if item.num_frames >= needed or config.clip.short_clip != "error":
        return ""
    return (
        f"has {item.num_frames} frames, a clip needs {needed}; "
        f"allowed with clip.short_clip=loop or repeat_last"
    )


def _too_many(broken: list[Broken], allowed: int) -> str:
    path, reason = broken[-1]
    return (
        f"broken video {path}: {reason}; {len(broken)} so far, allowed: data.max_broken={allowed} "
        f"(raise it to leave such videos out)"
    )
