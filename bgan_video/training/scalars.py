"""Curves for trackers, under the published notebook's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bgan_video.training.trackers import Writer

# The notebook's name of each figure of a line of log.jsonl.
LOGGED = {
    "loss_d": "Loss_D",
    "loss_g": "Loss_G",
    "d_real": "D(x)",
    "d_fake_before": "D(G(z))_before",
    "d_fake_after": "D(G(z))_after",
    "train_top1": "train_acc",
}
EVALUATED = {"bayesian": "test_acc_semi", "supervised": "test_acc_sup"}


class Scalars:
    """Writes what the run logs.

    Args:
        writers: Where to; nothing is written where there are none.
    """

    def __init__(self, writers: Sequence[Writer]) -> None:
        self._writers = writers

    def logged(self, record: Mapping[str, Any]) -> None:
        """The losses of a line of log.jsonl."""
        self._add(record["step"], {n: record[k] for k, n in LOGGED.items() if k in record})

    def evaluated(self, record: Mapping[str, Any], level: str) -> None:
        """Accuracies in percent, as the notebook has them, of a line of evaluations.jsonl."""
        models = record["models"]
        top1s = {n: 100 * models[m][level]["top1"] for m, n in EVALUATED.items() if m in models}
        if record["split"] == "validation":
            top1s = {name.replace("test", "validation"): top1 for name, top1 in top1s.items()}
        self._add(record["step"], top1s)

    def believed(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """What each method believes in a round: how many, how certain, how many changed.

        Args:
            step: Steps before the round.
            lines: Of the round's pseudo_labels/round_XX.jsonl.
        """
        for method in sorted({line["model"] for line in lines}):
            own = [line for line in lines if line["model"] == method]
            found = {
                "believed": len(own),
                "certainty": sum(line["certainty"] for line in own) / len(own),
                "changed": sum(line["changed"] is True for line in own),
            }
            self._add(step, {f"rounds/{method}_{name}": value for name, value in found.items()})

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for writer in self._writers:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
