from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import runs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_videos: Path) -> Path:
    """A tiny run that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    process = runs.start(*runs.arguments(small_videos, folder, "whole"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (folder / "whole" / "console.txt").write_text(out + err)
    return folder / "whole"
