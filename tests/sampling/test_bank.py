import os
from pathlib import Path

import pytest
import torch
from torch import nn

from bgan_video.sampling import SampleBank


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((2, 3), value), "count": torch.tensor(7)}


def filled(folder: Path, steps: int, max_samples: int = 3) -> SampleBank:
    bank = SampleBank(folder, max_samples)
    for step in range(steps):
        for chain in (1, 0):
            bank.add("discriminator", step, chain, state(step + chain / 10))
    return bank


def view(bank: SampleBank, kind: str = "discriminator") -> list[tuple[int, int]]:
    return [(record.step, record.chain) for record in bank.records(kind)]


def test_parameters_and_buffers_come_back_bitwise(tmp_path: Path):
    module = nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2))
    module(torch.randn(3, 1, 4, 4, 4))
    expected = {key: value.clone() for key, value in module.state_dict().items()}
    bank = SampleBank(tmp_path, 2)
    record = bank.add("generator", 5, 1, module.state_dict(), temperature=0.5, cycle=3)
    with torch.no_grad():
        module[0].weight.zero_()
    loaded = bank.load(record)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert record.path.name == "generator_00000005_01.safetensors"
    assert record.metadata() == {
        "kind": "generator",
        "step": "5",
        "chain": "1",
        "temperature": "0.5",
        "cycle": "3",
    }


def test_tied_and_strided_tensors(tmp_path: Path):
    weight = torch.arange(6.0).view(2, 3)
    bank = SampleBank(tmp_path, 1)
    loaded = bank.load(bank.add("net", 0, 0, {"a": weight, "b": weight, "c": weight.T}))
    assert torch.equal(loaded["a"], loaded["b"])
    assert torch.equal(loaded["c"], weight.T)


def test_a_stored_sample_shares_no_memory(tmp_path: Path):
    bank = filled(tmp_path, 1)
    loaded = bank.load(bank.records("discriminator")[0])
    loaded["weight"].zero_()
    assert bank.load(bank.records("discriminator")[0])["weight"].eq(0.0).all()  # step 0, chain 0
    assert bank.load(bank.records("discriminator")[1])["weight"].eq(0.1).all()


def test_records_are_sorted_and_the_view_is_the_latest_steps(tmp_path: Path):
    bank = filled(tmp_path, 5)
    assert view(bank) == [(2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1)]


def test_the_limit_is_per_kind(tmp_path: Path):
    bank = filled(tmp_path, 5)
    bank.add("generator", 0, 0, state(1.0))
    assert view(bank, "generator") == [(0, 0)]
    assert len(view(bank)) == 6
    assert view(bank, "other") == []


def test_steps_sort_as_numbers(tmp_path: Path):
    bank = SampleBank(tmp_path, 2)
    for step in (99_999_999, 100_000_000, 3):
        bank.add("net", step, 100, state(0.0))
    assert view(bank, "net") == [(99_999_999, 100), (100_000_000, 100)]


def test_reopening_finds_what_is_there_and_ignores_the_rest(tmp_path: Path):
    before = view(filled(tmp_path, 2))
    (tmp_path / "discriminator_00000009_00.safetensors.tmp").write_bytes(b"half a file")
    (tmp_path / "notes.txt").write_text("hello")
    assert view(SampleBank(tmp_path, 3)) == before


def test_iterate_loads_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bank = filled(tmp_path, 2)
    loads: list[int] = []
    load = bank.load
    monkeypatch.setattr(bank, "load", lambda record: loads.append(record.step) or load(record))
    samples = bank.iterate("discriminator")
    assert loads == []
    record, tensors = next(samples)
    assert loads == [0]
    assert (record.step, record.chain) == (0, 0)
    assert torch.equal(tensors["weight"], state(0.0)["weight"])
    assert len(list(samples)) == 3


def test_a_write_that_dies_leaves_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bank = filled(tmp_path, 1)

    def die(_: int) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="power cut"):
        bank.add("discriminator", 1, 0, state(1.0))
    with pytest.raises(OSError, match="power cut"):
        bank.add("discriminator", 0, 0, state(9.0))
    assert view(bank) == [(0, 0), (0, 1)]
    assert bank.load(bank.records("discriminator")[0])["weight"].eq(0.0).all()


