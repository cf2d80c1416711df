"""Predicting any video or image file: videos whole, and window by window where they are long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data import parallel
from bgan_video.data.cutting import Length
from bgan_video.data.found import files_under
from bgan_video.data.images import SUFFIXES
from bgan_video.data.manifest import UNKNOWN, VIDEO_SUFFIXES
from bgan_video.errors import UserError
from bgan_video.features import Readable
from bgan_video.prediction.chunks import ClipChunk, videos_a_chunk
from bgan_video.prediction.feature_vectors import FileVectors
from bgan_video.prediction.opened import (
    Opened,
    Refused,
    open_file,
    window_vectors,
    window_views,
    workers,
)
from bgan_video.prediction.predict import Networks, Prediction, predict
from bgan_video.prediction.together import combine
from bgan_video.video.reader import BrokenVideo, open_video
from bgan_video.video.times import usual_gap

_BATCH_WINDOWS = 16
"""Windows of several short files that the networks see at once."""


@dataclass(frozen=True)
class Window:
    """What the model says of the frames `start` to `end - 1`; else as `VideoPrediction`.

    `start_seconds` and `end_seconds` are after the first frame; None of an image.
    """

    start: int
    end: int
    probabilities: list[float]
    p_fake: float | None
    total_entropy: float
    mutual_information: float
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class VideoPrediction:
    """What the model says of one file. Entropies in nats.

    Attributes:
        path: As it was given.
        num_frames: Frames that decode.
        probabilities: Of the classes, in the manifest's order: each body's mean over windows, which
            several bodies then bring together (`together.combine`).
        p_fake: Mean probability of 'fake'; None of a model that never learned from fakes.
        total_entropy: Of the posterior-mean probabilities.
        mutual_information: Between label and weights: high where the networks disagree.
        unfamiliar: Whether its total entropy is above that of nearly all validation videos, as that
            of many videos of no known class is; None where the run had no validation.
        windows: In the order of time, covering the video; one where the video is short.
        bodies: Of several bodies, what each says alone, by its name, as `probabilities` have it;
            empty where one answers.
    """

    path: str
    num_frames: int
    probabilities: list[float]
    p_fake: float | None
    total_entropy: float
    mutual_information: float
    unfamiliar: bool | None
    windows: list[Window]
    bodies: dict[str, list[float]] = field(default_factory=dict)


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
        vectors: Of a body of features; None where it sees clips.
        weight: Of that body (`together.combine`).
        name: Of that body.
    """

    networks: Networks
    vectors: FileVectors | None = None
    weight: float = 1.0
    name: str = ""


