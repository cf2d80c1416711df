"""The report's plots, each an SVG in a data URI with a text that says what it shows."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bgan_video.metrics.arrays import Floats, Labels
from bgan_video.metrics.calibration import Reliability
from bgan_video.metrics.confusion import confusion_counts, row_normalised
from bgan_video.metrics.kinetic import COLD, HOT
from bgan_video.reports.reading import ModelPredictions

Series = tuple[Floats, Floats]
"""Steps and values."""

# Okabe and Ito's palette: told apart with any colour vision. One hue for a model, everywhere.
COLORS = {
    "bayesian": "#0072B2",
    "supervised": "#D55E00",
    "deep_ensemble": "#009E73",
    "mc_dropout": "#CC79A7",
    "cold_gan": "#56B4E9",
    "pseudo_label": "#8A6D00",
    "mean_teacher": "#7F3C8D",
    "fixmatch": "#E69F00",
    "ml_gan": "#444444",
    "self_training": "#882255",
    "self_training_ensemble": "#117733",
    "swag": "#AA4499",
    "laplace": "#999933",
}
OTHER_COLORS = ("#A5AA99", "#11A579", "#F2B701")
LINE_COLORS = ("#009E73", "#CC79A7", "#56B4E9", "#444444", "#8A6D00", "#7F3C8D", "#A5AA99")
LABELS = {
    "bayesian": "semi-supervised",
    "supervised": "supervised",
    "deep_ensemble": "deep ensemble",
    "mc_dropout": "MC-dropout",
    "self_training": "self-training",
    "self_training_ensemble": "self-training ensemble",
    "swag": "SWAG",
    "laplace": "last-layer Laplace",
    "pseudo_label": "pseudo-label",
    "mean_teacher": "mean teacher",
    "fixmatch": "FixMatch",
    "ml_gan": "one GAN",
    "cold_gan": "same GAN, T = 0",
}
INK, MUTED, GRID = "#1f2328", "#6b7280", "#e5e7eb"
MAX_NUMBERED_CLASSES = 30
MAX_NAMED_LAYERS = 40

STYLE: Any = {
    # Text stays text, and the browser finds letters that matplotlib's own font has not. Verdana is
    # as wide as that font; classes may have dollars in their names.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # A fixed salt and no date make the same run give the same bytes.
    "svg.hashsalt": "bgan_video",
}


@dataclass(frozen=True)
class Picture:
    """An image that needs no other file."""

    uri: str
    alt: str


def colors_of(models: Sequence[str]) -> dict[str, str]:
    """The hue of each model; those without one of their own share the others' in order."""
    others = [name for name in models if name not in COLORS]
    spare = {name: OTHER_COLORS[i % len(OTHER_COLORS)] for i, name in enumerate(others)}
    return {name: COLORS.get(name) or spare[name] for name in models}


def label_of(model: str) -> str:
    """What the report calls a model."""
    return LABELS.get(model, model)


def lines(title: str, named: Mapping[str, Series], burn_in_ends: Sequence[float]) -> Picture:
    """Named lines over the training steps."""
    with mpl.rc_context(STYLE):
        figure, ax = _panel()
        for color, (name, series) in zip(cycle(LINE_COLORS), named.items(), strict=False):
            color = COLORS.get(name, color)
            ax.plot(*thin(*series), color=color, linewidth=1.3, label=name)
        ax.set(title=title, xlabel="step")
        _mark_burn_in(ax, burn_in_ends)
        _legend_below(figure)
        return picture(figure, f"Line plot over the training steps of {', '.join(named)}.")


def accuracy(
    training: Series | None,
    held_out: Mapping[str, Series],
    burn_in_ends: Sequence[float],
    split: str,
) -> Picture:
    """Top-1 over the steps: on training batches, and of each model on the held-out split."""
    with mpl.rc_context(STYLE):
        figure, ax = _panel()
        if training is not None:
            steps, values = thin(*training, limit=100)
            ax.plot(steps, values, color="#9ca3af", linewidth=1, label="training batches")
        for name, color in colors_of(list(held_out)).items():
            text = f"{label_of(name)}, {split}"
            ax.plot(*held_out[name], color=color, marker="o", markersize=3.5, label=text)
        ax.set(title="top-1", xlabel="step", ylim=(0, 1.02))
        _mark_burn_in(ax, burn_in_ends)
        _legend_below(figure, columns=2)
        return picture(figure, f"Top-1 accuracy on training batches and on {split} over steps.")


