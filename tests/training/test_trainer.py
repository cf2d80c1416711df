"""One step of all networks: who moves, who must not, and steps whose gradients overflowed."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.method.objective import Potential, PretextTask, Shown
from bgan_video.method.pretext import transform
from bgan_video.training.chains import Chain
from bgan_video.training.trainer import DataSize, Trainer

K, N = 3, 20
CPU = torch.device("cpu")
SAMPLING = "posterior.burn_in=0"


def settings(*overrides: str) -> config.Config:
    clips = ["clip.size=16", "clip.num_frames=4", "train.batch_size=4", "posterior.thinning=1"]
    widths = ["generator.width=4", "generator.latent_dim=3", "discriminator.width=4"]
    return config.load(None, [*clips, *widths, "posterior.burn_in=2", "train.steps=9", *overrides])


def trainer(*overrides: str, scale: float | None = None) -> Trainer:
    """A trainer on the CPU; with a scale its losses are scaled as those of fp16 are."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    return Trainer(settings(*overrides), DataSize(K, N, K), Backend(CPU, "fp32", scaler))


def clips(seed: int, count: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, 16, 16, generator=random) * 2 - 1


def labelled(seed: int = 1) -> LabelledBatch:
    return LabelledBatch(clips(seed, 3), torch.tensor([0, 2, 1]))


def unlabelled(seed: int = 2) -> UnlabelledBatch:
    return UnlabelledBatch(clips(seed, 4), clips(seed + 100, 4))


def advance(of: Trainer, *steps: int, seed: int = 2) -> None:
    for step in steps:
        of.step(step, labelled(10 + step), unlabelled(seed + step))


def networks_of(of: Trainer) -> list[nn.Module]:
    return [chain.network for chain in of.chains]


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# --- who moves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [SAMPLING],
        [SAMPLING, "posterior.temperature=0"],
        ["posterior.bayes=false"],
        ["posterior.num_mcmc=2"],
        ["objective.consistency_weight=1", "objective.balance_weight=1"],
        ["discriminator.input=difference"],
        ["objective.pretext_weight=1"],
        ["critic.name=hybrid", "generator.name=residual"],
        [SAMPLING, "critic.name=hybrid", "critic.num=2", "objective.adversarial_weight=0"],
        ["critic.name=hybrid", "generator.name=residual", "generator.size=8"],
    ],
    ids=lambda overrides: ",".join(overrides) or "burn_in",
)
def test_a_step_moves_every_weight_of_every_network(overrides: list[str]) -> None:
    of = trainer(*overrides)
    before = copy.deepcopy(networks_of(of))
    terms = of.step(0, labelled(), unlabelled())
    for old, new in zip(before, networks_of(of), strict=True):
        changes = zip(old.named_parameters(), new.parameters(), strict=True)
        still = [name for (name, was), now in changes if torch.equal(was, now)]
        assert still == []
    assert all(term.isfinite() for term in terms.values())
    assert not any(term.requires_grad for term in terms.values())


def test_generators_and_critics_see_items_of_a_size_of_their_own() -> None:
    of = trainer("critic.name=hybrid", "generator.name=residual", "generator.size=8")
    sizes: dict[str, set[int]] = {"critic": set(), "discriminator": set()}
    for role, chains in (("critic", of.critics), ("discriminator", of.discriminators)):
        for chain in chains:
            chain.network.register_forward_pre_hook(
                lambda _, seen, role=role: sizes[role].add(seen[0].shape[-1])
            )
    of.step(0, labelled(), unlabelled())
    assert sizes == {"critic": {8}, "discriminator": {16}}


def test_who_plays_against_classifiers_makes_items_of_their_size() -> None:
    with pytest.raises(UserError, match=r"generator\.size=8, .* set critic\.name=hybrid"):
        settings("generator.size=8")


@pytest.mark.parametrize("overrides", [[], [SAMPLING]], ids=["burn_in", "sampling"])
def test_chains_differ_from_the_start_and_after_a_step(overrides: list[str]) -> None:
    of = trainer(*overrides, "posterior.num_discriminators=3", "posterior.num_z=3")
    for _ in range(2):
        for chains in (of.discriminators, of.generators):
            weights = [flat(chain.network) for chain in chains]
            assert len(weights) == 3
            for one, other in itertools.combinations(weights, 2):
                assert not torch.equal(one, other)
        of.step(0, labelled(), unlabelled())


def test_chains_of_one_start_are_driven_apart_by_their_noise() -> None:
    of = trainer(SAMPLING)
    first, second = of.discriminators
    second.network.load_state_dict(first.network.state_dict())
    of.step(0, labelled(), unlabelled())
    assert not torch.equal(flat(first.network), flat(second.network))


