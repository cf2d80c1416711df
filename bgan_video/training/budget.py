"""Settings that fit into an amount of time: `--budget 10m`, from what a step costs here.

What gives way, in this order: steps, down to a quarter of the recipe's; rounds, one by one; then
the number of networks and the size of clips. Time to spare goes into steps, up to four times the
recipe's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bgan_video import config as config_module
from bgan_video.config import IN_ROUNDS, Config
from bgan_video.errors import UserError
from bgan_video.method.bodies import chain_settings
from bgan_video.method.timetable import num_chains, posterior_size, step_sizes

MOST = 4.0
"""Of the steps, as a part of the recipe's: longer ones were not looked at."""
LESS = (0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Parts that are tried for the fewest steps whose settings do not contradict each other. A burn-in
cut further leaves nothing to sample from."""

_PLANNED = 0.9
"""Part of the budget that is planned with: a machine has other things to do as well."""

_IN_PROPORTION = (
    "train.steps",
    "train.evaluate_every",
    "train.checkpoint_every",
    "train.sample_every",
    "posterior.burn_in",
    "posterior.thinning",
    "objective.consistency_warmup",
)
_NETWORKS = (
    "posterior.num_z",
    "posterior.num_discriminators",
    "posterior.num_mcmc",
    "critic.num",
)
_FEWEST: tuple[dict[str, int], ...] = ({}, {"posterior.num_discriminators": 2})
"""One network of each kind, or two discriminators where an ensemble of as many teaches."""
_LEAST_SIDE = 32
"""Pixels below which a side of a clip is not halved."""

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Cost:
    """What a run of some settings costs on this machine, in seconds.

    Attributes:
        start: Before the first step: reading the videos, features that are not there yet.
        step: A step of all models, with its batches.
        video: Reading the test clips of a video.
        answer: What one network of each body takes to judge those clips.
        spent: Since the command began, when all this was known.
        steps: How many were measured.
    """

    start: float
    step: float
    video: float
    answer: float
    spent: float = 0.0
    steps: int = 1


@dataclass(frozen=True)
class Videos:
    """How many are judged: of the unlabelled pool, while training is shown, and at the end."""

    pool: int
    shown: int
    final: int


@dataclass(frozen=True)
class Fitted:
    """Settings that fit, and why.

    Attributes:
        config: The settings.
        cost: What was measured of them.
        seconds: What the run is expected to take, from now on.
        changed: Values by dotted key that are not the recipe's, `(before, now)` each.
    """

    config: Config
    cost: Cost
    seconds: float
    changed: Mapping[str, tuple[Any, Any]]

    def lines(self, budget: float) -> list[str]:
        """What to say of it; `budget` in seconds."""
        told, c = f"budget {duration(budget)}", self.cost
        found = ", ".join(f"{key}={now} in place of {was}" for key, (was, now) in self._told())
        return [
            f"{told}: a step takes {c.step:.2g} s ({c.steps} measured), reading and features "
            f"{duration(c.start)}, judging a video {c.video + c.answer:.1g} s a network",
            f"{told}: {found or 'the recipe as it is'}; about {duration(self.seconds)} from now",
        ]

    def _told(self) -> Iterator[tuple[str, tuple[Any, Any]]]:
        """What a person may want to set by hand: how often things are written is not."""
        return ((k, v) for k, v in self.changed.items() if not k.endswith("_every"))


def parse(text: str) -> float:
    """Seconds of `10m`, `90s` or `1h30m`.

    Raises:
        UserError: It is none of those, or no time at all.
    """
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if total == 0:
        raise UserError(f"--budget={text}; allowed: a time such as 90s, 10m or 1h30m")
    return float(total)


def duration(seconds: float, whole: Callable[[float], int] = round) -> str:
    """A time for a person: `45s`, `2m30s`, `1h20m`, as `parse` reads it back.

    Args:
        seconds: The time.
        whole: How seconds, or minutes from ten of them on, are made whole.
    """
    unit = 1 if seconds < 600 else 60
    minutes, rest = divmod(unit * whole(seconds / unit), 60)
    parts = ((minutes // 60, "h"), (minutes % 60, "m"), (rest, "s"))
    return "".join(f"{number}{name}" for number, name in parts if number) or "0s"


def fit(
    config: Config,
    budget: float,
    measure: Callable[[Config], Cost],
    videos: Videos,
    kept: Collection[str] = (),
) -> Fitted:
    """The settings nearest to the recipe's that fit.

    Args:
        config: The recipe, with what the user set.
        budget: In seconds, since the command began.
        measure: What settings cost; asked anew for other networks and clips.
        videos: That are judged.
        kept: Dotted keys that the user set, which stay.

    Raises:
        UserError: Nothing fits; says what the least would need.
    """
    needed, least, step = 0.0, config, 0.0
    less, most = ((1.0,), 1.0) if "train.steps" in kept else (LESS, MOST)
    for shape in _shapes(config, kept):
        cost = measure(shape)
        for rounds in _rounds(config, kept):
            tried = _with(shape, {"train.rounds": rounds})
            left = _PLANNED * budget - cost.spent - _beside_steps(tried, cost, videos)
            part = min(most, left / (tried.total_steps * cost.step))
            within = [part, *reversed([p for p in less if p < part])]
            fitted = _first(tried, within, kept) if part >= less[0] else None
            if fitted is not None:
                expected = _seconds(fitted, cost, videos)
                return Fitted(fitted, cost, expected, _changed(config, fitted))
            least = _first(tried, less, kept) or tried
            # A part of the steps is cut to whole ones: with one more in each round it is enough.
            steps = least.total_steps + 1 + rounds
            planned = cost.spent + _beside_steps(tried, cost, videos) + steps * cost.step
            needed, step = planned / _PLANNED, cost.step
    raise UserError(
        f"--budget={duration(budget)} is too little here: {least.train.steps} steps in each of "
        f"{1 + least.train.rounds} rounds, with clips of {least.clip.num_frames} × "
        f"{least.clip.size} pixels, take about {duration(needed, math.ceil)}, {step:.2g} s a step; "
        f"give as much, or a smaller recipe"
    )


def _shapes(config: Config, kept: Collection[str]) -> Iterator[Config]:
    """The settings as they are, with one network of a kind, and with clips of half the side too."""
    yield config
    numbers = ({key: of.get(key, 1) for key in _NETWORKS if key not in kept} for of in _FEWEST)
    single = next(filter(None, (_agreeing(config, values) for values in numbers)), config)
    if single != config:
        yield single
    side = config.clip.size // 2
    if "clip.size" in kept or config.spatial_dims == 0 or side < _LEAST_SIDE:
        return
    loaded = config.clip.load_size
    smaller: dict[str, Any] = {"clip.size": side}
    if "clip.load_size" not in kept and loaded is not None:
        smaller["clip.load_size"] = max(side, loaded // 2)
    if config.generator.size == config.clip.size and "generator.size" not in kept:
        # Classifiers that play the game see one size.
        smaller["generator.size"] = side
    if halved := _agreeing(single, smaller):
        yield halved


def _rounds(config: Config, kept: Collection[str]) -> range:
    """Numbers of rounds, from the recipe's down."""
    most = config.train.rounds
    if "train.rounds" in kept:
        return range(most, most - 1, -1)
    in_rounds = {*IN_ROUNDS} & {*config.baseline.methods}
    return range(most, (1 if in_rounds else 0) - 1, -1)


def _first(config: Config, parts: Iterable[float], kept: Collection[str]) -> Config | None:
    """The settings with the first of these parts of the steps that do not contradict each other."""
    cut = (_in_proportion(config, part, kept) for part in parts)
    return next(filter(None, cut), None)


def _in_proportion(config: Config, part: float, kept: Collection[str]) -> Config | None:
    """Settings whose steps are cut or stretched; what is 1 or more stays so. None as `_agreeing`.

    Everything is rounded down, so that sampling takes as many samples as before.
    """
    was = config_module.flat(config)
    scaled = {key: max(min(1, was[key]), int(part * was[key])) for key in _IN_PROPORTION}
    return _agreeing(config, {key: value for key, value in scaled.items() if key not in kept})


def _seconds(config: Config, cost: Cost, videos: Videos) -> float:
    return config.total_steps * cost.step + _beside_steps(config, cost, videos)


def _beside_steps(config: Config, cost: Cost, videos: Videos) -> float:
    """Reading, and judging: the pool before each further round, what is shown, the end."""
    rounds, chains = config.train.rounds, num_chains(config)
    samples, own = 1, chain_settings(config)
    if own.needs_schedule:
        samples = min(own.posterior.max_samples, step_sizes(own).num_samples)
    of_round, of_run = chains * samples, posterior_size(own)
    evaluations = max(1 + rounds, config.total_steps // config.train.evaluate_every)
    judged = rounds * videos.pool * (cost.video + of_round * cost.answer)
    shown = evaluations * videos.shown * (cost.video + (of_round + of_run) * cost.answer)
    final = videos.final * (cost.video + of_run * cost.answer)
    return cost.start + judged + shown + final


def _agreeing(config: Config, values: Mapping[str, Any]) -> Config | None:
    """`_with`, or None where the settings contradict each other."""
    try:
        return _with(config, values)
    except UserError:
        return None


def _with(config: Config, values: Mapping[str, Any]) -> Config:
    sections: dict[str, Any] = {}
    for key, value in values.items():
        part, _, name = key.partition(".")
        sections[part] = replace(sections.get(part, getattr(config, part)), **{name: value})
    return replace(config, **sections)


def _changed(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    was, new = config_module.flat(before), config_module.flat(now)
    return {key: (was[key], new[key]) for key in was if was[key] != new[key]}
