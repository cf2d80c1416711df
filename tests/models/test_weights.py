"""Pretrained weights as they are published: wrapped, with prefixes, heads and other sizes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.video import mvit

from bgan_video import cli
from bgan_video.config import Config
from bgan_video.models import backbones, build_discriminator, look_at_body
from bgan_video.models.backbones import BuiltBody
from bgan_video.models.bodies import build_body
from bgan_video.models.weights import Fit, packaged_file
from tests.models.building import items, refusal, settings

TINY = "test_resnet"


def of(name: str, file: Path | str, *more: str, **changed: Any) -> Config:
    overrides = [f"discriminator.name={name}", f"discriminator.weights={file}", *more]
    return settings(*overrides, **changed)


def fit_of(chosen: Config) -> Fit:
    fit = look_at_body(chosen)
    assert fit is not None
    return fit


def body_of(chosen: Config) -> BuiltBody:
    body = build_body(chosen)
    body.module.eval()
    return body


def published(model: str = TINY, **arguments: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return timm.create_model(model, pretrained=False, **arguments).eval()


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


# --- wrappers and prefixes ---------------------------------------------------------------------


def as_it_is(state: dict[str, Tensor]) -> object:
    return state


def under_state_dict(state: dict[str, Tensor]) -> object:
    return {"state_dict": state, "epoch": 3}


def under_model(state: dict[str, Tensor]) -> object:
    return {"model": state, "optimizer": {"state": {}, "param_groups": []}, "args": None}


def of_deepspeed(state: dict[str, Tensor]) -> object:
    return {"module": state, "global_steps": 3}


def under_both(state: dict[str, Tensor]) -> object:
    return {"state_dict": {"model": state}, "epoch": 3}


def beside_an_average(state: dict[str, Tensor]) -> object:
    return {"state_dict": {k: torch.zeros_like(v) for k, v in state.items()}, "model_ema": state}


def of_data_parallel(state: dict[str, Tensor]) -> object:
    return prefixed("module.", state)


def of_compile(state: dict[str, Tensor]) -> object:
    return prefixed("_orig_mod.module.", state)


def of_lightning(state: dict[str, Tensor]) -> object:
    return {"state_dict": prefixed("model.", state) | {"criterion.weight": torch.ones(7)}}


def of_a_detector(state: dict[str, Tensor]) -> object:
    return {"model": prefixed("backbone.", state) | {"neck.0.weight": torch.ones(3, 3)}}


@pytest.mark.parametrize(
    ("wrap", "more"),
    [
        (as_it_is, 0),
        (under_state_dict, 0),
        (under_model, 0),
        (under_both, 0),
        (of_deepspeed, 0),
        (beside_an_average, 0),
        (of_data_parallel, 0),
        (of_compile, 0),
        (of_lightning, 1),
        (of_a_detector, 1),
    ],
)
def test_wrappers_and_prefixes_are_taken_off(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], object], more: int
) -> None:
    network = published()
    torch.save(wrap(network.state_dict()), tmp_path / "w.pt")
    chosen = of(f"timm:{TINY}", tmp_path / "w.pt", size=32, dims=2)
    fit = fit_of(chosen)
    assert fit.loaded == len(network.state_dict()) - 2
    assert len(fit.left_out) == 2 + more
    x = items(32, 1, 2)
    network.reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(body_of(chosen).network(x), network(x))


def test_old_files_without_counters_of_batches_load(tmp_path: Path) -> None:
    state = published().state_dict()
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "w.pt")
    assert fit_of(of(f"timm:{TINY}", tmp_path / "w.pt", size=32)).loaded < len(state) - 2


# --- classifiers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ("deit_tiny_distilled_patch16_224", ["head", "head_dist"]),
        ("legacy_seresnet18", ["last_linear"]),
        ("mobilenetv3_small_050", ["classifier"]),
        ("test_convnext", ["head.fc"]),
    ],
)
def test_a_models_own_classifiers_are_left_out(
    tmp_path: Path, model: str, heads: list[str]
) -> None:
    size = {"img_size": 32} if model.startswith("deit") else {}
    network = published(model, **size)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    chosen = of(f"timm:{model}", tmp_path / "w.pt", size=32, dims=2)
    body = body_of(chosen)
    assert body.fit is not None
    assert set(body.fit.left_out) == {f"{h}.{end}" for h in heads for end in ("weight", "bias")}
    x = items(32, 1, 2)
    network.reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(body.network(x), network(x))
        assert body.module(x).shape == (len(x), body.num_features)


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["test_vit", "deit_tiny_distilled_patch16_224"])
def test_position_embeddings_are_resampled_as_timm_does(tmp_path: Path, model: str) -> None:
    state = published(model, img_size=32).state_dict()
    torch.save(state, tmp_path / "w.pt")
    cfg = {"state_dict": dict(state)}
    expected: Any = timm.create_model(
        model, pretrained=True, pretrained_cfg_overlay=cfg, img_size=64, num_classes=0
    )
    body = body_of(of(f"timm:{model}", tmp_path / "w.pt", size=64, dims=2))
    x = items(64, 1, 2)
    with torch.no_grad():
        assert torch.equal(body.network(x), expected.eval()(x))


@pytest.mark.parametrize(
    ("shape", "own"),
    [
        ((1, 16, 3), (1, 64, 3)),
        ((1, 17, 3), (1, 65, 3)),
        ((1, 18, 3), (1, 66, 3)),
        ((1, 3, 4, 4), (1, 3, 8, 8)),
        ((1, 4, 4, 3), (1, 8, 8, 3)),
    ],
)
def test_positions_of_families_that_timm_does_not_resample(
    shape: tuple[int, ...], own: tuple[int, ...]
) -> None:
    """A table whose rows are all alike is that of another grid."""
    row = torch.tensor([1.0, -2.0, 0.5])
    row = row.view(1, 3, 1, 1) if shape[1] == 3 else row
    found = backbones._on_grid_of(torch.empty(own), row.expand(shape).contiguous())
    torch.testing.assert_close(found, row.expand(own))


def test_positions_that_no_layout_explains_stay() -> None:
    table = torch.randn(1, 14, 3)
    assert backbones._on_grid_of(torch.empty(1, 64, 3), table) is table


def test_a_size_that_a_model_cannot_have_is_refused() -> None:
    chosen = settings("discriminator.name=timm:nest_tiny", size=34)
    assert "it was made for 224×224: `patch_size` must divide" in refusal(
        lambda: look_at_body(chosen)
    )


def test_items_that_a_network_cannot_take_are_refused() -> None:
    chosen = settings("discriminator.name=timm:inception_v3", size=32, dims=2)
    assert "does not take images of shape [3, 32, 32]" in refusal(lambda: look_at_body(chosen))


# --- torchvision's video networks --------------------------------------------------------------


def test_a_video_network_is_torchvisions_own(tmp_path: Path) -> None:
    network: Any = torchvision.models.get_model("swin3d_t", weights=None).eval()
    torch.save({"model": network.state_dict()}, tmp_path / "w.pt")
    body = body_of(of("swin3d_t", tmp_path / "w.pt", size=32))
    assert body.fit is not None
    assert list(body.fit.left_out) == ["head.weight", "head.bias"]
    network.head = nn.Identity()
    x = items(32, 4, batch=1)
    with torch.no_grad():
        assert torch.equal(body.network(x), network(x))


def test_s3d_averages_over_all_places(tmp_path: Path) -> None:
    network: Any = torchvision.models.get_model("s3d", weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    body = body_of(of("s3d", tmp_path / "w.pt", size=64, frames=8))
    assert body.fit is not None
    assert list(body.fit.left_out) == ["classifier.1.weight", "classifier.1.bias"]
    x = items(64, 8, batch=2)
    with torch.no_grad():
        expected = network.features(x).mean(dim=(2, 3, 4))
        torch.testing.assert_close(body.network(x), expected)


def test_an_mvit_of_its_own_size_is_left_as_it_is() -> None:
    made: Any = torchvision.models.get_model("mvit_v2_s", weights=None)
    before = made.pos_encoding.temporal_size, made.pos_encoding.spatial_size
    backbones._place_positions(made, 16, 224)
    assert (made.pos_encoding.temporal_size, made.pos_encoding.spatial_size) == before
    backbones._place_positions(made, 7, 50)
    assert made(items(50, 7, batch=1)).shape == (1, 400)


@pytest.mark.parametrize("name", ["s3d", "mvit_v2_s"])
def test_a_video_network_takes_clips_of_another_size(name: str) -> None:
    chosen = settings(f"discriminator.name={name}", size=48, frames=6)
    assert look_at_body(chosen) is None


class Mvit(mvit.MViT):
    """Two blocks with absolute positions, for 16 pixels and 4 frames."""

    def __init__(self) -> None:
        kernels: dict[str, Any] = {"kernel_q": [], "kernel_kv": [3, 3, 3]}
        strides: dict[str, Any] = {"stride_q": [], "stride_kv": [1, 2, 2]}
        blocks = [mvit.MSBlockConfig(1, 8, 8, **kernels, **strides) for _ in range(2)]
        super().__init__((16, 16), 4, blocks, False, False, False, False, num_classes=3)


def test_absolute_positions_of_a_video_network_are_resampled() -> None:
    """Even in space and linear in time, they are the same function on another grid."""
    network = Mvit()
    state = network.state_dict()
    state["pos_encoding.spatial_pos"] = torch.arange(8.0).expand(16, 8).contiguous()
    state["pos_encoding.temporal_pos"] = torch.tensor([[1.0], [3.0]]).expand(2, 8).contiguous()
    backbones._place_positions(network, 8, 32)
    own = network.state_dict()
    assert own["pos_encoding.spatial_pos"].shape == (64, 8)
    found = backbones._resampled_positions(dict(state), network)
    network.load_state_dict(found)
    torch.testing.assert_close(found["pos_encoding.spatial_pos"], torch.arange(8.0).expand(64, 8))
    # Cells of half the length lie a quarter of the old ones' distance to either side of them.
    expected = torch.tensor([1.0, 1.5, 2.5, 3.0])
    torch.testing.assert_close(found["pos_encoding.temporal_pos"][:, 0], expected)
    assert network(items(32, 8)).shape == (3, 3)


# --- what does not fit -------------------------------------------------------------------------


def test_what_does_not_fit_is_counted_and_named(tmp_path: Path) -> None:
    state = published().state_dict()
    del state["conv1.0.weight"]
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    state["layer1.7.conv1.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    message = refusal(lambda: look_at_body(of(f"timm:{TINY}", tmp_path / "w.pt", size=32)))
    assert "1 of the body's 90 tensors are missing (conv1.0.weight)" in message
    assert "1 are of another shape (layer1.0.conv1.weight: 1×2×3×3, not " in message
    assert "1 belong to no layer of it (layer1.7.conv1.weight)" in message


def test_weights_of_a_deeper_network_are_refused(tmp_path: Path) -> None:
    """All that the body has is there and fits; it would still be another network."""
    state = published().state_dict()
    state |= {
        name.replace("layer4.0", "layer4.1"): t for name, t in state.items() if "layer4" in name
    }
    torch.save(state, tmp_path / "w.pt")
    message = refusal(lambda: look_at_body(of(f"timm:{TINY}", tmp_path / "w.pt", size=32)))
    assert "belong to no layer of it (layer4.1." in message


def test_weights_of_a_deeper_network_of_numbered_layers_are_refused(tmp_path: Path) -> None:
    torch.save(build_body(settings(size=32)).network.state_dict(), tmp_path / "w.pt")
    message = refusal(lambda: look_at_body(of("dcgan", tmp_path / "w.pt", size=16)))
    assert re.search(r"^[^;]* \d+ belong to no layer of it \(\d+\.", message)


def test_packaged_weights_say_what_they_fill() -> None:
    name = "efficientnet-lite0"
    packaged = torch.load(packaged_file(name), weights_only=True)
    fit = fit_of(of("timm:tf_efficientnet_lite0", name, size=32))
    assert (fit.source, fit.loaded, len(fit.left_out)) == (name, len(packaged) - 2, 2)


# --- bodies of one's own -----------------------------------------------------------------------

OWN = """
from torch import nn

