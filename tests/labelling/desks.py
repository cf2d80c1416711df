"""Desks on a few small videos whose names hurt."""

from __future__ import annotations

import shutil
from pathlib import Path

from bgan_video import config
from bgan_video.acquisition.first import begin
from bgan_video.labelling.desk import Desk
from bgan_video.labelling.source import Source, of_beginning

NAMES = (
    'it\'s "one".avi',
    "<img src=x onerror=alert(1)>.avi",
    "ünï & co #1?.avi",
    "a  b;c,d%20.avi",
    "$(touch x) `y`.avi",
    "plain.avi",
)
SMALL = ["clip.num_frames=4", "clip.size=16", "data.validation_fraction=0"]


def hurtful_folder(small_videos: Path, root: Path) -> Path:
    """A folder of videos alone."""
    root.mkdir()
    videos = sorted(small_videos.glob("[A-Z]*/*.avi"))
    for name, video in zip(NAMES, videos[:: len(videos) // len(NAMES)], strict=False):
        shutil.copy(video, root / name)
    return root


def source_of(root: Path, *overrides: str) -> Source:
    """What the page shows of a folder without a run."""
    given = [f"data.root={root}", *SMALL, "features.body=timm:none", *overrides]
    beginning = begin(config.load("video_folder", given), lambda _: None, lambda items, *_: items)
    return of_beginning(beginning, "video_folder", given)


def desk_of(root: Path, table: Path, budget: int = 4, *overrides: str) -> Desk:
    """A desk on it; no run is ever opened."""

    def no_run(_: Path) -> Source:
        raise AssertionError("no run was trained")

    return Desk(source_of(root, *overrides), table, budget, "auto", no_run)
