"""What ours is timed against: that the notebook's loop trains, and what it computes; `make gpu`."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu, gpu_steps, notebook_loop, predicting, scaling, starting, trees
from benchmarks.notebook_loop import NotebookLoop
from bgan_video import config, ranks
from bgan_video.data.streams import LabelledBatch
from bgan_video.files import fingerprint
from bgan_video.models import build_discriminator
from bgan_video.sampling import SampleBank
from bgan_video.video.reader import read_all
from tests.prediction.finished import CLASSES, run_of
from tests.video.videos import DECODERS

K, BATCH, WIDTH = 3, 4, 2


def loop(num_generators: int = 2, **settings: int) -> NotebookLoop:
    torch.manual_seed(0)
    return NotebookLoop(num_generators, BATCH, K, width=WIDTH, **settings)


def images(seed: int) -> Tensor:
    return torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def run(of: NotebookLoop, steps: int = 2) -> list[dict[str, Tensor]]:
    labels = torch.arange(BATCH) % K
    return [of.step(LabelledBatch(images(10 + i), labels), images(i)) for i in range(steps)]


def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_every_network_moves_and_every_loss_is_finite() -> None:
    trained = loop()
    networks = [trained.netD, trained.baseline, *trained.netGs]
    before = [flat(n) for n in networks]
    for terms in run(trained):
        assert {"loss_d", "loss_g", "supervised"} <= terms.keys()
        assert all(term.isfinite() and not term.requires_grad for term in terms.values())
    assert not any(torch.equal(flat(n), b) for n, b in zip(networks, before, strict=True))


def test_totals_are_sums_of_their_terms() -> None:
    (terms,) = run(loop(), steps=1)
    d = ("real", "fake", "labelled", "prior_d", "noise_d")
    torch.testing.assert_close(terms["loss_d"], sum(terms[name] for name in d))
    g = ("generator", "prior_g", "noise_g")
    torch.testing.assert_close(terms["loss_g"], sum(terms[name] for name in g))


def test_losses_are_the_published_formulas() -> None:
    random = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(8, K + 1, generator=random, dtype=torch.float64)
    classes = torch.arange(8) % K
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    expected = {
        "complement": -(1 - p[:, 0] + 1e-4).log().mean(),
        "fake": -p[:, 0].log().mean(),
        "labelled": -torch.stack([p[i, y + 1] for i, y in enumerate(classes)]).log().mean(),
    }
    found = {
        "complement": notebook_loop.complement_cross_entropy(logits),
        "fake": notebook_loop.fake_cross_entropy(logits),
        "labelled": notebook_loop.labelled_cross_entropy(logits, classes),
    }
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_prior_at_the_start_is_the_notebooks() -> None:
    """Its log begins at 22.75 for ten generators: weights of N(0, 0.02²), norm scales of 1."""
    torch.manual_seed(0)
    generator = NotebookLoop(1).netGs[0]
    found = notebook_loop.prior_loss(generator, notebook_loop.NUM_DATA_GENERATOR)
    assert found.item() == pytest.approx(2.275, abs=0.01)


def test_the_gradient_of_the_noise_loss_is_fresh_noise() -> None:
    torch.manual_seed(0)
    network = nn.Linear(100, 100)
    draws = []
    for _ in range(2):
        network.zero_grad()
        notebook_loop.noise_loss(network, std=3.0, num_data=10).backward()
        draws.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert draws[0].std().item() == pytest.approx(0.3, rel=0.03)
    assert draws[0].dot(draws[1]) / draws[0].norm() / draws[1].norm() < 0.05


def test_the_discriminator_makes_four_forwards_a_step() -> None:
    """One of them over the fakes of all generators, and once more for the generators."""
    trained = loop()
    sizes: list[int] = []
    trained.netD.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    run(trained, steps=1)
    assert sizes == [BATCH, 2 * BATCH, BATCH, 2 * BATCH]


def test_the_generators_leave_useless_gradients_in_the_discriminator() -> None:
    trained = loop()
    trained.netD.zero_grad()
    trained._step_generators(trained._fakes())
    assert all(p.grad is not None and p.grad.any() for p in trained.netD.parameters())


def test_chains_of_one_group_share_their_latents() -> None:
    trained = loop(4, num_z=2)
    for netG in trained.netGs[1:]:
        netG.load_state_dict(trained.netGs[0].state_dict())
    a, b, c, d = trained._fakes().chunk(4)
    assert torch.equal(a, b)
    assert torch.equal(c, d)
    assert not torch.equal(a, c)


# --- make gpu, rehearsed ------------------------------------------------------------------------


def rehearsed(folder: Path, sections: str, *more: str) -> dict[str, list[dict[str, Any]]]:
    gpu.main(["--toy", "--out", str(folder), "--only", sections, *more])
    found = json.loads((folder / "gpu.json").read_text())
    table = (folder / "gpu.md").read_text()
    assert all(f"## {name}\n" in table for name in found)
    return found


def test_the_gpus_steps_are_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [pair for pair in gpu_steps.STEPS if pair[0] in (gpu_steps.DEMO, gpu_steps.CIFAR10)]
    monkeypatch.setattr(gpu_steps, "STEPS", small)
    found = rehearsed(tmp_path, "machine,agreement,steps")
    assert list(found) == ["machine", "step 1", "ceiling", "steps", "notebook", "goals"]
    assert not [row for rows in found.values() for row in rows if "failed" in row]
    assert len(found["steps"]) == len(small)
    assert all(row["ms"] > 0 and row["TFLOP"] > 0 for row in found["steps"])
    for goal in found["goals"]:
        assert {"times eager fp32", "times eager", "estimate / peak"} <= goal.keys()
    assert "times the notebook's loop" in found["goals"][1]
    assert all(row["relative"] == 0 for row in found["step 1"])  # the CPU against itself


@pytest.mark.slow
def test_the_gpus_runs_and_tests_are_rehearsed(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, "unhurried")
    assert {row["model"] for row in found["accuracy"]} == {"bayesian", "supervised"}
    assert "collected" in found["tests"][0]["outcome"]


def test_a_section_that_fails_is_recorded_and_time_is_kept(tmp_path: Path) -> None:
    report = gpu.Report(tmp_path, seconds=60)
    report.section("first", lambda: [][0])
    report.section("second", lambda: report.add("second", {"ms": 1.0}))
    over = gpu.Report(tmp_path / "over", seconds=0)
    over.section("first", lambda: over.add("first", {"ms": 1.0}))
    assert report.sections["first"][0]["failed"].startswith("IndexError")
    assert report.sections["second"] == [{"ms": 1.0}]
    assert over.sections["first"] == [{"left out": "no time"}]


# --- starting -----------------------------------------------------------------------------------


def test_the_many_files_that_starts_are_timed_on_differ_and_decode(tmp_path: Path) -> None:
    starting.make(tmp_path, 9)
    paths = sorted(tmp_path.rglob("*.avi"))
    assert len({fingerprint(path) for path in paths}) == 9
    assert len({path.parent for path in paths}) == 1
    assert all(len(read_all(path, decoder, 8)) >= 32 for path in paths[:2] for decoder in DECODERS)


# --- scaling ------------------------------------------------------------------------------------


def test_a_step_of_the_demo_is_measured_with_what_it_hands_over() -> None:
    words = ["clip.num_frames=4", "clip.size=16", "generator.width=4", "discriminator.width=4"]
    of = config.load("demo", [*scaling.NORMS, *words, "run.device=cpu"])
    before = ranks.mean_gradients
    turn = scaling.measure(of, steps=2, warm_up=1)
    assert ranks.mean_gradients is before
    assert len(turn.steps) == len(turn.cpu) == len(turn.handing) == 2
    assert min(turn.cpu) > 0
    assert all(0 < handing < step for step, handing in zip(turn.steps, turn.handing, strict=True))
    assert turn.nbytes > 0
    assert turn.nbytes % 4 == 0, "float32"


def test_numbers_of_processes_take_turns_and_efficiency_is_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    order: list[int] = []

    def launch(count: int, words: object, steps: int) -> scaling.Turn:
        order.append(count)
        seconds = 3.0 / count + 0.25 * (count - 1)
        return scaling.Turn([seconds] * steps, [1.0] * steps, [0.5] * steps, 8_000_000)

    assert scaling.main([1, 2], ["demo"], 4, launch) == {1: 3.0, 2: 1.75}
    assert order == [1, 2, 1, 2]
    assert "| 2 | 1750 | 500 | 86 % | 1000 | 50 % | 8.0 |" in capsys.readouterr().out


# --- two trees ----------------------------------------------------------------------------------

TOY = ("demo", "clip.num_frames=4", "clip.size=16", "generator.width=4", "discriminator.width=4")


def test_predicting_takes_turns_with_decoding_alone(small_videos: Path, tmp_path: Path) -> None:
    small = ["discriminator.width=4", "clip.num_frames=4", "clip.size=16", "run.device=cpu"]
    c = config.load(None, [*small, "data.layout=video_folder"])
    state = build_discriminator(c, len(CLASSES)).state_dict()
    run = run_of(tmp_path, c, state)
    SampleBank(tmp_path / "posterior", 10).add("discriminator", 2, 0, state)
    turns = predicting.variants(run, small_videos)
    assert [*turns] == ["decoding alone", "predict, 1 networks", "predict, 2 networks"]
    took = predicting.measured(turns, 1)
    assert all(cpu > 0 and clock > 0 for cpu, clock in took.values())
    assert predicting.table(took).count("\n") == 1 + len(turns)


def test_seconds_of_a_step_are_measured() -> None:
    for step in islice(trees.measured(TOY), 2):
        assert step.cpu > 0
        assert step.clock > 0


@pytest.mark.slow
def test_a_step_is_that_of_the_tree_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "bgan_video").symlink_to(trees.HERE / "bgan_video")
    with closing(trees.launched(tmp_path, TOY)) as steps:
        assert next(steps).cpu > 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="is no checkout"):
        next(trees.launched(tmp_path / "empty", TOY))


def test_two_trees_take_turns_and_begin_first_as_often(capsys: pytest.CaptureFixture[str]) -> None:
    other, order = Path("other"), []
    load = iter([1.0, 1.0, 3.0, 3.0, 2.0, 2.0, 9.0, 9.0])  # of other work, as the steps go
    late = iter([1.2, 1.0] * 4)  # of a pair the one that was begun first is the slower

    def launch(tree: Path, words: object) -> trees.Steps:
        while True:
            order.append(tree)
            work = 0.5 if tree == other else 0.6
            yield trees.Seconds(next(load) * next(late) * work, 0.5)

    ratios = trees.main(other, TOY, 2, 2, launch)
    assert order == [trees.HERE, other] * 2 + [other, trees.HERE] * 2
    assert ratios == pytest.approx({"clock": 1.2, "cpu": 1.0})
    assert "| 1.200 | 1.000 to 1.440 |" in capsys.readouterr().out
