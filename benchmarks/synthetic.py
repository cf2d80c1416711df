"""The original's synthetic experiment: which GAN covers ten clusters? One figure.

    python -m benchmarks.synthetic --out synthetic

Saatchi & Wilson 2017, section 4.1. The same two networks, without labels, are trained in three
ways with the same iterations, real items an iteration and fakes of each generator: one
maximum-likelihood GAN, ten independent ones, and the Bayesian GAN of configs/image/synthetic.yaml,
whose discriminator so faces ten times the fakes that a lone one does. Samples are compared with the
data as a density on the first two principal components, and cluster by cluster in all dimensions.
Each run is a line of results.jsonl; a run that is there already, with the same settings, is not run
again.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from bgan_video import config, rng
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data import images
from bgan_video.data.streams import UnlabelledBatch, unlabelled_batches
from bgan_video.files import write_atomically
from bgan_video.models import build_generator
from bgan_video.training import run_folder
from bgan_video.training.trainer import DataSize, Trainer, draw_latents

Array = NDArray[Any]
State = dict[str, Tensor]
Row = dict[str, Any]

RECIPE = "configs/image/synthetic.yaml"
METHODS = {
    "gan": ["posterior.bayes=false", "posterior.num_z=1", "posterior.num_discriminators=1"],
    "ensemble": [
        "posterior.bayes=false",
        "posterior.independent=true",
        "posterior.num_z=10",
        "posterior.num_discriminators=10",
    ],
    "bayesian": [],
}
TITLES = {
    "gan": "maximum-likelihood GAN",
    "ensemble": "10 independent GANs",
    "bayesian": "Bayesian GAN",
}
COLORS = {"data": "#555555", "gan": "#D55E00", "ensemble": "#009E73", "bayesian": "#0072B2"}
NUM_SAMPLES = 10_000
NUM_SHOWN = 1_500
CELLS = 160
BANDWIDTH = 0.3
"""Of the density estimate, in standard deviations of a cluster."""
NEAR = 3.0
"""Standard deviations from its centre within which an item belongs to a cluster."""
COVERED = 1 / 5
"""Part of its share of the data from which on a cluster counts as covered."""


@dataclass(frozen=True)
class Clusters:
    """Where the clusters are, in all dimensions, each in a plane of its own.

    `centres` are `[K, D]`, `axes[k]` `[2, D]` span the plane of cluster k, `spreads` `[K, 2]` are
    its standard deviations along them.
    """

    centres: Array
    axes: Array
    spreads: Array

    @staticmethod
    def of(data: Array, labels: Array) -> Clusters:
        clusters = [data[labels == k] for k in np.unique(labels)]
        centres = np.stack([c.mean(axis=0) for c in clusters])
        found = [
            np.linalg.svd(c - m, full_matrices=False)[1:]
            for c, m in zip(clusters, centres, strict=True)
        ]
        spreads = [s[:2] / np.sqrt(len(c) - 1) for (s, _), c in zip(found, clusters, strict=True)]
        return Clusters(centres, np.stack([axes[:2] for _, axes in found]), np.stack(spreads))

    def distances(self, items: Array) -> Array:
        """`[N, K]`, in standard deviations: Mahalanobis' within a cluster's plane, Euclid's off it.

        A standard deviation off the plane is the mean one within it.
        """
        found: list[Array] = []
        for centre, axes, spread in zip(self.centres, self.axes, self.spreads, strict=True):
            offset = items - centre
            within = offset @ axes.T
            off = np.square(offset).sum(axis=1) - np.square(within).sum(axis=1)
            inside = np.square(within / spread).sum(axis=1)
            found.append(np.sqrt(inside + off.clip(0) / np.square(spread).mean()))
        return np.stack(found, axis=1)

    def shares(self, items: Array) -> Array:
        """The part of all items that belongs to each cluster: the nearest, and near."""
        distance = self.distances(items)
        nearest = distance.argmin(axis=1)[distance.min(axis=1) <= NEAR]
        return np.bincount(nearest, minlength=len(self.centres)) / len(items)


@dataclass(frozen=True)
class Plane:
    """The first two principal components of the data, where densities are compared.

    `axes` are `[2, D]`, `centres` `[K, 2]`, and `sigma` is a cluster's standard deviation along one
    axis.
    """

    mean: Array
    axes: Array
    centres: Array
    sigma: float
    low: Array
    high: Array

    @staticmethod
    def of(data: Array, labels: Array) -> Plane:
        mean = data.mean(axis=0)
        axes = np.linalg.svd(data - mean, full_matrices=False)[2][:2]
        points = (data - mean) @ axes.T
        clusters = [points[labels == k] for k in np.unique(labels)]
        variances = [np.cov(c.T).trace() / 2 for c in clusters]
        sigma = float(np.sqrt(np.mean(variances)))
        return Plane(
            mean=mean,
            axes=axes,
            centres=np.stack([c.mean(axis=0) for c in clusters]),
            sigma=sigma,
            low=points.min(axis=0) - 4 * sigma,
            high=points.max(axis=0) + 4 * sigma,
        )

    def project(self, items: Array) -> Array:
        return (items - self.mean) @ self.axes.T

    def density(self, points: Array) -> Array:
        return density(points, self.low, self.high, BANDWIDTH * self.sigma)


def density(points: Array, low: Array, high: Array, bandwidth: float) -> Array:
    """A Gaussian kernel density estimate: the probability of each cell of a grid.

    What lies outside the grid counts at its border, so that no mass is lost.
    """
    edges = [np.linspace(a, b, CELLS + 1) for a, b in zip(low, high, strict=True)]
    x, y = np.clip(points, low, high).T
    mass = np.histogram2d(x, y, edges)[0] / len(points)
    across, along = (_smoothing(e, bandwidth) for e in edges)
    return across @ mass @ along.T


def _smoothing(edges: Array, bandwidth: float) -> Array:
    """`[to, from]`: where the mass of each cell goes; columns sum to 1."""
    middle = (edges[1:] + edges[:-1]) / 2
    weights = np.exp(-0.5 * ((middle[:, None] - middle) / bandwidth) ** 2)
    return weights / weights.sum(axis=0)


def js_divergence(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence of two tables of probabilities in nats: 0 to ln 2."""
    terms = [a[a > 0] * np.log(2 * a[a > 0] / (p + q)[a > 0]) for a in (p, q)]
    return float(terms[0].sum() + terms[1].sum()) / 2


