"""Several processes train one run as one process would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bgan_video import cli, files, ranks
from bgan_video.config import CHANGES
from bgan_video.training.lineup import Models
from tests.e2e.runs import REPOSITORY, lines, log
from tests.faults import runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
# One process sums in another order than several do.
RELATIVE = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Path:
    return runs.draw(folder / "pictures")


@pytest.fixture(scope="module")
def alone(folder: Path, pictures: Path) -> Path:
    """The run in one process."""
    assert cli.main(words(pictures, folder / "alone")) == 0
    return folder / "alone"


def words(pictures: Path, run: Path, *more: str) -> list[str]:
    """Batches that four can share, and norms that need no other process."""
    shared = ("train.batch_size=8", "train.labelled_batch_size=8", "train.fake_batch_size=4")
    norms = ("generator.norm=group", "discriminator.norm=group", "discriminator.dropout=0")
    unlabelled = ("objective.consistency_weight=1", "objective.consistency_threshold=0.3")
    lengths = ("train.steps=10", "posterior.burn_in=5")
    return runs.train(pictures, run, *shared, *norms, *unlabelled, *lengths, *more)


def start(processes: int, args: list[str]) -> subprocess.Popen[str]:
    assert args[0] == "train"
    return subprocess.Popen(
        [*LAUNCH, f"--nproc-per-node={processes}", "train_video.py", *args[1:]],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def assert_same_losses(run: Path, alone: Path) -> None:
    found, expected = log(run), log(alone)
    assert len(found) == len(expected) == 20
    for one, other in zip(found, expected, strict=True):
        for key in ("loss_d", "loss_g", "labelled", "real", "fake", "consistency", "supervised"):
            assert one[key] == pytest.approx(other[key], rel=RELATIVE, abs=1e-6), (one["step"], key)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_losses_are_those_of_one_process(
    processes: int, alone: Path, folder: Path, pictures: Path
) -> None:
    """At every checkpoint the run itself compares the weights of its processes, bit for bit."""
    run = folder / f"shared-{processes}"
    process = start(processes, words(pictures, run))
    _, said = process.communicate()
    assert process.returncode == 0, said[-3000:]
    assert said.count("[19/20]") == 1, "one process speaks"
    assert_same_losses(run, alone)
    scores = [json.loads((r / "metrics.json").read_text())["models"] for r in (run, alone)]
    for model in scores[0]:
        assert scores[0][model]["image"]["nll"] == pytest.approx(
            scores[1][model]["image"]["nll"], rel=1e-3
        )
    believed, expected = (lines(r / "pseudo_labels" / "round_01.jsonl") for r in (run, alone))
    assert len(believed) == len(expected) > 0
    for one, other in zip(believed, expected, strict=True):
        assert [one[key] for key in ("model", "path", "label")] == [
            other[key] for key in ("model", "path", "label")
        ]
        assert one["probability"] == pytest.approx(other["probability"], rel=RELATIVE)


def test_a_checkpoint_compares_every_network(
    folder: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[object] = []
    monkeypatch.setattr(Models, "networks", "all of them")
    monkeypatch.setattr(ranks, "check_equal", compared.append)
    assert cli.main(words(pictures, folder / "compared", "train.checkpoint_every=10")) == 0
    assert compared == ["all of them"] * 2


def test_a_run_goes_on_with_another_number_of_processes(
    alone: Path, folder: Path, pictures: Path
) -> None:
    run = folder / "resumed"
    process = start(1, words(pictures, run))
    until = time.monotonic() + 300
    while not (run / "checkpoints" / "step_00000008.pt").is_file() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    done = len(log(run))
    assert 8 <= done < 20, "it was over before it could be stopped"
    process = start(2, words(pictures, run))
    _, said = process.communicate()
    assert process.returncode == 0, said[-3000:]
    assert_same_losses(run, alone)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
def test_a_killed_process_ends_all_in_one_line(folder: Path, pictures: Path) -> None:
    run = folder / "killed"
    process = start(2, words(pictures, run, "train.steps=100000"))
    until = time.monotonic() + 300
    while not (run / "log.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    (error,) = re.findall(r"^error: .*", said, re.MULTILINE)
    assert "another process of this run ended; its own line" in error
    assert f"--resume {run} goes on" in error


def test_processes_go_back_together(folder: Path, pictures: Path) -> None:
    run = folder / "back"
    wild = ("posterior.lr=1e20", "train.checkpoint_every=1", "train.roll_back=1")
    process = start(2, words(pictures, run, *wild))
    _, said = process.communicate()
    assert process.returncode != 0
    assert said.count("on from there with all step sizes halved (roll-back 1 of at most 1)") == 1
    assert "such as bgan-video train --resume" in said
    (line,) = files.read_lines(run / CHANGES)
    assert line["settings"]["posterior.lr"] == 5e19
    assert max((run / "checkpoints").iterdir()).name == f"step_{line['step']:08d}.pt"


def test_a_batch_that_cannot_be_shared_is_refused(folder: Path, pictures: Path) -> None:
    process = start(2, words(pictures, folder / "odd", "train.labelled_batch_size=5"))
    _, said = process.communicate()
    assert process.returncode != 0
    assert "cannot be shared by 2 processes; allowed: multiples of 2" in said
