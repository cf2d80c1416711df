"""Fine-tuning: step size of the body, what never moves, a prior centred at what is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.method.bodies import of_features
from bgan_video.models import Classifier, build_discriminator, frozen_statistics, look_at_body
from bgan_video.models.finetuning import Held, freeze
from bgan_video.training.chains import Chain, initialised, without_gradients
from bgan_video.training.lineup import build
from bgan_video.training.plan import plan
from bgan_video.training.trainer import DataSize, Trainer
from tests.models.building import IMAGES, items, refusal

BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
K, NUM_DATA, LR = 3, 40, 0.02
MODEL = "test_resnet"


def settings(*overrides: str) -> Config:
    small = ["clip.size=32", f"discriminator.name=timm:{MODEL}", "generator.width=4"]
    steps = ["train.steps=6", "posterior.burn_in=2", "posterior.thinning=1", "run.device=cpu"]
    sizes = ["train.batch_size=4", "train.labelled_batch_size=4", "generator.name=dcgan"]
    return config.load(None, [*IMAGES, *small, *steps, *sizes, *overrides])


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Weights whose batch norms have statistics of their own."""
    network = timm.create_model(MODEL)
    random = torch.Generator().manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=random) * 0.1
            layer.running_var = torch.rand(layer.num_features, generator=random) + 0.5
    torch.save(network.state_dict(), tmp_path / "w.pt")
    return f"discriminator.weights={tmp_path / 'w.pt'}"


def chain(chosen: Config, seed: int = 0) -> Chain[Classifier]:
    noise = torch.Generator().manual_seed(1)
    network = initialised(lambda: build_discriminator(chosen, K), BACKEND, "test", seed)
    return Chain(network, chosen, "discriminator", LR, NUM_DATA, noise, BACKEND)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {n for n, now in module.state_dict().items() if not torch.equal(now, before[n])}


def batches() -> tuple[LabelledBatch, UnlabelledBatch]:
    x = items(32, 1, 2, batch=4)
    return LabelledBatch(x, torch.tensor([0, 1, 2, 0])), UnlabelledBatch(x.flip(0), x.flip(3))


# --- the step size of the body -----------------------------------------------------------------


@pytest.mark.parametrize("phase", ["burn_in", "sampling"])
def test_the_body_takes_a_part_of_the_heads_step(phase: str) -> None:
    """Adam's first step is lr·g/(|g| + eps); SGHMC's from rest at T = 0 is -lr·g."""
    cold = ["posterior.temperature=0", "posterior.lr=0.05"]
    of = chain(settings("discriminator.body_lr=0.25", *cold))
    before = {name: p.detach().clone() for name, p in of.network.named_parameters()}
    of.begin_step(0 if phase == "burn_in" else 2)
    of.network(items(32, 1, 2)).square().mean().backward()
    of.optimizer.step()
    for name, p in of.network.named_parameters():
        part = 0.25 if name.startswith("body.") else 1.0
        assert p.grad is not None
        step = -LR * p.grad / (p.grad.abs() + 1e-8)
        if phase == "sampling":
            step = -0.05 * p.grad
        torch.testing.assert_close(p - before[name], part * step, rtol=1e-3, atol=1e-6)


def test_schedules_hold_for_body_and_head() -> None:
    of = chain(settings("discriminator.body_lr=0.1", "posterior.schedule=exponential"))
    for step in range(6):
        of.begin_step(step)
        head, body = (group["lr"] for group in of.optimizer.param_groups)
        assert body == pytest.approx(0.1 * head)
        assert of.moves[1] == (head if of.is_sampling else 0)


def test_temperatures_keep_their_names(weights: str) -> None:
    of = chain(settings("discriminator.body_lr=0.1", weights))
    of.begin_step(2)
    of.network(items(32, 1, 2)).square().mean().backward()
    of.optimizer.step()
    found = of.temperatures()
    assert set(found) == {name for name, _ in of.network.named_parameters()}
    for name, p in of.network.named_parameters():
        heat = NUM_DATA * of.optimizer.state[p]["momentum"].square().mean()
        assert found[name] == pytest.approx(float(heat))


def test_a_saved_chain_goes_on_with_both_step_sizes() -> None:
    chosen = settings("discriminator.body_lr=0.1")
    first, second = chain(chosen), chain(chosen, seed=1)
    first.begin_step(0)
    second.load_state_dict(first.state_dict())
    second.begin_step(1)
    assert [g["lr"] for g in second.optimizer.param_groups] == pytest.approx([LR, 0.1 * LR])


# --- what never moves --------------------------------------------------------------------------

