"""From round to round: who starts afresh, who goes on, and what is written of the pool."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.timetable import ensemble_in_round, posterior_size, rival_size
from bgan_video.prediction.predict import Prediction
from bgan_video.sampling import SampleBank
from bgan_video.training import lineup, rounds, storing
from bgan_video.training.learners import Learned
from bgan_video.training.lineup import Models
from bgan_video.training.rounds import Pool
from bgan_video.training.trainer import DataSize

K, N, STEPS = 3, 20, 3
BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
LASTING = ("supervised", "mc_dropout", "pseudo_label", "mean_teacher", "fixmatch", "ml_gan")
TEACHERS = ("self_training", "self_training_ensemble")
RESTARTING = ("deep_ensemble", *TEACHERS, "cold_gan")
EVERYONE = f"baseline.methods=[bayesian_gan,{','.join((*LASTING, *RESTARTING))}]"


def settings(*overrides: str) -> Config:
    clips = ["clip.size=16", "clip.num_frames=4", "train.batch_size=4", "posterior.thinning=1"]
    widths = ["generator.width=4", "generator.latent_dim=3", "discriminator.width=4"]
    steps = [f"train.steps={STEPS}", "posterior.burn_in=1", "train.rounds=2"]
    return config.load(None, [*clips, *widths, *steps, *overrides])


def clips(seed: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, 16, 16, generator=random) * 2 - 1


def batches(step: int) -> tuple[LabelledBatch, UnlabelledBatch]:
    labelled = LabelledBatch(clips(10 + step, 3), torch.tensor([0, 2, 1]))
    return labelled, UnlabelledBatch(clips(2 + step, 4), clips(102 + step, 4))


def all_rounds(of: Config, last: int | None = None) -> list[Models]:
    """The models of each round at its end, as the loop makes them; what lasts is in all of them."""
    found: list[Models] = []
    for number in range(1 + (of.train.rounds if last is None else last)):
        lasting = found[-1].learners if found else ()
        found.append(lineup.build(of, DataSize(K, N, K), BACKEND, number, lasting))
        for step in range(number * of.train.steps, (number + 1) * of.train.steps):
            found[-1].step(step, *batches(step))
    return found


def weights(of: Models) -> dict[str, list[nn.Module]]:
    """The networks of every method."""
    found: dict[str, list[nn.Module]] = {m.model: list(m.networks) for m in of.learners}
    return found | {"bayesian_gan": list(of.discriminators), "generators": list(of.generators)}


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- who starts afresh -------------------------------------------------------------------------


def test_every_round_begins_with_weights_of_its_own() -> None:
    of = settings(EVERYONE)
    begun = [lineup.build(of, DataSize(K, N, K), BACKEND, number) for number in range(3)]
    methods = ("bayesian_gan", "generators", *TEACHERS, "deep_ensemble")
    for method in methods:
        networks = [network for found in begun for network in weights(found)[method]]
        assert len(networks) >= 3
        for i, network in enumerate(networks):
            assert not any(same(network, other) for other in networks[:i]), method
    again = lineup.build(of, DataSize(K, N, K), BACKEND, 1)
    for method, networks in weights(again).items():
        assert all(map(same, networks, weights(begun[1])[method])), method


def test_a_round_does_not_depend_on_the_ones_before_but_by_what_it_learns_from() -> None:
    of = settings("baseline.methods=[bayesian_gan,cold_gan,self_training]")
    after_others = weights(all_rounds(of, last=1)[1])
    alone = lineup.build(of, DataSize(K, N, K), BACKEND, 1)
    for step in range(STEPS, 2 * STEPS):
        alone.step(step, *batches(step))
    for method, networks in weights(alone).items():
        assert all(map(same, networks, after_others[method])), method


def test_the_scaler_of_losses_begins_anew_with_a_round() -> None:
    """A run that goes on at a round's beginning knows nothing of the one before."""
    backend = dataclasses.replace(BACKEND, precision="fp16").with_own_scaler()
    begun = backend.scaler.get_scale()
    of = settings("train.rounds=1")
    first = lineup.build(of, DataSize(K, N, K), backend)
    assert first.chains
    first.chains.backend.scaler.scale(torch.ones(()))
    first.chains.backend.scaler.update(2.0)
    second = lineup.build(of, DataSize(K, N, K), backend, 1, first.learners)
    assert second.chains
    assert second.chains.backend.scaler.get_scale() == begun > 2


