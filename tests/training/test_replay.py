"""What recorded steps read, and when a step is recorded, without a GPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from bgan_video.backend import Backend
from bgan_video.errors import UserError
from bgan_video.sampling import SGHMC
from bgan_video.training import replay
from bgan_video.training.replay import Replay, StepInputs
from bgan_video.training.trainer import DataSize, Trainer
from tests.training.test_trainer import labelled, settings, unlabelled

CPU = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
RECORDING = dataclasses.replace(CPU, records=True)


def test_where_nothing_is_recorded_numbers_and_tensors_are_themselves() -> None:
    inputs = StepInputs(CPU)
    x = torch.randn(3)
    assert inputs.number("weight", 0.5) == 0.5
    assert inputs.tensor("x", x) is x


def test_recorded_steps_read_in_the_same_place() -> None:
    inputs = StepInputs(RECORDING)
    first, second = torch.randn(3), torch.randn(3)
    number, place = inputs.number("weight", 0.5), inputs.tensor("x", first)
    assert inputs.number("weight", 0.25) is number
    assert number == 0.25
    kept = first.clone()
    assert inputs.tensor("x", second) is place
    assert torch.equal(place, second)
    assert torch.equal(first, kept)  # the caller's own is left alone
    assert inputs.tensor("y", second).data_ptr() != place.data_ptr()
    assert inputs.tensor("x", torch.zeros(5)).shape == (5,)


class Recorder:
    """In place of CUDA: what is recorded runs at once, and a replay runs it again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stays: bool = True) -> None:
        self.calls: list[str] = []
        self.stays, self.state = stays, torch.zeros(2)
        compute, monkeypatch_ = self._compute, monkeypatch
        self.of = Replay(compute, RECORDING, states=lambda: [("momentum of Own", self.state)])
        monkeypatch_.setattr(self.of, "_aside", self._aside)
        monkeypatch_.setattr(self.of, "_record", self._record)

    def _compute(self, x: Tensor) -> dict[str, Tensor]:
        if self.stays:
            self.state.copy_(x)
        else:
            self.state = x.clone()
        return {"sum": x.sum()}

    def _aside(self, inputs: Any) -> dict[str, Tensor]:
        self.calls.append("launched")
        return self._compute(*inputs)

    def _record(self, inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        self.calls.append("recorded")
        return self, self._compute(*inputs)

    def replay(self) -> None:
        self.calls.append("replayed")


LAUNCHED, RECORDED = ["launched"] * replay._WARM_UP, ["recorded", "replayed"]


def test_a_step_is_recorded_when_it_is_warm_and_anew_when_it_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of, x = Recorder(monkeypatch), torch.ones(2)
    for _ in range(5):
        of.of("burn-in", x)
    assert of.calls == [*LAUNCHED, *RECORDED, "replayed", "replayed"]
    of.calls.clear()
    for _ in range(4):
        of.of("sampling", x)
    assert of.calls == [*LAUNCHED, *RECORDED, "replayed"]
    of.calls.clear()
    elsewhere = torch.ones(2)
    of.of("sampling", elsewhere)
    assert of.calls == ["launched"]
    of.of.forget()
    of.of("sampling", elsewhere)
    assert of.calls == ["launched"] * 2


def test_kinds_that_alternate_are_each_recorded_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    of, x = Recorder(monkeypatch), torch.ones(2)
    for step in range(8):
        of.of("burn-in", x, kind=step % 2)
    assert of.calls.count("launched") == 2 * replay._WARM_UP
    assert of.calls.count("recorded") == 2
    of.calls.clear()
    of.of("burn-in", x, kind=0)
    assert of.calls == ["replayed"]
    of.calls.clear()
    of.of("sampling", x, kind=1)
    assert of.calls == ["launched"]


def test_what_changes_with_every_step_is_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    of, x = Recorder(monkeypatch), torch.ones(2)
    for step in range(9):
        of.of(("exponential", step), x)
    assert set(of.calls) == {"launched"}


def test_a_state_that_moves_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay would read what the last step before it was recorded had left."""
    of, x = Recorder(monkeypatch, stays=False), torch.ones(2)
    for _ in LAUNCHED:
        of.of("sampling", x)
    with pytest.raises(UserError, match=r"momentum of Own is in new memory .*run\.compile=false"):
        of.of("sampling", x)
    assert of.calls == [*LAUNCHED, "recorded"]


class Launched:
    """A graph that a CPU has none of: its step was made when it was recorded."""

    def replay(self) -> None:
        pass


def advance(monkeypatch: pytest.MonkeyPatch, sampler: str) -> list[str]:
    """Steps of a trainer whose backend records; what was recorded, by the first chain's mover."""
    c = settings("posterior.burn_in=3", "train.steps=9", f"posterior.sampler={sampler}")
    of, batch, recorded = Trainer(c, DataSize(3, 20, 3), RECORDING), (labelled(), unlabelled()), []

    def record(self: Replay, inputs: Any) -> tuple[Launched, dict[str, Tensor]]:
        recorded.append(type(of.discriminators[0].optimizer).__name__)
        return Launched(), self._compute(*inputs)

    monkeypatch.setattr(Replay, "_aside", Replay._computed)
    monkeypatch.setattr(Replay, "_record", record)
    for step in range(8):
        of.step(step, *batch)
    return recorded


@pytest.mark.parametrize("sampler", ["sghmc", "sgld", "adaptive_sghmc", "mclmc"])
def test_samplers_change_their_state_in_place(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(advance(monkeypatch, sampler))) == 2


def test_a_sampler_whose_state_moves_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def momentum(self: SGHMC, param: Tensor) -> Tensor:
        before = self.state[param].get("momentum", torch.zeros_like(param))
        self.state[param]["momentum"] = before.clone()
        return self.state[param]["momentum"]

    monkeypatch.setattr(SGHMC, "momentum", momentum)
    with pytest.raises(UserError, match="momentum of SGHMC is in new memory"):
        advance(monkeypatch, "sghmc")


def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    def pool(x: Tensor) -> dict[str, Tensor]:
        raise RuntimeError(
            "adaptive_avg_pool3d_backward_cuda does not have a deterministic implementation, but "
            "you set 'torch.use_deterministic_algorithms(True)'.\nYou can turn it off"
        )

    with pytest.raises(UserError) as caught:
        Replay(pool, CPU)("any", torch.ones(1))
    assert str(caught.value).startswith("run.deterministic=true: adaptive_avg_pool3d_backward_cuda")
    assert "\n" not in str(caught.value)


def test_other_errors_are_raised_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        Replay(lambda x: {"product": x @ torch.ones(3, 3)}, CPU)("any", torch.ones(2, 2))
