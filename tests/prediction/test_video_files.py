"""Windows of long videos, and what becomes of files that do not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.data.cutting import Length, uniform_clips
from bgan_video.data.transforms import test_view as view_of
from bgan_video.errors import UserError
from bgan_video.prediction.opened import windows
from bgan_video.prediction.predict import Current
from bgan_video.prediction.video_files import (
    Judge,
    Unreadable,
    VideoPrediction,
    predict_files,
)
from bgan_video.video import clips
from bgan_video.video.reader import read_all

BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))


def settings(*overrides: str) -> config.Config:
    small = ["clip.num_frames=4", "clip.stride=2", "clip.size=16", "clip.test_clips=2"]
    return config.load(None, [*small, *overrides])


class Brightness(nn.Module):
    """Logits that depend on the mean of every frame, so that order and place show."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(10 * torch.randn(4, 3, generator=random))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(1, 3, 4)) @ self.weight  # [B, T] -> [B, K+1]


NETWORKS = Current([Brightness(0), Brightness(1)])


@given(st.integers(1, 5000), st.integers(1, 8), st.integers(1, 20), st.integers(1, 4))
def test_windows_cover_a_video(frames: int, test_clips: int, length: int, stride: int) -> None:
    overrides = [f"clip.num_frames={length}", f"clip.stride={stride}"]
    c = settings(*overrides, f"clip.test_clips={test_clips}")
    found = windows(Length(frames), c)
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == frames
    nominal = test_clips * clips.span(length, stride)
    if len(found) > 1:
        assert all(nominal <= end - start < 2 * nominal for start, end in found)
    else:
        assert frames < 2 * nominal


@pytest.fixture(name="video")
def _video(small_videos: Path) -> Path:
    return min(small_videos.glob("*/*.avi"))


def predicted(path: Path, c: config.Config) -> VideoPrediction:
    (found,) = predict_files([path], [Judge(NETWORKS)], c, BACKEND)
    assert isinstance(found, VideoPrediction)
    return found


def test_a_window_is_judged_by_its_own_frames(video: Path) -> None:
    c = settings()
    found = predicted(video, c)
    assert len(found.windows) > 1
    frames = read_all(video, "auto", c.load_size)
    assert found.num_frames == len(frames)
    for window in found.windows:
        placed = clips.uniform_clips(window.end - window.start, 4, 2, 2, "loop")
        part = frames[window.start : window.end]
        views = [view_of(part[rows], 16, c.load_size, "centre", 3) for rows in placed]
        x = torch.stack(views)
        with torch.no_grad():
            p = torch.stack([network(x)[:, 1:].softmax(1).mean(0) for network in NETWORKS]).mean(0)
        torch.testing.assert_close(torch.tensor(window.probabilities), p, rtol=1e-4, atol=1e-5)


def test_a_videos_figures_are_the_mean_of_its_windows(video: Path) -> None:
    found = predicted(video, settings())
    mean = torch.tensor([w.probabilities for w in found.windows]).mean(0)
    torch.testing.assert_close(torch.tensor(found.probabilities), mean)
    p_fake = sum(w.p_fake for w in found.windows) / len(found.windows)
    assert found.p_fake == pytest.approx(p_fake)
    assert 0 <= found.mutual_information <= found.total_entropy


def test_a_short_video_is_one_window(video: Path) -> None:
    found = predicted(video, settings("clip.test_clips=20"))
    (window,) = found.windows
    assert (window.start, window.end) == (0, found.num_frames)
    assert window.probabilities == pytest.approx(found.probabilities)


