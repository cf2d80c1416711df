"""Published protocols: parts of the labels, published lists, recordings kept apart."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import config
from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.data.labels import choice
from bgan_video.data.manifest import UNKNOWN, Item, Manifest
from bgan_video.data.splits import split
from bgan_video.errors import UserError

CLASSES = ("bend", "jump", "walk")
K = len(CLASSES)


def video(label: int, group: int, clip: int = 1, of: str = "train") -> Item:
    path = f"{CLASSES[label]}/v_{CLASSES[label]}_g{group:02d}_c{clip:02d}.avi"
    return Item(path, label, f"g{group:02d}", of)  # type: ignore[arg-type]


def manifest(items: list[Item]) -> Manifest:
    return Manifest("test", "root", 1, CLASSES, tuple(items))


# Per class 3 test groups and 7 training groups of 4 clips.
WHOLE = manifest(
    [
        video(label, group, clip, "test" if group < 3 else "train")
        for label in range(K)
        for group in range(10)
        for clip in range(4)
    ]
)
fractions = st.floats(0.001, 1)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Classes of several sizes, in recordings of any number of clips."""
    items: list[Item] = []
    for label in range(K):
        for group in range(draw(st.integers(1, 6))):
            items += [video(label, group, c) for c in range(draw(st.integers(1, 5)))]
    return manifest(draw(st.permutations(items)))


def labelled(of: Manifest, **data: object) -> set[str]:
    return {item.path for item in split(of, Data(**data)).labelled}  # type: ignore[arg-type]


# --- a part of the labels ----------------------------------------------------------------------


@given(manifests(), fractions, fractions, st.integers(0, 99))
def test_parts_are_nested_and_of_their_size(of: Manifest, a: float, b: float, seed: int) -> None:
    common = {"label_seed": seed, "validation_fraction": 0.0}
    small, large = (labelled(of, label_fraction=f, **common) for f in sorted((a, b)))
    assert small <= large
    assert len(large) == max(K, int(max(a, b) * len(of.items) + 1e-6))
    # The same order as a number of labels goes by.
    assert large == labelled(of, num_labelled=len(large), **common)


@given(manifests(), fractions, st.integers(0, 99))
def test_a_part_is_balanced_and_has_every_class(of: Manifest, part: float, seed: int) -> None:
    parts = split(of, Data(label_fraction=part, label_seed=seed, validation_fraction=0.0))
    there, chosen = (Counter(i.label for i in items) for items in (of.items, parts.labelled))
    short = [label for label in range(K) if chosen[label] < there[label]]
    assert min(chosen[label] for label in range(K)) >= 1
    assert all(chosen[label] >= max(chosen.values()) - 1 for label in short)


def test_a_part_is_one_of_the_training_fold_validation_included() -> None:
    fold = len(WHOLE.part("train"))  # 84
    assert len(labelled(WHOLE, label_fraction=0.25, validation_fraction=0.3)) == fold // 4
    parts = split(WHOLE, Data(label_fraction=1, validation_fraction=0.3))
    assert parts.part("validation")
    assert parts.labelled == parts.part("train")


@pytest.mark.parametrize(("part", "number"), [(0.29, 29), (0.3, 30), (0.001, K), (0.999, 99)])
def test_a_part_is_rounded_down_but_for_what_a_float_loses(part: float, number: int) -> None:
    hundred = manifest([video(n % K, n) for n in range(100)])
    assert len(labelled(hundred, label_fraction=part, validation_fraction=0)) == number


@pytest.mark.parametrize("value", ["0", "1.01", "-0.1"])
def test_a_part_that_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"data\.label_fraction"):
        config.load(None, [f"data.label_fraction={value}"])


def test_two_ways_to_choose_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.num_labelled and data\.label_fraction both"):
        config.load(None, ["data.label_fraction=0.1", "data.num_labelled=9"])


# --- recordings kept apart ---------------------------------------------------------------------


