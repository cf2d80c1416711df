"""Networks: shapes at every size, gradients everywhere, VGAN's numbers, pretrained weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from bgan_video import config, losses
from bgan_video.errors import UserError
from bgan_video.models import (
    Classifier,
    build_discriminator,
    build_generator,
    frozen_statistics,
)
from bgan_video.models.backbones import FrameAverage, Inflated
from bgan_video.models.discriminators import frame_differences
from bgan_video.models.nd import norm
from bgan_video.models.shapes import Plan, SpatialDims, plan_clip, plan_image

SIZES = [8, 10, 12, 14, 16, 24]
FRAMES = [1, 2, 3, 4, 5, 6, 7, 8]
GENERATORS: list[tuple[str, SpatialDims]] = [("dcgan", 2), ("dcgan", 3), ("two_stream", 3)]
K = 5


# An image is a clip of one frame to everything but the networks.
IMAGES = ["data.layout=cifar10", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]


def settings(
    *overrides: str, size: int = 16, frames: int = 4, width: int = 4, dims: SpatialDims = 3
) -> config.Config:
    small = [f"clip.size={size}", f"clip.num_frames={frames}", "generator.latent_dim=6"]
    small += IMAGES if dims == 2 else []
    widths = [f"generator.width={width}", f"discriminator.width={width}"]
    return config.load(None, [*small, *widths, *overrides])


def items(size: int, frames: int, spatial_dims: SpatialDims = 3, batch: int = 3) -> Tensor:
    shape = (batch, 3, size, size) if spatial_dims == 2 else (batch, 3, frames, size, size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def refusal(build: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_learns_everywhere(module: nn.Module, output: Tensor) -> None:
    along = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output * along).sum().backward()
    without = [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().sum() == 0
    ]
    assert without == []


def with_scales_of_one(network: nn.Module) -> nn.Module:
    """timm starts the last norm of a residual block at zero: behind it nothing learns at first."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
    return network


# --- sizes -------------------------------------------------------------------------------------


def shrunk(plan: Plan, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """What strided convolutions make of a size, by the formula of their documentation."""
    for stage in plan.stages:
        axes = zip(sizes, stage.kernel, stage.stride, stage.padding, strict=True)
        sizes = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in axes)
    return sizes


def grown(plan: Plan) -> tuple[int, ...]:
    sizes = plan.base
    for stage in reversed(plan.stages):
        axes = zip(sizes, stage.kernel, stage.stride, stage.padding, strict=True)
        sizes = tuple((n - 1) * s - 2 * p + k for n, k, s, p in axes)
    return sizes


def allowed(make: Callable[[int], Plan], upto: int) -> dict[int, Plan]:
    found = {}
    for size in range(1, upto + 1):
        try:
            found[size] = make(size)
        except UserError:
            continue
    return found


def test_images_have_a_base_of_four_to_seven_doubled() -> None:
    expected = {b << n for b in (4, 5, 6, 7) for n in range(1, 9) if b << n <= 300}
    assert set(allowed(plan_image, 300)) == expected


def test_image_stages_lead_to_the_base_and_back() -> None:
    for size, plan in allowed(plan_image, 300).items():
        assert shrunk(plan, (size, size)) == plan.base
        assert grown(plan) == (size, size)
        assert set(plan.base) <= {4, 5, 6, 7}


@pytest.mark.parametrize("size", [8, 20, 64, 112])
def test_clip_stages_lead_to_the_base_and_back(size: int) -> None:
    plans = allowed(lambda frames: plan_clip(frames, size), 70)
    for frames, plan in plans.items():
        assert shrunk(plan, (frames, size, size)) == plan.base
        assert grown(plan) == (frames, size, size)
        assert 1 <= plan.base[0] <= 7
        assert plan.base[1:] == plan_image(size).base
    assert {1, 2, 3, 4, 5, 6, 7, 8} <= set(plans)


def test_only_a_single_frame_is_halved_to_a_single_frame() -> None:
    for frames, plan in allowed(lambda frames: plan_clip(frames, 64), 64).items():
        assert (plan.base[0] == 1) == (frames == 1)


def test_time_is_halved_by_the_stages_nearest_to_the_pixels() -> None:
    strides = [stage.stride[0] for stage in plan_clip(16, 64).stages]
    assert strides == [2, 2, 2, 1]


