"""Which sizes there are, and the stages that lead to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bgan_video.errors import UserError
from bgan_video.models import (
    build_critic,
    build_discriminator,
    build_generator,
    nd,
    sized_discriminator,
)
from bgan_video.models.shapes import Plan, plan_clip, plan_image
from tests.models.building import (
    K,
    refusal,
    settings,
)


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
    played = settings("critic.name=hybrid", "generator.size=60")
    assert "generator.size=60" in refusal(lambda: build_generator(played))
    assert "generator.size=60" in refusal(lambda: build_critic(played))
    message = refusal(lambda: build_discriminator(settings(frames=9), K))
    assert "clip.num_frames=9" in message
    assert "nearest allowed: 8" in message


def test_clips_are_resized_frame_by_frame() -> None:
    clip = torch.rand(2, 3, 4, 12, 12, dtype=torch.float64)
    found = nd.resized(clip, 6)
    assert found.shape == (2, 3, 4, 6, 6)
    for t in range(4):
        torch.testing.assert_close(found[:, :, t], nd.resized(clip[:, :, t], 6))
    assert nd.resized(clip, 12) is clip
    grey = torch.full_like(clip, 0.3)
    torch.testing.assert_close(nd.resized(grey, 5), grey[..., :5, :5])


def test_a_body_that_asks_for_numbers_while_it_is_made_is_counted_without_memory() -> None:
    c = settings("discriminator.name=timm:deit_tiny_distilled_patch16_224", "clip.size=32")
    counted, built = sized_discriminator(c, K), build_discriminator(c, K)
    assert {p.device.type for p in counted.parameters()} == {"meta"}
    assert [p.shape for p in counted.parameters()] == [p.shape for p in built.parameters()]
