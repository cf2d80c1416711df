"""What a distance does not say of generated items: motion, checkerboards, copies, and classes.

Each figure stands against the same one of real items, so that 1 is "as real items".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Looks:
    """Generated items beside real ones.

    A figure of which real items have nothing is None.

    Attributes:
        change: Mean change between neighbouring frames, against real items; None for images.
        top_frequency: Energy at the highest spatial frequency, against real items: far above 1 are
            checkerboards, far below is blur; None for vectors.
        nearest_training: Median distance of a generated item to its nearest training item in the
            extractor's features, against that of real test items: far below 1 are copies.
        certainty: Mean probability that the extractor gives the class it names. None, as all that
            follows, where it tells no classes.
        named: By generator, the parts of its items that are named each class.
        covered: By generator, the classes named at least a quarter as often as if all were alike
            often.
        covered_by_all: The same of all generators' items together.
        num_classes: K.
    """

    change: float | None
    top_frequency: float | None
    nearest_training: float | None
    certainty: float | None = None
    named: dict[str, list[float]] | None = None
    covered: dict[str, int] | None = None
    covered_by_all: int | None = None
    num_classes: int | None = None


def with_classes(looks: Looks, probabilities: Mapping[str, Tensor]) -> Looks:
    """The same, with the classes that items are taken for: `[N, K]` by generator."""
    together = torch.cat(list(probabilities.values()))
    named = {name: named_parts(p) for name, p in probabilities.items()}
    return dataclasses.replace(
        looks,
        certainty=together.max(dim=1).values.mean().item(),
        named=named,
        covered={name: covered(parts) for name, parts in named.items()},
        covered_by_all=covered(named_parts(together)),
        num_classes=together.shape[1],
    )


def against(figure: Callable[[Tensor], float], items: Tensor, real: Tensor) -> float | None:
    """A figure of generated items in parts of that of real ones; None where they have nothing."""
    of_real = figure(real)
    return figure(items) / of_real if of_real else None


def mean_change(clips: Tensor) -> float:
    """Mean absolute difference of neighbouring frames of clips `[N, C, T, H, W]`."""
    return clips.diff(dim=2).abs().mean().item()


def top_frequency(items: Tensor) -> float:
    """Mean energy at the highest frequency of height or width of items `[N, C, (T,) H, W]`.

    A checkerboard of period two, and rows or columns that alternate, are all of it. H and W even.
    """
    spectrum = torch.fft.rfft2(items.double(), norm="ortho").abs().square()
    height, width = spectrum.shape[-2:]
    highest = torch.zeros(height, width, dtype=torch.bool)
    highest[height // 2] = True
    highest[:, -1] = True
    return spectrum[..., highest].mean().item()


def nearest_distance(items: Tensor, training: Tensor) -> float:
    """Median over items `[N, F]` of the distance to the nearest of `[M, F]`; 0 of exact copies."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(items, training, compute_mode=exact).min(dim=1).values.median().item()


def named_parts(probabilities: Tensor) -> list[float]:
    """The parts of items `[N, K]` whose likeliest class is each of K."""
    count, num_classes = probabilities.shape
    named = torch.bincount(probabilities.argmax(dim=1), minlength=num_classes)
    return (named.double() / count).tolist()


def covered(parts: Sequence[float]) -> int:
    """How many classes are named at least a quarter as often as if all were alike often."""
    return sum(part >= 0.25 / len(parts) for part in parts)
