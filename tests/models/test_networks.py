"""Shapes at every size, gradients everywhere, statistics, and names that are not known."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from bgan_video.models import (
    build_discriminator,
    build_generator,
    frozen_statistics,
)
from bgan_video.models.nd import norm
from bgan_video.models.shapes import SpatialDims, plan_clip
from tests.models.building import (
    SIZES,
    K,
    assert_learns_everywhere,
    inflated_resnet,
    items,
    refusal,
    settings,
    with_scales_of_one,
)

FRAMES = [1, 2, 3, 4, 5, 6, 7, 8]
GENERATORS: list[tuple[str, SpatialDims]] = [
    *(("dcgan", 2), ("residual", 2)),
    *(("dcgan", 3), ("two_stream", 3), ("residual", 3)),
]


@pytest.mark.parametrize(("name", "spatial_dims"), GENERATORS)
@pytest.mark.parametrize("size", SIZES)
def test_generators_paint_every_size(name: str, spatial_dims: SpatialDims, size: int) -> None:
    chosen = settings(f"generator.name={name}", size=size, dims=spatial_dims)
    made = build_generator(chosen)(torch.randn(3, 6))
    shape = (3, 3, size, size) if spatial_dims == 2 else (3, 3, 4, size, size)
    assert made.items.shape == shape
    assert made.items.abs().max() <= 1
    has_mask = name == "two_stream" or (name == "residual" and spatial_dims == 3)
    assert (made.mask is not None) == has_mask


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("name", ["dcgan", "two_stream", "residual"])
def test_generators_paint_every_length(name: str, frames: int) -> None:
    generator = build_generator(settings(f"generator.name={name}", frames=frames))
    assert generator(torch.randn(2, 6)).items.shape == (2, 3, frames, 16, 16)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", ["pool", "flatten"])
def test_discriminators_read_every_size(spatial_dims: SpatialDims, size: int, head: str) -> None:
    chosen = settings(f"discriminator.head={head}", size=size, dims=spatial_dims)
    logits = build_discriminator(chosen, K)(items(size, 4, spatial_dims))
    assert logits.shape == (3, K + 1)


@pytest.mark.parametrize("frames", FRAMES)
def test_discriminators_read_every_length(frames: int) -> None:
    logits = build_discriminator(settings(frames=frames), K)(items(16, frames))
    assert logits.shape == (3, K + 1)


@pytest.mark.parametrize("norm_", ["batch", "group", "none"])
@pytest.mark.parametrize(("name", "spatial_dims"), GENERATORS)
def test_every_weight_of_a_generator_learns(
    name: str, spatial_dims: SpatialDims, norm_: str
) -> None:
    names = [f"generator.name={name}", f"generator.norm={norm_}"]
    generator = build_generator(settings(*names, dims=spatial_dims))
    made = generator(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    assert_learns_everywhere(generator, made.items)


@pytest.mark.parametrize("norm_", ["batch", "group", "none"])
@pytest.mark.parametrize("head", ["pool", "flatten"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_weight_of_a_discriminator_learns(
    spatial_dims: SpatialDims, head: str, norm_: str
) -> None:
    names = [f"discriminator.head={head}", f"discriminator.norm={norm_}"]
    network = build_discriminator(settings(*names, dims=spatial_dims), K)
    assert_learns_everywhere(network, network(items(16, 4, spatial_dims)))


@pytest.mark.parametrize(
    ("name", "overrides", "spatial_dims"),
    [
        ("r3d_18", [], 3),
        ("timm:test_resnet", [], 2),
        ("timm:test_resnet", [], 3),
        ("timm:test_vit", [], 3),
        ("timm:resnet10t", ["discriminator.temporal=pool"], 3),
    ],
)
def test_every_weight_of_a_backbone_learns(
    name: str, overrides: list[str], spatial_dims: SpatialDims
) -> None:
    size = 32 if name != "timm:test_vit" else 64
    chosen = settings(f"discriminator.name={name}", *overrides, size=size, dims=spatial_dims)
    network = with_scales_of_one(build_discriminator(chosen, K))
    logits = network(items(size, 4, spatial_dims))
    assert logits.shape == (3, K + 1)
    assert_learns_everywhere(network, logits)


def test_an_inflated_backbone_learns_everywhere() -> None:
    network = with_scales_of_one(inflated_resnet())
    assert_learns_everywhere(network, network(items(32, 4)))


@pytest.mark.parametrize("kind", ["batch", "group"])
@pytest.mark.parametrize("channels", [1, 3, 6, 8, 20, 64])
def test_norms_take_any_number_of_channels(kind: str, channels: int) -> None:
    x = torch.randn(4, channels, 2, 3, 3) * 3 + 2
    y = norm(kind, channels, 3)(x)
    assert y.mean().item() == pytest.approx(0, abs=1e-5)
    assert y.var(correction=0).item() == pytest.approx(1, abs=1e-2)


def test_networks_share_no_statistics_and_no_weights() -> None:
    first, second = (build_discriminator(settings(), K) for _ in range(2))
    before = copy.deepcopy(second.state_dict())
    first(items(16, 4))
    with torch.no_grad():
        for p in first.parameters():
            p.add_(1)
    assert all(torch.equal(second.state_dict()[key], value) for key, value in before.items())
    assert not torch.equal(first.state_dict()["body.3.running_mean"], torch.zeros(8))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_frozen_statistics_still_normalise_by_the_batch(spatial_dims: SpatialDims) -> None:
    network, other = (build_discriminator(settings(dims=spatial_dims), K) for _ in range(2))
    other.load_state_dict(network.state_dict())
    x = items(16, 4, spatial_dims) * 3
    with frozen_statistics(network):
        frozen = network(x)
    assert torch.equal(frozen, other(x))
    zeros = torch.zeros(8)
    assert torch.equal(network.state_dict()["body.3.running_mean"], zeros)
    network(x)
    assert torch.equal(
        network.state_dict()["body.3.running_mean"], other.state_dict()["body.3.running_mean"]
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_frozen_statistics_stay_as_they_are_whatever_the_batch_holds(value: float) -> None:
    network = build_discriminator(settings(), K)
    network(items(16, 4))
    before = copy.deepcopy(network.state_dict())
    overflown = items(16, 4)
    overflown[0, 0, 0, 0, 0] = value
    with frozen_statistics(network):
        assert not network(overflown).isfinite().all()
    after = network.state_dict()
    assert "body.3.running_var" in before
    assert before["body.3.num_batches_tracked"] == 1
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_statistics_thaw_after_an_error() -> None:
    layer = nn.BatchNorm2d(2, momentum=0.3)
    with pytest.raises(RuntimeError), frozen_statistics(layer):
        raise RuntimeError
    assert layer.momentum == 0.3


def test_logits_are_the_head_of_the_features() -> None:
    network = build_discriminator(settings("discriminator.dropout=0.5"), K).eval()
    x = items(16, 4)
    assert torch.equal(network(x), network.head(network.features(x)))
    network.train()
    assert not torch.equal(network(x), network(x))


@pytest.mark.parametrize("kind", ["rgb", "difference"])
def test_logits_are_of_full_precision_under_autocast(kind: str) -> None:
    """In bf16, with its two digits, they tie."""
    network = build_discriminator(settings(f"discriminator.input={kind}"), K)
    with torch.autocast("cpu", torch.bfloat16):
        features = network.features(items(16, 4))
        logits = network.judge(features, items(16, 4))
    assert features.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize(("name", "spatial_dims"), GENERATORS)
def test_items_are_blended_in_full_precision_under_autocast(
    name: str, spatial_dims: SpatialDims
) -> None:
    network = build_generator(settings(f"generator.name={name}", dims=spatial_dims))
    with torch.autocast("cpu", torch.bfloat16):
        made = network(torch.randn(3, 6))
    assert made.items.dtype == torch.float32
    assert not torch.equal(made.items, made.items.bfloat16().float())


def test_the_head_reads_the_whole_last_map_or_its_mean() -> None:
    pool, flatten = (
        build_discriminator(settings(f"discriminator.head={head}"), K)
        for head in ("pool", "flatten")
    )
    channels, base = 4 * 2, plan_clip(4, 16).base
    assert pool.head.in_features == channels
    assert flatten.head.in_features == channels * math.prod(base)
    flatten.body[:-1].load_state_dict(pool.body[:-1].state_dict())
    x = items(16, 4)
    maps = flatten.features(x).view(3, channels, -1)
    torch.testing.assert_close(pool.features(x), maps.mean(-1))


def test_images_have_no_two_streams() -> None:
    chosen = settings("generator.name=two_stream", dims=2)
    message = refusal(lambda: build_generator(chosen))
    assert "generator.name=two_stream is not known for images" in message
    assert "allowed: residual, dcgan, notebook, tensorflow" in message


@pytest.mark.parametrize(
    ("name", "spatial_dims", "said"),
    [
        ("dcgna", 3, "did you mean dcgan?"),
        ("r3d18", 3, "did you mean r3d_18?"),
        ("r3d_18", 2, "not known for images; allowed: dcgan, notebook, tensorflow, timm:<model>"),
        ("notebook", 3, "not known for videos; allowed: dcgan, "),
        ("timm:resent18", 3, "did you mean timm:resnet18?"),
    ],
)
def test_an_unknown_discriminator_is_refused(
    name: str, spatial_dims: SpatialDims, said: str
) -> None:
    chosen = settings(f"discriminator.name={name}", dims=spatial_dims)
    assert said in refusal(lambda: build_discriminator(chosen, K))


def test_an_unknown_generator_is_refused() -> None:
    chosen = settings("generator.name=twostream")
    message = refusal(lambda: build_generator(chosen))
    assert "generator.name=twostream is not known for videos" in message
    assert "did you mean two_stream?" in message


@pytest.mark.parametrize("name", ["notebook", "tensorflow"])
def test_weights_are_not_passed_over(name: str) -> None:
    chosen = settings(f"discriminator.name={name}", "discriminator.weights=w.pt", size=32, dims=2)
    message = refusal(lambda: build_discriminator(chosen, K))
    assert f"discriminator.weights=w.pt: discriminator.name={name} takes none" in message
