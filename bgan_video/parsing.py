"""From a nested mapping to frozen dataclasses, with errors a person can act on.

Knows nothing of this project's settings: it reads the types and the `Annotated` bounds of whatever
dataclass it is given.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from bgan_video.errors import UserError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """Closed bounds of a number; `exclusive` leaves the lower bound itself out."""

    low: float = -math.inf
    high: float = math.inf
    exclusive: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.exclusive else value >= self.low
        return above and value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'>' if self.exclusive else '≥'} {self.low:g}"
        return f"in {'(' if self.exclusive else '['}{self.low:g}, {self.high:g}]"


def build(schema: type[T], mapping: Mapping[str, Any], path: str = "") -> T:
    """Build `schema` from `mapping`, recursively; missing keys take their defaults.

    Raises:
        UserError: An unknown key (the nearest known one is named) or a value out of type or range.
    """
    return _build(schema, mapping, path, keys(schema))


def _build(schema: type[T], mapping: Mapping[str, Any], path: str, known: list[str]) -> T:
    hints = get_type_hints(schema, include_extras=True)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{path}{key}"
        if key not in hints:
            raise UserError(_unknown(f"{name}={value!r}", str(key), path, hints, known))
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise UserError(f"{name} is a section of settings, not the value {value!r}")
            section = cast(Mapping[str, Any], value)
            values[key] = _build(hint, section, f"{name}.", known)  # pyright: ignore[reportArgumentType]
        else:
            values[key] = _convert(name, value, hint)
    return schema(**values)


def keys(schema: type[Any], path: str = "") -> list[str]:
    """Every dotted key of a schema."""
    dotted: list[str] = []
    for key, hint in get_type_hints(schema).items():
        name = f"{path}{key}"
        dotted.extend(keys(hint, f"{name}.") if dataclasses.is_dataclass(hint) else [name])  # pyright: ignore[reportArgumentType]
    return dotted


def _unknown(setting: str, key: str, path: str, hints: Mapping[str, Any], known: list[str]) -> str:
    """The nearest key of the same section, else one of that name elsewhere, else what there is."""
    near = [path + k for k in difflib.get_close_matches(key, list(hints), n=1, cutoff=0.6)]
    near = near or [k for k in known if k.rpartition(".")[2] == key]
    advice = f"did you mean {near[0]}?" if near else f"known here: {', '.join(hints)}"
    return f"unknown setting {setting}; {advice}"


def _convert(name: str, value: Any, hint: Any) -> Any:
    accepted, bounds = _unpack(hint)
    for kind in accepted:
        ok, converted = _try(value, kind)
        if not ok:
            continue
        is_number = isinstance(converted, (int, float))
        if bounds is not None and is_number and converted not in bounds:
            raise UserError(f"{name}={value!r} is out of range; allowed: {bounds}")
        return converted
    allowed = " or ".join(_describe(kind) for kind in accepted)
    is_other = str in accepted and isinstance(value, (float, bool))
    advice = "; quote it where it is text" if is_other else _nearest(value, accepted)
    raise UserError(f"{name}={value!r} is not valid; allowed: {allowed}{advice}")


def _unpack(hint: Any) -> tuple[tuple[Any, ...], Range | None]:
    """The alternatives of a type hint and its bounds, if it has any."""
    bounds = None
    if get_origin(hint) is Annotated:
        hint, bounds = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        members: list[Any] = []
        for member in get_args(hint):
            inner, inner_bounds = _unpack(member)
            members.extend(inner)
            bounds = bounds or inner_bounds
        return tuple(members), bounds
    return (hint,), bounds


def _try(value: Any, kind: Any) -> tuple[bool, Any]:
    if kind is type(None):
        return value is None, None
    if get_origin(kind) is Literal:
        return value in get_args(kind) and not isinstance(value, bool), value
    if get_origin(kind) is tuple:
        return _try_tuple(value, get_args(kind)[0])
    if kind is bool:
        return isinstance(value, bool), value
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number, float(value) if is_number else value
    if kind is str:
        # An unquoted 3 in YAML or on the command line is a number; a name may well be one.
        is_text = isinstance(value, (str, int)) and not isinstance(value, bool)
        return is_text, str(value)
    raise TypeError(f"the schema uses a type this parser does not read: {kind}")


def _try_tuple(value: Any, kind: Any) -> tuple[bool, Any]:
    """A list whose entries are all of one kind."""
    if not isinstance(value, (list, tuple)):
        return False, value
    tried = [_try(entry, kind) for entry in cast(list[Any], value)]
    return all(ok for ok, _ in tried), tuple(converted for _, converted in tried)


def _describe(kind: Any) -> str:
    if kind is type(None):
        return "null"
    if get_origin(kind) is tuple:
        return f"a list of {_describe(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _nearest(value: Any, accepted: tuple[Any, ...]) -> str:
    """The allowed word that a wrong one, or the first wrong one of a list, comes nearest to."""
    words: list[Any] = [value]
    kinds: list[Any] = []
    for kind in accepted:
        is_list = get_origin(kind) is tuple and isinstance(value, (list, tuple))
        kinds.append(get_args(kind)[0] if is_list else kind)
        words = list(cast(list[Any], value)) if is_list else words
    names = [str(a) for kind in kinds if get_origin(kind) is Literal for a in get_args(kind)]
    wrong = [str(word) for word in words if str(word) not in names]
    near = difflib.get_close_matches(wrong[0], names, n=1) if wrong else []
    return f"; did you mean {near[0]}?" if near else ""
