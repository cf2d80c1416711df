"""The label page in a real browser: by keyboard alone, on a phone, with names that hurt."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import runs
from tests.labelling import desks

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def browser() -> Generator[Any, None, None]:
    """Debian's chromium, or playwright's own."""
    with playwright.sync_playwright() as p:
        try:
            found = p.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
        except playwright.Error as error:
            pytest.skip(f"no chromium: {str(error).splitlines()[0]}")
        yield found
        found.close()


@pytest.fixture
def address(small_videos: Path, tmp_path: Path) -> Generator[str, None, None]:
    """Of the page of a folder without a class or a run."""
    root = desks.hurtful_folder(small_videos, tmp_path / "my 'videos'")
    table = ["--out", str(tmp_path / "labels.csv")]
    tiny = [s for s in runs.TINY if not s.startswith("data.")]
    given = [f"data.root={root}", f"run.dir={tmp_path / 'runs'}", *tiny, runs.FEW]
    yield from page_of(["--config", "video_folder", *table, *given, "discriminator.input=rgb"])


def page_of(words: list[str]) -> Generator[str, None, None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bgan_video.cli", "label", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if match := re.search(r"http://127\.0\.0\.1:\S+", line):
            yield match[0]
            break
    else:
        raise AssertionError("".join(said))
    process.terminate()
    process.wait(20)


def opened(browser: Any, address: str, width: int) -> Any:
    # The test asks by eval, which the page itself is forbidden.
    page = browser.new_page(viewport={"width": width, "height": 800}, bypass_csp=True)
    elsewhere: list[str] = []
    page.on("request", lambda r: elsewhere.append(r.url) if address not in r.url else None)
    page.on("dialog", lambda d: elsewhere.append(f"dialog {d.message}"))
    page.on("pageerror", lambda e: elsewhere.append(str(e)))
    page.elsewhere = elsewhere
    page.goto(address)
    page.wait_for_function("document.querySelector('#path').textContent !== ''")
    return page


def shown(page: Any) -> str:
    return page.text_content("#path")


def press(page: Any, key: str) -> None:
    """A key, and whatever it changes on the page."""
    before = page.text_content("#counts") + shown(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('#counts').textContent"
        " + document.querySelector('#path').textContent !== before",
        arg=before,
    )


def add_class(page: Any, name: str) -> None:
    page.keyboard.press("+")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "name => [...document.querySelectorAll('#classes .word')]"
        ".some(e => e.textContent === name)",
        arg=name,
    )


def labels_of(table: Path) -> dict[str, tuple[str, str]]:
    with table.open(newline="", encoding="utf-8-sig") as text:
        return {r["path"]: (r["label"], r["note"]) for r in csv.DictReader(text)}


def pictured(page: Any, name: str) -> None:
    """A screenshot for whoever wants to look: BGAN_SCREENSHOTS names a folder."""
    page.wait_for_function(
        "document.querySelector('#player').style.backgroundImage.startsWith('url')"
    )
    if folder := os.environ.get("BGAN_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


HURTFUL = ('it\'s "<b>wave</b>"', "a, [b] & ünï")


def test_a_person_labels_by_keyboard_alone(browser: Any, address: str, tmp_path: Path) -> None:
    page = opened(browser, address, 1200)
    seen = [shown(page)]
    for name in HURTFUL:
        add_class(page, name)
    assert page.inner_text("#classes").count("<b>wave</b>") == 1
    for key in ("1", "2", "Space", "-"):
        press(page, key)
        seen.append(shown(page))
    answers = labels_of(tmp_path / "labels.csv")
    assert [answers[path] for path in seen[:4]] == [
        (HURTFUL[0], ""),
        (HURTFUL[1], ""),
        ("", "skipped"),
        ("", "none of these"),
    ]
    press(page, "Backspace")
    assert shown(page) == seen[3]
    assert labels_of(tmp_path / "labels.csv")[seen[3]] == ("", "")
    press(page, "1")
    page.keyboard.press("/")
    page.keyboard.type("ÜN")
    assert page.locator("#classes button").count() == 1
    press(page, "Enter")
    assert labels_of(tmp_path / "labels.csv")[seen[4]] == (HURTFUL[1], "")
    pictured(page, "label_1200")
    assert page.elsewhere == []


def test_two_tabs_are_safe(browser: Any, address: str, tmp_path: Path) -> None:
    first = opened(browser, address, 1200)
    add_class(first, "one")
    add_class(first, "two")
    second = opened(browser, address, 1200)
    path = shown(first)
    assert shown(second) == path
    press(first, "1")
    press(second, "2")
    assert "another tab" in second.text_content("#problem")
    assert labels_of(tmp_path / "labels.csv")[path] == ("one", "")
    assert shown(second) == shown(first)


def test_a_phone_shows_all_of_it(browser: Any, address: str) -> None:
    page = opened(browser, address, 400)
    for name in (*HURTFUL, "x" * 80):
        add_class(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('button')].filter(b => b.offsetParent)"
        ".map(b => b.offsetHeight))"
    )
    assert smallest >= 40, "a finger needs room"
    pictured(page, "label_400")


def test_training_again_goes_on_with_the_new_run(
    browser: Any, address: str, tmp_path: Path
) -> None:
    page = opened(browser, address, 1200)
    for name in HURTFUL:
        add_class(page, name)
    for key in ("1", "2", "1", "2"):
        press(page, key)
    page.click("#train")
    page.wait_for_selector("#next:not([hidden])", timeout=180_000)
    page.click("#next")
    page.wait_for_function("document.querySelector('#guess b') !== null", timeout=60_000)
    assert page.text_content("#guess b") in HURTFUL
    pictured(page, "label_round")
    press(page, "Enter")
    (table,) = (tmp_path / "runs").glob("*/suggestions.csv")
    answers = labels_of(table)
    assert sorted(label for label, _ in answers.values() if label)[:4] != []
    assert sum(bool(label) for label, _ in answers.values()) == 5
    assert page.locator("#rounds tr").count() == 1