@pytest.mark.parametrize(
    ("checkpoint", "kill"), [(start, end) for start in range(8) for end in range(start, 8)]
)
def test_a_resumed_run_sees_at_every_step_what_an_unbroken_one_sees(
    tmp_path: Path, checkpoint: int, kill: int
):
    unbroken, views = SampleBank(tmp_path / "unbroken", 3), []
    for step in range(9):
        unbroken.add("net", step, 0, state(step))
        views.append(view(unbroken, "net"))
    broken = SampleBank(tmp_path / "broken", 3)
    for step in range(kill + 1):
        broken.add("net", step, 0, state(step))
        if step == checkpoint:
            broken.prune(step)
    resumed = SampleBank(tmp_path / "broken", 3)
    resumed.truncate_after(checkpoint)
    assert view(resumed, "net") == views[checkpoint]
    for step in range(checkpoint + 1, 9):
        resumed.add("net", step, 0, state(step))
        assert view(resumed, "net") == views[step]


def test_prune_bounds_the_folder(tmp_path: Path):
    bank = filled(tmp_path, 20)
    before = view(bank)
    bank.prune(19)
    assert view(bank) == before
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(("kind", "step", "chain"), [("a/b", 0, 0), ("", 0, 0), ("a", -1, 0)])
def test_bad_names(tmp_path: Path, kind: str, step: int, chain: int):
    with pytest.raises(ValueError, match="cannot store kind"):
        SampleBank(tmp_path, 1).add(kind, step, chain, {})


def test_bad_limit(tmp_path: Path):
    with pytest.raises(ValueError, match="max_samples must be >= 1, got 0"):
        SampleBank(tmp_path, 0)


# --- chains that start afresh ------------------------------------------------------------------


def restarting(folder: Path, steps: int, every: int = 4, max_samples: int = 2) -> SampleBank:
    """Steps 1, 2, …: the updates after which samples are taken, as training counts them."""
    bank = SampleBank(folder, max_samples, restart_every=every)
    for step in range(1, steps + 1):
        bank.add("net", step, 0, state(step))
    return bank


def test_an_update_belongs_to_the_start_whose_last_one_it_may_be(tmp_path: Path):
    bank = SampleBank(tmp_path, 1, restart_every=4)
    assert [bank.start(step) for step in range(10)] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert {SampleBank(tmp_path, 1).start(step) for step in range(100)} == {0}


def test_the_limit_is_per_start(tmp_path: Path):
    bank = restarting(tmp_path, 10)
    assert [step for step, _ in view(bank, "net")] == [3, 4, 7, 8, 9, 10]


def test_a_view_may_be_of_some_starts_only(tmp_path: Path):
    bank = restarting(tmp_path, 10)
    of = [[r.step for r in bank.records("net", starts)] for starts in ({1}, range(1, 3), {5}, ())]
    assert of == [[7, 8], [7, 8, 9, 10], [], []]
    assert [record.step for record, _ in bank.iterate("net", {0})] == [3, 4]


def test_without_restarts_the_limit_is_over_all_steps(tmp_path: Path):
    restarting(tmp_path, 10)
    assert view(SampleBank(tmp_path, 2), "net") == [(9, 0), (10, 0)]


def test_pruning_keeps_what_is_in_view_of_every_start(tmp_path: Path):
    bank = restarting(tmp_path, 10)
    before = view(bank, "net")
    bank.prune(10)
    assert view(bank, "net") == before
    assert len(list(tmp_path.iterdir())) == 6


def test_pruning_keeps_what_a_run_resumed_in_an_earlier_start_would_see(tmp_path: Path):
    bank = restarting(tmp_path, 10)
    bank.prune(7)
    bank.truncate_after(7)
    assert [step for step, _ in view(bank, "net")] == [3, 4, 6, 7]


@pytest.mark.parametrize(
    ("checkpoint", "kill"), [(c, k) for c in (0, 3, 4, 5, 8, 10) for k in (4, 5, 9, 12) if k >= c]
)
def test_a_restarting_run_resumed_sees_what_an_unbroken_one_sees(
    tmp_path: Path, checkpoint: int, kill: int
):
    views: list[list[tuple[int, int]]] = [[]]
    unbroken = SampleBank(tmp_path / "unbroken", 2, restart_every=4)
    for step in range(1, 13):
        unbroken.add("net", step, 0, state(step))
        views.append(view(unbroken, "net"))
    broken = restarting(tmp_path / "broken", kill)
    broken.prune(checkpoint)
    resumed = SampleBank(tmp_path / "broken", 2, restart_every=4)
    resumed.truncate_after(checkpoint)
    assert view(resumed, "net") == views[checkpoint]
    for step in range(checkpoint + 1, 13):
        resumed.add("net", step, 0, state(step))
        assert view(resumed, "net") == views[step]
