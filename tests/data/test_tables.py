"""Tables: read however people write them, refused where they cannot be meant."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.data.labels.choice import remarks
from bgan_video.data.labels.lists import Listed, read_list
from bgan_video.data.manifest import UNKNOWN, Manifest
from bgan_video.data.spans import Span, joined, parted
from bgan_video.data.splits import split
from bgan_video.errors import UserError

PATHS = [f"{name}/{n}.mp4" for name in ("läuft", "steht") for n in range(10)]
ROWS = [(path, path.split("/")[0]) for path in PATHS]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path in (*PATHS, "other/9.mp4"):
        (tmp_path / "videos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / path).touch()
    return tmp_path / "videos"


def write(root: Path, *rows: str, name: str = "videos.csv", encoding: str = "utf-8") -> str:
    file = root / name
    file.write_bytes("".join(row + "\r\n" for row in rows).encode(encoding))
    return str(file)


def read(file: str | tuple[str, ...], **data: object) -> Manifest:
    return layouts.read(Data(layout="table", table=file, **data))  # type: ignore[arg-type]


def refusal(file: str | tuple[str, ...], **data: object) -> str:
    with pytest.raises(UserError) as caught:
        read(file, **data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- however it is written ---------------------------------------------------------------------


def plain_rows(delimiter: str = ",") -> list[str]:
    return [delimiter.join(cells) for cells in [("path", "label"), *ROWS]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters_make_no_difference(
    encoding: str, delimiter: str, root: Path
) -> None:
    found = read(write(root, *plain_rows(delimiter), encoding=encoding))
    assert found.classes == ("läuft", "steht")
    assert [i.path for i in found.items] == PATHS
    assert [found.classes[i.label] for i in found.items] == [name for _, name in ROWS]


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.replace("/", "\\"),
        lambda row: unicodedata.normalize("NFD", row),
        lambda row: row.replace("path,label", " Path , LABEL "),
        lambda row: row.replace(",", " , "),
        lambda row: row.replace("läuft/", "l\u00c3\u00a4uft/"),
        lambda row: row.replace(".mp4", ".MP4"),
        lambda row: row.replace("path,label", "sep=,\r\npath,label"),
    ],
    ids=["backslash", "decomposed", "header", "blanks", "code page", "case", "sep"],
)
def test_what_systems_and_spreadsheets_do_makes_no_difference(change: object, root: Path) -> None:
    rows = [change(row) for row in plain_rows()]  # type: ignore[operator]
    assert read(write(root, *rows)) == read(write(root, *plain_rows()))


def test_files_with_decomposed_names_are_found(tmp_path: Path) -> None:
    """As a disk of macOS has them."""
    names = [unicodedata.normalize("NFD", path) for path in PATHS]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = read(write(tmp_path, *plain_rows()))
    assert [i.path for i in found.items] == names
    assert found.classes == ("läuft", "steht")


def test_paths_may_be_absolute_or_lead_out_of_the_tables_folder(root: Path) -> None:
    table = root / "tables"
    table.mkdir()
    rows = [f"../{path},{name}" for path, name in ROWS[:10]]
    rows += [f"{root / path},{name}" for path, name in ROWS[10:]]
    found = read(write(table, "path,label", *rows))
    assert found.root == str(root)
    assert [i.path for i in found.items] == PATHS
    assert "lies outside data.root" in refusal(
        write(table, "path,label", *rows), root=str(root / "läuft")
    )


def test_a_name_alone_is_looked_for_at_any_depth(root: Path) -> None:
    (root / "läuft" / "deep").mkdir()
    (root / "läuft" / "deep" / "abc.webm").touch()
    found = read(write(root, *plain_rows(), "abc,läuft", "nowhere,steht"))
    assert [i.path for i in found.items[-2:]] == ["läuft/deep/abc.webm", "nowhere"]


# --- columns -----------------------------------------------------------------------------------


def test_every_column_is_used(root: Path) -> None:
    found = read(
        write(
            root,
            "weight,path,label,split,group,start,end,notes",
            "2,läuft/0.mp4,läuft,train,anna,,,x",
            "0.5,läuft/1.mp4,läuft,val,bob,1.5,1:02.25,",
            ",steht/0.mp4,steht,TEST,,0,3,",
            ",steht/1.mp4,steht,training,,4,,",
            ",steht/2.mp4,läuft,unlabeled,,,,",
            ",steht/3.mp4,,,,,,",
        )
    )
    assert [(i.path, i.label, i.split, i.group, i.weight) for i in found.items] == [
        ("läuft/0.mp4", 0, "train", "anna", 2.0),
        ("läuft/1.mp4#t=1.5,62.25", 0, "validation", "bob", 0.5),
        ("steht/0.mp4#t=0,3", 1, "test", "steht/0", 1.0),
        ("steht/1.mp4#t=4", 1, "train", "steht/1", 1.0),
        ("steht/2.mp4", UNKNOWN, "train", "steht/2", 1.0),
        ("steht/3.mp4", UNKNOWN, "train", "steht/3", 1.0),
    ]


def test_several_parts_of_a_video_are_items_of_one_group(root: Path) -> None:
    rows = ["läuft/0.mp4,läuft,0,2", "läuft/0.mp4,steht,2,4", *(f"{p},{n},," for p, n in ROWS[1:])]
    found = read(write(root, "path,label,start,end", *rows))
    assert found.items[0].group == found.items[1].group == "läuft/0"
    assert found.items[0].split == found.items[1].split
    assert [i.label for i in found.items[:2]] == [0, 1]


@given(
    st.text(min_size=1),
    st.floats(0, 1e5),
    st.none() | st.floats(1e-3, 1e5),
)
def test_a_part_is_read_back_from_its_path(file: str, start: float, length: float | None) -> None:
    file = parted(file)[0]
    end = None if length is None else start + length
    back, span = parted(joined(file, Span(start, end)))
    assert back == file
    assert span is not None
    assert span.start == pytest.approx(start, abs=6e-4)
    assert (span.end is None) == (end is None)
    assert span.end is None or span.end == pytest.approx(end, abs=6e-4)


def test_without_a_split_five_folds_by_group(root: Path) -> None:
    tested: list[str] = []
    for fold in range(1, 6):
        found = read(write(root, *plain_rows()), fold=fold)
        assert {i.label for i in found.part("test")} == {0, 1}
        tested += [i.path for i in found.part("test")]
    assert sorted(tested) == sorted(PATHS)
    assert "allowed: 1..5" in refusal(write(root, *plain_rows()), fold=6)


def test_tables_named_by_their_split_are_that_split(root: Path) -> None:
    half = len(ROWS) // 2
    rows = [f"{path},{label}" for path, label in (*ROWS[::2], *ROWS[1::2])]
    train = write(root, "path,label", *rows[:half], name="train.csv")
    test = write(root, "path,label", *rows[half:], name="my_test.csv")
    manifest = read((train, test))
    assert [i.path for i in manifest.part("test")] == [row.split(",")[0] for row in rows[half:]]
    other = write(root, "path,label", *rows[half:], name="other.csv")
    assert "other.csv: no row has a split" in refusal((train, other))
    assert {i.split for i in read((other,)).items} == {"train", "test"}


def test_parts_of_a_video_are_of_one_group(root: Path) -> None:
    rows = [f"{path},{label},,," for path, label in ROWS[1:]]
    parts = [f"{PATHS[0]},läuft,{group},{i},{i + 1}" for i, group in enumerate(["", "anna", ""])]
    header = "path,label,group,start,end"
    manifest = read(write(root, header, *rows, *parts))
    assert {i.group for i in manifest.items if i.path.startswith(PATHS[0])} == {"anna"}
    said = refusal(write(root, header, *rows, *parts, f"{PATHS[0]},läuft,bob,8,9"))
    assert "group bob, where another part" in said


def test_a_folder_with_a_dot_is_no_suffix(root: Path) -> None:
    (root / "v1.0").mkdir()
    for n in range(4):
        (root / "v1.0" / f"clip_{n}").touch()
    rows = [f"v1.0/clip_{n},{'läuft' if n % 2 else 'steht'}" for n in range(4)]
    assert len({i.group for i in read(write(root, "path,label", *rows)).items}) == 4


def test_labels_of_parts_of_parts_are_found_and_others_refused(root: Path) -> None:
    rows = [f"{path},{label},," for path, label in ROWS]
    table = write(root, "path,label,start,end", *rows, "other/9.mp4,,0,100")
    (root / "none.mp4").touch()
    labels = root / "labels.csv"

    def listed(path: str) -> Listed:
        labels.write_text(f'path,label\n"{path}",läuft\n', encoding="utf-8")
        data = Data(layout="table", table=table, label_list=str(labels))
        return read_list(layouts.read(data), data)

    inside = listed("other/9.mp4#t=30,40")
    assert inside.chosen == {"other/9.mp4#t=30,40": 0}
    for path in ("other/9.mp4#t=90,140", "none.mp4"):
        (problem,) = listed(path).problems
        assert "is no video, and no part of one, that data.table names" in problem


def test_a_quote_that_nobody_closes_is_named(root: Path) -> None:
    rows = [f"{path},{label}" for path, label in ROWS]
    rows[3] = rows[3].replace(",", ',"')
    assert "videos.csv:5: not a row of a table" in refusal(write(root, "path,label", *rows))
    rows[-1] += "x" * 140000
    assert "videos.csv:5: not a row of a table" in refusal(write(root, "path,label", *rows))


def own_split(*more: str) -> list[str]:
    return ["path,label,split", *(f"{path},{name},train" for path, name in ROWS[1:-1]), *more]


def test_a_split_of_ones_own_is_kept_and_no_other_carved(root: Path) -> None:
    rows = own_split("läuft/0.mp4,läuft,validation", "steht/9.mp4,steht,validation")
    data = Data(layout="table", table=write(root, *rows))
    found = split(layouts.read(data), data)
    assert [i.path for i in found.part("validation")] == ["läuft/0.mp4", "steht/9.mp4"]
    assert not found.part("test")
    assert any("no test videos: the run is judged on validation" in r for r in remarks(found, data))


def test_without_a_validation_split_one_is_carved(root: Path) -> None:
    rows = own_split("läuft/0.mp4,läuft,test")
    data = Data(layout="table", table=write(root, *rows))
    found = split(layouts.read(data), data)
    assert [i.path for i in found.part("test")] == ["läuft/0.mp4"]
    assert found.part("validation")


# --- what cannot be meant ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["file,label"], "a table has a column path"),
        (["path,lable", "a.mp4,x"], "'lable'; did you mean label?"),
        (["path,label", ",x"], ":2: no path"),
        (["path,label", "a.mp4"], "names 0 classes"),
        (["path,label", "a.mp4,x,y"], ":2: 3 cells, where the header names 2"),
        (["path,label,start", "a.mp4,x,soon"], ":2: start='soon'; allowed: seconds"),
        (["path,label,start,end", "a.mp4,x,4,2"], "from 4 to 2 seconds is empty"),
        (["path,label,weight", "a.mp4,x,-1"], ":2: weight='-1'; allowed: a number from 0"),
        (["path,label,split", "a.mp4,x,tset"], ":2: split 'tset'; allowed: train"),
        (["path,label,split", "a.mp4,x,train", "b.mp4,y,"], ":3: no split, where other rows"),
        (["path,label,split", "a.mp4,x,train", "c.mp4,y,train", "b.mp4,,test"], "needs a label"),
        (["path,label,split", "a.mp4,x,test", "b.mp4,y,val"], "no row with a label has split tr"),
        (["path,label", "a.mp4,x", "b.mp4,y", "a.mp4,x"], ":4: a.mp4 stands at"),
    ],
)
def test_a_wrong_row_is_named(rows: list[str], said: str, root: Path) -> None:
    assert said in refusal(write(root, *rows))


@pytest.mark.parametrize(
    "rows",
    [
        ["a.mp4,run", "b.mp4,jump", "a.mp4,jump"],
        ["a.mp4,run|jump", "b.mp4,jump|walk"],
        ["a.mp4,run", "b.mp4,jump", 'c.mp4,"run, jump"'],
        ["a.mp4,run", "b.mp4,jump", "c.mp4,run+jump"],
        ["a.mp4,\"['run', 'jump']\"", "b.mp4,jump"],
        ['a.mp4,"[1, 0, 1]"', "b.mp4,jump"],
    ],
    ids=["two rows", "bars", "commas", "plus", "list", "one-hot"],
)
def test_several_labels_for_one_video_are_refused_clearly(rows: list[str], root: Path) -> None:
    message = refusal(write(root, "path,label", *rows))
    assert "several labels for one video are not supported" in message
    assert "videos.csv:" in message


def test_names_that_look_joined_and_are_not_are_classes(root: Path) -> None:
    rows = ['a.mp4,"Tipping it over, so it falls out"', "b.mp4,push|pull", "c.mp4,in/out"]
    found = read(write(root, "path,label", *rows))
    assert found.num_classes == 3


def test_a_table_and_its_layout_go_together(root: Path) -> None:
    from bgan_video import config

    for wrong in (["data.layout=table"], ["data.layout=ucf101", "data.table=x.csv"]):
        with pytest.raises(UserError, match=r"data\.table"):
            config.load(None, wrong)
    assert "no such file; see datasets/table.md" in refusal(str(root / "none.csv"))


def test_twins_of_classes_are_asked_about(root: Path) -> None:
    rows = [*plain_rows(), "other/9.mp4,Steht"]
    data = Data(layout="table", table=write(root, *rows), validation_fraction=0)
    found = split(layouts.read(data), data)
    assert found.num_classes == 3
    assert any("'Steht', 'steht' differ in case" in line for line in remarks(found, data))


# --- the tables of others ----------------------------------------------------------------------

KINETICS = [
    "label,youtube_id,time_start,time_end,split",
    '"dancing, fast",-abcdefghij,10,20,train',
    "abseiling,0123456789a,3,13,train",
    "abseiling,whole_video,7,17,validate",
    "abseiling,gone_gone_g,1,11,test",
]


def test_the_table_of_kinetics(tmp_path: Path) -> None:
    for file in (
        "train/dancing, fast/-abcdefghij_000010_000020.mp4",
        "train/0123456789a_000003_000013.webm",
        "whole_video.mkv",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = read(write(tmp_path, *KINETICS))
    assert found.classes == ("abseiling", "dancing, fast")
    assert [(i.path, i.label, i.split, i.group) for i in found.items] == [
        ("train/dancing, fast/-abcdefghij_000010_000020.mp4", 1, "train", "-abcdefghij"),
        ("train/0123456789a_000003_000013.webm", 0, "train", "0123456789a"),
        ("whole_video.mkv#t=7,17", 0, "validation", "whole_video"),
        ("gone_gone_g_000001_000011", 0, "test", "gone_gone_g"),
    ]


def test_the_tables_of_something_something(tmp_path: Path) -> None:
    (tmp_path / "20bn").mkdir()
    for number in range(4):
        (tmp_path / "20bn" / f"{number}.webm").touch()

    def table(split: str, *templates: str, start: int) -> str:
        records = [{"id": str(start + n), "template": t} for n, t in enumerate(templates)]
        file = tmp_path / f"something-something-v2-{split}.json"
        file.write_text(json.dumps(records))
        return str(file)

    files = (
        table("train", "Holding [something]", "Pushing [something] onto [something]", start=0),
        table("validation", "Holding [something]", start=3),
    )
    found = read(files, root=str(tmp_path))
    assert found.classes == ("Holding something", "Pushing something onto something")
    assert [(i.path, i.label, i.split) for i in found.items] == [
        ("20bn/0.webm", 0, "train"),
        ("20bn/1.webm", 1, "train"),
        ("20bn/3.webm", 0, "validation"),
    ]
    (tmp_path / "labels.json").write_text('{"Holding something": "0"}')
    assert "a list of objects" in refusal(str(tmp_path / "labels.json"))
    (tmp_path / "x.json").write_text("[")
    assert "not JSON" in refusal(str(tmp_path / "x.json"))
