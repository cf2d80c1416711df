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


def items_of(ruler: Ruler, which: NDArray[np.int64], spread: float) -> NDArray[np.float64]:
    """Items of some clusters, each in its plane, `spread` of its own standard deviations wide."""
    of, random = ruler.clusters, np.random.default_rng(0)
    within = spread * random.standard_normal((len(which), 2)) * of.spreads[which]
    return of.centres[which] + np.einsum("nd,ndl->nl", within, of.axes[which])


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
    # P(|N(0, I)| < 3) = 1 - exp(-9/2) = 0.989, and a neighbour catches some of the rest.
    assert ruler.floor["on_clusters"] == pytest.approx(0.99, abs=0.01)
    again = images.synthetic().train[0]
    assert ruler.measure(again)["js"] == pytest.approx(0, abs=1e-12)


def test_clusters_are_round_in_their_planes(ruler: Ruler) -> None:
    """The distance of a cluster's own points is that of N(0, I): its mean square is 2."""
    data, labels = images.synthetic().train
    distance = ruler.clusters.distances(data.astype(np.float64))
    own = distance[np.arange(len(labels)), labels]
    assert np.square(own).mean() == pytest.approx(2, rel=0.01)
    assert (distance.argmin(axis=1) == labels).mean() > 0.99


@pytest.mark.parametrize("count", [1, 5, 10])
def test_covered_clusters_are_those_that_have_samples(ruler: Ruler, count: int) -> None:
    found = ruler.measure(items_of(ruler, np.arange(1000) % count, 0.1))
    assert found["modes"] == count
    assert found["on_clusters"] == 1


def test_a_cluster_is_covered_from_a_fifth_of_its_share_on(ruler: Ruler) -> None:
    """The clusters have a tenth of the data each; so 2 % of the samples are needed."""
    for part, expected in ((0.01, 1), (0.03, 2)):
        few = round(1000 * part)
        which = np.array([0] * (1000 - few) + [1] * few)
        assert ruler.measure(items_of(ruler, which, 0.0))["modes"] == expected


def test_samples_that_are_nowhere_near_cover_nothing(ruler: Ruler) -> None:
    far = ruler.plane.mean + 10 * (ruler.plane.high @ ruler.plane.axes) * np.ones((100, 1))
    found = ruler.measure(far)
    assert (found["modes"], found["on_clusters"]) == (0, 0)
    assert found["js"] == pytest.approx(np.log(2), abs=1e-6)


def test_what_lies_off_a_clusters_plane_is_not_of_it(ruler: Ruler) -> None:
    of = ruler.clusters
    direction = np.eye(of.centres.shape[1])[0]
    direction -= direction @ of.axes[0].T @ of.axes[0]
    direction /= np.linalg.norm(direction)
    sigma = np.sqrt(np.square(of.spreads[0]).mean())
    for away in (1.0, 4.0):
        item = of.centres[:1] + away * sigma * direction
        assert of.distances(item)[0, 0] == pytest.approx(away)


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
