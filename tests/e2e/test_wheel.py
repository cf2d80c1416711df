"""The wheel, installed in a folder of its own, and used far from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e import runs

pytestmark = pytest.mark.e2e

CONFIGS = runs.REPOSITORY / "configs"
PACKED = ("bgan_video", "configs", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md")
SHORT = ["train.steps=2", "posterior.burn_in=1", "posterior.thinning=1", "train.evaluate_every=2",
         "generator.width=4", "discriminator.width=4", "train.batch_size=2", "clip.test_clips=1",
         "train.labelled_batch_size=2", "train.fake_batch_size=2"]  # fmt: skip


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Its standard output; the package is found in `path` and nowhere else."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> str:
    """What pip has the build backend make; the name of its file."""
    code = f"import sys; from setuptools import build_meta as b; print(b.build_{kind}(sys.argv[1]))"
    return run(sys.executable, "-c", code, target, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, so that building leaves nothing in the repository."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*PACKED, "LICENSE", "train_video.py"):
        original = runs.REPOSITORY / name
        if original.is_dir():
            shutil.copytree(original, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(original, folder)
    return folder


@pytest.fixture(scope="module", name="installed")
def _installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as a wheel installs it."""
    wheels, target = (tmp_path_factory.mktemp(name) for name in ("wheels", "installed"))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "wheel", *offline, "--wheel-dir", wheels, source, cwd=wheels)
    (wheel,) = wheels.glob("bgan_video-*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=wheels)
    return target


def bgan_video(installed: Path, cwd: Path, *arguments: str) -> str:
    return run(installed / "bin" / "bgan-video", *arguments, cwd=cwd, path=installed)


def test_the_package_that_runs_is_the_installed_one(installed: Path, tmp_path: Path) -> None:
    where = "import bgan_video; print(bgan_video.__file__)"
    file = run(sys.executable, "-c", where, cwd=tmp_path, path=installed).strip()
    assert Path(file).is_relative_to(installed)


def test_every_recipe_is_listed_and_is_the_repositorys(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(bgan_video(installed, tmp_path, "recipes", "--json"))
    shipped = {recipe["name"]: Path(recipe["path"]) for recipe in listed}
    own = {p.relative_to(CONFIGS).with_suffix("").as_posix(): p for p in CONFIGS.rglob("*.yaml")}
    assert shipped.keys() == own.keys()
    assert all(path.is_relative_to(installed) for path in shipped.values())
    assert all(shipped[name].read_bytes() == own[name].read_bytes() for name in own)
    lines = bgan_video(installed, tmp_path, "recipes").splitlines()
    assert [line.split()[0] for line in lines] == [recipe["name"] for recipe in listed]
    assert all(len(line.split()) > 3 for line in lines), "each says what it is"


def test_train_alone_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    bgan_video(installed, tmp_path, "train", *SHORT)
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    assert json.loads((tmp_path / "runs" / "demo" / "metrics.json").read_text())["step"] == 2


def test_recipes_are_found_by_name_and_by_path(installed: Path, tmp_path: Path) -> None:
    planned = bgan_video(installed, tmp_path, "study", "studies/motion_shapes", "--dry-run")
    assert "cells, 0 of them finished" in planned
    own = tmp_path / "own.yaml"
    own.write_text("run: {name: mine}\ntrain: {batch_size: 7}\n")
    for given, size in (("demo", 16), (str(own), 7), ("own.yaml", 7)):
        plan = bgan_video(installed, tmp_path, "train", "--config", given, "--dry-run")
        assert f"\n  batch_size: {size}\n" in plan


def test_the_source_distribution_has_the_recipes(source: Path, tmp_path: Path) -> None:
    name = build("sdist", source, tmp_path)
    with tarfile.open(tmp_path / name) as archive:
        files = {Path(*Path(member).parts[1:]).as_posix() for member in archive.getnames()}
    assert {p.relative_to(runs.REPOSITORY).as_posix() for p in CONFIGS.rglob("*.yaml")} <= files
    assert "setup.py" in files


def test_an_editable_install_keeps_no_copy(source: Path, tmp_path: Path) -> None:
    name = build("editable", source, tmp_path)
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert not [file for file in wheel.namelist() if file.endswith(".yaml")]
    assert not (source / "bgan_video" / "configs").exists()