@given(manifests(), fractions, st.sampled_from(["ucf101", "video_folder"]), st.integers(0, 99))
def test_no_unlabelled_video_shares_a_recording_with_a_labelled_one(
    of: Manifest, part: float, layout: str, seed: int
) -> None:
    common = {"label_fraction": part, "label_seed": seed, "validation_fraction": 0.0}
    together = split(of, Data(layout=layout, **common))  # type: ignore[arg-type]

    def recording(item: Item) -> str:
        return f"{item.label * (layout == 'ucf101')}-{item.group}"

    taken = {recording(i) for i in together.labelled}
    unlabelled = [i for i in together.items if not i.labelled]
    free = [i for i in unlabelled if recording(i) not in taken]
    data = Data(layout=layout, separate_recordings=True, **common)  # type: ignore[arg-type]
    if unlabelled and not free:
        with pytest.raises(UserError, match="leaves no unlabelled video"):
            split(of, data)
        return
    apart = split(of, data)
    assert apart.labelled == together.labelled, "the same labels: only the unlabelled change"
    assert [i for i in apart.items if not i.labelled] == free


def test_validation_and_test_are_left_alone() -> None:
    common = {"labels_per_class": 1, "validation_fraction": 0.3}
    together, apart = (
        split(WHOLE, Data(layout="ucf101", separate_recordings=on, **common))  # type: ignore[arg-type]
        for on in (False, True)
    )
    for part in ("validation", "test"):
        assert apart.part(part) == together.part(part)  # type: ignore[arg-type]
    assert len(together.part("train")) - len(apart.part("train")) == 3 * K


def test_a_stranger_of_a_labelled_group_is_left_out(tmp_path: Path) -> None:
    strangers = [Item(f"unlabelled/{g}.avi", UNKNOWN, f"g{g:02d}", "train") for g in (3, 40)]
    file = tmp_path / "list.txt"
    file.write_text("bend/v_bend_g03_c01.avi\n")
    data = Data(
        layout="video_folder",
        label_list=str(file),
        separate_recordings=True,
        validation_fraction=0,
    )
    found = split(manifest([*WHOLE.items, *strangers]), data)
    assert [i.path for i in found.items if i.label == UNKNOWN] == ["unlabelled/40.avi"]


# --- what is said of labels --------------------------------------------------------------------


def test_classes_without_a_label_are_named_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("bend/v_bend_g03_c01.avi\n")
    data = Data(label_list=str(file), validation_fraction=0)
    (line,) = choice.remarks(split(WHOLE, data), data)
    assert line.startswith("2 of 3 classes have no label")
    assert line.endswith("jump, walk")
    for silent in (Data(labels_per_class=1), Data(num_labelled=0)):
        assert choice.remarks(split(WHOLE, silent), silent) == []


def test_listed_videos_that_validate_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("\n".join(item.path for item in WHOLE.part("train")))
    data = Data(label_list=str(file), validation_fraction=0.3)
    parts = split(WHOLE, data)
    held = len(parts.part("validation"))
    assert held
    assert choice.remarks(parts, data)[0].startswith(f"{held} videos of data.label_list")


