"""What is read, judged or looked at item by item is shared by processes, to the same end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch

from bgan_video import api, cli
from bgan_video.prediction import chunks
from tests.data.store import stores
from tests.e2e import ranked, runs
from tests.e2e.test_ranks import LAUNCH
from tests.faults import ends
from tests.faults.runs import settings
from tests.features import tiny

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def command(
    processes: int, notes: Path, words: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command by several processes, each of which leaves a note of what it did."""
    notes.mkdir()
    worker = ["-m", "tests.e2e.ranked", str(notes), *words]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as in this process
    return subprocess.run(
        [*LAUNCH, f"--nproc-per-node={processes}", *worker],
        cwd=runs.REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ | threads | environment,
    )


def run_command(processes: int, notes: Path, words: list[str], **environment: str) -> None:
    done = command(processes, notes, words, **environment)
    assert done.returncode == 0, done.stderr[-3000:]


def run_alone(words: list[str]) -> None:
    """The same by this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_BATCH", ranked.BATCH)
        assert cli.main(words) == 0


def shares(notes: Path, what: str) -> Counter[str]:
    """How often each thing was done by any process; none did all of it."""
    found = [note[what] for note in ranked.read(notes)]
    together = Counter(name for of_rank in found for name in of_rank)
    assert all(len(set(of_rank)) < len(together) for of_rank in found), "it was not shared"
    return together


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of several models, dropout left on among them, by one process."""
    run = tmp_path_factory.mktemp("sharing") / "run"
    methods = "baseline.methods=[bayesian_gan,supervised,mc_dropout]"
    fewer = ("train.rounds=0", "data.labels_per_class=2", "train.labelled_batch_size=3")
    assert cli.main(["train", *settings(shapes, run, methods, *fewer)]) == 0
    return run


@pytest.mark.parametrize(
    ("processes", "more"),
    [
        (2, ["--renormalise"]),
        (3, []),
        pytest.param(4, [], marks=pytest.mark.slow),
    ],
)
def test_an_evaluation_by_several_processes_is_that_of_one(
    processes: int, more: list[str], trained: Path, tmp_path: Path
) -> None:
    """Bit for bit: every network sees the same batches, be they whose they may."""
    alone, together = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("one", "all"))
    run_alone(["evaluate", str(alone), *more])
    run_command(processes, tmp_path / "notes", ["evaluate", str(together), *more])
    assert ends.of_run(together) == ends.of_run(alone)
    judged = shares(tmp_path / "notes", "judged")
    manifest = api.load(trained).manifest
    assert set(judged) == {i.path for i in (*manifest.part("test"), *manifest.part("validation"))}
    assert set(judged.values()) == {1}


def test_what_is_wrong_in_one_share_is_said_once(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    manifest = api.load(run).manifest
    root = shutil.copytree(manifest.root, tmp_path / "moved")
    gone = manifest.part("test")[0]
    (root / gone.path).unlink()
    done = command(2, tmp_path / "notes", ["evaluate", str(run), f"data.root={root}"])
    assert done.returncode != 0
    errors = re.findall(r"^error: .*", done.stderr, re.MULTILINE)
    assert sum(str(root / gone.path) in error for error in errors) == 1, done.stderr[-3000:]
    assert all("another process" in error for error in errors if gone.path not in error)


def test_the_pool_is_judged_once_between_rounds(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    norms = ("generator.norm=group", "discriminator.norm=group", "discriminator.dropout=0")
    shared = (*norms, "train.fake_batch_size=2")
    run_command(2, tmp_path / "notes", ["train", *settings(shapes, run, *shared)])
    judged = shares(tmp_path / "notes", "judged")
    manifest = api.load(run).manifest
    pool = {item.path for item in manifest.part("train") if not item.labelled}
    assert {path: judged[path] for path in pool} == dict.fromkeys(pool, 1)
    assert {judged[item.path] for item in manifest.part("test")} == {1}, "at the end"


def test_features_by_several_processes_are_those_of_one(small_videos: Path, tmp_path: Path) -> None:
    videos = stores.few_videos(small_videos, tmp_path / "videos")
    body = tiny.save(tmp_path)
    words = ["features", "data.layout=video_folder", f"data.root={videos}", "clip.size=16", *body]
    words += ["features.size=32", "features.clips=2", "run.device=cpu"]
    alone, together = tmp_path / "one", tmp_path / "all"
    run_alone([*words, f"features.store={alone}"])
    run_command(2, tmp_path / "notes", [*words, f"features.store={together}"])
    assert ends.of_store(together) == ends.of_store(alone)
    computed = shares(tmp_path / "notes", "features")
    assert len(computed) == 6
    assert set(computed.values()) == {1}


def test_videos_are_read_for_the_first_time_by_one_process_each(
    small_videos: Path, tmp_path: Path
) -> None:
    few = ("baseline.methods=[supervised]", "train.rounds=0", "train.steps=2")
    norms = ("discriminator.norm=group", "discriminator.dropout=0", "objective.pretext_weight=0")
    samples = ("posterior.burn_in=1", "posterior.thinning=1")
    words = runs.arguments(small_videos, tmp_path, "run", *few, *norms, *samples)
    cache = {"BGAN_VIDEO_CACHE": str(tmp_path / "cache")}
    run_command(2, tmp_path / "notes", ["train", *words], **cache)
    read = shares(tmp_path / "notes", "read")
    assert len(read) == len(api.load(tmp_path / "run").manifest.items)
    assert set(read.values()) == {1}
