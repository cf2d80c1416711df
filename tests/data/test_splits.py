"""Splits: groups stay whole, label subsets are balanced, nested and seeded."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

from bgan_video.config import Data
from bgan_video.data.folds import group_folds
from bgan_video.data.labels.choice import label_order
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.splits import split
from bgan_video.errors import UserError

CLASSES = ("bend", "jump", "walk")
K = len(CLASSES)


def video(label: int, group: int, clip: int, of: str = "train") -> Item:
    name = CLASSES[label]
    path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
    return Item(path, label, f"g{group:02d}", of)  # type: ignore[arg-type]


def manifest(items: list[Item]) -> Manifest:
    return Manifest("test", "root", 1, CLASSES, tuple(items))


# Group g08 and up train and the others test, as in UCF101; every class is in every group.
WHOLE = manifest(
    [
        video(label, group, clip, "train" if group >= 8 else "test")
        for label in range(K)
        for group in range(1, 26)
        for clip in range(1, 5)
    ]
)


def given(*strategies: Any) -> Callable[[Any], Any]:
    return lambda test: settings(max_examples=50, deadline=None)(given_(*strategies)(test))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Random groups of any size that hold one class or several."""
    items: list[Item] = []
    for group in range(draw(st.integers(1, 12))):
        of = draw(st.sampled_from(["train", "train", "test"]))
        for label in draw(st.sets(st.integers(0, K - 1), min_size=1)):
            clips = draw(st.integers(1, 4))
            items += [video(label, group, clip, of) for clip in range(clips)]
    # What a run needs: a training video of every class.
    items += [video(label, 90 + label, 1) for label in range(K)]
    return manifest(draw(st.permutations(items)))


def labelled(of: Manifest, **data: object) -> set[str]:
    return {item.path for item in split(of, Data(**data)).labelled}  # type: ignore[arg-type]


def classes_of(of: Manifest, **data: object) -> Counter[int]:
    return Counter(i.label for i in split(of, Data(**data)).labelled)  # type: ignore[arg-type]


fractions = st.floats(0, 0.9)
seeds = st.integers(0, 1000)


# --- validation --------------------------------------------------------------------------------


@given(manifests(), fractions, seeds)
def test_no_group_is_on_two_sides(of: Manifest, fraction: float, seed: int) -> None:
    parts = split(of, Data(validation_fraction=fraction, label_seed=seed))
    groups = [{item.group for item in parts.part(p)} for p in ("train", "validation", "test")]
    assert not groups[0] & groups[1]
    assert not groups[1] & groups[2]


@given(manifests(), fractions, seeds)
def test_splitting_changes_nothing_but_split_and_label_use(
    of: Manifest, fraction: float, seed: int
) -> None:
    parts = split(of, Data(validation_fraction=fraction, label_seed=seed))
    assert [(i.path, i.label, i.group) for i in parts.items] == [
        (i.path, i.label, i.group) for i in of.items
    ]
    assert {i.path for i in parts.part("test")} == {i.path for i in of.part("test")}


@given(manifests(), fractions, seeds)
def test_every_class_keeps_training_videos_and_gives_no_more_than_its_part(
    of: Manifest, fraction: float, seed: int
) -> None:
    before = Counter(item.label for item in of.part("train"))
    parts = split(of, Data(validation_fraction=fraction, label_seed=seed))
    given_up = Counter(item.label for item in parts.part("validation"))
    for label in before:
        assert given_up[label] < before[label]
        assert given_up[label] <= math.ceil(fraction * before[label])


@given(manifests(), seeds)
def test_no_validation_where_none_is_wanted(of: Manifest, seed: int) -> None:
    parts = split(of, Data(validation_fraction=0.0, label_seed=seed))
    assert parts.part("validation") == ()


def test_validation_is_about_its_part() -> None:
    parts = split(WHOLE, Data(validation_fraction=0.25))
    assert len(parts.part("validation")) == 4 * 4 * K  # 4 of 18 groups: 5 would be more
    assert Counter(i.label for i in parts.part("validation")) == {0: 16, 1: 16, 2: 16}


def test_validation_depends_on_the_seed_alone() -> None:
    def groups(of: Manifest, seed: int) -> set[str]:
        return {i.group for i in split(of, Data(label_seed=seed)).part("validation")}

    backwards = manifest(list(reversed(WHOLE.items)))
    assert groups(WHOLE, 0) == groups(backwards, 0)
    assert len({frozenset(groups(WHOLE, seed)) for seed in range(8)}) > 1


# --- labels ------------------------------------------------------------------------------------


@given(manifests(), fractions, seeds)
def test_only_training_videos_are_labelled(of: Manifest, fraction: float, seed: int) -> None:
    parts = split(of, Data(validation_fraction=fraction, label_seed=seed, num_labelled=K))
    assert parts.labelled
    assert {item.split for item in parts.labelled} == {"train"}
    assert set(parts.labelled) <= set(parts.part("train"))


