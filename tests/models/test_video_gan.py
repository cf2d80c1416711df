"""VGAN's numbers and its two streams."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from bgan_video.models import (
    build_discriminator,
    build_generator,
)
from tests.models.building import (
    settings,
)

VGAN = ("clip.size=64", "clip.num_frames=32", "generator.latent_dim=100", "discriminator.width=64")
WIDTHS = [512, 256, 128, 64]


def vgan_stack(time: int, kernel: int, outputs: int) -> int:
    """Weights of VGAN's generator stack, counted from its table; no bias before a batch norm."""
    count = 100 * 512 * time * 4 * 4
    count += sum(a * b * kernel for a, b in pairwise(WIDTHS))
    norms = 2 * sum(WIDTHS)
    return count + norms + 64 * outputs * kernel + outputs


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_two_stream_generator_has_vgans_weights() -> None:
    generator = build_generator(settings(*VGAN, width=64))
    assert count(generator) == vgan_stack(2, 64, 3 + 1) + vgan_stack(1, 16, 3)
    # VGAN's 16.25 M have a bias before every batch norm, which does nothing.
    assert count(generator) + 2 * sum(WIDTHS) == pytest.approx(16.25e6, abs=5e3)


def test_the_discriminator_has_vgans_weights() -> None:
    chosen = settings(*VGAN, "discriminator.head=flatten", width=64)
    network = build_discriminator(chosen, 1)
    kernels = 64 * (3 * 64 + sum(a * b for a, b in pairwise(WIDTHS)))
    biases, norms, head = 64, 2 * (128 + 256 + 512), 2 * (512 * 2 * 4 * 4 + 1)
    assert count(network) == kernels + biases + norms + head
    assert count(network) == pytest.approx(11.06e6, abs=5e3)


def test_vgans_initial_weights_are_small() -> None:
    generator = build_generator(settings(*VGAN, width=64))
    kernels = [m.weight for m in generator.modules() if isinstance(m, nn.ConvTranspose3d)]
    assert len(kernels) == 5
    for kernel in kernels:
        assert kernel.std().item() == pytest.approx(0.02, rel=0.05)
    scales = [m.weight for m in generator.modules() if isinstance(m, nn.BatchNorm3d)]
    assert torch.cat(scales).mean().item() == pytest.approx(1, abs=0.01)


def two_stream(**changed: int) -> nn.Module:
    return build_generator(settings("generator.name=two_stream", **changed))


def test_a_video_is_foreground_where_the_mask_is_and_background_elsewhere() -> None:
    generator, z = two_stream().eval(), torch.randn(2, 6)
    made, features = generator(z), generator.trunk(z)
    f, m = generator.foreground(features).tanh(), generator.mask(features).sigmoid()
    b = generator.background(z).items[:, :, None]
    torch.testing.assert_close(made.items, m * f + (1 - m) * b)
    torch.testing.assert_close(made.mask, m)
    assert made.mask.shape == (2, 1, 4, 16, 16)


@pytest.mark.parametrize(("bias", "is_static"), [(-100.0, True), (100.0, False)])
def test_the_background_stands_still_and_the_foreground_moves(bias: float, is_static: bool) -> None:
    generator = two_stream(frames=8).eval()
    with torch.no_grad():
        generator.mask.bias.fill_(bias)
        for layer in generator.modules():
            if isinstance(layer, nn.ConvTranspose3d | nn.ConvTranspose2d | nn.Linear):
                layer.weight.mul_(20)
        clip = generator(torch.randn(2, 6)).items
    motion = (clip[:, :, 1:] - clip[:, :, :-1]).abs().max()
    assert (motion < 1e-6) == is_static
    assert clip[:, :, 0].std() > 1e-3


def test_both_streams_follow_one_latent() -> None:
    generator = two_stream().eval()
    first, second = torch.randn(1, 6), torch.randn(1, 6)
    assert not torch.equal(generator(first).items, generator(second).items)
    assert torch.equal(generator(first).items, generator(first).items)