class Ruler:
    """Measures items against the data: the training set, and as many fresh ones as a floor."""

    def __init__(self) -> None:
        data, labels = images.synthetic().train
        # A set ten times as large has as many test points as the data, of the same clusters.
        fresh = images.synthetic(num_points=10 * len(data)).test[0]
        self.plane = Plane.of(data.astype(np.float64), labels)
        self.clusters = Clusters.of(data.astype(np.float64), labels)
        self.points = self.plane.project(data)
        self._density = self.plane.density(self.points)
        self._shares = self.clusters.shares(data)
        self.floor = self.measure(fresh[:NUM_SAMPLES])

    def measure(self, items: Array) -> dict[str, float]:
        points, shares = self.plane.project(items), self.clusters.shares(items)
        return {
            "js": js_divergence(self.plane.density(points), self._density),
            "modes": int((shares >= COVERED * self._shares).sum()),
            "on_clusters": float(shares.sum()),
        }


def generate(c: Config, states: Sequence[State]) -> Array:
    """`NUM_SAMPLES` of the even mixture of generators, always from the same latents."""
    module = build_generator(c)
    latents = draw_latents(c, NUM_SAMPLES, rng.generator(c.run.seed, "benchmark"))
    with torch.no_grad():
        made = [
            functional_call(module, state, (z,)).items
            for state, z in zip(states, latents.tensor_split(len(states)), strict=True)
        ]
    return torch.cat(made).numpy().astype(np.float64)


