import base64
import io
import json
import re
import shutil
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bgan_video.errors import UserError
from bgan_video.reports import comparison, items, plots, sections, write_report
from bgan_video.reports.reading import ModelPredictions, read_run

SECTIONS = ("result", "learning", "calibration", "confusion", "uncertainty", "chains", "samples",
            "items", "broken", "settings")  # fmt: skip


def _page(run) -> str:
    return write_report(run).read_text(encoding="utf-8")


def _section(page: str, name: str) -> str:
    return re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL).group()


def _edit_json(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session", name="page")
def _drawn(shared_run):
    """The whole page of the full run, with its plots."""
    return _page(shared_run)


@pytest.fixture(name="undrawn")
def _undrawn(monkeypatch):
    """Plots are composed but not drawn, which is most of the report's time."""
    monkeypatch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))


@pytest.fixture(name="run")
def _run(shared_run, tmp_path, undrawn):
    """A copy to change, reported on without drawing."""
    return shutil.copytree(shared_run, tmp_path / "run")


def test_the_page_needs_no_other_resource(page):
    references = re.findall(r'(?:src|href|poster|srcset|data)="([^"]*)"', page)
    assert references
    assert all(ref.startswith(("data:", "#")) for ref in references)
    assert not re.search(r"url\(|@import|https?://|fetch\(", page)


def test_every_section_is_there_and_every_picture_has_a_text(page):
    for name in SECTIONS:
        assert 'class="none"' not in _section(page, name), name
        assert f'href="#{name}"' in page
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) >= 12
    assert all(re.search(r'alt="[^"]{8,}"', image) for image in images)


def test_nothing_but_the_report_is_left_in_the_folder(shared_run, page):
    assert (shared_run / "report.html").read_text(encoding="utf-8") == page
    assert not list(shared_run.glob("*.partial"))


def test_a_plot_is_the_same_bytes_twice():
    series = {"loss_d": (np.arange(3.0), np.arange(3.0))}
    assert plots.lines("losses", series, [1.0]) == plots.lines("losses", series, [1.0])


@pytest.mark.filterwarnings("error")
def test_class_names_stand_in_plots_as_they_are():
    """Neither dollars nor letters that no font of matplotlib's has are read as anything else."""
    names = ["a_$_$", "$x^2$", "挥手", "läuft & <b>"]
    model, labels = ModelPredictions(np.eye(4)), np.arange(4)
    drawn = plots.confusion("bayesian", "#0072B2", model, labels, names)
    svg = ElementTree.fromstring(base64.b64decode(drawn.uri.partition(",")[2]))
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert [texts.count(name) for name in names] == [2, 2, 2, 2]


def test_embedded_videos_play_and_are_muted(page):
    tags = re.findall(r"<video [^>]*>", page)
    assert len(tags) == 3
    for tag in tags:
        assert all(word in tag for word in ("autoplay", "loop", "muted", "aria-label"))
        encoded = re.search(r"data:video/mp4;base64,([^\"]*)", tag).group(1)
        with av.open(io.BytesIO(base64.b64decode(encoded))) as container:
            assert sum(1 for _ in container.decode(video=0)) >= 16


def test_thin_keeps_short_series_and_averages_long_ones():
    steps = np.arange(10.0)
    assert plots.thin(steps, steps, limit=10)[0] is steps
    thinned, values = plots.thin(steps, 2 * steps, limit=5)
    assert thinned.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert values.tolist() == [1, 5, 9, 13, 17]


def test_table_marks_the_better_figure_and_the_difference():
    metrics = {
        "models": {
            "bayesian": {"video": {"top1": 0.72, "nll": 1.25, "ece": 0.1, "count": 50}},
            "supervised": {"video": {"top1": 0.60, "nll": 1.0, "ece": 0.1, "count": 50}},
            "deep_ensemble": {"video": {"top1": 0.50, "nll": None}},
        }
    }
    (table,) = comparison.tables(metrics)
    rows = {row.title: row for row in table.rows}
    assert (table.level, table.count) == ("video", 50)
    assert table.models == ["semi-supervised", "supervised", "deep ensemble"]
    assert [cell.best for cell in rows["top-1"].cells] == [True, False, False]
    assert [cell.best for cell in rows["NLL (nats)"].cells] == [False, True, False]
    assert [cell.best for cell in rows["ECE"].cells] == [False, False, False]
    assert rows["top-1"].difference == "+12.0 points"
    assert rows["NLL (nats)"].difference == "+0.250"
    assert rows["ECE"].difference == "0.0 points"
    assert rows["Brier"].difference == "–"


