"""The embedded data set: eight kinds of motion that no single frame tells apart.

A shape has four coordinates: x and y on a torus, an angle, and the logarithm of its size on an
interval whose ends are joined. All four start uniform and independent. Each class advances one of
them at constant speed, which leaves it uniform; so at every frame the state has the same
distribution in every class, and only the change from frame to frame says which class it is.

`render` writes real MPEG-4 files with B-frames in the layout of UCF101.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bgan_video.data.motion_drawing import SHAPES, Floats, coverage
from bgan_video.errors import UserError
from bgan_video.files import cache_folder
from bgan_video.rng import derive_seed

Frames = NDArray[np.uint8]

VERSION = 2
MARKER = "rendered.json"

# Which coordinate of (x, y, angle, log-size) a class advances, and to which side. Rows grow
# downwards, so a growing angle turns clockwise to the viewer.
MOTIONS: dict[str, tuple[int, int]] = {
    "MoveLeft": (0, -1),
    "MoveRight": (0, 1),
    "MoveUp": (1, -1),
    "MoveDown": (1, 1),
    "RotateLeft": (2, -1),
    "RotateRight": (2, 1),
    "Grow": (3, 1),
    "Shrink": (3, -1),
}

# Lengths are parts of the frame's side, angles in radians, speeds per frame.
_LOG_SIZE = (float(np.log(0.2)), float(np.log(0.5)))
_STATE_LOW = np.array([0.0, 0.0, 0.0, _LOG_SIZE[0]])
_STATE_HIGH = np.array([1.0, 1.0, 2 * np.pi, _LOG_SIZE[1]])
_SPEEDS = ((0.025, 0.045), (0.025, 0.045), (0.12, 0.2), (0.03, 0.05))
_LENGTHS = (32, 56)


def default_root() -> Path:
    """Where the default rendering lies."""
    return cache_folder() / f"motion_shapes-v{VERSION}"


def render(
    root: Path,
    *,
    num_groups: int = 40,
    clips_per_group: int = 2,
    size: int = 64,
    seed: int = 0,
    num_folds: int = 3,
) -> None:
    """Render the data set into `root`, unless it is there already with these settings.

    The folder appears at once and complete, also where two processes render it.

    Args:
        root: Folder of the data set; it is new, empty, or an earlier rendering, which is replaced.
        num_groups: Groups of each class; each has its own look.
        clips_per_group: Videos of each group.
        size: Side of the square frames in pixels, even.
        seed: Seed of everything random.
        num_folds: Splits with disjoint test groups, each about 7 of 25 groups.

    Raises:
        UserError: The folder cannot be written or holds something else.
        ValueError: Too few groups for the folds.
    """
    settings = {"version": VERSION, "num_groups": num_groups, "clips_per_group": clips_per_group}
    settings |= {"size": size, "seed": seed, "num_folds": num_folds}
    if _rendered(root) == settings:
        return
    test_groups = _test_groups(num_groups, num_folds)
    clips = list(product(range(1, num_groups + 1), range(1, clips_per_group + 1)))
    try:
        _check_free(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
            fresh = Path(scratch) / "new"
            for name, (group, clip) in product(MOTIONS, clips):
                _render_video(fresh / _path(name, group, clip), name, group, clip, size, seed)
            _write_lists(fresh / "ucfTrainTestlist", clips, test_groups)
            (fresh / MARKER).write_text(json.dumps(settings, indent=2) + "\n")
            _publish(fresh, root, Path(scratch) / "old")
    except OSError as error:
        raise UserError(
            f"cannot render motion_shapes into {root}: {error.strerror or error}; "
            f"set data.root or BGAN_VIDEO_CACHE to a folder that can be written"
        ) from None


def trajectory(name: str, speed: float, num_frames: int, rng: Generator) -> NDArray[np.float64]:
    """States of one video.

    Args:
        name: A class of `MOTIONS`.
        speed: Change per frame of the coordinate that this class advances, above 0.
        num_frames: T.
        rng: Source of the start.

    Returns:
        `[T, 4]`: x and y in [0, 1), angle in [0, 2 pi), log-size in its interval; every row is
        uniform on their product.
    """
    start = rng.uniform(_STATE_LOW, _STATE_HIGH)
    coordinate, sign = MOTIONS[name]
    states = np.tile(start, (num_frames, 1))
    states[:, coordinate] += sign * speed * np.arange(num_frames)
    return _STATE_LOW + np.mod(states - _STATE_LOW, _STATE_HIGH - _STATE_LOW)


@dataclass(frozen=True)
class _Look:
    """What the videos of one group share."""

    shape: str
    color: Floats
    background: Floats
    distractor: tuple[str, Floats] | None
    noise: float
    speed_fraction: float
    num_frames: int


def _draw_look(rng: Generator, size: int) -> _Look:
    """Draw a look; the class has no part in it."""
    ground = rng.uniform(40, 215, 3)
    shapes = rng.choice(list(SHAPES), 2)
    other = (str(shapes[1]), _contrasting(rng, ground)) if rng.random() < 0.2 else None
    return _Look(
        shape=str(shapes[0]),
        color=_contrasting(rng, ground),
        background=(ground + _texture(rng, size)[..., None]).astype(np.float32),
        distractor=other,
        noise=rng.uniform(0, 5),
        speed_fraction=rng.random(),
        num_frames=int(rng.integers(_LENGTHS[0], _LENGTHS[1] + 1)),
    )


def _contrasting(rng: Generator, ground: NDArray[np.float64]) -> Floats:
    """A colour that the eye tells from `ground`, by its brightness."""
    while True:
        color = rng.uniform(0, 255, 3)
        if abs(float(np.mean(color - ground))) > 90:
            return color.astype(np.float32)


def _texture(rng: Generator, size: int) -> NDArray[np.float64]:
    """Smooth periodic noise `[size, size]` of random orientation, scale and contrast."""
    angle, along, across = rng.uniform(0, np.pi), rng.uniform(2, 5), rng.uniform(5, 14)
    fy, fx = np.meshgrid(np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size, indexing="ij")
    u, v = np.cos(angle) * fx + np.sin(angle) * fy, np.cos(angle) * fy - np.sin(angle) * fx
    spectrum = np.fft.fft2(rng.standard_normal((size, size)))
    noise = np.fft.ifft2(spectrum * np.exp(-((u / along) ** 2) - (v / across) ** 2)).real
    noise -= noise.mean()
    return noise * (rng.uniform(2, 10) / noise.std())


def _draw(look: _Look, states: NDArray[np.float64], size: int, rng: Generator) -> Frames:
    """Frames of one video, uint8 `[T, size, size, 3]`."""
    scene = look.background[None]
    if look.distractor is not None:
        shape, color = look.distractor
        still = rng.uniform(_STATE_LOW, _STATE_HIGH)[None]
        scene = scene + coverage(shape, still, size) * (color - scene)
    frames = scene + coverage(look.shape, states, size) * (look.color - scene)
    noise = rng.standard_normal(frames.shape[:3], dtype=np.float32) * np.float32(look.noise)
    return np.clip(frames + noise[..., None] + 0.5, 0, 255).astype(np.uint8)


def _path(name: str, group: int, clip: int) -> str:
    return f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"


def _render_video(path: Path, name: str, group: int, clip: int, size: int, seed: int) -> None:
    look = _draw_look(np.random.default_rng(derive_seed(seed, name, group)), size)
    rng = np.random.default_rng(derive_seed(seed, name, group, clip))
    low, high = _SPEEDS[MOTIONS[name][0]]
    speed = low + look.speed_fraction * (high - low)
    frames = _draw(look, trajectory(name, speed, look.num_frames, rng), size, rng)
    path.parent.mkdir(parents=True, exist_ok=True)
    _encode(path, frames)


def _encode(path: Path, frames: Frames) -> None:
    """Write MPEG-4 at 25 frames a second, so fine that residuals tell nothing about motion."""
    options = {"qmin": "2", "qmax": "2", "bf": "2"}
    with av.open(str(path), "w") as opened:
        container = cast(Any, opened)
        stream = container.add_stream("mpeg4", rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 12
        stream.thread_type = "NONE"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _test_groups(num_groups: int, num_folds: int) -> list[range]:
    """The test groups of each fold: 1-7, 8-14 and 15-21 of 25, as in UCF101."""
    count = max(1, round(num_groups * 7 / 25))
    if num_folds < 1 or count * num_folds > num_groups or count == num_groups:
        raise ValueError(
            f"{num_groups} groups do not make {num_folds} folds of {count} test groups"
        )
    return [range(1 + fold * count, 1 + (fold + 1) * count) for fold in range(num_folds)]


def _write_lists(folder: Path, clips: list[tuple[int, int]], test_groups: list[range]) -> None:
    folder.mkdir()
    labels = {name: label for label, name in enumerate(MOTIONS, start=1)}
    _write_lines(folder / "classInd.txt", [f"{label} {name}" for name, label in labels.items()])
    for fold, groups in enumerate(test_groups, start=1):
        test = [_path(n, g, c) for n, (g, c) in product(MOTIONS, clips) if g in groups]
        train = [
            f"{_path(n, g, c)} {labels[n]}"
            for n, (g, c) in product(MOTIONS, clips)
            if g not in groups
        ]
        _write_lines(folder / f"testlist{fold:02d}.txt", test)
        _write_lines(folder / f"trainlist{fold:02d}.txt", train)


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines))


def _rendered(root: Path) -> Any:
    """The settings of the rendering in `root`, None where there is none."""
    try:
        return json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return None


def _check_free(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()) and not (root / MARKER).is_file():
        raise UserError(
            f"{root} holds files that are no rendering of motion_shapes; "
            f"give data.root a new or empty folder; videos of your own need "
            f"--config configs/video_folder.yaml"
        )


def _publish(fresh: Path, root: Path, old: Path) -> None:
    """Put the finished folder in its place."""
    settings = _rendered(fresh)
    try:
        if root.is_dir() and _rendered(root) != settings:
            root.replace(old)
        fresh.replace(root)
    except OSError:
        # Another process was faster; what it rendered from the same settings is the same.
        if _rendered(root) != settings:
            raise
