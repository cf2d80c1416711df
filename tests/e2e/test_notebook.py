"""The notebook runs from top to bottom, and is kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e import runs

pytestmark = pytest.mark.e2e

NOTEBOOK = runs.REPOSITORY / "examples" / "quickstart.ipynb"


def printed(cell: Any) -> str:
    """What a cell shows, but for progress on standard error."""
    shown = (
        output.get("text", "") if output.get("name") == "stdout" else output.get("data", {})
        for output in cell.outputs
    )
    return "\n".join(s if isinstance(s, str) else s.get("text/plain", "") for s in shown)


def test_the_quickstart_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(runs.REPOSITORY))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    *_, trained, evaluated, predicted, suggested, report = (
        printed(cell) for cell in notebook.cells if cell.cell_type == "code"
    )
    assert "quickstart" in trained
    assert "semi-supervised   video" in evaluated
    assert predicted.count("mutual information") == 16
    assert "(perhaps " in suggested
    assert "report.html" in report


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
