"""Predicting any video or image file: videos whole, and window by window where they are long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.cutting import Length, rows_of, too_short, uniform_clips
from bgan_video.data.found import files_under
from bgan_video.data.images import SUFFIXES, Array, ImageError, decode
from bgan_video.data.manifest import UNKNOWN, VIDEO_SUFFIXES
from bgan_video.errors import UserError
from bgan_video.prediction.bodies import FileVectors, combine
from bgan_video.prediction.chunks import ClipChunk, clip_views, stacked, videos_a_chunk
from bgan_video.prediction.predict import Networks, Prediction, predict
from bgan_video.video import clips
from bgan_video.video.reader import BrokenVideo, OpenVideo, open_video
from bgan_video.video.times import frame_times, usual_gap


@dataclass(frozen=True)
class Window:
    """What the model says of the frames `start` to `end - 1`; else as `VideoPrediction`."""

    start: int
    end: int
    probabilities: list[float]
    p_fake: float | None
    total_entropy: float
    mutual_information: float


@dataclass(frozen=True)
class VideoPrediction:
    """What the model says of one file. Entropies in nats.

    Attributes:
        path: As it was given.
        num_frames: Frames that decode.
        probabilities: Of the classes, in the manifest's order; mean over windows.
        p_fake: Mean probability of 'fake'; None of a model that never learned from fakes.
        total_entropy: Of the posterior-mean probabilities.
        mutual_information: Between label and weights: high where the networks disagree.
        unfamiliar: Whether its total entropy is above that of nearly all validation videos, as that
            of many videos of no known class is; None where the run had no validation.
        windows: In the order of time, covering the video; one where the video is short.
    """

    path: str
    num_frames: int
    probabilities: list[float]
    p_fake: float | None
    total_entropy: float
    mutual_information: float
    unfamiliar: bool | None
    windows: list[Window]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be predicted, and why."""

    path: str
    error: str


@dataclass(frozen=True)
class Judge:
    """Networks, and what they see of a file.

    Attributes:
        networks: Of one body.
        config: Clips and decoding, of that body.
        vectors: Of a body of features; None where it sees clips.
    """

    networks: Networks
    config: Config
    vectors: FileVectors | None = None


def predict_files(
    paths: Sequence[Path | str],
    judges: Sequence[Judge],
    config: Config,
    backend: Backend,
    most_entropy: float | None = None,
    knows_fakes: bool = True,
) -> Iterator[VideoPrediction | Unreadable]:
    """Predict files, or all videos (or images) in folders, one by one.

    A file that does not read is one `Unreadable`; the rest go on.

    Args:
        paths: Files and folders.
        judges: The bodies of the model that answers, at least one.
        config: The run's clips and decoding.
        backend: Device and precision.
        most_entropy: Total entropy in nats above which a video is unfamiliar.
        knows_fakes: Whether the networks learned what is fake.

    Raises:
        UserError: A folder holds none, or the networks see points, which no file holds.
    """
    if config.spatial_dims == 0:
        raise UserError("the networks of this run see points, which no file holds")
    for path in _expand(paths, config):
        try:
            said = _predict_file(path, judges, config, backend, most_entropy)
            yield said if knows_fakes else _without_fakes(said)
        except BrokenVideo as error:
            yield Unreadable(str(path), error.reason)
        except ImageError as error:
            yield Unreadable(str(path), str(error))


