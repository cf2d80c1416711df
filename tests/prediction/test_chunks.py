"""The clips a video is judged by: which, in what order, and who reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item
from bgan_video.errors import UserError
from bgan_video.prediction import chunks as test_clips
from bgan_video.prediction.chunks import ClipChunk
from bgan_video.video.clips import uniform_clips
from bgan_video.video.reader import BrokenVideo

K = 3


class Pictures:
    """Stands for `Frames`: red is the video, green the column, blue the frame's number."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []

    def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
        self.reads.append(list(indices))
        frames = np.zeros((len(indices), 8, 24, 3), np.uint8)
        frames[..., 0] = int(item.group)
        frames[..., 1] = np.arange(24)
        frames[..., 2] = np.asarray(indices)[:, None, None]
        return frames


def videos() -> list[Item]:
    return [Item(f"{i}.avi", i % K, str(i), "test", num_frames=30 + 7 * i) for i in range(5)]


def small(*overrides: str) -> Config:
    sizes = ["clip.size=8", "clip.load_size=8", "clip.num_frames=4", "clip.test_clips=3"]
    return config.load(None, [*sizes, *overrides])


def chunks(*overrides: str) -> Iterator[ClipChunk]:
    return test_clips.test_chunks(videos(), cast(Frames, Pictures()), small(*overrides))


def seen(x: Tensor) -> Tensor:
    """Video, left column and frame numbers of clips `[N, C, T, H, W]`."""
    whole = ((x + 1) * 127.5).round().long()[..., 0, 0]
    return torch.cat([whole[:, 0, :1], whole[:, 1, :1], whole[:, 2]], dim=1)


def test_a_videos_clips_are_spread_evenly_and_stay_together() -> None:
    (given_,) = chunks()
    assert given_.clips.shape == (15, 3, 4, 8, 8)
    assert given_.clips_per_video == 3
    assert given_.labels.tolist() == [0, 1, 2, 0, 1]
    expected = [
        [int(item.group), 8, *indices]
        for item in videos()
        for indices in uniform_clips(item.num_frames, 4, 2, 3, "loop")
    ]
    assert seen(given_.clips).tolist() == expected


def test_three_crops_are_views_of_every_clip() -> None:
    (given_,) = chunks("clip.test_crops=3", "clip.test_clips=2")
    assert given_.clips_per_video == 6
    assert seen(given_.clips)[:6, 1].tolist() == [0, 8, 16] * 2


def test_memory_decides_how_many_videos_but_not_which(monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = chunks()
    video_bytes = 3 * 3 * 4 * 8 * 8 * 4
    for room, sizes in ((2 * video_bytes, [2, 2, 1]), (1, [1] * 5)):
        monkeypatch.setattr(test_clips, "_CHUNK_BYTES", room)
        parts = list(chunks())
        assert [len(part.labels) for part in parts] == sizes
        assert torch.equal(torch.cat([part.clips for part in parts]), whole.clips)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_a_video_is_read_once() -> None:
    pictures = Pictures()
    list(test_clips.test_chunks(videos()[:1], cast(Frames, pictures), small()))
    (indices,) = pictures.reads
    assert indices == sorted(set(indices))


def test_a_video_that_breaks_later_is_named() -> None:
    class Broken:
        def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
            raise BrokenVideo(Path(item.path), "it was cut short")

    with pytest.raises(UserError, match=r"0\.avi no longer reads: it was cut short"):
        test_clips.video_views(videos()[0], cast(Frames, Broken()), small())


# --- read ahead --------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    video_bytes = 3 * 3 * 4 * 8 * 8 * 4
    monkeypatch.setattr(test_clips, "_CHUNK_BYTES", 2 * video_bytes)
    read = list(chunks(f"data.num_workers={workers}"))
    for found, expected in zip(read, chunks(), strict=True):
        assert torch.equal(found.clips, expected.clips)
        assert torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_videos_are_read_at_once_as_there_are_workers(workers: int) -> None:
    together = threading.Barrier(workers, timeout=20)

    class Together(Pictures):
        def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
            assert threading.current_thread() is not threading.main_thread()
            if int(item.group) < workers:
                together.wait()
            return super().read(item, indices)

    of = small(f"data.num_workers={workers}")
    (chunk,) = test_clips.test_chunks(videos(), cast(Frames, Together()), of)
    assert len(chunk.labels) == 5


def test_no_more_videos_wait_than_memory_is_meant_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_clips, "_CHUNK_BYTES", 1)  # one video a chunk
    pictures = Pictures()
    of = small("data.num_workers=4")
    read = test_clips.test_chunks(videos(), cast(Frames, pictures), of)
    next(read)
    read.close()  # waits for who reads
    assert len(pictures.reads) <= 3, "the first, the next, and the one behind"


def test_a_video_that_breaks_in_a_thread_is_named() -> None:
    class Breaks(Pictures):
        def read(self, item: Item, indices: Sequence[int]) -> np.ndarray:
            if item.group == "3":
                raise BrokenVideo(Path(item.path), "it was cut short")
            return super().read(item, indices)

    of = small("data.num_workers=2")
    with pytest.raises(UserError, match=r"3\.avi no longer reads: it was cut short"):
        list(test_clips.test_chunks(videos(), cast(Frames, Breaks()), of))
