"""Where numbers are not finite a run may go back by itself, and its end is one that is known."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bgan_video import cli, config, files
from bgan_video.reports import page
from bgan_video.training import changes, loop
from bgan_video.training.lineup import Models
from tests.faults import ends, runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BEGAN, STANDS = 0.01, 0.003
"""The step size that runs here begin with, and the largest that serves: two halvings away."""
WORDS = (f"posterior.lr={BEGAN}", "train.roll_back=2")

Run = Callable[..., Path]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "render", lambda _: "a page")


@pytest.fixture
def goes_wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From a step of the run on, a weight is no number where the step size is too large."""

    def arrange(first: int) -> None:
        step = Models.step

        def stepping(self: Models, index: int, *given: Any) -> Any:
            terms = step(self, index, *given)
            if index + 1 >= first and self.config.posterior.lr > STANDS:
                self.discriminators[0].head.weight.data[1, 0] = float("nan")
            return terms

        monkeypatch.setattr(Models, "step", stepping)

    return arrange


def killed(what: str) -> Callable[..., None]:
    """In place of a function: it is not come to."""

    def act(*_: Any) -> None:
        raise RuntimeError(f"killed at {what}")

    return act


@pytest.mark.parametrize(
    ("first", "step"), [(1, 0), (5, 4), (8, 6)], ids=["no checkpoint", "round 0", "round 1"]
)
def test_a_run_goes_back_to_its_checkpoint_and_on_with_smaller_steps(
    first: int,
    step: int,
    goes_wrong: Callable[[int], None],
    tmp_path: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    goes_wrong(first)
    run = tmp_path / "run"
    # A weight is looked at where it is stored, or where the loss it makes shows.
    assert cli.main(runs.train(pictures, run, *WORDS, "train.checkpoint_every=2")) == 0
    said = re.findall(
        r"going back to step (\d+),.*roll-back (\d) of at most 2", capsys.readouterr().err
    )
    assert said == [(str(step), "1"), (str(step), "2")]
    lines = files.read_lines(run / config.CHANGES)
    assert [line["step"] for line in lines] == [step, step]
    assert [line["settings"]["posterior.lr"] for line in lines] == [BEGAN / 2, BEGAN / 4]
    for line in lines:
        assert line["after"] >= first
        assert "discriminator chain 0" in line["what"]
    now = config.load_run(run)
    assert now.posterior.lr == BEGAN / 4
    began = config.load(run / "config.yaml")
    assert now.posterior.generator_burn_in_lr == began.posterior.generator_burn_in_lr / 4
    assert now.posterior.temperature == began.posterior.temperature
    log = files.read_lines(run / "log.jsonl")
    assert [row["step"] for row in log] == [*range(1, runs.STEPS + 1)]
    assert [row.get("roll_backs", 0) for row in log] == [0] * step + [2] * (runs.STEPS - step)


def test_a_run_goes_back_from_an_evaluation_where_nothing_else_is_due(
    goes_wrong: Callable[[int], None], tmp_path: Path, pictures: Path
) -> None:
    goes_wrong(3)
    rare = ("train.log_every=100", "posterior.burn_in=4", "posterior.thinning=1")
    assert cli.main(runs.train(pictures, tmp_path / "run", *WORDS, *rare)) == 0
    lines = files.read_lines(tmp_path / "run" / config.CHANGES)
    assert [line["after"] for line in lines] == [3, 3]


@pytest.mark.parametrize("place", ["before it is written", "after it is written", "on the way"])
def test_a_roll_back_that_is_cut_off_ends_the_same(
    place: str,
    goes_wrong: Callable[[int], None],
    tmp_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_wrong(8)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert cli.main(runs.train(pictures, whole, *WORDS)) == 0
    with monkeypatch.context() as patch:
        keep, append = changes.keep_smaller, files.append_line

        def keeping(*given: Any) -> None:
            keep(*given)
            killed(place)()

        def appending(path: Path, record: dict[str, Any]) -> None:
            append(path, record)
            if record.get("roll_backs") == 2 and record["step"] == 7:
                killed(place)()

        if place == "before it is written":
            patch.setattr(changes, "keep_smaller", killed(place))
        elif place == "after it is written":
            patch.setattr(changes, "keep_smaller", keeping)
        else:
            patch.setattr(loop, "append_line", appending)
        with pytest.raises(RuntimeError, match="killed"):
            cli.main(runs.train(pictures, run, *WORDS))
    # The same command, which still names the step size that the run began with.
    assert cli.main(runs.train(pictures, run, *WORDS)) == 0
    found, expected = ends.of_run(run), ends.of_run(whole)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_a_signal_is_not_forgotten_where_numbers_are_not_finite(
    goes_wrong: Callable[[int], None],
    tmp_path: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    goes_wrong(7)
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert cli.main(runs.train(pictures, whole, *WORDS)) == 0
    with monkeypatch.context() as patch:
        step = Models.step

        def stepping(self: Models, index: int, *given: Any) -> Any:
            if index + 1 == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, index, *given)

        patch.setattr(Models, "step", stepping)
        assert cli.main(runs.train(pictures, run, *WORDS)) == 128 + signal.SIGTERM
    *_, what, line = capsys.readouterr().err.strip().splitlines()
    assert "not finite after step 7" in what
    assert line.startswith("saved and ended after step 6 of 10; bgan-video train --resume")
    assert files.read_lines(run / config.CHANGES) == []
    assert cli.main(["train", "--resume", str(run)]) == 0
    lines = [files.read_lines(r / config.CHANGES) for r in (run, whole)]
    assert [[line["step"] for line in of] for of in lines] == [[6, 6], [6, 6]]
    assert ends.of_run(run)["log.jsonl"] == ends.of_run(whole)["log.jsonl"]


def test_after_so_many_roll_backs_a_run_ends_and_may_be_given_more(
    goes_wrong: Callable[[int], None],
    tmp_path: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    goes_wrong(8)
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert cli.main(runs.train(pictures, run, WORDS[0], "train.roll_back=1")) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "not finite after step 8; none of it is stored" in line
    assert f"--resume {run} posterior.lr=0.0005" in line, "a tenth of what it has come down to"
    assert len(files.read_lines(run / config.CHANGES)) == 1
    assert cli.main(["train", "--resume", str(run), "train.roll_back=2"]) == 0
    assert cli.main(runs.train(pictures, whole, *WORDS)) == 0
    for name in ("log.jsonl", "evaluations.jsonl", "metrics.json"):
        assert ends.of_run(run)[name] == ends.of_run(whole)[name], name


def test_a_report_tells_of_roll_backs(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config.to_yaml(config.load("demo")))
    line = {"step": 4, "after": 6, "what": "loss_d", "settings": {"posterior.lr": 0.1}}
    (tmp_path / config.CHANGES).write_text(json.dumps(line) + "\n")
    facts = dict(page.collect(page.read_run(tmp_path))["facts"])
    told = "loss_d not finite after step 6: from step 4 on with all step sizes halved"
    assert facts["rolled back"] == told
