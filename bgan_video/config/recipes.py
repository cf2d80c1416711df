"""The recipes that come with the package, found by name; a path of one's own serves as well."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from bgan_video.errors import UserError

DEFAULT = "demo"
_PACKAGE = Path(__file__).parent.parent
_INSTALLED = _PACKAGE / "configs"
# Of an editable install or a checkout it is the repository's own folder, so that none is stale.
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"


@dataclass(frozen=True)
class Recipe:
    """A file of settings, or (in `studies/`) of a study."""

    name: str
    """What `--config` finds it by, or the command `study`, such as `image/cifar10`."""
    path: Path
    summary: str
    """The first sentence of its comment."""


def recipes() -> list[Recipe]:
    """All that come with the package, by name, those of studies last."""
    found = [Recipe(_name(path), path, _summary(path)) for path in FOLDER.rglob("*.yaml")]
    return sorted(found, key=lambda recipe: (recipe.name.startswith("studies/"), recipe.name))


def find(given: Path | str) -> Path:
    """The file at a path or, where there is none, the recipe of that name.

    Raises:
        UserError: Neither; names the nearest recipe, or the files beside the path.
    """
    path = Path(given)
    if path.is_file():
        return path
    names = {_name(file): file for file in FOLDER.rglob("*.yaml")}
    name = path.as_posix()
    if name in names:
        return names[name]
    if path.suffix in (".yaml", ".yml"):
        beside = sorted(map(str, path.parent.glob("*.yaml")))
        there = f"in its folder: {', '.join(beside) or 'no YAML file'}"
    else:
        there = f"recipes: {', '.join(sorted(names)) or 'none'}"
        near = difflib.get_close_matches(name, names, n=1)
        near = near or [known for known in sorted(names) if known.rpartition("/")[2] == name]
        there = f"did you mean {near[0]}?" if near else there
    raise UserError(f"no config file {path}; {there}")


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def _summary(path: Path) -> str:
    comment: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return re.split(r"(?<=\.) (?=[A-Z])", " ".join(comment), maxsplit=1)[0]