def reliability(name: str, color: str, bins: Reliability, ece: float, items: str) -> Picture:
    """A reliability diagram, with the number of items in each bin under it."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.4), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _draw_reliability(top, bottom, bins, color)
        top.set(title=f"{label_of(name)}: ECE {100 * ece:.2f} %", ylabel="accuracy")
        bottom.set(xlabel="largest probability", ylabel=items)
        return picture(
            figure,
            f"Reliability diagram of the {label_of(name)} model, ECE {100 * ece:.2f} %.",
        )


def confusion(
    name: str, color: str, model: ModelPredictions, labels: Labels, classes: Sequence[str]
) -> Picture:
    """A confusion matrix: rows are true classes; colour is the part of the row, text the count."""
    counts = confusion_counts(labels, model.predicted, model.probs.shape[1])
    size = len(counts)
    numbered = size <= MAX_NUMBERED_CLASSES
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        side = min(4.6 + 0.22 * max(size - 8, 0), 11.0)
        figure = Figure(figsize=(side, side), layout="constrained")
        ax = figure.subplots()
        shade = LinearSegmentedColormap.from_list("shade", ["#ffffff", color])
        ax.imshow(row_normalised(counts), cmap=shade, vmin=0, vmax=1)
        small = 8 if size <= 12 else 6 if numbered else 4
        ax.set_xticks(range(size), classes[:size], rotation=90 if size > 6 else 30, fontsize=small)
        ax.set_yticks(range(size), classes[:size], fontsize=small)
        ax.set(title=label_of(name), xlabel="predicted", ylabel="true")
        ax.tick_params(length=2, colors=INK)
        if numbered:
            _write_counts(ax, counts, small)
        return picture(figure, f"Confusion matrix of the {label_of(name)} model.")


def uncertainty(
    title: str, values: Floats, correct: NDArray[np.bool_], color: str, items: str
) -> Picture:
    """Histograms of a measure in nats, of the items classified rightly and of the others."""
    with mpl.rc_context(STYLE):
        figure, ax = _panel()
        edges = np.linspace(0, max(float(values.max()), 1e-6), 26).tolist()
        right, wrong = values[correct], values[~correct]
        ax.hist(right, edges, color=color, alpha=0.45, label=f"right ({len(right)})")
        outline: Any = {"histtype": "step", "color": INK, "linewidth": 1.5, "hatch": "////"}
        ax.hist(wrong, edges, label=f"wrong ({len(wrong)})", **outline)
        ax.set(title=title, xlabel="nats", ylabel=items)
        _legend_below(figure)
        return picture(figure, f"Histograms of {title} for right and for wrong {items}.")


def risk_coverage(
    curves: Mapping[str, Series], styles: Mapping[str, tuple[str, str]], items: str
) -> Picture:
    """Error rate among the most certain part of the items.

    Args:
        curves: Coverage and risk by legend text.
        styles: Colour and line style by legend text.
        items: What the items are called.
    """
    with mpl.rc_context(STYLE):
        figure, ax = _panel()
        for text, (coverage, risk) in curves.items():
            color, dash = styles[text]
            ax.plot(*thin(coverage, risk), color=color, linestyle=dash, label=text)
        ax.set(
            title="risk and coverage",
            xlabel=f"part of the {items} answered, most certain first",
            ylabel="error rate",
            xlim=(0, 1),
        )
        ax.set_ylim(bottom=0)
        _legend_below(figure, columns=1)
        return picture(figure, f"Error rate against the part of the {items} answered.")


def rounds(
    title: str, curves: Mapping[str, Series], styles: Mapping[str, tuple[str, str]]
) -> Picture:
    """A figure over the rounds of self-training.

    Args:
        title: What it is, and of which split.
        curves: Round numbers and values by legend text.
        styles: Colour and line style by legend text.
    """
    with mpl.rc_context(STYLE):
        figure, ax = _panel()
        for text, (numbers, values) in curves.items():
            color, dash = styles[text]
            filled = color if dash == "-" else "white"
            (line,) = ax.plot(numbers, values, color=color, linestyle=dash, marker="o", label=text)
            line.set_markerfacecolor(filled)
        last = max(int(numbers[-1]) for numbers, _ in curves.values())
        ax.set(title=title, xlabel="round", xticks=range(last + 1))
        _legend_below(figure, columns=2)
        return picture(figure, f"{title} after each round: {', '.join(curves)}.")


def temperatures(ratios: Mapping[str, float]) -> Picture:
    """Kinetic temperature over its target, layer by layer from the input to the output."""
    names, values = list(ratios), np.array(list(ratios.values()))
    named = len(names) <= MAX_NAMED_LAYERS
    with mpl.rc_context({**STYLE, "text.parse_math": True}):  # powers of ten
        height = 1.2 + 0.2 * len(names) if named else 6.0
        figure = Figure(figsize=(8.0, height), layout="constrained")
        ax = figure.subplots()
        places = np.arange(len(names))
        ax.axvspan(COLD, HOT, color=COLORS["bayesian"], alpha=0.12, linewidth=0)
        ax.axvline(1, color=INK, linewidth=1)
        ax.plot(values, places, "o", color=COLORS["bayesian"], markersize=5 if named else 3)
        ax.set_xscale("log")
        ax.set_xlim(min(0.5, values.min() / 1.3), max(2.0, values.max() * 1.3))
        ax.set(title="kinetic temperature of every layer", xlabel="times its target")
        if named:
            ax.set_yticks(places, names, fontsize=7)
        else:
            ax.set_ylabel("layer")
        ax.invert_yaxis()
        return picture(figure, "Kinetic temperature over its target for every layer.")


def thin(steps: Floats, values: Floats, limit: int = 400) -> Series:
    """At most `limit` points: means over runs of consecutive points."""
    if len(steps) <= limit:
        return steps, values
    pieces = np.linspace(0, len(steps), limit + 1).astype(int)[:-1]
    sizes = np.diff([*pieces, len(steps)])
    return np.add.reduceat(steps, pieces) / sizes, np.add.reduceat(values, pieces) / sizes


def _draw_reliability(top: Axes, bottom: Axes, bins: Reliability, color: str) -> None:
    size = len(bins.counts)
    centres, width = (np.arange(size) + 0.5) / size, 0.92 / size
    filled = bins.counts > 0
    top.bar(centres[filled], bins.accuracy[filled], width, color=color, alpha=0.75)
    top.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
    top.plot(bins.confidence[filled], bins.accuracy[filled], "o", color=INK, markersize=3)
    top.set(xlim=(0, 1), ylim=(0, 1.02))
    bars = bottom.bar(centres, bins.counts, width, color=color, alpha=0.35)
    bottom.bar_label(bars, [str(n) if n else "" for n in bins.counts], fontsize=6, padding=1)
    bottom.margins(y=0.25)


def _write_counts(ax: Axes, counts: NDArray[np.int64], size: float) -> None:
    parts = row_normalised(counts)
    for row, column in np.argwhere(counts):
        color = "white" if parts[row, column] > 0.7 else INK
        text = str(counts[row, column])
        ax.text(column, row, text, ha="center", va="center", color=color, fontsize=size)


def _mark_burn_in(ax: Axes, steps: Sequence[float]) -> None:
    for n, step in enumerate(steps):
        label = None if n else "end of burn-in"
        ax.axvline(step, color=INK, linestyle=":", linewidth=1.2, label=label)


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, 3.7), layout="constrained")
    return figure, figure.subplots()


def _legend_below(figure: Figure, columns: int = 4) -> None:
    # Under the axes, where it can hide no line; more rows than two make the figure higher.
    rows = math.ceil(len(figure.axes[0].get_legend_handles_labels()[0]) / columns)
    figure.set_figheight(figure.get_figheight() + 0.2 * max(0, rows - 2))
    figure.legend(loc="outside lower center", ncols=columns)


def picture(figure: Figure, alt: str) -> Picture:
    """A drawn figure as an SVG in a data URI, with a text that says what it shows."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the browser has one
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/svg+xml;base64,{encoded}", alt)
