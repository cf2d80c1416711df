"""A run as a folder for a model hub: weights, settings, model card. `bgan_video.load` reads it.

It is a run's folder without what belongs to the person: no video's name, no path of this machine.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from safetensors.torch import save
from torch import Tensor

from bgan_video import config as config_module
from bgan_video.config import FEATURES, Config
from bgan_video.errors import UserError
from bgan_video.files import append_line, write_atomically
from bgan_video.models.weights import PACKAGED
from bgan_video.prediction.adjusting import BODY_WEIGHTS
from bgan_video.prediction.bodies import kinds
from bgan_video.prediction.judging import BAYESIAN, FINISHED, how_judged, most_entropy
from bgan_video.prediction.together import WEIGHTS
from bgan_video.prediction.trained import TrainedRun, kind_of
from bgan_video.reports.comparison import with_bodies
from bgan_video.reports.sections import judged_by, pretrained_weights

_FIGURES = {"top1": "top-1", "nll": "NLL (nats)", "ece": "ECE", "brier": "Brier"}


def write_hub(run: TrainedRun, folder: Path) -> None:
    """Write the folder.

    Args:
        run: Finished.
        folder: Made; not there yet, or empty.

    Raises:
        UserError: It holds something, or the run's networks were removed.
    """
    answering = run.answering
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"--out={folder} is not empty; choose another folder, or empty it")
    (folder / "posterior").mkdir(parents=True, exist_ok=True)
    for kind in kinds(run.config) if answering == BAYESIAN else [kind_of(answering)]:
        for record in run.bank.records(kind, run.answering_rounds(answering)):
            shutil.copy(record.path, folder / "posterior" / record.path.name)
    if (run.folder / "features").is_dir():
        shutil.copytree(run.folder / "features", folder / "features")
    if (run.folder / WEIGHTS).is_file():
        shutil.copy(run.folder / WEIGHTS, folder / WEIGHTS)
    if (state := _frozen_state(run)) is not None:
        write_atomically(folder / BODY_WEIGHTS, save(state))
    metrics = _metrics(run)
    manifest = dataclasses.replace(run.manifest, root="", items=(), broken=())
    anonymous = _anonymous(run.config, None if state is None else BODY_WEIGHTS)
    write_atomically(folder / "config.yaml", config_module.to_yaml(anonymous))
    write_atomically(folder / "manifest.json", manifest.to_json())
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_atomically(folder / "README.md", card(run, metrics, folder.resolve().name))
    if (limit := most_entropy(run)) is not None:
        judged = how_judged(run, renormalise=False)
        append_line(folder / "evaluations.jsonl", judged | {"unfamiliar": {"total_entropy": limit}})
    shutil.copy(run.folder / FINISHED, folder / FINISHED)  # last: now it is whole


def card(run: TrainedRun, metrics: dict[str, Any], name: str) -> str:
    """The model card: what the run is, how good, and where it is not to be trusted.

    Args:
        run: Finished.
        metrics: What its `metrics.json` holds; empty where it was not evaluated.
        name: Of the folder that the card lies in.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    level = run.config.item_level
    bodies = metrics.get("bodies", {})
    models = with_bodies(metrics.get("models", {}), bodies)
    clip, data = run.config.clip, metrics.get("data", {})
    own = how_judged(run, renormalise=False)
    of_bodies = (_pixels(run.config, name) for name in run.answering_names)
    return environment.get_template("card.md").render(
        name=name,
        classes=run.classes,
        level=level,
        items=run.config.items,
        split=metrics.get("split", "test"),
        judged=judged_by(metrics),
        answers_by=judged_by(own) or "one clip",
        judged_otherwise=any(metrics.get(key, value) != value for key, value in own.items()),
        columns=list(_FIGURES.values()),
        rows=[
            (model, [f"{levels[level][key]:.3f}" for key in _FIGURES])
            for model, levels in models.items()
            if level in levels
        ],
        data=data,
        networks=metrics.get("networks", {}).get(run.answering, "?"),
        answering=run.answering,
        bodies=", ".join(run.answering_names),
        weights=pretrained_weights(config_module.to_mapping(run.config)),
        has_bodies=bool(bodies),
        is_posterior=run.answering == BAYESIAN and run.config.samples_posterior,
        sizes=" and ".join(f"{size} × {size}" for size in dict.fromkeys(of_bodies)),
        clip=clip,
    )


def _pixels(config: Config, body: str) -> int:
    """A side of what a body sees."""
    return config.features.size if body.startswith(FEATURES) else config.clip.size


def _frozen_state(run: TrainedRun) -> dict[str, Tensor] | None:
    """The tensors of a body that answers with weights out of a file: nothing else of that file."""
    if run.config.features.weights in (None, *PACKAGED):
        return None
    bodies = run.answering_bodies(run.frames(()))
    vectors = next((body.vectors for body in bodies if body.vectors is not None), None)
    if vectors is None:
        return None
    state = vectors.frozen.network.state_dict()
    return {name: tensor.cpu().contiguous() for name, tensor in state.items()}


def _anonymous(config: Config, body_weights: str | None) -> Config:
    """The settings without a path of this machine; all networks that are there answer.

    Those of a table name its file. Nothing is read by a layout any more, and that of folders stands
    in for it.
    """
    d, f, data = config.discriminator, config.features, config.data
    weights = d.weights if d.weights in PACKAGED else None
    body_weights = f.weights if f.weights in PACKAGED else body_weights
    layout = "video_folder" if data.layout == "table" else data.layout
    return dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, dir="runs", device="auto", precision="auto"),
        data=dataclasses.replace(
            data,
            layout=layout,
            table=None,
            root=None,
            lists=None,
            store=None,
            label_list=None,
            groups=None,
        ),
        discriminator=dataclasses.replace(d, weights=weights),
        features=dataclasses.replace(f, store=None, weights=body_weights),
        rounds=dataclasses.replace(config.rounds, answer="all"),
    )


def _metrics(run: TrainedRun) -> dict[str, Any]:
    file = run.folder / "metrics.json"
    if not file.is_file():
        return {}
    return json.loads(file.read_text(encoding="utf-8"))
