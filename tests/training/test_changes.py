"""Settings of a run that goes on: where its data are now, and which step sizes are lowered."""

from __future__ import annotations

from pathlib import Path

import pytest

from bgan_video import config
from bgan_video.errors import UserError
from bgan_video.prediction.adjusting import adjusted
from bgan_video.training import changes, run_folder


def test_all_step_sizes_are_halved_swags_path_among_them() -> None:
    """The path's is a part of the first one unless it is set, and then has to follow it."""
    before = config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.1"])
    now = changes.smaller(before)
    assert (now.baseline.lr, now.baseline.swag_lr) == (0.2, 0.05)
    changes.check_lowered(before, now)
    assert changes.smaller(config.load(None, ["baseline.lr=0.4"])).baseline.swag_lr is None


def test_swags_path_may_be_lowered_and_not_raised() -> None:
    unset = config.load(None, ["baseline.lr=0.4"])  # a fifth of it: 0.08
    changes.check_lowered(unset, config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.07"]))
    raised = config.load(None, ["baseline.lr=0.4", "baseline.swag_lr=0.09"])
    with pytest.raises(UserError, match=r"baseline\.swag_lr=0\.09 .* up to the run's own 0\.08"):
        changes.check_lowered(unset, raised)


def table_run(folder: Path, *settings: str) -> tuple[Path, Path]:
    """A run's folder with the settings it began with, and a folder that its table was moved to."""
    run, now = folder / "run", folder / "now: take #2 of 🎥"
    for path in (run, now / "videos"):
        path.mkdir(parents=True)
    rows = [f"videos/{n}.mp4,{'xy'[n % 2]}\n" for n in range(4)]
    (now / "t.csv").write_text("".join(["path,label\n", *rows]))
    began = config.load(None, ["data.layout=table", f"data.table={folder / 'was.csv'}", *settings])
    (run / "config.yaml").write_text(config.to_yaml(run_folder.anchored(began)), encoding="utf-8")
    return run, now


def test_a_run_whose_table_moved_goes_on_and_ends_where_it_is_now(tmp_path: Path) -> None:
    """By the command that began it, and the table's new place; what only looks at it reads none."""
    run, now = table_run(tmp_path)
    wanted = config.load(None, ["data.layout=table", f"data.table='{now / 't.csv'}'"])
    overrides = changes.differing(run, run_folder.anchored(wanted))
    going_on = run_folder.open_config(run, overrides)
    assert going_on.data.table == (str(now / "t.csv"),)
    told = changes.whereabouts(going_on, overrides)
    assert adjusted(run, told).data.root == str(now)


def test_a_root_is_told_as_it_was_given_and_says_where_the_tables_videos_are(
    tmp_path: Path,
) -> None:
    run, now = table_run(tmp_path, f"data.root={tmp_path}")
    overrides = config.dotted({"data.table": str(now / "t.csv"), "data.root": str(now)})
    told = changes.whereabouts(run_folder.open_config(run, overrides), overrides)
    assert told == overrides[1:]
    kept = changes.whereabouts(run_folder.open_config(run, overrides[:1]), overrides[:1])
    assert adjusted(run, kept).data.root == str(tmp_path)


def test_the_docs_name_every_setting_that_may_change() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "faults.md"
    told = page.read_text(encoding="utf-8").partition("## What may change")[2].partition("##")[0]
    assert [key for key in changes.ALLOWED if f"`{key}`" not in told] == []
