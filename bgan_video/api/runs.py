"""What a finished run is used for: it predicts, its generators make items, it is taken away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bgan_video.errors import UserError
from bgan_video.media import pictures
from bgan_video.prediction import outputs
from bgan_video.prediction.generated import chooser, generate, side_by_side
from bgan_video.prediction.judging import identity
from bgan_video.prediction.trained import TrainedRun
from bgan_video.prediction.video_files import Unreadable, VideoPrediction
from bgan_video.reports import timeline
from bgan_video.reports.reading import BESIDE_NAME
from bgan_video.training import console
from bgan_video.video import open_video

_THUMBNAIL = 72
"""Short side in pixels of a timeline's frames."""


def predict(
    run: TrainedRun,
    paths: Sequence[Path | str],
    out: Path | None = None,
    timelines: Path | None = None,
) -> Iterator[VideoPrediction | Unreadable]:
    """Predict files and folders, with progress on standard error.

    Args:
        run: Whose networks.
        paths: Files and folders.
        out: A `.csv` or `.jsonl` that gets a line a file; files it has predictions of are not
            predicted again.
        timelines: A folder that gets the timeline of each video of several windows.

    Raises:
        UserError: A folder holds nothing to predict, or `out` or `timelines` do not serve.
    """
    files = run.files(paths)
    bodies = run.answering_names if len(run.answering_names) > 1 else ()
    output = None if out is None else outputs.Output(out, identity(run), run.classes, bodies)
    if timelines is not None:
        try:
            timelines.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"--timeline={timelines}: {error.strerror}") from None
    if output is not None:
        left = output.left(files)
        if output.done:
            console.say(f"{out} has {len(files) - len(left)} of {len(files)} files; going on")
        files = left
    said = run.predict(files) if files else iter(())
    for found in console.progress(said, "predicting", len(files)):
        if timelines is not None and isinstance(found, VideoPrediction) and len(found.windows) > 1:
            _timeline(run, found, timelines)
        if output is not None:  # last: what it has is not done again after a kill
            output.add(found)
        yield found


def _timeline(run: TrainedRun, found: VideoPrediction, folder: Path) -> None:
    """The timeline of a video under its name."""
    path = Path(found.path)
    middles = [(window.start + window.end) // 2 for window in found.windows]
    with open_video(path, run.config.data.decoder, _THUMBNAIL) as reader:
        frames = reader.read(middles)
    timeline.write(folder, path.stem, outputs.record(found, run.classes), frames)


def sample(run: TrainedRun, count: int, out: Path, select: bool = False) -> list[Path]:
    """Write pictures (and films of clips) of what each generator makes; the files' paths.

    Args:
        run: Whose generators.
        count: Items of each.
        out: An existing folder.
        select: Choose them among more by the run's judges of looks.

    Raises:
        UserError: The run has no generator or, to select by, no judge, or makes vectors.
    """
    if run.config.spatial_dims == 0:
        raise UserError(f"{run.folder} makes points, of which there is no picture")
    files: list[Path] = []
    choose = chooser(run) if select else None
    for name, items in generate(run, count, choose, console.progress):
        files += pictures.write(out / f"samples_{name}", items, run.config.spatial_dims)
    return files


def show_beside(run: TrainedRun, select: bool = False) -> Path | None:
    """Write `samples/real_and_generated.webp`, which plays test clips beside generated ones.

    Args:
        run: Whose generators and test clips; one of images or vectors has no clips to play.
        select: As in `sample`.

    Returns:
        The file, where there are clips.

    Raises:
        UserError: The run has no generator or, to select by, no judge.
    """
    if run.config.spatial_dims != 3:
        return None
    return pictures.write_beside(run.folder / "samples" / BESIDE_NAME, *side_by_side(run, select))


def export(run: TrainedRun, to: str, out: Path | None = None) -> Path:
    """Take a run away: as one program of all its networks, or as a folder for a model hub.

    Args:
        run: Whose answering model; networks that are written as a program run in float32.
        to: `torch` (`torch.export`), `onnx`, or `hub`.
        out: The file, or the hub's folder; by default in the run's folder `export`.

    Returns:
        Where it is.

    Raises:
        UserError: The run cannot be written that way, or an extra is not installed.
    """
    from bgan_video.exporting import files, hub, program

    default = {"torch": "program.pt2", "onnx": "program.onnx", "hub": run.folder.resolve().name}
    if to not in default:
        raise UserError(f"--to={to}; allowed: {', '.join(default)}")
    place = out or run.folder / "export" / default[to]
    _make_room(place, is_folder=to == "hub")
    if to == "hub":
        hub.write_hub(run, place)
        return place
    write = {"torch": files.write_torch, "onnx": files.write_onnx}[to]
    write(run, program.of_run(run), place)
    return place


def _make_room(place: Path, is_folder: bool) -> None:
    """Make the folder that it goes to; raises UserError where it cannot be there."""
    if place.exists() and place.is_dir() != is_folder:
        kinds = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise UserError(f"--out={place} is {kinds[0]}; give the name of {kinds[1]}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={place}: {error.strerror}") from None