def test_wrong_lines_are_counted_behind_the_first(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("bend/v_bend_g03_c01.avi\nno/1.avi\nno/2.avi\nno/3.avi\n")
    with pytest.raises(UserError, match=r"list\.txt:2: 'no/1\.avi' .*\(and 2 more such lines\)$"):
        split(WHOLE, Data(label_list=str(file)))


def test_only_hmdb51_has_unused_videos() -> None:
    with pytest.raises(UserError, match=r"data\.train_on_unused is for data\.layout=hmdb51"):
        config.load(None, ["data.layout=ucf101", "data.train_on_unused=true"])


# --- the published lists -----------------------------------------------------------------------


@cache
def ucf101(shared_data: Path) -> Manifest:
    folder = shared_data / "ucf101_sample"
    lists = str(folder / "ucfTrainTestlist")
    return layouts.read(Data(layout="ucf101", root=str(folder / "videos"), lists=lists))


def hmdb51(shared_data: Path, root: Path, **data: object) -> Manifest:
    (root / "kick").mkdir(exist_ok=True)
    (root / "kick" / "a.avi").touch()
    lists = str(shared_data / "hmdb51_splits")
    return layouts.read(Data(layout="hmdb51", root=str(root), lists=lists, **data))  # type: ignore[arg-type]


def published(shared_data: Path, name: str, percent: int, part: str = "labeled") -> Path:
    folder = shared_data / "videossl_label_lists" / name / "videossl_splits"
    return folder / f"{name}_train_{percent}_percent_{part}_split_1_rawframes.txt"


@pytest.mark.shared
@pytest.mark.parametrize(("percent", "videos"), [(5, 476), (10, 953), (20, 1907), (50, 4768)])
def test_a_part_of_ucf101_has_as_many_labels_as_the_published_one(
    percent: int, videos: int, shared_data: Path
) -> None:
    data = Data(layout="ucf101", label_fraction=percent / 100)
    counts = Counter(i.label for i in split(ucf101(shared_data), data).labelled)
    assert counts.total() == videos
    assert len(counts) == 101
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.shared
@pytest.mark.parametrize("form", ["{0} {1} {2}", "{0}.avi {2}", "{0}.avi*{3}", "{0}"])
@pytest.mark.parametrize("percent", [5, 10])
def test_published_lines_read_with_and_without_counts_whatever_their_labels_start_at(
    form: str, percent: int, shared_data: Path, tmp_path: Path
) -> None:
    rows = [line.split() for line in published(shared_data, "ucf101", percent).open()]
    file = tmp_path / "list.txt"
    lines = [form.format(path, frames, k, int(k) + 1) for path, frames, k in rows]
    file.write_text("\n".join(lines))
    data = Data(layout="ucf101", label_list=str(file), validation_fraction=0.0)
    parts = split(ucf101(shared_data), data)
    assert {i.path.rpartition("/")[2].removesuffix(".avi"): i.label for i in parts.labelled} == {
        path.rpartition("/")[2]: int(label) for path, _, label in rows
    }
    assert [line.rpartition(": ")[2] for line in choice.remarks(parts, data)] == (
        ["CliffDiving"] if percent == 5 else []
    )


@pytest.mark.shared
def test_keeping_recordings_apart_leaves_out_what_shares_one(shared_data: Path) -> None:
    file = published(shared_data, "ucf101", 10)
    common = {"layout": "ucf101", "label_list": str(file), "validation_fraction": 0.0}
    whole = ucf101(shared_data)
    apart = split(whole, Data(separate_recordings=True, **common))  # type: ignore[arg-type]

    def recordings(lines: Path) -> list[str]:
        return [re.sub(r"_c\d+$", "", line.split()[0]) for line in lines.open()]

    taken = set(recordings(file))
    rest = recordings(published(shared_data, "ucf101", 10, "unlabeled"))
    shared = sum(recording in taken for recording in rest)
    assert shared == 3200
    assert len(whole.part("train")) - len(apart.part("train")) == shared


@pytest.mark.shared
@pytest.mark.parametrize(
    ("percent", "videos", "unused"), [(40, 2094, 664), (50, 2618, 847), (60, 3141, 986)]
)
def test_published_hmdb51_lists_need_the_unused_videos(
    percent: int, videos: int, unused: int, shared_data: Path, tmp_path: Path
) -> None:
    file = str(published(shared_data, "hmdb51", percent))
    data = Data(layout="hmdb51", label_list=file, validation_fraction=0.0, train_on_unused=True)
    whole = hmdb51(shared_data, tmp_path, train_on_unused=True)
    assert (len(whole.part("train")), len(whole.part("test"))) == (5236, 1530)
    parts = split(whole, data)
    assert len(parts.labelled) == videos
    assert choice.remarks(parts, data) == []
    official = hmdb51(shared_data, tmp_path)
    with pytest.raises(UserError, match=rf"train_on_unused=true.*and {unused - 1} more"):
        split(official, Data(layout="hmdb51", label_list=file, validation_fraction=0.0))


@pytest.mark.shared
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_no_recording_of_hmdb51_is_on_both_sides_of_a_fold(
    fold: int, shared_data: Path, tmp_path: Path
) -> None:
    official = hmdb51(shared_data, tmp_path, fold=fold)
    train, test = ({i.group for i in official.part(p)} for p in ("train", "test"))
    assert train.isdisjoint(test)
    # The videos the lists leave out are not that clean.
    unused = hmdb51(shared_data, tmp_path, fold=fold, train_on_unused=True).part("train")
    leaking = sum(i.group in test for i in unused)
    assert leaking == {1: 459, 2: 415, 3: 454}[fold]
