"""The run's folder: made for a new run, opened again for a resumed one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bgan_video import config as config_module
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data import layouts, segments, splits
from bgan_video.data.frames import Broken, Frames, check_broken, max_broken, survey
from bgan_video.data.labels import choice
from bgan_video.data.manifest import Manifest
from bgan_video.data.reading import say_stand_in
from bgan_video.data.tables import table_files
from bgan_video.errors import UserError
from bgan_video.files import held_alone, write_atomically
from bgan_video.method.rounds import check_prior
from bgan_video.models.weights import PACKAGED, file_digest
from bgan_video.training import changes, console
from bgan_video.video.decoders import in_use

_LOCK = "lock"
_PACKAGES = ("bgan_video", "torch", "torchvision", "av", "decord", "timm", "numpy")


def settle(config: Config, default_name: str) -> Config:
    """The settings as they are stored: a free name, and paths that hold wherever it is resumed.

    Raises:
        UserError: The name was chosen, and is taken.
    """
    return _named(anchored(config), default_name)


def anchored(config: Config) -> Config:
    """The settings with paths that hold wherever the run is resumed."""
    d = config.data
    data = dataclasses.replace(
        d,
        root=_absolute(d.root),
        table=tuple(str(Path(t).absolute()) for t in table_files(d)) or None,
        lists=_absolute(d.lists),
        store=_absolute(d.store),
        label_list=_absolute(d.label_list),
        groups=_absolute(d.groups) if d.groups and d.groups.endswith(".csv") else d.groups,
    )
    f, discriminator = config.features, config.discriminator
    discriminator = dataclasses.replace(discriminator, weights=_weights(discriminator.weights))
    features = dataclasses.replace(f, weights=_weights(f.weights), store=_absolute(f.store))
    return dataclasses.replace(config, data=data, discriminator=discriminator, features=features)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _weights(source: str | None) -> str | None:
    return source if source in PACKAGED else _absolute(source)


def _named(config: Config, default: str) -> Config:
    if config.run.name is not None:
        if config.run_dir.exists():
            is_run = (config.run_dir / "config.yaml").is_file()
            way = f"continue it with --resume {config.run_dir}" if is_run else "remove it"
            raise UserError(f"{config.run_dir} exists already; {way}, or choose another run.name")
        return config
    names = [default, *(f"{default}-{number}" for number in range(2, 10_000))]
    free = next(name for name in names if not (Path(config.run.dir) / name).exists())
    return config.named(free)


def claim(folder: Path, held: ExitStack) -> None:
    """Be the only process that writes into a run's folder, until `held` is closed or this dies.

    Raises:
        UserError: Another process writes into it, or nobody may.
    """
    try:
        held.enter_context(held_alone(folder / _LOCK))
    except BlockingIOError:
        raise UserError(
            f"another process is at work in {folder}; wait for its end, or stop it"
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None


def create(
    config: Config,
    backend: Backend,
    manifest: Manifest,
    broken: Sequence[Broken],
    held: ExitStack,
) -> Path:
    """Make the folder, once it is known that the run can start, and claim it.

    It is made under a name that starts with a dot and renamed: a run is there whole, and can be
    resumed, or is not there. What a kill left under that name is used.

    Raises:
        UserError: The folder cannot be written, or another process makes it.
    """
    folder = config.run_dir
    begun = folder.with_name(f".{folder.name}.new")
    environment = {
        "run": secrets.token_hex(16),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(backend.device),
        "hardware": backend.hardware,
        "precision": backend.precision,
        "threads": torch.get_num_threads(),
        "decoder": in_use(config.data.decoder),
        "packages": {name: version(name) for name in _PACKAGES if _installed(name)},
    }
    if (weights := config.discriminator.weights) is not None:
        environment["discriminator.weights"] = file_digest(weights)
    lines = [json.dumps(record._asdict()) + "\n" for record in broken]
    try:
        for name in ("samples", "checkpoints", "posterior", "predictions"):
            (begun / name).mkdir(parents=True, exist_ok=True)
        claim(begun, held)
        write_atomically(begun / "environment.json", json.dumps(environment, indent=2) + "\n")
        write_atomically(begun / "broken.jsonl", "".join(lines))
        write_atomically(begun / "manifest.json", manifest.to_json())
        write_atomically(begun / "config.yaml", config_module.to_yaml(config))
        begun.rename(folder)
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from None
    return folder


def identity(folder: Path) -> str:
    """What tells a run from others: the settings it began with, its items, and chance."""
    parts = [(folder / name).read_bytes() for name in ("config.yaml", "manifest.json")]
    if (drawn := _environment(folder).get("run")) is not None:  # runs from before it go on
        parts.append(drawn.encode())
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def open_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """The settings that a run goes on with (see `changes`).

    Raises:
        UserError: The folder is not a run's, or an override changes what may not change.
    """
    changes.check_allowed(overrides)
    config = config_module.load_run(folder, overrides)
    changes.check_lowered(config_module.load_run(folder), config)
    # The folder may have been moved or copied since.
    resolved = folder.resolve()
    mapping = config_module.to_mapping(config)
    mapping["run"] |= {"name": resolved.name, "dir": str(resolved.parent)}
    return config_module.from_mapping(mapping)


def prepare_data(config: Config) -> tuple[Manifest, list[Broken], Frames]:
    """Find, read and split the videos.

    Raises:
        UserError: The data do not serve the settings.
    """
    listed = layouts.read(config.data)
    if config.data.store is None:
        say_stand_in(config.data.decoder, console.say)
    frames = Frames(listed.root, config)
    readable, broken = survey(listed, frames, config, console.progress)
    manifest = splits.split(readable, config.data, first_labels=config.compat.first_labels)
    if config.spatial_dims == 3:
        manifest, empty = segments.cut(manifest, frames, config)
        broken += empty
        check_broken(broken, len(listed.items), config)
    check_prior(config.rounds, manifest.num_classes)
    if not manifest.labelled and not config.is_unsupervised:
        raise UserError(
            f"none of the training {config.items} of {listed.root} is labelled and readable in "
            f"fold {config.data.fold} ({len(broken)} broken of {len(listed.items)} listed)"
        )
    if broken:
        most = max_broken(config, len(listed.items))
        console.say(
            f"left out {len(broken)} broken {config.items}; broken.jsonl lists them (up to {most} "
            f"of {len(listed.items)} may be: data.max_broken)"
        )
    for remark in choice.remarks(manifest, config.data):
        console.say(f"note: {remark}")
    return manifest, broken, frames


def check_unchanged(folder: Path, manifest: Manifest, backend: Backend) -> None:
    """Raises UserError where a run's videos or device are not those it began with."""
    environment = _environment(folder)
    for name, now in (("device", str(backend.device)), ("precision", backend.precision)):
        if environment[name] != now:
            raise UserError(f"{folder} began on {name} {environment[name]}, this is {now}")
    if environment["threads"] != torch.get_num_threads():
        console.say(
            f"{folder} began with {environment['threads']} threads, this process has "
            f"{torch.get_num_threads()}: the run goes on, but not bit for bit as it would have"
        )
    path = folder / "manifest.json"
    began = Manifest.from_json(path.read_text(encoding="utf-8"))
    if began.items == manifest.items:
        return
    files, now = ({i.path: i.fingerprint for i in m.items} for m in (began, manifest))
    other = sorted(path for path, _ in files.items() ^ now.items())
    if not other:
        raise UserError(
            f"the labels are not those {path} was written for; start a new run with the new ones, "
            f"or bring the old data.label_list back"
        )
    raise UserError(
        f"the data in {manifest.root} are not those {path} was written for: {other[0]} is another "
        f"file, new or gone; start a new run, or bring the old files back"
    )


def check_weights(folder: Path, config: Config) -> None:
    """Raises UserError where the file of `discriminator.weights` is not the one a run began with.

    Networks of later rounds, and priors that are centred, are made of it anew.
    """
    weights = config.discriminator.weights
    began = _environment(folder).get("discriminator.weights")  # runs from before it was kept go on
    if weights is not None and began not in (None, file_digest(weights)):
        raise UserError(
            f"discriminator.weights={weights}: this is not the file that {folder} began with "
            f"(another digest than in environment.json); bring the old one back, or start a new run"
        )


def _environment(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "environment.json").read_text(encoding="utf-8"))


def _installed(name: str) -> bool:
    try:
        version(name)
    except ImportError:
        return False
    return True
