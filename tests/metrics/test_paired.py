"""The bootstrap against closed forms, and how often its intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy import stats

from bgan_video.metrics import paired
from bgan_video.metrics.paired import Interval, Pair, paired_differences
from bgan_video.metrics.scores import Judged
from tests.studies import fake

# The standard deviation of 10,000 resamples is off by 0.7 %; five times that.
CLOSE = 0.035


def judged(right: np.ndarray, nll: np.ndarray | None = None) -> Judged:
    """A model that is always sure to 0.7."""
    return Judged(right, np.zeros(len(right)) if nll is None else nll, np.full(len(right), 0.7))


def pair(difference: np.ndarray, groups: Sequence[str], fold: int = 1, seed: int = 0) -> Pair:
    """Two models whose NLL differs so, and who are right on the same items."""
    same = np.zeros(len(difference))
    return Pair(fold, seed, tuple(groups), judged(same, difference), judged(same))


def items(count: int) -> list[str]:
    return [f"item{n}" for n in range(count)]


def half_width_of_a_mean(values: np.ndarray) -> float:
    """Student's interval of 95 %, as textbooks have it."""
    return stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))


def half_width(of: Interval) -> float:
    assert of.low is not None
    assert of.high is not None
    return (of.high - of.low) / 2


def test_with_one_seed_and_independent_items_the_width_is_that_of_a_mean():
    values = np.random.default_rng(0).normal(0.3, 2, 200)
    found = paired_differences([pair(values, items(200))])["nll"]
    assert found.estimate == pytest.approx(values.mean())
    assert half_width(found) == pytest.approx(half_width_of_a_mean(values), rel=CLOSE)


@pytest.mark.parametrize("count", [2, 3, 30])
def test_where_only_seeds_differ_the_width_is_that_of_a_mean_over_seeds(count: int):
    effects = np.random.default_rng(1).normal(0, 1, count)
    pairs = [pair(np.full(8, e), items(8), seed=s) for s, e in enumerate(effects)]
    found = paired_differences(pairs)["nll"]
    assert found.estimate == pytest.approx(effects.mean())
    assert half_width(found) == pytest.approx(half_width_of_a_mean(effects), rel=CLOSE)


def test_folds_are_independent_and_count_alike():
    random = np.random.default_rng(2)
    folds = [random.normal(1, 1, 150), random.normal(3, 2, 50)]
    pairs = [pair(values, items(len(values)), fold=f) for f, values in enumerate(folds, 1)]
    found = paired_differences(pairs)["nll"]
    assert found.estimate == pytest.approx(np.mean([v.mean() for v in folds]))
    # Two means of unequal variance: Welch's interval.
    welch = stats.ttest_ind(*folds, equal_var=False).confidence_interval()
    assert half_width(found) == pytest.approx((welch.high - welch.low) / 4, rel=CLOSE)


def test_copies_within_a_recording_say_nothing_new():
    values = np.random.default_rng(3).normal(0, 1, 40)
    once = paired_differences([pair(values, items(40))])["nll"]
    copied = pair(values.repeat(5), [name for name in items(40) for _ in range(5)])
    again = paired_differences([copied])["nll"]
    assert (once.low, once.high) == pytest.approx((again.low, again.high), rel=1e-4)


def test_many_recordings_are_drawn_in_bundles_to_the_same_width():
    count = 3 * paired.MAX_GROUPS
    values = np.random.default_rng(4).normal(0, 1, count)
    found = paired_differences([pair(values, items(count))])["nll"]
    # The variance between 1,000 bundles is known to 4.5 %, its root to half of that.
    assert half_width(found) == pytest.approx(half_width_of_a_mean(values), rel=CLOSE + 0.05)


def test_the_difference_in_ece_is_the_mean_over_cells_and_inside_its_interval():
    random = np.random.default_rng(5)
    pairs, expected = [], []
    for seed in range(4):
        said = []
        for skill in (0.0, 0.2):
            confidence = random.uniform(0.3, 1, 120)
            right = (random.uniform(size=120) < confidence - skill).astype(float)
            said.append(Judged(right, np.zeros(120), confidence))
        expected.append(
            fake.ece(said[0].confidence, said[0].right)
            - fake.ece(said[1].confidence, said[1].right)
        )
        pairs.append(Pair(1, seed, tuple(items(120)), *said))
    found = paired_differences(pairs)["ece"]
    assert found.estimate == pytest.approx(np.mean(expected))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.estimate < found.high < 0


def test_top1_is_the_difference_of_those_right():
    own, other = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 0, 0])
    found = paired_differences([Pair(1, 0, tuple(items(4)), judged(own), judged(other))])["top1"]
    assert found.estimate == pytest.approx(0.5)


def test_one_seed_and_one_recording_have_no_interval():
    found = paired_differences([pair(np.arange(4.0), ["one"] * 4)])
    assert found["nll"] == Interval(1.5, None, None)