def _with_predictions(run, bayesian_right, supervised_right) -> str:
    """The result section where the models have the first so many videos right."""
    path = run / "predictions" / "test.safetensors"
    tensors = load_file(path)
    labels = tensors["video_labels"]
    for model, right in (("bayesian", bayesian_right), ("supervised", supervised_right)):
        said = np.where(np.arange(len(labels)) < right, labels, (labels + 1) % 8)
        tensors[f"{model}/video_probs"] = (0.9 * np.eye(8)[said] + 0.0125).astype(np.float32)
    save_file(tensors, path)
    return _section(_page(run), "result")


def test_verdict_is_honest_in_both_directions(run):
    better = _with_predictions(run, 200, 160)
    assert "semi-supervised model is the better one" in better
    assert "right on 200 (83.3 %)" in better
    assert "+16.7 points" in better
    assert "The supervised network is the better one" in _with_predictions(run, 160, 200)
    assert "Neither model is shown" in _with_predictions(run, 162, 160)
    assert "0.0 points (95 % interval 0.0 to 0.0)" in _with_predictions(run, 160, 160)


def test_wrong_and_uncertain_items(shared_run):
    folder = read_run(shared_run)
    model, labels = folder.predictions.models["bayesian"], folder.predictions.labels
    wrong = [n for n in range(len(labels)) if model.predicted[n] != labels[n]]
    worst = max(wrong, key=lambda n: model.confidence[n])
    rows = items.most_wrong(folder)
    assert rows[0].path == folder.judged_items[worst]["path"]
    assert rows[0].true != rows[0].predicted
    assert float(rows[0].probability) == pytest.approx(model.confidence[worst], abs=1e-3)
    most = int(np.argmax(model.uncertainty["mutual_information"]))
    assert items.most_uncertain(folder)[0].path == folder.judged_items[most]["path"]


def test_paths_are_not_guessed_where_the_manifest_does_not_fit(run):
    _edit_json(run / "manifest.json", lambda m: m["items"].pop())
    assert items.most_uncertain(read_run(run))[0].path.startswith("test item ")


def test_last_samples_and_progress(shared_run):
    shown = items.samples(read_run(shared_run))
    assert [film.title for film in shown.last] == ["G z00 m00, epoch 10", "G z01 m00, epoch 10"]
    assert [film.title for film in shown.progress] == ["epoch 1", "epoch 5", "epoch 10"]


def test_a_picture_of_real_beside_generated_clips_plays_in_the_page(run, undrawn):
    assert "to the right" not in _section(_page(run), "samples")
    (run / "samples" / "real_and_generated.webp").write_bytes(b"moving")
    shown = _section(_page(run), "samples")
    assert f"data:image/webp;base64,{base64.b64encode(b'moving').decode()}" in shown
    assert "generated ones to the right" in shown


def test_burn_in_ends_at_its_last_step(shared_run):
    assert sections.burn_in_ends(read_run(shared_run).log) == [300]
    assert sections.burn_in_ends([{"step": 10, "phase": "burn_in"}]) == []
    phases = ["burn_in", "burn_in", "sampling", "burn_in", "sampling", "sampling"]
    log = [{"step": 10 * n, "phase": phase} for n, phase in enumerate(phases)]
    assert sections.burn_in_ends(log) == [10, 30]


def test_a_run_with_nothing_to_judge_it_by_says_so(run):
    _edit_json(
        run / "manifest.json",
        lambda m: m.update(items=[item for item in m["items"] if item["split"] != "test"]),
    )
    for name in ("metrics.json", "predictions/test.safetensors"):
        (run / name).unlink()
    result = _section(_page(run), "result")
    assert "no video was kept for test" in result
    assert "has not finished" not in result