def test_methods_without_rounds_go_on_as_if_the_rounds_were_one() -> None:
    methods = f"baseline.methods=[{','.join(LASTING)}]"
    (*_, last) = all_rounds(settings(methods, "train.adam_schedule=cosine"))
    one = settings(
        methods, f"train.steps={3 * STEPS}", "train.rounds=0", "train.adam_schedule=cosine"
    )
    (whole,) = all_rounds(one)
    for method in LASTING:
        assert all(map(same, weights(last)[method], weights(whole)[method])), method


def test_the_cold_twin_branches_off_from_the_chains_of_its_round_and_believes_as_they_do() -> None:
    of = settings("baseline.methods=[bayesian_gan,cold_gan]", "posterior.lr=1e-4")
    (first,) = all_rounds(of, last=0)
    second = lineup.build(of, DataSize(K, N, K), BACKEND, 1, first.learners)
    believed = {"bayesian_gan": LabelledBatch(clips(77, 3), torch.tensor([1, 1, 0]))}
    for step in range(STEPS, 2 * STEPS):
        second.step(step, *batches(step), believed)
        cold, warm = weights(second)["cold_gan"], weights(second)["bayesian_gan"]
        is_burning_in = step - STEPS < of.posterior.burn_in
        assert not any(map(same, cold, warm))
        if is_burning_in:  # it waits where it began
            begun = weights(lineup.build(of, DataSize(K, N, K), BACKEND, 1))["cold_gan"]
            assert all(map(same, cold, begun))
    alone = settings("posterior.temperature=0", "posterior.lr=1e-4")
    reference = lineup.build(alone, DataSize(K, N, K), BACKEND, 1)
    for step in range(STEPS, 2 * STEPS):
        reference.step(step, *batches(step), believed)
    assert all(map(same, weights(second)["cold_gan"], weights(reference)["bayesian_gan"]))


# --- who goes on -------------------------------------------------------------------------------


def test_a_warm_round_begins_at_the_last_sample_of_each_that_teaches(tmp_path: Path) -> None:
    of = settings("baseline.methods=[bayesian_gan,self_training,deep_ensemble]")
    (first,) = all_rounds(of, last=0)
    bank = SampleBank(tmp_path, 10, restart_every=STEPS)
    (chains,) = storing.sampled(lineup.build(of, DataSize(K, N, K), BACKEND, 7))
    chains.store(STEPS - 1, STEPS - 2, bank)  # an earlier sample, of other weights
    (chains,) = storing.sampled(first)
    chains.store(STEPS, STEPS - 1, bank)
    storing.store_restarting(STEPS, first, bank, lambda _: Learned(lambda: (), lambda: iter(())))
    fresh = weights(lineup.build(of, DataSize(K, N, K), BACKEND, 1))
    second = lineup.build(of, DataSize(K, N, K), BACKEND, 1)
    storing.go_on(second, bank)
    begun, ended = weights(second), weights(first)
    for method in ("bayesian_gan", "self_training"):
        assert all(map(same, begun[method], ended[method])), method
    for method in ("deep_ensemble", "generators"):
        assert all(map(same, begun[method], fresh[method])), method


# --- equal compute -----------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", [[], ["posterior.num_mcmc=2"], ["train.rounds=4"]], ids=str)
def test_an_ensembles_members_are_divided_among_the_rounds(overrides: list[str]) -> None:
    of = settings("baseline.methods=[bayesian_gan,deep_ensemble]", *overrides)
    members = [n for r in range(1 + of.train.rounds) for n in ensemble_in_round(of, r)]
    assert members == list(range(rival_size(of)))
    for number, of_size in ((7, 7), (2, 2)):
        other = settings(f"baseline.num_networks={number}", *overrides)
        members = [n for r in range(1 + of.train.rounds) for n in ensemble_in_round(other, r)]
        assert members == list(range(of_size))


