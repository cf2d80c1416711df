"""Files of predictions: a line a file, and on where a kill left them."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from pathlib import Path

import pytest

from bgan_video.errors import UserError
from bgan_video.files import written
from bgan_video.prediction.outputs import Output, record
from bgan_video.prediction.video_files import Unreadable, VideoPrediction, Window

CLASSES = ("läuft", "steht, still")
RUN = "hands-2 0a1b2c3d"


def said(path: str, p: float = 0.75) -> VideoPrediction:
    window = Window(0, 20, [p, 1 - p], None, 0.5, 0.1, 0.0, 0.8)
    return VideoPrediction(path, 20, [p, 1 - p], None, 0.5, 0.1, False, [window])


FOUND = [
    said("a, b.mp4"),
    Unreadable("c.mp4", 'it says "no"'),
    said('d\n"one".mp4', 0.25),
    said("e.mp4"),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_is_there_is_known_and_a_torn_line_is_dropped(suffix: str, tmp_path: Path) -> None:
    whole, torn = tmp_path / f"whole{suffix}", tmp_path / f"torn{suffix}"
    for found in FOUND:
        Output(whole, RUN, CLASSES).add(found)
    content = whole.read_bytes()
    for cut in (*range(0, len(content), 11), len(content)):
        torn.write_bytes(content[:cut])
        again = Output(torn, RUN, CLASSES)
        left = again.left([Path(found.path) for found in FOUND])
        assert {*map(str, left)} == {found.path for found in FOUND} - again.done
        for found in FOUND:
            if Path(found.path) in left:
                again.add(found)
        # What did not read was tried again, and stands below.
        assert sorted(torn.read_bytes()) == sorted(content)
        assert Output(torn, RUN, CLASSES).done == {f.path for f in FOUND if f != FOUND[1]}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_name_that_is_not_utf_8_is_a_line_too_and_known_again(
    suffix: str, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    out = Output(tmp_path / f"x{suffix}", RUN, CLASSES)
    out.add(said(name))
    out.add(Unreadable(name, f"{name}: no video"))
    again = Output(tmp_path / f"x{suffix}", RUN, CLASSES)
    assert again.done == {written(name)}
    assert again.left([Path(name)]) == []
    assert written(name) == "caf\\udce9.mp4"
    assert written("läuft.mp4") == "läuft.mp4"


def test_a_table_has_a_column_a_class_and_the_mark_of_spreadsheets(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    out = Output(file, RUN, CLASSES)
    for found in FOUND:
        out.add(found)
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = list(csv.DictReader(text))
    assert [row["class"] for row in rows] == ["läuft", "", "steht, still", "läuft"]
    assert {row["run"] for row in rows} == {RUN}
    assert rows[0]["p(läuft)"] == rows[0]["probability"] == "0.750000"
    assert rows[0]["p_fake"] == ""
    assert rows[0]["unfamiliar"] == "False"
    assert rows[1]["error"] == 'it says "no"'


BODIES = ("dcgan", "features:a")


def of_two(path: str) -> VideoPrediction:
    alone = dict(zip(BODIES, ([0.6, 0.4], [0.25, 0.75]), strict=True))
    return dataclasses.replace(said(path), bodies=alone)


def test_a_table_of_several_bodies_has_what_each_says_alone(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    out = Output(file, RUN, CLASSES, BODIES)
    for found in (of_two("a.mp4"), FOUND[1]):
        out.add(found)
    with file.open(newline="", encoding="utf-8-sig") as text:
        first, broken = csv.DictReader(text)
    assert (first["class"], first["class(dcgan)"]) == ("läuft", "läuft")
    assert first["class(features:a)"] == "steht, still"
    assert [first[f"probability({name})"] for name in BODIES] == ["0.600000", "0.750000"]
    assert broken["class(dcgan)"] == broken["probability(dcgan)"] == ""
    assert Output(file, RUN, CLASSES, BODIES).done == {"a.mp4"}
    with pytest.raises(UserError, match="other classes, bodies"):
        Output(file, RUN, CLASSES)


def test_json_tells_of_bodies_only_where_there_are_several() -> None:
    found = record(of_two("a.mp4"), CLASSES)
    assert found["class"] == "läuft"
    assert found["bodies"]["features:a"] == {
        "class": "steht, still",
        "probabilities": [0.25, 0.75],
    }
    assert "bodies" not in record(said("a.mp4"), CLASSES)


def test_lines_are_what_json_prints(tmp_path: Path) -> None:
    out = Output(tmp_path / "x.jsonl", RUN, CLASSES)
    for found in FOUND:
        out.add(found)
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert records[0]["class"] == "läuft"
    assert records[0]["windows"][0]["end_seconds"] == 0.8
    assert records[1]["error"] == 'it says "no"'


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    "content", ["something else\n", '{"path": "a"}\n', "[1]\n", "one line", '"a\nb', "é\n"]
)
def test_another_file_is_left_alone(suffix: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_text(content)
    with pytest.raises(UserError, match="holds something else"):
        Output(file, RUN, CLASSES)
    assert file.read_text() == content


def test_predictions_of_other_classes_are_left_alone(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl"):
        Output(tmp_path / f"x{suffix}", RUN, CLASSES).add(FOUND[0])
        with pytest.raises(UserError, match="other classes"):
            Output(tmp_path / f"x{suffix}", RUN, ("a", "b"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_predictions_of_another_run_are_left_alone(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"x{suffix}"
    Output(file, RUN, CLASSES).add(FOUND[0])
    before = file.read_bytes()
    with pytest.raises(UserError, match="has predictions of run hands-2 0a1b2c3d, not of hands-3"):
        Output(file, "hands-3 00000000", CLASSES)
    assert file.read_bytes() == before


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_did_not_read_is_kept_until_it_is_tried_again(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"x{suffix}"
    for found in FOUND:
        Output(file, RUN, CLASSES).add(found)
    assert Output(file, RUN, CLASSES).left([Path("new.mp4")]) == [Path("new.mp4")]
    assert "it says" in file.read_text()
    assert Output(file, RUN, CLASSES).left([Path("e.mp4"), Path("c.mp4")]) == [Path("c.mp4")]
    assert "it says" not in file.read_text()


@pytest.mark.parametrize("name", ["x.txt", "x", "none/x.csv"])
def test_what_cannot_be_an_output(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--out="):
        Output(tmp_path / name, RUN, CLASSES)
