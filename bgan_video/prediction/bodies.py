"""The bodies of a run: what each one sees of an item, and how they answer together."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bgan_video import ranks, rng
from bgan_video.backend import Backend
from bgan_video.config import FEATURES, Config
from bgan_video.data.cutting import ItemFrames
from bgan_video.data.feature_store import FeatureStore
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies, FrozenBody, Scale, fill
from bgan_video.method.bodies import features_of, names, of_clips, of_features
from bgan_video.models import build_discriminator
from bgan_video.prediction.chunks import ClipChunk, test_chunks, videos_at_once
from bgan_video.prediction.feature_vectors import FileVectors, StoredVectors
from bgan_video.prediction.predict import Networks, Prediction, predict_shared
from bgan_video.prediction.together import combine

FIRST_KIND = "discriminator"
"""The bank's word for the first body's networks; others have a letter behind it."""


@dataclass(frozen=True)
class Body:
    """One body of the Bayesian GAN's discriminators.

    Attributes:
        name: As in `discriminator.bodies`.
        kind: The bank's word for its networks.
        config: The settings of its networks and of what they see.
        frames: Where what they see is read.
        num_classes: K.
        vectors: What its networks see of an open file; None where they see clips.
        weight: What its word is worth beside those of the others (`together.combine`).
    """

    name: str
    kind: str
    config: Config
    frames: ItemFrames
    num_classes: int
    vectors: FileVectors | None = None
    weight: float = 1.0

    @property
    def sees_features(self) -> bool:
        """Whether its networks see vectors in place of clips."""
        return self.config.features.length is not None

    def items(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items as this body counts their frames: each vector of an item is a frame of it."""
        if not self.sees_features:
            return items
        clips = self.config.features.clips
        return [dataclasses.replace(item, num_frames=clips) for item in items]

    def chunks(self, items: Sequence[Item]) -> Iterator[ClipChunk]:
        """What its networks see of some items."""
        return test_chunks(self.items(items), self.frames, self.config)

    def ask(
        self, models: Mapping[str, Networks], items: Sequence[Item], backend: Backend
    ) -> dict[str, Prediction]:
        """What models of this body say of some items, every rank of its share of them."""
        at_once = videos_at_once(self.config)
        return predict_shared(models, self.chunks, items, at_once, backend)

    def network(self) -> nn.Module:
        """An empty network to load stored weights into; draws no random number anyone else uses."""
        return empty_network(self.config, self.num_classes)


def empty_network(config: Config, num_classes: int) -> nn.Module:
    """A discriminator to load stored weights into; draws no random number anyone else uses."""
    with torch.random.fork_rng(devices=[]):
        return build_discriminator(config.without_weights(), num_classes)


def kinds(config: Config) -> list[str]:
    """The bank's words for their networks, in the same order."""
    letters = string.ascii_lowercase[1 : len(names(config))]
    return [FIRST_KIND, *(f"{FIRST_KIND}_{letter}" for letter in letters)]


def open_bodies(
    config: Config,
    manifest: Manifest,
    frames: ItemFrames,
    frozen: FrozenBodies,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[..., Any],
    items: Sequence[Item] | None = None,
) -> tuple[Body, ...]:
    """The bodies of a run, with the features that they see, which are computed where missing.

    Args:
        config: The run's settings.
        manifest: Its items.
        frames: Of the clips.
        frozen: The run's frozen bodies.
        folder: The run's, which keeps the scale of its training videos' features.
        say: Gets the lines for the user.
        progress: Wraps the videos whose features are computed.
        items: Those that will be read; by default all of the manifest.

    Raises:
        UserError: No such body, its weights are not those that the run began with, or a video's
            features cannot be had.
    """
    bodies: list[Body] = []
    num_classes = config.num_classes(manifest.num_classes)
    for index, (name, kind) in enumerate(zip(names(config), kinds(config), strict=True)):
        own = _seeded(config, name, index)
        if name.startswith(FEATURES):
            own = dataclasses.replace(own, features=features_of(config, name))
            given = (manifest, frozen, folder, say, progress, items)
            bodies.append(_features_body(name, kind, own, num_classes, *given))
            continue
        if config.discriminator.bodies:
            own = of_clips(own, name, index)
        bodies.append(Body(name, kind, own, frames, num_classes))
    return tuple(bodies)


