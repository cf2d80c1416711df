"""The report's parts on trust: calibration, unknown classes, the chains, what to label next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bgan_video.acquisition.notes import answer_of
from bgan_video.data.texts import read_table
from bgan_video.errors import UserError
from bgan_video.reports import plots
from bgan_video.reports.comparison import TableCell, number
from bgan_video.reports.plots import Picture, label_of
from bgan_video.reports.reading import WHOLE_LEVELS, RunFolder, model_order, section

_RAW = {"nll": "NLL", "ece": "ECE, equal width", "brier": "Brier"}
_DETAIL = {"ece_equal_mass": "ECE, equal mass", "aurc": "AURC"}
_SCALED = {"nll": "NLL, scaled", "ece": "ECE, scaled"}
_OPEN = {
    "p_fake": "p(fake)",
    "mutual_information": "mutual information",
    "total_entropy": "total entropy",
    "max_probability": "largest probability",
}


@dataclass(frozen=True)
class ModelTable:
    """Rows of models, columns of figures; the best of a column is marked."""

    columns: list[str]
    rows: list[tuple[str, list[TableCell]]]


@dataclass(frozen=True)
class Chains:
    """What the last evaluation says of the chains."""

    verdict: list[str]
    picture: Picture | None
    facts: list[tuple[str, str]]


def calibration(folder: RunFolder) -> ModelTable | None:
    """Every model's calibration, raw and after temperature scaling on validation."""
    detail = section(folder.metrics, "calibration")
    if not detail:
        return None
    rows: dict[str, dict[str, float | None]] = {}
    for model in model_order(detail):
        own = _whole(section(detail, model))
        raw = _whole(section(section(folder.metrics, "models"), model))
        scaled = section(own, "scaled")
        rows[model] = {
            **{title: number(raw.get(key)) for key, title in _RAW.items()},
            **{title: number(own.get(key)) for key, title in _DETAIL.items()},
            "temperature": number(own.get("temperature")),
            **{title: number(scaled.get(key)) for key, title in _SCALED.items()},
        }
    return _table(rows, best=min, unmarked="temperature")


def open_set(folder: RunFolder) -> dict[str, Any] | None:
    """How well each model's measures tell videos of classes that were held out."""
    recorded = section(folder.metrics, "open_set")
    auroc = section(recorded, "auroc")
    if not auroc:
        return None
    rows = {
        model: {title: number(section(auroc, model).get(key)) for key, title in _OPEN.items()}
        for model in model_order(auroc)
    }
    classes = ", ".join(map(str, recorded.get("classes") or []))
    table = _table(rows, best=max)
    flagged = {part: number(section(recorded, "flagged").get(part)) for part in ("open", "test")}
    return {"classes": classes, "count": recorded.get("count"), "table": table, "flagged": flagged}


def quality(folder: RunFolder) -> dict[str, Any] | None:
    """How far generated items are from real ones, where that was measured."""
    distances = folder.quality
    keys = {"Fréchet distance, squared": "frechet", "kernel distance, squared": "kernel"}
    rows = [
        (title, f"{distance:.4g}", f"{floor:.4g}")
        for title, key in keys.items()
        if (distance := number(distances.get(key))) is not None
        and (floor := number(distances.get(f"{key}_floor"))) is not None
    ]
    if not rows:
        return None
    return {
        "extractor": distances.get("extractor"),
        "count": distances.get("count"),
        "rows": rows,
        "looks": _looks(section(distances, "looks")),
    }