@pytest.mark.parametrize("per_class", [1, 7, 60])
def test_labels_per_class_are_per_class(per_class: int) -> None:
    assert classes_of(WHOLE, labels_per_class=per_class) == dict.fromkeys(range(K), per_class)


@given(manifests(), st.integers(0, 8), seeds)
def test_a_number_of_labels_is_met_and_balanced(of: Manifest, more: int, seed: int) -> None:
    there = Counter(i.label for i in of.part("train"))
    number = min(K + more, there.total())
    data = {"num_labelled": number, "label_seed": seed, "validation_fraction": 0.0}
    chosen = classes_of(of, **data)
    assert chosen.total() == number
    # A class has fewer labels than another only where it has no more, or by the odd one.
    short = [label for label in range(K) if chosen[label] < there[label]]
    assert all(chosen[label] >= max(chosen.values()) - 1 for label in short)


@given(manifests(), st.integers(0, 6), st.integers(0, 6), seeds)
def test_fewer_labels_are_among_more(of: Manifest, a: int, b: int, seed: int) -> None:
    total = len(of.part("train"))
    few, many = sorted(min(K + n, total) for n in (a, b))
    common = {"label_seed": seed, "validation_fraction": 0.0}
    assert labelled(of, num_labelled=few, **common) <= labelled(of, num_labelled=many, **common)


@pytest.mark.parametrize("per_class", [1, 3, 10])
def test_the_two_ways_to_count_agree(per_class: int) -> None:
    counted = labelled(WHOLE, num_labelled=per_class * K)
    assert counted == labelled(WHOLE, labels_per_class=per_class)


def test_without_a_number_all_training_videos_are_labelled() -> None:
    parts = split(WHOLE, Data())
    assert parts.labelled == parts.part("train")


def test_labels_depend_on_the_seed_alone() -> None:
    backwards = manifest(list(reversed(WHOLE.items)))
    chosen = [labelled(WHOLE, labels_per_class=3, label_seed=seed) for seed in range(5)]
    assert labelled(backwards, labels_per_class=3, label_seed=2) == chosen[2]
    assert len({frozenset(c) for c in chosen}) == 5


def test_groups_take_turns() -> None:
    order = label_order(WHOLE.part("train"), 1, seed=4)
    assert all(item.label == 1 for item in order)
    for turn in range(4):
        groups = [item.group for item in order[18 * turn : 18 * (turn + 1)]]
        assert len(set(groups)) == 18


def test_classes_do_not_pick_the_same_recordings() -> None:
    chosen = split(WHOLE, Data(labels_per_class=5, validation_fraction=0.0)).labelled
    assert len({frozenset(i.group for i in chosen if i.label == k) for k in range(K)}) > 1


def test_a_class_with_too_few_videos_is_named() -> None:
    items = [item for item in WHOLE.items if item.label != 2] + [video(2, 9, 1), video(2, 10, 1)]
    with pytest.raises(
        UserError, match=r"data\.labels_per_class=3: too few training videos of walk \(2\)"
    ):
        split(manifest(items), Data(labels_per_class=3, validation_fraction=0.0))


@pytest.mark.parametrize("number", [2, 217])
def test_a_number_of_labels_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(UserError, match=rf"data\.num_labelled={number}; .*\(3\).*\(216\)"):
        split(WHOLE, Data(num_labelled=number, validation_fraction=0.0))


# --- folds -------------------------------------------------------------------------------------

structures = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=80)


@given(structures, st.integers(2, 6))
def test_folds_hold_every_group_once(pairs: list[tuple[int, int]], num_folds: int) -> None:
    named = [(f"g{group}", label) for group, label in pairs]
    folds = group_folds(named, num_folds)
    assert set(folds) == {group for group, _ in named}
    assert set(folds.values()) <= set(range(num_folds))
    assert folds == group_folds(list(reversed(named)), num_folds)


@given(st.integers(1, 40), st.integers(2, 6))
def test_folds_of_equal_groups_are_even(groups: int, num_folds: int) -> None:
    named = [(f"{label}-{group}", label) for group in range(groups) for label in range(3)]
    folds = group_folds(named, num_folds)
    for label in range(3):
        sizes = Counter(folds[group] for group, its in named if its == label)
        counts = [sizes[fold] for fold in range(num_folds)]
        assert max(counts) - min(counts) <= 1


# --- published lists ---------------------------------------------------------------------------


