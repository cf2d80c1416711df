"""Running a grid: what is run, passed over, resumed, refused, shared, and what a kill costs."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from bgan_video import cli, config
from bgan_video.errors import UserError
from bgan_video.studies import cells, runner
from bgan_video.studies.grid import Study
from bgan_video.training import changes
from tests.studies import fake
from tests.studies.conftest import finish

SMALL: dict[str, object] = {
    "methods": {"supervised": {}, "bayesian_gan": {}},
    "folds": [1],
    "seeds": [0],
}


def run(study: Study, *, keep_weights: bool = False) -> list[str]:
    """Run the study in this process; what it said."""
    said: list[str] = []
    runner.run(study, keep_weights, said.append, lambda: None)
    return said


def ran(study: Study) -> list[str]:
    """The cells that ran, in order."""
    file = study.cells_folder / "order.txt"
    return file.read_text().split() if file.is_file() else []


def wish(study: Study, cell: str, text: str) -> None:
    """Make a cell fail, or wait."""
    folder = study.cells_folder / "steer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / cell).write_text(text)


def start(study: Study) -> BaseProcess:
    """A process of its own that runs the study; forked, as it has no need to import all anew."""
    process = get_context("fork").Process(target=run, args=[study])
    process.start()
    return process


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.mark.usefixtures("fakes")
def test_every_cell_runs_once_and_its_weights_go(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    said = run(study)
    assert ran(study) == [cell.name for cell in study.cells]
    assert said[0].startswith("[1/4] supervised-1-fold1-seed0; about ")
    assert said[-1] == "[4/4] bayesian_gan-4-fold1-seed0"
    for cell in study.cells:
        left = {p.name for p in cells.folder(study, cell).iterdir()}
        figures = {"metrics.json", "predictions", "posterior", "report.html"}
        assert left == {"config.yaml", "manifest.json", *figures}
        report = (cells.folder(study, cell) / "report.html").read_text()
        assert "networks were removed" in report
        assert "bgan-video label" not in report
        assert [p.name for p in (cells.folder(study, cell) / "posterior").iterdir()] == [
            "finished.json"
        ]
        assert f"{cell.name} begins" in cells.beside(study, cell, "log").read_text()
    run(study)
    assert len(ran(study)) == 4, "a finished cell is not run again"


@pytest.mark.usefixtures("fakes")
def test_weights_are_kept_where_asked_for(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    run(study, keep_weights=True)
    assert (cells.folder(study, study.cells[0]) / "checkpoints" / "step_1.pt").is_file()


@pytest.mark.usefixtures("fakes")
def test_a_failed_cell_is_said_passed_over_and_tried_again_by_the_next_command(
    read_study: Callable[..., Study],
):
    study = read_study(**SMALL)
    bad = study.cells[1].name
    wish(study, bad, "fail")
    said = run(study)
    assert f"{bad} failed: error: data.fold=7 is not there" in said
    assert ran(study).count(bad) == 1
    assert [cells.state(study, cell) for cell in study.cells].count("finished") == 3
    assert cells.state(study, study.cells[1]) == "failed"
    wish(study, bad, "0")
    run(study)
    assert cells.state(study, study.cells[1]) == "finished"
    assert len(ran(study)) == 5


@pytest.mark.usefixtures("fakes")
def test_a_begun_cell_is_resumed_and_a_stump_is_begun_anew(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    begun, stump, *_ = study.cells
    fake.begin(cells.folder(study, begun), config.to_mapping(begun.config))
    (cells.folder(study, stump) / "samples").mkdir(parents=True)
    assert [cells.state(study, cell) for cell in (begun, stump)] == ["unfinished", "to do"]
    run(study)
    assert f"{begun.name} resumed" in cells.beside(study, begun, "log").read_text()
    assert f"{stump.name} begins" in cells.beside(study, stump, "log").read_text()


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("finished", [True, False])
def test_runs_of_other_settings_are_refused_by_key(
    finished: bool, read_study: Callable[..., Study]
):
    before = read_study(**SMALL)
    cell = before.cells[2]
    mapping = config.to_mapping(cell.config)
    (fake.write_cell if finished else fake.begin)(cells.folder(before, cell), mapping)
    now = read_study(**SMALL, settings={"train.steps": 500, "posterior.burn_in": 100})
    with pytest.raises(UserError) as caught:
        run(now)
    line = str(caught.value)
    assert all(p in line for p in (cell.name, "train.steps=300", "asks for 500", "--out")), line
    assert ran(now) == []


def test_a_cell_that_rolled_back_or_loads_otherwise_is_still_the_studys(
    read_study: Callable[..., Study],
):
    study = read_study(**SMALL)
    cell = study.cells[2]
    folder = cells.folder(study, cell)
    fake.begin(folder, config.to_mapping(cell.config))
    changes.keep(folder, config.load_run(folder, ["data.num_workers=3"]), 10)
    smaller = changes.smaller(cell.config)
    changes.keep_smaller(folder, smaller, 10, changes.RollBack(12, "loss_d"))
    cells.check_unchanged(study)
    changes.keep(folder, config.load_run(folder, ["posterior.lr=1e-9"]), 20)
    with pytest.raises(UserError, match=r"was run with posterior\.lr=1e-09"):
        cells.check_unchanged(study)


@pytest.mark.usefixtures("fakes")
def test_a_moved_study_is_the_same(read_study: Callable[..., Study], tmp_path: Path):
    study = read_study(**SMALL)
    finish(study)
    moved = cells.folder(study, study.cells[0])
    mapping = config.to_mapping(study.cells[0].config)
    mapping["run"] |= {"dir": "elsewhere", "name": "other"}
    fake.begin(moved, mapping)
    run(study)
    assert ran(study) == []


def test_real_cells_are_trained_by_the_command_line(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    cell = study.cells[0]
    new = runner.train_command(study, cell)
    assert new[1:] == [
        "-m", "bgan_video.cli", "train", "--config", str(cells.beside(study, cell, "yaml")),
    ]  # fmt: skip
    fake.begin(cells.folder(study, cell), config.to_mapping(cell.config))
    assert runner.train_command(study, cell)[-2:] == ["--resume", str(cells.folder(study, cell))]


@pytest.mark.usefixtures("fakes")
def test_two_processes_share_a_grid(read_study: Callable[..., Study]):
    study = read_study(**SMALL | {"seeds": [0, 1]})
    for cell in study.cells:
        wish(study, cell.name, "0.3")
    both = [start(study) for _ in range(2)]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert Counter(ran(study)) == Counter(cell.name for cell in study.cells)
    assert all(cells.is_finished(study, cell) for cell in study.cells)


@pytest.mark.usefixtures("fakes")
def test_a_stopped_study_stops_its_cell_and_goes_on(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    first = study.cells[0]
    wish(study, first.name, "wait")
    process = start(study)
    wait_for(lambda: cells.is_begun(study, first))
    assert cells.state(study, first) == "running"
    process.terminate()
    process.join(15)
    assert process.exitcode == 1
    assert cells.state(study, first) == "unfinished", "the lock is free: its cell has gone"
    wish(study, first.name, "0")
    run(study)
    assert ran(study) == [first.name, *(cell.name for cell in study.cells)]
    assert f"{first.name} resumed" in cells.beside(study, first, "log").read_text()


@pytest.mark.usefixtures("fakes")
def test_the_cell_of_a_killed_study_keeps_its_claim_and_ends(read_study: Callable[..., Study]):
    study = read_study(**SMALL)
    first = study.cells[0]
    wish(study, first.name, "1")
    process = start(study)
    wait_for(lambda: cells.is_begun(study, first))
    process.kill()
    process.join()
    run(study)
    assert ran(study).count(first.name) == 1
    wait_for(lambda: cells.is_finished(study, first))


@pytest.mark.usefixtures("fakes", "undrawn")
def test_the_command_runs_reports_and_exits_with_2_where_a_cell_failed(
    read_study: Callable[..., Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    study = read_study(**SMALL)
    given = ["study", str(tmp_path / "grid.yaml"), "--out", str(study.out)]
    assert cli.main([*given, "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert "to do       bayesian_gan-4-fold1-seed0" in listed
    assert "4 cells, 0 of them finished" in listed
    assert not study.out.exists()
    wish(study, study.cells[0].name, "fail")
    assert cli.main(given) == 2
    out, err = capsys.readouterr()
    assert "3 of 4 cells finished" in out
    assert err.splitlines()[-1] == "error: 1 of 4 cells failed"
    assert cli.main([*given, "--report", "--json"]) == 2
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["failed"]) == [study.cells[0].name]
    assert summary["finished"] == 3


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runner._stoppable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
