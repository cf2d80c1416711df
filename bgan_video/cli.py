"""The command line: `bgan-video <command>`; in a checkout `train_video.py` is its `train`.

Results go to standard output, progress to standard error. Exit code 0: done; 1: the program is at
fault; 2: what it was given does not serve, said in one line; 130 or 143: ended by Ctrl-C or
SIGTERM; 141: nobody reads the results any more.

Commands import what they run when they run, so that `--help` and a mistyped setting answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bgan_video import arguments, launcher
from bgan_video import config as config_module
from bgan_video.config import recipes
from bgan_video.errors import Stopped, UserError
from bgan_video.files import written

_AUTO = "auto"
# Commands that several processes do together (see `ranks`).
_SHARED = ("train", "evaluate", "features")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = arguments.parse(words)
    try:
        _check_given(options)
        if launcher.launched() > 1:
            _check_shares(options)
        _COMMANDS[options.command](options)
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


def _check_given(options: argparse.Namespace) -> None:
    """Raises UserError where a word is empty, as `"$RUN"` is whose variable nobody set."""
    for name in ("config", "resume", "budget", "extractor"):
        if getattr(options, name, None) == "":
            raise UserError(f"--{name} is followed by an empty word; name what is meant")


def _check_shares(options: argparse.Namespace) -> None:
    """Raises UserError where `torchrun` started what one process does."""
    command, verifies = options.command, getattr(options, "verify", False)
    if command in _SHARED and not verifies:
        return
    workers = "; its workers are data.num_workers" if command == "prepare" else ""
    raise UserError(
        f"{command}{' --verify' if verifies else ''} runs in one process{workers}; start it "
        f"without torchrun (WORLD_SIZE={launcher.launched()}), which is for "
        f"{', '.join(_SHARED)}"
    )


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

        _say_of_first(str(api.resume(options.resume, options.overrides)))
        return
    file = recipes.find(options.config or recipes.DEFAULT)
    config = config_module.load(file, options.overrides)
    from bgan_video import api

    if options.budget:
        kept = {word.partition("=")[0] for word in options.overrides}
        config = api.within(config, options.budget, kept)
    if options.dry_run:
        if launcher.is_first():  # the plan of one is that of all
            _say(api.plan(config))
        return
    train = api.train_or_resume if is_auto else api.train
    _say_of_first(str(train(config, file.stem)))


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
        for body, videos in api.verify_features(config).items():
            _say(f"{body}: the features of all {videos} videos are whole")
        return
    for found in api.features(config):
        _say_of_first(json.dumps(dataclasses.asdict(found)) if options.json else str(found))


def _evaluate(options: argparse.Namespace) -> None:
    from bgan_video import api, ranks
    from bgan_video.backend import on_cuda
    from bgan_video.reports import write_report

    settings = config_module.load_run(options.run, options.overrides)
    with ranks.joined(on_cuda(settings.run)):
        run = api.load(options.run, options.overrides)
        split = "validation" if options.validation else run.final_split
        models = run.evaluate(split, options.renormalise)
    if not launcher.is_first():
        return
    write_report(run.folder)
    if options.json:
        _say(json.dumps(models))
        return
    is_final = split == run.final_split
    _say(api.comparison(models, split, run.body_figures if is_final else {}))
    if is_final:
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
            alone = "".join(_alone(*of, run.classes) for of in record.bodies.items())
            _say(f"{record.path}: {_judgement(record, run.classes)}{alone}{warning}")
            for window in record.windows if len(record.windows) > 1 else []:
                place = f"frames {window.start}-{window.end - 1}"
                if window.start_seconds is not None:
                    place += f", {window.start_seconds:.1f}-{window.end_seconds:.1f} s"
                _say(f"  {place}: {_judgement(window, run.classes)}")
    if not read and total == len(run.files(options.paths)):  # none of them before either
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


def _alone(body: str, p: Sequence[float], classes: Sequence[str]) -> str:
    """What one of several bodies says, behind their common answer."""
    best = _best(p)
    return f"; {body}: {classes[best]} {p[best]:.3f}"


def _best(probabilities: Sequence[float]) -> int:
    return probabilities.index(max(probabilities))


def _suggest(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.acquisition.suggestions import check_by, settings_of
    from bgan_video.labelling.formats import check_format
    from bgan_video.reports import write_report

    how = (check_by(options.by), check_format(options.format))
    _check_table(options)
    run, overrides = _run_of(options)
    if run is None:
        file = options.out or Path(arguments.FIRST_LABELS)
        config = config_module.load(options.config, overrides)
        chosen, files = api.suggest_first(config, options.budget, file, *how)
    else:
        trained = api.load(run, overrides)
        config = trained.config
        chosen, files = api.suggest(trained, options.budget, options.out, *how)
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
    _say(
        f"fill in the labels in {table}, then train with "
        f"{shlex.join(settings_of(table, config.data))}"
    )


def _answers(options: argparse.Namespace) -> None:
    from bgan_video import api

    new, left = api.answers(options.table, options.file)
    _say(f"{options.table}: {new} suggestions answered now, {left} left open")


def _guess(s: Any) -> str:
    """What the model makes of a suggestion, and how many near-copies it has."""
    copies = f"  and {len(s.copies)} near-copies" if s.copies else ""
    if s.predicted is None:
        return copies
    bodies = "".join(f"; {g.body}: {g.predicted}, {g.probability:.2f}" for g in s.bodies)
    return (
        f"  (perhaps {s.predicted}, {s.probability:.2f}; mutual information "
        f"{s.mutual_information:.3f} nats{bodies}){copies}"
    )


def _label(options: argparse.Namespace) -> None:
    from bgan_video import api
    from bgan_video.acquisition.suggestions import check_by

    by = check_by(options.by)
    _check_table(options)
    run, overrides = _run_of(options)
    how = (options.budget, by, options.port)
    if run is None:
        api.label_first(
            options.config, overrides, options.out or Path(arguments.FIRST_LABELS), *how
        )
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
    from bgan_video.prediction import extractors
    from bgan_video.reports import write_report
    from bgan_video.training import console

    if options.count < 1:
        raise UserError(f"--count={options.count}; allowed: 1 and more")
    if options.extractor and not options.quality:
        raise UserError("--extractor names the features of --quality; give both")
    run = api.load(options.run, options.overrides)
    if options.quality:
        where = [override for override in options.overrides if override.startswith("run.")]
        judge = extractors.named(run, options.extractor, where) if options.extractor else None
        _, looks = api.measure(run, judge, options.select, console.progress)
        if looks.num_classes is None:
            sys.stderr.write("these features tell no classes: their figures are null\n")
        api.show_beside(run, options.select)
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


def _say_of_first(text: str) -> None:
    if launcher.is_first():
        _say(text)


def _say(text: str) -> None:
    try:
        sys.stdout.write(written(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `head` has read enough; Python flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


_COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "recipes": _recipes,
    "train": _train,
    "check": _check_data,
    "prepare": _prepare,
    "features": _features,
    "evaluate": _evaluate,
    "predict": _predict,
    "suggest": _suggest,
    "answers": _answers,
    "label": _label,
    "sample": _sample,
    "export": _export,
    "report": _report,
    "study": _study,
}


if __name__ == "__main__":
    sys.exit(main())
