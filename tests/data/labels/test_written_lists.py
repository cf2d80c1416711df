"""Label lists as systems and spreadsheets leave them behind: all say what the plain one says."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.data.labels.choice import remarks
from bgan_video.data.splits import split
from bgan_video.errors import UserError

PATHS = [f"{name}/v{n:02d}.mp4" for name in ("läuft", "steht") for n in range(10)]
PLAIN = "".join(f"{row}\r\n" for row in ["path,label", *(f"{p},{p.split('/')[0]}" for p in PATHS)])


@pytest.fixture
def data(tmp_path: Path) -> Data:
    for path in (*PATHS, "unlabelled/u0.mp4"):
        (tmp_path / "videos" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / path).touch()
    return Data(layout="video_folder", root=str(tmp_path / "videos"), validation_fraction=0)


def labelled(content: bytes, data: Data, folder: Path) -> dict[str, int]:
    file = folder / "labels.csv"
    file.write_bytes(content)
    data = dataclasses.replace(data, label_list=str(file))
    return {i.path: i.label for i in split(layouts.read(data), data).labelled}


CHANGES: dict[str, Callable[[str], bytes]] = {
    "semicolon": lambda t: t.replace(",", ";").encode("utf-8-sig"),
    "tab": lambda t: t.replace(",", "\t").encode(),
    "header": lambda t: t.replace("path,label", "Path, LABEL ").encode(),
    "blanks": lambda t: t.replace(",", " , ").encode(),
    "utf16": lambda t: t.encode("utf-16"),
    "backslash": lambda t: t.replace("/", "\\").encode(),
    "decomposed": lambda t: unicodedata.normalize("NFD", t).encode(),
    "taken for a code page": lambda t: t.replace("läuft/", "lÃ¤uft/").encode("utf-8-sig"),
    "all of it": lambda t: t.replace("läuft", "lÃ¤uft").encode("utf-8-sig"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_list_is_read_however_it_was_saved(
    change: Callable[[str], bytes], data: Data, tmp_path: Path
) -> None:
    plain = labelled(PLAIN.encode(), data, tmp_path)
    assert len(plain) == 16, "those that are not tested"
    assert labelled(change(PLAIN), data, tmp_path) == plain


def test_a_list_of_paths_may_have_the_slashes_of_windows(data: Data, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("läuft\\v04.mp4\nsteht\\v05 12 1\n")
    data = dataclasses.replace(data, label_list=str(file))
    found = split(layouts.read(data), data)
    kept = {i.path for i in found.part("train")} & {"läuft/v04.mp4", "steht/v05.mp4"}
    assert {i.path for i in found.labelled} == kept


def test_another_code_page_is_told_for_what_it_is(data: Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.csv:2: not UTF-8; save the file as UTF-8"):
        labelled(PLAIN.encode("cp1252"), data, tmp_path)


def test_a_class_whose_only_video_is_tested_is_told_so(tmp_path: Path) -> None:
    for path in (*PATHS, "up/v.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    said: list[str] = []
    for fold in range(1, 6):
        data = Data(layout="video_folder", root=str(tmp_path), labels_per_class=1, fold=fold)
        try:
            split(layouts.read(data), data)
        except UserError as error:
            said.append(str(error))
    (line,) = said
    assert "class 'up' has 1 video (up/v.mp4 in test)" in line
    assert "another data.fold" in line
    assert "data.layout=table" in line


def test_folders_that_differ_in_case_alone_are_asked_about(tmp_path: Path) -> None:
    for name in ("Right", "right", "left"):
        (tmp_path / name).mkdir()
        for number in range(5):
            (tmp_path / name / f"{number}.mp4").touch()
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this disk knows no case")
    data = Data(layout="video_folder", root=str(tmp_path))
    found = split(layouts.read(data), data)
    (line,) = remarks(found, data)
    assert "classes 'Right', 'right' differ in case or accents alone" in line
