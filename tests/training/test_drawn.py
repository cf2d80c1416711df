"""Networks drawn around one: SWAG and last-layer Laplace."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.errors import UserError
from bgan_video.method.timetable import draws_in_round, path_lr, path_steps
from bgan_video.models import Classifier
from bgan_video.sampling import PathGaussian, last_layer
from bgan_video.training import drawn, lineup, plan
from bgan_video.training.learners import Learned
from bgan_video.training.trainer import DataSize

K, STEPS, DRAWS = 3, 16, 5
BACKEND = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))


def clips(seed: int, count: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, 16, 16, generator=random) * 2 - 1


LABELS = torch.arange(6) % K


def batches() -> Iterator[LabelledBatch]:
    return (LabelledBatch(clips(seed), LABELS) for seed in range(2))


LEARNED = Learned(lambda: (batch.x for batch in batches()), batches)


def learner(method: str, *overrides: str) -> drawn.Drawn:
    sizes = ["clip.size=16", "clip.num_frames=4", "discriminator.width=4"]
    given = [f"baseline.methods=[{method}]", f"train.steps={STEPS}", "posterior.burn_in=1",
             "posterior.thinning=1", f"baseline.num_networks={DRAWS}"]  # fmt: skip
    of = config.load(None, [*sizes, *given, *overrides])
    (found,) = lineup.build(of, DataSize(K, 20, 6), BACKEND).learners
    assert isinstance(found, drawn.Drawn)
    return found


def trained(method: str, *overrides: str, steps: int = STEPS) -> drawn.Drawn:
    found = learner(method, *overrides)
    for index in range(steps):
        step(found, index)
    return found


def step(of: drawn.Drawn, index: int) -> None:
    labelled = LabelledBatch(clips(100 + index), LABELS)
    of.step(index, labelled, UnlabelledBatch(clips(0), torch.zeros(6)))


def stored(of: drawn.Drawn) -> list[dict[str, Tensor]]:
    return [{k: v.clone() for k, v in state.items()} for state in of.stored(LEARNED)]


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


def opened(of: drawn.Drawn, state: Mapping[str, Tensor]) -> Classifier:
    network = copy.deepcopy(of.networks[0]).eval()
    network.load_state_dict(dict(state))
    return network


@pytest.fixture(params=["swag", "laplace"])
def method(request: pytest.FixtureRequest) -> str:
    if request.param == "laplace":
        pytest.importorskip("laplace", reason="laplace-torch is not installed")
    return request.param


def test_it_stores_other_networks_than_the_one_it_learned_and_the_same_ones_again(
    method: str,
) -> None:
    of = trained(method)
    before = copy.deepcopy(of.networks[0].state_dict())
    found = stored(of)
    assert len(found) == DRAWS
    everyone = [before, *found]
    assert not any(same(a, b) for i, a in enumerate(everyone) for b in everyone[:i])
    assert same(of.networks[0].state_dict(), before)
    assert all(map(same, found, stored(of)))


def test_it_goes_on_bit_for_bit_from_within_its_path(method: str) -> None:
    whole, begun = trained(method), trained(method, steps=STEPS - 2)
    resumed = learner(method)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    for index in range(STEPS - 2, STEPS):
        step(resumed, index)
    assert all(map(same, stored(whole), stored(resumed)))


def test_swags_path_is_that_of_the_last_quarter() -> None:
    of, kept = learner("swag"), []
    for index in range(STEPS):
        step(of, index)
        if index >= STEPS - STEPS // 4:
            kept.append(parameters_to_vector(of.networks[0].parameters()).detach().clone())
    torch.testing.assert_close(of.state_dict()["path"], torch.stack(kept), rtol=0, atol=0)


def test_swags_networks_are_of_its_gaussian_with_statistics_of_their_own() -> None:
    of = trained("swag")
    gaussian, random = PathGaussian(of.state_dict()["path"]), of._random()
    for state in stored(of):
        network = opened(of, state)
        weights = parameters_to_vector(network.parameters()).detach()
        torch.testing.assert_close(weights, gaussian.draw(random))
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
        expected = copy.deepcopy(network)
        torch.optim.swa_utils.update_bn(LEARNED.clips(), expected)
        means = [m.running_mean for m in expected.modules() if isinstance(m, nn.BatchNorm3d)]
        for norm, mean in zip(norms, means, strict=True):
            torch.testing.assert_close(norm.running_mean, mean)
    assert norms


def test_laplaces_networks_differ_in_the_classes_rows_alone() -> None:
    pytest.importorskip("laplace", reason="laplace-torch is not installed")
    of = trained("laplace")
    mean = of.networks[0].state_dict()
    for state in stored(of):
        assert {key for key in mean if not torch.equal(mean[key], state[key])} == {
            "head.weight", "head.bias"
        }  # fmt: skip
        for key in ("head.weight", "head.bias"):
            assert torch.equal(mean[key][0], state[key][0])
            assert (mean[key][1:] != state[key][1:]).all()


def test_the_paths_step_size_is_the_papers() -> None:
    of = config.load(None, ["baseline.methods=[supervised]"])
    sizes = [path_lr(of, 0.05, index, 400) for index in range(400)]
    assert sizes[:150] == [0.05] * 150
    assert sizes[210] == pytest.approx((0.05 + 0.01) / 2)
    assert sizes[270:] == pytest.approx([0.01] * 130)
    own = config.load(None, ["baseline.methods=[supervised]", "baseline.swag_lr=0.03"])
    assert path_lr(own, 0.05, 399, 400) == pytest.approx(0.03)


@pytest.mark.parametrize("total", [8, 9, 40, 100, 1000])
def test_a_path_is_of_the_last_quarter_and_evenly_spread(total: int) -> None:
    found = path_steps(total)
    assert len(found) == min(20, total // 4)
    assert found[-1] == total - 1
    assert found[0] >= total - total // 4
    gaps = {later - earlier for earlier, later in pairwise(found)}
    assert max(gaps) - min(gaps) <= 1


def test_a_round_draws_as_many_as_the_posterior_stores() -> None:
    rounds = ["train.rounds=2", "posterior.max_samples=2"]
    of = config.load(None, ["baseline.methods=[swag]", *rounds])
    assert [draws_in_round(of, number) for number in range(3)] == [4, 4, 4]
    of = config.load(None, ["baseline.methods=[swag]", "baseline.num_networks=7", *rounds])
    assert [draws_in_round(of, number) for number in range(3)] == [2, 2, 3]


def test_a_run_is_refused_at_once_where_the_library_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(last_layer, "find_spec", lambda _: None)
    sizes = ["clip.size=16", "clip.num_frames=4", "discriminator.width=4"]
    for method in ("laplace", "swag,laplace"):
        with pytest.raises(UserError, match=r"pip install 'bgan_video\[laplace\]'"):
            plan.plan(config.load(None, [*sizes, f"baseline.methods=[{method}]"]))
    drawn.check(config.load(None, ["baseline.methods=[swag]"]))
