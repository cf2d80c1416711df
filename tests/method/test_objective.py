"""The potentials against the formulas, computed by hand on networks of a few weights in float64."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.objective import Objective, Potential, PretextTask, RealOutputs, Shown
from bgan_video.method.potentials import PriorTerm
from bgan_video.method.pretext import TransformationHead, transform
from bgan_video.models import Classifier, Generated
from bgan_video.training.chains import without_gradients

K, PIXELS, LATENT = 3, 4, 2
N, N_G = 50, 7
STD = 0.5


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=random(seed), dtype=torch.float64)


def filled(module: nn.Module, seed: int) -> nn.Module:
    """The module in float64 with weights that depend on the seed alone."""
    module.double()
    with torch.no_grad():
        for i, param in enumerate(module.parameters()):
            param.copy_(draw(1000 * seed + i, *param.shape))
    return module.train()


def classifier(seed: int = 0, normalised: bool = True) -> Classifier:
    body: list[nn.Module] = [nn.Flatten(), nn.Linear(PIXELS, 5)]
    body += [nn.BatchNorm1d(5)] if normalised else []
    body.append(nn.Tanh())
    network = Classifier(nn.Sequential(*body), 5, K + 1, dropout=0.0)
    return filled(network, seed + 1)  # type: ignore[return-value]


class Painter(nn.Module):
    """A generator of 'images' `[B, 1, 2, 2]`, with a mask where one is asked for."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.paint = nn.Linear(LATENT, PIXELS)
        self.masked = masked

    def forward(self, z: Tensor) -> Generated:
        items = self.paint(z).tanh().view(-1, 1, 2, 2)
        return Generated(items, items.sigmoid()[:, :, :1] if self.masked else None)


def painters(count: int = 2, masked: bool = False) -> list[Painter]:
    return [filled(Painter(masked), 10 + j) for j in range(count)]  # type: ignore[misc]


def objective(bayes: bool = True, num_data_generator: int | None = N_G, **weights: float):
    posterior = config.Posterior(
        bayes=bayes, prior_std=STD, num_data_generator=num_data_generator, burn_in=1
    )
    settings = dataclasses.replace(config.Objective(), **weights)
    return Objective(config.Config(objective=settings, posterior=posterior), N, 1)


LABELLED = LabelledBatch(draw(1, 3, 1, 2, 2), torch.tensor([0, 2, 1]))
UNLABELLED = UnlabelledBatch(draw(2, 5, 1, 2, 2), draw(3, 5, 1, 2, 2))
FAKES = draw(4, 6, 1, 2, 2) * 3 + 1
DIAGNOSTICS = {"d_real", "d_fake_before", "train_top1", "confident"}
TEACHER = draw(5, 5, K).softmax(1)
TURNS = torch.tensor([0, 3, 1, 2, 1])
HEAD: TransformationHead = filled(TransformationHead(5, spatial_dims=2), 50)  # type: ignore[assignment]
TASK = PretextTask(HEAD, transform(UNLABELLED.weak, TURNS, 2), TURNS)


def real_of(network: Classifier, labelled: LabelledBatch = LABELLED) -> RealOutputs:
    return RealOutputs.of(network, labelled, UNLABELLED.weak)


def potential_of(
    of: Objective,
    network: Classifier,
    fakes: Tensor = FAKES,
    step: int = 0,
    labelled: LabelledBatch = LABELLED,
) -> Potential:
    real = real_of(network, labelled)
    teacher = TEACHER if of.settings.consistency_weight > 0 else None
    task = TASK if of.settings.pretext_weight > 0 else None
    shown = Shown(fakes, UNLABELLED.strong, teacher, task)
    return of.discriminator(network, real, shown, of.weights(step))


def generated_by(generators: list[Painter], batch: int = 4) -> list[Generated]:
    return [g(draw(20 + j, batch, LATENT)) for j, g in enumerate(generators)]


def energy(network: nn.Module) -> Tensor:
    """-log p(θ) of a Gaussian of scale STD, without its constant."""
    return sum(0.5 * (p / STD).pow(2).sum() for p in network.parameters())  # type: ignore[return-value]


def fixed(network: Classifier, x: Tensor) -> Tensor:
    """Logits normalised by the batch at hand, on a copy: nothing of the network moves."""
    return copy.deepcopy(network)(x)


