"""The section on rounds: what was believed, how it went, and the split that figures are of."""

import json
import re
import shutil

import pytest

from bgan_video.reports import plots, rounds, write_report
from bgan_video.reports.reading import read_run


@pytest.fixture(name="run")
def _run(shared_run, tmp_path, monkeypatch):
    """Two rounds of both methods after the first, of a pool of 360."""
    monkeypatch.setattr(plots, "picture", lambda figure, alt: plots.Picture("data:,", alt))
    run = shutil.copytree(shared_run, tmp_path / "run")
    with (run / "config.yaml").open("a") as file:
        file.write("train:\n  rounds: 2\nbaseline:\n  methods: [bayesian_gan, self_training]\n")
    items = json.loads((run / "manifest.json").read_text())["items"]
    pool = [i for i in items if i["split"] == "train" and not i["labelled"]]
    _write_round(run, 1, [_line(i, 0.5 + n / 10) for n, i in enumerate(pool[:4])])
    lines = [_line(i, 0.9, changed=n < 2, wrong=n < 3) for n, i in enumerate(pool[:6])]
    _write_round(run, 2, [*lines, _line(pool[9], 0.8, "self_training")])
    with (run / "evaluations.jsonl").open("a") as file:
        for n in range(3):
            for step in (600 * n + 300, 600 * n + 600):  # the last one of a round counts
                file.write(json.dumps(_evaluation(n, step)) + "\n")
    return run


def _line(item, certainty, model="bayesian_gan", changed=None, wrong=False):
    label = (item["label"] + 1) % 8 if wrong else item["label"]
    return {"model": model, "path": item["path"], "label": label, "probability": certainty,
            "certainty": certainty, "changed": changed}  # fmt: skip


def _write_round(run, number, lines):
    (run / "pseudo_labels").mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "pseudo_labels" / f"round_{number:02d}.jsonl").write_text(text)


def _evaluation(number, step):
    def figures(top1):
        return {"video": {"top1": top1, "nll": 2 - top1, "count": 16}}

    def both(top1):
        return {"bayesian": figures(top1), "self_training": figures(top1 - 0.1)}

    late = 0.01 * (step % 600 == 0)
    so_far, alone = 0.5 + 0.1 * number + late, 0.5 + 0.2 * number + late
    return {"step": step, "split": "validation", "round": number,
            "models": both(so_far), "of_round": both(alone)}  # fmt: skip


def _section(run):
    page = write_report(run).read_text(encoding="utf-8")
    found = re.search(r'<section id="rounds">.*?</section>', page, re.DOTALL)
    return page, found and found.group()


def _rows(run):
    found = rounds.rounds(read_run(run))
    assert found is not None
    return {(row.number, row.method): row for row in found.rows}


def test_every_round_says_how_many_how_certain_and_how_many_changed(run):
    rows = _rows(run)
    assert len(rows) == 6
    first, second = rows[1, "semi-supervised"], rows[2, "semi-supervised"]
    assert (first.believed, first.least, first.median) == ("4 of 360", "0.50", "0.65")
    assert (first.changed, second.changed) == ("0", "2")
    other = rows[1, "self-training"], rows[2, "self-training"]
    assert [row.believed for row in other] == ["0 of 360", "1 of 360"]
    assert (other[0].least, other[0].median, other[0].right) == ("–", "–", "–")
    none = rows[0, "self-training"]
    assert {none.believed, none.least, none.median, none.changed, none.right} == {"–"}


def test_pseudo_labels_right_are_counted_where_true_labels_are_known(run):
    rows = _rows(run)
    assert rows[1, "semi-supervised"].right == "4 of 4 (100 %)"
    assert rows[2, "semi-supervised"].right == "3 of 6 (50 %)"
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    believed = [json.loads(x) for x in (run / "pseudo_labels/round_02.jsonl").open()]
    for item in content["items"]:
        if item["path"] in (believed[0]["path"], believed[-1]["path"]):
            item["label"] = -1
    path.write_text(json.dumps(content))
    rows = _rows(run)
    assert rows[2, "semi-supervised"].right == "3 of 5 known (60 %)"
    assert rows[2, "self-training"].right == "not known"


def test_figures_are_of_the_rounds_last_evaluation_alone_and_so_far(run):
    rows = _rows(run)
    assert rows[0, "semi-supervised"].figures == ["51.0 %", "1.490", "51.0 %", "1.490"]
    assert rows[2, "semi-supervised"].figures == ["91.0 %", "1.090", "71.0 %", "1.290"]
    assert rows[2, "self-training"].figures == ["81.0 %", "1.190", "61.0 %", "1.390"]


def test_the_page_has_a_table_plots_and_a_warning(run):
    page, section = _section(run)
    assert 'href="#rounds"' in page
    assert section.count("<tr>") == 2 + 6
    images = re.findall(r'<img [^>]*alt="([^"]*)"', section)
    assert [alt.split(" after each round: ")[0] for alt in images] == [
        "validation top-1",
        "validation NLL (nats)",
    ]
    assert "semi-supervised, answer so far, semi-supervised, round alone" in images[0]
    assert "judge the 360 unlabelled" in section
    assert section.count("seudo-labels right") == 2, "the figure has one name"
    assert "<caption>Top-1 and NLL on validation" in section
    assert "a setting chosen by it would be chosen by labels one does not have" in section


def test_where_a_rounds_networks_begin_is_told_by_the_settings(run):
    assert "fresh networks learn from them" in _section(run)[1]
    with (run / "config.yaml").open("a") as file:
        file.write("rounds:\n  start: warm\n")
    section = _section(run)[1]
    assert "fresh networks" not in section
    assert "from where their round before ended" in section


def test_a_round_that_has_not_ended_has_dashes(run):
    path = run / "evaluations.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line).get("round") != 2]
    path.write_text("\n".join(lines) + "\n")
    row = _rows(run)[2, "semi-supervised"]
    assert row.believed == "6 of 360"
    assert row.figures == ["–"] * 4


def test_a_run_without_rounds_has_no_such_section(shared_run, run):
    assert rounds.rounds(read_run(shared_run)) is None
    shutil.rmtree(run / "pseudo_labels")
    shutil.copy(shared_run / "evaluations.jsonl", run / "evaluations.jsonl")
    page, section = _section(run)
    assert section is None
    assert "#rounds" not in page


@pytest.mark.parametrize("content", [b"", b'{"torn": [1, \xff', b"[1]\n", b'{"label": "x"}\n'])
def test_torn_pseudo_labels_are_survived(run, content):
    for file in (run / "pseudo_labels").iterdir():
        file.write_bytes(content)
    _, section = _section(run)
    assert "0 of 360" in section


def test_a_run_judged_on_validation_says_so_everywhere(run):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"split": "validation"}))
    manifest = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(manifest.replace('"split": "test"', '"split": "validation"'))
    (run / "predictions/test.safetensors").rename(run / "predictions/validation.safetensors")
    page, _ = _section(run)
    assert "Result on the validation split" in page
    assert "Not test figures" in page
    assert "On 240 validation videos" in page
    assert "<dt>validation</dt><dd>240</dd>" in page
    assert "<dt>test</dt>" not in page
    shown = re.sub(r'<section id="(samples|settings)">.*?</section>', "", page, flags=re.DOTALL)
    assert not re.search(r"\btest (videos|video|split|predictions|item)", shown)
    (run / "predictions/validation.safetensors").unlink()
    page, _ = _section(run)
    assert "predictions/validation.safetensors" in page
    assert "predictions/test.safetensors" not in page
