"""Rivals on frozen features, which learn from labels alone: a linear probe and neighbours.

Both take vectors `[V, C, L]` of C clips of each of V videos, standardised (`Scale`), choose their
one setting by the likelihood of validation videos, and answer as networks do: logits `[B, K+1]` of
clips `[B, L]`, of which index 0, 'fake', is as good as impossible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from bgan_video.models import nd

STRENGTHS = tuple(10.0**power for power in range(2, -5, -1))
"""Of L2, strongest first. Of standardised vectors of a thousand numbers, the strongest leaves
hardly more than the classes' shares, and the weakest fits separable labels as if there were none.
"""

NEIGHBOURS = (1, 2, 3, 5, 10, 20)
TEMPERATURE = 0.07
"""Of cosine similarities (Wu et al. 2018, arXiv:1805.01978)."""

_ITERATIONS = 500
NEVER = -1e4
"""The logit of what is as good as impossible."""

_Model = TypeVar("_Model", bound=Callable[[Tensor], Tensor])


@dataclass(frozen=True)
class Labelled:
    """Videos with labels.

    Attributes:
        vectors: `[V, C, L]`.
        labels: `[V]`, from 0.
        weights: `[V]`, what each counts in a probe's loss; None where all count alike.
    """

    vectors: Tensor
    labels: Tensor
    weights: Tensor | None = None


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

    @property
    def network(self) -> nd.Head:
        """The same as logits `[B, K+1]` of clips `[B, L]`, float32."""
        classes, length = self.weight.shape
        network = nd.Head(length, classes + 1)
        weight = F.pad(self.weight, (0, 0, 1, 0)).float()
        network.load_state_dict(
            {"weight": weight, "bias": F.pad(self.bias, (1, 0), value=NEVER).float()}
        )
        return network


@dataclass(frozen=True)
class Neighbours:
    """What the labelled videos are that are most similar to a clip.

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
        clips = vectors.shape[1]
        logits = NeighbourVotes.of(self)(rearrange(vectors, "v c l -> (v c) l"))
        votes = logits[:, 1:].softmax(dim=1)
        return reduce(votes, "(v c) k -> v k", "mean", c=clips)


class NeighbourVotes(nn.Module):
    """`Neighbours` as a network: logits of clips.

    Args:
        num_labelled: Labelled videos.
        length: L.
        num_classes: K.
    """

    directions: Tensor
    labels: Tensor
    count: Tensor

    def __init__(self, num_labelled: int, length: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("directions", torch.zeros(num_labelled, length, dtype=torch.float64))
        self.register_buffer("labels", torch.zeros(num_labelled, dtype=torch.long))
        self.register_buffer("count", torch.ones((), dtype=torch.long))

    @staticmethod
    def of(found: Neighbours) -> NeighbourVotes:
        """The network of some neighbours."""
        num_labelled, length = found.directions.shape
        network = NeighbourVotes(num_labelled, length, found.num_classes)
        count = torch.tensor(found.count)
        state = {"directions": found.directions, "labels": found.labels, "count": count}
        network.load_state_dict(state)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """From clips `[B, L]` to `[B, K+1]`, float64: the logarithms of votes."""
        similarity = F.normalize(x.double(), dim=1) @ self.directions.T
        # All of them, by rank: a program cannot be cut to a number that is read from a buffer.
        nearest = similarity.topk(len(self.labels), dim=1)
        weights = ((nearest.values - nearest.values[:, :1]) / TEMPERATURE).exp()
        weights = weights * (torch.arange(len(self.labels), device=x.device) < self.count)
        votes = weights.new_full((weights.shape[0], self.num_classes), 1 / self.num_classes)
        votes.scatter_add_(1, self.labels[nearest.indices], weights)
        return F.pad(votes.log(), (1, 0), value=NEVER)


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

    A labelled video is the mean of its clips here, so that neighbours are other videos.

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
    """The minimum of the (weighted) mean cross-entropy of clips + l2/2 · Σ W²; the bias is free.

    It is convex; L-BFGS in float64 goes on until the gradient is nearly 0.

    Args:
        training: The labelled videos.
        num_classes: K.
        l2: > 0.
    """
    x = training.vectors.double().flatten(0, 1)
    clips = training.vectors.shape[1]
    y = training.labels.repeat_interleave(clips)
    given = training.weights
    counts = x.new_ones(len(y)) if given is None else given.to(x).repeat_interleave(clips)
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
        each = F.cross_entropy(F.linear(x, weight, bias), y, reduction="none")
        value = (counts * each).sum() / counts.sum() + 0.5 * l2 * weight.square().sum()
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