@pytest.fixture(scope="module")
def image_sizes() -> set[int]:
    return set(allowed(plan_image, 1024))


@given(size=st.integers(1, 2000))
def test_a_size_is_allowed_or_the_nearest_one_is_named(image_sizes: set[int], size: int) -> None:
    try:
        plan_image(size)
    except UserError as error:
        named = int(str(error).partition("nearest allowed: ")[2].partition(" ")[0])
        assert named in image_sizes
        assert min(abs(size - other) for other in image_sizes) == abs(size - named)


def test_a_size_that_does_not_fit_names_its_key() -> None:
    assert "clip.size=60" in refusal(lambda: build_generator(settings(size=60)))
    message = refusal(lambda: build_discriminator(settings(frames=9), K))
    assert "clip.num_frames=9" in message
    assert "nearest allowed: 8" in message


# --- shapes and gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "spatial_dims"), GENERATORS)
@pytest.mark.parametrize("size", SIZES)
def test_generators_paint_every_size(name: str, spatial_dims: SpatialDims, size: int) -> None:
    chosen = settings(f"generator.name={name}", size=size, dims=spatial_dims)
    made = build_generator(chosen)(torch.randn(3, 6))
    shape = (3, 3, size, size) if spatial_dims == 2 else (3, 3, 4, size, size)
    assert made.items.shape == shape
    assert made.items.abs().max() <= 1
    assert (made.mask is not None) == (name == "two_stream")


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("name", ["dcgan", "two_stream"])
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


# --- what moves --------------------------------------------------------------------------------


def in_steps(x: Tensor) -> Tensor:
    """Multiples of 1/256, whose sums and differences are exact."""
    return (x * 256).round() / 256


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_differences_are_each_frame_minus_the_one_before(frames: int) -> None:
    clips = items(8, frames)
    by_hand = torch.zeros_like(clips)
    for t in range(1, frames):
        by_hand[:, :, t] = clips[:, :, t] - clips[:, :, t - 1]
    assert torch.equal(frame_differences(clips), by_hand)
    assert frame_differences(clips)[:, :, 0].count_nonzero() == 0


def test_a_still_clip_has_no_differences() -> None:
    still = items(8, 1).expand(-1, -1, 6, -1, -1)
    differences = frame_differences(still)
    assert differences.shape == still.shape
    assert differences.count_nonzero() == 0