def test_rivals_take_as_many_steps_as_all_rounds() -> None:
    """Adam counts the steps of every network."""
    of = settings(
        f"baseline.methods=[deep_ensemble,supervised,{','.join(TEACHERS)}]",
        "posterior.num_mcmc=2",
    )
    taken: dict[str, int] = {}
    networks: dict[str, int] = {}
    for found in all_rounds(of):
        for learner in found.learners:
            members = learner.state_dict()["members"]
            steps = [int(m["optimizer"]["state"][0]["step"]) for m in members]
            before = 0 if learner.restarts else taken.get(learner.model, 0)
            taken[learner.model] = taken.get(learner.model, 0) + sum(steps) - before
            if learner.restarts:
                networks[learner.model] = networks.get(learner.model, 0) + len(steps)
                assert set(steps) == {STEPS}
    chains = of.posterior.num_discriminators * of.posterior.num_mcmc
    one, ensembles = 3 * STEPS, ("deep_ensemble", "self_training_ensemble")
    assert taken == dict.fromkeys(("supervised", "self_training"), one) | dict.fromkeys(
        ensembles, chains * one
    )
    assert networks == {"self_training": 3} | dict.fromkeys(ensembles, chains * 3)


def test_an_ensemble_of_teachers_is_the_one_network_and_others_as_many_as_chains() -> None:
    of = settings("baseline.methods=[self_training,self_training_ensemble]")
    for found in all_rounds(of):
        (one,), several = weights(found)["self_training"], weights(found)["self_training_ensemble"]
        assert len(several) == of.posterior.num_discriminators
        assert same(several[0], one)
        assert not same(several[1], one)
    of = settings("baseline.methods=[self_training_ensemble]", "baseline.num_networks=9")
    counts = [len(weights(found)["self_training_ensemble"]) for found in all_rounds(of)]
    assert counts == [3, 3, 3]


def test_without_rounds_the_ensemble_has_as_many_networks_as_samples() -> None:
    of = settings("train.rounds=0", "posterior.max_samples=2")
    assert posterior_size(of) == rival_size(of) == 4  # 2 chains × 2 samples
    assert list(ensemble_in_round(of, 0)) == [0, 1, 2, 3]
    for answer, rounds_answering in (("all", 3), ("later", 1), ("last", 1)):
        of = settings("posterior.max_samples=2", f"rounds.answer={answer}")
        assert posterior_size(of) == 4 * rounds_answering
        assert rival_size(of) == 6  # as many as chains were started, whoever answers


# --- who learns from what ----------------------------------------------------------------------


def test_only_those_who_believe_learn_from_what_is_believed() -> None:
    of = settings(EVERYONE)
    plain, other = (lineup.build(of, DataSize(K, N, K), BACKEND, 1) for _ in range(2))
    believed = LabelledBatch(clips(77, 3), torch.tensor([1, 1, 0]))
    for step in range(STEPS, 2 * STEPS):
        plain.step(step, *batches(step))
        other.step(step, *batches(step), dict.fromkeys(("bayesian_gan", *TEACHERS), believed))
    believers = {"bayesian_gan", "generators", *TEACHERS, "cold_gan"}
    for method, networks in weights(plain).items():
        is_same = list(map(same, networks, weights(other)[method]))
        assert not any(is_same) if method in believers else all(is_same), method


def test_classes_weigh_by_what_a_method_believes_itself() -> None:
    methods = ("bayesian_gan", *TEACHERS, "deep_ensemble", "supervised")
    of = settings(f"baseline.methods=[{','.join(methods)}]")
    size = DataSize(K, N, K)
    weighed = DataSize(K, N, K, class_weights=(2.0, 0.5, 0.5))
    for believer in ("bayesian_gan", *TEACHERS):
        other = lineup.build(of, size, BACKEND, 1, believing={believer: weighed})
        plain = lineup.build(of, size, BACKEND, 1)
        for found in (plain, other):
            for step in range(STEPS, 2 * STEPS):
                found.step(step, *batches(step))
        for method, networks in weights(plain).items():
            if method in methods:
                is_same = all(map(same, networks, weights(other)[method]))
                assert is_same == (method != believer), (believer, method)


# --- state -------------------------------------------------------------------------------------


def test_a_state_of_an_earlier_round_brings_back_what_lasts() -> None:
    of = settings(EVERYONE)
    (first,) = all_rounds(of, last=0)
    state = copy.deepcopy(first.state_dict())
    fresh = lineup.build(of, DataSize(K, N, K), BACKEND, 1)
    resumed = lineup.build(of, DataSize(K, N, K), BACKEND, 1)
    resumed.load_state_dict(state)
    for method, networks in weights(resumed).items():
        expected = weights(first) if method in LASTING else weights(fresh)
        assert all(map(same, networks, expected[method])), method


