"""How good the models of a run are: its figures, predictions, and lines of evaluations.jsonl."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from bgan_video import ranks
from bgan_video.data.manifest import Item, Split
from bgan_video.data.streams import labelled_batches
from bgan_video.errors import UserError
from bgan_video.files import append_line, fingerprint, read_lines, write_atomically
from bgan_video.metrics.by_class import recalls
from bgan_video.metrics.scores import Scores
from bgan_video.prediction import diagnosis, uncertainty
from bgan_video.prediction.bodies import FIRST_KIND
from bgan_video.prediction.predict import Prediction, figures
from bgan_video.prediction.together import information
from bgan_video.prediction.written import write_predictions

if TYPE_CHECKING:
    from bgan_video.prediction.trained import TrainedRun

# Of labelled clips: 10 batches of 16 know a channel's mean to a few percent of its spread.
RENORMALISING_BATCHES = 10
# The Bayesian GAN's posterior, as metrics.json calls it.
BAYESIAN = "bayesian"
FINISHED = Path("posterior") / "finished.json"
"""Written last: before it, the bank may hold some chains of a step and not the others."""


class _Said(NamedTuple):
    """What a run says of a split and of those that go with it.

    Attributes:
        split: That is judged.
        predictions: By part and model.
        bodies: By body of the posterior, and part.
        labels: The true ones, by part, `[V]`.
    """

    split: Split
    predictions: dict[Split, dict[str, Prediction]]
    bodies: dict[str, dict[Split, Prediction]]
    labels: dict[Split, Tensor]

    @property
    def of_models(self) -> dict[str, Prediction]:
        """Of the split, by model."""
        return self.predictions[self.split]

    @property
    def true(self) -> Tensor:
        """The split's labels, `[V]`."""
        return self.labels[self.split]


def evaluate(
    run: TrainedRun, split: Literal["test", "validation"] | None, renormalise: bool
) -> dict[str, Any]:
    """Evaluate every model of a run on a split, as `TrainedRun.evaluate` has it.

    Every rank judges its share of the items; the first one writes.
    """
    kind, is_final = run.config.items, split in (None, run.final_split)
    split = split or run.final_split
    answering = run.answering  # a run without networks says so before any video is read
    if not run.manifest.part(split):
        run.check_knows_items()
        raise UserError(f"{run.folder}: fold {run.manifest.fold} has no {split} {kind}")
    wanted: list[Split] = ["test", "validation", "open"] if split == "test" else [split]
    items: dict[Split, tuple[Item, ...]] = {part: run.manifest.part(part) for part in wanted}
    batches = _labelled_clips(run) if renormalise else ()
    said = _asked(run, split, items, batches)
    level = run.config.item_level
    models = {m: figures(p, said.true, level) for m, p in said.of_models.items()}
    if not ranks.is_first():
        return models
    judged = how_judged(run, renormalise)
    more = _more(run, said, answering)
    if is_final or split == "test":
        path = run.folder / "predictions" / f"{split}.safetensors"
        write_predictions(path, said.of_models, said.true, level, run.know_fakes)
    if is_final:
        # Last: whoever finds figures finds what they were made of.
        _write_metrics(run, models, {"split": split} | judged | more)
    record: dict[str, Any] = {
        "step": run.config.total_steps,
        "split": split,
        "samples": len({r.step for r in run.bank.records(FIRST_KIND)}),
        **judged,
        "models": models,
    }
    if "unfamiliar" in more:
        record["unfamiliar"] = more["unfamiliar"]
    if run.config.samples_posterior and BAYESIAN in said.of_models:
        record["diagnostics"] = _diagnostics(run, said)
    _note(run, record)
    return models


def most_entropy(run: TrainedRun) -> float | None:
    """Where a video's total entropy becomes unfamiliar.

    None where the run was not evaluated as it predicts now: with as many clips of each video, and
    the networks as they were stored.
    """
    wanted = how_judged(run, renormalise=False)
    path = run.folder / "evaluations.jsonl"
    records = reversed(read_lines(path))
    fitting = (r for r in records if "unfamiliar" in r and wanted.items() <= r.items())
    return next((r["unfamiliar"]["total_entropy"] for r in fitting), None)


def how_judged(run: TrainedRun, renormalise: bool) -> dict[str, Any]:
    """Everything of an evaluation that its figures depend on, as evaluations.jsonl has it."""
    c = run.config.clip
    return {
        "test_clips": c.test_clips,
        "test_crops": c.test_crops,
        "renormalised": renormalise,
    }


def identity(run: TrainedRun) -> str:
    """The run's name, and a word that differs where its networks do, or how it looks at videos."""
    stored = sorted(path for path in (run.folder / "posterior").iterdir() if path.is_file())
    all_of_it = [how_judged(run, renormalise=False), [(f.name, fingerprint(f)) for f in stored]]
    digest = hashlib.blake2b(json.dumps(all_of_it).encode(), digest_size=4).hexdigest()
    return f"{run.config.run.name} {digest}"


