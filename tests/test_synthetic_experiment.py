"""The synthetic experiment: its divergence, its count of clusters, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import synthetic
from benchmarks.synthetic import METHODS, Ruler, density, js_divergence
from bgan_video.data import images

LOW, HIGH = np.array([-8.0, -6.0]), np.array([10.0, 6.0])
BANDWIDTH = 0.3


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return Ruler()


def normal_points(shift: float, per_axis: int = 400) -> NDArray[np.float64]:
    """Points of N((shift, 0), I) without chance: all pairs of equally likely quantiles."""
    levels = (np.arange(per_axis) + 0.5) / per_axis
    quantiles = np.array([NormalDist().inv_cdf(p) for p in levels])
    x, y = np.meshgrid(quantiles + shift, quantiles)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def table(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return density(points, LOW, HIGH, BANDWIDTH)


def items_at(ruler: Ruler, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Items in the plane of the data."""
    return ruler.plane.mean + points @ ruler.plane.axes


def test_a_density_keeps_all_mass_even_outside_its_grid() -> None:
    found = table(np.array([[0.0, 0.0], [1e6, -1e6]]))
    assert found.sum() == pytest.approx(1)
    assert found[-20:, :20].sum() == pytest.approx(0.5, abs=1e-3)


def test_the_divergence_of_two_gaussians_is_that_of_the_smoothed_ones() -> None:
    """On a grid of 160 cells to within 0.002 nats; the reference is one-dimensional quadrature."""
    shift, std = 2.0, np.sqrt(1 + BANDWIDTH**2)
    x = np.linspace(-12, 14, 200_001)
    p, q = (np.exp(-0.5 * ((x - m) / std) ** 2) / (std * np.sqrt(2 * np.pi)) for m in (0, shift))
    m = (p + q) / 2
    # Far out both densities are 0 in float64; they add nothing.
    terms = [np.where(d > 0, d * np.log(np.maximum(d, 1e-300) / m), 0) for d in (p, q)]
    expected = sum(float(t.sum()) for t in terms) / 2 * (x[1] - x[0])
    found = js_divergence(table(normal_points(0)), table(normal_points(shift)))
    assert found == pytest.approx(expected, abs=2e-3)
    assert 0.2 < expected < 0.4


def test_the_divergence_is_zero_at_equality_symmetric_and_at_most_ln_2() -> None:
    near, far = table(normal_points(0) - [5, 0]), table(normal_points(0) * 0.3 + [8, 0])
    assert js_divergence(near, near) == 0
    assert js_divergence(near, far) == pytest.approx(np.log(2), abs=1e-6)
    middle = table(normal_points(0))
    assert js_divergence(near, middle) == pytest.approx(js_divergence(middle, near), abs=1e-12)


def test_fresh_data_are_at_the_floor(ruler: Ruler) -> None:
    assert 0 < ruler.floor["js"] < 0.01
    assert ruler.floor["modes"] == 10
    assert ruler.floor["off_plane"] < 1e-3
    # P(|N(0, I)| < 3) = 1 - exp(-9/2) = 0.989, and a neighbour catches some of the rest.
    assert ruler.floor["on_clusters"] == pytest.approx(0.99, abs=0.01)
    again = images.synthetic().train[0]
    assert ruler.measure(again)["js"] == pytest.approx(0, abs=1e-12)


def test_the_plane_finds_the_clusters_the_data_were_made_of(ruler: Ruler) -> None:
    data, labels = images.synthetic().train
    points = ruler.plane.project(data)
    for k, (centre, whiten) in enumerate(zip(ruler.plane.centres, ruler.plane.whiten, strict=True)):
        white = (points[labels == k] - centre) @ whiten
        np.testing.assert_allclose(np.cov(white.T), np.eye(2), atol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 10])
def test_covered_clusters_are_those_that_have_samples(ruler: Ruler, count: int) -> None:
    random = np.random.default_rng(0)
    tight = 0.1 * ruler.plane.sigma * random.standard_normal((1000, 2))
    points = ruler.plane.centres[np.arange(1000) % count] + tight
    found = ruler.measure(items_at(ruler, points))
    assert found["modes"] == count
    assert found["on_clusters"] == 1


def test_a_cluster_is_covered_from_a_fifth_of_its_share_on(ruler: Ruler) -> None:
    """The clusters have about a tenth of the data each; so 2 % of the samples are needed."""
    for part, expected in ((0.01, 1), (0.03, 2)):
        few = round(1000 * part)
        points = ruler.plane.centres[[0] * (1000 - few) + [1] * few]
        assert ruler.measure(items_at(ruler, points))["modes"] == expected


def test_samples_that_are_nowhere_near_cover_nothing(ruler: Ruler) -> None:
    points = ruler.plane.high + 10 * ruler.plane.sigma * np.ones((100, 2))
    found = ruler.measure(items_at(ruler, points))
    assert (found["modes"], found["on_clusters"]) == (0, 0)
    assert found["js"] == pytest.approx(np.log(2), abs=1e-6)


def test_distance_off_the_plane_is_in_standard_deviations_of_a_cluster(ruler: Ruler) -> None:
    axes = ruler.plane.axes
    direction = np.eye(axes.shape[1])[0]
    direction -= direction @ axes.T @ axes
    direction /= np.linalg.norm(direction)
    items = items_at(ruler, ruler.plane.centres) + 2 * ruler.plane.sigma * direction
    assert ruler.measure(items)["off_plane"] == pytest.approx(2)
    assert ruler.measure(items)["modes"] == 10


def test_the_command_writes_figure_and_rows_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(synthetic, "NUM_SAMPLES", 200)
    monkeypatch.setattr(synthetic, "NUM_SHOWN", 50)
    trained: list[tuple[bool, int]] = []
    train = synthetic.train

    def counted(c, *rest):
        trained.append((c.posterior.bayes, c.posterior.num_z))
        return train(c, *rest)

    monkeypatch.setattr(synthetic, "train", counted)
    command = ["--out", str(tmp_path), "--steps", "4", "--seeds", "1", "--every", "2"]
    command += ["generator.width=16", "discriminator.width=16", "train.batch_size=8"]
    synthetic.main(command)
    assert trained == [(False, 1), (False, 10), (True, 10)]
    file = tmp_path / "results.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["method"] for row in rows] == list(METHODS)
    assert [point["step"] for point in rows[2]["curve"]] == [2, 4]
    assert len(rows[0]["points"]) == 50
    assert (tmp_path / "synthetic.png").read_bytes().startswith(b"\x89PNG")

    # A kill before the last run: that one is made again, and comes out the same.
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / "synthetic.png").unlink()
    synthetic.main(command)
    assert trained[3:] == [(True, 10)]
    again = [json.loads(line) for line in file.read_text().splitlines()]
    for row in (*rows, *again):
        row.pop("seconds")
    assert again == rows
    assert (tmp_path / "synthetic.png").is_file()
    assert "fresh data" in capsys.readouterr().out

    # Other settings are other runs.
    synthetic.main([*command, "posterior.prior_std=3"])
    assert trained[4:] == [(False, 1), (False, 10), (True, 10)]
