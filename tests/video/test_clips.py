"""Clip indices: in range, at their stride, evenly spread, and honest about short videos."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.video.clips import ShortClip, random_clip, span, uniform_clips

lengths = st.integers(1, 400)
frames = st.integers(1, 40)
strides = st.integers(1, 8)
fractions = st.floats(0, 1, exclude_max=True)
forgiving = st.sampled_from(["loop", "repeat_last"])


@given(lengths, frames, strides, forgiving, fractions)
def test_a_random_clip_has_its_length_and_stays_inside_the_video(
    length: int, num: int, stride: int, policy: ShortClip, fraction: float
) -> None:
    clip = random_clip(length, num, stride, policy, fraction)
    assert len(clip) == num
    assert all(0 <= index < length for index in clip)


@given(lengths, frames, strides, st.sampled_from(["loop", "repeat_last", "error"]), fractions)
def test_a_clip_that_fits_keeps_its_stride_under_every_policy(
    length: int, num: int, stride: int, policy: ShortClip, fraction: float
) -> None:
    length += span(num, stride)
    clip = random_clip(length, num, stride, policy, fraction)
    assert clip == list(range(clip[0], clip[0] + num * stride, stride))


@given(lengths, frames, strides, fractions)
def test_holding_the_last_frame_never_goes_backwards(
    length: int, num: int, stride: int, fraction: float
) -> None:
    clip = random_clip(length, num, stride, "repeat_last", fraction)
    assert clip == sorted(clip)
    assert all(b - a == stride or b == length - 1 for a, b in pairwise(clip))


@given(lengths, frames, strides, fractions)
def test_a_looped_clip_advances_by_the_stride_around_the_video(
    length: int, num: int, stride: int, fraction: float
) -> None:
    clip = random_clip(length, num, stride, "loop", fraction)
    assert all((b - a - stride) % length == 0 for a, b in pairwise(clip))


def test_every_start_is_equally_likely() -> None:
    starts = Counter(random_clip(20, 4, 2, "error", i / 1400)[0] for i in range(1400))
    assert starts == dict.fromkeys(range(14), 100)


@given(lengths, frames, strides, st.integers(1, 12), forgiving)
def test_test_clips_reach_from_the_first_start_to_the_last(
    length: int, num: int, stride: int, count: int, policy: ShortClip
) -> None:
    length += span(num, stride)
    clips = uniform_clips(length, num, stride, count, policy)
    starts = [clip[0] for clip in clips]
    assert len(clips) == count
    assert starts == sorted(starts)
    if count == 1:
        before, after = starts[0], length - 1 - clips[0][-1]
        assert after - before in (0, 1)
    else:
        assert starts[0] == 0
        assert clips[-1][-1] == length - 1
        gaps = [b - a for a, b in pairwise(starts)]
        assert max(gaps) - min(gaps) <= 1


@given(lengths, frames, strides, st.integers(1, 12), forgiving)
def test_test_clips_of_short_videos_stay_inside(
    length: int, num: int, stride: int, count: int, policy: ShortClip
) -> None:
    for clip in uniform_clips(length, num, stride, count, policy):
        assert len(clip) == num
        assert all(0 <= index < length for index in clip)


def test_short_videos_by_hand() -> None:
    assert random_clip(3, 5, 2, "loop", 0.9) == [0, 2, 1, 0, 2]
    assert random_clip(3, 5, 2, "repeat_last", 0.9) == [0, 2, 2, 2, 2]
    assert uniform_clips(9, 3, 2, 3, "error") == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]


def test_refusing_a_short_video_names_the_lengths() -> None:
    with pytest.raises(ValueError, match=r"8 frames, a clip of 5 frames at stride 2 needs 9"):
        random_clip(8, 5, 2, "error", 0.0)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_numbers_below_one_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        random_clip(*numbers, "loop", 0.0)


def test_fraction_and_count_are_checked() -> None:
    with pytest.raises(ValueError, match="outside"):
        random_clip(9, 2, 1, "loop", 1.0)
    with pytest.raises(ValueError, match="num_clips"):
        uniform_clips(9, 2, 1, 0, "loop")
