"""Bodies that see what moves, and the branch that judges looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bgan_video.method import losses
from bgan_video.models import (
    build_discriminator,
    frozen_statistics,
)
from bgan_video.models.discriminators import frame_differences
from tests.models.building import (
    K,
    items,
    refusal,
    settings,
    with_scales_of_one,
)


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


@pytest.mark.parametrize(("fake", "reaches"), [("beside", False), ("coupled", True)])
def test_what_tells_real_from_fake_reaches_the_classes_where_they_are_coupled(
    fake: str, reaches: bool
) -> None:
    """The gradient of `E_real` on the head's rows of the classes."""
    chosen = settings("discriminator.input=difference", f"discriminator.fake={fake}", size=32)
    network = build_discriminator(chosen, K)
    losses.real(network(items(32, 4))).backward()
    gradient = network.head.weight.grad
    assert gradient is not None
    of_classes, of_fake = gradient[1:].abs().max(), gradient[0].abs().max()
    assert of_fake > 1e-4
    assert (of_classes > 1e-2 * of_fake) == reaches
    assert reaches or of_classes < 1e-6
