"""What a person answers is on the disk, once, in the right place."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bgan_video.acquisition.suggestions import Suggestion
from bgan_video.config import Data
from bgan_video.data import layouts, splits
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError
from bgan_video.labelling.answers import Answers, ConflictError, held

ITEMS = tuple(Item(f"unlabelled/{n}.avi", -1, f"g{n}", "train") for n in ("a", "b", "c", "d", "e"))
MANIFEST = Manifest("test", "root", 1, ("bend", "walk"), ITEMS)


def suggestion(name: str, *copies: str) -> Suggestion:
    path = f"unlabelled/{name}.avi"
    near = tuple(f"unlabelled/{copy}.avi" for copy in copies)
    return Suggestion(1, path, f"g{name}", None, None, None, None, None, near)


def asked(tmp_path: Path) -> Answers:
    answers = Answers(tmp_path / "labels.csv", MANIFEST)
    answers.extend([suggestion("a", "b"), suggestion("c")])
    return answers


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        return {row["path"]: row for row in csv.DictReader(text)}


def test_each_answer_is_on_the_disk_and_a_label_answers_for_copies(tmp_path: Path) -> None:
    answers = asked(tmp_path)
    answers.answer("unlabelled/a.avi", "label:walk", "")
    rows = rows_of(answers.file)
    assert [rows[f"unlabelled/{n}.avi"]["label"] for n in "abc"] == ["walk", "walk", ""]
    answers.answer("unlabelled/c.avi", "none of these", "")
    assert rows_of(answers.file)["unlabelled/c.avi"]["note"] == "none of these"
    assert not answers.open
    assert answers.counts == {"walk": 2}


def test_an_answer_taken_back_leaves_nothing(tmp_path: Path) -> None:
    answers = asked(tmp_path)
    before = answers.file.read_text()
    answers.answer("unlabelled/a.avi", "label:walk", "")
    answers.answer("unlabelled/c.avi", "skipped", "")
    assert answers.last == {"path": "unlabelled/c.avi", "answer": "skipped"}
    answers.answer("unlabelled/c.avi", "", "skipped")
    assert answers.last == {"path": "unlabelled/a.avi", "answer": "label:walk"}
    answers.answer("unlabelled/a.avi", "", "label:walk")
    assert answers.last is None
    assert answers.file.read_text() == before


def test_of_two_tabs_the_later_one_is_told(tmp_path: Path) -> None:
    answers = asked(tmp_path)
    answers.answer("unlabelled/a.avi", "label:walk", "")
    with pytest.raises(ConflictError, match="another tab"):
        answers.answer("unlabelled/a.avi", "label:bend", "")
    answers.answer("unlabelled/a.avi", "label:walk", "")  # the same again does no harm
    assert rows_of(answers.file)["unlabelled/a.avi"]["label"] == "walk"


def test_what_another_program_wrote_is_not_overwritten(tmp_path: Path) -> None:
    answers = asked(tmp_path)
    written = answers.file.read_text() + "unlabelled/e.avi,bend\n"
    answers.file.write_text(written)
    with pytest.raises(ConflictError, match="another program"):
        answers.answer("unlabelled/a.avi", "label:walk", "")
    with pytest.raises(ConflictError, match="another program"):
        answers.extend([suggestion("d")])
    assert answers.file.read_text() == written


def test_the_work_goes_on_where_it_was_left(tmp_path: Path) -> None:
    asked(tmp_path).answer("unlabelled/a.avi", "label:walk", "")
    again = Answers(tmp_path / "labels.csv", MANIFEST)
    assert [row["path"] for row in again.open] == ["unlabelled/c.avi"]
    again.extend([suggestion("d")])
    assert [row["rank"] for row in again.asked] == ["1", "2", "3"]
    assert again.known() == {
        "unlabelled/a.avi": True,
        "unlabelled/b.avi": True,
        "unlabelled/c.avi": False,
        "unlabelled/d.avi": False,
    }


def test_a_table_of_other_videos_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label,rank\nelsewhere.avi,,1\n")
    with pytest.raises(UserError, match="elsewhere"):
        Answers(file, MANIFEST)
    file.write_text("path,label\nelsewhere.avi,walk\n")
    with pytest.raises(UserError, match="no table of suggestions"):
        Answers(file, MANIFEST)


def test_a_table_knows_its_own_videos_whatever_their_names_are_written_in(tmp_path: Path) -> None:
    """Accents in two signs and outer blanks, which a table does not keep."""
    paths, name = ("unlabelled/cafe\u0301.avi", " blank.avi "), "Cafe\u0301"
    items = tuple(Item(path, -1, "g", "train") for path in paths)
    manifest = Manifest("test", "root", 1, (name, "walk"), items)
    chosen = [Suggestion(1, path, "g", name, 0.5, None, None, None) for path in paths]
    first = Answers(tmp_path / "labels.csv", manifest)
    first.extend(chosen)
    first.answer(paths[0], f"label:{name}", "")
    again = Answers(first.file, manifest)
    assert [row["path"] for row in again.asked] == [*paths]
    assert again.counts == {name: 1}
    assert again.open[0]["predicted"] == name
    again.answer(paths[1], "label:walk", "")
    assert Answers(first.file, manifest).known() == dict.fromkeys(paths, True)


def test_of_two_names_that_a_table_cannot_tell_it_means_the_one_that_it_can_write(
    tmp_path: Path,
) -> None:
    items = tuple(Item(p, -1, "g", "train") for p in ("caf\xe9.avi", "cafe\u0301.avi"))
    file = tmp_path / "labels.csv"
    file.write_text("path,label,rank\ncaf\xe9.avi,,1\n", encoding="utf-8")
    asked_for = Answers(file, Manifest("test", "root", 1, ("bend",), items)).asked
    assert [row["path"] for row in asked_for] == ["caf\xe9.avi"]


def test_a_table_that_cannot_be_written_is_told_and_nothing_is_asked(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "gone" / "labels.csv", MANIFEST)
    with pytest.raises(UserError, match=r"labels\.csv cannot be written: No such file"):
        answers.extend([suggestion("a")])
    assert answers.asked == []


def test_a_table_is_one_pages_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "labels.csv"), pytest.raises(UserError, match="another bgan-video label"):
        held(tmp_path / "labels.csv").__enter__()


def test_a_run_reads_the_table_of_a_folder_without_classes(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    for n in "abc":
        (root / f"{n}.avi").write_bytes(b"x")
    manifest = layouts.read(Data(layout="video_folder", root=str(root)))
    assert manifest.classes == ()
    answers = Answers(tmp_path / "labels.csv", manifest)
    answers.extend(
        [Suggestion(1, f"{n}.avi", n, None, None, None, None, None) for n in ("a", "b", "c")]
    )
    answers.answer("a.avi", "label:it's, <b>", "")
    answers.answer("b.avi", "label:wave", "")
    data = Data(
        layout="video_folder",
        root=str(root),
        classes=("it's, <b>", "wave"),
        label_list=str(answers.file),
    )
    labelled = splits.split(layouts.read(data), data).labelled
    assert {i.path: data.classes[i.label] for i in labelled} == {
        "a.avi": "it's, <b>",
        "b.avi": "wave",
    }
    with pytest.raises(UserError, match=r"no class.*data\.classes"):
        splits.split(manifest, Data(layout="video_folder", root=str(root)))