def real_loss(logits: Tensor) -> Tensor:
    return -(1 - logits.softmax(1)[:, 0]).log().mean()


def fake_loss(logits: Tensor) -> Tensor:
    return -logits.softmax(1)[:, 0].log().mean()


def label_loss(logits: Tensor, y: Tensor, w_adv: float = 1.0) -> Tensor:
    """p_y = (1 - p_0) p(y | real): with w_adv = 1 the cross-entropy over all logits."""
    among_classes = logits[:, 1:].softmax(1)[torch.arange(len(y)), y]
    return -among_classes.log().mean() + w_adv * real_loss(logits)


def gradients(total: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(network.parameters()), retain_graph=True))


def assert_close(left: list[Tensor], right: list[Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def hand_l_d(network: Classifier, w_sup: float, w_adv: float = 1.0) -> Tensor:
    loss = w_sup * label_loss(network(LABELLED.x), LABELLED.y, w_adv) + energy(network) / N
    real, fake = real_loss(network(UNLABELLED.weak)), fake_loss(network(FAKES))
    return loss + w_adv * (real + fake)


@pytest.mark.parametrize(("w_sup", "w_adv"), [(1.0, 1.0), (0.25, 1.0), (2.0, 0.5)])
def test_l_d_is_the_formula(w_sup: float, w_adv: float) -> None:
    network = classifier()
    of = objective(labelled_weight=w_sup, adversarial_weight=w_adv)
    expected = hand_l_d(network, w_sup, w_adv)
    total = potential_of(of, network).total
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-9)
    assert_close(gradients(total, network), gradients(expected, network))


@pytest.mark.parametrize("num_discriminators", [1, 3])
@pytest.mark.parametrize("num_generators", [1, 2])
def test_l_g_is_the_formula(num_generators: int, num_discriminators: int) -> None:
    generators = painters(num_generators)
    networks = [classifier(j) for j in range(num_discriminators)]
    made = generated_by(generators)
    total = objective().generators(generators, made, networks, UNLABELLED.weak).total
    # Batch norm sees the fakes of all generators together, as a discriminator's own phase does.
    all_fakes = torch.cat([g.items for g in made])
    logits = [d(all_fakes).split(4) for d in networks]
    expected = torch.zeros((), dtype=torch.float64)
    for j, g in enumerate(generators):
        faced = torch.stack([real_loss(parts[j]) for parts in logits])
        expected = expected + faced.mean() + energy(g) / N_G
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-9)
    for g in generators:
        assert_close(gradients(total, g), gradients(expected, g))


def test_the_gradient_of_the_sum_is_each_chains_own() -> None:
    """Without batch statistics the chains meet nowhere, so one alone gives the same."""
    generators, networks = painters(3, masked=True), [classifier(j, False) for j in range(2)]
    of = objective(feature_matching_weight=0.7)
    made = generated_by(generators)
    together = of.generators(generators, made, networks, UNLABELLED.weak).total
    for g, its in zip(generators, made, strict=True):
        alone = of.generators([g], [its], networks, UNLABELLED.weak).total
        assert_close(gradients(together, g), gradients(alone, g))


def test_the_prior_is_half_the_sum_of_squares_over_n() -> None:
    network = classifier()
    with_prior, without = (potential_of(objective(bayes), network).total for bayes in (True, False))
    expected = sum((p**2).sum() for p in network.parameters()) / (2 * STD**2 * N)
    torch.testing.assert_close(with_prior - without, expected, rtol=1e-6, atol=1e-9)


def test_groups_have_scales_of_their_own() -> None:
    """By hand on a body and a head: weights over the root of fan-in, biases and head apart."""
    network = nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), nn.Linear(3, 2))
    settings = config.Posterior(
        prior_std=2.0, prior_fan_in=True, prior_std_bias=0.5, prior_std_norm=0.25
    )
    conv, norm, linear = network
    expected = (
        conv.weight.square().sum() * 16 / 4
        + linear.weight.square().sum() * 3 / 4
        + (conv.bias.square().sum() + linear.bias.square().sum()) * 4
        + (norm.weight.square().sum() + norm.bias.square().sum()) * 16
    ) / 2
    found = PriorTerm(settings).of("prior", 10, network)["prior"]
    torch.testing.assert_close(found, expected / 10)


