"""A run's figures as lines on a console."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bgan_video.reports.comparison import with_bodies
from bgan_video.reports.plots import label_of

_PERCENT = ("top1", "top5", "balanced_accuracy", "macro_f1")
_SHOWN_CLASSES = 12


def comparison(
    models: Mapping[str, Any], split: str, bodies: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """A table of models, and of each of several bodies, by level and figure, on a split."""
    models = with_bodies(models, bodies)
    titles = ("top-1", "top-5", "balanced", "macro F1", "NLL", "ECE", "Brier")
    width = max(18, *(len(label_of(model)) + 2 for model in models))
    header = f"{f'on {split}':{width + 8}}" + "".join(f"{title:>9}" for title in titles)
    rows = [
        f"{label_of(model):{width}}{level:8}"
        + "".join(f"{100 * figures[key]:8.1f}%" for key in _PERCENT)
        + "".join(f"{figures[key]:9.3f}" for key in ("nll", "ece", "brier"))
        for level in dict.fromkeys(level for levels in models.values() for level in levels)
        for model, levels in models.items()
        if (figures := levels.get(level))
    ]
    return "\n".join([header, *rows])


def recall_table(recall: Mapping[str, Mapping[str, float | None]]) -> str:
    """A table of each model's recall by class; of many classes those that the first finds least.

    Args:
        recall: As `metrics.json` has it.
    """
    first = next(iter(recall.values()))
    order = sorted(first, key=lambda name: math.inf if (r := first[name]) is None else r)
    shown = order[:_SHOWN_CLASSES] if len(order) > _SHOWN_CLASSES else list(first)
    width = max(26, *(len(name) + 2 for name in shown))
    column = max(18, *(len(label_of(model)) + 2 for model in recall))
    lines = [f"{'recall by class':{width}}" + "".join(f"{label_of(m):>{column}}" for m in recall)]
    for name in shown:
        values = (of[name] for of in recall.values())
        cells = ("none there" if v is None else f"{100 * v:.1f}%" for v in values)
        lines.append(f"{name:{width}}" + "".join(f"{cell:>{column}}" for cell in cells))
    if len(order) > len(shown):
        lines.append(f"… and {len(order) - len(shown)} more classes in metrics.json")
    return "\n".join(lines)
