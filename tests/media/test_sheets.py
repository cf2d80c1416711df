import av
import numpy as np
import pytest
from matplotlib import image as mpl_image
from PIL import Image

from bgan_video.media import sheets


def _clips(count: int, length: int, height: int, width: int) -> np.ndarray:
    """Every pixel of frame t of clip n is (10 n, 10 t, 0)."""
    clips = np.zeros((count, length, height, width, 3), dtype=np.uint8)
    clips[..., 0] = 10 * np.arange(count)[:, None, None, None]
    clips[..., 1] = 10 * np.arange(length)[None, :, None, None]
    return clips


def _decode(path) -> tuple[list[np.ndarray], object]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, (stream.codec_context.name, stream.pix_fmt, stream.average_rate)


def test_contact_sheet_has_a_row_for_each_clip_and_even_frames():
    sheet = sheets.contact_sheet(_clips(3, 15, 6, 4))
    gap = sheets.GAP
    assert sheet.shape == (3 * 6 + 2 * gap, 8 * 4 + 7 * gap, 3)
    assert sheet[:: 6 + gap, 0, 0].tolist() == [0, 10, 20]
    assert sheet[0, :: 4 + gap, 1].tolist() == [0, 20, 40, 60, 80, 100, 120, 140]
    assert (sheet[6 : 6 + gap] == 255).all()


def test_contact_sheet_of_short_clips_shows_every_frame():
    sheet = sheets.contact_sheet(_clips(1, 3, 6, 4))
    assert sheet[0, :: 4 + sheets.GAP, 1].tolist() == [0, 10, 20]


def test_image_grid_fills_a_square_and_leaves_the_rest_white():
    grid = sheets.image_grid(_clips(3, 1, 4, 4)[:, 0])
    assert grid.shape == (8 + sheets.GAP, 8 + sheets.GAP, 3)
    assert grid[0, :: 4 + sheets.GAP, 0].tolist() == [0, 10]
    assert (grid[-4:, -4:] == 255).all()


def test_png_reads_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    sheets.write_png(tmp_path / "a.png", picture)
    back = (mpl_image.imread(tmp_path / "a.png")[..., :3] * 255).round().astype(np.uint8)
    assert (back == picture).all()


def test_mp4_reads_back_enlarged_looped_and_in_order(tmp_path):
    sheets.write_mp4(tmp_path / "a.mp4", _clips(3, 5, 33, 31), fps=10, columns=3)
    frames, (codec, pix_fmt, rate) = _decode(tmp_path / "a.mp4")
    assert (codec, pix_fmt, rate) == ("h264", "yuv420p", 10)
    assert len(frames) == 20
    assert frames[0].shape == (33 * 4, 3 * 31 * 4 + 2 * sheets.GAP, 3)
    centre = [int(frame[60, 60, 1]) for frame in frames]
    assert centre == pytest.approx([0, 10, 20, 30, 40] * 4, abs=6)


def test_mp4_has_even_sides(tmp_path):
    sheets.write_mp4(tmp_path / "a.mp4", _clips(1, 40, 131, 129), fps=12.5)
    frames, _ = _decode(tmp_path / "a.mp4")
    assert (len(frames), frames[0].shape) == (40, (132, 130, 3))


def test_mp4_falls_back_where_h264_cannot_be_encoded(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    sheets.write_mp4(tmp_path / "a.mp4", _clips(2, 8, 32, 32), fps=8)
    frames, (codec, _, _) = _decode(tmp_path / "a.mp4")
    assert (codec, len(frames)) == ("mpeg4", 16)


@pytest.mark.parametrize(
    "clips", [np.zeros((2, 4, 8, 8, 3)), np.zeros((0, 4, 8, 8, 3), np.uint8), _clips(1, 2, 8, 8)[0]]
)
def test_what_is_not_clips_is_refused(clips, tmp_path):
    with pytest.raises(ValueError, match="expected non-empty uint8"):
        sheets.write_mp4(tmp_path / "a.mp4", clips, fps=8)


def test_webp_plays_the_frames_of_both_sets_of_clips_beside_each_other(tmp_path):
    left = _clips(4, 5, 32, 32)
    right = 200 - left
    sheets.write_webp(tmp_path / "a.webp", left, right, fps=8)
    side = 2 * 4 * 32 + sheets.GAP  # two clips of 32 pixels, four times as large
    with Image.open(tmp_path / "a.webp") as shown:
        assert shown.n_frames == 5
        assert shown.info["loop"] == 0
        for t in range(5):
            shown.seek(t)
            frame = np.asarray(shown.convert("RGB")).astype(int)
            assert shown.info["duration"] == 125
            for n in range(4):
                top, column = n // 2 * (128 + sheets.GAP) + 64, n % 2 * (128 + sheets.GAP) + 64
                expected = [10 * n, 10 * t, 0]
                assert frame[top, column] == pytest.approx(expected, abs=4)
                beside = frame[top, frame.shape[1] - side + column]
                assert beside == pytest.approx([200 - x for x in expected], abs=4)


def test_webp_of_unlike_sets_is_refused(tmp_path):
    with pytest.raises(ValueError, match="do not stand beside each other"):
        sheets.write_webp(tmp_path / "a.webp", _clips(2, 5, 8, 8), _clips(2, 4, 8, 8), fps=8)
