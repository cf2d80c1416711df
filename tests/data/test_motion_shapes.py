"""The embedded data set: complete, reproducible, and silent about the class in a single frame."""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from bgan_video.data import motion_shapes
from bgan_video.errors import UserError
from bgan_video.video.reader import read_all

CLASSES = list(motion_shapes.MOTIONS)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "small"
    motion_shapes.render(root, num_groups=4, clips_per_group=1)
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "full"
    motion_shapes.render(root, clips_per_group=1)
    return root


def lines(root: Path, name: str) -> list[str]:
    return (root / "ucfTrainTestlist" / name).read_text().splitlines()


def groups(paths: list[str]) -> set[int]:
    return {int(path.split("_g")[1].split("_")[0]) for path in paths}


def test_layout_is_that_of_ucf101(small: Path) -> None:
    files = {path.relative_to(small).as_posix() for path in small.glob("*/*.avi")}
    assert len(files) == 8 * 4
    assert lines(small, "classInd.txt") == [f"{i} {name}" for i, name in enumerate(CLASSES, 1)]
    for fold in (1, 2, 3):
        test = lines(small, f"testlist{fold:02d}.txt")
        train = dict(line.split() for line in lines(small, f"trainlist{fold:02d}.txt"))
        assert set(test) | set(train) == files
        assert groups(test) == {fold}
        assert not groups(test) & groups(list(train))
        assert all(CLASSES[int(label) - 1] == path.split("/")[0] for path, label in train.items())


def test_videos_decode_at_their_size(small: Path) -> None:
    for path in small.glob("*/*.avi"):
        frames = read_all(path, "pyav")
        assert frames.shape[1:] == (64, 64, 3)
        assert 32 <= len(frames) <= 56


def test_folds_take_the_groups_of_ucf101() -> None:
    folds = motion_shapes._test_groups(25, 3)
    assert [(fold[0], fold[-1]) for fold in folds] == [(1, 7), (8, 14), (15, 21)]


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 groups do not make 3 folds"):
        motion_shapes.render(tmp_path / "a", num_groups=2)


