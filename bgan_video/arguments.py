"""The words of the command line: which commands there are, and what each one takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bgan_video.config import recipes

_CONFIG_FILE = "a YAML file of settings, or the name of a recipe"
_CONFIG = f"{_CONFIG_FILE} (default: {recipes.DEFAULT})"
_RAW = argparse.RawDescriptionHelpFormatter
FIRST_LABELS = "labels.csv"
"""Where a table of first labels is written, before there is a run."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with `key=value` before, between and behind the options of commands that take them.

    Args:
        arguments: Words of the command line; None for those of this process.

    Returns:
        The options, `command` the last word of the command's name.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "overrides" not in options]
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        options.overrides += rest
    return options


_Commands = Any  # what `add_subparsers` gives; argparse has no public name for it


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bgan-video",
        description="Semi-supervised video classification with Bayesian GANs.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for add_command in (
        _recipes,
        _train,
        _study,
        _check_data,
        _prepare,
        _features,
        _evaluate,
        _predict,
        _sample,
        _report,
        _export,
        _suggest,
        _answers,
        _label,
    ):
        add_command(commands)
    return parser


def _add(to: _Commands, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    sub = to.add_parser(
        name, help=text, description=text, epilog=f"examples:\n{examples}", formatter_class=_RAW
    )
    sub.set_defaults(command=name)
    return sub


def _recipes(to: _Commands) -> None:
    sub = _add(
        to,
        "recipes",
        "The recipes that come with the package: what --config and the command study find by name.",
        "  bgan-video recipes\n  bgan-video train --config weizmann4 data.root=weizmann4",
    )
    sub.add_argument("--json", action="store_true", help="print names, paths and summaries as JSON")


def _train(to: _Commands) -> None:
    sub = _add(
        to,
        "train",
        "Train the Bayesian GAN and the supervised network beside it; evaluate; report.",
        "  bgan-video train\n"
        "  bgan-video train --config ucf101 data.root=UCF-101 --dry-run\n"
        "  bgan-video train --resume runs/demo\n"
        "  bgan-video train --config demo --resume auto\n"
        "  bgan-video train --config video_folder data.root=my_videos --budget 10m",
    )
    sub.add_argument("--config", help=_CONFIG)
    sub.add_argument(
        "--resume",
        metavar="RUN",
        help="continue the run in this folder from its newest sound checkpoint; auto: the run of "
        "that name, or begin it",
    )
    sub.add_argument(
        "--budget",
        metavar="TIME",
        help="such as 10m: steps, rounds, networks and clip size by what they cost on this machine",
    )
    sub.add_argument("--dry-run", action="store_true", help="print settings and plan, and stop")
    _add_overrides(sub)


def _study(to: _Commands) -> None:
    sub = _add(
        to,
        "study",
        "Run a grid of methods, label counts, folds and seeds, each cell in a process of its own, "
        "and compare. Started in several terminals, the grid is shared; after a kill it goes on.",
        "  bgan-video study studies/motion_shapes --dry-run\n"
        "  bgan-video study studies/weizmann4 data.root=weizmann4",
    )
    sub.add_argument("file", help="the study file, or the name of a shipped one")
    sub.add_argument("--out", type=Path, help="the study's folder (default: studies/<file's stem>)")
    only = sub.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="list the cells, and stop")
    only.add_argument("--report", action="store_true", help="write the results anew, and stop")
    sub.add_argument(
        "--keep-weights",
        action="store_true",
        help="keep checkpoints, posterior and samples of finished cells",
    )
    sub.add_argument("--json", action="store_true", help="print the summary (or the cells) as JSON")
    _add_overrides(sub)


def _check_data(to: _Commands) -> None:
    data = to.add_parser("data", help="Look at a data set before training on it.")
    sub = _add(
        data.add_subparsers(required=True, metavar="action"),
        "check",
        "Counts by split, class and group, lengths, and everything that is wrong with the videos. "
        "What is found is no failure: the exit code is 0.",
        "  bgan-video data check --config ucf101 data.root=UCF-101",
    )
    sub.add_argument("--config", help=_CONFIG)
    sub.add_argument("--no-read", action="store_true", help="do not decode the files")
    sub.add_argument("--json", action="store_true", help="print everything as JSON")
    _add_overrides(sub)


def _prepare(to: _Commands) -> None:
    sub = _add(
        to,
        "prepare",
        "Decode every video once into the clip store that training then reads; goes on after a "
        "kill.",
        "  bgan-video prepare --config ucf101 data.root=UCF-101 "
        "data.store=ucf101.store\n"
        "  bgan-video prepare --config ucf101 data.store=ucf101.store --verify",
    )
    sub.add_argument("--config", help=_CONFIG)
    sub.add_argument("--verify", action="store_true", help="compare the store with its checksums")
    sub.add_argument("--json", action="store_true", help="print the outcome as JSON")
    _add_overrides(sub)


def _features(to: _Commands) -> None:
    sub = _add(
        to,
        "features",
        "Run a frozen pretrained body once over every video and keep the features of its clips; "
        "goes on after a kill.",
        "  bgan-video features --config configs/ucf101.yaml data.root=UCF-101\n"
        "  bgan-video features --config configs/ucf101.yaml data.root=UCF-101 --verify",
    )
    sub.add_argument("--config", help="a YAML file of settings (default: the built-in ones)")
    sub.add_argument("--verify", action="store_true", help="compare the store with its checksums")
    sub.add_argument("--json", action="store_true", help="print the outcome as JSON")
    _add_overrides(sub)


