"""No file that the program reads can make it run code."""

from __future__ import annotations

import ast
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bgan_video
from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.files import append_line, read_lines
from bgan_video.models.weights import load_weights
from bgan_video.reports.page import environment

SOURCES = sorted(Path(bgan_video.__file__).parent.rglob("*.py"))
FORBIDDEN = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "yaml.unsafe_load"}


def calls(source: Path) -> list[ast.Call]:
    tree = ast.parse(source.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_loads_what_could_run() -> None:
    for call in (call for source in SOURCES for call in calls(source)):
        name = ast.unparse(call.func)
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert name not in FORBIDDEN, name
        if name == "torch.load":
            assert given.get("weights_only") == "True"
        assert given.get("allow_pickle", "False") == "False"


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


def test_settings_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = tmp_path / "hostile.yaml"
    for text in ("run: !!python/object/apply:os.mkdir [ran]", "run: {name: ${nothing:1}}"):
        hostile.write_text(text)
        with pytest.raises(UserError, match="read"):
            config.load(hostile)
    assert not Path("ran").exists()


def test_weights_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Code()}, "hostile.pt")
    with pytest.raises(UserError, match=r"hostile\.pt"):
        load_weights(nn.Linear(2, 2), str(tmp_path / "hostile.pt"))
    assert not Path("ran").exists()


@pytest.mark.parametrize("length", [0, 8, 2**40, 2**64 - 1])
def test_a_hostile_header_of_safetensors_is_refused(length: int, tmp_path: Path) -> None:
    file = tmp_path / "hostile.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    file.write_bytes(struct.pack("<Q", length) + header.encode())
    with pytest.raises(UserError, match=r"hostile\.safetensors"):
        load_weights(nn.Linear(2, 2), str(file))


def test_names_are_escaped_in_every_page() -> None:
    page = environment().from_string("<p title='{{ name }}'>{{ name }}</p>")
    assert "<script>" not in page.render(name="'><script>alert(1)</script>")


def test_half_a_line_is_taken_off_before_the_next(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    append_line(file, {"step": 1})
    with file.open("a") as torn:
        torn.write('{"step": 2, "los')
    assert read_lines(file) == [{"step": 1}]
    append_line(file, {"step": 2})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'
