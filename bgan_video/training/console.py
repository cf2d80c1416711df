"""What a run says on the console."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bgan_video import ranks

# Seconds between two lines of progress that no terminal shows.
_PLAIN_EVERY = 30.0
_TOP1 = "train_top1"


class Console:
    """A progress bar on a terminal, plain lines elsewhere; all of it on standard error.

    Standard output is left to what a program may want to read.
    """

    def __init__(self, first: int, total: int) -> None:
        self._bar = tqdm(
            total=total, initial=first, unit="step", disable=not _is_shown(), leave=False
        )

    def advance(self) -> None:
        """One step done."""
        self._bar.update()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def say(text: str) -> None:
    """A plain line on standard error, above a progress bar if there is one; of the first rank."""
    if ranks.is_first():
        tqdm.write(text, file=sys.stderr)


def _is_shown() -> bool:
    return sys.stderr.isatty() and ranks.is_first()


def progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """A progress bar over a long preparation; off a terminal, a plain line now and then."""
    if _is_shown():
        return tqdm(items, desc=what, total=total, leave=False)
    return _plain_progress(items, what, total)


def _plain_progress(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
    started = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= _PLAIN_EVERY:
            said = now
            left = (now - started) / done * (total - done) / 60
            say(f"{what}: {done} of {total}, about {left:.0f} minutes left")


def console_line(record: Mapping[str, Any], epochs: int, batches: int) -> str:
    """The line the original prints, from a line of the log.

    Where no Bayesian GAN is trained, the losses are those of the methods that are.
    """
    batch = (record["step"] - 1) % batches
    is_game = "loss_d" in record
    trained = [k.removeprefix(_TOP1 + "_") for k in record if k.startswith(_TOP1 + "_")]

    def number(key: str) -> str:
        return f"{record[key]:.4f}" if key in record else "-"

    accuracy = " / ".join(
        f"{100 * record[key]:.2f}"
        for key in (_TOP1, *(f"{_TOP1}_{m}" for m in trained if m == "supervised" or not is_game))
        if key in record
    )
    losses = " ".join(f"Loss_{method}: {number(method)}" for method in trained)
    if is_game:
        losses = (
            f"Loss_D: {number('loss_d')} Loss_G: {number('loss_g')} D(x): {number('d_real')} "
            f"D(G(z)): {number('d_fake_before')} / {number('d_fake_after')}"
        )
    elif "loss_g" in record:
        losses = f"Loss_G: {number('loss_g')}"
    if "loss_c" in record:
        losses += f" Loss_C: {number('loss_c')} margin: {number('critic_margin')}"
    return f"[{record['epoch']}/{epochs}][{batch}/{batches}] {losses} | Acc {accuracy}"


def evaluation_line(record: Mapping[str, Any], level: str) -> str:
    """Figures of an evaluation at one level, for the console."""
    figures = "; ".join(
        f"{name} top-1 {100 * levels[level]['top1']:.1f} % (NLL {levels[level]['nll']:.3f}, "
        f"ECE {levels[level]['ece']:.3f})"
        for name, levels in record["models"].items()
    )
    return f"step {record['step']}, {record['split']} {level}s: {figures}"


def chance_note(record: Mapping[str, Any], level: str, num_classes: int, folder: Path) -> str:
    """What to know before pseudo-labels are believed of a teacher that hardly beats guessing.

    Guessing is right on 1/K of n items, with a standard error of `√(1/K·(1 - 1/K)/n)`; near chance
    is what is not above that by more than two of them (one-sided).

    Args:
        record: The evaluation at the end of round 0, on validation.
        level: Of the items.
        num_classes: K.
        folder: The run's.

    Returns:
        A line for the console; empty where every teacher knows more.
    """
    chance = 1 / num_classes
    near: list[str] = []
    for name in record["of_round"]:
        scores = record["of_round"][name][level]
        error = math.sqrt(chance * (1 - chance) / scores["count"])
        if scores["top1"] <= chance + 2 * error:
            near.append(f"{name} {100 * scores['top1']:.1f} % on {scores['count']} {level}s")
    if not near:
        return ""
    return (
        f"note: so few labels leave round 0 near chance ({', '.join(near)}; guessing has "
        f"{100 * chance:.1f} %), and what it believes will often be wrong; label a few more: "
        f"bgan-video suggest {folder} says which, once the run has ended"
    )
