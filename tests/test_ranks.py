"""Work is shared by several processes so that everything is done once, and as by one of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bgan_video import api, cli, config, ranks
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.models import finetuning, nd
from bgan_video.prediction import chunks

sizes = st.integers(0, 300)
counts = st.integers(1, 9)


@given(sizes, st.integers(1, 40), counts)
def test_shares_are_all_things_once_and_alike_large(size: int, unit: int, processes: int) -> None:
    parts = [range(size)[ranks.part(size, unit, rank, processes)] for rank in range(processes)]
    assert [thing for part in parts for thing in part] == list(range(size))
    assert all(part.start % unit == 0 for part in parts if part)
    units = [-(-len(part) // unit) for part in parts]
    assert max(units) - min(units) <= 1


@st.composite
def clips(draw: st.DrawFn) -> Config:
    words = [
        "run.device=cpu",
        f"clip.test_clips={draw(st.integers(1, 7))}",
        f"clip.test_crops={draw(st.sampled_from([1, 3]))}",
        f"clip.size={draw(st.integers(16, 40))}",
        f"clip.num_frames={draw(st.integers(2, 6))}",
    ]
    return config.load(None, words)


def batch_sizes(videos: int, of: Config) -> Iterator[int]:
    """Of the batches in which a network sees the clips of some videos."""
    c, step = of.clip, chunks.videos_a_chunk(of)
    per_video = c.test_clips * c.test_crops
    for start in range(0, videos, step):
        count = min(step, videos - start) * per_video
        x = torch.empty(count, 3, c.num_frames, c.size, c.size, device="meta")
        yield from map(len, chunks.batches(x, per_video))


@given(clips(), sizes, counts, st.integers(1, 60), st.integers(1, 400))
def test_several_processes_see_the_batches_of_one(
    of: Config, videos: int, processes: int, batch: int, chunk: int
) -> None:
    """With batches and chunks of about so many clips of 16 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_BATCH_BYTES", batch * 4 * 3 * 16 * 16 * 4)
        patch.setattr(chunks, "_CHUNK_BYTES", chunk * 4 * 3 * 16 * 16 * 4)
        at_once = chunks.videos_at_once(of)
        parts = [ranks.part(videos, at_once, rank, processes) for rank in range(processes)]
        found = [n for part in parts for n in batch_sizes(len(range(videos)[part]), of)]
        assert found == list(batch_sizes(videos, of))


def test_a_process_alone_does_everything() -> None:
    assert list(ranks.together(lambda some: (2 * x for x in some), range(7), 2)) == [
        *range(0, 14, 2)
    ]
    assert ranks.gathered("mine") == ["mine"]
    assert ranks.share(5) == slice(0, 5)


@pytest.mark.parametrize("words", [["prepare"], ["predict", "runs/x", "a.avi"], ["recipes"]])
def test_what_one_process_does_is_refused_to_several(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {words[0]} runs in one process")
    assert ("data.num_workers" in line) == (words[0] == "prepare")
    wanted = "start it without torchrun (WORLD_SIZE=2), which is for train, evaluate, features\n"
    assert line.endswith(wanted)


@pytest.mark.parametrize(("rank", "said"), [("0", "the plan\n"), ("1", "")])
def test_of_several_processes_the_first_one_tells_the_plan(
    rank: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(api, "plan", lambda config: "the plan")
    assert cli.main(["train", "--dry-run"]) == 0
    assert capsys.readouterr().out == said


def test_a_process_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    said = "2 processes on this machine, which has 1 CUDA devices; .* --nproc-per-node up to"
    with pytest.raises(UserError, match=said), ranks.joined(on_cuda=True):
        pass


@pytest.mark.parametrize("apart", [0, 2])
def test_any_network_that_differs_is_told(apart: int, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [nn.Linear(2, 2) for _ in range(3)]
    monkeypatch.setattr(ranks, "count", lambda: 2)
    found: list[str] = []
    monkeypatch.setattr(ranks, "gathered", lambda own: found.append(own) or found)
    ranks.check_equal(networks)
    networks[apart].weight.data[0, 0] += 1
    with pytest.raises(UserError, match=r"processes \[1\] hold other weights than process 0"):
        ranks.check_equal(networks)


def test_norms_over_all_ranks_are_held_and_passed_by_as_those_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: Any = nn.Sequential(nn.BatchNorm2d(3))
    free: Any = nn.Sequential(nn.BatchNorm2d(3))
    finetuning.freeze_norms(held)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), held, free)
    monkeypatch.setattr(ranks, "count", lambda: 2)
    with pytest.raises(UserError, match="over several processes needs CUDA"):
        ranks.synchronised(network)
    on_cuda = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(network, "parameters", lambda: iter([on_cuda]))
    assert ranks.synchronised(network) is network
    assert isinstance(free[0], nn.SyncBatchNorm)
    assert isinstance(held[0], finetuning.Held)
    network.train()
    with nd.frozen_statistics(network):
        network(3 + torch.randn(8, 3, 4, 4))
    assert not free[0].running_mean.any()
    network(3 + torch.randn(8, 3, 4, 4))
    assert free[0].running_mean.any()
    assert not held[0].running_mean.any()