def _looks(recorded: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What distances do not say, each against real items."""
    against = "{:.2f} of real"
    forms = {
        "change": ("change from frame to frame", against),
        "top_frequency": ("energy at the highest frequency (checkerboards)", against),
        "nearest_training": ("distance to the nearest training item (copies)", against),
        "certainty": ("certainty of the class it is taken for", "{:.2f}"),
    }
    rows = [
        (title, form.format(value))
        for key, (title, form) in forms.items()
        if (value := number(recorded.get(key))) is not None
    ]
    covered, classes = number(recorded.get("covered_by_all")), number(recorded.get("num_classes"))
    if covered is not None and classes is not None:
        rows.append(("classes that generators cover", f"{covered:.0f} of {classes:.0f}"))
    elif rows:
        rows.append(("classes that generators cover", "these features tell no classes"))
    return rows


def chains(folder: RunFolder) -> Chains | None:
    """Whether the chains sampled: the last evaluation that has diagnostics."""
    recorded = [section(row, "diagnostics") for row in folder.evaluations]
    last = next((row for row in reversed(recorded) if row), None)
    if last is None:
        return None
    verdict = [str(sentence) for sentence in last.get("verdict") or []]
    functions = section(last, "function_space")
    facts = _noise(section(last, "noise")) + _at_rest(section(last, "configurational"))
    facts += _facts(functions)
    return Chains(verdict, _temperatures(section(last, "kinetic")), facts)


def suggestions(folder: RunFolder) -> list[dict[str, str]]:
    """The videos to label next, where they were asked for: those that have no answer yet."""
    path = folder.path / "suggestions.csv"
    try:
        rows = [row.cells for row in read_table(path).rows if row.cells.get("rank")]
    except UserError:
        return []
    return [row for row in rows if not answer_of(row)]


def _temperatures(kinetic: Mapping[str, Any]) -> Picture | None:
    target = number(kinetic.get("target"))
    layers = {name: number(value) for name, value in section(kinetic, "layers").items()}
    ratios = {n: v / target for n, v in layers.items() if v is not None and v > 0 and target}
    return plots.temperatures(ratios) if ratios else None


def _noise(noise: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the chains were sampled at; nothing where that was not recorded."""
    return _formatted(
        noise,
        {
            "temperature": ("temperature T", "{:.3g}"),
            "weights": ("weights that learn, d", "{:,.0f}"),
            "num_data": ("items of the potential, N", "{:,.0f}"),
            "nats": ("noise at rest, d·T/2N (nats)", "{:.3g}"),
        },
    )


def _at_rest(configurational: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The configurational temperature over its target."""
    target, median = number(configurational.get("target")), number(configurational.get("median"))
    if not target or median is None:
        return []
    return [("configurational temperature / T, median layer", f"{median / target:.3g}")]


def _facts(functions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The function-space figures in the words of their facts; nothing where there are none."""
    titles = {
        "chains": ("chains", "{:.0f}"),
        "draws": ("draws of each", "{:.0f}"),
        "probe": ("probe items", "{:.0f}"),
        "r_hat_median": ("R-hat of log p(label), median", "{:.2f}"),
        "r_hat_max": ("R-hat, largest", "{:.2f}"),
        "bulk_median": ("effective draws, median", "{:.0f}"),
        "bulk_min": ("effective draws, least", "{:.0f}"),
        "tail_min": ("effective draws in the tails, least", "{:.0f}"),
        "error": ("standard error of p(label), median", "{:.2g}"),
        "disagreement": ("disagreement of chains (nats)", "{:.3f}"),
        "chains_differ": ("probe items the chains differ on", "{:.0%}"),
    }
    return _formatted(functions, titles)


def _formatted(
    figures: Mapping[str, Any], titles: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    known = ((title, form, number(figures.get(key))) for key, (title, form) in titles.items())
    return [(title, form.format(value)) for title, form, value in known if value is not None]


def _whole(levels: Mapping[str, Any]) -> dict[str, Any]:
    return next((figures for level in WHOLE_LEVELS if (figures := section(levels, level))), {})


def _table(
    rows: Mapping[str, Mapping[str, float | None]],
    best: Callable[[Iterable[float]], float],
    unmarked: str | None = None,
) -> ModelTable:
    """Rows of models as text; columns without a figure are left out, equal ones have no best."""
    names = next(iter(rows.values()))
    values = {name: {model: row[name] for model, row in rows.items()} for name in names}
    values = {name: of for name, of in values.items() if any(v is not None for v in of.values())}
    leading = {
        name: best(v for v in of.values() if v is not None)
        for name, of in values.items()
        if name != unmarked and len(set(of.values())) > 1
    }

    def cell(name: str, model: str) -> TableCell:
        value = values[name][model]
        text = "–" if value is None else f"{value:.3f}"
        return TableCell(text, best=value is not None and leading.get(name) == value)

    return ModelTable(
        list(values), [(label_of(model), [cell(name, model) for name in values]) for model in rows]
    )