def test_a_step_is_reproducible() -> None:
    one, other = trainer(SAMPLING), trainer(SAMPLING)
    torch.randn(11)  # nobody's business
    for of in (one, other):
        advance(of, 0, 1)
    assert all(map(same, networks_of(one), networks_of(other)))


def test_all_networks_stay_in_training_mode_and_ask_for_gradients() -> None:
    of = trainer()
    advance(of, 0)
    assert all(network.training for network in networks_of(of))
    assert all(p.requires_grad for network in networks_of(of) for p in network.parameters())


def test_without_adversarial_terms_there_are_no_generators() -> None:
    of = trainer("objective.adversarial_weight=0")
    before = copy.deepcopy(networks_of(of))
    terms = of.step(0, labelled(), unlabelled())
    assert of.generators == []
    assert not {"loss_g", "real", "fake"} & set(terms)
    assert not any(map(same, before, networks_of(of)))


def test_the_pretext_task_teaches_bodies_without_a_label_and_its_own_heads() -> None:
    alone = ["objective.adversarial_weight=0", "posterior.bayes=false"]
    idle, taught = trainer(*alone), trainer(*alone, "objective.pretext_weight=1")
    assert all(map(same, networks_of(idle), networks_of(taught)))  # heads take no one's randomness
    heads = copy.deepcopy(taught.pretext.heads)
    assert len(heads) == 2
    assert not same(*heads)
    taught.step(0, None, unlabelled())
    assert not any(map(same, heads, taught.pretext.heads))
    for old, new in zip(networks_of(idle), networks_of(taught), strict=True):
        pairs = zip(body_of(old), body_of(new), strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs)


def body_of(network: nn.Module) -> list[Tensor]:
    return [p for name, p in network.named_parameters() if name.startswith("body.")]


def test_heads_learn_at_the_step_size_of_the_chains() -> None:
    of = trainer("objective.pretext_weight=1", "train.adam_schedule=cosine")
    for step in range(2):
        advance(of, step)
        sizes = {o.param_groups[0]["lr"] for o in of.pretext.optimizers}
        assert sizes == {of.discriminators[0].optimizer.param_groups[0]["lr"]}


def test_a_trainer_with_heads_goes_on_as_it_would_have() -> None:
    whole = trainer("objective.pretext_weight=1", "posterior.burn_in=3")
    advance(whole, 0)
    resumed = trainer("objective.pretext_weight=1", "posterior.burn_in=3")
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for of in (whole, resumed):
        advance(of, 1, 2)
    assert all(map(same, networks_of(whole), networks_of(resumed)))
    assert all(map(same, whole.pretext.heads, resumed.pretext.heads))


def test_all_chains_see_the_same_transforms_which_seed_and_step_decide() -> None:
    """So a resumed run is asked for the same, with nothing saved."""

    def seen(seed: int, first: int, *steps: int) -> list[PretextTask]:
        of = trainer("objective.pretext_weight=1", "posterior.bayes=false", f"run.seed={seed}")
        advance(of, first)  # what was drawn before does not matter
        spied: list[PretextTask] = []
        make = of.objective.discriminator

        def spy(network: Any, real: Any, shown: Shown, step: int) -> Potential:
            assert shown.pretext is not None
            spied.append(shown.pretext)
            return make(network, real, shown, step)

        of.objective.discriminator = spy  # type: ignore[method-assign]
        advance(of, *steps)
        return spied

    for one, other in zip(seen(0, 0, 5, 6), seen(0, 3, 5, 6), strict=True):
        assert torch.equal(one.which, other.which)
        assert torch.equal(one.items, other.items)
    first, second, later, _ = seen(0, 0, 5, 6)  # two chains a step
    assert first.items is second.items
    assert first.head is not second.head
    assert not torch.equal(first.which, later.which)
    assert torch.equal(first.items, transform(unlabelled(2 + 5).weak, first.which, 3))
    assert not torch.equal(first.which, seen(1, 0, 5)[0].which)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_pretext_term_of_images_in_half_precision(precision: Any) -> None:
    images = ["data.layout=cifar10", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    chosen = settings(*images, "generator.name=dcgan", "objective.pretext_weight=1")
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=precision == "fp16")
    of = Trainer(chosen, DataSize(K, N, K), Backend(CPU, precision, scaler))
    still = torch.rand(4, 3, 16, 16)
    terms = of.step(
        0, LabelledBatch(still, torch.tensor([0, 2, 1, 0])), UnlabelledBatch(still, still)
    )
    plain = Trainer(
        chosen, DataSize(K, N, K), Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
    )
    exact = plain.step(
        0, LabelledBatch(still, torch.tensor([0, 2, 1, 0])), UnlabelledBatch(still, still)
    )
    assert terms["pretext"].dtype == torch.float32
    assert terms["pretext"].item() == pytest.approx(exact["pretext"].item(), rel=0.02)
    assert terms["pretext_top1"] == exact["pretext_top1"]


