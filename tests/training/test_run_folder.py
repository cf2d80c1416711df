"""What is settled before a run begins."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError
from bgan_video.training import run_folder


def test_paths_hold_wherever_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [
        "data.root=videos",
        "data.store=v.store",
        "data.layout=video_folder",
        "data.groups=g.csv",
        "discriminator.weights=w.pt",
    ]
    settled = run_folder.settle(config.load(None, given), "run")
    assert settled.data.root == str(tmp_path / "videos")
    assert settled.data.store == str(tmp_path / "v.store")
    assert settled.data.groups == str(tmp_path / "g.csv")
    assert settled.discriminator.weights == str(tmp_path / "w.pt")
    assert settled.data.lists is None


def test_names_of_packaged_weights_are_no_paths() -> None:
    name = "efficientnet-lite0"
    given = config.load(None, [f"discriminator.weights={name}", f"features.weights={name}"])
    anchored = run_folder.anchored(given)
    assert (anchored.discriminator.weights, anchored.features.weights) == (name, name)


def test_a_file_of_weights_that_was_replaced_stops_a_run(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(b"some")
    more = [f"discriminator.weights={file}", f"run.dir={tmp_path}", "run.device=cpu"]
    chosen = config.load(None, [*more, "run.name=mine"])
    backend, nothing = resolve_backend(chosen.run, 3), Manifest("m", "root", 1, ("x", "y"), ())
    with contextlib.ExitStack() as held:
        folder = run_folder.create(chosen, backend, nothing, [], held)
    run_folder.check_weights(folder, chosen)
    file.write_bytes(b"more")
    with pytest.raises(UserError, match=rf"discriminator\.weights={file}.* bring the old one back"):
        run_folder.check_weights(folder, chosen)
    (folder / "environment.json").write_text("{}")  # of a run from before it was kept
    run_folder.check_weights(folder, chosen)


def test_a_run_begun_anew_is_told_from_the_one_before(tmp_path: Path) -> None:
    chosen = config.load(None, [f"run.dir={tmp_path}", "run.name=mine", "run.device=cpu"])
    backend, nothing = resolve_backend(chosen.run, 3), Manifest("m", "root", 1, ("x", "y"), ())
    found: list[str] = []
    for _ in range(2):
        with contextlib.ExitStack() as held:
            folder = run_folder.create(chosen, backend, nothing, [], held)
        found += [run_folder.identity(folder)] * 2
        shutil.rmtree(folder)
    assert found[0] == found[1]
    assert found[1] != found[2]


def test_a_run_of_an_earlier_version_is_still_itself(tmp_path: Path) -> None:
    for name, text in (("config.yaml", "a"), ("manifest.json", "b"), ("environment.json", "{}")):
        (tmp_path / name).write_text(text)
    assert run_folder.identity(tmp_path) == hashlib.blake2b(b"a\0b", digest_size=16).hexdigest()


def test_a_pattern_of_groups_is_no_path() -> None:
    given = config.load(None, ["data.layout=video_folder", "data.groups='(cam.)'"])
    assert run_folder.settle(given, "run").data.groups == "(cam.)"


def test_a_run_without_a_name_gets_the_next_free_one(tmp_path: Path) -> None:
    given = config.load(None, [f"run.dir={tmp_path}"])
    assert run_folder.settle(given, "demo").run.name == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert run_folder.settle(given, "demo").run.name == "demo-3"


def test_a_chosen_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    given = config.load(None, [f"run.dir={tmp_path}", "run.name=mine"])
    with pytest.raises(UserError, match="exists already; remove it, or"):
        run_folder.settle(given, "demo")
    (tmp_path / "mine" / "config.yaml").touch()
    with pytest.raises(UserError, match=f"exists already; continue it with --resume {tmp_path}"):
        run_folder.settle(given, "demo")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Item("a.avi", 0, "a", "train", True, 9, "one"), None),
        (Item("a.avi", 0, "a", "train", False, 9, "one"), "the labels are not those"),
        (Item("a.avi", 0, "a", "train", True, 9, "two"), "the data in root are not those"),
    ],
)
def test_a_run_goes_on_with_what_it_began_with(now: Item, said: str | None, tmp_path: Path) -> None:
    began = Manifest("m", "root", 1, ("x", "y"), (Item("a.avi", 0, "a", "train", True, 9, "one"),))
    backend = resolve_backend(config.load(None, ["run.device=cpu"]).run, 3)
    told = {"device": "cpu", "precision": backend.precision, "threads": torch.get_num_threads()}
    (tmp_path / "environment.json").write_text(json.dumps(told))
    (tmp_path / "manifest.json").write_text(began.to_json())
    refused = pytest.raises(UserError, match=said) if said else contextlib.nullcontext()
    with refused:
        run_folder.check_unchanged(tmp_path, began.replace((now,)), backend)
