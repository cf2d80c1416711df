"""The probe and the neighbours, against what is worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bgan_video.features import rivals
from bgan_video.features.rivals import Labelled, fit_probe, knn, linear_probe


def blobs(
    count: int, seed: int, spread: float = 1.0, classes: int = 3, clips: int = 2, length: int = 6
) -> Labelled:
    """`count` videos a class, their clips around the class's corner."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(count)
    noise = torch.randn(len(labels), clips, length, generator=random) * spread
    return Labelled(torch.eye(length)[labels][:, None] * 2 + noise, labels)


def newton(data: Labelled, classes: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method on the same loss, in numpy: weights `[K, L]`, biases `[K]` of mean 0."""
    clips, length = data.vectors.shape[1:]
    x = data.vectors.double().flatten(0, 1).numpy()
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = np.eye(classes)[data.labels.repeat_interleave(clips).numpy()]
    penalty = np.diag(np.tile([l2] * length + [0.0], classes))
    theta = np.zeros(classes * (length + 1))
    for _ in range(50):
        logits = x @ theta.reshape(classes, -1).T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient = ((p - y).T @ x / len(x)).ravel() + penalty @ theta
        curvature = np.einsum("nk,kj->nkj", p, np.eye(classes)) - np.einsum("nk,nj->nkj", p, p)
        hessian = np.einsum("nkj,na,nb->kajb", curvature, x, x) / len(x)
        hessian = hessian.reshape(len(theta), -1) + penalty
        theta = theta - np.linalg.pinv(hessian) @ gradient
    found = theta.reshape(classes, -1)
    return found[:, :-1], found[:, -1] - found[:, -1].mean()


# --- the probe ---------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.1, 0.5, 2.0])
def test_two_points_by_hand(w: float) -> None:
    """At ±1, W = (-w, w) and no bias: log(1 + e^-2w) + l2·w² is least where l2·w = 1/(1 + e^2w)."""
    l2 = 1 / (1 + math.exp(2 * w)) / w
    points = Labelled(torch.tensor([[[-1.0]], [[1.0]]]), torch.tensor([0, 1]))
    probe = fit_probe(points, 2, l2)
    expected = torch.tensor([[-w], [w]], dtype=torch.float64)
    torch.testing.assert_close(probe.weight, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(probe.bias, torch.zeros(2, dtype=torch.float64), atol=1e-7, rtol=0)
    sure = probe(torch.tensor([[[1.0]]]))[0, 1]
    assert float(sure) == pytest.approx(1 / (1 + math.exp(-2 * w)))


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_the_probe_is_newtons(l2: float) -> None:
    data = blobs(5, seed=0)
    weight, bias = newton(data, 3, l2)
    probe = fit_probe(data, 3, l2)
    np.testing.assert_allclose(probe.weight.numpy(), weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probe.bias.numpy(), bias, rtol=1e-4, atol=1e-5)


def test_without_anything_to_tell_by_the_probe_says_the_shares() -> None:
    """Stationary in the bias: the mean probability of a class is its share of the labels."""
    data = Labelled(torch.zeros(8, 3, 4), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2]))
    found = fit_probe(data, 3, 1.0)(data.vectors[:1])
    expected = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_videos_probability_is_the_mean_over_its_clips() -> None:
    probe = fit_probe(blobs(5, seed=0), 3, 0.01)
    clips = torch.randn(4, 2, 6)
    expected = torch.stack([probe(clips[:, i : i + 1]) for i in range(2)]).mean(dim=0)
    torch.testing.assert_close(probe(clips), expected)
    assert torch.allclose(probe(clips).sum(dim=1), torch.ones(4, dtype=torch.float64))


def test_l2_is_chosen_by_validation() -> None:
    """Where clips are noise the strongest is likeliest, where they are clear the weakest."""
    clear = linear_probe(blobs(5, 0, spread=0.05), blobs(20, 1, spread=0.05), 3)
    assert clear.l2 == min(rivals.STRENGTHS)
    noise = blobs(5, 0, spread=50.0)
    assert linear_probe(noise, blobs(20, 1, spread=50.0), 3).l2 == max(rivals.STRENGTHS)
    training, validation = blobs(5, 2, spread=1.5), blobs(30, 3, spread=1.5)
    chosen = linear_probe(training, validation, 3)
    every = {l2: fit_probe(training, 3, l2)(validation.vectors) for l2 in rivals.STRENGTHS}
    of = {l2: rivals.negative_log_likelihood(p, validation.labels) for l2, p in every.items()}
    assert of[chosen.l2] == min(of.values())
    assert min(rivals.STRENGTHS) < chosen.l2 < max(rivals.STRENGTHS)


def test_the_probe_learns_where_gradients_are_off() -> None:
    data = blobs(5, seed=0)
    with torch.no_grad():
        found = fit_probe(data, 3, 0.1)
    assert torch.equal(found.weight, fit_probe(data, 3, 0.1).weight)


# --- neighbours --------------------------------------------------------------------------------


def at(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None]


def test_votes_by_hand() -> None:
    """Neighbours at 0°, 60°, 90° of classes 0, 1, 1; one vote more, shared."""
    known = Labelled(at(0, 60, 90), torch.tensor([0, 1, 1]))
    asked = knn(known, Labelled(at(0), torch.tensor([0])), 2, counts=[2])
    second = math.exp((0.5 - 1) / 0.07)
    expected = torch.tensor([[1 + 0.5, second + 0.5]], dtype=torch.float64) / (2 + second)
    torch.testing.assert_close(asked(at(0) * 7), expected)
    alone = knn(known, Labelled(at(0), torch.tensor([0])), 2, counts=[1])
    torch.testing.assert_close(alone(at(0))[0, 0], torch.tensor(0.75, dtype=torch.float64))


def test_the_number_of_neighbours_is_chosen_by_validation() -> None:
    """One labelled video lies among those of the other class: it is outvoted by two of three."""
    known = Labelled(at(0, 1, 2, 90, 91, 92), torch.tensor([0, 1, 0, 1, 1, 1]))
    near_the_stray = Labelled(at(1.1, 0.9), torch.tensor([0, 0]))
    assert knn(known, near_the_stray, 2, counts=[1, 3, 6]).count == 3
    assert knn(known, Labelled(at(1.0), torch.tensor([1])), 2, counts=[1, 3, 6]).count == 1


def test_more_neighbours_than_videos_are_all_videos() -> None:
    known = Labelled(at(0, 90), torch.tensor([0, 1]))
    found = knn(known, known, 2, counts=[20])(at(45))
    torch.testing.assert_close(found, torch.full((1, 2), 0.5, dtype=torch.float64))


def test_neighbours_are_videos_not_clips() -> None:
    """Three clips of one video are one vote."""
    known = Labelled(
        torch.cat([at(0, 10).expand(2, 3, 2), at(10, 12).expand(2, 3, 2)]),
        torch.tensor([0, 1, 1, 1]),
    )
    asked = knn(known, Labelled(at(0).expand(1, 3, 2), torch.tensor([0])), 2, counts=[3])
    assert float(asked(at(9).expand(1, 3, 2))[0, 1]) > 0.5


# --- as networks -------------------------------------------------------------------------------


def test_a_probes_network_answers_as_the_probe() -> None:
    data = blobs(5, seed=0)
    probe = fit_probe(data, 3, 0.1)
    logits = probe.network(data.vectors.flatten(0, 1))
    p = logits.softmax(dim=1).double()
    assert p[:, 0].max() < 1e-30
    by_video = p[:, 1:].unflatten(0, (-1, 2)).mean(dim=1)
    torch.testing.assert_close(by_video, probe(data.vectors), rtol=1e-5, atol=1e-6)


def test_a_weight_of_two_is_the_same_video_twice() -> None:
    data = blobs(4, seed=1)
    twice = Labelled(
        torch.cat([data.vectors, data.vectors[:1]]), torch.cat([data.labels, data.labels[:1]])
    )
    weights = torch.ones(len(data.labels))
    weights[0] = 2
    weighted = Labelled(data.vectors, data.labels, weights)
    found, expected = fit_probe(weighted, 3, 0.1), fit_probe(twice, 3, 0.1)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-5, atol=1e-7)


def test_neighbours_are_stored_and_answer_the_same() -> None:
    data = blobs(4, seed=2)
    found = knn(data, blobs(8, seed=3), 3)
    network = rivals.NeighbourVotes.of(found)
    again = rivals.NeighbourVotes(len(data.labels), 6, 3)
    again.load_state_dict(network.state_dict())
    x = torch.randn(5, 6)
    assert torch.equal(again(x), network(x))
    p = network(x)[:, 1:].softmax(dim=1)
    torch.testing.assert_close(p, found(x[:, None]))