def test_what_is_sampled_knows_no_pretext_task() -> None:
    of = trainer("objective.pretext_weight=1")  # two steps of burn-in
    names, heads = [], []
    for step in range(4):
        names.append("pretext" in of.step(step, labelled(), unlabelled()))
        heads.append(copy.deepcopy(of.pretext.heads[0]))
    assert names == [True, True, False, False]
    assert not same(*heads[:2])
    assert same(*heads[1:3])
    sampled = {name for name, _ in of.discriminators[0].network.named_parameters()}
    assert {*of.discriminators[0].temperatures()} == sampled


def test_a_pass_that_keeps_nothing_gives_the_same_class_probabilities() -> None:
    of = trainer()
    network, weak = of.discriminators[0].network, unlabelled().weak
    before = copy.deepcopy(network.state_dict())
    kept = of._look(network, None, UnlabelledBatch(weak, weak)).unlabelled
    network.load_state_dict(before)  # without labels that pass moved the running statistics
    glanced = of._glance(network, weak)
    assert torch.equal(glanced, losses.class_probabilities(kept))
    assert not glanced.requires_grad
    assert all(torch.equal(now, before[name]) for name, now in network.state_dict().items())


# --- loss scaling ------------------------------------------------------------------------------


def overflow(chain: Chain[Any]) -> torch.utils.hooks.RemovableHandle:
    """From now on the chain's gradients hold an infinity, as scaled ones of fp16 do at times."""
    weight = next(iter(chain.network.parameters()))
    return weight.register_hook(lambda gradient: torch.full_like(gradient, torch.inf))


def state_of(chain: Chain[Any]) -> list[Tensor]:
    """Weights and whatever the optimiser keeps: SGHMC's momenta, Adam's moments and counts."""
    weights = list(chain.network.parameters())
    kept = [value for w in weights for value in chain.optimizer.state[w].values()]
    return [value.detach().clone() for value in [*weights, *kept]]


def unmoved(before: list[Tensor], chain: Chain[Any]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(before, state_of(chain), strict=True)]


@pytest.mark.parametrize("limit", ["null", "0.5"])
@pytest.mark.parametrize("step", [1, 4], ids=["burn_in", "sampling"])
def test_a_step_that_overflowed_moves_nothing_and_adds_no_noise(step: int, limit: str) -> None:
    of = trainer(f"train.max_grad_norm={limit}", "posterior.burn_in=3", scale=1024.0)
    advance(of, *range(step))
    before = [state_of(chain) for chain in of.chains]
    noise = of.random["noise"].get_state()
    handles = [overflow(chain) for chain in of.chains]
    advance(of, step)
    assert all(all(unmoved(old, chain)) for old, chain in zip(before, of.chains, strict=True))
    assert torch.equal(of.random["noise"].get_state(), noise)
    assert of.backend.scaler.get_scale() == 512
    for handle in handles:
        handle.remove()
    advance(of, step + 1)
    for old, chain in zip(before, of.chains, strict=True):
        assert not any(unmoved(old, chain))


@pytest.mark.parametrize("which", range(4))
def test_only_the_chain_whose_gradients_overflowed_stands_still(which: int) -> None:
    of = trainer(SAMPLING, scale=1024.0)
    advance(of, 0)
    chains = list(of.chains)
    assert len(chains) == 4
    assert all(chain.is_sampling for chain in chains)
    before = [state_of(chain) for chain in chains]
    overflow(chains[which])
    advance(of, 1)
    for j, (old, chain) in enumerate(zip(before, chains, strict=True)):
        assert all(unmoved(old, chain)) == (j == which)


@pytest.mark.parametrize("limit", ["null", "0.5"])
def test_scaling_by_a_power_of_two_changes_nothing(limit: str) -> None:
    overrides = [f"train.max_grad_norm={limit}"]
    scaled, plain = trainer(*overrides, scale=1024.0), trainer(*overrides)
    for of in (scaled, plain):
        advance(of, *range(4))
    for left, right in zip(networks_of(scaled), networks_of(plain), strict=True):
        torch.testing.assert_close(flat(left), flat(right), rtol=1e-6, atol=1e-7)


# --- pairs that see each other only ------------------------------------------------------------

PAIRS = ["posterior.independent=true", "posterior.bayes=false", "train.fake_batch_size=3"]
ONE_PAIR = ["posterior.num_z=1", "posterior.num_discriminators=1"]


def gradients_of(of: Trainer) -> list[Tensor]:
    """Of every network, discriminators first."""
    return [torch.cat([p.grad.flatten() for p in n.parameters()]) for n in networks_of(of)]


