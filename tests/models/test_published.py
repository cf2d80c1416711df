"""The published networks: their weights counted by hand, their sizes, and how they start."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bgan_video import config
from bgan_video.config import Config
from bgan_video.errors import UserError
from bgan_video.models import Classifier, build_discriminator, build_generator
from bgan_video.models.published import tensorflow_body, tensorflow_generator

K = 10
BATCH = 6


def settings(name: str, *overrides: str, layout: str = "cifar10", size: int = 32) -> Config:
    names = [f"data.layout={layout}", f"generator.name={name}", f"discriminator.name={name}"]
    image = [f"clip.size={size}", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    return config.load(None, [*names, *image, *overrides])


def published(name: str, width: int, **where: object) -> tuple[nn.Module, Classifier]:
    """Generator and discriminator, with initial weights that are always the same."""
    widths = [f"generator.width={width}", f"discriminator.width={width}"]
    c = settings(name, *widths, **where)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_generator(c), build_discriminator(c, K)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def latents(count: int = BATCH) -> Tensor:
    return torch.randn(count, 100, generator=torch.Generator().manual_seed(0))


def sides(network: nn.Module, x: Tensor, kind: type[nn.Module]) -> list[int]:
    """Side of the map behind every layer of a kind, in the order of the forward pass."""
    found: list[int] = []
    layers = [layer for layer in network.modules() if isinstance(layer, kind)]
    handles = [la.register_forward_hook(lambda *a: found.append(a[2].shape[-1])) for la in layers]
    network(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", ["notebook", "tensorflow"])
def test_items_are_of_full_precision_under_autocast(name: str) -> None:
    """A critic's penalty is computed without autocast, of items as they come."""
    generator, _ = published(name, 4)
    with torch.autocast("cpu", torch.bfloat16):
        items = generator(latents()).items
    assert items.dtype == torch.float32
    assert not torch.equal(items, items.bfloat16().float())


# --- the TensorFlow code -----------------------------------------------------------------------


def test_the_tensorflow_networks_have_the_weights_of_their_code() -> None:
    generator, discriminator = published("tensorflow", 96)
    linear = 100 * 2 * 2 * 512 + 2 * 2 * 512
    up = (512 * 384 * 9 + 384) + (384 * 192 * 9 + 192) + (192 * 96 * 9 + 96)
    assert count(generator) == linear + up + (96 * 3 * 25 + 3) == 2_813_635
    down = (3 * 96 * 25 + 96) + (96 * 192 * 9 + 192) + (192 * 384 * 9 + 384)
    down += 384 * 512 * 9 + 512
    features = 2 * 2 * 512 * 512 + 512
    assert count(discriminator.body) == down + features == 3_656_384
    assert count(discriminator) == down + features + 512 * (K + 1) + (K + 1) == 3_662_027
    # As their authors count them, with K logits in place of K + 1.
    assert count(generator) == pytest.approx(2.81e6, abs=5e3)
    assert count(discriminator) - (512 + 1) == pytest.approx(3.66e6, abs=5e3)


@pytest.mark.parametrize(
    ("size", "expected"), [(28, [14, 7, 4, 2]), (32, [16, 8, 4, 2]), (64, [32, 16, 8, 4])]
)
def test_tensorflow_sizes_are_halved_and_rounded_up(size: int, expected: list[int]) -> None:
    layout = "mnist" if size == 28 else "cifar10"
    channels = 1 if size == 28 else 3
    generator, discriminator = published("tensorflow", 8, layout=layout, size=size)
    assert sides(generator, latents(), nn.ConvTranspose2d) == [*expected[-2::-1], size]
    x = torch.zeros(BATCH, channels, size, size)
    assert sides(discriminator, x, nn.Conv2d) == expected
    assert generator(latents()).items.shape == x.shape
    assert discriminator(x).shape == (BATCH, K + 1)
    assert discriminator.features(x).shape == (BATCH, 512)


@given(size=st.integers(8, 70))
def test_tensorflow_networks_take_any_size(size: int) -> None:
    generator = tensorflow_generator(100, 2, size, 1)
    x = generator(latents(2)).items
    assert x.shape == (2, 1, size, size)
    body, features = tensorflow_body(2, size, 1)
    assert body(x).shape == (2, features)


