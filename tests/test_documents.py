"""What the documents say is there: files, sections, and every public name in the API's page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bgan_video
from bgan_video import api, sampling

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(p for folder in ("docs", "datasets") for p in (ROOT / folder).rglob("*.md")),
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """The sections of a document, as links name them."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{document}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{document}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_table_is_flowed_into_text(document: Path) -> None:
    rules = [line for line in document.read_text(encoding="utf-8").splitlines() if "| ---" in line]
    assert all(re.fullmatch(r"\|( :?-+:? \|)+", rule) for rule in rules), rules


def test_the_api_page_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: (\S+)", page, re.MULTILINE)
    assert "bgan_video.api" in shown
    assert set(bgan_video.__all__) <= set(api.__all__)
    for name in shown:
        module, _, last = name.rpartition(".")
        file = ROOT / name.replace(".", "/")
        is_module = file.with_suffix(".py").is_file() or file.is_dir()
        inside = (ROOT / module.replace(".", "/")).with_suffix(".py")
        assert is_module or f"class {last}" in inside.read_text(encoding="utf-8"), name
    public = {getattr(sampling, name).__module__ for name in sampling.__all__}
    assert public - {"typing"} <= {*shown}  # `typing` is that of an alias


def test_the_site_knows_every_page_it_names() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in re.findall(r"^  - .+: (\S+\.md)$", settings, re.MULTILINE):
        assert (ROOT / page).is_file(), page
