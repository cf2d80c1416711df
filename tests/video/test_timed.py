"""Clips in seconds: those of a stride where the rate is a multiple, and right of any other rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.video import clips, index, timed
from bgan_video.video.times import frame_times, usual_gap, varies
from tests.video import videos

ON = st.sampled_from(["loop", "repeat_last"])
RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001)])


def constant(length: int, rate: Fraction | int, digits: int = 9) -> np.ndarray:
    return np.round(np.arange(length) / float(rate), digits)


@given(st.integers(1, 80), st.integers(1, 8), st.integers(1, 4), RATES, ON, st.floats(0, 0.999))
def test_a_multiple_of_the_rate_gives_the_clips_of_a_stride(
    length: int, frames: int, stride: int, rate: Fraction, on: str, start: float
) -> None:
    fps, times = float(rate / stride), constant(length, rate)
    given = (frames, stride, on, start)
    assert timed.random_clip(times, frames, fps, on, start) == clips.random_clip(length, *given)  # type: ignore[arg-type]
    expected = clips.uniform_clips(length, frames, stride, 3, on)  # type: ignore[arg-type]
    assert timed.uniform_clips(times, frames, fps, 3, on) == expected  # type: ignore[arg-type]
    is_short = length < clips.span(frames, stride)
    assert timed.is_short(times, frames, fps) == is_short


@pytest.mark.parametrize(("rate", "fps"), [(25, 10), (30, 12), (50, 20), (30, 4)])
def test_the_last_clip_of_a_long_enough_video_does_not_begin_again(rate: int, fps: int) -> None:
    """Where a clip lasts a half of a gap more than frames do, its last moment lies between two."""
    for length in range(130, 400):
        times = np.arange(length) / rate
        first, *_, last = timed.uniform_clips(times, 16, fps, 5, "loop")
        assert first == sorted(first)
        assert last == sorted(last)
        assert timed.random_clip(times, 16, fps, "loop", 0.9999) == last


@given(st.integers(40, 80), st.integers(0, 3), RATES)
def test_time_stamps_in_milliseconds_change_nothing(length: int, clip: int, rate: Fraction) -> None:
    exact, rounded = constant(length, rate), constant(length, rate, digits=3)
    of_exact, of_rounded = (
        timed.uniform_clips(times, 8, float(rate / 2), 4, "loop") for times in (exact, rounded)
    )
    assert of_exact[clip] == of_rounded[clip]


def test_twice_the_rate_is_every_second_frame() -> None:
    slow, fast = constant(25, 25), constant(50, 50)
    for start in (0.0, 0.3, 0.99):
        of_slow = timed.random_clip(slow, 8, 25, "loop", start)
        of_fast = timed.random_clip(fast, 8, 25, "loop", start)
        assert np.diff(of_slow).tolist() == [1] * 7
        assert np.diff(of_fast).tolist() == [2] * 7


@given(
    st.lists(st.floats(0.005, 0.3), min_size=3, max_size=60), st.floats(2, 40), st.floats(0, 0.999)
)
def test_every_frame_of_a_clip_is_the_nearest_in_time(
    gaps: list[float], fps: float, start: float
) -> None:
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    found = timed.random_clip(times, 4, fps, "repeat_last", start)
    moments = times[found[0]] + np.arange(4) / fps
    distances = np.abs(moments[:, None] - times)
    assert distances[np.arange(4), found] == pytest.approx(distances.min(axis=1), abs=1e-5)


def test_a_short_video_is_looped_held_or_refused() -> None:
    times = constant(5, 10)
    assert timed.random_clip(times, 8, 10, "loop", 0.5) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert timed.random_clip(times, 8, 10, "repeat_last", 0.5) == [0, 1, 2, 3, 4, 4, 4, 4]
    with pytest.raises(ValueError, match=r"0\.400 seconds long"):
        timed.random_clip(times, 8, 10, "error", 0.5)


@pytest.mark.parametrize("name", ["h264-variable-mp4", "h264-variable-mkv"])
def test_a_variable_rate_is_read_from_the_time_stamps(name: str, tmp_path: Path) -> None:
    spec = videos.SPECS[name]
    file = videos.write(tmp_path / f"video{spec.suffix}", spec, 40)
    times = frame_times(file, 40, "auto")
    stamps = [40 * n + 10 * (n % 3) + 1000 * (n > 20) for n in range(40)]
    assert times == pytest.approx((np.array(stamps) - stamps[0]) / 1000, abs=1e-3)
    assert varies(times)


@pytest.mark.parametrize("name", ["mpeg4-gop12", "h264-mp4", "mpeg2", "vp9", "mpeg4-packed-gop50"])
def test_a_constant_rate_is_found_whatever_the_order_of_packets(name: str, tmp_path: Path) -> None:
    spec = videos.SPECS[name]
    file = videos.write(tmp_path / f"video{spec.suffix}", spec, 60)
    times = frame_times(file, 60, "auto")
    assert times == pytest.approx(np.arange(60) / videos.RATE, abs=1e-3)
    assert not varies(times)


def test_frames_that_a_header_does_not_know_are_evenly_apart(tmp_path: Path) -> None:
    """As of a file that is cut short: fewer frames decode than there are packets."""
    file = videos.write(tmp_path / "video.mp4", videos.SPECS["h264-mp4"], 60)
    times = frame_times(file, 55, "auto")
    assert times == pytest.approx(np.arange(55) / videos.RATE)
    assert usual_gap(times) == pytest.approx(0.04)
    with av.open(str(file)) as opened:
        assert opened.streams.video[0].average_rate == videos.RATE


@pytest.mark.parametrize("name", videos.SPECS)
def test_the_first_reading_changes_no_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    spec = videos.SPECS[name]
    file = videos.write(tmp_path / f"video{spec.suffix}", spec, 50)
    before = frame_times(file, 50, "pyav")
    assert index.known(file, "pyav") is None, "times alone decode nothing"
    found = index.of(file, "pyav")
    after = frame_times(file, 50, "pyav")
    assert np.array_equal(after, found.times)
    assert after == pytest.approx(before, abs=1e-6)