def test_a_folder_with_settings_only(tmp_path):
    (tmp_path / "config.yaml").write_text("run: {name: early}\n")
    page = _page(tmp_path)
    assert "<h1>early</h1>" in page
    for name in SECTIONS:
        assert _section(page, name).count('class="none"') >= 1, name


def test_a_folder_without_settings_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b'{"torn": [1, \xff'])
def test_empty_and_torn_files_are_survived(run, content):
    for path in run.rglob("*"):
        if path.is_file():
            path.write_bytes(content)
    page = _page(run)
    for name in SECTIONS:
        assert 'class="none"' in _section(page, name) or name == "samples"


def test_absent_parts_are_survived(run):
    for name in ("manifest.json", "metrics.json"):
        (run / name).unlink()
    page = _page(run)
    assert "metrics.json" in _section(page, "result")
    assert "test item " in _section(page, "items")
    assert "class 7" in _section(page, "items")
    shutil.rmtree(run / "predictions")
    assert 'class="none"' in _section(_page(run), "calibration")


def test_a_torn_last_line_of_the_log_is_left_out(run):
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 1010, "loss_')
    assert read_run(run).log[-1]["step"] == 1000


def test_diverged_figures_and_predictions(run):
    path = run / "predictions" / "test.safetensors"
    tensors = load_file(path)
    tensors["supervised/video_probs"][3] = np.nan
    save_file(tensors, path)
    _edit_json(
        run / "metrics.json", lambda m: m["models"]["supervised"]["video"].update(nll=float("nan"))
    )
    page = _page(run)
    assert "“supervised” are left out" in page
    assert "nan" not in _section(page, "result").lower()


def test_text_from_the_run_is_escaped(page):
    assert "&lt;no video stream&gt;" in _section(page, "broken")


def test_an_image_run(run):
    def rename(metrics):
        for levels in metrics["models"].values():
            levels["image"] = levels.pop("video")
            del levels["clip"]

    _edit_json(run / "metrics.json", rename)
    for film in (run / "samples").glob("*.mp4"):
        film.unlink()
    page = _page(run)
    assert "At image level, 240 images" in page
    assert "test images" in page
    assert "<video" not in page


def test_a_hundred_classes(tmp_path, write_run, undrawn):
    page = _page(write_run(tmp_path / "run", num_test=202, num_classes=101))
    assert "full colour is all of them" in _section(page, "confusion")


@pytest.mark.parametrize("weights", ["efficientnet-lite0", "/models/kinetics.pt"])
def test_the_pretrained_weights_are_named(tmp_path, undrawn, weights):
    body = f"{{name: r3d_18, weights: {weights}}}"
    (tmp_path / "config.yaml").write_text(f"run: {{name: early}}\ndiscriminator: {body}\n")
    name = weights.rpartition("/")[2]
    assert ("pretrained weights", f"{name} (r3d_18)") in sections.facts(read_run(tmp_path))
    assert f"<dd>{name} (r3d_18)</dd>" in _page(tmp_path)


TWO = "discriminator: {bodies: [dcgan, 'features:efficientnet-lite0']}"
OWN = "features: {body: 'timm:x', weights: /models/b.pt}"
OF_BOTH = (
    "discriminator: {name: r3d_18, weights: /models/a.pt, bodies: [r3d_18, 'features:timm:x']}"
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ([TWO], "efficientnet-lite0 (frozen)"),
        ([TWO, "baseline: {methods: [supervised]}"], None),
        (["baseline: {methods: [knn]}"], "efficientnet-lite0 (frozen)"),
        (["baseline: {methods: [knn]}", OWN], "b.pt (timm:x, frozen)"),
        ([OF_BOTH, OWN], "a.pt (r3d_18), b.pt (timm:x, frozen)"),
    ],
)
def test_the_weights_of_a_frozen_body_are_named(tmp_path, settings, told):
    (tmp_path / "config.yaml").write_text("\n".join(["run: {name: early}", *settings]))
    assert dict(sections.facts(read_run(tmp_path))).get("pretrained weights") == told
