"""A study file, read into the cells of its grid; every cell's settings are checked here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bgan_video import config as config_module
from bgan_video.config import FEATURES, LABEL_CHOICES, Config, Method, dotted
from bgan_video.errors import UserError

METHODS = get_args(Method)
METHOD_LIST = "baseline.methods"
LABEL_KEYS = tuple(f"data.{key}" for key in LABEL_CHOICES)
# What the grid itself sets in every cell.
_OF_THE_GRID = (
    "run.seed",
    "run.name",
    "run.dir",
    "data.fold",
    "data.label_seed",
    *LABEL_KEYS,
)
_SECTIONS = ("config", "settings", "methods", "labels", "folds", "seeds", "reference")
_REQUIRED = ("config", "methods", "labels")


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    method: str
    labels: str
    """The label setting in a word: a number, `all`, or the stem of a list's file."""
    fold: int
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Of the run, its folder and the files beside it."""
        return f"{self.method}-{self.labels}-fold{self.fold}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """A checked study."""

    name: str
    text: str
    """The study file as it is written."""
    overrides: tuple[str, ...]
    out: Path
    base: Config
    """What the file's `config` says, before any setting of the study."""
    methods: tuple[str, ...]
    label_key: str
    labels: tuple[str, ...]
    reference: str
    """What the others are compared with; by default the first method."""
    cells: tuple[Cell, ...]
    """In the order in which they run: the first seed's whole grid comes first."""

    @property
    def split(self) -> str:
        """What every cell is to be judged on; validation where its data have no test part."""
        return self.cells[0].config.train.final_split

    @property
    def cells_folder(self) -> Path:
        """Where the run folders are."""
        return self.out / "cells"


