import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.sampling import StepSize


@st.composite
def cyclical(draw: st.DrawFn) -> StepSize:
    num_steps = draw(st.integers(1, 200))
    num_cycles = draw(st.integers(1, num_steps))
    length = math.ceil(num_steps / num_cycles)
    exploration = draw(st.floats(0, (length - 1) / length))
    burn_in = draw(st.integers(0, 50))
    return StepSize(
        kind="cyclical",
        lr=0.1,
        total_steps=burn_in + num_steps,
        burn_in=burn_in,
        num_cycles=num_cycles,
        exploration=exploration,
    )


@st.composite
def thinned(draw: st.DrawFn) -> StepSize:
    burn_in = draw(st.integers(0, 50))
    return StepSize(
        kind=draw(st.sampled_from(["constant", "exponential"])),
        lr=0.1,
        total_steps=burn_in + draw(st.integers(1, 200)),
        burn_in=burn_in,
        thinning=draw(st.integers(1, 60)),
        decay=draw(st.floats(0, 5)),
    )


@given(st.one_of(cyclical(), thinned()))
def test_samples_are_counted_and_none_is_taken_in_burn_in(schedule: StepSize):
    sampled = [step for step in range(schedule.total_steps) if schedule.takes_sample(step)]
    assert len(sampled) == schedule.num_samples
    assert all(step >= schedule.burn_in for step in sampled)


@given(st.one_of(cyclical(), thinned()))
def test_step_size_stays_positive_and_below_the_first(schedule: StepSize):
    sizes = [schedule.lr_at(step) for step in range(schedule.total_steps)]
    assert all(0 < size <= schedule.lr for size in sizes)
    assert sizes[: schedule.burn_in + 1] == [schedule.lr] * (schedule.burn_in + 1)


@given(cyclical())
def test_cycles(schedule: StepSize):
    length, beta = schedule.cycle_length, schedule.exploration
    for index in range(schedule.num_steps):
        step = schedule.burn_in + index
        k = index + 1
        phase = ((k - 1) % length) / length
        expected = schedule.lr / 2 * (math.cos(math.pi * phase) + 1)
        assert schedule.lr_at(step) == pytest.approx(expected, rel=1e-12)
        assert schedule.takes_sample(step) == (k % length == 0)
        assert schedule.is_exploring(step) == (phase < beta)
        if schedule.takes_sample(step):
            first = step - length + 1
            assert not schedule.is_exploring(step)
            assert schedule.lr_at(step) == min(map(schedule.lr_at, range(first, step + 1)))
    assert schedule.num_samples <= schedule.num_cycles
    if schedule.num_steps % schedule.num_cycles == 0:
        assert schedule.num_samples == schedule.num_cycles
        assert schedule.takes_sample(schedule.total_steps - 1)


@given(thinned())
def test_only_cycles_explore(schedule: StepSize):
    assert not any(schedule.is_exploring(step) for step in range(schedule.total_steps))


@given(st.one_of(cyclical(), thinned()))
def test_steps_with_noise_are_counted_back_to_the_last_one_without(schedule: StepSize):
    counted = 0
    for step in range(schedule.total_steps):
        index = step - schedule.burn_in
        is_noisy = index >= 0 and not schedule.is_exploring(step)
        begins_cycle = schedule.kind == "cyclical" and index % schedule.cycle_length == 0
        counted = (0 if begins_cycle else counted) + 1 if is_noisy else 0
        assert schedule.steps_with_noise(step) == counted


def test_burn_in_of_a_cyclical_schedule_does_not_explore():
    schedule = StepSize(kind="cyclical", lr=0.1, total_steps=30, burn_in=10, num_cycles=2)
    assert not any(schedule.is_exploring(step) for step in range(10))
    assert schedule.is_exploring(10)


def test_exponential_loses_decay_e_foldings():
    schedule = StepSize(kind="exponential", lr=2.0, total_steps=110, burn_in=10, decay=3.0)
    assert schedule.lr_at(10) == 2.0
    assert schedule.lr_at(60) == pytest.approx(2 * math.exp(-1.5))
    assert schedule.lr_at(110) == pytest.approx(2 * math.exp(-3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "linear"}, "kind must be one of constant, exponential, cyclical, got 'linear'"),
        ({"lr": 0.0}, "lr must be"),
        ({"lr": math.nan}, "lr must be"),
        ({"burn_in": 20}, "burn_in must be in 0..19, got 20"),
        ({"burn_in": -1}, "burn_in must be"),
        ({"thinning": 0}, "thinning must be"),
        ({"num_cycles": 0}, "num_cycles must be"),
        ({"num_cycles": 21}, "num_cycles must be in 1..20, got 21"),
        ({"decay": -1.0}, "decay must be"),
        ({"exploration": 1.0}, "exploration must be"),
        ({"num_cycles": 20}, "a cycle of 1 steps has none left to sample"),
    ],
)
def test_bad_settings_are_named(change: dict[str, float], message: str):
    good = StepSize(kind="cyclical", lr=0.1, total_steps=20, num_cycles=2)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **change)


def test_steps_know_their_cycle():
    cyclical = StepSize(kind="cyclical", lr=1.0, total_steps=23, burn_in=3, num_cycles=4)
    assert [cyclical.cycle(step) for step in range(23)] == [0] * 8 + [1] * 5 + [2] * 5 + [3] * 5
    constant = StepSize(kind="constant", lr=1.0, total_steps=23)
    assert {constant.cycle(step) for step in range(23)} == {0}
