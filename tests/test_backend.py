"""Device and number format: what is asked for, what is refused, what autocast does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from bgan_video.backend import on_cuda, resolve_backend
from bgan_video.config import Run
from bgan_video.errors import UserError
from bgan_video.rng import Generators


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def refusal(**run: Any) -> str:
    with pytest.raises(UserError) as caught:
        resolve_backend(Run(**run), 2)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("asked", "given"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_what_a_cpu_computes_in(asked: Any, given: str) -> None:
    backend = resolve_backend(Run(device="cpu", precision=asked), 2)
    assert backend.device == torch.device("cpu")
    assert backend.precision == given
    assert not backend.scaler.is_enabled()


@pytest.fixture
def _switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch's global switches, put back afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_switches")
@pytest.mark.filterwarnings("ignore:.*GradScaler")
@pytest.mark.parametrize(
    ("has_bf16", "asked", "given"),
    [
        (True, "auto", "bf16"),
        (False, "auto", "fp16"),
        (False, "fp16", "fp16"),
        (False, "bf16", None),
        (False, "fp32", "fp32"),
    ],
)
def test_a_gpu_computes_in_what_it_has(
    has_bf16: bool, asked: Any, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    if given is None:
        assert "this GPU has none; allowed: auto, fp16, fp32" in refusal(precision=asked)
        return
    backend = resolve_backend(Run(precision=asked), 3)
    assert (backend.device.type, backend.precision) == ("cuda", given)
    assert not torch.backends.cudnn.allow_tf32  # which raised where one switch alone was set
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("_switches")
@pytest.mark.filterwarnings("ignore:.*GradScaler")
@pytest.mark.parametrize("asked", [False, True])
def test_a_gpu_is_deterministic_where_asked(asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    resolve_backend(Run(deterministic=asked), 3)
    assert torch.are_deterministic_algorithms_enabled() is asked
    assert torch.backends.cudnn.deterministic is asked
    assert torch.backends.cudnn.benchmark is not asked
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [("cpu", True, False), ("auto", True, True), ("auto", False, False), ("cuda", False, True)],
)
def test_a_run_on_the_cpu_leaves_a_gpu_alone(
    device: Any, available: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert on_cuda(Run(device=device)) is expected
    if device == "cpu":  # nor does its random state ask for one
        assert set(Generators(0, "cpu").state_dict()) == {"torch"}


@pytest.mark.usefixtures("_no_cuda")
def test_auto_is_the_cpu_where_there_is_no_cuda() -> None:
    backend = resolve_backend(Run(), 2)
    assert (backend.device.type, backend.precision) == ("cpu", "fp32")


@pytest.mark.usefixtures("_no_cuda")
@pytest.mark.parametrize("asked", ["auto", "fp32", "bf16", "fp16"])
def test_cuda_is_refused_where_there_is_none(asked: str) -> None:
    message = refusal(device="cuda", precision=asked)
    assert message.startswith("run.device=cuda")
    assert message.endswith("allowed: auto, cpu")


def test_fp16_is_refused_on_a_cpu() -> None:
    message = refusal(device="cpu", precision="fp16")
    assert message.startswith("run.precision=fp16 needs CUDA")
    assert message.endswith("auto, fp32, bf16")


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_half_precision_of_clips_is_refused_on_a_cpu(asked: Any) -> None:
    with pytest.raises(UserError, match=f"run.precision={asked} needs CUDA.*: auto, fp32$"):
        resolve_backend(Run(device="cpu", precision=asked), 3)


@pytest.mark.usefixtures("_no_cuda")
def test_fp16_is_refused_where_auto_is_the_cpu() -> None:
    assert "run.precision=fp16" in refusal(precision="fp16")


@pytest.mark.parametrize(("asked", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_only_the_forward_pass_is_in_half_precision(asked: Any, dtype: torch.dtype) -> None:
    backend = resolve_backend(Run(device="cpu", precision=asked), 2)
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Flatten(), nn.Linear(32, 2))
    with backend.autocast():
        y = network(torch.randn(2, 3, 4, 4, 4))
    assert y.dtype == dtype
    assert network(torch.randn(2, 3, 4, 4, 4)).dtype == torch.float32  # the context has ended
    y.float().sum().backward()
    for param in network.parameters():
        assert param.dtype == torch.float32
        assert param.grad is not None
        assert param.grad.dtype == torch.float32


def test_the_hardware_has_a_name_of_one_line() -> None:
    name = resolve_backend(Run(device="cpu"), 2).hardware
    assert name
    assert "\n" not in name