def test_tensorflow_widths_end_at_512() -> None:
    body, _ = tensorflow_body(160, 32, 3)
    convolutions = [layer for layer in body if isinstance(layer, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [160, 320, 512, 512]


def test_tensorflow_norms_have_no_scale_and_no_shift() -> None:
    for network, expected in zip(published("tensorflow", 8), (4, 3), strict=True):
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == expected
        for layer in norms:
            assert layer.weight is None
            assert layer.bias is None
            assert (layer.eps, layer.momentum) == (1e-5, 0.1)


def assert_normal(values: Tensor, mean: float, std: float) -> None:
    """N(mean, std²), to 5 standard errors of both: false alarms of 1e-6."""
    n = values.numel()
    assert abs(values.mean().item() - mean) < 5 * std / math.sqrt(n)
    assert abs(values.std().item() / std - 1) < 5 / math.sqrt(2 * n)


def flat(parameters: list[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


def test_tensorflow_weights_start_at_a_fiftieth_biases_too() -> None:
    generator, discriminator = published("tensorflow", 96)
    for network in (generator, discriminator.body):
        kernels = [p for p in network.parameters() if p.ndim > 1]
        biases = [p for p in network.parameters() if p.ndim == 1]
        assert len(kernels) == len(biases) == 5
        for kernel in kernels:
            assert_normal(kernel.detach(), 0.0, 0.02)
        assert_normal(flat(biases), 0.0, 0.02)


def test_a_tensorflow_head_starts_at_a_fiftieth_as_well() -> None:
    _, discriminator = published("tensorflow", 96)
    assert_normal(discriminator.head.weight.detach(), 0.0, 0.02)


# --- the notebook ------------------------------------------------------------------------------


def test_the_notebooks_networks_have_its_weights() -> None:
    generator, discriminator = published("notebook", 64)
    kernels = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    norms = 2 * (512 + 256 + 128)
    assert count(generator) == kernels + norms == 3_448_576
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    norms = 2 * (128 + 256 + 512)
    head = 512 * 2 * 2 * (K + 1)
    assert count(discriminator) == kernels + norms + head == 2_779_904


def test_the_notebooks_shapes() -> None:
    generator, discriminator = published("notebook", 8)
    assert sides(generator, latents(), nn.ConvTranspose2d) == [4, 8, 16, 32]
    x = torch.zeros(BATCH, 3, 32, 32)
    assert sides(discriminator, x, nn.Conv2d) == [16, 8, 4, 2]
    assert generator(latents()).items.shape == x.shape
    assert discriminator(x).shape == (BATCH, K + 1)


def test_only_norms_of_the_notebook_have_a_bias() -> None:
    for network in published("notebook", 8):
        biased = [m for m in network.modules() if getattr(m, "bias", None) is not None]
        assert biased
        assert all(isinstance(m, nn.BatchNorm2d) for m in biased)


def test_the_notebook_takes_one_size() -> None:
    c = settings("notebook", size=28)
    for build in (lambda: build_generator(c), lambda: build_discriminator(c, K)):
        with pytest.raises(UserError, match=r"clip\.size=28: the notebook's networks take 32"):
            build()


def test_the_notebooks_generator_starts_small_and_its_discriminator_as_torch_does() -> None:
    generator, discriminator = published("notebook", 64)
    for layer in generator.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            assert_normal(layer.weight.detach(), 0.0, 0.02)
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert_normal(flat([m.weight for m in norms]), 1.0, 0.02)
    assert all(m.bias.count_nonzero() == 0 for m in norms)
    for layer in discriminator.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Uniform within 1/sqrt(fan in), which is not 0.02 anywhere.
            bound = 1 / math.sqrt(layer.weight[0].numel())
            assert layer.weight.abs().max() <= bound
            # A bounded variable: its standard deviation is known better than a normal one's.
            assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all(
        m.weight.eq(1).all() for m in discriminator.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_the_notebooks_loss_starts_at_what_its_log_shows() -> None:
    """Loss_G of its run starts at 22.97: ten times the prior Σ θ² / 1000, and the fakes' share."""
    c = settings("notebook")
    energies = []
    for seed in range(3):
        torch.manual_seed(seed)
        energies.append(sum(p.square().sum().item() for p in build_generator(c).parameters()))
    # Kernels give 3,446,784 · 0.02², scales 896 · (1 + 0.02²).
    expected = 3_446_784 * 0.02**2 + 896 * (1 + 0.02**2)
    assert 10 * expected / 1000 == pytest.approx(22.75, abs=0.005)
    assert energies == pytest.approx([expected] * 3, rel=0.005)


# --- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notebook", "tensorflow"])
def test_pictures_are_in_range_and_use_it(name: str) -> None:
    generator, _ = published(name, 8)
    with torch.no_grad():
        for p in generator.parameters():
            p.mul_(50)
    x = generator(latents()).items
    assert x.abs().max() <= 1
    assert x.min() < -0.9
    assert x.max() > 0.9


@pytest.mark.parametrize("name", ["notebook", "tensorflow"])
def test_every_published_weight_learns(name: str) -> None:
    generator, discriminator = published(name, 4)
    along = torch.randn(BATCH, K + 1, generator=torch.Generator().manual_seed(1))
    (discriminator(generator(latents()).items) * along).sum().backward()
    for network in (generator, discriminator):
        # A bias before a batch norm moves nothing: TensorFlow's code has them all the same.
        still = [n for n, p in network.named_parameters() if p.grad is None]
        assert still == []
        kernels = [p for p in network.parameters() if p.ndim > 1]
        assert all(p.grad.abs().sum() > 0 for p in kernels if p.grad is not None)


@pytest.mark.parametrize("classes", [1, 10])
def test_the_synthetic_experiments_networks(classes: int) -> None:
    one_frame = ["clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    names = ["generator.name=mlp", "discriminator.name=mlp", "generator.latent_dim=2"]
    widths = ["generator.width=1000", "discriminator.width=1000"]
    c = config.load(None, ["data.layout=synthetic", *one_frame, *names, *widths])
    generator, discriminator = build_generator(c), build_discriminator(c, classes)
    assert count(generator) == (2 * 1000 + 1000) + (1000 * 100 + 100)
    assert count(discriminator) == (100 * 1000 + 1000) + (1000 + 1) * (classes + 1)
    x = generator(torch.randn(5, 2)).items
    assert x.shape == (5, 100)
    assert discriminator(1000 * x).shape == (5, classes + 1)


@pytest.mark.parametrize(("name", "layout"), [("mlp", "cifar10"), ("notebook", "synthetic")])
def test_networks_are_for_their_kind_of_item(name: str, layout: str) -> None:
    c = settings(name, layout=layout)
    items = "images" if layout == "cifar10" else "points"
    for build in (lambda: build_generator(c), lambda: build_discriminator(c, K)):
        with pytest.raises(UserError, match=f"name={name} is not known for {items}; allowed: "):
            build()
