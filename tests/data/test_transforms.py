"""Views of a clip: range, shape, determinism, and what each random change leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models import get_model_weights

from bgan_video import config
from bgan_video.config import SpatialDims
from bgan_video.data import transforms
from bgan_video.data.transforms import Crop, View, Window
from bgan_video.models import backbones

SIZE = 12


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def noise(length: int = 3, height: int = 16, width: int = 20) -> np.ndarray:
    return rng(7).integers(0, 256, (length, height, width, 3), np.uint8)


def still(frames: np.ndarray, length: int = 4) -> np.ndarray:
    """The first frame, held."""
    return np.repeat(frames[:1], length, axis=0)


def plain(size: int = SIZE, **changed: float) -> View:
    neutral = {"min_scale": 1.0, "color": 0.0, "erase": 0.0, "flip": False}
    return View(size, **{**neutral, **changed})  # type: ignore[arg-type]


def network_input(frames: np.ndarray) -> Tensor:
    """`[3, T, H, W]` in [-1, 1], written out."""
    return torch.from_numpy(frames.transpose(3, 0, 1, 2).astype(np.float32)) / 127.5 - 1


def coordinates(height: int, width: int) -> np.ndarray:
    """A frame whose red is the column and whose green is the row."""
    frame = np.full((1, height, width, 3), 128, np.uint8)
    frame[0, :, :, 0] = np.arange(width)
    frame[0, :, :, 1] = np.arange(height)[:, None]
    return frame


def pixels(view: Tensor) -> np.ndarray:
    return ((view + 1) * 127.5).round().numpy().astype(int)


views = st.builds(
    View,
    size=st.integers(8, 20),
    min_scale=st.floats(0.2, 1),
    color=st.floats(0, 1),
    erase=st.floats(0, 1),
    flip=st.booleans(),
)
seeds = st.integers(0, 2**32 - 1)
clips = st.tuples(st.integers(1, 4), st.integers(8, 30), st.integers(8, 30))


@settings(deadline=None)
@given(views, clips, seeds)
def test_a_view_has_its_shape_and_range(view: View, shape: tuple[int, int, int], seed: int) -> None:
    x = view(noise(*shape), rng(seed))
    assert x.shape == (3, shape[0], view.size, view.size)
    assert x.dtype == torch.float32
    assert x.min() >= -1 - 1e-6
    assert x.max() <= 1 + 1e-6


@settings(deadline=None)
@given(views, seeds)
def test_a_view_is_a_function_of_frames_and_seed(view: View, seed: int) -> None:
    frames = noise()
    before = frames.copy()
    assert torch.equal(view(frames, rng(seed)), view(frames, rng(seed)))
    assert np.array_equal(frames, before)


@settings(deadline=None)
@given(views, seeds)
def test_a_still_clip_stays_still(view: View, seed: int) -> None:
    """Crop, flip, colour and erasure are drawn once a clip, never frame by frame."""
    x = view(still(noise()), rng(seed))
    assert torch.equal(x, x[:, :1].expand_as(x))


def test_black_is_minus_one_and_white_is_one() -> None:
    assert plain()(np.zeros((2, SIZE, SIZE, 3), np.uint8), rng()).unique().tolist() == [-1.0]
    assert plain()(np.full((2, SIZE, SIZE, 3), 255, np.uint8), rng()).unique().tolist() == [1.0]


def test_neutral_settings_change_nothing() -> None:
    frames = noise(3, SIZE, SIZE)
    torch.testing.assert_close(plain()(frames, rng()), network_input(frames))


def test_a_flip_mirrors_left_and_right_half_of_the_time() -> None:
    frames = noise(3, SIZE, SIZE)
    seen = [plain(flip=True)(frames, rng(seed)) for seed in range(200)]
    straight = network_input(frames)
    mirrored = [not torch.allclose(x, straight) for x in seen]
    assert all(
        torch.allclose(x, straight.flip(-1)) for x, m in zip(seen, mirrored, strict=True) if m
    )
    assert 70 < sum(mirrored) < 130  # 4 sigma


@given(seeds)
def test_a_crop_of_the_whole_short_side_slides_along_the_long_one(seed: int) -> None:
    x = pixels(plain(size=16)(coordinates(16, 40), rng(seed)))
    left = x[0, 0, 0, 0]
    assert 0 <= left <= 24
    assert (x[0, 0] == left + np.arange(16)).all()
    assert (x[1, 0] == np.arange(16)[:, None]).all()


def test_crops_reach_every_border() -> None:
    lefts = {
        int(pixels(plain(size=16)(coordinates(16, 20), rng(s)))[0, 0, 0, 0]) for s in range(99)
    }
    assert lefts == set(range(5))


@settings(deadline=None)
@given(st.floats(0.2, 1), seeds)
def test_a_crop_shows_only_what_is_in_the_frame(scale: float, seed: int) -> None:
    white = np.full((2, 17, 23, 3), 255, np.uint8)
    x = plain(min_scale=scale)(white, rng(seed))
    torch.testing.assert_close(x, torch.ones_like(x))


@settings(deadline=None)
@given(st.floats(0.2, 1), seeds)
def test_a_crop_is_a_square_of_at_least_its_scale(scale: float, seed: int) -> None:
    x = pixels(plain(size=SIZE, min_scale=scale)(coordinates(60, 80), rng(seed)))
    for axis in (x[0, 0, 0], x[1, 0, :, 0]):
        reached = (axis[-1] - axis[0]) * SIZE / (SIZE - 1)  # centres of the outer pixels
        assert scale * 60 - 6 <= reached <= 60 + 6


@settings(deadline=None)
@given(st.floats(0.2, 1), st.integers(8, 40), st.sampled_from([1, 3]), seeds)
def test_a_crop_is_resized_on_bytes_as_on_floats_to_a_grey_level(
    scale: float, size: int, channels: int, seed: int
) -> None:
    frames = rng(seed).integers(0, 256, (2, 30, 30, channels), np.uint8)
    x = (plain(size=size, min_scale=scale)(frames, rng(seed)) + 1) * 127.5
    again = rng(seed)  # the same draws, written out
    side = round(30 * again.uniform(scale, 1.0))
    top, left = (round((30 - side) * at) for at in again.uniform(size=2))
    window = torch.from_numpy(frames[:, top : top + side, left : left + side]).float()
    exact = F.interpolate(
        window.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True
    )
    assert (x - exact.transpose(0, 1)).abs().max() < 1.01


@given(seeds)
def test_colour_jitter_keeps_within_its_strength(seed: int) -> None:
    grey = np.full((2, SIZE, SIZE, 3), 100, np.uint8)
    x = (plain(color=0.2)(grey, rng(seed)) + 1) / 2
    # Contrast and saturation leave a flat grey alone: what is left is brightness.
    assert x.max() - x.min() < 1e-5
    assert 100 / 255 * 0.8 - 1e-5 <= x.mean() <= 100 / 255 * 1.2 + 1e-5


def test_colour_jitter_does_change_brightness_contrast_and_saturation() -> None:
    frames = noise(3, SIZE, SIZE) // 4 + 96  # far from black and white: nothing is clipped
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1, 1)

    def statistics(x: Tensor) -> Tensor:
        x = (x + 1) / 2
        grey = (x * luma).sum(0)
        return torch.stack([x.mean(), grey.std() / x.mean(), (x - grey).std() / grey.std()])

    before = statistics(network_input(frames))
    after = torch.stack([statistics(plain(color=0.3)(frames, rng(s))) for s in range(40)])
    ratios = after / before
    assert (ratios.amin(0) < 0.85).all()
    assert (ratios.amax(0) > 1.15).all()


def test_colour_jitter_maps_a_colour_alike_in_every_frame() -> None:
    """Contrast turns around the mean of the clip: around each frame's own, it would flicker."""
    frames = np.full((2, SIZE, SIZE, 3), 100, np.uint8)
    frames[0, 0], frames[1, 1:] = 140, 140
    for seed in range(10):
        x = plain(color=0.5)(frames, rng(seed))[0]
        torch.testing.assert_close(x[0, 1, 0], x[1, 0, 0])
        torch.testing.assert_close(x[0, 0, 0], x[1, 1, 0])