def gradients_with(changed: int, *overrides: str) -> list[Tensor]:
    """The gradients of a step before which the weights of one network were other ones."""
    of = trainer(*overrides)
    if changed >= 0:
        with torch.no_grad():
            for p in networks_of(of)[changed].parameters():
                p.mul_(1.5)
    advance(of, 0)
    return gradients_of(of)


@pytest.mark.parametrize("which", range(4))
def test_a_pair_feels_nothing_of_another(which: int) -> None:
    """Networks are D0, D1, G0, G1."""
    plain, changed = gradients_with(-1, *PAIRS), gradients_with(which, *PAIRS)
    pair = which % 2
    for j, (one, other) in enumerate(zip(plain, changed, strict=True)):
        assert torch.equal(one, other) == (j % 2 != pair)


@pytest.mark.parametrize("which", range(4))
def test_chains_of_a_posterior_do_feel_one_another(which: int) -> None:
    together = [o for o in PAIRS if "independent" not in o]
    plain, changed = gradients_with(-1, *together), gradients_with(which, *together)
    alike = [torch.equal(one, other) for one, other in zip(plain, changed, strict=True)]
    # A discriminator moves its own gradient and that of all generators, a generator everyone's
    # but that of its like: batch statistics are those of all fakes together.
    if which < 2:
        assert alike == [which != 0, which != 1, False, False]
    else:
        assert not any(alike)


def test_a_discriminator_of_a_pair_sees_the_fakes_of_its_generator_only() -> None:
    of = trainer(*PAIRS)
    seen: list[list[Tensor]] = [[], []]
    made: list[Tensor] = []
    for j, chain in enumerate(of.discriminators):
        chain.network.body.register_forward_hook(lambda _, x, __, j=j: seen[j].append(x[0]))
    for chain in of.generators:
        chain.network.register_forward_hook(lambda _, __, out: made.append(out.items))
    advance(of, 0)
    assert len(made) == 2
    for j, inputs in enumerate(seen):
        # Unlabelled, labelled, fakes in its own phase, fakes in its generator's.
        unlabelled_, labelled_, fakes, fakes_again = inputs
        assert (len(unlabelled_), len(labelled_)) == (4, 3)
        assert torch.equal(fakes, made[j])
        assert torch.equal(fakes_again, made[j])


def test_a_pair_is_a_maximum_likelihood_gan_of_its_own() -> None:
    both, alone = (trainer(*PAIRS, *one) for one in ([], ONE_PAIR))
    advance(both, 0)
    advance(alone, 0)
    assert same(both.discriminators[0].network, alone.discriminators[0].network)
    assert same(both.generators[0].network, alone.generators[0].network)


def test_pairs_log_means_over_pairs() -> None:
    """As many discriminators and generators as one, with the same weights in every pair."""
    both, alone = (trainer(*PAIRS, *one) for one in ([], ONE_PAIR))
    for chains in (both.discriminators, both.generators):
        chains[1].network.load_state_dict(chains[0].network.state_dict())
    z = both.latents(3)
    for of in (both, alone):
        of.latents = lambda count: z  # type: ignore[method-assign]
    two, one = (of.step(0, labelled(), unlabelled()) for of in (both, alone))
    assert set(two) == set(one)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, msg=lambda text, n=name: f"{n}: {text}")


def test_pairs_are_made_of_as_many_generators_as_discriminators() -> None:
    with pytest.raises(UserError, match=r"posterior\.num_z=3 and posterior\.num_discriminators=2"):
        settings("posterior.independent=true", "posterior.num_z=3")


def test_pairs_without_adversarial_terms_are_supervised_networks() -> None:
    of = trainer(*PAIRS, "objective.adversarial_weight=0")
    assert "labelled" in of.step(0, labelled(), unlabelled())


# --- temperature -------------------------------------------------------------------------------


def test_auto_is_the_temperature_of_the_budget_for_all_chains() -> None:
    of = trainer(SAMPLING, "posterior.temperature=auto", "posterior.noise_budget=0.2")
    weights = sum(p.numel() for p in of.discriminators[0].network.parameters())
    expected = 2 * N * 0.2 / weights
    advance(of, 0)
    for chain in of.chains:
        assert chain.optimizer.param_groups[0]["temperature"] == pytest.approx(expected)
    assert of.config.temperature == pytest.approx(expected)
    assert of.noise.nats == pytest.approx(0.2)


def test_frozen_weights_have_no_part_in_the_budget() -> None:
    whole = trainer("posterior.temperature=auto").noise
    part = trainer("posterior.temperature=auto", "discriminator.freeze=1").noise
    assert part.weights < whole.weights
    assert part.temperature > whole.temperature


def test_a_number_stays_what_it_is() -> None:
    assert trainer("posterior.temperature=0.3").noise.temperature == 0.3
