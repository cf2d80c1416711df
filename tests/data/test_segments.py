"""Long unlabelled videos count as their segments; labelled ones may carry several parts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import layouts, segments, splits
from bgan_video.data.frames import Frames, survey
from bgan_video.data.labels.lists import read_list
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.reading import VideoFiles
from bgan_video.data.store import prepare
from bgan_video.data.streams import unlabelled_batches
from bgan_video.errors import UserError
from tests.video import videos

RATE, LONG = videos.RATE, 250  # ten seconds


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segments")
    for name, length in (("a/1", 25), ("b/1", 25), ("unlabelled/long", LONG), ("unlabelled/x", 30)):
        (root / name).parent.mkdir(exist_ok=True)
        videos.write(root / f"{name}.mp4", videos.SPECS["h264-mp4"], length)
    return root


def settings(root: Path, *overrides: str) -> Config:
    chosen = ["data.layout=video_folder", f"data.root={root}", "data.labels_per_class=null"]
    small = ["clip.num_frames=4", "clip.size=16", "clip.load_size=64", "data.fold=3"]
    return config.load(None, [*chosen, *small, *overrides])


def prepared(of: Config) -> tuple[Manifest, Frames]:
    listed = layouts.read(of.data)
    frames = Frames(listed.root, of)
    read, _ = survey(listed, frames, of)
    return segments.cut(splits.split(read, of.data), frames, of)[0], frames


def of_long(manifest: Manifest) -> list[Item]:
    return [item for item in manifest.items if "long" in item.path]


def test_a_long_unlabelled_video_is_its_segments(root: Path) -> None:
    manifest, frames = prepared(settings(root, "data.segment_seconds=3"))
    found = of_long(manifest)
    assert [i.path for i in found] == [
        "unlabelled/long.mp4#t=0,3.333",
        "unlabelled/long.mp4#t=3.333,6.667",
        "unlabelled/long.mp4#t=6.667",
    ]
    assert sum(i.num_frames for i in found) == LONG
    assert [i.first_frame for i in found] == [0, *np.cumsum([i.num_frames for i in found])[:-1]]
    assert {i.group for i in found} == {"unlabelled/long"}
    assert "unlabelled/x.mp4" in {i.path for i in manifest.items}, "of 1.2 seconds"
    for item in found:
        numbers = videos.numbers(frames.read(item, range(item.num_frames)))
        assert numbers == list(range(item.first_frame, item.first_frame + item.num_frames))
    whole, _ = prepared(settings(root))
    assert [i.path for i in of_long(whole)] == ["unlabelled/long.mp4"]


def test_an_epoch_shows_every_segment_once(root: Path) -> None:
    of = settings(root, "data.segment_seconds=2", "train.batch_size=1")
    manifest, frames = prepared(of)
    items = manifest.part("train")
    assert len(of_long(manifest)) == 5
    seen = itertools.islice(unlabelled_batches(items, frames, of, 0), len(items))
    assert len(list(seen)) == len(items)


def write_labels(folder: Path, *rows: str) -> str:
    file = folder / "labels.csv"
    file.write_text("\n".join(["path,label,start,end", *rows]) + "\n")
    return f"data.label_list={file}"


def test_several_labelled_parts_of_a_video(root: Path, tmp_path: Path) -> None:
    labels = write_labels(
        tmp_path,
        "unlabelled/long.mp4,a,0.4,1",
        "unlabelled/long.mp4#t=8,b,,",
        "long,a,0:06,0:06.8",
        "a/1.mp4,a,,",
        "b/1.mp4,b,,",
    )
    of = settings(root, "data.segment_seconds=2", labels, "data.validation_fraction=0")
    manifest, frames = prepared(of)
    parts = {
        i.path: (i.label, i.first_frame, i.num_frames) for i in of_long(manifest) if i.labelled
    }
    assert parts == {
        "unlabelled/long.mp4#t=0.4,1": (0, 10, 15),
        "unlabelled/long.mp4#t=8": (1, 200, 50),
        "unlabelled/long.mp4#t=6,6.8": (0, 150, 20),
    }
    pool = [i.path.partition("#")[2] for i in of_long(manifest) if not i.labelled]
    assert pool == ["t=2,4", "t=4,6"], "segments with a labelled part are known"
    first = next(i for i in manifest.labelled if i.first_frame == 10)
    assert videos.numbers(frames.read(first, [0, 14])) == [10, 24]


def test_a_suggested_segment_is_read_back(root: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path, '"unlabelled/long.mp4#t=2,4",b,,', "a/1.mp4,a,,", "b/1.mp4,b,,")
    manifest, _ = prepared(settings(root, "data.segment_seconds=2", labels))
    (part,) = [i for i in manifest.labelled if "long" in i.path]
    assert (part.path, part.label) == ("unlabelled/long.mp4#t=2,4", 1)
    assert part.path not in {i.path for i in manifest.items if not i.labelled}


def test_a_file_of_several_parts_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, read = Frames(str(root), settings(root)), list[str]()
    survey_files = VideoFiles.survey

    def watched(self: VideoFiles, paths: list[str], workers: int) -> object:
        read.extend(paths)
        return survey_files(self, paths, workers)

    monkeypatch.setattr(VideoFiles, "survey", watched)
    long = "unlabelled/long.mp4"
    paths = [f"{long}#t=1,2", "a/1.mp4", f"{long}#t=60,70", long]
    items = [Item(path, 0, path, "train") for path in paths]
    found = [*frames.survey_all(items), frames.survey(Item(f"{long}#t=9", 0, long, "train"))]
    assert read == [long, "a/1.mp4"]
    places = [(i.first_frame, i.num_frames) if isinstance(i, Item) else i.reason for i in found]
    assert places == [(25, 25), (0, 25), "no frame at t=60,70", (0, LONG), (225, 25)]


def test_a_part_behind_the_end_is_broken(root: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path, "unlabelled/long.mp4,b,60,70", "a/1.mp4,a,,", "b/1.mp4,b,,")
    of = settings(root, labels)
    listed = layouts.read(of.data)
    frames = Frames(listed.root, of)
    read, _ = survey(listed, frames, of)
    manifest, broken = segments.cut(splits.split(read, of.data), frames, of)
    assert [record.path for record in broken] == ["unlabelled/long.mp4#t=60,70"]
    assert all(i.num_frames for i in manifest.items)


def test_parts_that_are_too_short_for_a_clip_are_refused(root: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path, '"unlabelled/long.mp4#t=1,1.1",a')
    strict = ("clip.short_clip=error", "clip.num_frames=16", "clip.stride=1")
    with pytest.raises(UserError, match=r"long.mp4#t=1,1.1 has .* frames, a clip needs 16"):
        prepared(settings(root, labels, *strict))
    with pytest.raises(UserError, match=r"long.mp4#t=.* frames, a clip needs 16"):
        prepared(settings(root, "data.segment_seconds=0.4", *strict))


def test_wrong_parts_are_named(root: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path, "unlabelled/long.mp4,b,5,4")
    of = settings(root, labels)
    with pytest.raises(UserError, match=r"labels\.csv:2: the part from 5 to 4"):
        read_list(layouts.read(of.data), of.data)


def test_segments_in_a_store_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    stored = settings(root, "data.segment_seconds=3", f"data.store={tmp_path / 'some.store'}")
    listed = layouts.read(stored.data)
    prepare.prepare(listed, stored, [].append, lambda videos, *_: videos)
    manifest, frames = prepared(stored)
    expected, direct = prepared(settings(root, "data.segment_seconds=3"))
    assert of_long(manifest) == of_long(expected)
    for item in of_long(manifest):
        ends = [0, item.num_frames - 1]
        assert np.array_equal(frames.read(item, ends), direct.read(item, ends))
