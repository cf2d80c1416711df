"""Settings that fit into a time, from what steps cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgan_video import config as config_module
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.training import budget
from bgan_video.training.budget import Cost, Videos

NONE = Videos(0, 0, 0)
SOME = Videos(pool=200, shown=30, final=50)


def recipe(*more: str) -> Config:
    words = ["train.steps=600", "train.rounds=4", "posterior.burn_in=576", "posterior.thinning=12"]
    return config_module.load(None, [*words, "clip.size=64", *more])


def a_step(seconds: float, start: float = 0.0) -> Cost:
    return Cost(start=start, step=seconds, video=0.0, answer=0.0)


def fitted(
    seconds: float, a: Cost, videos: Videos = NONE, *more: str, kept: tuple[str, ...] = ()
) -> Config:
    return budget.fit(recipe(*more), seconds, lambda _: a, videos, kept).config


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200), ("1h5s", 3605)]
)
def test_times_read(text: str, seconds: float) -> None:
    assert budget.parse(text) == seconds


@pytest.mark.parametrize("text", ["10", "", "m", "0m", "-5m", "10 m", "ten", "5m1h"])
def test_what_is_no_time_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"allowed: a time such as 90s, 10m or 1h30m"):
        budget.parse(text)


@pytest.mark.parametrize("seconds", [0.2, 5, 60, 89, 90, 100, 149, 480, 599, 600, 3600, 4800])
def test_a_time_is_told_as_it_is_given(seconds: int) -> None:
    told = budget.duration(seconds)
    assert told == "0s" if seconds < 1 else budget.parse(told) == seconds


def test_a_need_is_told_in_whole_minutes_from_ten_on_and_never_too_little() -> None:
    assert [budget.duration(s, math.ceil) for s in (100.2, 599.5, 601.0)] == ["1m41s", "10m", "11m"]
    assert [budget.duration(s) for s in (599.5, 629.0, 4829.0)] == ["10m", "10m", "1h20m"]


def test_steps_are_cut_in_proportion() -> None:
    """3000 steps of 0.3 s are 900 s; 0.9 of 500 are half of that."""
    c = fitted(500, a_step(0.3))
    assert (c.train.steps, c.train.rounds) == (300, 4)
    assert (c.posterior.burn_in, c.posterior.thinning) == (288, 6)
    assert c.posterior.num_discriminators == recipe().posterior.num_discriminators
    assert c.clip.size == 64


def test_spare_time_goes_into_steps_up_to_a_bound() -> None:
    assert fitted(500, a_step(0.075)).train.steps == 1200
    assert fitted(10**6, a_step(0.075)).train.steps == 2400


def test_rounds_go_when_a_quarter_of_the_steps_is_too_many() -> None:
    """150 steps of 1 s fit three times into 450 s."""
    c = fitted(500, a_step(1.0))
    assert (c.train.steps, c.train.rounds) == (150, 2)


def test_a_method_of_rounds_keeps_one() -> None:
    methods = "baseline.methods=[bayesian_gan,self_training]"
    with pytest.raises(UserError, match="150 steps in each of 2 rounds"):
        fitted(200, a_step(1.0), NONE, methods)
    assert fitted(200, a_step(1.0)).train.rounds == 0


def test_networks_and_then_clips_go_last() -> None:
    def measure(config: Config) -> Cost:
        networks = config.posterior.num_discriminators + config.posterior.num_z
        return a_step(0.01 * networks * config.clip.size)

    def found(seconds: float) -> tuple[int, int, int]:
        c = budget.fit(recipe(), seconds, measure, NONE).config
        return c.posterior.num_discriminators, c.posterior.num_z, c.clip.size

    assert found(500) == (2, 2, 64)
    assert found(250) == (1, 1, 64)
    assert found(150) == (1, 1, 32)
    with pytest.raises(UserError, match=r"150 steps in each of 1 rounds.*16 × 32"):
        found(50)


def test_what_generators_make_shrinks_with_what_classifiers_see() -> None:
    costs = {64: a_step(10.0), 32: a_step(0.1)}
    same = recipe("generator.size=64")
    c = budget.fit(same, 500, lambda config: costs[config.clip.size], NONE).config
    assert (c.clip.size, c.generator.size) == (32, 32)


def test_other_settings_are_measured_only_where_they_are_needed() -> None:
    asked: list[Config] = []

    def measure(config: Config) -> Cost:
        asked.append(config)
        return a_step(0.3)

    budget.fit(recipe(), 500, measure, NONE)
    assert asked == [recipe()]


def test_what_the_user_set_stays() -> None:
    c = fitted(2000, a_step(0.3), kept=("posterior.thinning",))
    assert (c.train.steps, c.posterior.thinning) == (1200, 12)
    c = fitted(2000, a_step(1.0), kept=("train.steps",))
    assert (c.train.steps, c.posterior.burn_in, c.train.rounds) == (600, 576, 2)
    with pytest.raises(UserError, match="5 rounds"):
        fitted(500, a_step(1.0), kept=("train.rounds", "posterior.num_z"))
    # Four rounds would leave 8 steps to sample in.
    c = fitted(333, a_step(0.3), kept=("posterior.thinning",))
    assert (c.train.rounds, c.posterior.thinning) == (2, 12)


ENSEMBLE = "baseline.methods=[bayesian_gan,self_training_ensemble]"
PAIRS = ("posterior.independent=true", "critic.name=hybrid", "critic.num=2")
CYCLES = ("posterior.schedule=cyclical", "posterior.burn_in=560", "posterior.num_cycles=3")


@pytest.mark.parametrize(
    ("more", "networks"),
    [((ENSEMBLE,), (1, 2, 1)), (PAIRS, (1, 1, 1)), (("critic.name=hybrid",), (1, 1, 1))],
    ids=["an ensemble that teaches", "pairs", "critics"],
)
def test_networks_shrink_as_far_as_they_can_be(
    more: tuple[str, ...], networks: tuple[int, int, int]
) -> None:
    """And where nothing fits, that is what is said."""

    def measure(config: Config) -> Cost:
        p = config.posterior
        return a_step(1.0 * (p.num_discriminators * p.num_z * config.critic.num - 1) + 0.1)

    c = budget.fit(recipe(*more, "critic.num=2"), 800, measure, NONE).config
    p = c.posterior
    assert (p.num_z, p.num_discriminators, c.critic.num) == networks
    with pytest.raises(UserError, match="too little here"):
        fitted(5, a_step(1.0), NONE, *more)


def test_steps_are_cut_as_far_as_their_schedule_can_be() -> None:
    """Three cycles want 15 steps after burn-in, where the recipe has 40."""
    assert fitted(50, a_step(0.2), NONE, *CYCLES).train.steps == 225
    with pytest.raises(UserError, match=r"too little here: 240 steps in each of 1 rounds"):
        fitted(45, a_step(0.2), NONE, *CYCLES)


def test_judging_and_reading_are_counted() -> None:
    free = fitted(500, a_step(0.3), SOME).train.steps
    assert fitted(500, a_step(0.3, start=100), SOME).train.steps < free
    judged = Cost(start=0, step=0.3, video=0.1, answer=0.05)
    assert fitted(500, judged, SOME).train.steps < free
    assert fitted(500, judged, NONE).train.steps == free


def test_even_the_least_may_be_too_much_and_what_it_needs_is_said() -> None:
    with pytest.raises(UserError, match="too little here") as refused:
        fitted(60, a_step(10.0))
    needed = budget.parse(str(refused.value).split("take about ")[1].split(",")[0])
    assert fitted(needed, a_step(10.0)).train.rounds == 0


@settings(max_examples=15)
@given(
    steps=st.integers(20, 700),
    step=st.floats(0.001, 1),
    video=st.floats(0, 0.2),
    start=st.floats(0, 60),
)
def test_what_is_said_to_be_enough_is(steps: int, step: float, video: float, start: float) -> None:
    cost = Cost(start=start, step=step, video=video, answer=video / 7, spent=3.0)
    more = (f"train.steps={steps}", "posterior.burn_in=8", "posterior.thinning=1")
    with pytest.raises(UserError, match="too little here") as refused:
        fitted(1, cost, SOME, *more)
    needed = budget.parse(str(refused.value).split("take about ")[1].split(",")[0])
    found = budget.fit(recipe(*more), needed, lambda _: cost, SOME)
    assert cost.spent + found.seconds <= needed


@given(
    seconds=st.floats(30, 10_000),
    step=st.floats(0.001, 5),
    video=st.floats(0, 0.2),
    answer=st.floats(0, 0.05),
)
def test_what_fits_is_expected_to_fit(
    seconds: float, step: float, video: float, answer: float
) -> None:
    cost = Cost(start=5.0, step=step, video=video, answer=answer, spent=3.0)
    try:
        found = budget.fit(recipe(), seconds, lambda _: cost, SOME)
    except UserError:
        return
    # One sample more than the recipe's may come of rounding; the tenth that is left is for that.
    assert cost.spent + found.seconds <= seconds
    assert found.config.posterior.burn_in < found.config.train.steps


def test_what_is_said_can_be_given_by_hand() -> None:
    found = budget.fit(recipe(), 500, lambda _: a_step(0.3), NONE)
    measured, chosen = found.lines(500)
    assert "a step takes 0.3 s (1 measured)" in measured
    assert "train.steps=300 in place of 600" in chosen
    assert "posterior.burn_in=288 in place of 576" in chosen
    words = [word for word in chosen.split() if "=" in word]
    assert config_module.load(None, [*words]).train.steps == 300
    as_it_is = budget.fit(recipe(), 1001, lambda _: a_step(0.3), NONE, ("train.steps",))
    assert "the recipe as it is" in as_it_is.lines(1001)[1]