@pytest.mark.parametrize("saved_after", [STEPS, STEPS + 1, 2 * STEPS - 1])
def test_a_later_round_goes_on_bit_for_bit(saved_after: int) -> None:
    of = settings(EVERYONE, "discriminator.dropout=0.3")
    whole = all_rounds(of, last=1)[1]
    (first,) = all_rounds(of, last=0)
    state = copy.deepcopy(first.state_dict())  # before the next round's networks are made
    before = lineup.build(of, DataSize(K, N, K), BACKEND, 1, first.learners)
    for step in range(STEPS, saved_after):
        before.step(step, *batches(step))
    if saved_after > STEPS:
        state = copy.deepcopy(before.state_dict())
    torch.randn(9)
    begun = lineup.build(of, DataSize(K, N, K), BACKEND)
    resumed = lineup.build(of, DataSize(K, N, K), BACKEND, 1, begun.learners)
    resumed.load_state_dict(state)
    for step in range(saved_after, 2 * STEPS):
        resumed.step(step, *batches(step))
    for method, networks in weights(resumed).items():
        assert all(map(same, networks, weights(whole)[method])), method


# --- what is written of the pool ---------------------------------------------------------------


def pool(num_labelled: int = 2, num_pool: int = 10, *overrides: str) -> Pool:
    def item(number: int) -> Item:
        return Item(f"{number}.avi", number % 2, str(number), "train", number < num_labelled)

    items = (*map(item, range(num_labelled + num_pool)), Item("t.avi", 0, "t", "test"))
    manifest = Manifest("some", "/", 1, ("left", "right"), items)
    of = settings("baseline.methods=[bayesian_gan,self_training]", *overrides)
    return Pool(manifest, of)


def said(of: Pool, rights: Sequence[float]) -> Prediction:
    """A teacher that gives the second class of each item this probability, and two networks."""
    p = torch.tensor([[1 - right, right] for right in rights], dtype=torch.float64)
    assert len(p) == len(of.items)
    return Prediction(p, torch.stack([p, p]), torch.zeros(len(p)))


def judge(folder: Path, number: int, of: Pool, **rights: Sequence[float]) -> list[dict[str, Any]]:
    def teach(items: Sequence[Item]) -> dict[str, Prediction]:
        assert list(items) == of.items
        return {method: said(of, found) for method, found in rights.items()}

    rounds.judge(number, teach, of, folder)
    return rounds.read(folder, number)


RISING = [0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95]


def test_the_pool_is_every_unlabelled_training_item() -> None:
    assert [item.path for item in pool().items] == [f"{n}.avi" for n in range(2, 12)]


def test_a_rounds_file_says_who_is_believed_and_why(
    tmp_path: Path,
) -> None:
    of = pool(2, 10, "rounds.believed=0.8")  # 2 of each class in the first of two rounds
    lines = judge(tmp_path, 1, of, bayesian_gan=RISING, self_training=RISING[::-1])
    assert rounds.path(tmp_path, 1) == tmp_path / "pseudo_labels" / "round_01.jsonl"
    own = [line for line in lines if line["model"] == "bayesian_gan"]
    assert [(line["path"], line["class"]) for line in own] == [
        ("2.avi", "left"), ("3.avi", "left"), ("10.avi", "right"), ("11.avi", "right")
    ]  # fmt: skip
    first = own[0]
    p = torch.tensor([0.95, 0.05], dtype=torch.float64)
    assert first["label"] == 0
    assert first["probability"] == first["certainty"] == pytest.approx(0.95)
    assert first["total_entropy"] == pytest.approx(torch.special.entr(p).sum().item())
    assert first["mutual_information"] == pytest.approx(0)
    assert {line["changed"] for line in lines} == {None}
    others = [line["class"] for line in lines if line["model"] == "self_training"]
    assert others == ["right", "right", "left", "left"]
    believed = rounds.believed(tmp_path, 1, of)
    assert set(believed) == {"bayesian_gan", "self_training"}
    assert [(i.path, i.label, i.labelled) for i in believed["self_training"]] == [
        ("2.avi", 1, True), ("3.avi", 1, True), ("10.avi", 0, True), ("11.avi", 0, True)
    ]  # fmt: skip


