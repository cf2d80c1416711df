"""A study's plots: label curves, paired differences, reliability; each in the report's look."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bgan_video.config import model_of
from bgan_video.metrics.calibration import Reliability
from bgan_video.reports import plots
from bgan_video.reports.comparison import METRICS
from bgan_video.reports.plots import COLORS, INK, MUTED, STYLE, Picture
from bgan_video.reports.study_summary import Entry, Summary

# For variants of a method; the others have the hue of the run's report.
_VARIANTS = ("#4B4B8F", "#11A579", "#F2B701", "#E73F74", "#80BA5A", "#3969AC", "#A5AA99")
# Beside the hue, as there are more methods than hues one can tell apart.
_MARKERS = "osD^vP*X<>"
_CURVES = ("top1", "nll", "ece")
_PNG_DPI = 130


def styles(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Hue and marker of each method."""
    own = {name: COLORS.get(model_of(name)) for name in methods}
    spare = cycle(_VARIANTS)
    return {
        name: (own[name] or next(spare), _MARKERS[i % len(_MARKERS)])
        for i, name in enumerate(methods)
    }


def label_curves(summary: Summary) -> Picture:
    """Top-1, NLL and ECE against the number of labels; a dot a method where there is one number."""
    with mpl.rc_context(STYLE):
        return plots.picture(
            _curves(summary),
            f"{summary.split} top-1, NLL and ECE of each method against the number of labels.",
        )


def label_curve_png(summary: Summary) -> bytes:
    """The same as a PNG."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        # No version of matplotlib in it, so that the same study gives the same bytes.
        _curves(summary).savefig(buffer, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def forest(summary: Summary, key: str) -> Picture:
    """Every difference to the reference with its interval, label setting by label setting."""
    metric = METRICS[key]
    compared = [entry for entry in summary.entries if entry.difference is not None]
    hues = styles(summary.methods)
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.6, 1.1 + 0.27 * len(compared)), layout="constrained")
        ax = figure.subplots()
        ax.axvline(0, color=INK, linewidth=1)
        for place, entry in enumerate(compared):
            _draw_interval(ax, place, entry, key, hues[entry.method])
            if place and compared[place - 1].labels != entry.labels:
                ax.axhline(place - 0.5, color=MUTED, linewidth=0.5, linestyle=":")
        names = [f"{entry.method}, {entry.labels}" for entry in compared]
        ax.set_yticks(range(len(compared)), names, fontsize=8)
        ax.set_ylim(len(compared) - 0.4, -0.6)
        unit = " (points)" if metric.percent else ""
        better = "right" if metric.higher_is_better else "left"
        ax.set(title=f"{metric.title} less that of {summary.reference}{unit}")
        ax.set_xlabel(f"better to the {better}")
        return plots.picture(
            figure,
            f"Forest plot: {metric.title} of each method less {summary.reference}, with intervals.",
        )


def reliability(title: str, bins: Mapping[str, Reliability], methods: Sequence[str]) -> Picture:
    """Accuracy against mean confidence in each bin that holds items, a curve a method."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 4.6), layout="constrained")
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        for method, (color, marker) in styles(methods).items():
            if method in bins:
                own = bins[method]
                filled = own.counts > 0
                x, y = own.confidence[filled], own.accuracy[filled]
                ax.plot(x, y, color=color, marker=marker, markersize=4, linewidth=1.2, label=method)
        ax.set(title=title, xlabel="largest probability", ylabel="accuracy")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        figure.legend(loc="outside lower center", ncols=2)
        return plots.picture(figure, f"Reliability curves of each method, {title}.")


def _curves(summary: Summary) -> Figure:
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    counts = {e.labels: e.num_labelled for e in summary.entries if e.num_labelled is not None}
    for ax, key in zip(figure.subplots(1, 3), _CURVES, strict=True):
        if len(set(counts.values())) > 1:
            _draw_curves(ax, summary, key)
            ticks = sorted(set(counts.values()))
            ax.set_xscale("log", base=2)
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.set_xlabel("labelled training items")
        else:
            _draw_dots(ax, summary, key)
        unit = ", %" if METRICS[key].percent else ""
        ax.set_title(f"{summary.split} {METRICS[key].title}{unit}")
    handles, names = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=5)
    return figure


def _draw_curves(ax: Axes, summary: Summary, key: str) -> None:
    for method, (color, marker) in styles(summary.methods).items():
        own = [e for e in summary.entries if e.method == method and key in e.figures]
        own = sorted((e for e in own if e.num_labelled), key=lambda e: e.num_labelled or 0)
        if own:
            x = [entry.num_labelled or 0 for entry in own]
            y, error = np.array([_scaled(entry, key) for entry in own]).T
            style = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.3}
            ax.errorbar(x, y, error, capsize=2.5, label=method, **style)


def _draw_dots(ax: Axes, summary: Summary, key: str) -> None:
    """A row a method; two label settings with equally many labels are two dots of a row."""
    rows = list(styles(summary.methods).items())
    for place, (method, (color, marker)) in enumerate(rows):
        for entry in summary.entries:
            if entry.method == method and key in entry.figures:
                x, error = _scaled(entry, key)
                ax.errorbar([x], [place], xerr=[error], color=color, marker=marker, capsize=2.5)
    ax.set_yticks(range(len(rows)), [method for method, _ in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _scaled(entry: Entry, key: str) -> tuple[float, float]:
    """Mean and standard error as they are drawn: in percent where the figure is one."""
    of, scale = entry.figures[key], 100 if METRICS[key].percent else 1
    return scale * of.mean, scale * (of.standard_error or 0.0)


def _draw_interval(ax: Axes, place: int, entry: Entry, key: str, style: tuple[str, str]) -> None:
    assert entry.difference is not None
    of, scale = entry.difference.figures[key], 100 if METRICS[key].percent else 1
    color, marker = style
    if of.low is not None and of.high is not None:
        ends = [scale * of.low, scale * of.high]
        ax.plot(ends, [place, place], color=color, linewidth=2, solid_capstyle="butt")
    ax.plot([scale * of.estimate], [place], color=color, marker=marker, markersize=6)
