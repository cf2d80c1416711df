"""Suggestions as plain files of Label Studio and FiftyOne, and the answers that come back.

Neither program is needed. The table of suggestions stays what a run reads: the files are another
look at it, and `read` says what to fill in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from bgan_video.acquisition.notes import NONE_OF_THESE, SKIPPED
from bgan_video.acquisition.suggestions import Suggestion
from bgan_video.data.spans import file_of
from bgan_video.data.texts import plain
from bgan_video.errors import UserError
from bgan_video.files import write_atomically

Format = Literal["csv", "label-studio", "fiftyone"]

_CHOICES, _VIDEO = "label", "video"
"""Names of the tags of Label Studio's interface, which its export repeats."""

_TRUTH = "ground_truth"
"""FiftyOne's own name of the field that a person's label stands in."""


def check_format(name: str) -> Format:
    """Raises UserError where there is no such format."""
    if name not in get_args(Format):
        raise UserError(f"--format={name}; allowed: {', '.join(get_args(Format))}")
    return name  # pyright: ignore[reportReturnType] - one of the literals


def write(
    to: Format, chosen: Sequence[Suggestion], table: Path, root: Path, classes: Sequence[str]
) -> list[Path]:
    """Write suggestions beside their table; what was written.

    Args:
        to: The format; of `csv` the table is all there is.
        chosen: The suggestions.
        table: Theirs, of whose name the files' are made.
        root: Folder that the videos' paths are relative to.
        classes: What a person may answer.
    """
    if to == "label-studio":
        return _write_label_studio(chosen, table, classes)
    return _write_fiftyone(chosen, table, root.absolute(), classes) if to == "fiftyone" else []


def _write_label_studio(
    chosen: Sequence[Suggestion], table: Path, classes: Sequence[str]
) -> list[Path]:
    """Tasks to import, with the model's guesses, and the interface to paste.

    https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions
    """
    tasks, interface = (table.with_suffix(f".label-studio.{end}") for end in ("json", "xml"))
    write_atomically(tasks, json.dumps([_task(s) for s in chosen], indent=1) + "\n")
    write_atomically(interface, _interface(classes))
    return [tasks, interface]


def _task(suggestion: Suggestion) -> dict[str, Any]:
    """A video by the address under which Label Studio serves a folder of this machine.

    Behind `#` stands the part that is meant, which browsers play alone.
    """
    file = file_of(suggestion.path)
    address = f"/data/local-files/?d={quote(file)}{suggestion.path[len(file) :]}"
    task: dict[str, Any] = {
        "data": {"video": address, "path": suggestion.path, "rank": suggestion.rank}
    }
    if suggestion.predicted is not None:
        guess = {
            "from_name": _CHOICES,
            "to_name": _VIDEO,
            "type": "choices",
            "value": {"choices": [suggestion.predicted]},
        }
        task["predictions"] = [
            {"model_version": "bgan_video", "score": suggestion.probability, "result": [guess]}
        ]
    return task


def _interface(classes: Sequence[str]) -> str:
    choices = "".join(
        f"    <Choice value={quoteattr(name)}/>\n" for name in [*classes, NONE_OF_THESE]
    )
    return (
        f'<View>\n  <Video name="{_VIDEO}" value="$video"/>\n'
        f'  <Choices name="{_CHOICES}" toName="{_VIDEO}" choice="single" required="true">\n'
        f"{choices}  </Choices>\n</View>\n"
    )


def _write_fiftyone(
    chosen: Sequence[Suggestion], table: Path, root: Path, classes: Sequence[str]
) -> list[Path]:
    """A folder for `fiftyone.types.FiftyOneDataset`, without what only its database knows.

    Metadata without a version make FiftyOne read samples one by one, as it wrote them before 0.8.
    """
    folder = table.with_suffix(".fiftyone")
    folder.mkdir(exist_ok=True)
    samples = [_sample(suggestion, root) for suggestion in chosen]
    info = {"info": {"classes": list(classes)}}
    write_atomically(folder / "metadata.json", json.dumps(info, indent=1) + "\n")
    write_atomically(folder / "samples.json", json.dumps({"samples": samples}, indent=1) + "\n")
    return [folder]


def _sample(suggestion: Suggestion, root: Path) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "filepath": str(root / file_of(suggestion.path)),
        "tags": [],
        "path": suggestion.path,
        "rank": suggestion.rank,
    }
    if suggestion.predicted is not None:
        sample["guess"] = {
            "_cls": "Classification",
            "tags": [],
            "label": suggestion.predicted,
            "confidence": suggestion.probability,
        }
    return sample


def read(file: Path) -> dict[str, str]:
    """What a person answered, by path, in the words of `answer_of`; both as a table has them.

    Args:
        file: Label Studio's export as JSON or JSON-MIN; FiftyOne's folder or its `samples.json`.

    Raises:
        UserError: It does not read, is neither, or answers twice for a video in different ways.
    """
    found = _json(file / "samples.json" if file.is_dir() else file)
    if isinstance(found, Mapping) and isinstance(found.get("samples"), list):
        answers = _of_fiftyone(found["samples"])
    elif isinstance(found, list):
        answers = _of_label_studio(found)
    else:
        raise UserError(f"{file} is neither Label Studio's JSON export nor FiftyOne's samples.json")
    given: dict[str, str] = {}
    try:
        for path, answer in ((plain(path), answer) for path, answer in answers):
            if given.setdefault(path, answer) != answer:
                both = " and ".join(a.removeprefix("label:") for a in (given[path], answer))
                raise UserError(f"{file}: {path} has the answers {both}; leave one of them")
    except (KeyError, TypeError, AttributeError, IndexError):
        raise UserError(
            f"{file} is not an export of what bgan-video suggest --format wrote: an item of it has "
            f"no path, or its label is no single class"
        ) from None
    return given


def _of_label_studio(tasks: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for task in tasks:
        if "data" not in task:  # JSON-MIN
            if task.get(_CHOICES):
                chosen = task[_CHOICES]
                (name,) = _single([chosen] if isinstance(chosen, str) else chosen["choices"])
                yield str(task["path"]), _answer(name)
            continue
        path = str(task["data"]["path"])
        for annotation in task.get("annotations", []):
            if annotation.get("was_cancelled"):
                yield path, SKIPPED
                continue
            for result in annotation["result"]:
                if result["from_name"] == _CHOICES:
                    (name,) = _single(result["value"]["choices"])
                    yield path, _answer(name)


def _of_fiftyone(samples: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """A label in `ground_truth`, or else the sample's one tag, which is what its App writes."""
    for sample in samples:
        labelled, tags = sample.get(_TRUTH), sample.get("tags") or []
        names = [labelled["label"]] if labelled else tags
        if names:
            (name,) = _single(names)
            yield str(sample["path"]), _answer(name)


def _single(names: Sequence[str]) -> Sequence[str]:
    if len(names) != 1:
        raise IndexError
    return names


def _answer(given: str) -> str:
    name = plain(given)
    return name if name in (NONE_OF_THESE, SKIPPED) else f"label:{name}"


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file} does not read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{file} does not read as JSON: {error}") from None