def test_windows_do_not_depend_on_how_many_fit_into_memory(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = predicted(video, settings())
    monkeypatch.setattr("bgan_video.prediction.chunks._CHUNK_BYTES", 1)
    one_by_one = predicted(video, settings())
    for left, right in zip(together.windows, one_by_one.windows, strict=True):
        assert left.probabilities == pytest.approx(right.probabilities, rel=1e-5)


def test_a_video_of_much_entropy_is_unfamiliar(video: Path) -> None:
    entropy = predicted(video, settings()).total_entropy
    for limit, expected in ((entropy + 1e-6, False), (entropy - 1e-6, True), (None, None)):
        (found,) = predict_files([video], [Judge(NETWORKS)], settings(), BACKEND, limit)
        assert isinstance(found, VideoPrediction)
        assert found.unfamiliar is expected


def test_a_broken_file_is_one_record_and_the_rest_go_on(video: Path, tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.avi", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("this is no video")
    missing = tmp_path / "missing.avi"
    judged_by = [Judge(NETWORKS)]
    found = list(predict_files([empty, text, missing, video], judged_by, settings(), BACKEND))
    assert [type(f) for f in found] == [Unreadable] * 3 + [VideoPrediction]
    reasons = [f.error for f in found if isinstance(f, Unreadable)]
    assert "empty" in reasons[0]
    assert "not readable" in reasons[1]
    assert "no such file" in reasons[2]


def test_a_video_too_short_for_a_clip_is_a_record_too(video: Path) -> None:
    c = settings("clip.short_clip=error", "clip.stride=60")
    (found,) = predict_files([video], [Judge(NETWORKS)], c, BACKEND)
    assert isinstance(found, Unreadable)
    assert "a clip needs" in found.error


def of_one_frame(layout: str) -> config.Config:
    single = ["clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    return settings(f"data.layout={layout}", *single)


def picture(folder: Path) -> Path:
    file = folder / "x.png"
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file)
    return file


def judges(channels: int) -> Current:
    """A network of images of that many colours."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Current([nn.Sequential(*layers)])


def test_a_picture_is_predicted_as_the_image_it_is(tmp_path: Path) -> None:
    c = of_one_frame("image_folder")
    networks = judges(3)
    (found,) = predict_files([picture(tmp_path)], [Judge(networks)], c, BACKEND)
    assert isinstance(found, VideoPrediction)
    assert found.num_frames == 1
    grey = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 127.5 - 1
    (network,) = networks
    with torch.no_grad():
        expected = network(grey)[0, 1:].softmax(0)
    # Decoders of films turn colours around a little.
    assert found.probabilities == pytest.approx(expected.tolist(), abs=0.02)


def test_a_picture_is_predicted_in_grey_where_the_networks_see_grey(tmp_path: Path) -> None:
    c = of_one_frame("mnist")
    (found,) = predict_files([picture(tmp_path)], [Judge(judges(1))], c, BACKEND)
    assert isinstance(found, VideoPrediction)


def test_no_file_holds_a_point(tmp_path: Path) -> None:
    points = Current([nn.Linear(100, 4)])
    c = of_one_frame("synthetic")
    with pytest.raises(UserError):
        list(predict_files([picture(tmp_path)], [Judge(points, c)], c, BACKEND))


def test_files_together_are_each_what_they_are_alone(
    small_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is batched with what, and read at once or as a long file."""
    broken = tmp_path / "broken.avi"
    broken.touch()
    files = [*sorted(small_videos.glob("Grow/*.avi")), broken, *small_videos.glob("Shrink/*.avi")]
    c = settings()

    def all_of(paths: list[Path]) -> list[VideoPrediction | Unreadable]:
        return list(predict_files(paths, [Judge(NETWORKS)], c, BACKEND))

    def assert_same(left: VideoPrediction | Unreadable, right: VideoPrediction | Unreadable):
        assert left.path == right.path
        if isinstance(left, Unreadable) or isinstance(right, Unreadable):
            assert left == right
            return
        assert left.probabilities == pytest.approx(right.probabilities, rel=1e-5)
        places = [[(w.start, w.end, w.start_seconds, w.end_seconds) for w in of.windows]
                  for of in (left, right)]  # fmt: skip
        assert places[0] == places[1]

    together = all_of(files)
    assert [found.path for found in together] == [str(file) for file in files]
    for found, file in zip(together, files, strict=True):
        (alone,) = all_of([file])
        assert_same(found, alone)
    monkeypatch.setattr("bgan_video.prediction.opened._MOST_HELD", 1)
    for found, long in zip(together, all_of(files), strict=True):
        assert_same(found, long)


def test_a_short_file_is_decoded_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bgan_video.video import decoders

    opened: list[Path] = []
    original = decoders.PyAVPass.__init__

    def counted(self: decoders.PyAVPass, path: Path, *more: object) -> None:
        opened.append(path)
        original(self, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(decoders.PyAVPass, "__init__", counted)
    monkeypatch.setattr("bgan_video.video.reader._count", None)
    predicted(video, settings())
    assert opened == [video]


def test_windows_say_when_they_are(video: Path) -> None:
    found = predicted(video, settings())
    seconds = [(w.start_seconds, w.end_seconds) for w in found.windows]
    assert seconds == [(w.start / 25, w.end / 25) for w in found.windows]


@pytest.mark.parametrize("pause", [(0.5, 6), (4, 6), (7.5, 9)])
@pytest.mark.parametrize("clips_a_window", [1, 2])
def test_a_window_beside_a_pause_has_a_clip(
    pause: tuple[float, float], clips_a_window: int
) -> None:
    """25 frames a second for 8 seconds, but for one pause."""
    begins, lasts = pause
    times = np.arange(200) / 25
    times = times + np.where(times >= begins, lasts, 0.0)
    whole = ["clip.num_frames=16", "clip.fps=10", "clip.short_clip=error"]
    c, length = settings(*whole, f"clip.test_clips={clips_a_window}"), Length(200, times)
    found = windows(length, c)
    assert len(found) > 1
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == 200
    for start, end in found:
        assert len(uniform_clips(length.part(start, end), c.clip, 1)[0]) == 16


def test_clips_in_seconds_see_the_same_movement_at_any_rate(tmp_path: Path) -> None:
    """A film of every frame at 50 a second, and one of every second frame at 25."""
    import av

    def write(name: str, step: int, rate: int) -> Path:
        file = tmp_path / name
        with av.open(str(file), "w") as container:
            stream = container.add_stream("ffv1", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
            for number in range(0, 96, step):
                pixels = np.full((32, 32, 3), 2 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        return file

    fast, slow = write("fast.mkv", 1, 50), write("slow.mkv", 2, 25)
    for overrides, are_same in ((["clip.fps=12.5"], True), ([], False)):
        c = settings(*overrides)
        a, b = (predicted(file, c) for file in (fast, slow))
        # Places of clips differ by half a frame at most.
        assert (a.probabilities == pytest.approx(b.probabilities, rel=0.03)) is are_same
    assert [w.start_seconds for w in predicted(fast, settings("clip.fps=12.5")).windows] == [
        w.start_seconds for w in predicted(slow, settings("clip.fps=12.5")).windows
    ]
