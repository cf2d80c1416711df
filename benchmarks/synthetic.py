"""The original's synthetic experiment: which GAN covers ten clusters in a plane (one figure).

    python -m benchmarks.synthetic --out synthetic

Saatchi & Wilson 2017, section 4.1. Three ways of training the same two networks without labels, the
same number of iterations and items an iteration: one maximum-likelihood GAN, ten independent ones,
and the Bayesian GAN of configs/image/synthetic.yaml. On the first two principal components of the
data every method's samples are compared with the data as a density (Jensen-Shannon divergence) and
cluster by cluster. Runs that are in results.jsonl already are not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from bgan_video import config, precision, rng
from bgan_video.config import Config
from bgan_video.data import images
from bgan_video.data.streams import unlabelled_batches
from bgan_video.files import write_atomically
from bgan_video.models import build_generator
from bgan_video.training import run_folder
from bgan_video.training.trainer import DataSize, Trainer, draw_latents

Array = NDArray[Any]
State = dict[str, Tensor]

RECIPE = "configs/image/synthetic.yaml"
METHODS = {
    "gan": ["posterior.bayes=false", "posterior.num_z=1", "posterior.num_discriminators=1"],
    "ensemble": [
        *("posterior.bayes=false", "posterior.independent=true"),
        *("posterior.num_z=10", "posterior.num_discriminators=10"),
    ],
    "bayesian": [],
}
NUM_SAMPLES = 10_000
CELLS = 160
BANDWIDTH = 0.3
"""Of the density estimate, in standard deviations of a cluster."""
NEAR = 3.0
"""Standard deviations from its centre within which a sample belongs to a cluster."""
COVERED = 1 / 5
"""Part of its true share from which on a cluster counts as covered."""


@dataclass(frozen=True)
class Plane:
    """The plane of the data, in which everything is measured.

    Attributes:
        mean: `[D]`.
        axes: `[2, D]`, the first two principal components.
        whiten: `[2, 2]`, under which a cluster's points are N(centre, I).
        centres: `[K, 2]`, whitened.
        shares: `[K]`, the part of the data that belongs to each cluster.
        density: Of the data on the grid.
    """

    mean: Array
    axes: Array
    whiten: Array
    centres: Array
    low: Array
    high: Array
    sigma: float

    @staticmethod
    def of(data: Array, labels: Array) -> Plane:
        mean = data.mean(axis=0)
        axes = np.linalg.svd(data - mean, full_matrices=False)[2][:2]
        points = (data - mean) @ axes.T
        centres = np.stack([points[labels == k].mean(axis=0) for k in np.unique(labels)])
        within = np.cov((points - centres[labels]).T)
        whiten = np.linalg.inv(np.linalg.cholesky(within)).T
        sigma = math.sqrt(np.trace(within) / 2)
        margin = 4 * sigma
        return Plane(
            mean, axes, whiten, centres @ whiten, points.min(0) - margin, points.max(0) + margin, sigma
        )

    def project(self, items: Array) -> Array:
        return (items - self.mean) @ self.axes.T

    def off_plane(self, items: Array) -> float:
        """Root mean square distance of items to the plane, in a cluster's standard deviations."""
        centred = items - self.mean
        residual = centred - centred @ self.axes.T @ self.axes
        return float(np.sqrt((residual**2).sum(axis=1).mean())) / self.sigma

    def density(self, points: Array) -> Array:
        return density(points, self.low, self.high, BANDWIDTH * self.sigma)

    def shares(self, points: Array) -> Array:
        return shares(points @ self.whiten, self.centres)


def density(points: Array, low: Array, high: Array, bandwidth: float) -> Array:
    """A Gaussian kernel density estimate on a grid, as a probability for each cell.

    What lies outside counts at the border, so that no mass is lost.
    """
    edges = [np.linspace(a, b, CELLS + 1) for a, b in zip(low, high, strict=True)]
    inside = np.clip(points, low, high)
    mass = np.histogram2d(inside[:, 0], inside[:, 1], edges)[0] / len(points)
    smooth = [_kernel(e, bandwidth) for e in edges]
    return smooth[0] @ mass @ smooth[1].T


def _kernel(edges: Array, bandwidth: float) -> Array:
    """`[to, from]`: where a cell's mass goes; columns sum to 1."""
    middle = (edges[1:] + edges[:-1]) / 2
    weights = np.exp(-0.5 * ((middle[:, None] - middle) / bandwidth) ** 2)
    return weights / weights.sum(axis=0)


def js_divergence(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence of two probability tables in nats: 0 to ln 2."""
    return (_half(p, q) + _half(q, p)) / 2


def _half(p: Array, q: Array) -> float:
    """KL(p || (p + q) / 2)."""
    at = p > 0
    return float((p[at] * np.log(2 * p[at] / (p + q)[at])).sum())


def shares(points: Array, centres: Array) -> Array:
    """The part of all points whose nearest centre is k and not farther than `NEAR`."""
    distance = np.linalg.norm(points[:, None] - centres, axis=-1)
    nearest = distance.argmin(axis=1)[distance.min(axis=1) <= NEAR]
    return np.bincount(nearest, minlength=len(centres)) / len(points)


def num_covered(found: Array, true: Array) -> int:
    return int((found >= COVERED * true).sum())


def generate(c: Config, states: Sequence[State]) -> Array:
    """`NUM_SAMPLES` samples of the mixture of generators, always from the same latents."""
    module = build_generator(c)
    latents = draw_latents(c, NUM_SAMPLES, rng.generator(c.run.seed, "benchmark"))
    with torch.no_grad():
        made = [
            functional_call(module, state, (z,)).items
            for state, z in zip(states, latents.tensor_split(len(states)), strict=True)
        ]
    return torch.cat(made).numpy().astype(np.float64)