@pytest.mark.parametrize("name", ["dcgan", "r3d_18", "timm:test_resnet"])
@pytest.mark.parametrize(("seen", "is_blind"), [("difference", True), ("rgb", False)])
def test_classes_are_blind_to_what_stands_still(name: str, seen: str, is_blind: bool) -> None:
    chosen = settings(f"discriminator.name={name}", f"discriminator.input={seen}", size=32)
    network = with_scales_of_one(build_discriminator(chosen, K)).eval()
    clips = in_steps(items(32, 4))
    background = in_steps(torch.rand(1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        there, alone = network(clips + background), network(clips)
        assert torch.equal(there[:, 1:], alone[:, 1:]) == is_blind
        assert not torch.equal(there[:, 0], alone[:, 0]), "fakes are told by their looks as well"
        assert not torch.equal(network(clips.flip(2)), alone)


def test_differences_reach_features_and_class_logits_alike() -> None:
    plain, moving = (
        build_discriminator(settings(f"discriminator.input={seen}"), K).eval()
        for seen in ("rgb", "difference")
    )
    plain.load_state_dict(moving.state_dict(), strict=False)
    x = items(16, 4)
    assert torch.equal(moving.features(x), plain.features(frame_differences(x)))
    assert moving.appearance is not None
    expected = plain(frame_differences(x))
    fake, classes = expected[:, :1] + moving.appearance(x), expected[:, 1:]
    torch.testing.assert_close(moving(x), torch.cat([fake, classes.log_softmax(dim=1)], dim=1))


def test_looks_are_judged_clip_by_clip() -> None:
    """Were they normalised over a batch, as fakes and real clips are apart, little would be left
    to tell the two by."""
    appearance = build_discriminator(settings("discriminator.input=difference"), K).appearance
    assert appearance is not None
    x = items(16, 4)
    alone = torch.cat([appearance.train()(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(appearance(x), alone)


def test_a_discriminator_learns_to_tell_greyer_fakes() -> None:
    """Real clips and fakes are normalised apart; with batch norm before the average pool the
    probabilities are less than 0.3 apart after these steps."""
    torch.manual_seed(0)
    network = build_discriminator(settings("discriminator.input=difference", width=16), K).train()
    adam = torch.optim.Adam(network.parameters(), lr=4e-3, betas=(0.5, 0.999))
    random = torch.Generator().manual_seed(0)
    apart = []
    for _ in range(40):
        colours = torch.rand(2, 8, 3, 1, 1, 1, generator=random) * 2 - 1
        noise = 0.1 * torch.randn(2, 8, 3, 4, 16, 16, generator=random)
        clips, fakes = colours * torch.tensor([1, 0.3]).view(2, 1, 1, 1, 1, 1) + noise
        with frozen_statistics(network):
            real, fake = network(clips), network(fakes)
        adam.zero_grad()
        (losses.real(real) + losses.fake(fake)).backward()
        adam.step()
        apart.append(losses.log_real(real).exp().mean() - losses.log_real(fake).exp().mean())
    assert torch.stack(apart[-10:]).mean() > 0.4


def test_the_fake_logit_beside_looks_is_the_log_odds_of_being_fake() -> None:
    network = build_discriminator(settings("discriminator.input=difference"), K).double()
    logits = network(items(16, 4).double())
    p_fake = logits.softmax(dim=1)[:, 0]
    torch.testing.assert_close((p_fake / (1 - p_fake)).log(), logits[:, 0])


@pytest.mark.parametrize("name", ["dcgan", "timm:test_resnet"])
def test_images_have_no_differences(name: str) -> None:
    names = [f"discriminator.name={name}", "discriminator.input=difference"]
    message = refusal(lambda: build_discriminator(settings(*names, size=32, dims=2), K))
    assert "discriminator.input=difference" in message
    assert "allowed for images: rgb" in message


# --- VGAN --------------------------------------------------------------------------------------

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


# --- two streams -------------------------------------------------------------------------------


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


# --- names -------------------------------------------------------------------------------------


def test_images_have_no_two_streams() -> None:
    chosen = settings("generator.name=two_stream", dims=2)
    message = refusal(lambda: build_generator(chosen))
    assert "generator.name=two_stream is not known for images" in message
    assert "allowed: dcgan, notebook, tensorflow" in message


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


# --- image models on clips ---------------------------------------------------------------------


def inflated_resnet() -> Classifier:
    chosen = settings("discriminator.name=timm:resnet18", "discriminator.temporal=inflate")
    return build_discriminator(chosen, K)


def randomise_statistics(network: nn.Module) -> nn.Module:
    """Norms that do something in evaluation mode."""
    random = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, generator=random) * 0.1
            layer.running_var = torch.rand(layer.num_features, generator=random) + 0.5
    return network.eval()


class Deep(nn.Module):
    """A small image network with the layers of a ResNet, and as far as time goes 3 kernels deep."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 2, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.mix = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=2, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 1, 2, 2))

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        return self.last(x + self.mix(x))


def test_an_inflated_network_sees_a_static_clip_as_its_frame() -> None:
    network = randomise_statistics(Deep())
    frame, borders, length = torch.randn(2, 3, 32, 32), 3, 9
    clip = frame[:, :, None].expand(-1, -1, length, -1, -1)
    with torch.no_grad():
        expected = network.forward_features(frame)
        features = Inflated(copy.deepcopy(network)).eval().network.forward_features(clip)
    assert features.shape == (2, 4, length, *expected.shape[2:])
    inside = features[:, :, borders : length - borders]
    torch.testing.assert_close(inside, expected[:, :, None].expand_as(inside), rtol=1e-4, atol=1e-5)


def test_an_inflated_network_sees_motion() -> None:
    network = Inflated(randomise_statistics(Deep())).eval()
    clip = items(32, 8)
    assert not torch.allclose(network(clip), network(clip[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]))


def test_a_pooled_network_is_the_mean_over_frames() -> None:
    image = timm.create_model("test_resnet", num_classes=0).eval()
    clip = items(32, 4)
    with torch.no_grad():
        expected = torch.stack([image(clip[:, :, t]) for t in range(4)]).mean(0)
        features = FrameAverage(image)(clip)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model", ["test_vit", "test_convnext", "test_efficientnet", "seresnet18", "test_nfnet"]
)
def test_what_cannot_be_inflated_is_refused_when_it_is_built(model: str) -> None:
    """A squeeze over axes 2 and 3 of a clip, for one, would run and be wrong."""
    chosen = settings(f"discriminator.name=timm:{model}", "discriminator.temporal=inflate", size=64)
    message = refusal(lambda: build_discriminator(chosen, K))
    assert "discriminator.temporal=pool" in message


def test_a_body_gets_the_range_it_was_made_for() -> None:
    chosen = settings("discriminator.name=timm:test_resnet", size=32, dims=2)
    network = build_discriminator(chosen, K).eval()
    x = items(32, 1, 2)
    standardise, body = network.body
    cfg = body.default_cfg
    mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(standardise(x), ((x + 1) / 2 - mean) / std)
    assert torch.equal(network.features(x), body(standardise(x)))


# --- pretrained weights ------------------------------------------------------------------------


def saved(model: str, file: Path) -> nn.Module:
    network = timm.create_model(model, num_classes=7)
    state = network.state_dict()
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return network.eval()


def with_weights(name: str, file: Path | str, **changed: int) -> Classifier:
    chosen = settings(f"discriminator.name={name}", f"discriminator.weights={file}", **changed)
    return build_discriminator(chosen, K).eval()


@pytest.mark.parametrize(
    ("model", "file"),
    [
        ("test_resnet", "w.pt"),
        ("test_resnet", "w.safetensors"),
        ("test_efficientnet", "w.pt"),
        ("test_convnext", "w.pt"),
    ],
)
def test_a_published_file_loads_without_its_classifier(
    tmp_path: Path, model: str, file: str
) -> None:
    trained = saved(model, tmp_path / file)
    body = with_weights(f"timm:{model}", tmp_path / file, size=32).body[1].network
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(body.forward_features(x), trained.forward_features(x))
    # What is left out is the classifier, and nothing of the body stays random.
    features = trained.forward_head(trained.forward_features(x), pre_logits=True)
    torch.testing.assert_close(body(x), features)


def test_a_video_network_loads_kinetics_like_weights(tmp_path: Path) -> None:
    trained = torchvision.models.video.mc3_18(weights=None, num_classes=400).eval()
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    body = with_weights("mc3_18", tmp_path / "w.pt").body[1]
    x = torch.randn(1, 3, 4, 16, 16)
    trained.fc = nn.Identity()
    with torch.no_grad():
        assert torch.equal(body(x), trained(x))


@pytest.mark.parametrize("name", ["r3d_18", "timm:test_resnet", "dcgan"])
def test_a_weights_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(lambda: with_weights(name, tmp_path / "none.pt"))
    assert "discriminator.weights=" in message


def not_weights(file: Path) -> None:
    file.write_text("not a checkpoint")


def of_another_network(file: Path) -> None:
    saved("test_efficientnet", file)


def a_whole_module(file: Path) -> None:
    torch.save(timm.create_model("test_resnet"), file)


def a_list(file: Path) -> None:
    torch.save([torch.zeros(3)], file)


@pytest.mark.parametrize("write", [not_weights, of_another_network, a_whole_module, a_list])
@pytest.mark.parametrize("file", ["w.pt", "w.safetensors"])
def test_a_file_with_something_else_is_refused(
    tmp_path: Path, write: Callable[[Path], None], file: str
) -> None:
    write(tmp_path / file)
    message = refusal(lambda: with_weights("timm:test_resnet", tmp_path / file, size=32))
    assert f"discriminator.weights={tmp_path / file}" in message


def test_weights_cannot_run_code(tmp_path: Path) -> None:
    class Touches:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (str(tmp_path / "touched"),))

    torch.save({"fc.weight": Touches()}, tmp_path / "w.pt")
    refusal(lambda: with_weights("timm:test_resnet", tmp_path / "w.pt", size=32))
    assert not (tmp_path / "touched").exists()


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