def test_a_second_call_renders_nothing(small: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    motion_shapes.render(small, num_groups=4, clips_per_group=1)
    assert before == {path: path.stat().st_mtime_ns for path in small.rglob("*")}


def test_the_seed_decides_every_byte(small: Path, tmp_path: Path) -> None:
    motion_shapes.render(tmp_path / "same", num_groups=4, clips_per_group=1)
    motion_shapes.render(tmp_path / "other", num_groups=4, clips_per_group=1, seed=1)
    for path in small.glob("*/*.avi"):
        name = path.relative_to(small)
        assert (tmp_path / "same" / name).read_bytes() == path.read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != path.read_bytes()


def test_other_settings_replace_an_earlier_rendering(tmp_path: Path) -> None:
    root = tmp_path / "data"
    motion_shapes.render(root, num_groups=4, clips_per_group=1, size=32)
    motion_shapes.render(root, num_groups=3, clips_per_group=1, size=32)
    assert len(list(root.glob("*/*.avi"))) == 24
    assert json.loads((root / motion_shapes.MARKER).read_text())["num_groups"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_foreign_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no rendering of motion_shapes"):
        motion_shapes.render(tmp_path, num_groups=3, clips_per_group=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot render motion_shapes") as caught:
        motion_shapes.render(tmp_path / "file" / "data", num_groups=3, clips_per_group=1)
    assert "\n" not in str(caught.value)


def render_small(root: Path) -> None:
    motion_shapes.render(root, num_groups=3, clips_per_group=1, size=32)


def test_two_processes_may_render_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=render_small, args=(tmp_path / "data",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list((tmp_path / "data").glob("*/*.avi"))) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("BGAN_VIDEO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    name = f"motion_shapes-v{motion_shapes.VERSION}"
    assert motion_shapes.default_root() == Path("/home/ada/.cache/bgan_video") / name
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert motion_shapes.default_root() == Path("/var/cache/bgan_video") / name
    monkeypatch.setenv("BGAN_VIDEO_CACHE", "/data")
    assert motion_shapes.default_root() == Path("/data") / name


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_advances_one_coordinate_at_constant_speed(name: str) -> None:
    states = motion_shapes.trajectory(name, 0.04, 40, np.random.default_rng(0))
    coordinate, sign = motion_shapes.MOTIONS[name]
    width = motion_shapes._STATE_HIGH - motion_shapes._STATE_LOW
    # Steps around the joined ends count modulo the width of the coordinate's interval.
    steps = np.mod(np.diff(states, axis=0) + width / 2, width) - width / 2
    expected = np.zeros(4)
    expected[coordinate] = sign * 0.04
    np.testing.assert_allclose(steps, np.tile(expected, (39, 1)), atol=1e-12)


FALSE_ALARM = 1e-3


def distance_to_uniform(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov statistic of values in [0, 1)."""
    values = np.sort(values)
    ranks = np.arange(len(values) + 1) / len(values)
    return float(max((ranks[1:] - values).max(), (values - ranks[:-1]).max()))


@pytest.mark.statistical
def test_no_coordinate_of_any_frame_depends_on_the_class() -> None:
    low, width = motion_shapes._STATE_LOW, motion_shapes._STATE_HIGH - motion_shapes._STATE_LOW
    rng = np.random.default_rng(0)
    distances = []
    for name in CLASSES:
        states = np.stack([motion_shapes.trajectory(name, 0.05, 41, rng) for _ in range(3000)])
        unit = (states[:, [0, 17, 40]] - low) / width
        distances += [distance_to_uniform(unit[:, f, c]) for f in range(3) for c in range(4)]
    # Massart: P(D > d) <= 2 exp(-2 n d^2), shared between all the comparisons.
    bound = math.sqrt(math.log(2 * len(distances) / FALSE_ALARM) / (2 * 3000))
    assert max(distances) < bound


def most_successes(trials: int, probability: float) -> int:
    """The least count that a binomial exceeds with probability `FALSE_ALARM` at most."""
    total = 0.0
    for count in range(trials + 1):
        chance = probability**count * (1 - probability) ** (trials - count)
        total += math.comb(trials, count) * chance
        if total >= 1 - FALSE_ALARM:
            return count
    return trials


def frames_of(root: Path, paths: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Three far frames of each video, `[N, 3, 32, 32]` in [-1, 1], and their classes `[N]`."""
    images, labels = [], []
    for path in paths:
        video = read_all(root / path, "pyav", 32)
        images.append(video[[2, len(video) // 2, len(video) - 3]])
        labels += [CLASSES.index(path.split("/")[0])] * 3
    pixels = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1, torch.tensor(labels)


def small_network() -> torch.nn.Module:
    def block(inputs: int, outputs: int) -> list[torch.nn.Module]:
        convolution = torch.nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        return [convolution, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]

    return torch.nn.Sequential(
        *block(3, 16), *block(16, 32), *block(32, 32), torch.nn.Flatten(), torch.nn.Linear(512, 8)
    )


@pytest.mark.statistical
def test_a_network_that_sees_one_frame_is_at_chance(full: Path) -> None:
    train = [line.split()[0] for line in lines(full, "trainlist01.txt")]
    test = lines(full, "testlist01.txt")
    images, labels = frames_of(full, train)
    unseen, truth = frames_of(full, test)
    torch.manual_seed(0)
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(25):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        assert (network(images).argmax(1) == labels).float().mean() > 0.5  # it has learned
        right = int((network(unseen).argmax(1) == truth).sum())
    # Frames of one group look alike: only the groups are independent trials.
    trials = len({(path.split("/")[0], *groups([path])) for path in test})
    bound = most_successes(trials, 1 / 8) / trials
    print(f"single-frame accuracy {right / len(truth):.3f}, bound {bound:.3f}")  # noqa: T201
    assert right / len(truth) <= bound
