"""Training reads the store: the same clips as from the files, and nothing that is stale."""

from __future__ import annotations

import itertools
import os
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import cli, config
from bgan_video.config import Config, recipes
from bgan_video.data import layouts
from bgan_video.data.frames import Frames, survey
from bgan_video.data.manifest import Item
from bgan_video.data.store import clip_store
from bgan_video.data.streams import unlabelled_batches
from bgan_video.errors import UserError
from bgan_video.video import reader
from bgan_video.video.reader import BrokenVideo
from tests.data.store import stores
from tests.e2e import runs


@pytest.fixture(scope="module")
def filled(small_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    place = tmp_path_factory.mktemp("filled")
    of = stores.settings(stores.few_videos(small_videos, place / "videos"), place / "some.store")
    stores.fill(of)
    return of


@pytest.fixture
def own(filled: Config, tmp_path: Path) -> Config:
    """A copy to spoil."""
    assert filled.data.root is not None
    assert filled.data.store is not None
    shutil.copytree(filled.data.root, tmp_path / "videos")
    shutil.copytree(filled.data.store, tmp_path / "some.store")
    return stores.settings(tmp_path / "videos", tmp_path / "some.store")


def surveyed(of: Config) -> tuple[tuple[Item, ...], Frames]:
    manifest = layouts.read(of.data)
    frames = Frames(manifest.root, of)
    readable, _ = survey(manifest, frames, of)
    return readable.items, frames


def changed(of: Config, *overrides: str) -> Config:
    assert of.data.root is not None
    assert of.data.store is not None
    return stores.settings(Path(of.data.root), Path(of.data.store), *overrides)


def batches(of: Config, number: int, first: int = 0) -> list[Any]:
    items, frames = surveyed(of)
    return list(itertools.islice(unlabelled_batches(items, frames, of, first), number))


def test_a_survey_of_the_store_is_that_of_the_files_and_decodes_nothing(
    filled: Config, monkeypatch: pytest.MonkeyPatch
):
    direct, _ = surveyed(changed(filled, "data.store=null"))

    def fail(*_: Any) -> None:
        raise AssertionError("the index knows")

    for module, name in ((reader, "read_all"), (reader, "open_video"), (clip_store, "map_frames")):
        monkeypatch.setattr(module, name, fail)
    assert surveyed(filled)[0] == direct


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_the_store_is_bitwise_that_from_the_files(filled: Config, workers: int):
    """From the middle of a pass, whoever loads; decoded anew or kept in memory."""
    views = ["objective.consistency_weight=1", "train.batch_size=4"]
    expected = batches(changed(filled, "data.store=null", "data.cache_mib=0", *views), 6)[1:]
    found = batches(changed(filled, f"data.num_workers={workers}", *views), 5, first=1)
    kept = batches(changed(filled, "data.store=null", *views), 5, first=1)
    for a, b, c in zip(expected, found, kept, strict=True):
        assert torch.equal(a.weak, b.weak)
        assert torch.equal(a.strong, b.strong)
        assert torch.equal(a.weak, c.weak)


@given(st.data())
def test_any_frames_in_any_order(filled: Config, data: st.DataObject):
    items, frames = surveyed(filled)
    item = data.draw(st.sampled_from(items))
    indices = data.draw(st.lists(st.integers(0, item.num_frames - 1), min_size=1, max_size=9))
    assert filled.data.root is not None
    whole = reader.read_all(Path(filled.data.root) / item.path, "auto", filled.load_size)
    assert np.array_equal(frames.read(item, indices), whole[indices])


@pytest.mark.parametrize("indices", [[-1], [0, 10_000]])
def test_frames_that_are_not_there_are_refused(filled: Config, indices: list[int]):
    items, frames = surveyed(filled)
    with pytest.raises(BrokenVideo, match="frames, not"):
        frames.read(items[0], indices)


def test_nothing_is_open_or_mapped_between_two_reads(filled: Config):
    """So processes may fork at any time."""
    items, frames = surveyed(filled)
    clip = frames.read(items[0], [3, 1])
    assert clip.flags.owndata
    opened = [p.resolve().name for p in Path("/proc/self/fd").iterdir() if p.exists()]
    assert not [name for name in opened if name.startswith("frames-")]
    assert "frames-" not in Path("/proc/self/maps").read_text()


def test_a_store_goes_to_another_process_without_its_frames(filled: Config):
    items, frames = surveyed(filled)
    sent = pickle.dumps(frames)
    assert len(sent) < 20_000
    assert np.array_equal(pickle.loads(sent).read(items[0], [0]), frames.read(items[0], [0]))


def resident_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_memory_stays_flat_over_ten_thousand_clips(filled: Config):
    of = changed(filled, "train.batch_size=100", "clip.size=8", "clip.load_size=18")
    items, frames = surveyed(of)
    stream = unlabelled_batches(items, frames, of, 0)
    for _ in range(10):
        next(stream)
    before = resident_kib()
    for _ in range(90):
        next(stream)
    assert resident_kib() - before < 8 * 1024


def test_memory_does_not_hold_what_was_read_of_a_large_store(own: Config):
    """300 MiB of frames in one video, each read once."""
    assert own.data.store is not None
    folder = Path(own.data.store)
    (record, *_) = clip_store.read_lines(folder)
    frame_bytes = record.num_bytes // record.shape[0]
    length = 300 * 2**20 // frame_bytes
    os.truncate(folder / record.shard, record.offset + length * frame_bytes)
    large = clip_store.StoredVideo(
        record.path, record.fingerprint, "", record.shard, record.offset, (length, 18, 18, 3)
    )
    with (folder / clip_store.INDEX).open("a") as index:
        index.write(large.to_line())
    assert own.data.root is not None
    reader = clip_store.Store(Path(own.data.root), own)
    reader.read(record.path, range(64))
    before = resident_kib()
    for start in range(0, length - 64, 64):
        reader.read(record.path, range(start, start + 64))
    assert resident_kib() - before < 8 * 1024


def test_a_store_of_another_size_is_refused_with_the_command_that_makes_the_right_one(
    own: Config, capsys: pytest.CaptureFixture[str]
):
    other = changed(own, "clip.size=32")
    with pytest.raises(UserError) as caught:
        surveyed(other)
    message = str(caught.value)
    assert "\n" not in message
    assert "holds frames of short side 18, the settings ask for 37; make another: " in message
    with pytest.raises(UserError, match="short side 18"):
        stores.fill(other)
    words = shlex.split(message.partition("make another: ")[2])
    assert cli.main(words[1:]) == 0
    made = words[-1].removeprefix("data.store=")
    stores.assert_complete(changed(other, "clip.size=32", f"data.store={made}"))
    capsys.readouterr()


def test_what_prepare_makes_without_a_recipe_serves_training_without_one(
    filled: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["data.layout=video_folder", f"data.root={filled.data.root}"]
    words += ["data.labels_per_class=1", f"data.store={tmp_path / 'made'}"]
    assert cli.main(["prepare", *words]) == 0
    items, _ = surveyed(config.load(recipes.find(recipes.DEFAULT), words))
    assert len(items) == 6
    capsys.readouterr()


def test_the_command_for_a_store_of_a_table_names_it(tmp_path: Path):
    tables = [tmp_path / "a table.csv", tmp_path / "more.csv"]
    given = ["data.layout=table", f"data.table=[{tables[0]},{tables[1]}]"]
    of = config.load(None, [*given, f"data.store={tmp_path / 'x.store'}"])
    words = shlex.split(clip_store.command(of))
    assert config.load(None, words[2:]).data.table == of.data.table


def test_a_store_of_another_decoder_is_refused(filled: Config):
    with pytest.raises(UserError, match=r"data\.decoder pyav, the settings ask for torchcodec"):
        surveyed(changed(filled, "data.decoder=torchcodec"))
    surveyed(changed(filled, "data.decoder=pyav"))


def test_no_store_is_refused_with_the_command_that_makes_one(filled: Config, tmp_path: Path):
    with pytest.raises(UserError, match=r"not a clip store; make it: bgan-video prepare data\.lay"):
        surveyed(changed(filled, f"data.store={tmp_path}"))


def test_a_video_that_changed_is_not_served_and_is_read_anew(own: Config):
    items, frames = surveyed(own)
    assert own.data.root is not None
    file, other = (Path(own.data.root) / item.path for item in (items[0], items[-1]))
    shutil.copy(other, file)
    with pytest.raises(UserError) as caught:
        surveyed(own)
    assert f"{file} changed since data.store={own.data.store} read it; read it" in str(caught.value)
    with pytest.raises(UserError, match="changed since"):
        frames.check(items[0])
    assert stores.fill(own).added == 1
    stores.assert_complete(own)


def test_the_store_serves_without_the_files(own: Config):
    items, _ = surveyed(own)
    assert own.data.root is not None
    shutil.rmtree(own.data.root)
    frames = Frames(own.data.root, own)
    for item in items:
        frames.check(item)
        assert len(frames.read(item, range(item.num_frames))) == item.num_frames


def test_a_video_that_is_not_in_the_store_is_told_with_the_command(own: Config):
    assert own.data.root is not None
    grow = Path(own.data.root) / "Grow"
    shutil.copy(next(grow.glob("*.avi")), grow / "new.avi")
    with pytest.raises(UserError, match=r"^Grow/new\.avi is not in data\.store=.*; add it: bgan-"):
        surveyed(own)


def test_frames_that_were_cut_off_are_told(own: Config):
    items, frames = surveyed(own)
    assert own.data.store is not None
    os.truncate(Path(own.data.store) / "frames-00000.bin", 10)
    with pytest.raises(BrokenVideo, match=r"is damaged .*--verify"):
        frames.read(items[0], [5])


def test_a_damaged_line_of_the_index_is_told_by_number(own: Config):
    assert own.data.store is not None
    index = Path(own.data.store) / clip_store.INDEX
    lines = index.read_text().splitlines()
    lines[2] = lines[2][:-4]
    index.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"index\.jsonl:3 is damaged"):
        surveyed(own)


def test_images_have_no_store():
    with pytest.raises(UserError, match=r"data\.store holds videos, but data\.layout=mnist"):
        config.load(runs.REPOSITORY / "configs" / "image" / "mnist.yaml", ["data.store=x"])
