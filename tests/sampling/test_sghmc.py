"""SGHMC exactly: transitions, paths, settings, state. What is random is in test_stationarity."""

import copy
import math
import warnings
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from bgan_video.sampling import SGHMC, SGLD, AdaptiveSGHMC, Integrator, kinetic_temperature
from bgan_video.sampling.sampler import normal_together
from tests.sampling.oracles import HESSIAN, Settings, check_transition

INTEGRATORS: list[Integrator] = ["symplectic", "euler", "baoa"]
PATH = Settings(lr=0.1, friction=0.2)


def quadratic_step(optimizer: torch.optim.Optimizer, params: list[Tensor]) -> None:
    """A step on a potential that is not quadratic and couples the parameters."""
    optimizer.zero_grad()
    total = sum(param.sin().sum() for param in params)
    (0.5 * total.square() + sum(param.square().sum() for param in params)).backward()
    optimizer.step()


def start() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = [(3, 2), (4,)]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def path(settings: Settings, steps: int, seed: int = 0) -> list[Tensor]:
    params = start()
    optimizer = settings.build(SGHMC, params, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        quadratic_step(optimizer, params)
    return params


def assert_equal(left: list[Tensor], right: list[Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("friction", [0.01, 0.3, 1.0])
def test_transition_is_the_closed_form(integrator: Integrator, friction: float):
    check_transition(SGHMC, Settings(integrator=integrator, friction=friction, lr=0.07))


def test_cold_sampler_is_sgd_with_momentum():
    params, reference = start(), start()
    sampler = SGHMC(params, lr=0.05, friction=0.1, temperature=0.0, num_data=10)
    sgd = torch.optim.SGD(reference, lr=0.05, momentum=0.9)
    for _ in range(100):
        quadratic_step(sampler, params)
        quadratic_step(sgd, reference)
        for mine, theirs in zip(params, reference, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13)
            buffer = sgd.state[theirs]["momentum_buffer"]
            momentum = sampler.state[mine]["momentum"]
            torch.testing.assert_close(momentum, -math.sqrt(0.05) * buffer, rtol=1e-9, atol=1e-12)


def test_full_friction_is_langevin_dynamics():
    params, reference = start(), start()
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    sampler = SGHMC(params, 0.05, 1.0, 1.0, 10, generator=seeds[0])
    langevin = SGLD(reference, 0.05, 1.0, 10, generator=seeds[1])
    for _ in range(20):
        quadratic_step(sampler, params)
        quadratic_step(langevin, reference)
    for mine, theirs in zip(params, reference, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_cold_sampler_draws_no_random_number(integrator: Integrator):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    params = start()
    sampler = Settings(temperature=0.0, integrator=integrator).build(SGHMC, params, generator)
    quadratic_step(sampler, params)
    assert torch.equal(generator.get_state(), before)


def test_seed_decides_the_path():
    assert_equal(path(PATH, 5), path(PATH, 5))
    assert not torch.equal(path(PATH, 5)[0], path(PATH, 5, seed=1)[0])


def test_only_temperature_over_num_data_matters():
    warm = Settings(temperature=2.0, num_data=200.0)
    assert_equal(path(warm, 5), path(Settings(temperature=1.0, num_data=100.0), 5))


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_state_dict_continues_the_path_bitwise(integrator: Integrator):
    settings = Settings(integrator=integrator, lr=0.05)
    params, generator = start(), torch.Generator().manual_seed(0)
    sampler = settings.build(SGHMC, params, generator)
    for _ in range(3):
        quadratic_step(sampler, params)
    saved = copy.deepcopy((sampler.state_dict(), generator.get_state()))
    copies = [param.detach().clone().requires_grad_() for param in params]

    other = torch.Generator()
    resumed = Settings(lr=9.0).build(SGHMC, copies, other)
    resumed.load_state_dict(saved[0])
    other.set_state(saved[1])
    for _ in range(3):
        quadratic_step(sampler, params)
        quadratic_step(resumed, copies)
    assert_equal(params, copies)


def test_groups_have_their_own_settings():
    def groups(params: list[Tensor]) -> list[dict[str, object]]:
        return [{"params": [params[0]], "lr": 0.01}, {"params": [params[1]], "integrator": "baoa"}]

    together, apart = start(), start()
    cold = {"lr": 0.1, "friction": 0.2, "temperature": 0.0, "num_data": 1.0}
    sampler = SGHMC(groups(together), **cold)
    first = SGHMC([apart[0]], **{**cold, "lr": 0.01})
    second = SGHMC([apart[1]], **cold, integrator="baoa")
    for _ in range(3):
        quadratic_step(sampler, together)
        for param in apart:
            param.grad = None
        total = sum(param.sin().sum() for param in apart)
        (0.5 * total.square() + sum(param.square().sum() for param in apart)).backward()
        first.step()
        second.step()
    assert_equal(together, apart)


def test_parameter_without_gradient_stays():
    params = start()
    sampler = PATH.build(SGHMC, params, torch.Generator().manual_seed(0))
    before = params[0].detach().clone()
    params[1].grad = torch.ones_like(params[1])
    sampler.step()
    assert torch.equal(params[0], before)
    assert params[0] not in sampler.state
    assert len(kinetic_temperature(sampler)) == 1


def test_memory_layout_does_not_change_the_noise():
    plain = torch.zeros(2, 3, 4, 5, 6)
    strided = plain.to(memory_format=torch.channels_last_3d)
    for param in (plain, strided):
        param.grad = torch.zeros_like(param)
        PATH.build(SGHMC, [param], torch.Generator().manual_seed(0)).step()
    assert torch.equal(plain, strided)
    assert plain.abs().sum() > 0


def test_learning_rate_schedulers_and_grad_scaler_drive_it():
    params = start()
    sampler = PATH.build(SGHMC, params)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(sampler, 0.5)
    quadratic_step(sampler, params)
    scheduler.step()
    assert sampler.param_groups[0]["lr"] == pytest.approx(PATH.lr / 2)
    before = [param.detach().clone() for param in params]
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    scaler.scale(params[0].sum() * math.inf).backward()
    params[1].grad = None
    scaler.step(sampler)
    assert_equal(params, before)


def test_change_of_step_size_rescales_the_displacement():
    theta = torch.zeros(1, dtype=torch.float64)
    sampler = SGHMC([theta], lr=0.04, friction=0.5, temperature=0.0, num_data=1.0)
    theta.grad = -torch.ones_like(theta)
    sampler.step()
    assert theta.item() == pytest.approx(0.04)
    sampler.param_groups[0]["lr"] = 0.16
    theta.grad.zero_()
    sampler.step()  # v = 0.04, times 1 - a, times sqrt(0.16 / 0.04)
    assert theta.item() == pytest.approx(0.04 + 0.04 * 0.5 * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be finite and > 0, got 0.0"),
        ({"lr": math.nan}, "lr must be"),
        ({"friction": 0.0}, r"friction must be finite and in \(0, 1.0\] for symplectic, got 0.0"),
        ({"friction": 1.1}, "friction must be"),
        ({"friction": -0.1, "integrator": "baoa"}, "friction must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"num_data": 0}, "num_data must be"),
        ({"gradient_noise": -0.1}, "gradient_noise must be"),
        ({"gradient_noise": 0.4}, r"gradient_noise must be finite and in \[0, 0.3\]"),
        ({"gradient_noise": 0.1, "integrator": "baoa"}, r"in \[0, 0.0\] for baoa"),
        ({"integrator": "leapfrog"}, "integrator must be one of symplectic, euler, baoa, got"),
    ],
)
def test_bad_settings_are_named(change: dict[str, float], message: str):
    params = [torch.zeros(2)]
    with pytest.raises(ValueError, match=message):
        SGHMC(params, **{**vars(Settings()), **change})
    sampler = Settings().build(SGHMC, params)
    with pytest.raises(ValueError, match=message):
        sampler.add_param_group({"params": [torch.zeros(3)], **change})
    assert len(sampler.param_groups) == 1


def test_baoa_takes_any_positive_friction():
    Settings(friction=3.0, integrator="baoa").build(SGHMC, [torch.zeros(2)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sampler", [SGHMC, SGLD, AdaptiveSGHMC])
def test_half_precision_parameters_are_refused(sampler: type, dtype: torch.dtype):
    settings = {"lr": 0.1, "temperature": 1.0, "num_data": 10}
    if sampler is not SGLD:
        settings["friction"] = 0.1
    with pytest.raises(ValueError, match="parameters must be float32 or float64, got torch"):
        sampler([nn.Parameter(torch.zeros(2, dtype=dtype))], **settings)


def posteriors_module(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"posteriors.sgmcmc.{name}")


@pytest.mark.parametrize(("integrator", "name"), [("euler", "sghmc"), ("baoa", "baoa")])
def test_path_equals_posteriors(integrator: Integrator, name: str, monkeypatch: pytest.MonkeyPatch):
    """Under the same noise, with the map of units in the docstring of SGHMC."""
    module = posteriors_module(name)
    eps, alpha, sigma, temperature, num_data, beta = 0.2, 0.7, 1.3, 0.8, 20.0, 0.9
    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        torch, "randn_like", lambda x: torch.randn(x.shape, generator=noise, dtype=x.dtype)
    )

    def log_posterior(params: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        return -0.5 * params @ HESSIAN @ params - params.sin().sum(), batch

    chen = {"beta": beta} if name == "sghmc" else {}
    transform = module.build(
        log_posterior,
        lr=eps,
        alpha=alpha,
        sigma=sigma,
        temperature=temperature / num_data,
        momenta=0.0,
        **chen,
    )
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    state = transform.init(theta.clone())

    # posteriors' baoa keeps its friction in float32
    tolerance = {"rtol": 1e-10 if chen else 1e-6, "atol": 1e-12 if chen else 1e-7}
    lr = eps**2 / sigma**2
    friction = eps * alpha / sigma**2
    gradient_noise = lr * temperature / num_data * beta / 2 if chen else 0.0
    settings = Settings(lr, friction, temperature, num_data, integrator, gradient_noise)
    theta.requires_grad_()
    sampler = settings.build(SGHMC, [theta], torch.Generator().manual_seed(0))
    for _ in range(50):
        state, _ = transform.update(state, torch.zeros(()))
        sampler.zero_grad()
        (-log_posterior(theta, theta)[0]).backward()
        sampler.step()
        momentum = sampler.state[theta]["momentum"]
        torch.testing.assert_close(theta.detach(), state.params, **tolerance)
        torch.testing.assert_close(momentum * sigma, state.momenta, **tolerance)


def test_noise_drawn_together_is_fresh_everywhere_and_laid_out_as_the_tensors_are() -> None:
    tensors = [
        torch.zeros(40, 5, 3, 3).contiguous(memory_format=torch.channels_last),
        torch.zeros(7),
        torch.zeros(20, 100).t(),
    ]
    drawn = normal_together(tensors, torch.Generator().manual_seed(0))
    assert [d.shape for d in drawn] == [t.shape for t in tensors]
    assert [d.stride() for d in drawn] == [t.stride() for t in tensors]
    numbers = torch.cat([d.flatten() for d in drawn])
    assert len(numbers.unique()) > 0.99 * len(numbers)  # 3,807 of 2^23 and more: few meet
    # Four standard errors of the mean and the variance of 3,807 draws: false alarms of 1e-4.
    assert abs(numbers.mean().item()) < 4 / math.sqrt(len(numbers))
    assert abs(numbers.var().item() - 1) < 4 * math.sqrt(2 / len(numbers))