def windows(length: Length, config: Config) -> list[tuple[int, int]]:
    """First frame and end of each window of a video: equal parts that cover it.

    A window is `clip.test_clips` clips laid end to end and less than twice that, so that the clips
    it is judged by see at least half of it. A shorter video is one window. With `clip.fps` parts
    are equal in time.
    """
    c, n = config.clip, length.num_frames
    if length.times is None or c.fps is None:
        count = max(1, n // (c.test_clips * clips.span(c.num_frames, c.stride)))
        edges = [i * n // count for i in range(count + 1)]
        return list(pairwise(edges))
    lasts = float(length.times[-1] - length.times[0]) + usual_gap(length.times)
    count = max(1, int(lasts * c.fps / (c.test_clips * c.num_frames) + 1e-6))
    starts = length.times[0] + np.arange(1, count) * (lasts / count)
    inner = np.searchsorted(length.times, starts).tolist()
    return list(pairwise(sorted({0, *inner, n})))  # a pause may span a window


def _predict_file(
    path: Path,
    judges: Sequence[Judge],
    config: Config,
    backend: Backend,
    most_entropy: float | None,
) -> VideoPrediction | Unreadable:
    with _open(path, config) as reader:
        num_frames = len(reader)
        times = None if config.clip.fps is None else frame_times(path, num_frames)
        length = Length(num_frames, times)
        if reason := too_short(length, config.clip):
            return Unreadable(str(path), reason)
        places = windows(length, config)
        of_bodies = [
            predict(judge.networks, _window_chunks(reader, length, places, judge.config), backend)
            for judge in judges
            if judge.vectors is None
        ]
    for judge in judges:
        if judge.vectors is not None:
            chunks = _vector_chunks(path, length, places, judge)
            of_bodies.append(predict(judge.networks, chunks, backend))
    how = config.discriminator.combine
    of_windows = combine(of_bodies, how)
    of_file = combine([_whole(p) for p in of_bodies], how)
    total = of_file.total_entropy.item()
    return VideoPrediction(
        str(path),
        num_frames,
        of_file.video_probabilities[0].tolist(),
        of_file.p_fake.item(),
        total,
        of_file.mutual_information.item(),
        None if most_entropy is None else total > most_entropy,
        [_window(place, i, of_windows) for i, place in enumerate(places)],
    )


def _whole(p: Prediction) -> Prediction:
    """What networks say of all windows of a file together."""
    networks = p.network_probabilities.mean(dim=1, keepdim=True)
    return Prediction(p.clip_probabilities, networks, p.p_fake.mean(dim=0, keepdim=True))


def _vector_chunks(
    path: Path, length: Length, places: Sequence[tuple[int, int]], judge: Judge
) -> Iterator[ClipChunk]:
    """The vectors of every window's clips."""
    vectors = judge.vectors
    assert vectors is not None, "this judge sees clips"
    with open_video(path, judge.config.data.decoder, vectors.frozen.size) as reader:
        seen = [vectors(reader, length.part(start, end), start) for start, end in places]
    yield ClipChunk(torch.cat(seen), torch.full((len(places),), UNKNOWN), len(seen[0]))


def _without_fakes(said: VideoPrediction | Unreadable) -> VideoPrediction | Unreadable:
    if isinstance(said, Unreadable):
        return said
    unjudged = [replace(window, p_fake=None) for window in said.windows]
    return replace(said, p_fake=None, windows=unjudged)


class _Image:
    """A video of one frame."""

    def __init__(self, pixels: Array) -> None:
        self._frames = pixels[None]

    def __len__(self) -> int:
        return 1

    def read(self, indices: Sequence[int]) -> Array:
        return self._frames[list(indices)]


@contextmanager
def _open(path: Path, config: Config) -> Iterator[OpenVideo | _Image]:
    if config.spatial_dims == 2:
        yield _Image(decode(path, config.channels))
        return
    with open_video(path, config.data.decoder, config.load_size) as reader:
        yield reader


def _window(place: tuple[int, int], index: int, p: Prediction) -> Window:
    return Window(
        *place,
        p.video_probabilities[index].tolist(),
        p.p_fake[index].item(),
        p.total_entropy[index].item(),
        p.mutual_information[index].item(),
    )


def _window_chunks(
    reader: OpenVideo | _Image,
    length: Length,
    places: Sequence[tuple[int, int]],
    config: Config,
) -> Iterator[ClipChunk]:
    """The test clips of every window, read forwards: memory holds a chunk, not the video."""
    step = videos_a_chunk(config)
    c = config.clip

    def views(part: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
        for start, end in part:
            placed = uniform_clips(length.part(start, end), c, c.test_clips)
            wanted, rows = rows_of(placed)
            yield from clip_views(reader.read([start + i for i in wanted]), rows, config)

    per_window = c.test_clips * c.test_crops
    for first in range(0, len(places), step):
        part = places[first : first + step]
        labels = torch.full((len(part),), UNKNOWN)
        yield ClipChunk(stacked(views(part), len(part) * per_window), labels, per_window)


def _expand(paths: Sequence[Path | str], config: Config) -> Iterator[Path]:
    suffixes = VIDEO_SUFFIXES if config.spatial_dims == 3 else SUFFIXES
    for path in map(Path, paths):
        if path.is_dir():
            files = [p for p in files_under(path) if p.suffix.lower() in suffixes]
            if not files:
                raise UserError(f"{path} holds no {config.items} ({' '.join(suffixes)})")
            yield from files
        else:
            yield path