def read(file: Path, out: Path | None = None, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, and build and check the settings of every cell.

    Args:
        file: The study file; its `config` is relative to it, all other paths are as in a recipe.
        out: The study's folder; by default `studies/<file's stem>`.
        overrides: `key=value` for all cells, over the file's `settings`.

    Raises:
        UserError: Names the file, the key, and what is allowed.
    """
    try:
        return _read(file, out or Path("studies") / file.stem, overrides)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def method_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a method, with the one method that its runs train.

    A name the project knows is that method; any other is a variant of the Bayesian GAN. So is the
    cold GAN, which beside the Bayesian one branches off from it: alone, it is that at T = 0.
    """
    if name == "cold_gan":
        return {METHOD_LIST: ["bayesian_gan"], "posterior.temperature": 0, **settings}
    return {METHOD_LIST: [name if name in METHODS else "bayesian_gan"], **settings}


def _read(file: Path, out: Path, overrides: Sequence[str]) -> Study:
    content = _load(file)
    methods = {name: _settings(f"methods.{name}", s) for name, s in _methods(content).items()}
    for name in (name for name, own in methods.items() if not own and name not in METHODS):
        raise UserError(
            f"methods.{name}: neither a method ({', '.join(METHODS)}) nor, without any setting, a "
            f"variant of bayesian_gan"
        )
    shared = _settings("settings", content.get("settings") or {})
    label_key, label_values = _labels(content)
    folds, seeds = _numbers(content, "folds", 1), _numbers(content, "seeds", 0)
    reference = str(content.get("reference", next(iter(methods))))
    if reference not in methods:
        raise UserError(f"reference={reference}; allowed: {', '.join(methods)}")
    _check_overrides(overrides, methods)
    recipe = file.parent / str(content["config"])
    common = [*dotted(shared), *overrides]
    cells = []
    for seed, value, fold, method in product(seeds, label_values, folds, methods):
        grid = {key: value if key == label_key else None for key in LABEL_KEYS}
        grid |= {"data.fold": fold, "data.label_seed": seed, "run.seed": seed}
        cell = (method, label_text(value), fold, seed)
        grid |= {"run.dir": str(out / "cells"), "run.name": Cell(*cell, Config()).name}
        settings = [*common, *dotted(method_settings(method, methods[method])), *dotted(grid)]
        cells.append(Cell(*cell, _config(recipe, settings, f"{method}, {label_key}={value}")))
    _check_cold(cells)
    _check_names(cells)
    _check_split(cells)
    return Study(
        name=file.stem,
        text=file.read_text(encoding="utf-8"),
        overrides=tuple(overrides),
        out=out,
        base=config_module.load(recipe),
        methods=tuple(methods),
        label_key=label_key,
        labels=tuple(map(label_text, label_values)),
        reference=reference,
        cells=tuple(cells),
    )


def label_text(value: Any) -> str:
    """A label setting in a word that can stand in a file's name."""
    if value is None:
        return "all"
    return Path(value).stem if isinstance(value, str) else str(value)


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError("no such study file")
    try:
        content: Any = OmegaConf.to_container(config_module.read_yaml(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeError) as error:
        raise UserError(f"does not read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError("is not a mapping of keys such as 'methods:'")
    unknown = [str(key) for key in content if key not in _SECTIONS]
    missing = [key for key in _REQUIRED if content.get(key) is None]
    if unknown:
        raise UserError(f"unknown key {unknown[0]}; allowed: {', '.join(_SECTIONS)}")
    if missing:
        raise UserError(f"{missing[0]} is missing; a study needs {', '.join(_REQUIRED)}")
    return content


def _methods(content: Mapping[str, Any]) -> dict[str, Any]:
    methods = content["methods"]
    if not isinstance(methods, dict) or not methods:
        raise UserError("methods: write a name and its settings a line, such as 'supervised: {}'")
    named = {str(name): settings or {} for name, settings in methods.items()}
    for name in named:
        if not re.fullmatch(r"\w[\w.+]*", name):
            raise UserError(f"methods: {name!r} names a folder; use letters, digits, _ . and +")
    return named


def _settings(where: str, settings: Any) -> dict[str, Any]:
    """A mapping of dotted keys to values that the grid does not set itself."""
    if not isinstance(settings, dict):
        raise UserError(f"{where}={settings!r}; write dotted keys, such as {{train.steps: 300}}")
    for key, value in settings.items():
        # A label key set to null is what the grid makes of it too.
        if key in _OF_THE_GRID and not (key in LABEL_KEYS and value is None):
            raise UserError(f"{where}: {key} is set by the grid: labels, folds, seeds or --out")
        if isinstance(value, dict):
            raise UserError(f"{where}: {key} is a section; write dotted keys, such as train.steps")
    trained = settings.get(METHOD_LIST, [None])
    if not isinstance(trained, list) or len(trained) != 1:
        raise UserError(f"{where}: {METHOD_LIST}={trained!r}; allowed: a list of one method")
    return settings


def _labels(content: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The key that chooses the labels, and its values."""
    labels = content["labels"]
    if not isinstance(labels, dict) or len(labels) != 1 or next(iter(labels)) not in LABEL_KEYS:
        raise UserError(f"labels={labels!r}; write one of {', '.join(LABEL_KEYS)} and its values")
    ((key, values),) = labels.items()
    _check_list(f"labels: {key}", values)
    for value in values:
        if value == 0:
            raise UserError(f"labels: {key}=0: without labels there are no figures to compare")
        if key == "data.label_list" and value is not None and not Path(str(value)).is_file():
            raise UserError(f"labels: {key}={value}: no such file")
    return key, values


def _numbers(content: Mapping[str, Any], key: str, least: int) -> list[int]:
    values = content.get(key, [least])
    _check_list(key, values)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{key}: {value!r}; allowed: whole numbers from {least}")
    return values


def _check_list(where: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}={values!r}; write a list of values, such as [1, 2]")
    repeated = [value for value, count in Counter(map(str, values)).items() if count > 1]
    if repeated:
        raise UserError(f"{where}: {repeated[0]} is there twice")


def _check_overrides(overrides: Sequence[str], methods: Mapping[str, Mapping[str, Any]]) -> None:
    """What tells the cells apart cannot be the same for all."""
    of_methods = {key for settings in methods.values() for key in settings} | {METHOD_LIST}
    for key in (override.partition("=")[0] for override in overrides):
        if key in _OF_THE_GRID or key in of_methods:
            raise UserError(f"{key} differs between the study's cells; change it in the file")


def _check_cold(cells: Sequence[Cell]) -> None:
    """Bodies of features have a temperature of their own."""
    for c in (cell.config for cell in cells if cell.method == "cold_gan"):
        of_features = [name for name in c.discriminator.bodies if name.startswith(FEATURES)]
        if of_features and c.features.temperature > 0:
            raise UserError(
                f"methods.cold_gan: {of_features[0]} samples at features.temperature="
                f"{c.features.temperature:g}, which is not cold; write 'cold_gan: "
                f"{{features.temperature: 0}}'"
            )


def _check_split(cells: Sequence[Cell]) -> None:
    """Figures of test and of validation do not compare."""
    splits = {cell.config.train.final_split for cell in cells}
    if len(splits) > 1:
        raise UserError(
            "train.final_split is test in some cells and validation in others; set it once, in "
            "settings"
        )


def _check_names(cells: Sequence[Cell]) -> None:
    repeated = [name for name, count in Counter(c.name for c in cells).items() if count > 1]
    if repeated:
        raise UserError(f"two cells are called {repeated[0]}; label lists need names of their own")


def _config(recipe: Path, settings: Sequence[str], cell: str) -> Config:
    try:
        return config_module.load(recipe, settings)
    except UserError as error:
        raise UserError(f"{cell}: {error}") from None
