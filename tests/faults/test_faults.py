"""Whatever ends a run before its time is said in one line, and nothing is lost."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from bgan_video import cli, config, files
from bgan_video.data.frames import Frames
from bgan_video.prediction.answering import ROUNDS
from bgan_video.prediction.together import WEIGHTS
from bgan_video.reports import page
from bgan_video.training import loop
from bgan_video.training.trainer import Trainer
from tests.e2e.runs import REPOSITORY
from tests.faults import ends, runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Act = Callable[[], None]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "render", lambda _: "a page")


@pytest.fixture(scope="module")
def whole(folder: Path, pictures: Path) -> Path:
    """A run that nothing happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "render", lambda _: "a page")
        assert cli.main(runs.train(pictures, folder / "whole")) == 0
    return folder / "whole"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def at_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Act], None]:
    """Something happens when the log gets a line, once."""

    def arrange(step: int, act: Act) -> None:
        append, due = files.append_line, [step]

        def appending(path: Path, record: dict[str, Any]) -> None:
            append(path, record)
            if path.name == "log.jsonl" and record["step"] in due:
                due.clear()
                act()

        monkeypatch.setattr(loop, "append_line", appending)

    return arrange


def refused(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """The line that a command says as it ends with a code."""
    capsys.readouterr()
    assert cli.main(words) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert not any("Traceback" in line for line in said)
    return said[-1]


def assert_same_end(run: Path, whole: Path) -> None:
    """But for what is stored longer because there was a checkpoint more."""
    found, expected = ends.of_run(run), ends.of_run(whole)
    for name in ("log.jsonl", "evaluations.jsonl", "metrics.json", "checkpoints/step_00000010.pt"):
        assert found[name] == expected[name], name
    stored = [name for name in found if name.startswith("posterior/") and name in expected]
    assert stored
    assert all(found[name] == expected[name] for name in stored)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_a_checkpoint(
    kind: signal.Signals,
    whole: Path,
    run: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
):
    before = signal.getsignal(kind)
    at_line(7, lambda: os.kill(os.getpid(), kind))
    line = refused(runs.train(pictures, run), capsys, 128 + kind)
    # The step in which it came was begun before anybody could know.
    assert f"after step 8 of {runs.STEPS}; bgan-video train --resume {run} goes on" in line
    assert (run / "checkpoints" / "step_00000008.pt").is_file()
    assert signal.getsignal(kind) is before
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert_same_end(run, whole)


def test_a_second_signal_ends_at_once(
    run: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_line(7, twice)
    assert "interrupted" in refused(runs.train(pictures, run), capsys, 130)
    assert max((run / "checkpoints").iterdir()).name == "step_00000006.pt"


def test_ctrl_c_reaches_all_processes_of_a_terminal_and_the_run_is_saved(run: Path, pictures: Path):
    words = runs.train(pictures, run, "data.num_workers=2", "data.cache_mib=0")
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train_video.py"), *words[1:], "train.steps=100000"],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while not (run / "log.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    found = re.search(r"saved and ended after step (\d+) of", said)
    assert found, said
    assert (run / "checkpoints" / f"step_{int(found[1]):08d}.pt").is_file()


def test_a_run_has_one_writer_until_it_dies(whole: Path, capsys: pytest.CaptureFixture[str]):
    hold = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, fcntl.LOCK_EX); "
    hold += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(whole / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        line = refused(["train", "--resume", str(whole)], capsys)
        assert f"another process is at work in {whole}" in line
        other.kill()
    assert cli.main(["train", "--resume", str(whole)]) == 0


def cut_off(newest: Path) -> None:
    os.truncate(newest, newest.stat().st_size // 2)


def from_elsewhere(newest: Path) -> None:
    state = torch.load(newest, weights_only=True)
    torch.save(state | {"run": "another"}, newest)


def renamed(newest: Path) -> None:
    newest.rename(newest.with_name("step_00009999.pt"))


def not_finite(newest: Path) -> None:
    state = torch.load(newest, weights_only=True)
    state["chains"]["discriminators"][0]["network"]["head.weight"].fill_(float("nan"))
    torch.save(state, newest)


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


def hostile(newest: Path) -> None:
    torch.save({"step": 6, "chains": _Code()}, newest)


@pytest.mark.parametrize("spoil", [cut_off, from_elsewhere, renamed, not_finite, hostile])
def test_the_newest_sound_checkpoint_is_gone_on_from(
    spoil: Callable[[Path], None],
    whole: Path,
    run: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    at_line(7, lambda: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        cli.main(runs.train(pictures, run))
    monkeypatch.chdir(run.parent)
    newest = max((run / "checkpoints").iterdir())
    assert newest.name == "step_00000006.pt"
    spoil(newest)
    spoiled = max((run / "checkpoints").iterdir())
    capsys.readouterr()
    assert cli.main(["train", "--resume", str(run)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "is not used" in line]
    assert len(said) == 1
    assert str(spoiled) in said[0]
    assert said[0].endswith("going on from step_00000005.pt")
    assert_same_end(run, whole)
    assert not Path("ran").exists()


def test_without_a_sound_checkpoint_nothing_is_begun_anew(
    whole: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(whole, run)
    for file in (run / "checkpoints").iterdir():
        file.write_bytes(b"no checkpoint")
    line = refused(["train", "--resume", str(run)], capsys)
    assert f"no checkpoint in {run / 'checkpoints'} can be gone on from" in line
    assert len((run / "log.jsonl").read_text().splitlines()) == runs.STEPS


def test_a_finished_run_that_trains_again_is_not_finished(
    whole: Path,
    run: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
):
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    old = [run / ROUNDS, run / WEIGHTS]
    for file in old:
        file.write_text("{}")
    at_line(7, lambda: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        cli.main(["train", "--resume", str(run)])
    assert not any(file.exists() for file in old)
    assert "is not finished; finish it with" in refused(["evaluate", str(run)], capsys)
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert_same_end(run, whole)


def test_what_is_not_finite_is_not_stored_and_a_lower_step_size_goes_on(
    run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    words = runs.train(pictures, run, "posterior.lr=1e20", "train.checkpoint_every=1")
    line = refused(words, capsys)
    assert re.search(r"loss_\w and \S+ of \w+ chain \d not finite after step 3; none of it", line)
    assert f"bgan-video train --resume {run} posterior.lr=1e+19" in line
    for file in (run / "posterior").glob("*.safetensors"):
        assert all(t.isfinite().all() for t in load_file(file).values()), file
    step = int(max((run / "checkpoints").iterdir()).stem.removeprefix("step_"))
    assert "allowed: up to" in refused(["train", "--resume", str(run), "posterior.lr=1e21"], capsys)
    assert cli.main(["train", "--resume", str(run), "posterior.lr=0.001"]) == 0
    (change,) = files.read_lines(run / config.CHANGES)
    assert change == {"step": step, "key": "posterior.lr", "from": 1e20, "to": 0.001}
    assert config.load_run(run).posterior.lr == 0.001
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["lr"] == 0.001
    assert cli.main(["evaluate", str(run)]) == 0


@pytest.mark.parametrize("nth", [1, 8, 20, 25])
def test_a_full_disk_ends_the_run_in_one_line(
    nth: int,
    whole: Path,
    run: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    left = [nth]

    def sync(_: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", sync)
        assert "No space left on device" in refused(runs.train(pictures, run), capsys)
    assert not list(run.parent.rglob("*.tmp"))
    assert cli.main(runs.train(pictures, run)) == 0
    assert_same_end(run, whole)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A disk of a megabyte, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_indeed(
    tiny_disk: Path, whole: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(600_000))
    run = tiny_disk / "run"
    line = refused(runs.train(pictures, run), capsys)
    assert "No space left on device" in line
    assert "make room, and go on with" in line
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    assert cli.main(runs.train(pictures, run)) == 0
    assert_same_end(run, whole)


def test_a_folder_that_may_not_be_written(
    tiny_disk: Path, whole: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    run = Path(shutil.copytree(whole, tiny_disk / "run"))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    assert "Read-only" in refused(["train", "--resume", str(run)], capsys)
    assert "Read-only" in refused(runs.train(pictures, tiny_disk / "new"), capsys)


def test_items_that_vanish_cost_no_step(
    whole: Path,
    run: Path,
    folder: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
):
    root = Path(shutil.copytree(pictures, run.parent / "pictures"))
    away = run.parent / "away"
    at_line(7, lambda: (root / "train").rename(away) and None)
    words = runs.train(root, run, "data.cache_mib=0")
    line = refused(words, capsys)
    assert "no longer reads" in line
    assert f"steps are saved: put it right, and bgan-video train --resume {run} goes on" in line
    assert max((run / "checkpoints").iterdir()).name == "step_00000007.pt"
    away.rename(root / "train")
    assert cli.main(words) == 0
    assert_same_end(run, whole)


def test_a_loading_process_that_is_killed(
    whole: Path,
    run: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
):
    def kill() -> None:
        (one,) = multiprocessing.active_children()  # for all streams together
        one.kill()

    at_line(7, kill)
    words = runs.train(pictures, run, "data.num_workers=1", "data.cache_mib=0")
    line = refused(words, capsys)
    assert "DataLoader worker" in line
    assert f"bgan-video train --resume {run}" in line
    assert cli.main(["train", "--resume", str(run), "data.num_workers=0"]) == 0
    assert_same_end(run, whole)


def test_a_loading_process_that_hangs(
    whole: Path,
    run: Path,
    pictures: Path,
    at_line: Callable[[int, Act], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    flag, read = run.parent / "hang", Frames.read

    def reading(*given: Any) -> Any:
        while flag.exists() and get_worker_info():
            time.sleep(0.1)
        return read(*given)

    at_line(7, flag.touch)
    with monkeypatch.context() as patch:
        patch.setattr(Frames, "read", reading)
        loading = ("data.num_workers=1", "data.worker_timeout=1", "data.cache_mib=0")
        line = refused(runs.train(pictures, run, *loading), capsys)
    assert "timed out after 1" in line
    assert "data.worker_timeout=1" in line
    flag.unlink()
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert_same_end(run, whole)


def test_memory_of_a_gpu_that_runs_out_names_what_to_lower(
    whole: Path,
    run: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    step = Trainer.step

    def stepping(self: Trainer, index: int, *given: Any) -> Any:
        if index == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, index, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stepping)
        line = refused(runs.train(pictures, run), capsys)
    assert "Tried to allocate 2.00 GiB" in line
    assert "train.batch_size" in line
    assert "clip.num_frames" in line
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert_same_end(run, whole)


def test_what_a_run_began_with_stays_on_resume_auto(
    whole: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    line = refused(runs.train(pictures, whole, "train.steps=6"), capsys)
    assert "train.steps cannot be changed" in line
    assert cli.main(runs.train(pictures, whole, "data.num_workers=0")) == 0