def test_erasure_reaches_every_place() -> None:
    view, black = plain(size=10, erase=0.8), np.zeros((1, 10, 10, 3), np.uint8)
    corners = {tuple((view(black, rng(s))[0, 0] == 0).nonzero()[0].tolist()) for s in range(150)}
    assert corners == {(top, left) for top in range(3) for left in range(3)}


def test_erasure_is_one_grey_square_at_one_place() -> None:
    white = np.full((3, 20, 20, 3), 255, np.uint8)
    for seed in range(20):
        x = plain(size=20, erase=0.4)(white, rng(seed))
        erased = x[0, 0] == 0
        rows, columns = erased.nonzero(as_tuple=True)
        assert erased.sum() == 8 * 8
        assert rows.max() - rows.min() == columns.max() - columns.min() == 7
        assert (x[:, :, ~erased] == 1).all()
        assert (x[:, :, erased] == 0).all()


def test_the_strong_view_is_stronger_and_the_weak_view_erases_nothing() -> None:
    settings_ = config.load(None, ["clip.size=32", "augment.flip=false"])
    weak, strong = transforms.weak_view(settings_), transforms.strong_view(settings_)
    assert (weak.size, weak.erase, weak.flip) == (32, 0.0, False)
    assert (strong.size, strong.flip) == (32, False)
    assert strong.min_scale < weak.min_scale
    assert strong.color > weak.color
    assert strong.erase > 0