FROZEN: list[tuple[list[str], Callable[[str], bool]]] = [
    (["discriminator.freeze=[conv1,bn1]"], lambda name: name.startswith(("conv1.", "bn1."))),
    (["discriminator.freeze=[layer1.0.conv1]"], lambda name: name.startswith("layer1.0.conv1.")),
    # The stem has three kernels, each with its norm but for the last, whose is bn1.
    (["discriminator.freeze=3"], lambda name: name.startswith(("conv1.", "bn1."))),
    (["discriminator.freeze=1"], lambda name: name.startswith(("conv1.0.", "conv1.1."))),
]


@pytest.mark.parametrize(("how", "is_frozen"), FROZEN)
def test_frozen_layers_never_move(
    how: list[str], is_frozen: Callable[[str], bool], weights: str
) -> None:
    """Through burn-in, generator phases and sampling, neither weights nor statistics."""
    of = Trainer(settings(*how, weights), DataSize(K, 20, 4), BACKEND)
    network = of.discriminators[0].network.body[1]
    before = state_of(network)
    for step in range(4):
        of.step(step, *batches())
    counters = {name for name in before if name.endswith("num_batches_tracked")}
    stayed = {*before} - moved(before, network) - counters
    assert stayed == {name for name in before if is_frozen(name)} - counters


@pytest.mark.parametrize("what", [1, ("0", "1")])
def test_norms_without_scales_are_frozen_too(what: int | tuple[str, ...]) -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 4, 3)]
    network = nn.Sequential(*layers, nn.BatchNorm2d(4, affine=False))
    freeze(network, what)
    assert [isinstance(layer, Held) for layer in network] == [False, True, False, False]
    assert not any(p.requires_grad for p in network[0].parameters())
    assert all(p.requires_grad for p in network[2].parameters())


def test_frozen_layers_stay_in_every_learner(weights: str) -> None:
    methods = "baseline.methods=[supervised,pseudo_label,mean_teacher,ml_gan,cold_gan,bayesian_gan]"
    frozen = ["discriminator.freeze=[conv1,bn1,layer1]", "discriminator.freeze_norm=true"]
    models = build(settings(methods, *frozen, weights), DataSize(K, 20, 4), BACKEND)
    networks = [n for learner in models.learners for n in learner.networks]
    before = [state_of(network) for network in networks]
    for step in range(4):
        models.step(step, *batches())
    for network, was in zip(networks, before, strict=True):
        names = moved(was, network)
        assert any("layer4" in name for name in names)
        assert not any("conv1.0" in name and "layer" not in name for name in names)
        assert not any("layer1" in name or "running" in name for name in names)


def test_a_frozen_norm_normalises_by_its_statistics(weights: str) -> None:
    network = build_discriminator(settings("discriminator.freeze_norm=true", weights), K).train()
    x = items(32, 1, 2, batch=4)
    before = state_of(network)
    with torch.no_grad():
        alone = network(x[:1])
        together = network(x)
        with frozen_statistics(network):
            again = network(x)
    # In training mode, and whatever else is in the batch.
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(together, again)
    assert moved(before, network) == set()
    torch.optim.swa_utils.update_bn([x], network)
    assert moved(before, network) == set()
    assert not any(p.requires_grad for n, p in network.named_parameters() if "bn" in n)


def test_gradients_are_put_back_as_they_were(weights: str) -> None:
    network = build_discriminator(settings("discriminator.freeze=[layer1]", weights), K)
    before = {name: p.requires_grad for name, p in network.named_parameters()}
    with without_gradients([network]):
        assert not any(p.requires_grad for p in network.parameters())
    assert {name: p.requires_grad for name, p in network.named_parameters()} == before
    assert set(before.values()) == {True, False}


@pytest.mark.parametrize(
    ("freeze", "reason"),
    [
        ("[layer9]", "this body has no layer9; did you mean layer"),
        ("[conv]", "its parts: conv1, bn1, layer1"),
        ("99", "allowed: 0.."),
        ("-1", "allowed: 0.."),
    ],
)
def test_what_cannot_be_frozen_is_refused(freeze: str, reason: str) -> None:
    chosen = settings(f"discriminator.freeze={freeze}")
    assert reason in refusal(lambda: look_at_body(chosen))


def test_a_body_of_features_beside_one_of_clips_has_no_layers_to_freeze(weights: str) -> None:
    """Its settings are those of the clips' body, but for what it sees."""
    fine = ["discriminator.freeze=[conv1]", "discriminator.freeze_norm=true"]
    more = ["discriminator.body_lr=0.1", "posterior.prior_mean=pretrained"]
    seen = of_features(settings(weights, *fine, *more), length=7)
    of = chain(seen)
    assert all(p.requires_grad for p in of.network.parameters())
    of.begin_step(0)
    assert [group["lr"] for group in of.optimizer.param_groups] == [LR]
    assert of.network.prior_means == {}