def test_the_heads_weights_have_their_own_scale() -> None:
    network = classifier()
    plain = PriorTerm(config.Posterior(prior_std=2.0))
    apart = PriorTerm(config.Posterior(prior_std=2.0, prior_std_head=0.5))
    difference = apart.of("p", 1, network)["p"] - plain.of("p", 1, network)["p"]
    torch.testing.assert_close(difference, network.head.weight.square().sum() / 2 * (4 - 1 / 4))


def test_a_generators_prior_is_divided_by_its_own_n() -> None:
    generators, networks = painters(), [classifier()]
    for num_data, n in ((None, N), (N_G, N_G)):
        made = generated_by(generators)
        of = objective(num_data_generator=num_data)
        terms = of.generators(generators, made, networks, UNLABELLED.weak).terms
        expected = sum(energy(g).item() for g in generators) / n
        assert terms["prior_g"].item() == pytest.approx(expected, rel=1e-6)


def test_maximum_likelihood_has_no_prior() -> None:
    generators, network = painters(), classifier()
    of = objective(bayes=False)
    assert "prior_d" not in potential_of(of, network).terms
    terms = of.generators(generators, generated_by(generators), [network], UNLABELLED.weak).terms
    assert "prior_g" not in terms


def test_the_generator_phase_leaves_nothing_in_discriminators() -> None:
    generators, networks = painters(), [classifier(j) for j in range(2)]
    before = copy.deepcopy([d.state_dict() for d in networks])
    with without_gradients(networks):
        total = (
            objective(feature_matching_weight=1.0)
            .generators(generators, generated_by(generators), networks, UNLABELLED.weak)
            .total
        )
    total.backward()
    assert all(p.grad is None for d in networks for p in d.parameters())
    assert all(p.requires_grad for d in networks for p in d.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generators[1].parameters())
    for d, state in zip(networks, before, strict=True):
        assert_same_statistics(d.state_dict(), state)