def listing(folder: Path, *lines: str, end: str = "\n") -> str:
    (folder / "labels.txt").write_bytes("".join(line + end for line in lines).encode())
    return str(folder / "labels.txt")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "line",
    [
        "bend/v_bend_g09_c02.avi",
        "bend/v_bend_g09_c02",
        "v_bend_g09_c02",
        "bend/v_bend_g09_c02 159 0",
        "bend/v_bend_g09_c02.avi 1",
        "bend/v_bend_g09_c02.avi*17",
        "Bend/v_Bend_g09_c02.avi",
    ],
)
def test_a_published_line_names_its_video(tmp_path: Path, line: str, end: str) -> None:
    file = listing(tmp_path, line, "", "walk/v_walk_g10_c01", end=end)
    chosen = labelled(WHOLE, label_list=file, validation_fraction=0.0)
    assert chosen == {"bend/v_bend_g09_c02.avi", "walk/v_walk_g10_c01.avi"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bend/v_bend_g01_c01 100 0", "is a test video (fold 1)"),
        ("bend/v_bend_g77_c01 100 0", "is not in this data set"),
    ],
)
def test_a_listed_video_outside_the_training_fold_is_refused(
    tmp_path: Path, line: str, said: str
) -> None:
    file = listing(tmp_path, "bend/v_bend_g09_c02", line)
    with pytest.raises(UserError) as caught:
        labelled(WHOLE, label_list=file)
    assert f"{file}:2: " in str(caught.value)
    assert said in str(caught.value)


def test_a_listed_video_that_validates_is_not_trained_on(tmp_path: Path) -> None:
    held = split(WHOLE, Data()).part("validation")
    file = listing(tmp_path, *(item.path for item in WHOLE.part("train")))
    assert not labelled(WHOLE, label_list=file) & {item.path for item in held}
    assert len(labelled(WHOLE, label_list=file)) == len(WHOLE.part("train")) - len(held)


def test_a_list_tells_equal_names_in_different_classes_apart(tmp_path: Path) -> None:
    items = [Item(f"{name}/01.mp4", k, f"{name}/01", "train") for k, name in enumerate(CLASSES)]
    file = listing(tmp_path, "jump/01.mp4")
    data = {"label_list": file, "validation_fraction": 0.0}
    assert labelled(manifest(items), **data) == {"jump/01.mp4"}


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.label_list=.*none\.txt: no such file"):
        split(WHOLE, Data(label_list=str(tmp_path / "none.txt")))


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.label_list"):
        split(WHOLE, Data(label_list=listing(tmp_path, "", "")))


def shared(*parts: str) -> Path:
    default = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("BGAN_SHARED_DATA", default)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path}; set BGAN_SHARED_DATA")
    return path


def ucf101(fold: int = 1) -> Manifest:
    """UCF101 as its lists have it, read here without the project's parser."""
    folder = shared("ucf101_sample", "ucfTrainTestlist")
    classes = [line.split()[1] for line in (folder / "classInd.txt").read_text().splitlines()]
    items = []
    for part in ("train", "test"):
        for line in (folder / f"{part}list{fold:02d}.txt").read_text().split():
            if "/" in line:
                name, file = line.split("/")
                group = file.removesuffix(".avi").rsplit("_", 2)[1]
                items.append(Item(line, classes.index(name), group, part))  # type: ignore[arg-type]
    return Manifest("ucf101", "root", fold, tuple(classes), tuple(items))


@pytest.mark.shared
@pytest.mark.parametrize(("percent", "videos"), [(5, 476), (10, 953), (20, 1907), (50, 4768)])
def test_the_published_ucf101_subsets_read(percent: int, videos: int) -> None:
    name = f"ucf101_train_{percent}_percent_labeled_split_1_rawframes.txt"
    file = shared("videossl_label_lists", "ucf101", "videossl_splits", name)
    parts = split(ucf101(), Data(label_list=str(file), validation_fraction=0.0))
    assert len(parts.labelled) == videos
    listed = [line.split() for line in file.read_text().splitlines()]
    assert {Path(i.path).stem: i.label for i in parts.labelled} == {
        path.split("/")[1]: int(label) for path, _, label in listed
    }


@pytest.mark.shared
def test_a_published_list_of_one_fold_is_refused_in_another() -> None:
    name = "ucf101_train_50_percent_labeled_split_1_rawframes.txt"
    file = shared("videossl_label_lists", "ucf101", "videossl_splits", name)
    with pytest.raises(UserError, match=r"is a test video \(fold 2\)"):
        split(ucf101(2), Data(label_list=str(file)))


@pytest.mark.shared
def test_validation_of_ucf101_is_whole_groups_of_every_class() -> None:
    parts = split(ucf101(), Data(labels_per_class=10))
    held, kept = ({i.group for i in parts.part(p)} for p in ("validation", "train"))
    assert held
    assert not held & kept
    assert {i.label for i in parts.part("validation")} == set(range(101))
    assert len(parts.labelled) == 1010


def test_a_manifest_keeps_its_splits_on_disk() -> None:
    parts = split(WHOLE, Data(labels_per_class=2))
    assert Manifest.from_json(parts.to_json()) == parts
    other = dataclasses.replace(parts.items[0], num_frames=7)
    changed = parts.replace((other, *parts.items[1:])).to_json().splitlines()
    assert sum(a != b for a, b in zip(changed, parts.to_json().splitlines(), strict=True)) == 1