def test_a_whole_body_may_be_frozen(weights: str) -> None:
    layers = sum(isinstance(m, nn.Conv2d) for m in timm.create_model(MODEL).modules())
    network = build_discriminator(settings(f"discriminator.freeze={layers}", weights), K)
    assert not any(p.requires_grad for p in network.body.parameters())
    assert all(p.requires_grad for p in network.head.parameters())


def test_a_dry_run_counts_what_is_frozen(small_videos: Path) -> None:
    data = ["data.layout=ucf101", f"data.root={small_videos}", "data.labels_per_class=1"]
    small = ["discriminator.width=4", "generator.width=4", "clip.size=16", "clip.num_frames=4"]
    chosen = config.load(None, [*data, *small, "run.device=cpu", "discriminator.freeze=1"])
    told = plan(chosen)
    frozen = sum(p.numel() for p in build_discriminator(chosen, K).body[0].parameters())
    assert f"({frozen:,} of them frozen)" in told
    (whole,) = re.findall(r"discriminators of ([\d,]+) parameters", told)
    learning = int(whole.replace(",", "")) - frozen
    assert f"noise: T = 1 on d = {learning:,} weights" in told


# --- the prior ---------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_a_prior_centred_at_the_weights_pulls_towards_them(weights: str, std: float) -> None:
    """-log p = |θ - θ0|² / (2 std²) of the body, |θ|² / (2 std²) of the head; over N."""
    centred = [weights, "posterior.prior_mean=pretrained", f"posterior.prior_std={std}"]
    of = Trainer(settings(*centred), DataSize(K, NUM_DATA, 4), BACKEND)
    network = of.discriminators[0].network
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=random) * 0.1)
    (term,) = of.objective._prior.of("prior", NUM_DATA, network).values()
    pulls = {
        name: (p - start[name] if name.startswith("body.") else p).detach()
        for name, p in network.named_parameters()
    }
    energy = sum(pull.double().square().sum() for pull in pulls.values()) / (2 * std**2 * NUM_DATA)
    assert float(term.detach()) == pytest.approx(float(energy), rel=1e-4)
    term.backward()
    for name, p in network.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, pulls[name] / (std**2 * NUM_DATA))


def test_the_centre_is_what_was_loaded_not_what_a_chain_goes_on_from(weights: str) -> None:
    chosen = settings(weights, "posterior.prior_mean=pretrained")
    first = chain(chosen)
    loaded = [mean.clone() for mean in first.network.prior_means.values()]
    with torch.no_grad():
        for p in first.network.parameters():
            p.add_(1)
    second = chain(chosen, seed=1)
    second.load_state_dict(first.state_dict())
    means = second.network.prior_means
    assert {*means} == {*second.network.body.parameters()}
    assert all(torch.equal(m, was) for m, was in zip(means.values(), loaded, strict=True))
    assert not any("centres" in name for name in second.state_dict()["network"])


def test_sampling_the_prior_alone_stays_around_the_weights(weights: str) -> None:
    """Of |body| weights the mean of (θ - θ0)/std is 0 and its variance 1: false alarms of 1e-6.

    BAOA is exact for a Gaussian. 120 steps of friction 0.2 and lr/std² = 0.2 forget the start.
    """
    std, lr = 0.1, 0.1**2 * 0.2
    more = ["posterior.prior_mean=pretrained", f"posterior.prior_std={std}"]
    how = ["posterior.integrator=baoa", "posterior.friction=0.2", f"posterior.lr={lr * NUM_DATA}"]
    chosen = settings(weights, *more, *how)
    of = Trainer(chosen, DataSize(K, NUM_DATA, 4), BACKEND)
    start = [p.detach().clone() for p in of.discriminators[0].network.body.parameters()]
    own = of.discriminators[0]
    for _ in range(120):
        own.begin_step(chosen.posterior.burn_in)
        own.optimizer.zero_grad()
        of.objective._prior.of("prior", NUM_DATA, own.network)["prior"].backward()
        own.optimizer.step()
    pairs = zip(own.network.body.parameters(), start, strict=True)
    z = torch.cat([((p.detach() - was) / std).double().flatten() for p, was in pairs])
    bound = 4.9
    assert abs(float(z.mean())) < bound / math.sqrt(len(z))
    assert abs(float(z.var()) - 1) < bound * math.sqrt(2 / len(z))


def test_a_centre_needs_weights() -> None:
    chosen = settings("posterior.prior_mean=pretrained")
    assert "set discriminator.weights" in refusal(lambda: look_at_body(chosen))


def test_the_published_codes_have_one_step_size() -> None:
    one = ["compat.adam=true", "discriminator.body_lr=0.5"]
    assert "discriminator.body_lr=1" in refusal(lambda: settings(*one))
