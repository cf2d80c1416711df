"""Small clip stores of real video files."""

from __future__ import annotations

import itertools
import multiprocessing
import shutil
import time
from collections.abc import Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import layouts
from bgan_video.data.frames import Frames
from bgan_video.data.store import clip_store, prepare
from bgan_video.video import reader

FORK = multiprocessing.get_context("fork")


def few_videos(small_videos: Path, root: Path, per_class: int = 3) -> Path:
    """A folder a class: the first videos of two motions."""
    for name in ("Grow", "MoveUp"):
        (root / name).mkdir(parents=True)
        for file in sorted((small_videos / name).glob("*.avi"))[:per_class]:
            shutil.copy(file, root / name)
    return root


def settings(root: Path, folder: Path | None, *more: str) -> Config:
    where = ["data.layout=video_folder", f"data.root={root}"]
    where += [f"data.store={folder}"] if folder else []
    return config.load(None, [*where, "clip.size=16", "clip.num_frames=4", *more])


def every(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """No progress bar."""
    return items


def fill(of: Config, said: list[str] | None = None) -> prepare.Prepared:
    say = [].append if said is None else said.append
    return prepare.prepare(layouts.read(of.data), of, say, every)


def verify(of: Config) -> int:
    return prepare.verify(of, [].append, every)


def assert_complete(of: Config) -> None:
    """Every video of the root is in the store, each frame as it decodes."""
    manifest = layouts.read(of.data)
    frames = Frames(manifest.root, of)
    for item in manifest.items:
        count = frames.survey(item).num_frames
        direct = reader.read_all(Path(manifest.root) / item.path, "auto", of.load_size)
        assert count == len(direct)
        assert np.array_equal(frames.read(item, range(count)), direct)
    assert verify(of) == len(manifest.items)


def slow_decoding(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Processes forked from here take their time over each video."""
    pieces = reader.OpenVideo.pieces

    def slowly(video: Any) -> Any:
        time.sleep(seconds)
        return pieces(video)

    monkeypatch.setattr(reader.OpenVideo, "pieces", slowly)


def start(of: Config, said: list[str] | None = None) -> BaseProcess:
    """Fill a store in a process of its own."""
    process = FORK.Process(target=fill, args=(of, said))
    process.start()
    return process


def wait_for_lines(folder: Path, number: int, process: BaseProcess) -> None:
    """Until the index has that many lines, or the process has ended."""
    index = folder / clip_store.INDEX
    for _ in itertools.takewhile(lambda _: process.is_alive(), itertools.count()):
        if index.is_file() and index.read_bytes().count(b"\n") >= number:
            return
        time.sleep(0.001)