@pytest.mark.parametrize("difference", [1.0, -0.3])
@pytest.mark.parametrize(("count", "shown"), [(2, False), (5, False), (6, True), (40, True)])
def test_a_few_recordings_that_all_say_the_same_show_nothing(
    count: int, shown: bool, difference: float
):
    found = paired_differences([pair(np.full(count, difference), items(count))])["nll"]
    assert found.estimate == pytest.approx(difference)
    assert found.holds_zero is not shown
    # The sign test of as many: both tails of a fair coin.
    assert (2 * 0.5**count < 0.05) is shown
    exact = stats.binomtest(count, count).proportion_ci(0.95, method="exact").low
    near, far = sorted((found.low, found.high), key=lambda bound: abs(bound - difference))
    assert (near, far) == pytest.approx((difference, difference * (2 * exact - 1)))


def test_models_that_never_differ_differ_by_nothing():
    found = paired_differences([pair(np.zeros(2), items(2))])["nll"]
    assert found == Interval(0, 0, 0)


def test_the_same_cells_give_the_same_interval():
    pairs = [pair(np.arange(9.0) ** 2, items(9), seed=seed) for seed in range(3)]
    assert paired_differences(pairs) == paired_differences(pairs)


@pytest.fixture(name="few_resamples")
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(paired, "RESAMPLES", 400)
    paired._draws.cache_clear()
    yield
    paired._draws.cache_clear()


def covers(random: np.random.Generator, seeds: int, of_seed: float, of_recording: float) -> bool:
    """Whether the interval of one simulated study holds the true difference, which is 0.

    40 recordings of 4 items that share its effect; each single prediction scatters by 1.
    """
    names = [f"r{n // 4}" for n in range(160)]
    common = random.normal(0, of_recording, 40).repeat(4)
    pairs = [
        pair(random.normal(0, of_seed) + common + random.normal(0, 1, 160), names, seed=s)
        for s in range(seeds)
    ]
    found = paired_differences(pairs)["nll"]
    assert found.low is not None
    assert found.high is not None
    return found.low <= 0 <= found.high


@pytest.mark.statistical
@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(("seeds", "least"), [(3, 0.88), (5, 0.90), (10, 0.91)])
@pytest.mark.parametrize(
    ("of_seed", "of_recording"), [(1, 0), (1, 1), (0, 1)], ids=["seeds", "both", "recordings"]
)
def test_intervals_hold_the_truth_as_often_as_they_say(
    seeds: int, least: float, of_seed: float, of_recording: float
):
    """500 studies: a coverage of 95 % has a standard error of 1.0 points, one of 92 % of 1.2.

    In 20,000 simulated studies the worst case ("both") covers 92.3, 94.1 and 94.8 % at 3, 5 and 10
    seeds; the bounds are at least 3.5 standard errors below. Percentiles of the resamples cover 74
    and 84 % at 3 and 5.
    """
    random = np.random.default_rng([seeds, int(of_seed), int(of_recording)])
    coverage = np.mean([covers(random, seeds, of_seed, of_recording) for _ in range(500)])
    assert least <= coverage <= 0.985


def one_run(random: np.random.Generator, recordings: int) -> Pair:
    """Two equally good models on recordings of 5 items.

    Which of the two is right on an item correlates by 0.7 within a recording: with a probability of
    0.7 its items all share one outcome, else each has its own.
    """
    shape = (recordings, 5)
    outcomes = random.integers(0, 4, shape)  # both, neither, only the one, only the other
    shared = random.uniform(size=(recordings, 1)) < 0.7
    outcomes = np.where(shared, outcomes[:, :1], outcomes).ravel()
    own, other = (np.isin(outcomes, (0, only)).astype(float) for only in (2, 3))
    names = tuple(f"r{n // 5}" for n in range(len(outcomes)))
    return Pair(1, 0, names, judged(own), judged(other))


@pytest.mark.statistical
@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("recordings", [10, 40, 100])
def test_recordings_of_like_items_raise_no_more_false_alarms_than_they_may(recordings: int):
    """2,000 runs: 5 % have a standard error of 0.5 points, and 4 of them are allowed.

    McNemar's exact test, which takes the items as independent, is the tests' own measure of how
    hard the case is: it raises a false alarm in a fifth of the runs and more.
    """
    random = np.random.default_rng(recordings)
    alarms, mcnemar = [], []
    for _ in range(2000):
        run = one_run(random, recordings)
        alarms.append(not paired_differences([run])["top1"].holds_zero)
        wins = int((run.own.right > run.other.right).sum())
        differing = int((run.own.right != run.other.right).sum())
        mcnemar.append(differing > 0 and stats.binomtest(wins, differing).pvalue < 0.05)
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.02)
    assert np.mean(mcnemar) > 0.18
