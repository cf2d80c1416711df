"""Curves for TensorBoard, under the published notebook's names, where TensorBoard is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bgan_video import ranks

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
    """Writes what the run logs; does nothing without the package `tensorboard`.

    Args:
        folder: The run's folder; its event files go into `tensorboard`.
    """

    def __init__(self, folder: Path) -> None:
        self._writer: Any = None
        if find_spec("tensorboard") is not None and ranks.is_first():
            from torch.utils.tensorboard.writer import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"))

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

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
