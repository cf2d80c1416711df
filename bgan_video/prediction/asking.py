"""Which of a run's videos to label next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bgan_video import rng
from bgan_video.acquisition import suggestions
from bgan_video.acquisition.spaces import pretrained_vectors
from bgan_video.acquisition.suggestions import Answers, By, Space, Suggestion
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item
from bgan_video.data.parallel import silent, unsaid
from bgan_video.errors import UserError
from bgan_video.prediction.bodies import Body
from bgan_video.prediction.chunks import test_chunks
from bgan_video.prediction.vectors import network_vectors

if TYPE_CHECKING:
    from bgan_video.prediction.trained import TrainedRun

_NUMPY_SEEDS = 2**32


def choose(run: TrainedRun, budget: int, by: By, answered: Mapping[str, bool]) -> list[Suggestion]:
    """The unlabelled training videos to label next; what the model says of each comes with it.

    Args:
        run: Whose.
        budget: How many, >= 1; fewer where there are fewer.
        by: How they are chosen (`suggestions.is_typical` says what `auto` is).
        answered: Paths of videos that were asked for since the training, and whether they have a
            label now.

    Raises:
        UserError: Every training video is labelled or was asked for, a video changed, or the run
            was exported.
    """
    training = run.manifest.part("train")
    left = [item for item in training if not item.labelled and item.path not in answered]
    if not left:
        run.check_knows_items()
        done = "labelled or was asked for" if answered else "labelled"
        raise UserError(f"{run.folder}: every training video is {done} already")
    known = [
        replace(item, labelled=True)
        for item in training
        if item.labelled or answered.get(item.path)
    ]
    items = [*known, *left]
    frames = run.frames(items)
    predictions, of_bodies = run.predict_items(left, frames)
    p = predictions[run.answering]
    alone = {name: of.video_probabilities for name, of in of_bodies.items()}
    several = alone if len(alone) > 1 else {}
    said = Answers(p.video_probabilities, p.network_probabilities, several)
    given = (run.manifest, run.config.data, budget)
    seed = run.config.run.seed
    if suggestions.is_typical(by, len(known), len(run.classes)):
        space = _space(run, items, frames)
        return suggestions.choose_typical(space, said, *given, seed % _NUMPY_SEEDS)
    random = rng.generator(seed, "suggest", *sorted(answered))
    space = _pretrained_space(run, run.answering_bodies(frames, items), items)
    if space is not None:
        space = replace(space, items=left, vectors=space.vectors[len(known) :])
    return suggestions.choose(left, said, *given, random, space)


def _space(run: TrainedRun, items: Sequence[Item], frames: Frames) -> Space:
    """Items in the features of the pretrained body that answers, or in those of its networks."""
    bodies = run.answering_bodies(frames, items)
    pretrained = _pretrained_space(run, bodies, items)
    if pretrained is not None:
        return pretrained
    networks = run.answering_networks(bodies[0]) if bodies else run.networks(run.answering)
    vectors = network_vectors(networks, test_chunks(items, frames, run.config), run.backend)
    return Space(items, vectors, tells_copies=False)


def _pretrained_space(
    run: TrainedRun, bodies: Sequence[Body], items: Sequence[Item]
) -> Space | None:
    """Items in the features of the run's pretrained body, which tell near-copies; if it has one."""
    vectors = next((body.vectors for body in bodies if body.vectors is not None), None)
    if vectors is None:
        return None
    root = run.config.data.root or run.manifest.root
    found = pretrained_vectors(items, root, vectors.config, vectors.frozen, unsaid, silent)
    return Space(items, found, tells_copies=True)
