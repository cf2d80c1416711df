"""Suggestions for other programs, and their answers back in the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from bgan_video.acquisition.notes import NONE_OF_THESE, SKIPPED, answer_of
from bgan_video.acquisition.suggestions import Suggestion, read_rows, suggested_rows, write_rows
from bgan_video.errors import UserError
from bgan_video.labelling import formats
from bgan_video.labelling.answers import fill, held

CLASSES = ("bend", 'say "hi" & <go>')
HURTS = "un labelled/ünï & co #1?%20.avi"
PART = "film.mp4#t=30,40"


def suggestion(rank: int, path: str, guess: str | None = None, *copies: str) -> Suggestion:
    told = (guess, None if guess is None else 0.75, None, None, None)
    return Suggestion(rank, path, "", *told, copies)


CHOSEN = [
    suggestion(1, HURTS, CLASSES[1], "copy.avi"),
    suggestion(2, PART, "bend"),
    suggestion(3, "c.avi"),
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "next.csv"
    write_rows(file, [*suggested_rows(CHOSEN), {"path": "old.avi", "label": "bend"}])
    return file


def answers(table: Path) -> dict[str, str]:
    return {row["path"]: answer_of(row) for row in read_rows(table)}


def exported(given: dict[str, list[str] | None]) -> list[dict[str, Any]]:
    """What Label Studio exports: tasks with annotations; None where one was skipped."""
    tasks = []
    for path, choices in given.items():
        result = {
            "from_name": "label",
            "to_name": "video",
            "type": "choices",
            "value": {"choices": choices},
        }
        annotation = {"was_cancelled": choices is None, "result": [result] if choices else []}
        tasks.append({"id": 1, "data": {"path": path}, "annotations": [annotation]})
    return tasks


def saved(tmp_path: Path, found: Any) -> Path:
    file = tmp_path / "project.json"
    file.write_text(json.dumps(found))
    return file


def test_label_studio_gets_addresses_that_lead_to_the_videos(table: Path, tmp_path: Path) -> None:
    tasks, interface = formats.write("label-studio", CHOSEN, table, tmp_path, CLASSES)
    found = json.loads(tasks.read_text())
    addresses = [urlsplit(task["data"]["video"]) for task in found]
    assert [a.path for a in addresses] == ["/data/local-files/"] * 3
    assert [parse_qs(a.query)["d"] for a in addresses] == [[HURTS], ["film.mp4"], ["c.avi"]]
    assert [a.fragment for a in addresses] == ["", "t=30,40", ""]
    assert [task["data"]["path"] for task in found] == [HURTS, PART, "c.avi"]

    view = ElementTree.fromstring(interface.read_text())
    offered = [choice.attrib["value"] for choice in view.iter("Choice")]
    assert offered == [*CLASSES, NONE_OF_THESE]
    (guess,) = found[0]["predictions"][0]["result"]
    (choices,) = view.iter("Choices")
    assert (guess["from_name"], guess["to_name"]) == (
        choices.attrib["name"],
        choices.attrib["toName"],
    )
    assert guess["value"]["choices"] == [CLASSES[1]]
    assert found[0]["predictions"][0]["score"] == 0.75
    assert "predictions" not in found[2]


def test_label_studios_answers_come_back_for_near_copies_too(table: Path, tmp_path: Path) -> None:
    given = {HURTS: [CLASSES[1]], PART: [NONE_OF_THESE], "c.avi": None}
    assert fill(table, formats.read(saved(tmp_path, exported(given)))) == (3, 0)
    assert answers(table) == {
        HURTS: f"label:{CLASSES[1]}",
        "copy.avi": f"label:{CLASSES[1]}",
        PART: NONE_OF_THESE,
        "c.avi": SKIPPED,
        "old.avi": "label:bend",
    }


def test_json_min_serves_as_well(table: Path, tmp_path: Path) -> None:
    file = saved(tmp_path, [{"id": 3, "path": PART, "label": "bend"}, {"id": 4, "path": "c.avi"}])
    assert fill(table, formats.read(file)) == (1, 2)
    assert answers(table)[PART] == "label:bend"


def test_fiftyone_gets_files_and_guesses(table: Path, tmp_path: Path) -> None:
    (folder,) = formats.write("fiftyone", CHOSEN, table, tmp_path / "videos", CLASSES)
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert samples[0]["filepath"] == str(tmp_path / "videos" / HURTS)
    assert samples[1]["filepath"] == str(tmp_path / "videos" / "film.mp4")
    assert samples[1]["guess"] == {
        "_cls": "Classification",
        "tags": [],
        "label": "bend",
        "confidence": 0.75,
    }
    assert "guess" not in samples[2]
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata == {"info": {"classes": list(CLASSES)}}


def test_fiftyones_labels_and_tags_come_back(table: Path, tmp_path: Path) -> None:
    (folder,) = formats.write("fiftyone", CHOSEN, table, tmp_path, CLASSES)
    file = folder / "samples.json"
    samples = json.loads(file.read_text())["samples"]
    samples[0]["ground_truth"] = {"_cls": "Classification", "label": CLASSES[1], "tags": []}
    samples[1]["tags"] = ["bend"]
    file.write_text(json.dumps({"samples": samples}))
    assert formats.read(folder) == formats.read(file)
    assert fill(table, formats.read(folder)) == (2, 1)
    assert answers(table)[HURTS] == answers(table)["copy.avi"] == f"label:{CLASSES[1]}"
    assert answers(table)[PART] == "label:bend"


def test_the_same_answers_again_change_nothing(table: Path, tmp_path: Path) -> None:
    file = saved(tmp_path, exported({PART: ["bend"]}))
    fill(table, formats.read(file))
    before = table.read_bytes()
    assert fill(table, formats.read(file)) == (0, 2)
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (exported({"strange.avi": ["bend"]}), "does not ask for strange.avi"),
        (exported({"old.avi": ["bend"]}), "does not ask for old.avi"),
        (
            [*exported({PART: ["bend"]}), *exported({PART: ["walk"]})],
            "has the answers bend and walk",
        ),
        (exported({PART: ["bend", "walk"]}), "no single class"),
        ([{"path": PART, "label": {"choices": ["bend", "walk"]}}], "no single class"),
        ([{"data": {"video": "x"}, "annotations": []}], "an item of it has no path"),
        ([3], "an item of it has no path"),
        ({"videos": []}, "neither Label Studio's JSON export nor"),
        ("text", "neither Label Studio's JSON export nor"),
        ({"samples": [{"path": PART, "tags": ["bend", "walk"]}]}, "no single class"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_table_kept(
    found: Any, message: str, table: Path, tmp_path: Path
) -> None:
    before = table.read_bytes()
    with pytest.raises(UserError, match=message) as refused:
        fill(table, formats.read(saved(tmp_path, found)))
    assert "\n" not in str(refused.value)
    assert table.read_bytes() == before


def test_another_answer_is_not_overwritten(table: Path, tmp_path: Path) -> None:
    fill(table, formats.read(saved(tmp_path, exported({PART: ["bend"]}))))
    before = table.read_bytes()
    given = {HURTS: [CLASSES[0]], PART: [CLASSES[1]]}
    with pytest.raises(UserError, match=f"has the answer bend for {PART}"):
        fill(table, formats.read(saved(tmp_path, exported(given))))
    assert table.read_bytes() == before


def test_names_that_a_table_cannot_write_are_found_in_it(tmp_path: Path) -> None:
    path, name = "run  /cafe\u0301.avi ", "cafe\u0301 "
    table = tmp_path / "next.csv"
    write_rows(table, suggested_rows([suggestion(1, path)]))
    assert fill(table, formats.read(saved(tmp_path, exported({path: [name]})))) == (1, 0)
    assert fill(table, formats.read(saved(tmp_path, exported({path: [name]})))) == (0, 0)
    assert list(answers(table).values()) == ["label:caf\xe9"]


def test_not_while_a_page_is_open(table: Path, tmp_path: Path) -> None:
    with held(table), pytest.raises(UserError, match="is open on"):
        fill(table, {})


@pytest.mark.parametrize(
    "spoil", [lambda f: f.unlink(), lambda f: f.write_text("{"), lambda f: f.write_bytes(b"\xff")]
)
def test_what_does_not_read_is_one_line(spoil: Callable[[Path], Any], tmp_path: Path) -> None:
    file = saved(tmp_path, [])
    spoil(file)
    with pytest.raises(UserError, match=r"project\.json does not read"):
        formats.read(file)


def test_formats_are_checked() -> None:
    assert formats.check_format("fiftyone") == "fiftyone"
    with pytest.raises(UserError, match="--format=xml; allowed: csv, label-studio, fiftyone"):
        formats.check_format("xml")