def _labelled_clips(run: TrainedRun) -> list[Tensor]:
    """The first batches of labelled clips that training saw."""
    items = run.manifest.labelled
    stream = labelled_batches(items, run.frames(items), run.config, first=0, whole=True)
    return [batch.x for batch in islice(stream, RENORMALISING_BATCHES) if batch is not None]


def _asked(
    run: TrainedRun,
    split: Split,
    parts: dict[Split, tuple[Item, ...]],
    batches: Sequence[Tensor],
) -> _Said:
    """What every model, and each body, says of some items, each video decoded once."""
    items = [item for part in parts.values() for item in part]
    predictions, bodies = run.predict_items(items, run.frames(items), batches)
    labels: dict[Split, Tensor] = {
        part: torch.tensor([i.label for i in of_part]) for part, of_part in parts.items()
    }
    said = _Said(split, {}, {name: {} for name in bodies}, labels)
    start = 0
    for part, of_part in parts.items():
        stop = start + len(of_part)
        said.predictions[part] = {m: p.part(start, stop) for m, p in predictions.items()}
        for name, p in bodies.items():
            said.bodies[name][part] = p.part(start, stop)
        start = stop
    return said


def _more(run: TrainedRun, said: _Said, answering: str) -> dict[str, Any]:
    """What `metrics.json` has behind the models' figures."""
    level = run.config.item_level
    more: dict[str, Any] = {"recall": _recall(run, said.of_models, said.true)}
    bodies = {name: of_parts[said.split] for name, of_parts in said.bodies.items()}
    if len(bodies) > 1:
        more["bodies"] = {name: figures(p, said.true, level) for name, p in bodies.items()}
        within, between = information([*bodies.values()])
        more["information"] = {"within": within.mean().item(), "between": between.mean().item()}
    if said.split == "test":
        given = (said.predictions, said.labels, run.manifest, level)
        more |= uncertainty.figures(*given, answering, run.know_fakes)
    return more


def _diagnostics(run: TrainedRun, said: _Said) -> dict[str, Any]:
    """Of the first body's chains in the last round that answers."""
    last = max(run.answering_rounds(BAYESIAN) or (run.config.train.rounds,))
    of_last = len(run.bank.records(FIRST_KIND, {last}))
    first = next(iter(said.bodies.values()))[said.split].network_probabilities[-of_last:]
    settings = run.bodies(run.frames(()))[0].config
    return diagnosis.diagnose(run.folder, settings, last, first, said.true)


def _recall(
    run: TrainedRun, predictions: Mapping[str, Prediction], labels: Tensor
) -> dict[str, dict[str, float | None]]:
    """Of every model, the part of each class's items that it finds; None where there are none.

    Args:
        run: Which knows the classes' names.
        predictions: By model.
        labels: `[V]`.
    """
    found = {m: recalls(p.video_probabilities, labels) for m, p in predictions.items()}
    return {
        model: {
            name: None if math.isnan(value) else float(value)
            for name, value in zip(run.classes, of_classes, strict=True)
        }
        for model, of_classes in found.items()
    }


def _write_metrics(
    run: TrainedRun, models: dict[str, dict[str, Scores]], more: dict[str, Any]
) -> None:
    manifest = run.manifest
    finished = json.loads((run.folder / FINISHED).read_text(encoding="utf-8"))
    content = {
        "schema": 1,
        "step": run.config.total_steps,
        "seconds": _training_seconds(run.folder / "log.jsonl") + finished.get("seconds", 0.0),
        "peak_memory_mib": finished.get("peak_memory_mib"),
        "data": {
            "name": manifest.name,
            "num_classes": manifest.num_classes,
            "num_labelled": len(manifest.labelled),
            "num_unlabelled": len(manifest.part("train")),
            "num_test": len(manifest.part("test")),
            "fold": manifest.fold,
        },
        "models": models,
        "networks": {model: run.num_networks(model) for model in models},
        **_answering_rounds(run, models),
        **more,
    }
    write_atomically(run.folder / "metrics.json", json.dumps(content, indent=2) + "\n")


def _answering_rounds(run: TrainedRun, models: Collection[str]) -> dict[str, Any]:
    """Which rounds' networks the figures are of; nothing where there are no rounds."""
    if not run.config.train.rounds:
        return {}
    asked = {model: run.answering_rounds(model) for model in models}
    return {"answering_rounds": {m: list(found) for m, found in asked.items() if found is not None}}


def _note(run: TrainedRun, record: dict[str, Any]) -> None:
    """A line of evaluations.jsonl, unless it is there: one who was killed behind it is back."""
    path = run.folder / "evaluations.jsonl"
    if json.loads(json.dumps(record)) not in read_lines(path):
        append_line(path, record)


def _training_seconds(log: Path) -> float:
    return sum(line["seconds"] for line in read_lines(log))
