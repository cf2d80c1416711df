"""Whole runs on images and on points, through the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bgan_video import cli
from tests.e2e import runs

pytestmark = pytest.mark.e2e

# Every part of a run of images happens; a file, because without one the demo's settings hold.
TINY = """\
clip: {num_frames: 1, stride: 1, test_clips: 1, size: 16}
augment: {flip: false}
generator: {name: dcgan, width: 4, latent_dim: 8}
discriminator: {width: 4, dropout: 0.1}
posterior: {burn_in: 5, thinning: 2, max_samples: 2}
train:
  steps: 12
  batch_size: 4
  labelled_batch_size: 4
  log_every: 1
  evaluate_every: 6
  checkpoint_every: 4
  sample_every: 6
"""
LABELS = ["data.labels_per_class=2", "objective.consistency_weight=1"]
LABELS += [
    "objective.consistency_threshold=0.2",
    "baseline.methods=[bayesian_gan,supervised,cold_gan]",
]
UNSUPERVISED = ["data.num_labelled=0", "baseline.methods=[bayesian_gan]"]
POINTS = ["data.layout=synthetic", "generator.name=mlp", "discriminator.name=mlp"]


def arguments(where: Path, name: str, *more: str) -> list[str]:
    """Of `train`, for a tiny run of that name in a folder."""
    recipe = where / "tiny.yaml"
    recipe.write_text(TINY)
    return ["--config", str(recipe), f"run.dir={where}", f"run.name={name}", *more]


def of_images(shapes: Path) -> list[str]:
    return ["data.layout=image_folder", f"data.root={shapes}"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """A semi-supervised run in a process of its own."""
    where = tmp_path_factory.mktemp("image-runs")
    process = runs.start(*arguments(where, "whole", *of_images(shapes), *LABELS))
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    (where / "whole" / "console.txt").write_text(out + err)
    return where / "whole"


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory, shapes: Path) -> Path:
    """A run on the same images without any label."""
    where = tmp_path_factory.mktemp("unlabelled-runs")
    args = arguments(where, "unlabelled", *of_images(shapes), *UNSUPERVISED)
    assert cli.main(["train", *args]) == 0
    return where / "unlabelled"


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    lines = captured.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


# --- images with labels ------------------------------------------------------------------------


def test_metrics_have_one_level_and_it_is_the_image(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert metrics["data"] == {
        "name": "image_folder",
        "num_classes": 3,
        "num_labelled": 6,
        "num_unlabelled": 18,  # 24, and two of each class are carved out for validation
        "num_test": 12,
        "fold": 1,
    }
    assert set(metrics["models"]) == {"bayesian", "supervised", "cold_gan"}
    for levels in metrics["models"].values():
        assert set(levels) == {"image"}
        assert set(levels["image"]) == runs.FIGURES
        assert levels["image"]["count"] == 12
    assert all(set(levels) == {"image"} for levels in metrics["calibration"].values())


def test_samples_are_pictures_and_no_films(run: Path) -> None:
    found = {path.name for path in (run / "samples").iterdir()}
    assert "real_samples.png" in found
    for chain in ("G_z00_m00", "G_z01_m00"):
        pattern = rf"fake_samples_epoch_\d{{3}}_{chain}\.png"
        # At steps 6 and 12, of two passes over 18 images in batches of 4.
        assert len([name for name in found if re.fullmatch(pattern, name)]) == 2
    assert {name.rpartition(".")[2] for name in found} == {"png"}
    sizes = {8: min(path for path in found if path.startswith("fake")), 2: "real_samples.png"}
    for side, name in sizes.items():
        # 64 fakes and a batch of 4 in a square, with two pixels between them.
        with Image.open(run / "samples" / name) as picture:
            assert picture.size == (16 * side + 2 * (side - 1),) * 2


def test_the_report_and_the_console_speak_of_images(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "12 test images" in page
    assert "At image level" in page
    assert "test videos" not in page
    console = (run / "console.txt").read_text()
    assert "6 labelled of 18 training images" in console
    assert re.search(r"step 12, validation images: bayesian top-1", console)
    assert re.search(r"semi-supervised +image ", console)


def test_the_report_says_nothing_of_videos(run: Path) -> None:
    page = re.sub(r"<(script|style).*?</\1>", "", (run / "report.html").read_text(), flags=re.S)
    settings = page.index("Settings and environment")
    text = re.sub(r"<[^>]*>", " ", page[:settings])
    assert re.findall(r".{0,60}(?<!bgan-)\b(?:videos?|clips?)\b.{0,30}", text) == []


def test_predictions_have_one_level(run: Path) -> None:
    tensors = load_file(run / "predictions" / "test.safetensors")
    assert {name for name in tensors if "clip" in name or "video" in name} == set()
    assert tensors["bayesian/image_probs"].shape == (12, 3)
    assert tensors["image_labels"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_a_run_resumed_from_a_checkpoint_is_bitwise_the_run_that_was_not(
    run: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    shutil.copytree(run, again)
    (again / "checkpoints" / "step_00000012.pt").unlink()
    (again / "posterior" / "finished.json").unlink()
    (again / "metrics.json").unlink()
    assert (again / "checkpoints" / "step_00000008.pt").is_file()
    resumed = runs.start("--resume", str(again))
    _, err = resumed.communicate(timeout=500)
    assert resumed.returncode == 0, err
    assert "after step 8 of 12" in err
    assert runs.log(again) == runs.log(run)
    one, other = (json.loads((r / "metrics.json").read_text()) for r in (again, run))
    assert one["models"] == other["models"]
    stored = sorted((run / "posterior").glob("*.safetensors"))
    assert [p.name for p in stored] == sorted(
        p.name for p in (again / "posterior").glob("*.safetensors")
    )
    for path in stored:
        left, right = load_file(path), load_file(again / "posterior" / path.name)
        assert all(torch.equal(left[key], right[key]) for key in left), path.name


def test_a_tar_of_images_serves_as_their_folder_does(
    run: Path, shapes: Path, tmp_path: Path
) -> None:
    packed = shutil.make_archive(str(tmp_path / "set"), "gztar", shapes.parent)
    where = ["data.layout=image_folder", f"data.root={packed}"]
    assert cli.main(["train", *arguments(tmp_path, "packed", *where, *LABELS)]) == 0
    # Paths in the tar are longer, which other images are chosen by: the counts are the same.
    counts = [
        json.loads((r / "metrics.json").read_text())["data"] for r in (run, tmp_path / "packed")
    ]
    assert counts[0] == counts[1]


def test_an_image_that_does_not_read_stops_a_run_by_name_or_is_left_out(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "set"
    shutil.copytree(shapes, copied)
    (copied / "train" / "disc" / "3.png").write_bytes(b"no image")
    args = [*of_images(copied), *UNSUPERVISED, "train.steps=8"]
    capsys.readouterr()
    assert cli.main(["train", *arguments(tmp_path, "stopped", *args)]) == 2
    line = one_line(capsys)
    assert "train/disc/3.png" in line
    assert "data.max_broken=0" in line
    assert not (tmp_path / "stopped").exists()
    more = [*args, "data.max_broken=1"]
    assert cli.main(["train", *arguments(tmp_path, "left-out", *more)]) == 0
    (record,) = (tmp_path / "left-out" / "broken.jsonl").read_text().splitlines()
    assert json.loads(record)["path"] == "train/disc/3.png"
    assert '"train/disc/3.png"' not in (tmp_path / "left-out" / "manifest.json").read_text()


def test_an_image_that_changed_is_not_evaluated(
    run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "set"
    shutil.copytree(shapes, copied)
    shutil.copy(copied / "test" / "bar" / "0.png", copied / "test" / "disc" / "1.png")
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), f"data.root={copied}"]) == 2
    assert "test/disc/1.png" in one_line(capsys)


@pytest.mark.parametrize("layout", ["mnist", "cifar10", "svhn", "celeba", "image_folder"])
def test_a_missing_root_is_one_line_and_leaves_nothing(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [f"data.layout={layout}", f"data.root={tmp_path / 'nowhere'}"]
    capsys.readouterr()
    assert cli.main(["train", *arguments(tmp_path, "bad", *where, *LABELS)]) == 2
    line = one_line(capsys)
    assert "nowhere" in line
    assert f"datasets/{layout}.md" in line
    assert not (tmp_path / "bad").exists()


def test_an_image_has_no_frames_to_choose(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    args = arguments(tmp_path, "bad", *of_images(shapes), *LABELS, "clip.num_frames=4")
    assert cli.main(["train", *args]) == 2
    line = one_line(capsys)
    assert "clip.num_frames=4, but data.layout=image_folder has images; allowed: 1" in line


# --- images without labels ---------------------------------------------------------------------


def test_a_run_without_labels_has_samples_and_a_report_and_nothing_to_classify(
    unlabelled: Path,
) -> None:
    for name in ("report.html", "samples/real_samples.png", "posterior/finished.json"):
        assert (unlabelled / name).is_file(), name
    assert list((unlabelled / "samples").glob("fake_samples_epoch_*_G_z01_m00.png"))
    for name in ("metrics.json", "evaluations.jsonl", "predictions/test.safetensors"):
        assert not (unlabelled / name).exists(), name
    lines = runs.log(unlabelled)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["phase"] for line in lines] == ["burn_in"] * 5 + ["sampling"] * 7
    assert not any("labelled" in line or "train_top1" in line for line in lines)
    stored = {path.name.partition("_")[0] for path in (unlabelled / "posterior").glob("*_*")}
    assert stored == {"discriminator", "generator"}
    items = json.loads((unlabelled / "manifest.json").read_text())["items"]
    assert not any(item["labelled"] for item in items)


@pytest.mark.parametrize("more", [[], ["--validation"], ["--renormalise"]], ids=str)
def test_a_run_without_labels_is_not_evaluated(
    more: list[str], unlabelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(["evaluate", str(unlabelled), *more]) == 2
    assert "used no labels" in one_line(capsys)
    assert not (unlabelled / "metrics.json").exists()


def test_a_run_without_labels_suggests_none(
    unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = ["--budget", "2", "--out", str(tmp_path / "next.csv")]
    assert cli.main(["suggest", str(unlabelled), *out]) == 2
    assert "used no labels" in one_line(capsys)


def test_a_run_without_labels_predicts_no_class(
    unlabelled: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    picture = shapes / "test" / "bar" / "0.png"
    assert cli.main(["predict", str(unlabelled), str(picture)]) == 2
    assert "used no labels" in one_line(capsys)


# --- predicting images -------------------------------------------------------------------------


def test_an_image_file_is_predicted(
    run: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = shapes / "test" / "bar" / "0.png"
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(picture), "--json"]) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert record["classes"] == ["bar", "disc", "square"]
    # The first test image, read as evaluation reads it.
    stored = load_file(run / "predictions" / "test.safetensors")["bayesian/image_probs"][0]
    assert record["probabilities"] == pytest.approx(stored.tolist(), abs=0.02)


def test_a_folder_of_images_is_predicted(
    run: Path, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(shapes / "test"), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12


# --- points ------------------------------------------------------------------------------------


def test_points_are_learned_with_few_labels(tmp_path: Path) -> None:
    assert cli.main(["train", *arguments(tmp_path, "points", *POINTS, *LABELS[:1])]) == 0
    run = tmp_path / "points"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["num_labelled"] == 20
    assert all(set(levels) == {"point"} for levels in metrics["models"].values())
    assert metrics["models"]["bayesian"]["point"]["count"] == 1000
    assert not list((run / "samples").iterdir()), "a point has no picture"
    assert (run / "report.html").is_file()


def test_points_need_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    args = arguments(tmp_path, "points", *POINTS, *UNSUPERVISED)
    assert cli.main(["train", *args]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing to classify")
    assert "report.html" in out
    assert not (tmp_path / "points" / "metrics.json").exists()
    assert cli.main(["evaluate", str(tmp_path / "points")]) == 2
    assert "used no labels" in one_line(capsys)


def test_adam_to_the_end_leaves_the_last_weights_as_its_sample(tmp_path: Path) -> None:
    """And first labels: the notebook's protocol, on points."""
    notebook = ["compat.adam=true", "compat.noise_scale=notebook", "compat.first_labels=true"]
    more = [*POINTS, *notebook, "compat.complement_clamp=1e-4", "data.num_labelled=30"]
    args = arguments(tmp_path, "adam", *more, "data.validation_fraction=0", "posterior.burn_in=99")
    assert cli.main(["train", *args]) == 0
    run = tmp_path / "adam"
    lines = runs.log(run)
    assert {line["phase"] for line in lines} == {"burn_in"}
    assert all(line["prior_d"] > 0 for line in lines)
    stored = {path.name for path in (run / "posterior").glob("discriminator_*")}
    assert stored == {f"discriminator_00000012_{j:02d}.safetensors" for j in (0, 1)}
    items = json.loads((run / "manifest.json").read_text())["items"]
    labelled = [item["path"] for item in items if item["labelled"]]
    assert labelled == [f"train/{i:06d}" for i in range(30)]


def test_independent_pairs_are_trained_and_resumed(shapes: Path, tmp_path: Path) -> None:
    pairs = ["posterior.independent=true", "posterior.bayes=false", "data.labels_per_class=2"]
    assert cli.main(["train", *arguments(tmp_path, "pairs", *of_images(shapes), *pairs)]) == 0
    run = tmp_path / "pairs"
    before = runs.log(run)
    (run / "checkpoints" / "step_00000012.pt").unlink()
    (run / "posterior" / "finished.json").unlink()
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert runs.log(run) == before
    assert set(json.loads((run / "metrics.json").read_text())["models"]) == {
        "bayesian",
        "supervised",
    }
