"""What the published codes do otherwise: every option does what it says, and is off by itself."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Config
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.errors import UserError
from bgan_video.method import losses
from bgan_video.method.objective import Objective, RealOutputs, Shown
from bgan_video.models import Classifier, Generated
from bgan_video.sampling import SGHMC
from bgan_video.training import compat
from bgan_video.training.chains import Chain
from bgan_video.training.compat import Role
from bgan_video.training.trainer import DataSize, Trainer

CPU = torch.device("cpu")
BACKEND = Backend(CPU, "fp32", torch.amp.GradScaler("cpu", enabled=False))
K, NUM_DATA, LR = 3, 50, 0.02
WEIGHTS = 100_000
# Of a standard deviation from that many normal draws: 5 standard errors, false alarms of 6e-7.
BOUND = 5 / math.sqrt(2 * WEIGHTS)
ROLES: list[Role] = ["discriminator", "generator"]


def settings(*overrides: str) -> Config:
    return config.load(None, ["posterior.burn_in=0", "posterior.thinning=1", *overrides])


def published_scale(code: str, role: Role, alpha: float, lr: float) -> float:
    """Standard deviation of the published noise loss, before its division by N."""
    if code == "tensorflow":
        return math.sqrt(2 * 0.01 * 2e-4)  # its α is no setting, nor is its η
    return math.sqrt(2 * alpha / lr) if role == "generator" else math.sqrt(2 * alpha * lr)


class Weights(nn.Module):
    """Weights of zero in two tensors, so that the smallest noise is not rounded away."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(WEIGHTS // 2))
        self.second = nn.Parameter(torch.zeros(WEIGHTS // 2))


def chain(role: Role, *overrides: str, noise: torch.Generator | None = None) -> Chain[Weights]:
    generator = noise or torch.Generator().manual_seed(0)
    return Chain(Weights(), settings(*overrides), role, LR, NUM_DATA, generator, BACKEND)


def step_without_gradient(of: Chain[Weights]) -> tuple[Tensor, Tensor]:
    """How far a step moves the weights where no potential does, and the gradient it followed."""
    before = flat(list(of.network.parameters()))
    for p in of.network.parameters():
        p.grad = torch.zeros_like(p)
    of.begin_step(0)
    of.optimizer.step()
    after = flat(list(of.network.parameters()))
    gradients = [p.grad for p in of.network.parameters() if p.grad is not None]
    return after - before, flat(gradients)


def flat(tensors: list[Any]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors]).double()


def assert_noise(drawn: Tensor, std: float) -> None:
    assert drawn.numel() == WEIGHTS
    assert drawn.std().item() == pytest.approx(std, rel=BOUND)
    assert abs(drawn.mean().item()) < 5 * std / math.sqrt(WEIGHTS)


def unrelated(one: Tensor, other: Tensor) -> bool:
    """Whether two draws correlate no more than chance does: 5 standard errors."""
    r = torch.corrcoef(torch.stack([one, other]))[0, 1].item()
    return abs(r) < 5 / math.sqrt(one.numel())


# --- the scale of the noise --------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("code", ["notebook", "tensorflow"])
@pytest.mark.parametrize("friction", [0.01, 0.1])
def test_one_step_of_the_sampler_is_as_noisy_as_the_published_loss(
    code: str, role: Role, friction: float
) -> None:
    """SGD moves by lr times the gradient of `scale · Σ θ ξ / N`."""
    more = [f"compat.noise_scale={code}", f"posterior.friction={friction}"]
    of = chain(role, *more, f"posterior.lr={LR}")
    moved, _ = step_without_gradient(of)
    assert isinstance(of.optimizer, SGHMC)
    assert_noise(moved, LR * published_scale(code, role, friction, LR) / NUM_DATA)


@pytest.mark.parametrize("role", ROLES)
def test_the_posteriors_noise_is_chens(role: Role) -> None:
    moved, _ = step_without_gradient(chain(role, "posterior.lr=0.02", "posterior.friction=0.1"))
    assert_noise(moved, math.sqrt(2 * 0.1 * 0.02 / NUM_DATA))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("code", ["posterior", "notebook", "tensorflow"])
def test_the_posteriors_temperature_multiplies_that_of_a_code(code: str, role: Role) -> None:
    cold, warm = (
        compat.temperature(
            settings(f"compat.noise_scale={code}", f"posterior.temperature={t}"), role, LR, 50
        )
        for t in (0.25, 1.0)
    )
    assert cold == pytest.approx(0.25 * warm)
    assert (warm == 1) == (code == "posterior")


def test_the_published_temperatures_in_figures() -> None:
    """The notebook's settings: N = 50,000 for the discriminator, 1,000 for generators."""
    c = settings("compat.noise_scale=notebook", "posterior.friction=1e-4")
    assert compat.temperature(c, "generator", 2e-4, 1000) == pytest.approx(1e-3)
    assert compat.temperature(c, "discriminator", 2e-4, 50_000) == pytest.approx(8e-13)
    c = settings("compat.noise_scale=tensorflow", "posterior.friction=0.01")
    assert compat.temperature(c, "generator", 0.005, 50_000) == pytest.approx(2e-11)


# --- Adam to the end ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("code", ["notebook", "tensorflow"])
@pytest.mark.parametrize("friction", [1e-4, 0.01])
def test_adam_follows_a_gradient_as_noisy_as_the_published_loss(
    code: str, role: Role, friction: float
) -> None:
    more = [f"compat.noise_scale={code}", f"posterior.friction={friction}"]
    of = chain(role, "compat.adam=true", *more)
    _, gradient = step_without_gradient(of)
    assert isinstance(of.optimizer, torch.optim.Adam)
    assert_noise(gradient, published_scale(code, role, friction, LR) / NUM_DATA)


def test_adams_noise_at_temperature_one_is_that_of_the_posterior() -> None:
    of = chain("generator", "compat.adam=true", "posterior.friction=0.1")
    _, gradient = step_without_gradient(of)
    assert_noise(gradient, math.sqrt(2 * 0.1 / (LR * NUM_DATA)))


def test_noise_is_added_to_the_gradient_and_not_put_in_its_place() -> None:
    noise = torch.Generator().manual_seed(4)
    of = chain("generator", "compat.adam=true", noise=noise)
    along = torch.linspace(-1, 1, WEIGHTS // 2)
    (along * of.network.first).sum().backward()
    of.optimizer.step()
    assert of.network.first.grad is not None
    drawn = torch.randn(WEIGHTS // 2, generator=torch.Generator().manual_seed(4))
    std = compat.noise_coefficient(0.1, 1.0, LR, NUM_DATA)
    torch.testing.assert_close(of.network.first.grad, along + std * drawn)
    assert of.network.second.grad is None, "a weight without gradient stays without"


def test_noise_is_fresh_for_every_generator_weight_and_step() -> None:
    """The notebook's NoiseLoss gives all generators the last draw."""
    shared = torch.Generator().manual_seed(0)
    drawn: list[Tensor] = []
    chains = [chain("generator", "compat.adam=true", noise=shared) for _ in range(2)]
    for of in [*chains, *chains]:
        _, gradient = step_without_gradient(of)
        drawn += gradient.chunk(2)  # one of each tensor
    assert len(drawn) == 8
    assert all(unrelated(one, other) for one, other in itertools.combinations(drawn, 2))


@pytest.mark.parametrize(
    "override", ["posterior.temperature=0", "posterior.bayes=false"], ids=lambda o: o
)
@pytest.mark.parametrize("adam", [True, False])
def test_no_heat_and_no_posterior_are_no_noise(override: str, adam: bool) -> None:
    shared = torch.Generator().manual_seed(0)
    before = shared.get_state()
    of = chain("generator", override, f"compat.adam={adam}", noise=shared)
    moved, gradient = step_without_gradient(of)
    assert moved.count_nonzero() == 0
    assert gradient.count_nonzero() == 0
    assert torch.equal(shared.get_state(), before), "none is even drawn"


def test_adam_keeps_its_step_size_and_takes_no_sample() -> None:
    c = settings("compat.adam=true")
    assert not c.samples_posterior
    of = chain("generator", "compat.adam=true")
    for step in (0, 500):
        of.begin_step(step)
        assert isinstance(of.optimizer, torch.optim.Adam)
        assert of.optimizer.param_groups[0]["lr"] == LR
    assert not of.is_sampling
    assert of.temperatures() == {}


def test_adam_may_burn_in_longer_than_the_run() -> None:
    c = config.load(None, ["compat.adam=true", "train.steps=10"])
    assert c.posterior.burn_in > 10
    assert c.posterior.bayes, "its prior stays"


# --- the terms ---------------------------------------------------------------------------------


class Judge(Classifier):
    """Sure that everything is fake, as far as a bias says it."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), 4, K + 1, 0.0)
        with torch.no_grad():
            self.head.bias[0] = 8


class Painter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.paint = nn.Linear(2, 4)

    def forward(self, z: Tensor) -> Generated:
        return Generated(self.paint(z).view(-1, 1, 2, 2), None)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def objective(*overrides: str) -> Objective:
    return Objective(settings("posterior.bayes=false", *overrides), NUM_DATA, 1)


def terms_of(of: Objective) -> dict[str, Tensor]:
    """All terms of a discriminator and of two generators, and the logits they are made of."""
    torch.manual_seed(0)
    judge, painters = Judge(), [Painter(), Painter()]
    real, made = draw(0, 5, 1, 2, 2), [p(draw(j, 5, 2)) for j, p in enumerate(painters)]
    fakes = torch.cat([m.items for m in made])
    labelled = LabelledBatch(real[:3], torch.tensor([0, 2, 1]))
    looked = RealOutputs.of(judge, labelled, real)
    found = of.discriminator(judge, looked, Shown(fakes.detach(), real), of.weights(0)).terms
    found |= of.generators(painters, made, [judge], real).terms
    return found | {"logits": judge(real).detach(), "fake logits": judge(fakes).detach()}


def test_a_clamp_reaches_the_real_and_the_generators_term_and_no_other() -> None:
    plain, clamped = terms_of(objective()), terms_of(objective("compat.complement_clamp=1e-2"))
    changed = {name for name in plain if not torch.equal(plain[name], clamped[name])}
    assert changed == {"real", "generator"}
    torch.testing.assert_close(clamped["real"], losses.real(plain["logits"], 1e-2))
    # Summed over the two generators.
    expected = 2 * losses.generator(plain["fake logits"], 1e-2)
    torch.testing.assert_close(clamped["generator"], expected)
    assert clamped["generator"] < 0.9 * plain["generator"]


def test_hubers_matching_is_samplewise_and_summed_over_generators() -> None:
    weight = "objective.feature_matching_weight=0.5"
    mean = terms_of(objective(weight))
    pairs = ["train.batch_size=5", "train.fake_batch_size=5"]
    huber = terms_of(objective(weight, "compat.feature_matching=huber", *pairs))
    changed = {name for name in mean if not torch.equal(mean[name], huber[name])}
    assert changed == {"feature_matching"}
    torch.manual_seed(0)
    _, painters = Judge(), [Painter(), Painter()]
    real = draw(0, 5, 4)
    made = [p(draw(j, 5, 2)).items.flatten(1).detach() for j, p in enumerate(painters)]
    expected = 0.5 * sum(nn.functional.huber_loss(m, real) for m in made)
    torch.testing.assert_close(huber["feature_matching"], expected)
    expected = 0.5 * sum((m.mean(0) - real.mean(0)).square().mean() for m in made)
    torch.testing.assert_close(mean["feature_matching"], expected)


# --- in a whole step ---------------------------------------------------------------------------

IMAGES = ["data.layout=image_folder", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
SMALL = ["clip.size=16", "generator.name=dcgan", "generator.width=4", "generator.latent_dim=3"]
SMALL += ["discriminator.width=4", "train.batch_size=4", "posterior.num_z=2"]


def trainer(*overrides: str) -> Trainer:
    c = settings(*IMAGES, *SMALL, *overrides)
    return Trainer(c, DataSize(K, NUM_DATA, K), BACKEND)


def pictures(seed: int, count: int = 4) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 16, 16, generator=random) * 2 - 1


def step(of: Trainer) -> dict[str, Tensor]:
    batch = LabelledBatch(pictures(0, 3), torch.tensor([0, 2, 1]))
    return of.step(0, batch, UnlabelledBatch(pictures(1), pictures(2)))


def gradients(network: nn.Module) -> Tensor:
    return flat([p.grad for p in network.parameters()])


def test_every_chain_of_a_step_has_noise_of_its_own() -> None:
    """The same step with noise and without: what is between them is no two chains' alike."""
    noisy, still = trainer("compat.adam=true"), trainer("compat.adam=true", "posterior.bayes=false")
    prior = trainer("compat.adam=true", "posterior.temperature=0")
    for of in (noisy, still, prior):
        step(of)
    drawn = [
        gradients(one.network) - gradients(other.network)
        for one, other in zip(noisy.discriminators, prior.discriminators, strict=True)
    ]
    std = compat.noise_coefficient(0.1, 1.0, 1e-3, NUM_DATA)
    for noise in drawn:
        assert noise.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * len(noise)))
    assert unrelated(*drawn)
    with_prior, without = (gradients(of.discriminators[0].network) for of in (prior, still))
    assert not torch.equal(with_prior, without), "the prior is still there at temperature 0"


def test_samplewise_matching_takes_as_many_fakes_as_real_items() -> None:
    huber = ["compat.feature_matching=huber", "objective.feature_matching_weight=1"]
    terms = step(trainer(*huber, "train.fake_batch_size=4"))
    assert terms["feature_matching"] > 0


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("fakes", ["null", "1"])
def test_samplewise_matching_refuses_other_numbers_of_fakes(fakes: str) -> None:
    huber = ["compat.feature_matching=huber", "objective.feature_matching_weight=1"]
    try:
        step(trainer(*huber, f"train.fake_batch_size={fakes}"))
    except UserError as error:
        assert "train.fake_batch_size" in str(error)  # noqa: PT017
    else:
        pytest.fail("it was neither refused nor done pair by pair")


def test_every_option_is_off_by_itself() -> None:
    found = dataclasses.asdict(config.Compat())
    assert found == {
        "adam": False,
        "noise_scale": "posterior",
        "complement_clamp": 0.0,
        "feature_matching": "mean",
        "first_labels": False,
    }


def test_pairs_have_no_common_teacher() -> None:
    with pytest.raises(UserError, match=r"posterior\.independent with objective\.consistency"):
        config.load(None, ["posterior.independent=true", "objective.consistency_weight=1"])


@pytest.mark.parametrize("scale", ["posterior", "notebook", "tensorflow"])
def test_the_noise_that_is_told_is_that_of_the_chains(scale: str) -> None:
    sizes = ["clip.size=16", "clip.num_frames=4", "generator.width=4", "discriminator.width=4"]
    of = settings(*sizes, f"compat.noise_scale={scale}", "posterior.temperature=0.5")
    trainer = Trainer(of, DataSize(K, NUM_DATA, K), BACKEND)
    factor = compat.temperature(of, "discriminator", of.posterior.lr, trainer.noise.num_data) / 0.5
    assert (factor == 1) == (scale == "posterior")
    assert trainer.noise.temperature == pytest.approx(0.5 * factor)
    assert trainer.noise.facts()["temperature"] == trainer.discriminators[0].temperature
