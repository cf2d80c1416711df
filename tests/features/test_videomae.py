"""CD-FVD's features against the package they come from, with a small network of its class."""

from __future__ import annotations

import inspect
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from bgan_video import config
from bgan_video.config import recipes
from bgan_video.data.transforms import to_pixels
from bgan_video.errors import UserError
from bgan_video.features.videomae import VideoMAE, videomae
from bgan_video.metrics.quality import frechet_distance
from tests.features.tiny_videomae import FILE, LIBRARY, WIDTH, small, write

CPU = torch.device("cpu")


def of(num_frames: int) -> config.Config:
    return config.from_mapping({"clip": {"num_frames": num_frames}})


def clips(count: int, num_frames: int, colours: int = 3, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, colours, num_frames, 12, 12, generator=random) - 1


@pytest.fixture(name="library")
def _library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, whose ViT-g is a network that fits in a test."""
    utils = pytest.importorskip(LIBRARY, reason="cd-fvd is not installed")
    monkeypatch.setattr(utils, "vit_giant_patch14_224", small)
    return utils


@pytest.fixture(name="network")
def _network(library: Any, tmp_path: Path) -> VideoMAE:
    return videomae(write(tmp_path / FILE, small(num_classes=174)), of(16), CPU)


def library_features(network: nn.Module, pixels: np.ndarray) -> Tensor:
    """By the package's own loop over batches of uint8 videos."""
    fvd = pytest.importorskip("cdfvd.fvd")
    stats = fvd.FeatureStats(capture_all=True)
    return fvd.get_videomae_features(stats, network, pixels, device="cpu").get_all_torch()


@pytest.mark.parametrize("num_frames", [16, 4, 18])
def test_features_are_the_packages(network: VideoMAE, num_frames: int) -> None:
    x = clips(2, num_frames)
    found = network(x)
    assert (found.shape, found.dtype) == ((2, WIDTH), torch.float32)
    expected = library_features(network.network, to_pixels(x))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (expected[0] - expected[1]).abs().max() > 1e-3, "clips differ by far more"


def test_grey_clips_have_three_equal_colours(network: VideoMAE) -> None:
    x = clips(2, 4, colours=1)
    assert torch.equal(network(x), network(x.expand(-1, 3, -1, -1, -1)))


def test_features_are_made_in_float32_in_evaluation_mode(network: VideoMAE) -> None:
    x, state = clips(2, 4), torch.get_rng_state()
    full = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(x), full)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.network.training


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_the_frechet_distance_is_the_packages(
    network: VideoMAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its covariances are divided by N where ours are by N - 1, and all else is the same."""
    if "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters:
        pytest.skip("cd-fvd 0.1.1 computes distances with a SciPy below 1.18")
    fvd = pytest.importorskip("cdfvd.fvd")
    monkeypatch.setattr(fvd, "load_videomae_model", lambda *_: network.network)
    count = 24
    real, made = clips(count, 2), clips(count, 2, seed=1) ** 3
    library = fvd.cdfvd("videomae", device="cpu")
    theirs = float(library.compute_fvd(to_pixels(real), to_pixels(made)))
    a, b = (network(x).double() for x in (real, made))
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum().item()
    spread = frechet_distance(a, b) - shift
    assert spread > 0.01 * shift, "both parts of the distance are looked at"
    assert theirs == pytest.approx(shift + spread * (count - 1) / count, rel=1e-6)


@pytest.mark.parametrize("wrapper", [None, "model", "module"])
def test_files_are_wrapped_as_the_package_expects(
    wrapper: str | None, library: Any, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    network = small(num_classes=174).eval()
    found = videomae(write(tmp_path / "w.pth", network, wrapper), of(4), CPU)
    assert "w.pth; 4 frames" in found.name
    torch.testing.assert_close(found.network.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_opening_moves_no_random_number(library: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "w.pth", small(num_classes=174))
    state = torch.get_rng_state()
    videomae(file, of(4), CPU)
    assert torch.equal(torch.get_rng_state(), state)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("--extractor=videomae:")
    return text


@pytest.mark.parametrize(
    ("other", "first"),
    [
        (partial(small, num_classes=710), "head.weight"),  # what Kinetics taught
        (partial(small, num_classes=174, depth=3), "blocks.2.norm1.weight"),
        (partial(small, num_classes=174, depth=1), "blocks.1.norm1.weight"),
        (lambda: nn.Linear(2, 2), "patch_embed.proj.weight"),
    ],
    ids=["other classes", "deeper", "shallower", "no transformer"],
)
def test_another_network_is_refused(other: Any, first: str, library: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"is not VideoMAE-v2 .*{first}") as error:
        videomae(write(tmp_path / "w.pth", other()), of(4), CPU)
    assert FILE in one_line(error)


def test_what_is_no_checkpoint_is_refused(library: Any, tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    for content in (b"", b"not weights", b"PK\x03\x04" + bytes(100)):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"w\.pth") as error:
            videomae(file, of(4), CPU)
        one_line(error)


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_checkpoint_runs_no_code(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"module": {"weight": _Code()}}, "hostile.pth")
    with pytest.raises(UserError, match="may run code"):
        videomae(Path("hostile.pth"), of(4), CPU)
    assert not Path("ran").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file") as error:
        videomae(tmp_path / "absent.pth", of(4), CPU)
    assert "absent.pth" in one_line(error)


def test_without_the_package_its_install_line_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LIBRARY, None)
    monkeypatch.delitem(sys.modules, "cdfvd.third_party.VideoMAEv2", raising=False)
    (tmp_path / "w.pth").touch()
    with pytest.raises(UserError, match=r"pip install 'bgan_video\[cd-fvd\]'") as error:
        videomae(tmp_path / "w.pth", of(4), CPU)
    one_line(error)


@pytest.mark.parametrize("num_frames", [1, 15])
def test_odd_numbers_of_frames_are_refused(num_frames: int) -> None:
    with pytest.raises(UserError, match=f"clip.num_frames={num_frames} is odd") as error:
        videomae(Path("w.pth"), of(num_frames), CPU)
    assert "allowed: even" in one_line(error)


def test_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"sees clips, and data\.layout=mnist has im") as error:
        videomae(Path("w.pth"), config.load(recipes.find("image/mnist")), CPU)
    one_line(error)
