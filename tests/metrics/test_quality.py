"""Distances between sets of features against closed forms, brute force and other formulas."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bgan_video.backend import resolve_backend
from bgan_video.config import Run
from bgan_video.errors import UserError
from bgan_video.metrics.quality import frechet_distance, kernel_distance, quality
from bgan_video.models import Classifier
from bgan_video.prediction.extractors import judged

seeds = st.integers(0, 10**6)
rows = st.integers(2, 12)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random(seed), dtype=torch.float64)


def fitted(seed: int, mean: Tensor, root: Tensor, count: int = 40) -> Tensor:
    """Rows whose mean is `mean` and whose unbiased covariance is `root.T @ root`, exactly."""
    x = normal(seed, count, len(mean))
    white = torch.linalg.qr(x - x.mean(0)).Q * (count - 1) ** 0.5
    return mean + white @ root


def test_of_diagonal_gaussians() -> None:
    means = torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 0.5]], dtype=torch.float64)
    deviations = torch.tensor([[1.0, 2.0, 0.1], [3.0, 0.5, 0.1]], dtype=torch.float64)
    a, b = (fitted(i, means[i], deviations[i].diag()) for i in range(2))
    # 1² + 3² of the means; 2² + 1.5² of the deviations.
    assert frechet_distance(a, b) == pytest.approx(16.25, rel=1e-12)


def test_of_means_alone() -> None:
    x, shift = normal(1, 30, 5), normal(2, 5)
    expected = shift.square().sum().item()
    assert frechet_distance(x, x + shift) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)], ids=["full rank", "fewer rows"])
def test_a_set_is_at_no_distance_from_itself(shape: tuple[int, int]) -> None:
    """A root of rounding errors, as of the eigenvalues of `S_a S_b`, would be 1e-8 a feature."""
    x = normal(3, *shape) * 10
    assert frechet_distance(x, x[torch.randperm(len(x), generator=random())]) < 1e-9


def test_of_commuting_covariances() -> None:
    """`tr (S_a^½ - S_b^½)²` in their common eigenbasis."""
    basis = torch.linalg.qr(normal(4, 6, 6)).Q
    a, b = normal(5, 6).abs(), normal(6, 6).abs()
    zero = torch.zeros(6, dtype=torch.float64)
    x, y = (fitted(7, zero, basis @ d.diag() @ basis.T) for d in (a, b))
    assert frechet_distance(x, y) == pytest.approx((a - b).square().sum().item(), rel=1e-10)


@given(seeds, st.integers(8, 30), st.integers(8, 30), st.integers(1, 6))
def test_against_the_eigenvalues_of_the_product(seed: int, n: int, m: int, width: int) -> None:
    """The formula as it is written, `tr (S_a S_b)^½`, of a matrix that is not symmetric."""
    a = normal(seed, n, width) @ normal(seed + 1, width, width)
    b = normal(seed + 2, m, width) @ normal(seed + 3, width, width) + 1
    s_a, s_b = a.T.cov().reshape(width, width), b.T.cov().reshape(width, width)
    root = torch.linalg.eigvals(s_a @ s_b).sqrt().real.sum()
    spread = s_a.trace() + s_b.trace() - 2 * root
    expected = (a.mean(0) - b.mean(0)).square().sum() + spread
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)


@given(seeds, rows, rows, st.integers(1, 12))
def test_frechet_is_symmetric_and_never_negative(seed: int, n: int, m: int, width: int) -> None:
    a, b = normal(seed, n, width), normal(seed + 1, m, width)
    found = frechet_distance(a, b)
    assert found >= 0
    assert frechet_distance(b, a) == pytest.approx(found, rel=1e-9)
    assert 0 <= frechet_distance(a, a.flip(0)) < 1e-9


@given(seeds, rows, st.integers(1, 12), st.floats(0.01, 100))
def test_frechet_moves_with_the_space(seed: int, n: int, width: int, scale: float) -> None:
    a, b = normal(seed, n, width), normal(seed + 1, n, width) + 1
    rotation = torch.linalg.qr(normal(seed + 2, width, width)).Q

    def moved(x: Tensor) -> Tensor:
        return scale * x @ rotation + normal(seed + 3, width)

    expected = scale**2 * frechet_distance(a, b)
    assert frechet_distance(moved(a), moved(b)) == pytest.approx(expected, rel=1e-7)


@given(seeds, rows, st.integers(1, 12), st.floats(0, 2))
def test_no_pairing_of_rows_is_closer_than_the_gaussians(
    seed: int, n: int, width: int, noise: float
) -> None:
    """Gelbrich 1990: Gaussians of the same moments are the nearest distributions."""
    a = normal(seed, n, width)
    b = a + noise * normal(seed + 1, n, width)
    paired = (a - b).square().sum(1).mean().item() * n / (n - 1)  # as for unbiased covariances
    assert frechet_distance(a, b) <= paired + 1e-9


def test_of_covariances_without_common_directions() -> None:
    """Far fewer rows than features, and nothing to be gained by the root of the product."""
    a, b = normal(8, 6, 100), normal(9, 9, 100)
    a[:, 50:], b[:, :50] = 0, 2
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum()
    assert frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-12)


def squared_mmd(a: Tensor, b: Tensor) -> float:
    """The definition, pair by pair."""
    x, y = a.tolist(), b.tolist()

    def k(u: list[float], v: list[float]) -> float:
        return (sum(i * j for i, j in zip(u, v, strict=True)) / len(u) + 1) ** 3

    def within(z: list[list[float]]) -> float:
        pairs = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
        return sum(pairs) / len(pairs)

    across = [k(u, v) for u in x for v in y]
    return within(x) + within(y) - 2 * sum(across) / len(across)


@given(seeds, st.integers(2, 6), st.integers(1, 4))
def test_kernel_distance_is_its_definition(seed: int, n: int, width: int) -> None:
    a, b = normal(seed, n, width), normal(seed + 1, n, width) + 1
    mean, deviation = kernel_distance(a, b, random(), subsets=2)
    assert mean == pytest.approx(squared_mmd(a, b), rel=1e-9, abs=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)  # there is only one subset


@pytest.mark.statistical
def test_subsets_average_to_the_whole() -> None:
    """Drawn without replacement. Five standard errors are allowed, of independent subsets."""
    a, b = normal(10, 6, 3), normal(11, 6, 3) + 1
    subsets = 2000
    mean, deviation = kernel_distance(a, b, random(), subsets=subsets, subset_size=3)
    bound = 5 * deviation / subsets**0.5
    assert mean == pytest.approx(squared_mmd(a, b), abs=bound)
    assert bound < 0.5


def replicated(shift: float, replicates: int, count: int, width: int) -> Tensor:
    sets = normal(12, replicates, 2, count, width)
    return torch.tensor(
        [kernel_distance(x, y + shift, random(), subsets=2)[0] for x, y in sets],
        dtype=torch.float64,
    )


@pytest.mark.statistical
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kernel_distance_is_unbiased(shift: float) -> None:
    """Of N(0, 1) and N(s, 1): their moments differ by s, s² and s³ + 3s.

    Five standard errors of the mean are allowed. The biased estimate would be 2·(28 - 4) / 30 = 1.6
    too high, or more: at s = 0, E k(x, x) = E (x² + 1)³ = 28 and E k(x, x') = 4.
    """
    found = replicated(shift, 1500, 30, 1)
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    bound = 5 * found.std().item() / len(found) ** 0.5
    assert bound < 0.8
    assert found.mean().item() == pytest.approx(expected, abs=bound)


@pytest.mark.statistical
def test_the_deviation_is_no_less_than_the_standard_error() -> None:
    """Over 100 pairs of sets; the relative error of their deviation is 7 %."""
    sets = normal(13, 100, 2, 40, 3)
    found = [kernel_distance(x, y + 0.5, random(), subset_size=20) for x, y in sets]
    means, deviations = torch.tensor(found).T
    assert 0.75 < deviations.mean() / means.std() < 2.5


def test_kernel_distance_is_symmetric() -> None:
    a, b = normal(14, 20, 4), normal(15, 20, 4) + 1
    there, back = (kernel_distance(x, y, random(), subsets=2)[0] for x, y in ((a, b), (b, a)))
    assert there == pytest.approx(back, rel=1e-12)


def test_a_worse_generator_is_farther_above_the_floor() -> None:
    real, training, other = normal(16, 200, 8), normal(25, 200, 8), normal(17, 300, 8)
    good = quality(real, training, other, "small", random())
    wide = quality(real, training, 2 * other, "small", random())
    far = quality(real, training, 2 * other + 1, "small", random())
    collapsed = quality(real, training, other[:1].repeat(300, 1), "small", random())
    assert good.frechet < 1.5 * good.frechet_floor
    assert abs(good.kernel - good.kernel_floor) < 5 * good.kernel_std
    assert 5 * wide.frechet_floor < wide.frechet < far.frechet
    for bad in (wide, far, collapsed):
        assert bad.frechet > 5 * bad.frechet_floor
        assert bad.kernel > bad.kernel_floor + 3 * bad.kernel_std
        assert bad.frechet_floor == good.frechet_floor
    assert {q.count for q in (good, wide, far, collapsed)} == {200}


@pytest.mark.statistical
@pytest.mark.parametrize("counts", [(20, 40, 200), (40, 20, 30), (200, 200, 20)])
def test_a_perfect_generator_is_above_the_floor_half_the_time(counts: tuple[int, ...]) -> None:
    """Whatever there is more of. Five deviations of a fair coin, 20 of 64, are allowed."""
    above = torch.zeros(2)
    for i in range(64):
        test, training, fake = (normal(3 * i + j, count, 8) for j, count in enumerate(counts))
        found = quality(test, training, fake, "", random(i))
        assert found.count == 20
        above += torch.tensor(
            [found.frechet > found.frechet_floor, found.kernel > found.kernel_floor]
        )
    assert (above - 32).abs().max() <= 20


def test_the_floor_is_between_test_and_training_items() -> None:
    test, training = normal(26, 50, 3), normal(27, 50, 3)
    found = quality(test, training, test + 9, "", random())
    assert found.frechet_floor == pytest.approx(frechet_distance(test, training), rel=1e-9)
    assert found.frechet == pytest.approx(3 * 81, rel=1e-9)


def test_generated_items_are_chosen_from_all_of_them() -> None:
    """They come generator by generator; of the second one half, so means are 5 apart."""
    real = normal(24, 80, 3)
    half = quality(real[:40], real[40:], torch.cat([real[:40], real[:40] + 10]), "", random())
    assert half.frechet > half.frechet_floor + 50


def test_the_seed_is_all_there_is_of_chance() -> None:
    test, training, fake = normal(18, 40, 3), normal(28, 30, 3), normal(19, 40, 3)
    found = quality(test, training, fake, "small", random(5))
    torch.manual_seed(1)
    assert quality(test, training, fake, "small", random(5)) == found
    other = quality(test, training, fake, "small", random(6))
    for key in ("frechet", "frechet_floor", "kernel", "kernel_std", "kernel_floor"):
        assert getattr(other, key) != getattr(found, key)


def test_the_result_names_its_extractor_and_nothing_else() -> None:
    sets = (normal(20, 8, 2), normal(29, 8, 2), normal(21, 4, 2))
    found = dataclasses.asdict(quality(*sets, "supervised", random()))
    assert found["extractor"] == "supervised"
    assert all(math.isfinite(value) for key, value in found.items() if key != "extractor")
    assert not any("fid" in key or "kid" in key for key in found)


@pytest.mark.parametrize("counts", [(3, 100, 100), (100, 3, 100), (100, 100, 3)])
def test_too_few_items(counts: tuple[int, int, int]) -> None:
    sets = [normal(22 + i, count, 2) for i, count in enumerate(counts)]
    with pytest.raises(UserError, match="got {}, {} and {}".format(*counts)):
        quality(*sets, "", random())


def classifier() -> Classifier:
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
    network = Classifier(body, 5, 3, dropout=0.5)
    network(torch.randn(20, 3, 2, 2))  # moves the running statistics
    return network


def test_features_are_those_of_evaluation() -> None:
    torch.manual_seed(0)
    network = classifier()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(7, 3, 2, 2)
    found, _ = judged(network, x.split(3), resolve_backend(Run(device="cpu"), 2))
    assert (found.dtype, found.device.type, found.requires_grad) == (torch.float64, "cpu", False)
    assert network.training
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    expected = network.eval().body(x).double().detach()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_features_are_made_in_the_backends_precision() -> None:
    torch.manual_seed(0)
    network, x = classifier(), torch.randn(7, 3, 2, 2)
    (full, _), (half, _) = (
        judged(network, [x], resolve_backend(Run(device="cpu", precision=name), 2))
        for name in ("fp32", "bf16")
    )
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)