def _evaluate(to: _Commands) -> None:
    sub = _add(
        to,
        "evaluate",
        "Evaluate a run's models on its test fold, and write metrics.json and the report anew.",
        "  bgan-video evaluate runs/demo clip.test_clips=10",
    )
    sub.add_argument("run", type=Path, help="the run's folder")
    sub.add_argument("--validation", action="store_true", help="on the validation groups instead")
    sub.add_argument(
        "--renormalise",
        action="store_true",
        help="take every network's normalisation statistics anew from the labelled clips",
    )
    sub.add_argument("--json", action="store_true", help="print the figures as JSON")
    _add_overrides(sub)


def _predict(to: _Commands) -> None:
    sub = _add(
        to,
        "predict",
        "Class, uncertainty and p(fake) of video files, long ones in windows too.",
        "  bgan-video predict runs/demo clip.avi folder/ --json\n"
        "  bgan-video predict runs/demo folder/ --out predictions.csv --timeline timelines",
    )
    sub.add_argument("run", type=Path, help="the run's folder")
    sub.add_argument("paths", nargs="+", help="video files, or folders of them")
    sub.add_argument("--json", action="store_true", help="print one JSON record a line")
    sub.add_argument(
        "--out", type=Path, help="append to this .csv or .jsonl; run again, it goes on where it was"
    )
    sub.add_argument(
        "--timeline", type=Path, help="a folder for class over time of long videos (CSV and page)"
    )
    sub.add_argument(
        "--set", metavar="key=value", action="append", default=[], help="such as run.device=cpu"
    )


def _sample(to: _Commands) -> None:
    sub = _add(
        to,
        "sample",
        "Pictures of what each generator makes, or its distance from real items.",
        "  bgan-video sample runs/demo --count 16\n"
        "  bgan-video sample runs/demo --quality --extractor runs/all_labels",
    )
    sub.add_argument("run", type=Path, help="the run's folder")
    sub.add_argument("--count", type=int, default=16, help="items of each generator (default: 16)")
    sub.add_argument("--out", type=Path, help="a folder (default: samples in the run)")
    sub.add_argument(
        "--quality",
        action="store_true",
        help="Fréchet and kernel distance from the test items, as JSON, with their floors",
    )
    sub.add_argument(
        "--extractor",
        metavar="RUN",
        help="the run whose supervised network makes the features (default: the run itself), or "
        "videomae:FILE, the weights of CD-FVD's VideoMAE-v2 in a file",
    )
    sub.add_argument(
        "--select",
        action="store_true",
        help="choose items among 32 times as many by what the run learned of looks",
    )
    _add_overrides(sub)


def _report(to: _Commands) -> None:
    sub = _add(
        to,
        "report",
        "Write report.html from what the run's folder holds.",
        "  bgan-video report runs/demo",
    )
    sub.add_argument("run", type=Path, help="the run's folder")


def _export(to: _Commands) -> None:
    sub = _add(
        to,
        "export",
        "All networks of a run as one program from a clip's bytes to what the run says of it, or "
        "a folder for a model hub.",
        "  bgan-video export runs/demo --to torch\n  bgan-video export runs/demo --to hub",
    )
    sub.add_argument("run", type=Path, help="the run's folder")
    sub.add_argument("--to", required=True, help="torch (torch.export), onnx, or hub")
    sub.add_argument("--out", type=Path, help="file, or hub folder (default: export in the run)")
    _add_overrides(sub)


def _suggest(to: _Commands) -> None:
    sub = _add(
        to,
        "suggest",
        "The unlabelled videos to label next, or first, as a CSV that data.label_list reads back.",
        "  bgan-video suggest runs/demo --budget 20\n"
        "  bgan-video suggest runs/demo --format label-studio\n"
        "  bgan-video suggest --config video_folder data.root=my_videos",
    )
    _add_asking(sub)
    sub.add_argument("--json", action="store_true", help="print the suggestions as JSON")
    sub.add_argument(
        "--format",
        default="csv",
        help="label-studio or fiftyone: write their files beside the CSV (default: csv)",
    )


def _answers(to: _Commands) -> None:
    sub = _add(
        to,
        "answers",
        "Fill a table of suggestions in with what was answered in Label Studio or FiftyOne.",
        "  bgan-video answers runs/demo/suggestions.csv project.json",
    )
    sub.add_argument("table", type=Path, help="the CSV that suggest wrote")
    sub.add_argument(
        "file", type=Path, help="Label Studio's JSON export, or FiftyOne's folder or samples.json"
    )


def _label(to: _Commands) -> None:
    sub = _add(
        to,
        "label",
        "A local page that shows the videos to label next, or first, and keeps each answer.",
        "  bgan-video label runs/demo\n"
        "  bgan-video label --config video_folder data.root=my_videos",
    )
    _add_asking(sub)
    sub.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")


def _add_asking(parser: argparse.ArgumentParser) -> None:
    """What `suggest` and `label` share: whose videos, how many, chosen how, written where."""
    parser.add_argument("--config", help=f"{_CONFIG_FILE}, where there is no run yet")
    parser.add_argument("--budget", type=int, default=20, help="how many videos (default: 20)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"the CSV (default: suggestions.csv in the run, or {FIRST_LABELS})",
    )
    parser.add_argument(
        "--by",
        default="auto",
        help="typical, information, or auto: the first while labels are few (default: auto)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="RUN|key=value", help="a run's folder; settings"
    )


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings, such as train.steps=500"
    )