def assert_same_statistics(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for key in left:
        if "running" in key:
            torch.testing.assert_close(left[key], right[key], rtol=0, atol=0)


def statistics_after(phase: Callable[[Classifier], object]) -> dict[str, Tensor]:
    network = classifier()
    phase(network)
    return network.state_dict()


def test_running_statistics_are_those_of_the_labelled_items_alone() -> None:
    weights = {"consistency_weight": 1.0, "consistency_threshold": 0.0, "pretext_weight": 1.0}
    of = objective(**weights)
    phase = statistics_after(lambda d: potential_of(of, d))
    reals = statistics_after(lambda d: d(LABELLED.x))
    assert_same_statistics(phase, reals)
    assert not torch.equal(phase["body.2.running_mean"], torch.zeros(5))


def test_fakes_are_normalised_among_themselves() -> None:
    """An affine change of all fakes is undone by their own statistics, and by no others."""
    of = objective()
    near, far = potential_of(of, classifier()), potential_of(of, classifier(), FAKES * 5 + 3)
    assert torch.equal(near.terms["real"], far.terms["real"])
    assert torch.equal(near.terms["labelled"], far.terms["labelled"])
    torch.testing.assert_close(near.terms["fake"], far.terms["fake"], rtol=1e-3, atol=1e-4)


def test_labelled_and_unlabelled_items_are_normalised_apart() -> None:
    network = classifier()
    terms = potential_of(objective(), network).terms
    alone = label_loss(fixed(network, LABELLED.x), LABELLED.y)
    torch.testing.assert_close(terms["labelled"], alone, rtol=1e-6, atol=1e-9)
    alone = real_loss(fixed(network, UNLABELLED.weak))
    torch.testing.assert_close(terms["real"], alone, rtol=1e-6, atol=1e-9)


def test_consistency_asks_the_strong_view_for_what_the_teacher_is_sure_of() -> None:
    network = classifier()
    strong = fixed(network, UNLABELLED.strong)[:, 1:].softmax(1)
    entropy = -strong[torch.arange(5), TEACHER.argmax(1)].log()
    confidence = TEACHER.max(1).values
    threshold = confidence.sort().values[2].item()
    expected = (entropy * (confidence >= threshold)).mean()
    of = objective(consistency_weight=0.3, consistency_threshold=threshold)
    terms = potential_of(of, network).terms
    torch.testing.assert_close(terms["consistency"], 0.3 * expected, rtol=1e-6, atol=1e-9)
    assert terms["confident"].item() == pytest.approx(3 / 5)


def test_real_logits_are_those_of_the_items() -> None:
    network = classifier()
    real = real_of(network)
    assert torch.equal(real.labelled, fixed(network, LABELLED.x))
    assert torch.equal(real.unlabelled, fixed(network, UNLABELLED.weak))
    assert torch.equal(real.targets, LABELLED.y)


@pytest.mark.parametrize(("step", "part"), [(0, 0.25), (1, 0.5), (3, 1.0), (99, 1.0)])
def test_consistency_warms_up_from_little_to_its_weight(step: int, part: float) -> None:
    settings = {"consistency_weight": 1.0, "consistency_threshold": 0.0}
    whole = potential_of(objective(**settings), classifier()).terms["consistency"]
    of = objective(**settings, consistency_warmup=3)
    term = potential_of(of, classifier(), step=step).terms["consistency"]
    torch.testing.assert_close(term, part * whole)


def told(before: Tensor, after: Tensor) -> Tensor:
    """The bilinear head, written out."""
    left = before @ HEAD.before.weight.T + HEAD.before.bias
    right = after @ HEAD.after.weight.T + HEAD.after.bias
    return (left * right) @ HEAD.out.weight.T + HEAD.out.bias


def test_the_pretext_term_is_the_cross_entropy_of_what_lies_between_two_views() -> None:
    network = classifier()
    before = copy.deepcopy(network).features(UNLABELLED.weak)
    logits = told(before, copy.deepcopy(network).features(TASK.items))
    expected = -0.7 * logits.softmax(1)[torch.arange(5), TURNS].log().mean()
    terms = potential_of(objective(pretext_weight=0.7, bayes=False), network).terms
    torch.testing.assert_close(terms["pretext"], expected, rtol=1e-6, atol=1e-9)
    hits = (logits.argmax(1) == TURNS).double().mean().item()
    assert terms["pretext_top1"].item() == pytest.approx(hits)


def test_the_pretext_term_moves_the_features_of_both_views() -> None:
    network = classifier(normalised=False)
    of = objective(pretext_weight=1.0, labelled_weight=0.0, adversarial_weight=0.0, bayes=False)
    total = potential_of(of, network).total
    logits = told(network.features(UNLABELLED.weak), network.features(TASK.items))
    by_hand = nn.functional.cross_entropy(logits, TURNS)
    body = list(network.body.parameters())
    assert_close(torch.autograd.grad(total, body), torch.autograd.grad(by_hand, body))


@pytest.mark.parametrize(("bayes", "steps"), [(True, 40), (False, 100)])
def test_the_pretext_weight_falls_to_nothing_while_adam_runs(bayes: bool, steps: int) -> None:
    lengths = ["posterior.burn_in=40", "train.steps=100"]
    of = ["objective.pretext_weight=3", f"posterior.bayes={bayes}"]
    chosen = config.load(None, [*lengths, *of])
    weights = [Objective(chosen, N, 1).weights(step).pretext for step in range(100)]
    assert weights[0] == 3
    assert weights[steps // 2] == pytest.approx(1.5)
    assert all(weight > 0 for weight in weights[:steps])
    assert not any(weights[steps:])
    falls = torch.tensor(weights[:steps]).diff()
    torch.testing.assert_close(falls, torch.full_like(falls, -3 / steps))


@pytest.mark.parametrize(
    ("labels_per_class", "weight"), [(0, 3.0), (0.5, 3.0), (1, 3.0), (1.5, 2.0), (6, 0.5)]
)
def test_the_pretext_task_counts_as_so_many_labels_of_each_class(
    labels_per_class: float, weight: float
) -> None:
    chosen = config.load(None, ["objective.pretext_weight=3"])
    assert Objective(chosen, N, labels_per_class).weights(0).pretext == pytest.approx(weight)


def test_feature_matching_pulls_each_generator_to_the_real_features() -> None:
    generators, networks = painters(), [classifier(j) for j in range(2)]
    made = generated_by(generators)
    of = objective(feature_matching_weight=0.6)
    term = of.generators(generators, made, networks, UNLABELLED.weak).terms["feature_matching"]
    expected = 0.0
    for d in networks:
        wanted = copy.deepcopy(d).features(UNLABELLED.weak).mean(0)
        seen = copy.deepcopy(d).features(torch.cat([g.items for g in made])).split(4)
        expected += sum((f.mean(0) - wanted).pow(2).mean().item() for f in seen) / len(networks)
    assert term.item() == pytest.approx(0.6 * expected, rel=1e-6)


def test_the_mask_term_is_summed_over_chains() -> None:
    generators, networks = painters(masked=True), [classifier(j) for j in range(3)]
    made = generated_by(generators)
    terms = objective(mask_weight=0.2).generators(generators, made, networks, FAKES).terms
    expected = 0.2 * sum(g.mask.mean().item() for g in made if g.mask is not None)
    assert terms["mask"].item() == pytest.approx(expected)


def test_zero_weights_remove_their_terms_and_the_work_for_them() -> None:
    class Refuses(Classifier):
        seen = 0

        def features(self, x: Tensor) -> Tensor:
            self.seen += 1
            return super().features(x)

    network = filled(Refuses(nn.Flatten(), PIXELS, K + 1, 0.0), 1)
    assert isinstance(network, Refuses)
    terms = potential_of(objective(adversarial_weight=0.0), network).terms
    assert not {"real", "fake", "consistency", "pretext"} & set(terms)
    assert network.seen == 2  # labelled and unlabelled items: no fakes
    generators = painters(masked=True)
    made = generated_by(generators)
    weightless = objective(mask_weight=0.0)
    terms = weightless.generators(generators, made, [network], UNLABELLED.weak).terms
    assert not {"feature_matching", "mask"} & set(terms)
    assert network.seen == 3


def test_a_zero_labelled_weight_learns_nothing_from_labels() -> None:
    network = classifier(normalised=False)
    of, wrong = objective(labelled_weight=0.0), LabelledBatch(LABELLED.x, LABELLED.y.flip(0))
    right_total = potential_of(of, network).total
    wrong_total = potential_of(of, network, labelled=wrong).total
    assert torch.equal(right_total, wrong_total)


@pytest.mark.parametrize("phase", ["discriminator", "generator"])
def test_the_total_is_the_sum_of_the_terms_and_they_hold_no_graph(phase: str) -> None:
    generators, network = painters(masked=True), classifier()
    consistency = {"consistency_weight": 1.0, "consistency_threshold": 0.0}
    of = objective(**consistency, feature_matching_weight=1.0)
    if phase == "discriminator":
        of = objective(**consistency, pretext_weight=1.0)
        potential, reported = potential_of(of, network), DIAGNOSTICS | {"pretext_top1"}
    else:
        made = generated_by(generators)
        potential = of.generators(generators, made, [network], UNLABELLED.weak)
        reported = {"d_fake_after"}
    parts = [term for name, term in potential.terms.items() if name not in reported]
    torch.testing.assert_close(torch.stack(parts).sum(), potential.total.detach())
    assert not any(term.requires_grad for term in potential.terms.values())
    assert potential.total.requires_grad


def test_what_is_reported_is_the_mean_probability_of_real() -> None:
    network = classifier()
    terms = potential_of(objective(), network).terms
    p_real = 1 - fixed(network, UNLABELLED.weak).softmax(1)[:, 0]
    p_fake = 1 - fixed(network, FAKES).softmax(1)[:, 0]
    labelled = fixed(network, LABELLED.x)[:, 1:]
    top1 = (labelled.argmax(1) == LABELLED.y).double().mean()
    assert terms["d_real"].item() == pytest.approx(p_real.mean().item())
    assert terms["d_fake_before"].item() == pytest.approx(p_fake.mean().item())
    assert terms["train_top1"].item() == pytest.approx(top1.item())
    made = generated_by(painters())
    after = objective().generators(painters(), made, [network], UNLABELLED.weak).terms
    fooled = 1 - fixed(network, torch.cat([g.items for g in made])).softmax(1)[:, 0]
    assert after["d_fake_after"].item() == pytest.approx(fooled.mean().item())
