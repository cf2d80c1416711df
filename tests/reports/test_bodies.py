"""Each body of a posterior beside what they say together."""

from __future__ import annotations

from bgan_video.reports import comparison


def test_bodies_stand_behind_the_models() -> None:
    def figures(top1: float) -> dict[str, dict[str, float]]:
        return {"video": {"top1": top1, "top5": 1.0, "nll": 1.0, "ece": 0.1, "brier": 0.5}}

    metrics = {
        "models": {"bayesian": figures(0.9), "supervised": figures(0.6)},
        "bodies": {"dcgan": figures(0.8), "features:x": figures(0.7)},
        "networks": {"bayesian": 8, "supervised": 1},
    }
    (table,) = comparison.tables(metrics)
    assert table.models[2:] == ["body dcgan", "body features:x"]
    top1 = next(row for row in table.rows if row.title.startswith("top-1"))
    assert [cell.text for cell in top1.cells] == ["90.0 %", "60.0 %", "80.0 %", "70.0 %"]
    assert [cell.best for cell in top1.cells] == [True, False, False, False]