# --- fixed crops -------------------------------------------------------------------------------

CROPS: list[Crop] = ["left", "centre", "right"]


@pytest.mark.parametrize(("crop", "start"), [("left", 0), ("centre", 10), ("right", 20)])
def test_three_crops_lie_side_by_side_along_the_longer_axis(crop: Crop, start: int) -> None:
    wide = pixels(transforms.test_view(coordinates(16, 36), 16, 16, crop, 3))
    assert (wide[0, 0] == start + np.arange(16)).all()
    tall = pixels(transforms.test_view(coordinates(36, 16), 16, 16, crop, 3))
    assert (tall[1, 0] == start + np.arange(16)[:, None]).all()


def test_a_test_crop_is_the_middle_of_the_short_side() -> None:
    x = pixels(transforms.test_view(coordinates(128, 128), 112, 128, "centre", 3))
    assert (x[0, 0] == 8 + np.arange(112)).all()
    assert (x[1, 0] == 8 + np.arange(112)[:, None]).all()


@settings(deadline=None)
@given(st.sampled_from(CROPS), st.integers(8, 40), st.integers(8, 40), st.integers(8, 20))
def test_a_test_crop_shows_only_what_is_in_the_frame(
    crop: Crop, height: int, width: int, size: int
) -> None:
    white = np.full((2, height, width, 3), 255, np.uint8)
    x = transforms.test_view(white, size, size + 2, crop, 3)
    assert x.shape == (3, 2, size, size)
    torch.testing.assert_close(x, torch.ones_like(x))


def test_one_crop_is_the_centre() -> None:
    assert transforms.CROPS == {1: ("centre",), 3: ("left", "centre", "right")}


# --- normalisation -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_a_video_body_gets_the_normalisation_its_weights_were_trained_with(name: str) -> None:
    preset = get_model_weights(name).DEFAULT.transforms()  # type: ignore[attr-defined]
    body = backbones.video_body(name, 16, 112, None).module
    view = plain()(noise(2, SIZE, SIZE), rng())
    expected = (view + 1) / 2
    for channel, (mean, std) in enumerate(zip(preset.mean, preset.std, strict=True)):
        expected[channel] = (expected[channel] - mean) / std
    torch.testing.assert_close(body[0](view[None])[0], expected)  # type: ignore[index]


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_windows_finished_together_are_the_views(spatial_dims: SpatialDims, colours: int) -> None:
    """As a GPU finishes them: the same random choices, the same arithmetic."""
    length = 1 if spatial_dims == 2 else 4
    view = View(SIZE, 0.5, color=0.4, erase=0.3, flip=True, spatial_dims=spatial_dims)
    clips = [noise(length, 16 + i, 20)[..., :colours] for i in range(8)]
    windows = [view.window(clip, rng(i)) for i, clip in enumerate(clips)]
    assert all(window.pixels.dtype == torch.uint8 for window in windows)
    together = view.finish(Window(*(torch.stack(part) for part in zip(*windows, strict=True))))
    alone = torch.stack([view(clip, rng(i)) for i, clip in enumerate(clips)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
