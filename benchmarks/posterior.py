"""Does sampling longer help, and is a posterior that can be sampled exactly sampled so?

    python -m benchmarks.posterior length --out DIR --config demo --steps 16,300,3000 [key=value …]
    python -m benchmarks.posterior ladder --out DIR --config demo --temperatures 0.001,0.01,0.1
    python -m benchmarks.posterior exact --out DIR [key=value …]

`length` trains the same run with different numbers of sampling steps after the same burn-in, and
shows the validation NLL of the posterior mean, which is to stay level or fall. `ladder` trains it
at several temperatures, from the same burn-in, and names the one of least validation NLL, with how
far the others are behind it in units of chance: what test videos say of it nobody asked. `exact`
samples a linear layer on frozen features at T = 1, with four chains, and holds its diagnostics
against what they should be; it needs data.root of a folder of videos. Runs that are there already
are not run again. Nothing is evaluated on test videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from bgan_video import api, config
from bgan_video.config import Config
from bgan_video.training import changes, run_folder

DRAWS = 20
COMMON = ["baseline.methods=[bayesian_gan]", "train.final_split=validation", "train.rounds=0"]
R_HAT, EFFECTIVE, OFF = 1.05, 100, 0.05


class Criterion(NamedTuple):
    """What was asked for, what was found, and whether that is enough."""

    asked: str
    found: str
    holds: bool


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("length", "ladder", "exact"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config")
    parser.add_argument("--steps", default="16,300,3000")
    parser.add_argument("--temperatures", default="0.0001,0.001,0.01,0.1,1")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    overrides: list[str] = options.overrides
    if options.what == "length":
        steps = [int(number) for number in options.steps.split(",")]
        rows = lengths(options.out, options.config or "demo", steps, overrides)
        print(table(rows))
        if len(rows) > 1:
            print("level or falling" if never_hurts(rows) else "rising: sampling longer hurts here")
    elif options.what == "ladder":
        temperatures = [float(number) for number in options.temperatures.split(",")]
        print(ladder_table(ladder(options.out, options.config or "demo", temperatures, overrides)))
    else:
        for criterion in exact(options.out, options.config or "isl_exact", overrides):
            print(f"{'ok  ' if criterion.holds else 'FAIL'} {criterion.asked}: {criterion.found}")


def lengths(out: Path, recipe: str, steps: list[int], overrides: list[str]) -> list[dict[str, Any]]:
    """A row of figures for each number of sampling steps."""
    burn_in = config.load(recipe, overrides).posterior.burn_in
    rows: list[dict[str, Any]] = []
    for sampling in steps:
        total = burn_in + sampling
        own = [
            *COMMON,
            *(f"train.{key}={total}" for key in ("steps", "evaluate_every", "checkpoint_every")),
            f"posterior.thinning={max(1, sampling // DRAWS)}",
            f"posterior.max_samples={DRAWS}",
        ]
        folder = run(out, f"{recipe.replace('/', '_')}_{sampling}", recipe, [*own, *overrides])
        rows.append({"steps": sampling, **row_of(folder)})
    return rows


def row_of(folder: Path) -> dict[str, Any]:
    """What a run's last evaluation on validation says of its posterior."""
    last = evaluation(folder)
    found, draws = last["diagnostics"], last["diagnostics"]["draws"]
    (nll,) = (level["nll"] for name, level in last["models"]["bayesian"].items() if is_item(name))
    return {
        "nll": nll,
        "draws": len(draws["alone"]),
        "first": draws["alone"][0],
        "last": draws["alone"][-1],
        "temperature": found["noise"]["temperature"],
        "nats": found["noise"]["nats"],
        "verdict": found["verdict"],
    }


def ladder(
    out: Path, recipe: str, temperatures: list[float], overrides: list[str]
) -> list[dict[str, Any]]:
    """A row of figures for each temperature; `behind` is of each video's NLL, less the best's."""
    rows: list[dict[str, Any]] = []
    losses: list[NDArray[np.float64]] = []
    settings = config.load(recipe, overrides)
    steps = settings.train.steps
    for temperature in temperatures:
        own = [
            *COMMON,
            *(f"train.{key}={steps}" for key in ("evaluate_every", "checkpoint_every")),
            f"posterior.temperature={temperature}",
        ]
        name = f"{recipe.replace('/', '_')}_T_{temperature:g}"
        folder = run(out, name, recipe, [*own, *overrides])
        rows.append({"steps": steps - settings.posterior.burn_in, **row_of(folder)})
        losses.append(item_losses(folder))
    best = losses[min(range(len(rows)), key=lambda i: rows[i]["nll"])]
    for row, of_items in zip(rows, losses, strict=True):
        behind = of_items - best
        chance = behind.std(ddof=1) / len(behind) ** 0.5
        row |= {"behind": behind.mean(), "chance": chance, "items": len(behind)}
    return rows


