"""Rivals on frozen features, which learn from labels alone: a linear probe and neighbours.

Both take vectors `[V, C, L]` of C clips of each of V videos, standardised (`Scale`), and choose
their one setting by the likelihood of validation videos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

STRENGTHS = tuple(10.0**power for power in range(2, -5, -1))
"""Of L2, strongest first. Of standardised vectors of a thousand numbers, the strongest leaves
hardly more than the classes' shares, and the weakest fits separable labels as if there were none.
"""

NEIGHBOURS = (1, 2, 3, 5, 10, 20)
TEMPERATURE = 0.07
"""Of cosine similarities (Wu et al. 2018, arXiv:1805.01978)."""

_ITERATIONS = 500

_Model = TypeVar("_Model", bound=Callable[[Tensor], Tensor])


@dataclass(frozen=True)
class Labelled:
    """Videos with labels.

    Attributes:
        vectors: `[V, C, L]`.
        labels: `[V]`, from 0.
    """

    vectors: Tensor
    labels: Tensor


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression.

    Attributes:
        weight: `[K, L]`, float64.
        bias: `[K]`, float64, of mean 0.
        l2: What it was fitted with.
    """

    weight: Tensor
    bias: Tensor
    l2: float

    def __call__(self, vectors: Tensor) -> Tensor:
        """Class probabilities `[V, K]`, float64: means over the clips of a video."""
        logits = F.linear(vectors.double(), self.weight, self.bias)
        return logits.softmax(dim=-1).mean(dim=1)


@dataclass(frozen=True)
class Neighbours:
    """What the most similar labelled videos are.

    Attributes:
        directions: `[V, L]` of length 1, float64, of the labelled videos' mean vectors.
        labels: `[V]`.
        num_classes: K.
        count: How many neighbours are asked.
    """

    directions: Tensor
    labels: Tensor
    num_classes: int
    count: int

    def __call__(self, vectors: Tensor) -> Tensor:
        """Class probabilities `[V, K]`, float64.

        A neighbour of cosine similarity s votes for its class with exp((s - s1) / 0.07), where s1
        is the nearest one's. One vote more is shared by all classes, so that none is impossible.
        """
        similarity = _directions(vectors) @ self.directions.T
        nearest = similarity.topk(min(self.count, len(self.labels)), dim=1)
        weights = ((nearest.values - nearest.values[:, :1]) / TEMPERATURE).exp()
        votes = weights.new_full((len(weights), self.num_classes), 1 / self.num_classes)
        votes.scatter_add_(1, self.labels[nearest.indices], weights)
        return votes / votes.sum(dim=1, keepdim=True)


def linear_probe(
    training: Labelled,
    validation: Labelled,
    num_classes: int,
    strengths: Sequence[float] = STRENGTHS,
) -> LinearProbe:
    """The probe of the L2 under which the validation videos are likeliest.

    Args:
        training: The labelled videos, every clip of which is learned from.
        validation: At least one video.
        num_classes: K.
        strengths: Of L2, > 0. Where two do alike, the first one is taken.
    """
    probes = [fit_probe(training, num_classes, l2) for l2 in strengths]
    return _likeliest(probes, validation)


def knn(
    training: Labelled,
    validation: Labelled,
    num_classes: int,
    counts: Sequence[int] = NEIGHBOURS,
) -> Neighbours:
    """The neighbours of as many as make the validation videos likeliest.

    A video is the mean of its clips here, so that neighbours are other videos.

    Args:
        training: The labelled videos.
        validation: At least one video.
        num_classes: K.
        counts: Of neighbours, >= 1. Where two do alike, the first one is taken.
    """
    directions = _directions(training.vectors)
    asked = [Neighbours(directions, training.labels, num_classes, count) for count in counts]
    return _likeliest(asked, validation)


def fit_probe(training: Labelled, num_classes: int, l2: float) -> LinearProbe:
    """The minimum of the mean cross-entropy of all clips + l2/2 · Σ W²; the bias is free.

    It is convex; L-BFGS in float64 goes on until the gradient is nearly 0.

    Args:
        training: The labelled videos.
        num_classes: K.
        l2: > 0.
    """
    x = training.vectors.double().flatten(0, 1)
    y = training.labels.repeat_interleave(training.vectors.shape[1])
    weight = x.new_zeros(num_classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x, weight, bias), y) + 0.5 * l2 * weight.square().sum()
        value.backward()
        return float(value.detach())

    with torch.enable_grad():
        optimizer.step(loss)
    found = bias.detach()
    # A constant in all biases changes nothing.
    return LinearProbe(weight.detach(), found - found.mean(), l2)


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Mean of -log p(label), nats; infinite where a label was thought impossible."""
    return float(-probabilities.gather(1, labels[:, None]).log().mean())


def _likeliest(models: Sequence[_Model], validation: Labelled) -> _Model:
    def loss(model: _Model) -> float:
        found = negative_log_likelihood(model(validation.vectors), validation.labels)
        return found if math.isfinite(found) else math.inf

    return min(models, key=loss)


def _directions(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.double().mean(dim=1), dim=1)
