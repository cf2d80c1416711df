"""The posterior predictive against sums over networks and clips written out by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.metrics.entropy import entropy
from bgan_video.metrics.scores import scores
from bgan_video.prediction import chunks as test_clips
from bgan_video.prediction.chunks import ClipChunk
from bgan_video.prediction.predict import (
    Current,
    Prediction,
    Renormalised,
    Stored,
    WithDropout,
    figures,
    kept,
    predict,
)
from bgan_video.prediction.together import combine
from bgan_video.sampling import SampleBank

K, PIXELS = 3, 3 * 2 * 4 * 4
BACKEND = resolve_backend(config.Run(device="cpu"), 3)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = [nn.Flatten(), nn.Linear(PIXELS, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)]
        return nn.Sequential(*body, nn.Linear(6, K + 1))


def networks(count: int = 3) -> list[nn.Module]:
    return [network(seed) for seed in range(count)]


def chunk(videos: int = 4, per_video: int = 3, seed: int = 0) -> ClipChunk:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(videos * per_video, 3, 2, 4, 4, generator=random) * 3
    return ClipChunk(x, torch.arange(videos) % K, per_video)


def of(nets: Sequence[nn.Module], *chunks: ClipChunk) -> Prediction:
    return predict(Current(nets), chunks, BACKEND)


def by_hand(nets: Sequence[nn.Module], given_: ClipChunk) -> Tensor:
    """`[networks, V, n, K+1]` logits in float64, one network in evaluation mode at a time."""
    logits = [copy.deepcopy(n).double().eval()(given_.clips.double()) for n in nets]
    shape = (len(nets), len(given_.labels), given_.clips_per_video, K + 1)
    return torch.stack(logits).detach().view(shape)


def hand_entropy(p: Tensor) -> Tensor:
    return -(p * p.log()).sum(-1)


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_networks", [1, 3])
def test_probabilities_not_logits_are_averaged(num_networks: int) -> None:
    nets, given_ = networks(num_networks), chunk()
    logits = by_hand(nets, given_)
    p = logits[..., 1:].softmax(-1)
    prediction = of(nets, given_)
    close(prediction.clip_probabilities, p.mean(0).view(-1, K))
    close(prediction.video_probabilities, p.mean((0, 2)))
    close(prediction.p_fake, logits.softmax(-1)[..., 0].mean((0, 2)))
    other = logits.mean((0, 2))[..., 1:].softmax(-1)
    assert (other - prediction.video_probabilities).abs().max() > 1e-2


def test_every_network_has_its_own_probabilities() -> None:
    nets, given_ = networks(), chunk()
    p = by_hand(nets, given_)[..., 1:].softmax(-1).mean(2)
    close(of(nets, given_).network_probabilities, p)


def test_a_part_is_what_its_videos_alone_would_get() -> None:
    nets, first, second = networks(), chunk(seed=1), chunk(videos=3, seed=2)
    part = of(nets, first, second).part(4, 7)
    alone = of(nets, second)
    for field in ("clip_probabilities", "network_probabilities", "p_fake", "mutual_information"):
        close(getattr(part, field), getattr(alone, field))


# --- dropout left on ---------------------------------------------------------------------------


def test_dropout_left_on_answers_differently_and_reproducibly() -> None:
    dropped = WithDropout(Current([network()]), 6, BACKEND, "seed")
    assert len(dropped) == 6
    before = torch.get_rng_state()
    one, other = (predict(dropped, [chunk()], BACKEND) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.network_probabilities, other.network_probabilities)
    assert len(one.network_probabilities.flatten(1).unique(dim=0)) == 6
    assert one.mutual_information.min() > 0
    different = predict(WithDropout(Current([network()]), 6, BACKEND, "other"), [chunk()], BACKEND)
    assert not torch.equal(one.network_probabilities, different.network_probabilities)


def test_only_dropout_is_left_on_and_it_is_turned_off_again() -> None:
    net = network().eval()
    statistics = net[2].running_mean.clone()
    modes = []
    for yielded in WithDropout(Current([net]), 2, BACKEND, 0):
        modes.append([m.training for m in yielded])
        yielded(chunk().clips)
    assert modes == [[False, False, False, True, False]] * 2
    assert not any(m.training for m in net.modules())
    assert torch.equal(net[2].running_mean, statistics)


# --- statistics taken anew ---------------------------------------------------------------------


def test_statistics_are_those_of_the_batches_and_the_bank_keeps_its_own(tmp_path: Path) -> None:
    bank = SampleBank(tmp_path, 3)
    bank.add("discriminator", 1, 0, network(1).state_dict())
    stored = Stored(bank, "discriminator", network())
    batches = [chunk(seed=s).clips for s in (3, 4)]
    (net,) = Renormalised(stored, batches, BACKEND)
    inputs = [network(1)[1](x.flatten(1)) for x in batches]
    close(net[2].running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0))
    close(net[2].running_var, torch.stack([x.var(0) for x in inputs]).mean(0))
    assert not net.training
    (again,) = stored
    assert torch.equal(again[2].running_mean, network(1)[2].running_mean)


def test_mutual_information_is_total_minus_expected_entropy() -> None:
    nets, given_ = networks(), chunk()
    p = by_hand(nets, given_)[..., 1:].softmax(-1).mean(2)  # [networks, V, K]
    prediction = of(nets, given_)
    close(prediction.total_entropy, hand_entropy(p.mean(0)))
    close(prediction.expected_entropy, hand_entropy(p).mean(0))
    close(prediction.mutual_information, hand_entropy(p.mean(0)) - hand_entropy(p).mean(0))
    assert (prediction.mutual_information > 1e-4).all()


def test_networks_that_agree_share_no_information() -> None:
    prediction = of([network()] * 3, chunk())
    close(prediction.mutual_information, torch.zeros(4, dtype=torch.float64))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_a_prediction_is_a_distribution_and_its_information_is_bounded(
    num_networks: int, videos: int, per_video: int, seed: int
) -> None:
    prediction = of(networks(num_networks), chunk(videos, per_video, seed))
    for p in (prediction.clip_probabilities, prediction.video_probabilities):
        close(p.sum(1), torch.ones(len(p), dtype=torch.float64))
    information = prediction.mutual_information
    assert (information >= 0).all()
    assert (information <= math.log(min(K, num_networks)) + 1e-6).all()


def test_entropy_of_certainty_is_zero_and_of_ignorance_is_its_maximum() -> None:
    assert entropy(torch.tensor([0.0, 1.0, 0.0])) == 0
    assert entropy(torch.full((4,), 0.25)).item() == pytest.approx(math.log(4))


def test_the_order_of_clips_does_not_matter_to_a_video() -> None:
    nets, given_ = networks(), chunk()
    mixed = given_.clips.view(4, 3, *given_.clips.shape[1:])[:, [2, 0, 1]].flatten(0, 1)
    one, other = of(nets, given_), of(nets, ClipChunk(mixed, given_.labels, 3))
    for field in ("video_probabilities", "p_fake", "expected_entropy"):
        close(getattr(one, field), getattr(other, field))


def test_chunks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nets, whole = networks(), chunk(videos=5)
    parts = [
        ClipChunk(whole.clips[3 * a : 3 * b], whole.labels[a:b], 3) for a, b in ((0, 2), (2, 5))
    ]
    expected = of(nets, whole)
    chunked = of(nets, *parts)
    monkeypatch.setattr(test_clips, "_BATCH", 4)
    batched = of(nets, whole)
    for field in ("clip_probabilities", "video_probabilities", "p_fake", "expected_entropy"):
        close(getattr(chunked, field), getattr(expected, field))
        close(getattr(batched, field), getattr(expected, field))


@pytest.mark.parametrize(("room", "largest"), [(2**20, 63), (2500, 6), (1, 1)])
def test_large_clips_are_seen_few_at_a_time(
    room: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x.flatten(1)[:, : K + 1]

    monkeypatch.setattr(test_clips, "_BATCH_BYTES", room)
    of([Counts()], chunk(videos=30, per_video=3))  # a clip has 384 bytes; videos stay whole
    assert max(seen) == largest
    assert sum(seen) == 90


def test_looking_at_training_networks_changes_nothing_in_them() -> None:
    nets = networks(2)
    nets[0].train()
    nets[1].eval()
    before = copy.deepcopy([n.state_dict() for n in nets])
    state = torch.get_rng_state()
    prediction = of(nets, chunk())
    assert [n.training for n in nets] == [True, False]
    assert all(layer.training for layer in nets[0].modules())
    for n, saved in zip(nets, before, strict=True):
        assert all(torch.equal(n.state_dict()[key], value) for key, value in saved.items())
        assert all(p.grad is None and p.requires_grad for p in n.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not prediction.clip_probabilities.requires_grad


def test_stored_samples_predict_as_they_were_stored(tmp_path: Path) -> None:
    bank = SampleBank(tmp_path, max_samples=5)
    nets = networks(3)
    for step, n in enumerate(nets):
        n.train()(chunk(seed=step).clips)  # statistics of its own
        bank.add("discriminator", step, 0, n.state_dict())
    bank.add("generator", 0, 0, network(9).state_dict())
    stored = Stored(bank, "discriminator", network(8))
    assert len(stored) == 3
    one, other = predict(stored, [chunk()], BACKEND), of(nets, chunk())
    assert torch.equal(one.clip_probabilities, other.clip_probabilities)
    assert torch.equal(one.expected_entropy, other.expected_entropy)


@pytest.mark.parametrize(("room", "loads"), [(2**20, 3), (100, 6)])
def test_networks_that_fit_are_loaded_once(
    room: int, loads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = SampleBank(tmp_path, max_samples=5)
    for step, n in enumerate(networks(3)):
        bank.add("discriminator", step, 0, n.state_dict())
    monkeypatch.setattr("bgan_video.prediction.predict._MOST_KEPT", room)
    loaded: list[object] = []
    load = bank.load
    monkeypatch.setattr(bank, "load", lambda record: loaded.append(record) or load(record))
    asked = kept(Stored(bank, "discriminator", network(8)))
    assert len(asked) == 3
    for seed in range(2):
        one, other = predict(asked, [chunk(seed=seed)], BACKEND), of(networks(3), chunk(seed=seed))
        assert torch.equal(one.network_probabilities, other.network_probabilities)
    assert len(loaded) == loads


def test_networks_are_asked_in_evaluation_mode_and_without_a_graph() -> None:
    class Watches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            return x.flatten(1)[:, : K + 1]

    of([Watches().train()], chunk())


def test_figures_give_every_clip_its_videos_label() -> None:
    given_ = chunk(videos=4, per_video=3)
    prediction = of(networks(), given_)
    both = figures(prediction, given_.labels, "video")
    repeated = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0])
    assert both["clip"] == scores(prediction.clip_probabilities, repeated)
    assert both["video"] == scores(prediction.video_probabilities, given_.labels)
    assert (both["clip"]["count"], both["video"]["count"]) == (12, 4)


def test_what_bodies_say_together_has_no_figures_of_clips() -> None:
    given_ = chunk(videos=4, per_video=3)
    parts = [of(networks(), given_), of(networks(), given_)]
    together = combine(parts, "product", [1.0, 1.0])
    assert list(figures(together, given_.labels, "video")) == ["video"]
