"""Settings from YAML files and `key=value`, and back to YAML."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bgan_video import parsing
from bgan_video.config import recipes
from bgan_video.config.schema import Config
from bgan_video.errors import UserError
from bgan_video.files import read_lines

CHANGES = "changes.jsonl"
"""In a run's folder: what was changed when it was resumed, a line `{step, key, from, to}` each, and
what a roll-back changed, in one line `{step, after, what, settings}`."""

_LIKE_A_NUMBER = re.compile(r"[-+]?[0-9][0-9A-Za-z_:.]*")
_PLAIN_NUMBER = re.compile(
    r"-?(0|[1-9][0-9]*)|[-+]?[0-9]+(\.[0-9]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"
)


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
        merged = OmegaConf.merge(_read(file), OmegaConf.from_dotlist(_dot_list(overrides)))
        mapping: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the settings do not read: {reason}") from None
    config = from_mapping(_expanded(mapping))
    if config.features.length is not None:
        raise UserError(
            f"features.length={config.features.length} is never set by hand: the body of features "
            f"says it; leave it out"
        )
    return config


def read_yaml(path: Path) -> Any:
    """A YAML file, as OmegaConf has it; numbers are read where they are written in plain digits.

    Raises:
        OSError: It is not there, or is a number alone.
        UnicodeError: It is not UTF-8.
        YAMLError: It is not YAML.
    """
    return OmegaConf.load(io.StringIO(_as_written(path.read_text(encoding="utf-8"))))


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


def _expanded(value: Any) -> Any:
    """Paths with `~` written out, which a shell leaves as it is behind `key=`."""
    if isinstance(value, dict):
        return {key: _expanded(of) for key, of in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_expanded(entry) for entry in cast("list[Any]", value)]
    is_home = isinstance(value, str) and (value == "~" or value.startswith("~/"))
    return str(Path(value).expanduser()) if is_home else value


def _as_written(text: str) -> str:
    """YAML with quotes around 010, 1_000, 0x10 and 12:30, to which it gives values of its own.

    Nobody who writes `run.name=2024_01_15` means 20240115.
    """
    tokens: list[Any] = [*yaml.scan(text)]  # pyright: ignore[reportUnknownMemberType]
    for token in reversed(tokens):
        if not (isinstance(token, yaml.ScalarToken) and token.plain):
            continue
        word = token.value
        if _LIKE_A_NUMBER.fullmatch(word) and not _PLAIN_NUMBER.fullmatch(word):
            start, end = token.start_mark.index, token.end_mark.index
            text = f"{text[:start]}'{word}'{text[end:]}"
    return text


def _read(file: Path | str | None) -> Any:
    if file is None:
        return OmegaConf.create()
    path = recipes.find(file)
    try:
        loaded = read_yaml(path)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{path} does not read as YAML: {' '.join(str(error).split())}") from None
    if not OmegaConf.is_dict(loaded):
        raise UserError(f"{path} is not a mapping of sections such as 'train:'")
    return loaded


def _dot_list(overrides: Sequence[str]) -> list[str]:
    found: list[str] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"cannot read {override!r}; write key=value, such as train.steps=500")
        found.append(f"{key}={_as_written(value)}")
    return found
