"""The page over HTTP: who may see it, what it tells, and the command it shows."""

from __future__ import annotations

import io
import json
import shlex
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from bgan_video import config
from bgan_video.acquisition.suggestions import Suggestion, write_rows
from bgan_video.api import labels as asking
from bgan_video.data import layouts, splits
from bgan_video.errors import UserError
from bgan_video.labelling import again, history, server
from bgan_video.labelling.answers import held
from bgan_video.labelling.desk import Desk
from bgan_video.video.reader import open_video
from tests.labelling import desks

TOKEN = "token"


@pytest.fixture
def desk(small_videos: Path, tmp_path: Path) -> Desk:
    root = desks.hurtful_folder(small_videos, tmp_path / "my 'videos'")
    return desks.desk_of(root, tmp_path / "labels.csv")


@pytest.fixture
def address(desk: Desk) -> Generator[str, None, None]:
    app = server.application(desk, TOKEN)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        pass
    port = running.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(10)


def fetch(url: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_nobody_sees_anything_without_the_token_or_from_another_host(address: str) -> None:
    assert fetch(f"{address}/{TOKEN}/")[0] == 200
    for path in ("/", "/state", "/other/", f"/{TOKEN}x/state"):
        assert fetch(address + path)[0] == 404
    assert fetch(f"{address}/{TOKEN}/state", Host="evil.example")[0] == 400


def test_the_page_loads_nothing_from_elsewhere(address: str) -> None:
    page = fetch(f"{address}/{TOKEN}/")[1].decode()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_an_answer_goes_to_the_table_and_a_late_one_is_told(address: str, desk: Desk) -> None:
    base = f"{address}/{TOKEN}"
    assert fetch(f"{base}/class", {"name": "<b>it's</b>"})[0] == 200
    state = json.loads(fetch(f"{base}/state")[1])
    path = state["video"]["path"]
    assert path in desks.NAMES
    body = {"path": path, "given": "label:<b>it's</b>", "before": ""}
    told, content = fetch(f"{base}/answer", body)
    assert told == 200
    assert json.loads(content)["video"]["path"] != path
    told, content = fetch(f"{base}/answer", body | {"given": "skipped"})
    assert (told, json.loads(content)["problem"]) == (
        409,
        "this video was answered in another tab",
    )
    assert fetch(f"{base}/answer", body | {"path": "elsewhere.avi"})[0] == 409
    assert fetch(f"{base}/answer", body | {"given": "label:nothing"})[0] == 400
    assert desk.state()["labels"] == 1


def test_every_name_has_its_picture_and_no_other_file_has(address: str, desk: Desk) -> None:
    base = f"{address}/{TOKEN}/strip?path="
    for row in desk._answers.asked:
        told, picture = fetch(base + urllib.parse.quote(row["path"], safe=""))
        assert told == 200
        assert picture[:2] == b"\xff\xd8"
    assert fetch(base + "..%2Flabels.csv")[0] == 404


def test_a_part_of_a_video_has_a_picture_of_its_own(small_videos: Path, tmp_path: Path) -> None:
    source = desks.source_of(desks.hurtful_folder(small_videos, tmp_path / "videos"))
    whole = source.manifest.items[0]
    end = whole.num_frames - 1
    part = replace(whole, path=f"{whole.path}#t=9", first_frame=end, num_frames=1)
    asked = Suggestion(1, part.path, "g", None, None, None, None, None)
    source = replace(source, manifest=source.manifest.replace((part,)), choose=lambda *_: [asked])
    desk = Desk(source, tmp_path / "labels.csv", 1, "auto", lambda _: source)
    made = desk.strip(part.path)
    drawn = np.asarray(Image.open(io.BytesIO(made.jpeg)), np.float64)
    with open_video(source.root / whole.path, "auto", made.height) as video:
        first, last = video.read([0, end]).astype(np.float64)
    for shown in (drawn[: made.height, : made.width], drawn[-made.height :, -made.width :]):
        assert abs(shown - last).mean() < abs(shown - first).mean() / 2


@pytest.mark.parametrize("name", ["", " ", "x" * 81, "two\nlines", "${x}", "Wave"])
def test_a_name_that_does_not_serve_is_refused(name: str, address: str, desk: Desk) -> None:
    desk.add_class("wave")
    assert fetch(f"{address}/{TOKEN}/class", {"name": name})[0] == 400
    assert desk.classes == ["wave"]


def test_the_command_trains_on_what_was_answered(desk: Desk) -> None:
    for name in ("it's, a [b]", "null"):
        desk.add_class(name)
    for video, name in zip(desk._answers.asked[:2], desk.classes, strict=True):
        desk.answer(video["path"], f"label:{name}", "")
    words = shlex.split(desk.state()["command"])
    assert words[:4] == ["bgan-video", "train", "--config", "video_folder"]
    loaded = config.load(words[3], words[4:])
    manifest = splits.split(layouts.read(loaded.data), loaded.data)
    assert {manifest.classes[item.label] for item in manifest.labelled} == {"it's, a [b]", "null"}


@pytest.mark.parametrize("name", ["007", "1e3", "null", "plain-2", "it's, a #1"])
def test_the_command_keeps_the_names_of_runs(name: str, tmp_path: Path, desk: Desk) -> None:
    source = _of_run(desk, tmp_path / name / f"{name}-1")
    command = again.command(source, tmp_path / "labels.csv", ["a", "b"])
    run = config.load("video_folder", command.words[3:]).run
    assert Path(run.dir) / str(run.name) == command.folder == tmp_path / name / f"{name}-2"
    loose = again.command(replace(source, run=None, name=name), tmp_path / "l.csv", ["a", "b"])
    assert config.load("video_folder", loose.words[3:]).run.name == loose.folder.name


def test_there_is_nothing_to_train_on_with_one_class(address: str, desk: Desk) -> None:
    desk.add_class("wave")
    desk.answer(desk.state()["video"]["path"], "label:wave", "")
    told, content = fetch(f"{address}/{TOKEN}/train", {})
    assert told == 400
    assert "two classes" in json.loads(content)["problem"]


def test_more_are_asked_for_until_there_are_none(address: str, desk: Desk) -> None:
    base = f"{address}/{TOKEN}"
    for left in (4, 2):
        assert desk.state()["left"] == left
        for row in list(desk._answers.open):
            desk.answer(row["path"], "skipped", "")
        told, content = fetch(f"{base}/more", {})
    assert told == 400
    assert "asked for already" in json.loads(content)["problem"]
    assert {row["path"] for row in desk._answers.asked} == {*desks.NAMES}


def test_the_page_that_goes_on_with_a_run_has_its_table_alone(tmp_path: Path, desk: Desk) -> None:
    run = tmp_path / "run"
    run.mkdir()
    desk._open_run = lambda _: desk.source
    desk._training = SimpleNamespace(  # type: ignore[assignment]
        state="done", command=SimpleNamespace(folder=run), stop=lambda: None
    )
    first, second = desk.file, run / "suggestions.csv"
    with held(second), pytest.raises(UserError, match="another bgan-video label"):
        desk.next_round()
    assert desk.file == first
    desk.next_round()
    assert desk.file == second
    with held(first), pytest.raises(UserError, match="another bgan-video label"):
        held(second).__enter__()
    desk.close()
    with held(second):
        pass


def test_a_run_of_nothing_but_labels_is_gone_on_with_and_says_so(
    tmp_path: Path, desk: Desk
) -> None:
    run = tmp_path / "run"
    run.mkdir()

    def nothing_left(*_: object) -> list[Suggestion]:
        raise UserError("every training video is labelled")

    desk._open_run = lambda _: replace(desk.source, name="run", choose=nothing_left)
    desk._training = SimpleNamespace(  # type: ignore[assignment]
        state="done", command=SimpleNamespace(folder=run), stop=lambda: None
    )
    with pytest.raises(UserError, match="every training video"):
        desk.next_round()
    shown = desk.state()
    assert (shown["name"], shown["training"], shown["video"]) == ("run", None, None)
    with pytest.raises(UserError, match="every training video"):
        desk.more()
    desk.close()


def test_a_class_is_known_however_its_accents_are_written(desk: Desk) -> None:
    desk.add_class("Cafe\u0301")
    with pytest.raises(UserError, match="already"):
        desk.add_class("caf\xe9")


def test_runs_are_numbered_and_their_chain_is_known(tmp_path: Path, desk: Desk) -> None:
    runs = tmp_path / "runs"
    for name, labels in (("a", None), ("a-2", runs / "a" / "suggestions.csv")):
        folder = runs / name
        folder.mkdir(parents=True)
        data = f", label_list: {labels}" if labels else ""
        (folder / "config.yaml").write_text(f"data: {{layout: video_folder{data}}}")
        top1 = {"models": {"bayesian": {"video": {"top1": 0.5}}}}
        (folder / "metrics.json").write_text(json.dumps(top1))
        items = [{"labelled": True}] * (2 if labels else 1)
        (folder / "manifest.json").write_text(json.dumps({"items": items}))
    (runs / "a" / "suggestions.csv").write_text(
        "path,label,rank,predicted\nx,wave,1,wave\ny,bend,2,wave\nz,,3,wave\n"
    )
    chain = history.rounds(runs / "a-2")
    assert [(r.name, r.labels, r.top1, r.asked, r.guessed) for r in chain] == [
        ("a", 1, 0.5, 2, 1),
        ("a-2", 2, 0.5, 0, 0),
    ]
    assert again._free_folder(_of_run(desk, runs / "a")) == runs / "a-3"
    assert again._free_folder(_of_run(desk, runs / "a-2")) == runs / "a-3"


def _of_run(desk: Desk, run: Path) -> Any:
    return replace(desk.source, run=run)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be read before what is refused."""

    def read(*_: object) -> None:
        raise AssertionError("videos were read")

    monkeypatch.setattr(asking, "begin", read)
    monkeypatch.setattr(asking, "load", read)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("port", [99_999, -1, "taken"])
def test_a_port_that_does_not_serve_is_told_before_anything_is_read(
    port: Any, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind((server.HOST, 0))
        port = other.getsockname()[1] if port == "taken" else port
        with pytest.raises(UserError, match=f"--port={port}"):
            asking.label_first("video_folder", [], tmp_path / "labels.csv", port=port)
        with pytest.raises(UserError, match=f"--port={port}"):
            asking.label(tmp_path, port=port)


@pytest.mark.usefixtures("unread")
def test_a_missing_extra_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("bgan_video.labelling.server")
    monkeypatch.setitem(sys.modules, "bgan_video.labelling.server", None)
    with pytest.raises(UserError, match="pip install"):
        asking.label_first("video_folder", [], tmp_path / "labels.csv")
    with pytest.raises(UserError, match="pip install"):
        asking.label(tmp_path)


@pytest.mark.usefixtures("unread")
def test_first_labels_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    with pytest.raises(UserError, match="asks a trained run"):
        asking.label_first("video_folder", [], table, by="information")
    with pytest.raises(UserError, match="asks a trained run"):
        asking.suggest_first(config.load("video_folder"), 5, table, by="information")
    write_rows(table, [{"path": "a.avi", "label": "x", "rank": "1"}])
    with pytest.raises(UserError, match="filled in; move it"):
        asking.suggest_first(config.load("video_folder"), 5, table)
