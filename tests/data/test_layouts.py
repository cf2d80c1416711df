"""Layouts: official lists parse to the official numbers, and mistakes are named line by line."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bgan_video.config import Data
from bgan_video.data import folds, layouts, splits
from bgan_video.data.manifest import UNKNOWN, VIDEO_SUFFIXES, Manifest
from bgan_video.errors import UserError

CLASSES = ["1 Bend", "2 HandstandPushups"]
TRAIN = [
    "Bend/v_Bend_g08_c01.avi 1",
    "Bend/v_Bend_g08_c02.avi 1",
    "HandstandPushups/v_HandStandPushups_g08_c01.avi 2",
]
TEST = ["Bend/v_Bend_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c01.avi"]


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def ucf(
    root: Path,
    classes: list[str] = CLASSES,
    train: list[str] = TRAIN,
    test: list[str] = TEST,
    end: str = "\n",
) -> Path:
    touch(root, *(line.split()[0] for line in TRAIN + TEST))
    lists = root / "ucfTrainTestlist"
    lists.mkdir(exist_ok=True)
    files = {"classInd.txt": classes, "trainlist01.txt": train, "testlist01.txt": test}
    for name, lines in files.items():
        (lists / name).write_bytes("".join(line + end for line in lines).encode())
    return root


def read(layout: Any, root: Path | str | None, **data: Any) -> Manifest:
    return layouts.read(Data(layout=layout, root=None if root is None else str(root), **data))


def refusal(layout: str, root: Path | str | None, **data: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(layout, root, **data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sides(manifest: Manifest) -> list[tuple[str, int, str, str]]:
    return [(i.path, i.label, i.group, i.split) for i in manifest.items]


# --- UCF101 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ucf101_lists_are_read_line_by_line(tmp_path: Path, end: str) -> None:
    manifest = read("ucf101", ucf(tmp_path, end=end))
    assert manifest.classes == ("Bend", "HandstandPushups")
    assert sides(manifest) == [
        ("Bend/v_Bend_g08_c01.avi", 0, "g08", "train"),
        ("Bend/v_Bend_g08_c02.avi", 0, "g08", "train"),
        ("HandstandPushups/v_HandStandPushups_g08_c01.avi", 1, "g08", "train"),
        ("Bend/v_Bend_g01_c01.avi", 0, "g01", "test"),
        ("HandstandPushups/v_HandStandPushups_g01_c01.avi", 1, "g01", "test"),
    ]
    assert not manifest.labelled


def test_test_lists_may_carry_labels(tmp_path: Path) -> None:
    bare = read("ucf101", ucf(tmp_path))
    with_labels = [f"{line} {i + 1}" for i, line in enumerate(TEST)]
    assert read("ucf101", ucf(tmp_path, test=with_labels)) == bare


def test_a_folder_may_spell_a_name_in_another_case(tmp_path: Path) -> None:
    upper = [line.replace("HandStand", "Handstand") for line in TRAIN]
    manifest = read("ucf101", ucf(tmp_path, train=upper))
    path = manifest.items[2].path
    assert path == "HandstandPushups/v_HandStandPushups_g08_c01.avi"
    assert (tmp_path / path).is_file()


def test_class_folders_may_lie_deeper(tmp_path: Path) -> None:
    lists = ucf(tmp_path / "other") / "ucfTrainTestlist"
    root = touch(tmp_path / "root", f"UCF-101/{TRAIN[0].split()[0]}")
    manifest = read("ucf101", root, lists=str(lists))
    assert manifest.items[0].path == "UCF-101/Bend/v_Bend_g08_c01.avi"


def test_a_video_that_is_missing_keeps_its_path_and_place(tmp_path: Path) -> None:
    whole = read("ucf101", ucf(tmp_path))
    (tmp_path / TRAIN[1].split()[0]).unlink()
    assert read("ucf101", tmp_path) == whole


@pytest.mark.parametrize(
    ("file", "lines", "where", "said"),
    [
        ("train", [TRAIN[0], "Bend/other.avi 1"], "trainlist01.txt:2", "Bend/other.avi 1"),
        ("train", ["v_Bend_g08_c01.avi 1"], "trainlist01.txt:1", "[label]"),
        ("train", ["", "Jump/v_Jump_g08_c01.avi 1"], "trainlist01.txt:2", "'Jump'"),
        ("train", ["Bend/v_Bend_g08_c01.avi 2"], "trainlist01.txt:1", "contradicts classInd.txt"),
        ("test", ["Bend/v_Bend_g01_c01.avi x"], "testlist01.txt:1", "label x"),
        ("classes", ["1 Bend", "3 Handstand"], "classInd.txt:2", "'2 <Class>'"),
        ("classes", ["0 Bend"], "classInd.txt:1", "'1 <Class>'"),
        ("classes", ["Bend"], "classInd.txt:1", "'1 <Class>'"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, file: str, lines: list[str], where: str, said: str
) -> None:
    message = refusal("ucf101", ucf(tmp_path, **{file: lines}))  # type: ignore[arg-type]
    assert f"{where}: " in message
    assert said in message


def test_a_video_in_train_and_test_is_refused(tmp_path: Path) -> None:
    message = refusal("ucf101", ucf(tmp_path, test=[TRAIN[0]]))
    assert "Bend/v_Bend_g08_c01.avi is listed 2 times" in message


def test_a_repeated_video_is_counted(tmp_path: Path) -> None:
    twice = [*TRAIN, TRAIN[1], TRAIN[0]]
    assert "Bend/v_Bend_g08_c01.avi is listed 2 times" in refusal(
        "ucf101", ucf(tmp_path, train=twice)
    )


def test_a_fold_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    message = refusal("ucf101", ucf(tmp_path), fold=2)
    assert "data.fold=2" in message
    assert "trainlist02.txt" in message
    assert "trainlist01.txt" in message


def test_missing_lists_say_where_they_were_looked_for(tmp_path: Path) -> None:
    message = refusal("ucf101", touch(tmp_path, "Bend/v_Bend_g08_c01.avi"))
    assert "ucfTrainTestlist" in message
    assert "data.lists" in message
    assert "datasets/ucf101.md" in message


# --- roots -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["ucf101", "hmdb51", "video_folder"])
def test_a_root_must_be_given_and_be_there(tmp_path: Path, layout: str) -> None:
    card = f"datasets/{layout}.md"
    unset, absent = refusal(layout, None), refusal(layout, tmp_path / "none")
    assert "data.root" in unset
    assert f"data.root={tmp_path / 'none'}" in absent
    assert card in unset
    assert card in absent


@pytest.mark.parametrize("layout", ["ucf101", "video_folder"])
@pytest.mark.parametrize(("paths", "found"), [([], "an empty folder"), (["a/b.txt"], "a")])
def test_a_root_without_videos_says_what_is_there(
    tmp_path: Path, layout: str, paths: list[str], found: str
) -> None:
    lists = ucf(tmp_path / "other") / "ucfTrainTestlist"
    (tmp_path / "root").mkdir()
    message = refusal(layout, touch(tmp_path / "root", *paths), lists=str(lists))
    assert "holds no videos" in message
    assert f"data.root={tmp_path / 'root'}" in message
    assert found in message.partition("found ")[2]


# --- HMDB51 ------------------------------------------------------------------------------------

HMDB = {
    "climb": ["April_climb_f_nm_np1_ba_goo_0.avi 1 ", "May_climb_u_cm_np1_le_med_2.avi 2 "],
    "climb_stairs": ["June_climb_stairs_u_nm_np1_ba_goo_0.avi 1 ", "x_climb_stairs_u_1.avi 0 "],
}


def hmdb(root: Path, lists: dict[str, list[str]] = HMDB) -> Path:
    folder = root / "testTrainMulti_7030_splits"
    folder.mkdir(exist_ok=True)
    for name, lines in lists.items():
        (folder / f"{name}_test_split1.txt").write_text("\n".join(lines) + "\n")
        touch(root, *(f"{name}/{line.split()[0]}" for line in lines))
    return root


def test_hmdb51_tags_are_train_test_and_unused(tmp_path: Path) -> None:
    manifest = read("hmdb51", hmdb(tmp_path))
    assert manifest.classes == ("climb", "climb_stairs")
    assert sides(manifest) == [
        ("climb/April_climb_f_nm_np1_ba_goo_0.avi", 0, "climb/April", "train"),
        ("climb/May_climb_u_cm_np1_le_med_2.avi", 0, "climb/May", "test"),
        ("climb_stairs/June_climb_stairs_u_nm_np1_ba_goo_0.avi", 1, "climb_stairs/June", "train"),
    ]


@pytest.mark.parametrize("line", ["a_climb_0.avi", "a_climb_0.avi 3", "a_climb_0.avi one"])
def test_a_wrong_hmdb51_line_is_named(tmp_path: Path, line: str) -> None:
    message = refusal("hmdb51", hmdb(tmp_path, {"climb": [HMDB["climb"][0], line]}))
    assert f"climb_test_split1.txt:2: {line!r}" in message


def test_hmdb51_without_lists_says_what_it_looked_for(tmp_path: Path) -> None:
    message = refusal("hmdb51", hmdb(tmp_path), fold=3)
    assert "*_test_split3.txt" in message
    assert "datasets/hmdb51.md" in message


# --- folders -----------------------------------------------------------------------------------

FOLDER = [f"{name}/person{p}_{take}.mp4" for name in "ab" for p in range(10) for take in range(3)]


def test_folders_are_classes_in_order_and_other_files_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.MP4", "b/deep/1.webm", "a/1.avi", "a/notes.txt", ".cache/x.mp4", "c.mp4")
    manifest = read("video_folder", tmp_path)
    assert manifest.classes == ("a", "b")
    assert [(i.path, i.label) for i in manifest.items] == [
        ("a/1.avi", 0),
        ("b/2.MP4", 1),
        ("b/deep/1.webm", 1),
    ]
    assert [i.group for i in manifest.items] == ["a/1", "b/2", "b/deep/1"]


def test_a_pattern_names_the_group(tmp_path: Path) -> None:
    manifest = read("video_folder", touch(tmp_path, *FOLDER), groups=r"(person\d+)_")
    assert {i.group for i in manifest.items} == {f"person{p}" for p in range(10)}
    assert all(i.group in i.path for i in manifest.items)


def test_a_csv_names_the_group(tmp_path: Path) -> None:
    touch(tmp_path / "root", "a/1.mp4", "b/1.mp4")
    (tmp_path / "groups.csv").write_text('a/1.mp4,anna\r\n"b/1.mp4",bob\r\n')
    manifest = read("video_folder", tmp_path / "root", groups=str(tmp_path / "groups.csv"))
    assert [(i.path, i.group) for i in manifest.items] == [("a/1.mp4", "anna"), ("b/1.mp4", "bob")]


def test_groups_may_be_named_by_a_header(tmp_path: Path) -> None:
    touch(tmp_path / "root", "a/1.mp4", "b/1.mp4")
    file = tmp_path / "groups.csv"

    def groups(*rows: str) -> set[str]:
        file.write_text("".join(row + "\n" for row in rows))
        return {i.group for i in read("video_folder", tmp_path / "root", groups=str(file)).items}

    named = groups("path,session,group", "a/1.mp4,1,anna", "b/1.mp4,1,bob")
    assert named == {"anna", "bob"}
    for rows, said in (
        (("path,session,person", "a/1.mp4,1,anna", "b/1.mp4,1,bob"), "3 columns"),
        (("a/1.mp4,anna", "b/1.mp4,"), r"groups.csv:2: no group"),
        (("a/1.mp4,anna", "b/1.mp4,bob", "a/1.mp4,eve"), "a/1.mp4 is of eve, and of anna"),
    ):
        with pytest.raises(UserError, match=said):
            groups(*rows)


def test_the_folds_of_a_folder_test_every_video_once_and_cut_no_group(tmp_path: Path) -> None:
    touch(tmp_path, *FOLDER)
    tested: Counter[str] = Counter()
    for fold in range(1, folds.NUM_FOLDS + 1):
        manifest = read("video_folder", tmp_path, groups=r"(person\d+)_", fold=fold)
        train, test = ({i.group for i in manifest.part(p)} for p in ("train", "test"))
        assert not train & test
        assert {i.label for i in manifest.part("test")} == {0, 1}
        tested.update(i.path for i in manifest.part("test"))
    assert tested == dict.fromkeys(FOLDER, 1)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("person", "finds no group"),
        (r"(nobody)", "finds no group"),
        ("(", "is not a pattern"),
        ("absent.csv", "no such file"),
    ],
)
def test_groups_that_do_not_read_are_refused(tmp_path: Path, groups: str, said: str) -> None:
    message = refusal("video_folder", touch(tmp_path, *FOLDER), groups=groups)
    assert "data.groups=" in message
    assert said in message


def test_a_csv_without_a_video_names_it(tmp_path: Path) -> None:
    touch(tmp_path / "root", "a/1.mp4", "b/1.mp4")
    (tmp_path / "groups.csv").write_text("a/1.mp4,anna\n")
    message = refusal("video_folder", tmp_path / "root", groups=str(tmp_path / "groups.csv"))
    assert "'b/1.mp4,<group>'" in message


def test_a_class_folder_without_videos_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "'empty'" in refusal("video_folder", touch(tmp_path, "a/1.mp4"))


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled"])
def test_a_misspelt_folder_of_strangers_is_no_class(name: str, tmp_path: Path) -> None:
    message = refusal("video_folder", touch(tmp_path, *FOLDER, f"{name}/1.mp4"))
    assert f"the folder '{name}' would be a class" in message
    assert "rename it" in message


def test_what_a_system_leaves_in_folders_is_no_video(tmp_path: Path) -> None:
    root = touch(tmp_path, *FOLDER, "a/._1.mp4", "__MACOSX/a/._1.mp4", ".cache/1.mp4")
    found = read("video_folder", root)
    assert len(found.items) == sum(path.endswith(VIDEO_SUFFIXES) for path in FOLDER)
    assert not any("._" in item.path for item in found.items)


def test_videos_beside_each_other_are_of_no_class(tmp_path: Path) -> None:
    data = Data(layout="video_folder", root=str(touch(tmp_path, "1.mp4", "2.mp4")))
    manifest = layouts.read(data)
    assert manifest.classes == ()
    assert {(i.path, i.label, i.split) for i in manifest.items} == {
        ("1.mp4", UNKNOWN, "train"),
        ("2.mp4", UNKNOWN, "train"),
    }
    with pytest.raises(UserError, match="bgan-video label"):
        splits.split(manifest, data)


def test_classes_that_no_folder_has_stand_in_order_with_those_of_folders(tmp_path: Path) -> None:
    root = touch(tmp_path, "bend/1.mp4", "wave/2.mp4", "unlabelled/3.mp4")
    data = Data(layout="video_folder", root=str(root), classes=("wave", "point"))
    manifest = layouts.read(data)
    assert manifest.classes == ("bend", "point", "wave")
    named = {i.path: i.label for i in manifest.items}
    assert named == {"bend/1.mp4": 0, "wave/2.mp4": 2, "unlabelled/3.mp4": UNKNOWN}


def test_a_folder_has_no_sixth_fold(tmp_path: Path) -> None:
    assert "allowed: 1..5" in refusal("video_folder", touch(tmp_path, *FOLDER), fold=6)


# --- the official lists ------------------------------------------------------------------------


def shared(*parts: str) -> Path:
    default = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("BGAN_SHARED_DATA", default)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {path}; set BGAN_SHARED_DATA")
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("fold", "train", "test", "tested"),
    [(1, 9537, 3783, (1, 7)), (2, 9586, 3734, (8, 14)), (3, 9624, 3696, (15, 21))],
)
def test_ucf101_has_its_official_splits(
    fold: int, train: int, test: int, tested: tuple[int, int]
) -> None:
    sample = shared("ucf101_sample")
    lists = sample / "ucfTrainTestlist"
    manifest = read("ucf101", sample / "videos", lists=str(lists), fold=fold)
    assert (len(manifest.part("train")), len(manifest.part("test"))) == (train, test)
    assert manifest.num_classes == 101
    first, last = tested
    groups = {f"g{number:02d}" for number in range(first, last + 1)}
    assert {i.group for i in manifest.part("test")} == groups
    assert not groups & {i.group for i in manifest.part("train")}
    assert all(manifest.classes[i.label].casefold() in i.path.casefold() for i in manifest.items)
    there = [i for i in manifest.items if (sample / "videos" / i.path).is_file()]
    assert len(there) == len(list((sample / "videos").glob("*/*.avi")))


@pytest.mark.shared
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_hmdb51_has_its_official_splits(tmp_path: Path, fold: int) -> None:
    lists = shared("hmdb51_splits")
    root = touch(tmp_path, "kick/a.avi")
    manifest = read("hmdb51", root, lists=str(lists), fold=fold)
    assert (len(manifest.part("train")), len(manifest.part("test"))) == (3570, 1530)
    assert manifest.num_classes == 51
    sizes = Counter((i.label, i.split) for i in manifest.items)
    assert set(sizes.values()) == {70, 30}
    names = {i.path for i in manifest.items}
    assert len(names) == 5100
    assert all(path.endswith(".avi") and " " not in path for path in names)


@pytest.mark.shared
def test_real_recordings_are_found_by_their_list(tmp_path: Path) -> None:
    root = shared("weizmann4_ucf_layout")
    manifest = read("ucf101", root / "videos", lists=str(root / "ucfTrainTestlist"))
    assert all((root / "videos" / i.path).is_file() for i in manifest.items)
    train, test = ({i.group for i in manifest.part(p)} for p in ("train", "test"))
    assert train
    assert not train & test
