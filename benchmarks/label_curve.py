"""Label curves: what `suggest` picks against videos picked by chance, round by round.

    python -m benchmarks.label_curve --seed 0 --out label_curve   (again for other seeds)
    python -m benchmarks.label_curve --plot --out label_curve

A round trains anew from all labels so far. The true classes of motion_shapes, which are its folder
names, stand in for the person who fills in the table. Rounds that are there already are not run
again, so that a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bgan_video import api, config
from bgan_video.files import append_line
from bgan_video.prediction.trained import TrainedRun

STRATEGIES = ("suggest", "random")
COLORS = {"suggest": "#0072B2", "random": "#D55E00"}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args(arguments)
    if options.plot:
        plot(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    curve = options.out / "curve.jsonl"
    written = {(row["seed"], row["strategy"], row["round"]) for row in read(curve)}
    for strategy in STRATEGIES:
        labels: list[str] = []  # the first round's labels are those of labels_per_class
        for index in range(options.rounds + 1):
            run = train(options, strategy, index, labels)
            figures = json.loads((run.folder / "metrics.json").read_text())
            labels = next_labels(run, strategy, options)
            video = figures["models"]["bayesian"]["video"]
            row = {"seed": options.seed, "strategy": strategy, "round": index, **video}
            row["num_labelled"] = figures["data"]["num_labelled"]
            if (options.seed, strategy, index) not in written:
                append_line(curve, row)


def read(curve: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in curve.read_text().splitlines()] if curve.is_file() else []


def train(options: argparse.Namespace, strategy: str, index: int, labels: list[str]) -> TrainedRun:
    """The run of one round; the first one is the same for every strategy."""
    name = f"seed{options.seed}_{strategy}_{index}" if index else f"seed{options.seed}_0"
    folder = options.out / name
    if not (folder / "metrics.json").is_file():
        settings = [
            *(f"run.dir={options.out}", f"run.name={name}", f"run.seed={options.seed}"),
            "data.labels_per_class=2",
            f"data.label_seed={options.seed}",
            *options.overrides,
        ]
        if index:
            file = options.out / f"{name}.csv"
            write_labels(file, labels)
            settings += ["data.labels_per_class=null", f"data.label_list={file}"]
        api.train(config.load("configs/demo.yaml", settings))
    return api.load(folder)


def next_labels(run: TrainedRun, strategy: str, options: argparse.Namespace) -> list[str]:
    """Paths of all labelled videos of the next round."""
    known = [item.path for item in run.manifest.labelled]
    if strategy == "suggest":
        return known + [s.path for s in run.suggest(options.budget)]
    unlabelled = [i.path for i in run.manifest.part("train") if not i.labelled]
    random = np.random.default_rng([options.seed, len(known)])
    return known + [str(p) for p in random.choice(unlabelled, options.budget, replace=False)]


def write_labels(file: Path, paths: list[str]) -> None:
    """The table a person would have filled in."""
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label"])
        table.writerows([path, Path(path).parent.name] for path in paths)


def plot(out: Path) -> None:
    """Mean and standard error over seeds of test top-1 and NLL against the number of labels."""
    rows = read(out / "curve.jsonl")
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for ax, key, title in zip(
        figure.subplots(1, 2), ("top1", "nll"), ("test top-1", "test NLL (nats)"), strict=True
    ):
        for strategy in STRATEGIES:
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
                    print(f"{strategy:8} {n:4d} labels  top-1 " + " ".join(f"{x:.3f}" for x in v))
        ax.set(title=title, xlabel="labelled videos")
        ax.legend(frameon=False)
    figure.savefig(out / "label_curve.png", dpi=130)


if __name__ == "__main__":
    main()
