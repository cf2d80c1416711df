"""Label curves from no label on: what `suggest` picks against videos picked by chance.

    python -m benchmarks.label_curve --seed 0 --out label_curve   (again for other seeds)
    python -m benchmarks.label_curve --config isl_two_bodies --budget 8 --rounds 3 --seed 0 \
        --out isl_curve data.root=isl
    python -m benchmarks.label_curve --plot --out label_curve

A round trains anew from all labels so far; the first ones are chosen before anything was trained.
The data set's own classes stand in for the person who answers. Rounds that are there already are
not run again, so that a run that was killed goes on.

Strategies: `auto`, `typical` and `information` are those of `--by`; `information` begins with
typical videos, as there is nothing to ask before the first run. `random` draws recordings by turns,
as `suggest` does, so that what is compared is the choice among them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.posterior import finished
from bgan_video import api, config
from bgan_video.acquisition.first import Beginning, begin
from bgan_video.config import recipes
from bgan_video.data.manifest import Item
from bgan_video.data.recordings import recording
from bgan_video.files import append_line
from bgan_video.prediction.trained import TrainedRun
from bgan_video.training import console

STRATEGIES = ("auto", "typical", "information", "random")
COLORS = {
    "auto": "#0072B2",
    "typical": "#56B4E9",
    "information": "#009E73",
    "random": "#D55E00",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options, rest = parser.parse_known_args(arguments)
    options.overrides += rest
    if options.plot:
        plot(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    curve = options.out / "curve.jsonl"
    written = {(row["seed"], row["strategy"], row["round"]) for row in read(curve)}
    beginning = begin(settings(options), console.say, console.progress)
    for strategy in options.strategies:
        labels = first_labels(beginning, strategy, options)
        for index in range(options.rounds):
            run = train(options, strategy, index, labels, beginning)
            figures = json.loads((run.folder / "metrics.json").read_text())
            video = figures["models"]["bayesian"]["video"]
            row = {"seed": options.seed, "strategy": strategy, "round": index, **video}
            row["num_labelled"] = figures["data"]["num_labelled"]
            if (options.seed, strategy, index) not in written:
                append_line(curve, row)
            if index + 1 < options.rounds:
                labels = labels + next_labels(run, strategy, options)


def read(curve: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.is_file() else []


def settings(options: argparse.Namespace, *more: str) -> config.Config:
    """The recipe's, with no label that it asks for."""
    counts = ("labels_per_class", "num_labelled", "label_fraction")
    given = [f"run.seed={options.seed}", f"data.label_seed={options.seed}", *options.overrides]
    given += [f"data.{key}=null" for key in counts]
    return config.load(recipes.find(options.config), [*given, *more])


def train(
    options: argparse.Namespace,
    strategy: str,
    index: int,
    labels: Sequence[str],
    beginning: Beginning,
) -> TrainedRun:
    """The run of one round."""
    name = f"seed{options.seed}_{strategy}_{index}"
    file = options.out / f"{name}.csv"
    write_labels(file, labels, beginning)
    where = (f"run.dir={options.out}", f"run.name={name}", f"data.label_list={file}")
    return api.load(finished(settings(options, *where)))


def first_labels(beginning: Beginning, strategy: str, options: argparse.Namespace) -> list[str]:
    """Paths of the videos that are labelled before anything was trained."""
    if strategy == "random":
        return by_chance(list(beginning.space.items), options, 0, beginning.config)
    return [s.path for s in beginning.choose(options.budget)]


def next_labels(run: TrainedRun, strategy: str, options: argparse.Namespace) -> list[str]:
    """Paths of the videos that are labelled after a run."""
    if strategy == "random":
        unlabelled = [item for item in run.manifest.part("train") if not item.labelled]
        return by_chance(unlabelled, options, len(run.manifest.labelled), run.config)
    return [s.path for s in run.choose(options.budget, strategy)]  # type: ignore[arg-type]


def by_chance(
    items: list[Item], options: argparse.Namespace, known: int, of: config.Config
) -> list[str]:
    """Random videos, one of each recording before any twice."""
    random = np.random.default_rng([options.seed, known])
    shuffled = [items[i] for i in random.permutation(len(items))]
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int, str]] = []
    for place, item in enumerate(shuffled):
        name = recording(item.label, item.group, of.data)
        turns[name] = turns.get(name, -1) + 1
        ranked.append((turns[name], place, item.path))
    return [path for _, _, path in sorted(ranked)[: options.budget]]


def write_labels(file: Path, paths: Sequence[str], beginning: Beginning) -> None:
    """The table a person would have filled in."""
    manifest = beginning.manifest
    classes = {item.path: manifest.classes[item.label] for item in manifest.items}
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label"])
        table.writerows([path, classes[path]] for path in paths)


def plot(out: Path) -> None:
    """Mean and standard error over seeds of test top-1 and NLL against the number of labels."""
    rows = read(out / "curve.jsonl")
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for ax, key, title in zip(
        figure.subplots(1, 2), ("top1", "nll"), ("test top-1", "test NLL (nats)"), strict=True
    ):
        for strategy in sorted({row["strategy"] for row in rows}, key=STRATEGIES.index):
            points: dict[int, dict[int, float]] = {}
            for row in rows:
                if row["strategy"] == strategy:
                    points.setdefault(row["num_labelled"], {})[row["seed"]] = row[key]
            counts = sorted(points)
            values = [np.array(list(points[n].values())) for n in counts]
            mean = [v.mean() for v in values]
            error = [v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0 for v in values]
            ax.errorbar(
                counts, mean, error, color=COLORS[strategy], label=strategy, marker="o", capsize=3
            )
            if key == "top1":
                for n, v in zip(counts, values, strict=True):
                    print(f"{strategy:12} {n:4d} labels  top-1 " + " ".join(f"{x:.3f}" for x in v))
        ax.set(title=title, xlabel="labelled videos")
        ax.legend(frameon=False)
    figure.savefig(out / "label_curve.png", dpi=130)


if __name__ == "__main__":
    main()
