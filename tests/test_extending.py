"""The examples of docs/extending.md work, and their tests pass."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def sections() -> dict[str, list[tuple[str, str]]]:
    """The code of each section: the comment in its first line, and all of it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"```python\n# (.+?)\n(.*?)```", part, re.DOTALL)
        found[part.partition("\n")[0]] = blocks
    return found


def on_the_page() -> list[tuple[str, str]]:
    """Section and name of every test on the page."""
    return [
        (section, name)
        for section, blocks in sections().items()
        for title, code in blocks
        if title == "test"
        for name in re.findall(r"^def (test_\w+)", code, re.MULTILINE)
    ]


def test_every_section_has_an_example_and_a_test() -> None:
    assert list(sections()) == ["A body", "A sampler", "A layout", "A method"]
    for section, blocks in sections().items():
        titles = [title for title, _ in blocks]
        assert titles[-1] == "test", section
        assert titles[0].endswith(".py"), section
    assert {section for section, _ in on_the_page()} == set(sections())


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """The test module of a section, with its example beside it."""
    folder = tmp_path / "beside"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def load(section: str) -> Any:
        for title, code in sections()[section]:
            name = "test_of_the_page.py" if title == "test" else title
            (folder / name).write_text(code, encoding="utf-8")
        return importlib.import_module("test_of_the_page")

    yield load
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(("section", "name"), on_the_page())
def test_an_example_passes_its_test(
    section: str, name: str, load: Callable[[str], Any], tmp_path: Path
) -> None:
    test = getattr(load(section), name)
    wanted = inspect.signature(test).parameters
    videos = tmp_path / "videos"
    videos.mkdir()
    test(**({"tmp_path": videos} if "tmp_path" in wanted else {}))