def weighed(bodies: Sequence[Body], weights: Mapping[str, float]) -> tuple[Body, ...]:
    """Bodies whose words are worth what `weights` say, by name; others' are worth 1."""
    return tuple(dataclasses.replace(b, weight=weights.get(b.name, 1.0)) for b in bodies)


def open_features(
    config: Config,
    manifest: Manifest,
    frozen: FrozenBodies,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[..., Any],
    items: Sequence[Item] | None = None,
) -> Body:
    """What the methods on frozen features see: `features.body`, whatever the chains' bodies are.

    Arguments and errors as of `open_bodies`.
    """
    name = FEATURES + config.features.body
    given = (manifest, frozen, folder, say, progress, items)
    return _features_body(name, "features", config, manifest.num_classes, *given)


def _features_body(
    name: str,
    kind: str,
    config: Config,
    num_classes: int,
    manifest: Manifest,
    frozen: FrozenBodies,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[..., Any],
    items: Sequence[Item] | None,
) -> Body:
    """A body that sees the vectors of `config.features`, which are computed where missing."""
    body, kept = frozen(config.features), folder / "features" / f"{kind}.safetensors"
    _check_weights(kept, body, config)
    root = config.data.root or manifest.root  # the data may have moved since
    wanted = manifest.items if items is None else items
    store = fill(wanted, root, config, body, say, progress)
    with ranks.first_goes_first():
        scale = _scale(kept, store, manifest)
    own = of_features(config, store.length)
    source = StoredVectors(store, scale, config.data.cache_mib * 2**20)
    vectors = FileVectors(body, config, scale)
    return Body(name, kind, own, source, num_classes, vectors)


def predict_models(
    items: Sequence[Item],
    frames: ItemFrames,
    config: Config,
    rivals: Mapping[str, Networks],
    posteriors: Mapping[str, Callable[[Body], Networks]],
    bodies: Sequence[Body],
    backend: Backend,
) -> tuple[dict[str, Prediction], dict[str, dict[str, Prediction]]]:
    """What models say of items; every chunk is read once, by one rank, for all that see the same.

    Args:
        items: Surveyed.
        frames: Of their clips.
        config: The run's, which says what clips are.
        rivals: Models of one body, which sees clips.
        posteriors: Models of all bodies: the networks of a body.
        bodies: Of the run.
        backend: Device and precision.

    Returns:
        The predictions of all models, and of the posteriors those of each body by its name.
    """
    of_clips: dict[str, Networks] = dict(rivals)
    parts: dict[str, dict[str, Prediction]] = {model: {} for model in posteriors}
    said: dict[str, Prediction] = {}
    for body in bodies:
        of_body = {f"{body.kind}/{model}": of(body) for model, of in posteriors.items()}
        if body.sees_features:
            said |= body.ask(of_body, items, backend)
        else:
            of_clips |= of_body
    if of_clips:

        def chunks(some: Sequence[Item]) -> Iterator[ClipChunk]:
            return test_chunks(some, frames, config)

        said |= predict_shared(of_clips, chunks, items, videos_at_once(config), backend)
    for model in posteriors:
        for body in bodies:
            parts[model][body.name] = said.pop(f"{body.kind}/{model}")
    together = {
        model: combine(list(of.values()), config.discriminator.combine, [b.weight for b in bodies])
        for model, of in parts.items()
    }
    return together | said, parts


def _seeded(config: Config, name: str, index: int) -> Config:
    """Other bodies begin elsewhere than the first."""
    if index == 0:
        return config
    seed = rng.derive_seed(config.run.seed, "body", name)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, seed=seed))


def _check_weights(kept: Path, body: FrozenBody, config: Config) -> None:
    """Refuse, before any feature is computed, a body that is not the one a run learned from."""
    if not kept.is_file() or Scale.weights_of(kept) in (None, body.digest):
        return
    f = config.features
    source = f"features.weights={f.weights}" if f.weights else f"features.body={f.body}"
    raise UserError(
        f"{source}: these are not the weights whose features {kept.parent.parent} learned from "
        f"(another digest than in {kept}); bring the old ones back, or train a new run"
    )


def _scale(path: Path, store: FeatureStore, manifest: Manifest) -> Scale:
    """The scale of the training videos' features, kept with the run."""
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        training = (torch.from_numpy(store.read(item)) for item in manifest.part("train"))
        Scale.of(training, store.num_summaries).write(path, store.made_by["weights"])
    return Scale.read(path)
