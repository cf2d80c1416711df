"""What a study leaves: lines, summary, page and picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.reports import study_plots, study_summary
from bgan_video.reports.study_summary import Summary
from bgan_video.studies import cells, results
from bgan_video.studies.grid import Study
from tests.studies import fake
from tests.studies.conftest import finish

SECTIONS = ("results", "curves", "differences", "reliability", "cost", "missing", "study")
ONE = {"folds": [1], "seeds": [0], "labels": {"data.labels_per_class": [4]}}


def written(study: Study) -> tuple[Summary, list[dict], str]:
    """Write the results; summary, lines and page."""
    summary = results.write(study)
    lines = (study.out / results.RESULTS).read_text().splitlines()
    return summary, [json.loads(line) for line in lines], (study.out / results.PAGE).read_text()


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found.group()


def test_a_line_a_finished_cell(read_study: Callable[..., Study], undrawn: None):
    study = read_study()
    finish(study, skip=(study.cells[3].name,))
    _, rows, _ = written(study)
    assert len(rows) == len(study.cells) - 1
    row = next(r for r in rows if (r["method"], r["labels"], r["fold"]) == ("flat", "4", 2))
    assert (row["study"], row["split"]) == ("grid", "test")
    assert (row["num_labelled"], row["seed"], row["networks"]) == (16, 0, 4)
    assert (row["peak_memory_mib"], row["seconds"] >= 60) == (800, True)
    assert row["calibration"] == {"aurc": 0.1, "scaled": {"nll": 0.5}}
    assert row["auroc"] == {"total_entropy": 0.75}
    assert set(row["figures"]) == {"clip", "video"}
    assert set(row["figures"]["video"]) == {"top1", "top5", "nll", "ece", "brier"}
    assert {"train.steps": 300, "posterior.prior_std": 1000, "data.fold": 2}.items() <= row[
        "settings"
    ].items()
    assert not {"run.name", "run.dir", "clip.size"} & set(row["settings"])


def test_cells_of_other_settings_are_not_told_as_those_of_the_study(
    read_study: Callable[..., Study], undrawn: None
):
    """Neither by a report nor where another process changed the study meanwhile."""
    finish(read_study(**ONE))
    other = read_study(**ONE, settings={"train.steps": 600, "posterior.burn_in": 100})
    with pytest.raises(UserError, match=r"train\.steps=300, the study now asks for 600"):
        results.write(other)
    assert not (other.out / results.RESULTS).exists()


def test_what_a_run_did_not_measure_is_none(read_study: Callable[..., Study], undrawn: None):
    study = read_study(**ONE)
    finish(study)
    for file in study.cells_folder.glob("*/metrics.json"):
        found = json.loads(file.read_text())
        found |= {"calibration": {}, "open_set": {}}
        file.write_text(json.dumps(found))
    _, rows, _ = written(study)
    assert {(row["calibration"], row["auroc"]) for row in rows} == {(None, None)}


@pytest.mark.parametrize(
    ("data", "recordings"),
    [
        ({"data.layout": "ucf101"}, 24),  # person3 of another class is another one
        ({"data.layout": "ucf101", "data.groups_span_classes": True}, 12),
        ({"data.layout": "video_folder"}, 12),
    ],
)
def test_chance_draws_recordings(
    data: dict[str, object], recordings: int, read_study: Callable[..., Study], undrawn: None
):
    study = read_study(**ONE, settings={"train.steps": 300, "posterior.burn_in": 100, **data})
    finish(study)
    entry = written(study)[0].entry("flat", "4")
    assert entry is not None
    assert entry.difference is not None
    assert entry.difference.recordings == recordings


def test_means_errors_and_differences_are_those_of_the_lines(
    read_study: Callable[..., Study], undrawn: None
):
    study = read_study()
    finish(study)
    summary, rows, _ = written(study)
    stored = json.loads((study.out / results.SUMMARY).read_text())
    assert stored == json.loads(json.dumps(summary.to_mapping()))
    assert len(summary.entries) == 6

    def top1(method: str) -> np.ndarray:
        own = [r for r in rows if (r["method"], r["labels"]) == (method, "4")]
        return np.array([r["figures"]["video"]["top1"] for r in own])

    entry = summary.entry("flat", "4")
    assert entry is not None
    assert entry.cells == 4
    assert entry.num_labelled == 16
    assert entry.figures["top1"].mean == pytest.approx(top1("flat").mean())
    error = top1("flat").std(ddof=1) / 2
    assert entry.figures["top1"].standard_error == pytest.approx(error)
    paired = entry.difference
    assert paired is not None
    assert (paired.cells, paired.folds, paired.seeds, paired.recordings) == (4, [1, 2], [0, 1], 48)
    expected = (top1("flat") - top1("supervised")).mean()
    assert paired.figures["top1"].estimate == pytest.approx(expected)
    reference = summary.entry("supervised", "4")
    assert reference is not None
    assert reference.difference is None


def test_only_cells_that_both_methods_have_are_compared(
    read_study: Callable[..., Study], undrawn: None
):
    study = read_study()
    finish(study, skip=("supervised-1-fold1-seed0", "flat-1-fold2-seed1"))
    manifest = study.cells_folder / "flat-1-fold1-seed1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("test_0.avi", "another.avi"))
    entry = results.write(study).entry("flat", "1")
    assert entry is not None
    assert entry.cells == 3
    assert entry.difference is not None
    assert (entry.difference.folds, entry.difference.seeds) == ([2], [0])


def test_a_cell_of_two_models_is_refused(read_study: Callable[..., Study]):
    study = read_study()
    finish(study)
    file = cells.folder(study, study.cells[0]) / "metrics.json"
    content = json.loads(file.read_text())
    content["models"]["supervised"] = content["models"]["bayesian"]
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"2 models \(bayesian, supervised\)"):
        results.write(study)


def test_the_page_is_whole_and_needs_no_other_file(read_study: Callable[..., Study]):
    study = read_study()
    finish(study)
    _, _, page = written(study)
    references = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(ref.startswith(("data:", "#")) for ref in references)
    assert not re.search(r"url\(|@import|https?://", page)
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == 1 + 3 + 2  # curves, differences, a reliability diagram a label setting
    assert all(re.search(r'alt="[^"]{8,}"', image) for image in images)
    for name in SECTIONS:
        assert f'href="#{name}"' in page
        assert ('class="none"' in section(page, name)) == (name == "missing")
    assert "Few seeds make it wide" in section(page, "differences")
    assert (study.out / results.CURVE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("undrawn")
def test_the_page_names_failed_and_missing_cells_and_shows_the_file(
    read_study: Callable[..., Study],
):
    study = read_study(methods={"supervised": {}, "flat": {"data.root": "<b>"}})
    failed, missing = study.cells[2].name, study.cells[5].name
    finish(study, skip=(failed, missing))
    cells.beside(study, study.cells[2], "failed").write_text("error: <no> memory\n")
    _, _, page = written(study)
    assert failed in section(page, "missing")
    assert "error: &lt;no&gt; memory" in section(page, "missing")
    assert f'<p class="path">{missing}</p>' in section(page, "missing")
    assert "&lt;b&gt;" in section(page, "study")


@pytest.mark.usefixtures("undrawn")
def test_one_seed_and_one_fold_have_dashes_for_errors(read_study: Callable[..., Study]):
    study = read_study(**ONE)
    finish(study)
    summary, _, page = written(study)
    assert re.search(r"\d % ± –", section(page, "results"))
    entry = summary.entry("flat", "4")
    assert entry is not None
    assert entry.difference is not None
    assert entry.difference.figures["top1"].low is not None, "there are recordings to resample"
    assert "± –" in study_summary.text(summary)


@pytest.mark.usefixtures("undrawn")
def test_a_study_on_validation_says_so_and_never_says_test(read_study: Callable[..., Study]):
    settings = {"train.steps": 300, "posterior.burn_in": 100, "train.final_split": "validation"}
    study = read_study(settings=settings)
    finish(study)
    summary, rows, page = written(study)
    assert len(rows) == len(study.cells)
    assert {row["split"] for row in rows} == {"validation"}
    assert summary.split == json.loads((study.out / results.SUMMARY).read_text())["split"]
    assert summary.split == "validation"
    shown = section(page, "results")
    assert "Results on the validation splits" in shown
    assert "Not test figures" in shown
    assert "validation items" in section(page, "reliability")
    others = "".join(section(page, name) for name in ("differences", "reliability", "curves"))
    assert not re.search(r"\btest (items|recordings|predictions|split)", others)
    assert "all on validation" in study_summary.text(summary)
    ax = study_plots._curves(summary).axes[0]
    assert ax.get_title() == "validation top-1, %"


@pytest.mark.usefixtures("undrawn")
def test_a_study_whose_data_have_no_test_part_reports_on_validation(
    read_study: Callable[..., Study],
):
    study = read_study(**ONE)
    for cell in study.cells:  # as such runs are: test was wanted, and there was none
        mapping = config.to_mapping(cell.config)
        mapping["train"]["final_split"] = "validation"
        fake.write_cell(cells.folder(study, cell), mapping)
        fake.begin(cells.folder(study, cell), config.to_mapping(cell.config))
    summary, rows, page = written(study)
    assert study.split == "test"
    assert (summary.split, summary.missing) == ("validation", [])
    assert {row["split"] for row in rows} == {"validation"}
    assert "Not test figures" in section(page, "results")


@pytest.mark.usefixtures("undrawn")
def test_each_body_of_a_method_stands_below_it(read_study: Callable[..., Study]):
    study = read_study(labels={"data.labels_per_class": [4]})
    finish(study)
    told = [c for c in study.cells if c.method == "flat"][:2]  # of the others nobody knows
    top1 = {"dcgan": [0.25, 0.75], "features:<a>": [0.5, 0.5]}
    for n, cell in enumerate(told):
        file = cells.folder(study, cell) / "metrics.json"
        bodies = {name: {"video": {"top1": of[n], "nll": 1.5}} for name, of in top1.items()}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"bodies": bodies}))
    summary, rows, page = written(study)
    with_bodies = [row for row in rows if "bodies" in row]
    assert [row["method"] for row in with_bodies] == ["flat", "flat"]
    of_dcgan = [row["bodies"]["dcgan"]["video"] for row in with_bodies]
    assert of_dcgan == [{"top1": 0.25, "nll": 1.5}, {"top1": 0.75, "nll": 1.5}]
    entry = summary.entry("flat", "4")
    assert entry is not None
    assert [(body.name, body.cells) for body in entry.bodies] == [("dcgan", 2), ("features:<a>", 2)]
    assert entry.bodies[0].figures["top1"].mean == 0.5
    assert set(entry.bodies[0].figures) == {"top1", "nll"}
    shown = section(page, "results")
    assert "A row <em>body …</em> is a part" in shown
    below = shown[shown.index("<td>flat</td>") :]
    assert '<td class="part">body dcgan</td><td class="num">2</td>' in below
    assert "50.0 ± 25.0 %" in below
    assert '<td class="part">body features:&lt;a&gt;</td>' in below
    assert 'class="part"' not in shown[: -len(below)]


@pytest.mark.usefixtures("undrawn")
def test_seconds_stand_beside_the_figures(read_study: Callable[..., Study]):
    study = read_study(folds=[1], seeds=[0])
    finish(study)
    summary, rows, page = written(study)
    shown = section(page, "results")
    assert '<th scope="col" class="num">seconds</th>' in shown
    for row in rows:
        entry = summary.entry(row["method"], row["labels"])
        assert entry is not None
        assert entry.seconds == row["seconds"]
        assert f'<td class="num">{row["seconds"]:.0f}</td></tr>' in shown


@pytest.mark.usefixtures("undrawn")
def test_nothing_finished_is_a_page_too(read_study: Callable[..., Study]):
    study = read_study()
    summary, rows, page = written(study)
    assert rows == []
    assert len(summary.missing) == len(study.cells)
    assert "No cell is finished." in section(page, "results")
    assert study_summary.text(summary) == "0 of 24 cells finished"


@pytest.mark.usefixtures("undrawn")
def test_a_reference_alone_has_no_differences(read_study: Callable[..., Study]):
    study = read_study(methods={"supervised": {}})
    finish(study)
    _, _, page = written(study)
    assert 'class="none"' in section(page, "differences")


def test_the_curve_is_over_labels_on_a_log_axis_or_a_dot_a_method(
    read_study: Callable[..., Study],
):
    study = read_study()
    finish(study)
    ax = study_plots._curves(results.collect(study)[0]).axes[0]
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["4", "16"]
    single = read_study(labels={"data.labels_per_class": [4]})
    ax = study_plots._curves(results.collect(single)[0]).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == list(single.methods)


def test_methods_have_marks_of_their_own():
    names = ["bayesian_gan", "supervised", "a", "b", "c"]
    assert len(set(study_plots.styles(names).values())) == len(names)
    assert study_plots.styles(names)["supervised"][0] == study_plots.COLORS["supervised"]
