"""What only a GPU can show. `BGAN_REQUIRE_GPU=1` turns a skip into a failure."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bgan_video import api, cli, config
from bgan_video.backend import resolve_backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.models import nd
from bgan_video.sampling import SGHMC
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize
from tests.e2e import runs
from tests.sampling import test_mixed_precision

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu():
    if not torch.cuda.is_available():
        assert not os.environ.get("BGAN_REQUIRE_GPU"), "BGAN_REQUIRE_GPU is set: there is no GPU"
        pytest.skip("no CUDA device")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("recipe", ["demo", "ucf101"])
def test_a_short_run(
    recipe: str, precision: str, small_videos: Path, tmp_path: Path, record_property
):
    args = [
        "--config",
        str(runs.REPOSITORY / "configs" / f"{recipe}.yaml"),
        "data.layout=ucf101",
        f"data.root={small_videos}",
        "data.labels_per_class=1",
        "data.num_workers=0",
        "data.cache_mib=1024",
        "train.steps=30",
        "train.log_every=1",
        "posterior.burn_in=15",
        "posterior.thinning=5",
        f"run.precision={precision}",
        f"run.dir={tmp_path}",
        "run.name=gpu",
    ]
    torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    assert cli.main(["train", *args]) == 0
    lines = runs.log(tmp_path / "gpu")
    assert all(torch.isfinite(torch.tensor(line["loss_d"])) for line in lines)
    assert 0.2 < lines[-1]["kinetic_temperature"] / lines[-1]["temperature"] < 5
    record_property("gpu", torch.cuda.get_device_name())
    record_property("seconds", time.perf_counter() - started)
    record_property("peak_memory_gib", torch.cuda.max_memory_allocated() / 2**30)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_method_trains_in_half_precision(precision: str, small_videos: Path, tmp_path: Path):
    more = [f"run.precision={precision}", "train.max_grad_norm=1", "train.adam_schedule=cosine"]
    assert cli.main(["train", *runs.arguments(small_videos, tmp_path, "all", *more)]) == 0
    lines = runs.log(tmp_path / "all")
    for method in {*runs.METHODS} - {"bayesian_gan", "cold_gan"}:
        losses = torch.tensor([line[method] for line in lines])
        assert losses.isfinite().all(), method
        assert losses.std() > 0, method


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_resumed_run_ends_where_the_run_would_have(
    precision: str, small_videos: Path, tmp_path: Path
):
    """Two loading processes, pinned memory; a run that is deterministic."""
    more = [f"run.precision={precision}", "data.num_workers=2", "run.deterministic=true"]
    args = runs.arguments(small_videos, tmp_path, "whole", *more, "train.checkpoint_every=4")
    assert cli.main(["train", *args]) == 0
    whole, again = tmp_path / "whole", tmp_path / "again"
    shutil.copytree(whole, again)
    max((again / "checkpoints").glob("step_*.pt")).unlink()
    (again / "posterior" / "finished.json").unlink()
    assert cli.main(["train", "--resume", str(again)]) == 0
    last, before = runs.log(again)[-1], runs.log(whole)[-1]
    assert last["step"] == before["step"]
    assert last["loss_d"] == pytest.approx(before["loss_d"], rel=1e-2)
    for optimizer in _adam_states(again):  # recorded steps count on the GPU
        devices = {state["step"].device.type for state in optimizer.values()}
        assert devices == {"cpu" if precision == "fp16" else "cuda"}


ALL_METHODS = ["posterior.num_z=2", "train.max_grad_norm=1", "train.adam_schedule=cosine"]


@pytest.mark.parametrize("sampler", ["sghmc", "adaptive_sghmc", "mclmc"])
def test_a_recorded_run_is_the_one_that_python_launches(
    sampler: str, small_videos: Path, tmp_path: Path
):
    """Every method, dropout, burn-in and sampling: the same kernels on the same random numbers."""
    logs = {}
    for name, compile_ in (("recorded", "true"), ("launched", "false")):
        exact = ["run.deterministic=true", "run.precision=fp32", f"run.compile={compile_}"]
        args = runs.arguments(
            small_videos, tmp_path, name, *exact, *ALL_METHODS, f"posterior.sampler={sampler}"
        )
        assert cli.main(["train", *args]) == 0
        logs[name] = runs.log(tmp_path / name)
    for recorded, launched in zip(logs["recorded"], logs["launched"], strict=True):
        differing = [key for key, value in launched.items() if recorded[key] != value]
        assert not differing, f"step {launched['step']}"


def test_steps_are_recorded_and_not_launched_one_by_one():
    c = config.load(str(runs.REPOSITORY / "configs" / "demo.yaml"))
    backend = resolve_backend(c.run, 3)
    assert backend.records
    models = build(c, DataSize(8, 320, 32), backend)
    clips = torch.rand(16, 3, 8, 32, 32) * 2 - 1
    batch = LabelledBatch(clips, torch.arange(16) % 8), UnlabelledBatch(clips, clips)
    for step in range(4):
        models.step(step, *batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        models.step(4, *batch)
    calls = sum(event.count for event in profiler.key_averages() if "aten::" in event.key)
    assert calls < 400  # thousands, launched one by one


def _adam_states(run: Path) -> list[dict]:
    """Adam's states in the last checkpoint, as they were saved."""
    saved = torch.load(max((run / "checkpoints").glob("step_*.pt")), weights_only=True)
    found, open_ = [], [saved]
    while open_:
        value = open_.pop()
        if isinstance(value, dict):
            if "param_groups" in value and any("exp_avg" in s for s in value["state"].values()):
                found.append(value["state"])
            open_ += value.values()
        elif isinstance(value, list | tuple):
            open_ += value
    return found