def test_a_further_round_believes_more_and_says_who_changed(
    tmp_path: Path,
) -> None:
    of = pool(2, 10, "rounds.believed=0.8")
    judge(tmp_path, 1, of, bayesian_gan=RISING, self_training=RISING)
    turned = [0.9, *RISING[1:]]
    lines = judge(tmp_path, 2, of, bayesian_gan=turned, self_training=RISING)
    own = {line["path"]: line for line in lines if line["model"] == "bayesian_gan"}
    assert len(own) == 8
    assert own["2.avi"]["changed"] is True
    assert own["3.avi"]["changed"] is False
    assert own["4.avi"]["changed"] is None  # not believed before
    assert not any(line["changed"] for line in lines if line["model"] == "self_training")


def test_strangers_leave_the_pool_before_numbers_are_shared_out(
    tmp_path: Path,
) -> None:
    # Of 10 four are strangers; 0.7 of the other 6 are 2 of each class, not 3 as of all 10.
    of = pool(2, 10, "rounds.believed=0.7", "rounds.strangers=0.4", "train.rounds=1")
    lines = judge(tmp_path, 1, of, bayesian_gan=RISING)
    assert [line["path"] for line in lines] == [f"{n}.avi" for n in (2, 3, 10, 11)]


def drawn_pool(labels: Sequence[int], *overrides: str) -> tuple[Pool, Tensor]:
    """A pool of which a fifth is of the second class, and its log-likelihood ratios `[V]`.

    Classes are unit Gaussians on a line, 1.5 apart: an exact teacher needs no training.
    """
    random = torch.Generator().manual_seed(0)
    true = (torch.rand(1500, generator=random) < 0.2).long()
    items = [Item(f"l{i}.avi", label, str(i), "train", True) for i, label in enumerate(labels)]
    items += [Item(f"{i}.avi", int(k), "p", "train", False) for i, k in enumerate(true)]
    manifest = Manifest("some", "/", 1, ("left", "right"), tuple(items))
    more = ("rounds.balance=estimated", "rounds.believed=0.1", "train.rounds=4", *overrides)
    of = settings("baseline.methods=[bayesian_gan]", *more)
    x = 1.5 * true + torch.randn(len(true), generator=random, dtype=torch.float64)
    return Pool(manifest, of), 1.5 * x - 1.5**2 / 2


ALIKE, UNLIKE = [0, 1] * 5, [0] * 8 + [1] * 2


@pytest.mark.parametrize(
    ("labels", "taught", "bodies", "overrides"),
    [
        (ALIKE, 0.5, 1, []),
        (UNLIKE, 0.8, 1, []),
        (UNLIKE, 0.5, 1, ["train.labelled_sampling=balanced"]),
        (UNLIKE, None, 1, ["train.class_weights=balanced"]),
        (ALIKE, 0.5, 2, []),
        (UNLIKE, 0.8, 2, []),
    ],
    ids=["alike", "unlike", "balanced sampling", "balanced weights", "two alike", "two unlike"],
)
def test_an_estimated_prior_stays_that_of_the_pool_through_all_rounds(
    labels: list[int], taught: float | None, bodies: int, overrides: list[str], tmp_path: Path
) -> None:
    """A teacher's answers carry what it learned from labels and beliefs together.

    It learns half of each batch from either, and every body of a product learns the same.

    Args:
        labels: True ones.
        taught: How often the first class is among them as they are drawn; None where weights make
            both classes count the same, believed ones included.
        bodies: That answer together, each by an item's likelihood of its own.
        overrides: Settings.
        tmp_path: A folder.
    """
    of, ratio = drawn_pool(labels, *overrides)
    first = [taught or 0.5]
    for number in range(1, 5):
        log_prior = torch.tensor([first[-1], 1 - first[-1]], dtype=torch.float64).log()
        logits = torch.stack([torch.zeros_like(ratio), ratio], dim=1)
        p = (bodies * log_prior + logits).softmax(dim=1)
        teacher = Prediction(p, torch.stack([p, p]), torch.zeros(len(p)))
        found: dict[str, Prediction] = {"bayesian_gan": teacher}
        rounds.judge(number, lambda _, f=found: f, of, tmp_path, bodies)
        believed = rounds.believed(tmp_path, number, of)["bayesian_gan"]
        of_first = sum(item.label == 0 for item in believed) / len(believed)
        assert of_first == pytest.approx(0.8, abs=0.05)
        first.append(0.5 * (taught + of_first) if taught is not None else 0.5)