def item_losses(folder: Path) -> NDArray[np.float64]:
    """-log p(label) of each validation item."""
    predicted = load_file(folder / "predictions" / "validation.safetensors")
    suffix = "_labels"
    levels = [key.removesuffix(suffix) for key in predicted if key.endswith(suffix)]
    (level,) = filter(is_item, levels)
    labels, probs = predicted[level + suffix], predicted[f"bayesian/{level}_probs"]
    of_labels = probs[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.maximum(of_labels, np.finfo(np.float32).tiny))


def ladder_table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, and the temperature of least NLL."""
    behind = [f"{row['behind']:.3f} ± {row['chance']:.3f}" for row in rows]
    lines = [table(rows, {"behind the best": behind})]
    best = min(rows, key=lambda row: row["nll"])
    said = f"least on {best['items']} validation items: posterior.temperature="
    said += f"{best['temperature']:.3g}"
    at_an_end = best["temperature"] in (
        extreme(row["temperature"] for row in rows) for extreme in (min, max)
    )
    return "\n".join([*lines, said + (", at an end of the ladder" if at_an_end else "")])


def never_hurts(rows: list[dict[str, Any]], tolerance: float = 0.01) -> bool:
    """Whether no run's NLL is above that of a shorter one by more than `tolerance` nats."""
    nlls = [row["nll"] for row in sorted(rows, key=lambda row: row["steps"])]
    return all(later <= min(nlls[:i]) + tolerance for i, later in enumerate(nlls) if i)


def table(rows: list[dict[str, Any]], more: Mapping[str, Sequence[object]] | None = None) -> str:
    """A Markdown table of rows, with further columns at its end."""
    columns: dict[str, Sequence[object]] = {
        "sampling steps": [row["steps"] for row in rows],
        "T": [f"{row['temperature']:.2g}" for row in rows],
        "d·T/2N": [f"{row['nats']:.3g}" for row in rows],
        "draws": [row["draws"] for row in rows],
        "NLL of mean": [f"{row['nll']:.3f}" for row in rows],
        "of first draw": [f"{row['first']:.3f}" for row in rows],
        "of last draw": [f"{row['last']:.3f}" for row in rows],
        **(more or {}),
    }
    lines = [columns, ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def exact(out: Path, recipe: str, overrides: list[str]) -> list[Criterion]:
    """What the diagnostics of a posterior that is sampled exactly should be, and are."""
    folder = run(out, "exact", recipe, [*COMMON, *overrides])
    found = evaluation(folder)["diagnostics"]
    functions = found["function_space"]
    criteria = [
        Criterion(
            f"R-hat of every probe video ≤ {R_HAT}",
            f"{functions['r_hat_max']:.3f}, median {functions['r_hat_median']:.3f}",
            functions["r_hat_max"] <= R_HAT,
        ),
        Criterion(
            f"≥ {EFFECTIVE} effective draws for every probe video",
            f"bulk {functions['bulk_min']:.0f}, tail {functions['tail_min']:.0f}",
            min(functions["bulk_min"], functions["tail_min"]) >= EFFECTIVE,
        ),
    ]
    for which in ("kinetic", "configurational"):
        target = found[which]["target"]
        ratios = {name: value / target for name, value in found[which]["layers"].items()}
        said = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        holds = all(abs(ratio - 1) <= OFF for ratio in ratios.values())
        criteria.append(Criterion(f"{which} temperature within {OFF:.0%} of T", said, holds))
    return criteria


def run(out: Path, name: str, recipe: str, settings: list[str]) -> Path:
    """The folder of a run, which is trained, or gone on with, where it is not finished."""
    return finished(config.load(recipe, [f"run.dir={out}", f"run.name={name}", *settings]))


def finished(of: Config) -> Path:
    """The folder of a named run, in the end.

    Raises:
        UserError: One of that name has other settings.
    """
    folder = of.run_dir
    if (folder / "metrics.json").is_file():
        changes.check_allowed(changes.differing(folder, run_folder.anchored(of)))
    else:
        api.train_or_resume(of)
    return folder


def evaluation(folder: Path) -> dict[str, Any]:
    """The last evaluation on validation."""
    lines = (folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [line for line in found if "diagnostics" in line][-1]


def is_item(level: str) -> bool:
    return level != "clip"


if __name__ == "__main__":
    main()