def test_evaluation_with_statistics_taken_anew_and_features_of_another_device(
    small_videos: Path, tmp_path: Path
):
    args = runs.arguments(small_videos, tmp_path, "run", "run.precision=bf16")
    assert cli.main(["train", *args]) == 0
    run = str(tmp_path / "run")
    assert cli.main(["evaluate", run, "--renormalise"]) == 0
    assert cli.main(["sample", run, "--quality", "--extractor", run, "run.device=cpu",
                     "run.precision=fp32"]) == 0  # fmt: skip
    program = torch.export.load(api.export(api.load(run), "torch")).module()
    assert {p.device.type for p in program.parameters()} == {"cpu"}


def test_a_step_whose_gradients_overflow_adds_no_noise():
    weight = torch.ones(1000, device="cuda", requires_grad=True)
    noise = torch.Generator("cuda").manual_seed(0)
    sampler = SGHMC([weight], 1e-2, 0.1, 1.0, 10, generator=noise)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0)
    scaler.scale((weight * float("inf")).sum()).backward()
    scaler.step(sampler)
    scaler.update()
    assert torch.equal(weight.detach(), torch.ones_like(weight))


def test_a_norm_of_clips_is_torchs_own():
    """Through the kernels for images: the same numbers, gradients and running statistics."""
    found = []
    for kind in (nd.BatchNorm3d, nn.BatchNorm3d):
        norm = kind(16).cuda()
        x = torch.randn(4, 16, 3, 6, 5, generator=torch.Generator().manual_seed(0)).cuda()
        x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        y = norm(x)
        y.cos().sum().backward()
        assert y.is_contiguous(memory_format=torch.channels_last_3d)
        found.append([y, x.grad, norm.weight.grad, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_fp32_has_no_tf32():
    backend = resolve_backend(config.Run(precision="fp32"), 3)
    assert backend.precision == "fp32"
    x, weight = torch.randn(8, 64, 4, 8, 8), torch.randn(64, 64, 3, 3, 3)
    exact = F.conv3d(x.double(), weight.double())
    found = F.conv3d(x.cuda(), weight.cuda()).cpu().double()
    assert (found - exact).norm() / exact.norm() < 1e-5  # TF32 is off by 3e-4


@pytest.mark.statistical
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_chains_under_autocast_have_their_exact_law(dtype: torch.dtype):
    """fp16 with its scaler: gradients are scaled, noise is not."""
    test_mixed_precision.check_stationary("cuda", dtype)


def test_noise_drawn_on_the_device_has_the_variance_it_should():
    weight = torch.zeros(100_000, device="cuda", requires_grad=True)
    noise = torch.Generator("cuda").manual_seed(0)
    sampler = SGHMC([weight], 1e-2, 0.1, 0.5, 10, generator=noise)
    weight.grad = torch.zeros_like(weight)
    sampler.step()
    expected = 2 * 0.1 * 0.5 * 1e-2 / 10
    # 100,000 draws: the standard error of a variance is sqrt(2/100,000) = 0.45 %.
    assert weight.detach().var().item() == pytest.approx(expected, rel=0.02)
