"""Settings from YAML files and `key=value`, and back to YAML."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bgan_video import parsing
from bgan_video.config import recipes
from bgan_video.config.schema import Config
from bgan_video.errors import UserError
from bgan_video.files import read_lines

CHANGES = "changes.jsonl"
"""In a run's folder: what was changed when it was resumed, a line `{step, key, from, to}` each, and
what a roll-back changed, in one line `{step, after, what, settings}`."""


def load(file: Path | str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read settings and apply `key=value` overrides.

    Args:
        file: A YAML file, or the name of a recipe such as `demo`; None for the defaults.
        overrides: Applied last.

    Raises:
        UserError: No such file or recipe, not YAML, an unknown key, a bad value, or settings that
            contradict each other.
    """
    try:
        merged = OmegaConf.merge(_read(file), OmegaConf.from_dotlist(_check_dotted(overrides)))
        mapping: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the settings do not read: {reason}") from None
    return from_mapping(_at_home(mapping))


def load_run(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings stored in a run's folder: those it began with, and what was changed since.

    Raises:
        UserError: The folder is not a run's, or an override does not serve.
    """
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} is not a run folder: it holds no config.yaml")
    changed = [
        override
        for change in read_lines(folder / CHANGES)
        for override in dotted(change.get("settings") or {change["key"]: change["to"]})
    ]
    return load(folder / "config.yaml", [*changed, *overrides])


def from_mapping(mapping: dict[str, Any]) -> Config:
    """The config a (possibly partial) nested mapping describes."""
    return parsing.build(Config, mapping)


def to_mapping(config: Config) -> dict[str, Any]:
    """The config as plain nested dicts."""
    return dataclasses.asdict(config)


def flat(config: Config) -> dict[str, Any]:
    """The values of a config by dotted key."""
    mapping = to_mapping(config)
    return {f"{part}.{key}": value for part in mapping for key, value in mapping[part].items()}


def dotted(settings: Mapping[str, Any]) -> list[str]:
    """Values by dotted key as `key=value`; JSON is the part of YAML that keeps every value's type.

    Characters stand as they are: YAML does not join the two halves in which JSON escapes some.
    """
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]


def to_yaml(config: Config) -> str:
    """The resolved config as YAML; `load` gives it back."""
    return OmegaConf.to_yaml(OmegaConf.create(to_mapping(config)))


def _at_home(settings: dict[str, Any]) -> dict[str, Any]:
    """Paths with `~` written out, which a shell leaves as it is behind `key=`."""
    return {key: _expanded(value) for key, value in settings.items()}


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        return _at_home(cast("dict[str, Any]", value))
    is_home = isinstance(value, str) and (value == "~" or value.startswith("~/"))
    return str(Path(value).expanduser()) if is_home else value


def _read(file: Path | str | None) -> Any:
    if file is None:
        return OmegaConf.create()
    path = recipes.find(file)
    try:
        loaded = OmegaConf.load(path)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path} does not read as YAML: {' '.join(str(error).split())}") from None
    if not OmegaConf.is_dict(loaded):
        raise UserError(f"{path} is not a mapping of sections such as 'train:'")
    return loaded


def _check_dotted(overrides: Sequence[str]) -> list[str]:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key:
            raise UserError(f"cannot read {override!r}; write key=value, such as train.steps=500")
    return list(overrides)
