"""What the posterior is compared with: trained apart from it, and from one another."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import ON_FEATURES, SELF_TRAINING, Method
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.training import lineup
from bgan_video.training.chains import ADAM_BETAS
from bgan_video.training.lineup import Models
from bgan_video.training.trainer import DataSize

K, N, BURN_IN = 3, 20, 2
CPU = torch.device("cpu")
DROPOUT = "discriminator.dropout=0.3"
ALL = f"baseline.methods=[{','.join(m for m in get_args(Method) if m not in ON_FEATURES)}]"
TWIN = "baseline.methods=[bayesian_gan,cold_gan]"


def build(*overrides: str) -> Models:
    clips = ["clip.size=16", "clip.num_frames=4", "train.batch_size=4", "posterior.thinning=1"]
    widths = ["generator.width=4", "generator.latent_dim=3", "discriminator.width=4"]
    networks = ["baseline.num_networks=3"]
    if any("self_training" in override for override in overrides):
        # It needs a second round; half of an ensemble is trained in each.
        networks = ["baseline.num_networks=6", "train.rounds=1"]
    steps = [f"posterior.burn_in={BURN_IN}", "train.steps=9", *networks]
    settings = config.load(None, [*clips, *widths, *steps, *overrides])
    backend = Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
    return lineup.build(settings, DataSize(K, N, K), backend)


def only(method: str, *overrides: str) -> Models:
    return build(f"baseline.methods=[{method}]", *overrides)


def clips(seed: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, 16, 16, generator=random) * 2 - 1


def batches(step: int, seed: int = 2) -> tuple[LabelledBatch, UnlabelledBatch]:
    batch = LabelledBatch(clips(10 + step, 3), torch.tensor([0, 2, 1]))
    return batch, UnlabelledBatch(clips(seed + step, 4), clips(seed + step + 100, 4))


def advance(of: Models, *steps: int, seed: int = 2) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for step in steps:
        terms = of.step(step, *batches(step, seed))
    return terms


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def of_model(of: Models, model: str) -> list[nn.Module]:
    return [network for m in of.learners if m.model == model for network in m.networks]


def discriminators(of: Models) -> list[nn.Module]:
    return list(of.discriminators)


def weights_in(state: Any) -> Iterator[Tensor]:
    """Of what learns, in a saved state, but for a student that its average follows."""
    parts = state.items() if isinstance(state, dict) else ()
    for name, part in enumerate(state) if isinstance(state, list) else parts:
        if name in ("network", "head"):
            yield from part.values()
        elif name != "student":
            yield from weights_in(part)


def everything(of: Models) -> list[nn.Module]:
    learned = [network for learner in of.learners for network in learner.networks]
    return [*of.discriminators, *of.generators, *learned]


def probabilities(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)[:, 1:].softmax(dim=1)


STEPPING = [method for method in get_args(Method) if method not in ON_FEATURES]
"""Methods that learn step by step."""


# --- what is trained ---------------------------------------------------------------------------


def test_what_is_trained_is_what_was_asked_for() -> None:
    assert build().chains is not None
    assert [learner.model for learner in build().learners] == ["supervised"]
    for method in sorted({*STEPPING} - {"cold_gan"}):
        of = only(method)
        assert (of.chains is not None) == (method == "bayesian_gan")
        assert [learner.model for learner in of.learners] == [method] * (method != "bayesian_gan")
    everyone = {learner.model for learner in build(ALL).learners}
    assert everyone == {*STEPPING} - {"bayesian_gan"}


@pytest.mark.parametrize("method", [m for m in STEPPING if m not in ("bayesian_gan", "cold_gan")])
def test_a_method_is_the_same_alone_and_beside_all_others(method: str) -> None:
    alone, beside = only(method, DROPOUT), build(ALL, DROPOUT)
    advance(alone, 0, 1, 2)
    advance(beside, 0, 1, 2)
    pairs = zip(of_model(alone, method), of_model(beside, method), strict=True)
    assert all(same(left, right) for left, right in pairs)


@pytest.mark.parametrize("method", STEPPING)
def test_a_method_learns_and_says_so(method: str) -> None:
    of = build(TWIN) if method == "cold_gan" else only(method)
    before = copy.deepcopy(everything(of))
    terms = advance(of, 0, 1, 2)
    assert not any(map(same, before, everything(of)))
    assert terms
    assert all(term.isfinite() for term in terms.values())


# --- networks on the labels alone --------------------------------------------------------------


def test_the_supervised_network_is_adam_on_the_labelled_clips() -> None:
    of = build("baseline.lr=0.01")
    (supervised,) = of_model(of, "supervised")
    network = copy.deepcopy(supervised)
    adam = torch.optim.Adam(network.parameters(), lr=0.01, betas=ADAM_BETAS)
    for step in range(2):
        logits = network(clips(10 + step, 3))
        loss = nn.functional.cross_entropy(logits[:, 1:], torch.tensor([0, 2, 1]))
        adam.zero_grad()
        loss.backward()
        adam.step()
    advance(of, 0, 1)
    assert same(supervised, network)


@pytest.mark.parametrize("model", ["supervised", "deep_ensemble", "mc_dropout", *SELF_TRAINING])
def test_labels_alone_means_that_unlabelled_clips_change_nothing(model: str) -> None:
    one, other = only(model, DROPOUT), only(model, DROPOUT)
    advance(one, 0, 1, 2, seed=50)
    advance(other, 0, 1, 2)
    assert all(map(same, everything(one), everything(other)))


@pytest.mark.parametrize("model", ["pseudo_label", "mean_teacher", "fixmatch", "ml_gan"])
def test_unlabelled_clips_change_what_learns_from_them(model: str) -> None:
    threshold = "objective.consistency_threshold=0.1"
    one, other = only(model, threshold), only(model, threshold)
    advance(one, 0, 1, 2, seed=50)
    advance(other, 0, 1, 2)
    assert not any(map(same, everything(one), everything(other)))


def test_an_ensemble_is_the_supervised_network_and_others() -> None:
    of = build(ALL)
    advance(of, 0, 1)
    members = of_model(of, "deep_ensemble")
    assert len(members) == 3
    assert same(members[0], of_model(of, "supervised")[0])
    assert not any(same(members[i], members[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    larger = only("deep_ensemble", "baseline.num_networks=4", DROPOUT)
    smaller = only("deep_ensemble", "baseline.num_networks=2", DROPOUT)
    for found in (larger, smaller):
        advance(found, 0, 1)
    assert same(everything(larger)[1], everything(smaller)[1])


def test_rivals_have_as_many_networks_as_the_posterior() -> None:
    default = only("deep_ensemble", "baseline.num_networks=null")
    assert len(everything(default)) == 14  # two chains, a sample in each of seven steps
    limited = only("deep_ensemble", "baseline.num_networks=null", "posterior.max_samples=2")
    assert len(everything(limited)) == 4


def test_the_dropout_network_drops() -> None:
    (network,) = everything(only("mc_dropout", "baseline.dropout=0.4"))
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.4]


# --- one network on unlabelled clips too -------------------------------------------------------


@pytest.mark.parametrize("model", ["pseudo_label", "mean_teacher", "fixmatch"])
def test_without_weight_it_is_the_supervised_network(model: str) -> None:
    settings = ("baseline.unlabelled_weight=0", "baseline.ema_decay=0")
    of, supervised = only(model, *settings), only("supervised")
    advance(of, 0, 1, 2)
    advance(supervised, 0, 1, 2)
    pairs = zip(everything(of)[0].parameters(), everything(supervised)[0].parameters(), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def expected_term(model: str, student: nn.Module, teacher: nn.Module, threshold: float) -> Tensor:
    """From the formulas of the papers, sample by sample."""
    _, unlabelled = batches(3)
    weak, strong = (
        probabilities(student, unlabelled.weak),
        probabilities(student, unlabelled.strong),
    )
    if model == "mean_teacher":
        return ((probabilities(teacher, unlabelled.weak) - strong) ** 2).sum(dim=1).mean()
    learned = weak if model == "pseudo_label" else strong
    total = torch.zeros(())
    for believed, p in zip(weak, learned, strict=True):
        if believed.max() >= threshold:
            total = total - p[believed.argmax()].log()
    return total / len(weak)


@pytest.mark.parametrize("model", ["pseudo_label", "mean_teacher", "fixmatch"])
@pytest.mark.parametrize("threshold", [0.0, 0.36, 1.0])
def test_the_unlabelled_term_is_that_of_the_paper(model: str, threshold: float) -> None:
    of = only(model, f"objective.consistency_threshold={threshold}", "baseline.ema_decay=0.9")
    advance(of, 0, 1, 2)  # then the average is no longer the student
    (learner,) = of.learners
    student, average = copy.deepcopy(everything(of)[0]), copy.deepcopy(everything(of)[0])
    state = learner.state_dict()
    student.load_state_dict(state["student"]["network"])
    average.load_state_dict(state["average"])
    assert not same(student, average)
    terms = advance(of, 3)
    expected = expected_term(model, student, average, threshold)
    torch.testing.assert_close(terms[f"unlabelled_{model}"], expected.detach())


def test_the_unlabelled_term_warms_up() -> None:
    plain, warming = (only("fixmatch", "objective.consistency_threshold=0", w) for w in WARMUPS)
    first, slow = advance(plain, 0), advance(warming, 0)
    labelled = advance(only("supervised"), 0)["supervised"]
    full = first["fixmatch"] - labelled
    torch.testing.assert_close(slow["fixmatch"] - labelled, full / 4, rtol=1e-4, atol=1e-5)


WARMUPS = ("objective.consistency_warmup=0", "objective.consistency_warmup=3")


@pytest.mark.parametrize("model", ["mean_teacher", "fixmatch"])
def test_the_average_is_that_of_the_students_weights(model: str) -> None:
    """With decay 1 it is their plain mean: `d_t = 1 - 1/(t + 1)`."""
    of = only(model, "baseline.ema_decay=1")
    (learner,) = of.learners
    seen = []
    for step in range(4):
        advance(of, step)
        weights = learner.state_dict()["student"]["network"]
        seen.append({name: value.clone() for name, value in weights.items()})
    for name, average in learner.networks[0].state_dict().items():
        if average.is_floating_point():
            mean = torch.stack([weights[name] for weights in seen]).mean(dim=0)
            torch.testing.assert_close(average, mean)


# --- one GAN -----------------------------------------------------------------------------------


def test_one_gan_is_the_bayesian_one_without_bayes() -> None:
    single = ["posterior.num_z=1", "posterior.num_discriminators=1", "posterior.bayes=false"]
    of, plain = only("ml_gan"), only("bayesian_gan", *single)
    for found in (of, plain):
        advance(found, 0, 1, 2)
    assert all(map(same, everything(of), plain.discriminators))


# --- the twin at temperature 0 -----------------------------------------------------------------


SAMPLERS = pytest.mark.parametrize("sampler", ["sghmc", "sgld", "adaptive_sghmc"])


@SAMPLERS
def test_the_chains_do_not_notice_their_rivals(sampler: str) -> None:
    of_sampler = f"posterior.sampler={sampler}"
    alone = build(DROPOUT, of_sampler)
    advance(alone, *range(5))
    watched = build(DROPOUT, ALL, of_sampler)  # which seeds torch's own generator, that of dropout
    advance(watched, *range(5))
    assert all(map(same, discriminators(alone), discriminators(watched)))


@SAMPLERS
def test_the_twin_branches_off_at_the_end_of_burn_in_and_is_the_same_gan_without_noise(
    sampler: str,
) -> None:
    of_sampler = [f"posterior.sampler={sampler}", "posterior.lr=1e-4"]
    twin = build(TWIN, *of_sampler)
    cold = build("posterior.temperature=0", *of_sampler)
    advance(twin, *range(BURN_IN))
    advance(cold, *range(BURN_IN))
    assert all(map(same, discriminators(twin), discriminators(cold)))
    for step in range(BURN_IN, 6):
        advance(twin, step)
        advance(cold, step)
        assert all(map(same, of_model(twin, "cold_gan"), discriminators(cold)))
        assert not any(map(same, of_model(twin, "cold_gan"), discriminators(twin)))


def test_a_twin_without_burn_in_starts_where_the_chains_start() -> None:
    of, start = build("posterior.burn_in=0", TWIN), build("posterior.burn_in=0")
    assert all(map(same, of_model(of, "cold_gan"), discriminators(start)))
    advance(of, 0)
    assert not any(map(same, of_model(of, "cold_gan"), discriminators(of)))


# --- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("saved_after", [1, BURN_IN, 4])
def test_saved_models_go_on_bit_for_bit(saved_after: int) -> None:
    whole = build(ALL, DROPOUT)
    advance(whole, *range(6))
    first = build(ALL, DROPOUT)
    advance(first, *range(saved_after))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    second = build(ALL, DROPOUT)
    torch.randn(9)
    second.load_state_dict(state)
    advance(second, *range(saved_after, 6))
    assert all(map(same, everything(whole), everything(second)))


def test_one_gan_compared_pair_by_pair_makes_as_many_fakes_as_there_are_real_items() -> None:
    pairs = ["compat.feature_matching=huber", "objective.feature_matching_weight=1"]
    terms = advance(only("ml_gan", *pairs, "train.fake_batch_size=4", "posterior.num_z=2"), 0)
    assert terms["feature_matching_ml_gan"] > 0


@pytest.mark.parametrize("method", ["supervised", "pseudo_label", "bayesian_gan", "ml_gan"])
def test_weights_of_classes_reach_every_method(method: str) -> None:
    """A class of weight 0 teaches nothing: its label may be any other of weight 0."""

    def trained(targets: list[int]) -> dict[str, Tensor]:
        settings = build(f"baseline.methods=[{method}]").config
        backend = Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
        of = lineup.build(settings, DataSize(K, N, K, (3.0, 0.0, 0.0)), backend)
        labelled, unlabelled = batches(0)
        terms = of.step(0, labelled._replace(y=torch.tensor(targets)), unlabelled)
        return {name: value for name, value in terms.items() if "top1" not in name}

    assert trained([0, 1, 2]) == trained([0, 2, 1])
    assert trained([0, 1, 2]) != trained([1, 0, 2])


def test_all_networks_are_those_of_a_checkpoint() -> None:
    rotations, critics = "objective.pretext_weight=1", ["critic.num=1", "critic.name=hybrid"]
    for of in (build(ALL, "train.rounds=1", rotations), only("ml_gan", *critics)):
        known = {t.data_ptr() for network in of.networks for t in network.state_dict().values()}
        saved = [t.data_ptr() for t in weights_in(of.state_dict())]
        assert saved
        assert known >= {*saved}
