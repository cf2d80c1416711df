"""Whose rounds answer where the validation videos choose (`rounds.answer=auto`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from bgan_video.config import BELIEVERS, model_of
from bgan_video.files import write_atomically
from bgan_video.metrics.scores import scores
from bgan_video.prediction.predict import Prediction

OF_ROUNDS = ("cold_gan", *(model_of(method) for method in BELIEVERS))
"""The models that start anew in each round."""
ROUNDS = Path("posterior") / "answering_rounds.json"
"""In a run's folder: the rounds that answer, by model."""


def choose(
    candidates: Iterable[range], ask: Callable[[range], Prediction], labels: Tensor
) -> list[int]:
    """The rounds under which the validation videos' labels are likeliest; of equals the first.

    Args:
        candidates: At least one.
        ask: What the networks of some rounds say of the validation videos.
        labels: Theirs, `[V]`.
    """
    chosen = min(candidates, key=lambda among: _nll(ask(among), labels))
    return list(chosen)


def write_rounds(folder: Path, chosen: Mapping[str, Sequence[int]]) -> None:
    """Keep with a run which rounds answer, by model."""
    write_atomically(folder / ROUNDS, json.dumps(dict(chosen), indent=2) + "\n")


def read_rounds(folder: Path) -> dict[str, list[int]]:
    """What `write_rounds` wrote; empty where nothing was chosen, or the run has not ended."""
    file = folder / ROUNDS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _nll(said: Prediction, labels: Tensor) -> float:
    return scores(said.video_probabilities, labels)["nll"]
