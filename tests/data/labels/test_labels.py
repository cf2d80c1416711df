"""Labels from a table, classes held out, videos of no known class."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.data.labels.choice import remarks
from bgan_video.data.manifest import UNKNOWN, Item, Manifest
from bgan_video.data.splits import split
from bgan_video.errors import UserError

CLASSES = ("bend", "jump", "walk")


def item(label: int, group: int, of: str = "train") -> Item:
    name = CLASSES[label]
    return Item(f"{name}/{name}_{group}.avi", label, f"g{group}", of)  # type: ignore[arg-type]


KNOWN = [item(k, g, "test" if g < 3 else "train") for k in range(3) for g in range(10)]
STRANGERS = [Item(f"unlabelled/{g}.avi", UNKNOWN, f"g{g}", "train") for g in range(3, 6)]
WHOLE = Manifest("test", "root", 1, CLASSES, (*KNOWN, *STRANGERS))


def table(folder: Path, *rows: str, header: str = "path,label,rank") -> str:
    file = folder / "labels.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(file)


def chosen(label_list: str, **data: object) -> dict[str, int]:
    found = split(WHOLE, Data(label_list=label_list, validation_fraction=0, **data))  # type: ignore[arg-type]
    return {i.path: i.label for i in found.labelled}


def refusal(label_list: str, **data: object) -> str:
    with pytest.raises(UserError) as error:
        chosen(label_list, **data)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- a table of labels -------------------------------------------------------------------------


def test_rows_with_a_label_are_used_and_the_others_passed_over(tmp_path: Path) -> None:
    file = table(tmp_path, "bend/bend_4.avi,bend,1", "jump/jump_5.avi,,2", " walk_7 , walk ,")
    assert chosen(file) == {"bend/bend_4.avi": 0, "walk/walk_7.avi": 2}


def test_columns_may_stand_in_any_order_and_a_spreadsheets_mark_may_come_first(
    tmp_path: Path,
) -> None:
    file = table(tmp_path, "x,bend,bend/bend_4.avi", header="\ufeffgroup,label,path")
    assert chosen(file) == {"bend/bend_4.avi": 0}


def test_a_video_of_no_known_class_gets_the_tables(tmp_path: Path) -> None:
    file = table(tmp_path, "unlabelled/4.avi,walk,", "bend/bend_4.avi,bend,")
    assert chosen(file)["unlabelled/4.avi"] == 2


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("bend/bend_99.avi,bend,", ["labels.csv:2", "bend_99", "not in this data set"]),
        ("bend/bend_1.avi,bend,", ["labels.csv:2", "test video"]),
        ("bend/bend_4.avi,bendd,", ["labels.csv:2", "'bendd'", "did you mean bend"]),
        ("bend/bend_4.avi,sit,", ["labels.csv:2", "known: bend, jump, walk"]),
        ("bend/bend_4.avi,walk,", ["labels.csv:2", "labelled walk", "folder says bend"]),
        ("bend/bend_4.avi,,", ["labels.csv", "labels no training video"]),
    ],
)
def test_a_wrong_row_is_named(row: str, named: list[str], tmp_path: Path) -> None:
    message = refusal(table(tmp_path, row))
    assert all(part in message for part in named), message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("jump/bend_4.avi,jump,", "not in this data set"),  # of another class's folder
        ("walk/4.avi,walk,", "not in this data set"),  # unlabelled/4.avi is another video
    ],
)
def test_a_folder_is_not_passed_over(row: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(table(tmp_path, row))


def test_a_broken_video_is_passed_over_and_named(tmp_path: Path) -> None:
    """Its label must not go to another video of that name, nor stop the run."""
    known = tuple(i for i in WHOLE.items if i.path != "walk/walk_4.avi")
    namesake = Item("unlabelled/walk_4.avi", UNKNOWN, "g4", "train")
    manifest = dataclasses.replace(WHOLE, items=(*known, namesake), broken=("walk/walk_4.avi",))
    for path in ("walk/walk_4.avi", "walk/walk_4", "videos/walk/WALK_4.avi"):
        data = Data(
            label_list=table(tmp_path, f"{path},walk,", "bend/bend_4.avi,bend,"),
            validation_fraction=0,
        )
        found = split(manifest, data)
        assert [i.path for i in found.labelled] == ["bend/bend_4.avi"]
        assert f"1 videos of data.label_list do not read, and are left out: {path}" in remarks(
            found, data
        )


def test_another_encoding_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("path,label\nbend/bend_4.avi,bend\njump/café.avi,jump\n".encode("latin-1"))
    assert re.search(r"labels\.csv:\d: not UTF-8; save the file as UTF-8", refusal(str(file)))


def test_two_labels_for_one_video_are_refused(tmp_path: Path) -> None:
    rows = ["unlabelled/4.avi,walk,", "unlabelled/4.avi,walk,", "unlabelled/4.avi,jump,"]
    assert "labels.csv:4" in refusal(table(tmp_path, *rows))
    assert chosen(table(tmp_path, *rows[:2])) == {"unlabelled/4.avi": 2}


def test_missing_columns_are_named(tmp_path: Path) -> None:
    assert "path,label" in refusal(table(tmp_path, "a,b,c", header="file,class,rank"))


@pytest.mark.parametrize("in_pool", [False, True])
def test_labels_of_a_class_held_out_are_passed_over_and_named(
    tmp_path: Path, in_pool: bool
) -> None:
    for n in range(12):
        for name in ("bend", "jump", "walk"):
            (tmp_path / "root" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / name / f"{n}.mp4").touch()
    own = Data(layout="video_folder", root=str(tmp_path / "root"), validation_fraction=0)
    own = dataclasses.replace(own, held_out="jump", held_out_in_pool=in_pool)
    listed = layouts.read(own)
    given = {name: next(i.path for i in listed.part("train") if name in i.path) for name in CLASSES}
    rows = table(tmp_path, *(f"{path},{name}," for name, path in given.items()))
    own = dataclasses.replace(own, label_list=rows)
    manifest = split(listed, own)
    assert {i.path for i in manifest.labelled} == {given["bend"], given["walk"]}
    (said,) = (line for line in remarks(manifest, own) if "label_list" in line)
    assert said.startswith("1 videos of data.label_list are of classes held out (jump)")


def test_of_ones_own_videos_those_that_are_tested_are_passed_over(tmp_path: Path) -> None:
    """Nobody can know which ones are; of an official split it is the list of another fold."""
    root = tmp_path / "videos"
    for name in ("bend", "walk", "unlabelled"):
        (root / name).mkdir(parents=True)
        for person in range(10):
            (root / name / f"p{person}_{name}.avi").touch()
    rows = [f"bend/p{p}_bend.avi,bend,\nunlabelled/p{p}_unlabelled.avi,walk," for p in range(10)]
    data = Data(
        layout="video_folder",
        root=str(root),
        groups=r"(p\d+)_",
        label_list=table(tmp_path, *rows),
        validation_fraction=0.2,
    )
    found = split(layouts.read(data), data)
    tested, held = (
        {i.group for i in found.part("test")},
        {i.group for i in found.part("validation")},
    )
    # A group with a video of no known class does not validate.
    assert (len(tested), held) == (2, set())
    assert len(found.labelled) == 16
    assert {i.group for i in found.labelled}.isdisjoint(tested)
    (line,) = (one for one in remarks(found, data) if "label_list" in one)
    assert line.startswith("4 videos of data.label_list are tested on in fold 1")


# --- a list of paths ---------------------------------------------------------------------------

BLANKS = [
    Item(f"bend/{name}", 0, name, "train")
    for name in ("clip.mp4", "clip 2.mp4", "clip 2 3.mov", "party.mov")
]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("bend/clip 2.mp4", "bend/clip 2.mp4"),
        ("bend/clip 2", "bend/clip 2.mp4"),
        ("bend/clip.mp4 2", "bend/clip.mp4"),
        ("bend/clip 2 3 7", "bend/clip 2 3.mov"),
        ("bend/clip 2.mp4 120 3", "bend/clip 2.mp4"),
        ("bend/clip.mp4*3", "bend/clip.mp4"),
        ("bend/party", "bend/party.mov"),
        ("party.mov 12", "bend/party.mov"),
        ("frames/party", "bend/party.mov"),
    ],
)
def test_a_path_may_have_blanks_and_end_in_a_number(line: str, path: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(line + "\n")
    manifest = WHOLE.replace((*KNOWN, *BLANKS))
    found = split(manifest, Data(label_list=str(file), validation_fraction=0))
    assert [i.path for i in found.labelled] == [path]


@pytest.mark.parametrize("line", ["bend/clip 4.mp4", "bend/clip x 2", "jump/party.mov"])
def test_a_line_is_not_cut_until_it_fits(line: str, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match=re.escape(f"list.txt:1: {line!r} is not in this data set")):
        split(WHOLE.replace((*KNOWN, *BLANKS)), Data(label_list=str(file)))


def test_a_plain_list_cannot_label_a_video_of_no_known_class(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("unlabelled/4.avi\n")
    assert "no known class" in refusal(str(file))


# --- videos of no known class ------------------------------------------------------------------


@pytest.mark.parametrize("labels", [{}, {"labels_per_class": 2}, {"num_labelled": 7}], ids=str)
def test_strangers_are_never_labelled_and_never_validate(labels: dict[str, int]) -> None:
    for seed in range(20):
        data = Data(label_seed=seed, validation_fraction=0.4, **labels)
        found = split(WHOLE, data)
        assert all(i.label != UNKNOWN for i in found.labelled)
        strangers = [i for i in found.items if i.label == UNKNOWN]
        assert [i.split for i in strangers] == ["train"] * 3
        held = {i.group for i in found.part("validation")}
        assert held
        assert held.isdisjoint(i.group for i in strangers)


def test_the_folder_of_strangers_is_no_class(tmp_path: Path) -> None:
    for name in ("bend", "walk", "unlabelled", "unlabelled/deeper"):
        (tmp_path / name).mkdir()
        for person in range(10):
            (tmp_path / name / f"p{person}_{name.replace('/', '_')}.avi").touch()
    data = Data(layout="video_folder", root=str(tmp_path), groups=r"(p\d+)_")
    found = layouts.read(data)
    assert found.classes == ("bend", "walk")
    strangers = [i for i in found.items if i.label == UNKNOWN]
    test_groups = {i.group for i in found.part("test")}
    assert len(test_groups) == 2
    assert len(strangers) == 2 * (10 - 2), "those recorded with test videos are left out"
    assert all(i.split == "train" and i.group not in test_groups for i in strangers)


# --- classes held out --------------------------------------------------------------------------


def test_a_class_held_out_is_tested_only() -> None:
    found = split(WHOLE, Data(held_out="jump"))
    assert (found.classes, found.open_classes) == (("bend", "walk"), ("jump",))
    unknown = found.part("open")
    assert {i.path for i in unknown} == {
        i.path for i in KNOWN if i.label == 1 and i.split == "test"
    }
    assert {i.label for i in unknown} == {2}
    assert not any("jump/" in i.path for i in found.items if i.split != "open")
    assert all(CLASSES[i.label * 2] in i.path for i in found.part("test"))
    assert len([i for i in found.items if i.label == UNKNOWN]) == 3
    again = Manifest.from_json(found.to_json())
    assert again == found


def test_old_manifests_have_no_open_classes() -> None:
    text = WHOLE.to_json().replace('"open_classes": [], ', "").replace(', "open_classes": []', "")
    assert "open_classes" not in text
    assert Manifest.from_json(text) == WHOLE


@pytest.mark.parametrize(
    ("held_out", "named"),
    [("sit", ["'sit'", "bend, jump, walk"]), ("bend, jump", ["at least two"])],
)
def test_what_cannot_be_held_out(held_out: str, named: list[str]) -> None:
    with pytest.raises(UserError) as error:
        split(WHOLE, Data(held_out=held_out))
    assert all(part in str(error.value) for part in named)


def test_holding_out_does_not_move_the_other_classes_labels() -> None:
    whole = split(dataclasses.replace(WHOLE, items=tuple(KNOWN)), Data(labels_per_class=2))
    held = split(
        dataclasses.replace(WHOLE, items=tuple(KNOWN)), Data(labels_per_class=2, held_out="walk")
    )
    assert {i.path for i in held.labelled} == {i.path for i in whole.labelled if i.label < 2}
