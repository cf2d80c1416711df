"""The command line: `bgan-video <command>`; in a checkout `train_video.py` is its `train`.

Results go to standard output, progress to standard error. Exit code 0: done; 1: the program is at
fault; 2: what it was given does not serve, said in one line; 130 or 143: ended by Ctrl-C or
SIGTERM.

Commands import what they run when they run, so that `--help` and a mistyped setting answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bgan_video import config as config_module
from bgan_video.config import recipes
from bgan_video.errors import Stopped, UserError

_CONFIG_FILE = "a YAML file of settings, or the name of a recipe"
_CONFIG = f"{_CONFIG_FILE} (default: {recipes.DEFAULT})"
_AUTO = "auto"
_FIRST_LABELS = "labels.csv"
_RAW = argparse.RawDescriptionHelpFormatter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parse(arguments)
    try:
        options.command(options)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except Stopped as stopped:
        sys.stderr.write(f"{stopped}\n")
        return 128 + stopped.signal
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted; --resume continues a training run that has a folder; prepare, features "
            "and study go on when they are run again\n"
        )
        return 130
    return 0


def _train(options: argparse.Namespace) -> None:
    is_auto = options.resume == _AUTO
    if options.resume and (options.dry_run or (options.config and not is_auto)):
        raise UserError(
            "--resume RUN continues a run with its own settings; give neither --config nor "
            "--dry-run with it"
        )
    if options.resume and options.budget:
        raise UserError("--budget sets what a run begins with; --resume goes on with one")
    if options.resume and not is_auto:
        from bgan_video import api

        _say_result(api.resume(options.resume, options.overrides))
        return
    file = recipes.find(options.config or recipes.DEFAULT)
    config = config_module.load(file, options.overrides)
    from bgan_video import api

    if options.budget:
        kept = {word.partition("=")[0] for word in options.overrides}
        config = api.within(config, options.budget, kept)
    if options.dry_run:
        _say(api.plan(config))
        return
    train = api.train_or_resume if is_auto else api.train
    _say_result(train(config, file.stem))


def _check_data(options: argparse.Namespace) -> None:
    from bgan_video.data import check, check_text  # without networks: it begins twice as soon
    from bgan_video.training import console

    config = config_module.load(options.config or recipes.DEFAULT, options.overrides)
    checked = check.inspect(config, not options.no_read, console.progress)
    _say(json.dumps(dataclasses.asdict(checked)) if options.json else check_text.text(checked))


def _prepare(options: argparse.Namespace) -> None:
    config = config_module.load(options.config or recipes.DEFAULT, options.overrides)
    from bgan_video import api

    if options.verify:
        _say(f"{config.data.store}: all {api.verify(config)} videos are whole")
        return
    prepared = api.prepare(config)
    _say(json.dumps(dataclasses.asdict(prepared)) if options.json else str(prepared))


def _features(options: argparse.Namespace) -> None:
    config = config_module.load(options.config, options.overrides)
    from bgan_video import api

    if options.verify:
        _say(f"the features of all {api.verify_features(config)} videos are whole")
        return
    found = api.features(config)
    _say(json.dumps(dataclasses.asdict(found)) if options.json else str(found))


def _evaluate(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.reports import write_report

    run = api.load(options.run, options.overrides)
    split = "validation" if options.validation else run.final_split
    models = run.evaluate(split, options.renormalise)
    write_report(run.folder)
    if options.json:
        _say(json.dumps(models))
        return
    _say(api.comparison(models, split))
    if split == run.final_split:
        _say(api.recall_table(run.recall))


def _predict(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.prediction import outputs
    from bgan_video.prediction.video_files import Unreadable

    for path in options.paths:
        if not Path(path).exists():
            hint = "; settings stand behind --set" if "=" in path else ""
            raise UserError(f"{path}: no such file or folder{hint}")
    run = api.load(options.run, options.set)
    read, total = 0, 0
    for record in api.predict(run, options.paths, options.out, options.timeline):
        read, total = read + (not isinstance(record, Unreadable)), total + 1
        if options.json:
            _say(json.dumps(outputs.record(record, run.classes)))
        elif options.out:
            continue
        elif isinstance(record, Unreadable):
            _say(f"{record.path}: does not read: {record.error}")
        else:
            warning = "; unfamiliar: perhaps of none of these classes" if record.unfamiliar else ""
            _say(f"{record.path}: {_judgement(record, run.classes)}{warning}")
            for window in record.windows if len(record.windows) > 1 else []:
                place = f"frames {window.start}-{window.end - 1}"
                if window.start_seconds is not None:
                    place += f", {window.start_seconds:.1f}-{window.end_seconds:.1f} s"
                _say(f"  {place}: {_judgement(window, run.classes)}")
    if total and not read:
        raise UserError("none of the files reads")
    if options.out and not options.json:
        _say(f"{options.out}: {total} files added, {total - read} of them do not read")


def _judgement(record: Any, classes: Sequence[str]) -> str:
    p = record.probabilities
    best = _best(p)
    return (
        f"{classes[best]} {p[best]:.3f} (mutual information {record.mutual_information:.3f} nats"
        + ("" if record.p_fake is None else f", fake {record.p_fake:.3f}")
        + ")"
    )


def _best(probabilities: Sequence[float]) -> int:
    return probabilities.index(max(probabilities))


def _suggest(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.acquisition.suggestions import check_by
    from bgan_video.labelling.formats import check_format
    from bgan_video.reports import write_report

    how = (check_by(options.by), check_format(options.format))
    _check_table(options)
    run, overrides = _run_of(options)
    if run is None:
        file = options.out or Path(_FIRST_LABELS)
        config = config_module.load(options.config, overrides)
        chosen, files = api.suggest_first(config, options.budget, file, *how)
    else:
        chosen, files = api.suggest(api.load(run, overrides), options.budget, options.out, *how)
    if options.json:
        _say(json.dumps([dataclasses.asdict(suggestion) for suggestion in chosen]))
        return
    for s in chosen:
        _say(f"{s.rank:3d}  {s.path}{_guess(s)}")
    if run is not None and options.out is None:
        write_report(run)
    table, *others = files
    if others:
        _say(
            f"for {options.format}: {', '.join(map(str, others))}; bgan-video answers {table} "
            f"FILE brings the answers back"
        )
    _say(f"fill in the labels in {table}, then train with data.label_list={table}")


def _answers(options: argparse.Namespace) -> None:
    from bgan_video import api

    new, left = api.answers(options.table, options.file)
    _say(f"{options.table}: {new} suggestions answered now, {left} left open")


def _guess(s: Any) -> str:
    """What the model makes of a suggestion, and how many near-copies it has."""
    copies = f"  and {len(s.copies)} near-copies" if s.copies else ""
    if s.predicted is None:
        return copies
    return (
        f"  (perhaps {s.predicted}, {s.probability:.2f}; mutual information "
        f"{s.mutual_information:.3f} nats){copies}"
    )


def _label(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.acquisition.suggestions import check_by

    by = check_by(options.by)
    _check_table(options)
    run, overrides = _run_of(options)
    how = (options.budget, by, options.port)
    if run is None:
        api.label_first(options.config, overrides, options.out or Path(_FIRST_LABELS), *how)
    else:
        api.label(run, overrides, options.out, *how)


def _check_table(options: argparse.Namespace) -> None:
    if options.budget < 1:
        raise UserError(f"--budget={options.budget}; allowed: 1 and more")
    if options.out is not None and not options.out.parent.is_dir():
        raise UserError(f"--out={options.out}: its folder does not exist")


def _run_of(options: argparse.Namespace) -> tuple[Path | None, list[str]]:
    """The run that is meant, if one is, and the settings beside it."""
    runs = [word for word in options.overrides if "=" not in word or Path(word).is_dir()]
    overrides = [word for word in options.overrides if word not in runs]
    if len(runs) + (options.config is not None) != 1:
        given = ", ".join(runs) or "neither"
        raise UserError(f"give a run's folder, or --config for the first labels; given: {given}")
    return (Path(runs[0]) if runs else None), overrides


def _export(options: argparse.Namespace) -> None:
    from bgan_video import api

    where = ["run.device=cpu", "run.precision=fp32"] if options.to in ("torch", "onnx") else []
    run = api.load(options.run, [*where, *options.overrides])
    _say(str(api.export(run, options.to, options.out)))


def _sample(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.reports import write_report

    if options.count < 1:
        raise UserError(f"--count={options.count}; allowed: 1 and more")
    if options.extractor and not options.quality:
        raise UserError("--extractor names the features of --quality; give both")
    run = api.load(options.run, options.overrides)
    if options.quality:
        where = [override for override in options.overrides if override.startswith("run.")]
        judge = api.load(options.extractor, where) if options.extractor else None
        api.measure(run, judge, options.select)
        write_report(run.folder)
        _say((run.folder / "quality.json").read_text(encoding="utf-8").rstrip())
        return
    out = options.out or run.folder / "samples"
    if not out.is_dir():
        raise UserError(f"--out={out} is not a folder")
    for file in api.sample(run, options.count, out, options.select):
        _say(str(file))


def _report(options: argparse.Namespace) -> None:
    from bgan_video.reports import write_report

    _say(str(write_report(options.run)))


def _study(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.reports import study_summary

    given = (recipes.find(options.file), options.out, options.overrides)
    if options.dry_run:
        states = api.study_states(*given)
        done = sum(state == "finished" for state in states.values())
        lines = [f"{state:12}{name}" for name, state in states.items()]
        lines.append(f"{len(states)} cells, {done} of them finished")
        _say(json.dumps(states) if options.json else "\n".join(lines))
        return
    summary = (
        api.study_report(*given) if options.report else api.study(*given, options.keep_weights)
    )
    _say(json.dumps(summary.to_mapping()) if options.json else study_summary.text(summary))
    if summary.missing and not options.report:
        sys.stderr.write(f"other processes still run {', '.join(summary.missing)}\n")
    if summary.failed:
        raise UserError(f"{len(summary.failed)} of {summary.planned} cells failed")


def _recipes(options: argparse.Namespace) -> None:
    shipped = recipes.recipes()
    if options.json:
        _say(json.dumps([dataclasses.asdict(r) | {"path": str(r.path)} for r in shipped]))
        return
    wide = max((len(recipe.name) for recipe in shipped), default=0)
    for recipe in shipped:
        _say(f"{recipe.name:{wide}}  {recipe.summary}")


def _say_result(result: Any) -> None:
    from bgan_video import ranks

    if ranks.is_first():
        _say(str(result))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse, with `key=value` before, between and behind the options of commands that take them."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    strange = [word for word in rest if word.startswith("-") or "overrides" not in options]
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bgan-video",
        description="Semi-supervised video classification with Bayesian GANs.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def add(
        name: str, run: Any, text: str, examples: str, to: Any = commands
    ) -> argparse.ArgumentParser:
        sub = to.add_parser(
            name, help=text, description=text, epilog=f"examples:\n{examples}", formatter_class=_RAW
        )
        sub.set_defaults(command=run)
        return sub

    sub = add(
        "recipes",
        _recipes,
        "The recipes that come with the package: what --config and the command study find by name.",
        "  bgan-video recipes\n  bgan-video train --config weizmann4 data.root=weizmann4",
    )
    sub.add_argument("--json", action="store_true", help="print names, paths and summaries as JSON")

    sub = add(
        "train",
        _train,
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

    data = commands.add_parser("data", help="Look at a data set before training on it.")
    sub = add(
        "check",
        _check_data,
        "Counts by split, class and group, lengths, and everything that is wrong with the videos. "
        "What is found is no failure: the exit code is 0.",
        "  bgan-video data check --config ucf101 data.root=UCF-101",
        to=data.add_subparsers(required=True, metavar="action"),
    )
    sub.add_argument("--config", help=_CONFIG)
    sub.add_argument("--no-read", action="store_true", help="do not decode the files")
    sub.add_argument("--json", action="store_true", help="print everything as JSON")
    _add_overrides(sub)

    sub = add(
        "prepare",
        _prepare,
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

    sub = add(
        "features",
        _features,
        "Run a frozen pretrained body once over every video and keep the features of its clips; "
        "goes on after a kill.",
        "  bgan-video features --config configs/ucf101.yaml data.root=UCF-101\n"
        "  bgan-video features --config configs/ucf101.yaml data.root=UCF-101 --verify",
    )
    sub.add_argument("--config", help="a YAML file of settings (default: the built-in ones)")
    sub.add_argument("--verify", action="store_true", help="compare the store with its checksums")
    sub.add_argument("--json", action="store_true", help="print the outcome as JSON")
    _add_overrides(sub)

    sub = add(
        "evaluate",
        _evaluate,
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

    sub = add(
        "predict",
        _predict,
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

    sub = add(
        "suggest",
        _suggest,
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

    sub = add(
        "answers",
        _answers,
        "Fill a table of suggestions in with what was answered in Label Studio or FiftyOne.",
        "  bgan-video answers runs/demo/suggestions.csv project.json",
    )
    sub.add_argument("table", type=Path, help="the CSV that suggest wrote")
    sub.add_argument(
        "file", type=Path, help="Label Studio's JSON export, or FiftyOne's folder or samples.json"
    )

    sub = add(
        "label",
        _label,
        "A local page that shows the videos to label next, or first, and keeps each answer.",
        "  bgan-video label runs/demo\n"
        "  bgan-video label --config video_folder data.root=my_videos",
    )
    _add_asking(sub)
    sub.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")

    sub = add(
        "sample",
        _sample,
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
        type=Path,
        metavar="RUN",
        help="the run whose supervised network makes the features (default: the run itself)",
    )
    sub.add_argument(
        "--select",
        action="store_true",
        help="choose items among 32 times as many by what the run learned of looks",
    )
    _add_overrides(sub)

    sub = add(
        "export",
        _export,
        "All networks of a run as one program from a clip's bytes to what the run says of it, or "
        "a folder for a model hub.",
        "  bgan-video export runs/demo --to torch\n  bgan-video export runs/demo --to hub",
    )
    sub.add_argument("run", type=Path, help="the run's folder")
    sub.add_argument("--to", required=True, help="torch (torch.export), onnx, or hub")
    sub.add_argument("--out", type=Path, help="file, or hub folder (default: export in the run)")
    _add_overrides(sub)

    sub = add(
        "report",
        _report,
        "Write report.html from what the run's folder holds.",
        "  bgan-video report runs/demo",
    )
    sub.add_argument("run", type=Path, help="the run's folder")

    sub = add(
        "study",
        _study,
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
    return parser


def _add_asking(parser: argparse.ArgumentParser) -> None:
    """What `suggest` and `label` share: whose videos, how many, chosen how, written where."""
    parser.add_argument("--config", help=f"{_CONFIG_FILE}, where there is no run yet")
    parser.add_argument("--budget", type=int, default=20, help="how many videos (default: 20)")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"the CSV (default: suggestions.csv in the run, or {_FIRST_LABELS})",
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


if __name__ == "__main__":
    sys.exit(main())
