from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    return runs.draw(folder / "pictures")