class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, clips):
        return self.network(clips).mean(dim=(2, 3, 4))

def convolutions(config):
    layers = [nn.Conv3d(3, config.discriminator.width, 3), nn.ReLU()]
    return Wrapped(nn.Sequential(*layers)), config.discriminator.width

def too_many(config):
    return convolutions(config)[0], 99

def alone(config):
    return convolutions(config)[0]

def of_images(config):
    return nn.Conv2d(3, 4, 3), 4
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module beside the project."""
    name = "own_bodies"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"python:{name}"


def test_a_body_of_ones_own(own: str, tmp_path: Path) -> None:
    chosen = settings(f"discriminator.name={own}:convolutions")
    assert look_at_body(chosen) is None
    network = build_discriminator(chosen, 5)
    assert network(items(16, 4)).shape == (3, 6)
    assert network.head.in_features == chosen.discriminator.width
    # Its names are those of the network it holds, whatever holds it.
    inner = {"0.weight": torch.ones(4, 3, 3, 3, 3), "0.bias": torch.ones(4)}
    torch.save({"state_dict": prefixed("module.", inner)}, tmp_path / "w.pt")
    loaded = build_body(of(f"{own}:convolutions", tmp_path / "w.pt"))
    assert all(torch.equal(p, torch.ones_like(p)) for p in loaded.module.parameters())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (":none", "own_bodies has no none"),
        ("", "write python:package.module:function"),
        (".more:body", "install the package, or name its folder in PYTHONPATH"),
        (":alone", "it returns a torch module and its number of features"),
        (":too_many", "makes [1, 4] of one item; a body makes features [items, 99]"),
        (":of_images", "does not take videos of shape [3, 4, 16, 16] (RuntimeError: "),
    ],
)
def test_a_body_of_ones_own_that_does_not_serve(own: str, function: str, reason: str) -> None:
    chosen = settings(f"discriminator.name={own}{function}")
    assert reason in refusal(lambda: look_at_body(chosen))


def test_a_video_transformer_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/pretrained.md, small."""
    pytest.importorskip("transformers")
    page = Path(__file__).parents[2] / "docs" / "pretrained.md"
    code = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    small = "hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, "
    code = code.replace("VideoMAEConfig(", f"VideoMAEConfig({small}")
    (tmp_path / "video_transformer.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    chosen = settings("discriminator.name=python:video_transformer:videomae", size=32)
    assert look_at_body(chosen) is None
    assert build_discriminator(chosen, 5)(items(32, 4)).shape == (3, 6)


# --- before any data ---------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_weights_are_looked_at_before_any_video(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "w.pt")
    words = ["discriminator.name=timm:test_resnet", f"discriminator.weights={tmp_path / 'w.pt'}"]
    nowhere = ["data.layout=video_folder", f"data.root={tmp_path / 'none'}"]
    runs = [f"run.dir={tmp_path}", "run.device=cpu", "clip.size=32"]
    assert cli.main(["train", *more, *words, *nowhere, *runs]) == 2
    assert "of the body's 90 tensors are missing" in capsys.readouterr().err


def test_a_dry_run_tells_what_becomes_of_the_weights(
    small_videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["discriminator.name=timm:tf_efficientnet_lite0", "run.device=cpu", "clip.size=32"]
    words += ["discriminator.weights=efficientnet-lite0", "baseline.methods=[supervised]"]
    data = ["data.layout=ucf101", f"data.root={small_videos}", "data.labels_per_class=1"]
    assert cli.main(["train", "--dry-run", *words, *data, "train.batch_size=2"]) == 0
    told = capsys.readouterr().out
    packaged = torch.load(packaged_file("efficientnet-lite0"), weights_only=True)
    loaded = len(packaged) - 2
    assert f"weights: efficientnet-lite0: {loaded} tensors, all of the body's; 2 left out" in told
