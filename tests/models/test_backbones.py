"""Image networks on clips, and pretrained weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from bgan_video.models import (
    Classifier,
    build_discriminator,
)
from bgan_video.models.backbones import FrameAverage, Inflated
from tests.models.building import (
    K,
    items,
    refusal,
    settings,
)


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