def test_a_class_without_a_label_is_not_believed_for_what_a_teacher_leaks(tmp_path: Path) -> None:
    of, ratio = drawn_pool([0] * 5, "train.rounds=1")  # nobody labelled the second class
    second = 1e-4 * ratio.exp().clamp(0.1, 10)
    p = torch.stack([1 - second, second], dim=1)
    teacher = Prediction(p, torch.stack([p, p]), torch.zeros(len(p)))
    rounds.judge(1, lambda _: {"bayesian_gan": teacher}, of, tmp_path)
    believed = rounds.believed(tmp_path, 1, of)["bayesian_gan"]
    assert len(believed) > 100
    assert {item.label for item in believed} == {0}


def test_a_probe_has_learned_what_its_videos_count(tmp_path: Path) -> None:
    of, _ = drawn_pool(UNLIKE, "train.labelled_batch_size=3")
    items = [dataclasses.replace(item, label=1) for item in of.items[:40]]
    of_probe, of_network = (of.learned(m, items) for m in ("self_training_probe", "bayesian_gan"))
    assert of_probe.tolist() == pytest.approx([0.4, 0.6])  # as many pseudo-labels as labels
    assert of_network.tolist() == pytest.approx([0.8 * 2 / 3, 0.2 * 2 / 3 + 1 / 3])


def test_strangers_do_not_count_in_the_estimated_prior(tmp_path: Path) -> None:
    more = ("rounds.balance=estimated", "rounds.strangers=0.5", "train.rounds=1")
    of = pool(2, 20, *more, "rounds.believed=0.9")
    p = [0.01] * 8 + [0.99] * 2 + [0.6] * 10
    lines = judge(tmp_path, 1, of, bayesian_gan=p)
    assert sum(line["label"] == 0 for line in lines) == 7  # 0.9 · 10 · 0.8, rounded down


def test_the_pools_entropies_are_taken_once_however_many_are_believed(tmp_path: Path) -> None:
    taken: list[str] = []

    class Counted(Prediction):
        @property
        def mutual_information(self) -> Tensor:
            taken.append("information")
            return super().mutual_information

        @property
        def total_entropy(self) -> Tensor:
            taken.append("entropy")
            return super().total_entropy

    of = pool(2, 40, "rounds.believed=0.8", "train.rounds=1")
    sure = said(of, RISING * 4)
    teacher = Counted(sure.clip_probabilities, sure.network_probabilities, sure.p_fake)
    rounds.judge(1, lambda _: {"bayesian_gan": teacher}, of, tmp_path)
    assert len(rounds.read(tmp_path, 1)) == 32
    assert len(taken) <= 4  # the information is made of the entropy


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 9), (2, 0)])
def test_a_small_pool_is_not_judged(
    labelled: int,
    unlabelled: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of = pool(labelled, unlabelled, "rounds.min_pool=5")

    def refuse(_: Sequence[Item]) -> Any:
        raise AssertionError("a pool that is not believed need not be read")

    rounds.judge(1, refuse, of, tmp_path)
    assert rounds.path(tmp_path, 1).read_text() == ""
    assert rounds.believed(tmp_path, 1, of) == {}
    rounds.say(tmp_path, 1, of)
    text = capsys.readouterr().err
    assert f"nothing is believed, since {unlabelled} unlabelled videos stand against 2" in text
    assert "rounds.min_pool=5" in text


def test_a_round_says_how_many_how_certain_and_how_many_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = pool(2, 10, "rounds.believed=0.8")
    judge(tmp_path, 1, of, bayesian_gan=RISING, self_training=RISING)
    judge(tmp_path, 2, of, bayesian_gan=RISING[::-1], self_training=RISING)
    rounds.say(tmp_path, 2, of)
    first, second = capsys.readouterr().err.splitlines()
    assert "round 2: bayesian_gan believes 8 of 10 unlabelled videos" in first
    assert "certain to 0.70 and more; 4 changed their class" in first
    assert "self_training believes 8 of 10" in second
    assert "; 0 changed" in second


def test_what_a_later_round_believed_is_forgotten(tmp_path: Path) -> None:
    for number in (1, 2, 11):
        rounds.path(tmp_path, number).parent.mkdir(exist_ok=True)
        rounds.path(tmp_path, number).write_text(json.dumps({"round": number}) + "\n")
    rounds.forget_after(tmp_path, 2)
    assert [p.name for p in sorted((tmp_path / "pseudo_labels").iterdir())] == [
        "round_01.jsonl",
        "round_02.jsonl",
    ]
    assert rounds.read(tmp_path, 0) == []
    assert rounds.read(tmp_path, 2) == [{"round": 2}]