def predict_files(
    paths: Sequence[Path | str],
    judges: Sequence[Judge],
    config: Config,
    backend: Backend,
    most_entropy: float | None = None,
    knows_fakes: bool = True,
) -> Iterator[VideoPrediction | Unreadable]:
    """Predict files, or all videos (or images) in folders, in their order.

    Files are decoded ahead of the networks, several at once; the networks see windows of several
    short files together. A file that does not read is one `Unreadable`; the rest go on.

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
    sizes = list(dict.fromkeys(j.vectors.frozen.size for j in judges if j.vectors is not None))
    sees_clips = any(judge.vectors is None for judge in judges)
    read = partial(open_file, config=config, sizes=sizes, sees_clips=sees_clips)
    opened = parallel.ahead(read, expand(paths, config), workers(config))
    for files in _together(opened):
        for said in _predict(files, judges, config, backend, most_entropy):
            yield said if knows_fakes else _without_fakes(said)


def expand(paths: Sequence[Path | str], config: Config) -> list[Path]:
    """The files that are meant: those named, and all videos (or images) in folders, links followed.

    Raises:
        UserError: A folder holds none; says what was passed over.
    """
    suffixes = VIDEO_SUFFIXES if config.spatial_dims == 3 else SUFFIXES
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        there = files_under(path)
        files = [p for p in there if p.suffix.lower() in suffixes]
        if not files:
            others = sorted({p.suffix.lower() or "(none)" for p in there})
            passed = f", only files with the suffix {', '.join(others)}" if others else ""
            raise UserError(f"{path} holds no {config.items} ({' '.join(suffixes)}){passed}")
        found += files
    return found


def _together(opened: Iterator[Opened | Refused]) -> Iterator[list[Opened | Refused]]:
    """Files in their order, as many at a time as have the windows of a batch; long ones alone."""
    waiting: list[Opened | Refused] = []
    for file in opened:
        is_long = isinstance(file, Opened) and file.is_long
        if is_long and waiting:
            yield waiting
            waiting = []
        waiting.append(file)
        windows = sum(len(f.places) for f in waiting if isinstance(f, Opened))
        if is_long or windows >= _BATCH_WINDOWS or isinstance(waiting[0], Refused):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _predict(
    files: Sequence[Opened | Refused],
    judges: Sequence[Judge],
    config: Config,
    backend: Backend,
    most_entropy: float | None,
) -> Iterator[VideoPrediction | Unreadable]:
    """What the model says of some files, of which a long one stands alone."""
    known = [file for file in files if isinstance(file, Opened)]
    try:
        of_bodies = [_of_body(judge, known, config, backend) for judge in judges] if known else []
    except BrokenVideo as error:  # a long one, which is read as it is predicted
        yield Unreadable(str(known[0].path), error.reason)
        return
    names = [judge.name for judge in judges]
    weights = [judge.weight for judge in judges]
    together = partial(combine, how=config.discriminator.combine, weights=weights)
    start = 0
    for file in files:
        if isinstance(file, Refused):
            yield Unreadable(str(file.path), file.reason)
            continue
        stop = start + len(file.places)
        parts = [p.part(start, stop) for p in of_bodies]
        yield _said(file, dict(zip(names, parts, strict=True)), together, most_entropy)
        start = stop


def _of_body(judge: Judge, files: Sequence[Opened], config: Config, backend: Backend) -> Prediction:
    """What the networks of one body say of all windows of some files."""
    if files[0].is_long:
        (file,) = files
        return predict(judge.networks, _chunks_of_long(file, judge, config), backend)
    seen: list[Tensor] = []
    for file in files:
        if judge.vectors is None:
            assert file.clips is not None, "a short file's clips are cut"
            seen.append(file.clips)
        else:
            held = file.held[judge.vectors.frozen.size]
            seen.append(window_vectors(held, file.length, file.places, judge.vectors))
    windows = sum(len(file.places) for file in files)
    return predict(judge.networks, [_chunk(torch.cat(seen), windows)], backend)


def _chunks_of_long(file: Opened, judge: Judge, config: Config) -> Iterator[ClipChunk]:
    """What a body sees of the windows of a long file: memory holds a chunk, not the video."""
    step = videos_a_chunk(config)
    with _reopened(file, judge, config) as reader:
        for first in range(0, len(file.places), step):
            part = file.places[first : first + step]
            # Without a name: it would hold this one while the next one is made.
            yield _chunk(_seen(reader, file.length, part, judge, config), len(part))


def _seen(
    reader: Readable,
    length: Length,
    places: Sequence[tuple[int, int]],
    judge: Judge,
    config: Config,
) -> Tensor:
    """What a body sees of some windows."""
    if judge.vectors is None:
        return window_views(reader, length, places, config)
    return window_vectors(reader, length, places, judge.vectors)


@contextmanager
def _reopened(file: Opened, judge: Judge, config: Config) -> Iterator[Readable]:
    size = config.load_size if judge.vectors is None else judge.vectors.frozen.size
    with open_video(file.path, config.data.decoder, size) as reader:
        yield reader


def _chunk(seen: Tensor, windows: int) -> ClipChunk:
    return ClipChunk(seen, torch.full((windows,), UNKNOWN), len(seen) // windows)


def _said(
    file: Opened,
    of_bodies: Mapping[str, Prediction],
    together: Callable[[Sequence[Prediction]], Prediction],
    most_entropy: float | None,
) -> VideoPrediction:
    of_windows = together(list(of_bodies.values()))
    whole = {name: _whole(p) for name, p in of_bodies.items()}
    of_file = together(list(whole.values()))
    alone = {name: p.video_probabilities[0].tolist() for name, p in whole.items()}
    total = of_file.total_entropy.item()
    return VideoPrediction(
        str(file.path),
        file.length.num_frames,
        of_file.video_probabilities[0].tolist(),
        of_file.p_fake.item(),
        total,
        of_file.mutual_information.item(),
        None if most_entropy is None else total > most_entropy,
        [_window(file, place, i, of_windows) for i, place in enumerate(file.places)],
        alone if len(alone) > 1 else {},
    )


def _whole(p: Prediction) -> Prediction:
    """What networks say of all windows of a file together."""
    networks = p.network_probabilities.mean(dim=1, keepdim=True)
    return Prediction(p.clip_probabilities, networks, p.p_fake.mean(dim=0, keepdim=True))


def _without_fakes(said: VideoPrediction | Unreadable) -> VideoPrediction | Unreadable:
    if isinstance(said, Unreadable):
        return said
    unjudged = [replace(window, p_fake=None) for window in said.windows]
    return replace(said, p_fake=None, windows=unjudged)


def _window(file: Opened, place: tuple[int, int], index: int, p: Prediction) -> Window:
    start, end = place
    seconds: tuple[float | None, float | None] = (None, None)
    if file.seconds is not None:
        behind = end == len(file.seconds)
        last = file.seconds[-1] + usual_gap(file.seconds) if behind else file.seconds[end]
        seconds = round(float(file.seconds[start]), 3), round(float(last), 3)
    return Window(
        start,
        end,
        p.video_probabilities[index].tolist(),
        p.p_fake[index].item(),
        p.total_entropy[index].item(),
        p.mutual_information[index].item(),
        *seconds,
    )