def train(c: Config, batches: Iterator[UnlabelledBatch], ruler: Ruler, every: int) -> Row:
    """One run: what is measured on the way, and where its last samples lie."""
    size = DataSize(c.num_classes(10), len(ruler.points), 0)
    trainer = Trainer(c, size, resolve_backend(c.run, 0))
    p, steps = c.posterior, c.train.steps
    states: list[State] = []
    stored: deque[list[State]] = deque(maxlen=p.max_samples)
    curve: list[Row] = []
    started = time.perf_counter()
    for step in range(1, steps + 1):
        trainer.step(step - 1, None, next(batches))
        after = step - p.burn_in
        if after > 0 and after % p.thinning == 0:
            stored.append([copy.deepcopy(g.network.state_dict()) for g in trainer.generators])
        if step % every == 0 or step == steps:
            states = [g.network.state_dict() for g in trainer.generators]
            row: Row = {"step": step, **ruler.measure(generate(c, states))}
            if stored:
                # Every method gets the mixture of its last iterates, not the posterior alone.
                row["stored"] = ruler.measure(generate(c, [s for kept in stored for s in kept]))
            curve.append(row)
    alone = [ruler.measure(generate(c, [state]))["modes"] for state in states]
    points = ruler.plane.project(generate(c, states))[:: NUM_SAMPLES // NUM_SHOWN]
    return {
        "seconds": time.perf_counter() - started,
        "curve": curve,
        "modes_alone": float(np.mean(alone)),
        "points": points.round(1).tolist(),
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="by default those of the recipe")
    parser.add_argument("--every", type=int, default=50, help="iterations between measurements")
    parser.add_argument("overrides", nargs="*", help="key=value, for all three methods")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.jsonl"
    ruler = Ruler()
    c = settings([], options)
    manifest, _, frames = run_folder.prepare_data(c)
    items = manifest.part("train")
    rows: list[Row] = []
    for seed in range(options.seeds):
        for method, own in METHODS.items():
            c = settings([*own, f"run.seed={seed}"], options)
            told = f"{method} {options.every}\n{config.to_yaml(c)}"
            key = hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
            past = file.read_text().splitlines() if file.is_file() else []
            row = next((r for r in map(json.loads, past) if r["key"] == key), None)
            if row is None:
                batches = unlabelled_batches(items, frames, c, 0)
                row = {"method": method, "seed": seed, "key": key}
                row |= train(c, batches, ruler, options.every)
                # The whole file, so that a kill leaves no line cut off.
                write_atomically(file, "\n".join([*past, json.dumps(row)]) + "\n")
            js, modes = (row["curve"][-1][k] for k in ("js", "modes"))
            print(f"seed {seed} {method:9} JS {js:.3f} nats, {modes:2d} clusters", flush=True)
            rows.append(row)
    report(rows, ruler)
    plot(rows, ruler, options.out / "synthetic.png", c.posterior.burn_in)


def settings(own: list[str], options: argparse.Namespace) -> Config:
    """A method's settings. With fewer steps all that is counted in steps shrinks alike."""
    overrides = [*options.overrides, *own]
    c = config.load(RECIPE, overrides)
    if options.steps is None or options.steps == c.train.steps:
        return c
    part = options.steps / c.train.steps
    scaled = {
        "train.steps": options.steps,
        "posterior.burn_in": round(part * c.posterior.burn_in),
        "posterior.thinning": max(1, round(part * c.posterior.thinning)),
    }
    return config.load(RECIPE, [*overrides, *(f"{k}={v}" for k, v in scaled.items())])


def report(rows: list[Row], ruler: Ruler) -> None:
    """Mean ± standard error over seeds, after the last step."""
    keys = ("js", "modes", "on_clusters")
    print(f"\n{'after the last step':28}" + "".join(f"{key:>18}" for key in keys))
    for method in METHODS:
        of_method = [row for row in rows if row["method"] == method]
        last = [row["curve"][-1] for row in of_method]
        for name, found in (("", last), (", stored", [r.get("stored", r) for r in last])):
            cells = [_mean_error([r[key] for r in found]) for key in keys]
            print(f"{method + name:28}" + "".join(f"{f'{m:.3f} ± {e:.3f}':>18}" for m, e in cells))
        mean, error = _mean_error([row["modes_alone"] for row in of_method])
        print(f"{'  one generator alone':28}{'':18}{f'{mean:.3f} ± {error:.3f}':>18}")
    print(f"{'fresh data':28}" + "".join(f"{ruler.floor[key]:>18.3f}" for key in keys))


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)


def plot(rows: list[Row], ruler: Ruler, path: Path, burn_in: int) -> None:
    """Samples of the first seed in the plane above, the divergence and covered modes below."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    above, below = figure.subfigures(2, 1)
    panels: list[Axes] = list(above.subplots(1, 4, sharex=True, sharey=True))
    _scatter(panels[0], ruler.points[:NUM_SHOWN], "data", "data, 10 clusters", ruler)
    for ax, row in zip(panels[1:], rows[: len(METHODS)], strict=True):
        _scatter(ax, np.array(row["points"]), row["method"], TITLES[row["method"]], ruler)
    js, modes = below.subplots(1, 2)
    for method in METHODS:
        curves = [row["curve"] for row in rows if row["method"] == method]
        for ax, key in ((js, "js"), (modes, "modes")):
            values = np.array([[r[key] for r in curve] for curve in curves])
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(curves) - 1))
            steps = [r["step"] for r in curves[0]]
            ax.plot(steps, mean, color=COLORS[method], label=TITLES[method])
            ax.fill_between(steps, mean - spread, mean + spread, color=COLORS[method], alpha=0.15)
    js.axhline(ruler.floor["js"], color=COLORS["data"], ls="--", lw=1, label="fresh data")
    js.set(ylim=(0, None), ylabel="JS divergence (nats, at most 0.69)")
    modes.set(ylim=(0, len(ruler.plane.centres) + 0.5), ylabel="clusters covered, of 10")
    for ax in (js, modes):
        ax.axvline(burn_in, color=COLORS["bayesian"], ls=":", lw=1, label="SGHMC begins")
        ax.set_xlabel("iteration")
    js.set_title(f"mean and standard deviation of {len(curves)} seeds", fontsize=10)
    js.legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(path, dpi=110)


def _scatter(ax: Axes, points: Array, name: str, title: str, ruler: Ruler) -> None:
    ax.scatter(*points.T, s=2, color=COLORS[name], alpha=0.5, linewidths=0)
    ax.scatter(*ruler.plane.centres.T, s=18, color="black", marker="+", linewidths=0.8)
    low, high = ruler.plane.low, ruler.plane.high
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


if __name__ == "__main__":
    main()
