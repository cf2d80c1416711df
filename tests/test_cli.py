"""The command line's own manners, before any command's work."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bgan_video import cli


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--resume", ""],
        ["train", "--config", ""],
        ["train", "--budget", ""],
        ["prepare", "--config", ""],
        ["sample", "run", "--quality", "--extractor", ""],
    ],
    ids=" ".join,
)
def test_an_empty_word_is_no_default(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `--resume "$RUN"` has it where RUN is not set: no new run begins."""
    monkeypatch.setitem(cli._COMMANDS, words[0], lambda options: None)
    assert cli.main(words) == 2
    assert capsys.readouterr().err == (
        f"error: {words[-2]} is followed by an empty word; name what is meant\n"
    )


def test_nobody_reading_on_is_no_fault() -> None:
    """As in `bgan-video recipes | true`."""
    command = [sys.executable, "-m", "bgan_video.cli", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (141, b"")
