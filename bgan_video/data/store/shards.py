"""Videos to frames in a store's shards, by several processes at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from bgan_video.config import Config
from bgan_video.data import parallel
from bgan_video.data.store import clip_store
from bgan_video.data.store.clip_store import StoredVideo
from bgan_video.errors import UserError
from bgan_video.video import reader
from bgan_video.video.reader import BrokenVideo, OpenVideo, StartAgain

# A new shard is begun past this size: parts that any file system holds and any tool copies.
_SHARD_BYTES = 1 << 30


class Job:
    """Decodes videos and appends their frames to shards that no other process writes."""

    def __init__(self, folder: Path, root: Path, config: Config) -> None:
        self._folder, self._root = folder, root
        self._decoder: reader.Decoder = config.data.decoder
        self._short_side = config.load_size
        self._shard: Path | None = None

    def __call__(self, path: str) -> StoredVideo:
        """Decode and write one video.

        Raises:
            OSError: The frames cannot be written; nothing is left of them.
        """
        file = self._root / path
        known = clip_store.source_fingerprint(file)
        try:
            with reader.open_video(file, self._decoder, self._short_side) as video:
                return self._append(StoredVideo(path, known), video)
        except BrokenVideo as error:
            return StoredVideo(path, known, error=error.reason)
        except MemoryError:
            return StoredVideo(path, known, error="a frame does not fit into memory")

    def _append(self, record: StoredVideo, video: OpenVideo) -> StoredVideo:
        """Write all frames of a video, or none."""
        if self._shard is None or self._shard.stat().st_size >= _SHARD_BYTES:
            self._shard = _new_shard(self._folder)
        file = os.open(self._shard, os.O_WRONLY | os.O_APPEND)
        try:
            offset = os.fstat(file).st_size
            while True:
                try:
                    shape, checksum = _write(file, video)
                    os.fsync(file)  # before a line says that the frames are there
                    break
                except StartAgain:
                    os.ftruncate(file, offset)
                except BaseException:
                    os.ftruncate(file, offset)
                    raise
        finally:
            os.close(file)
        return dataclasses.replace(
            record, shard=self._shard.name, offset=offset, shape=shape, checksum=checksum
        )


def _write(file: int, video: OpenVideo) -> tuple[tuple[int, ...], str]:
    """Append a video piece by piece, so that memory holds a piece; its shape and its checksum."""
    digest = clip_store.new_checksum()
    length, shape = 0, ()
    for piece in video.pieces():
        left = np.ascontiguousarray(piece).data.cast("B")
        digest.update(left)
        length, shape = length + len(piece), piece.shape[1:]
        while left:
            left = left[os.write(file, left) :]
    return (length, *shape), digest.hexdigest()


def _new_shard(folder: Path) -> Path:
    """An empty file of a name that no other process has."""
    number = sum(1 for _ in folder.glob("frames-*.bin"))
    while True:
        shard = folder / f"frames-{number:05d}.bin"
        with suppress(FileExistsError):
            shard.touch(exist_ok=False)
            return shard
        number += 1


def decoded(paths: Sequence[str], job: Job, workers: int) -> Iterator[StoredVideo]:
    """Records of the videos as they are done; with workers, in any order.

    Raises:
        OSError: Frames could not be written; the videos that were under way come first.
        UserError: A process died; says which videos it may have been at.
    """
    if workers == 0 or not paths:
        yield from map(job, paths)
        return
    running: dict[Future[StoredVideo], str] = {}
    try:
        with parallel.pool_of(job, workers) as pool:
            yield from _in_turns(paths, pool, running, 2 * workers)
    except BrokenProcessPool:
        raise UserError(
            f"a decoding process died at one of {', '.join(running.values())}; is there memory for "
            f"data.num_workers={workers}? Run the command again to go on"
        ) from None


def _in_turns(
    paths: Sequence[str],
    pool: ProcessPoolExecutor,
    running: dict[Future[StoredVideo], str],
    most: int,
) -> Iterator[StoredVideo]:
    """Keep `most` videos under way, so that a stop takes no longer than they do."""
    waiting = iter(paths)
    failure: OSError | None = None
    while True:
        room = 0 if failure else most - len(running)
        running.update((pool.submit(parallel.work, path), path) for path in islice(waiting, room))
        if not running:
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            try:
                record = future.result()
            except OSError as error:
                failure = failure or error
            else:
                yield record
            del running[future]
    if failure:
        raise failure
