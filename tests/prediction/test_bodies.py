"""What the bodies of a run see."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.parallel import silent, unsaid
from bgan_video.data.streams import labelled_batches
from bgan_video.data.transforms import weak_view
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies, FrozenBody, Scale, frozen_body
from bgan_video.method.bodies import (
    chain_settings,
    features_of,
    names,
    of_clips,
    of_features,
    seen_features,
)
from bgan_video.method.timetable import step_sizes
from bgan_video.models import sized_discriminator
from bgan_video.prediction import bodies, body_checks
from bgan_video.prediction.bodies import kinds
from bgan_video.prediction.feature_vectors import StoredVectors


def settings(*overrides: str) -> config.Config:
    return config.load(None, ["posterior.burn_in=5", "posterior.thinning=1", *overrides])


def test_bodies_have_names_in_the_bank() -> None:
    assert names(settings()) == ("dcgan",)
    assert kinds(settings()) == ["discriminator"]
    several = settings("discriminator.bodies=[dcgan,dcgan@rgb,features:efficientnet-lite0]")
    assert kinds(several) == ["discriminator", "discriminator_b", "discriminator_c"]


def test_a_layer_on_features_has_a_prior_scaled_by_its_length() -> None:
    c = of_features(settings("features.prior_scale=8", "train.steps=30"), 400)
    assert c.spatial_dims == 0
    assert c.channels == 400
    assert c.posterior.prior_std == pytest.approx(8 / math.sqrt(400))
    assert not c.gans_need_unlabelled


def test_a_clip_body_may_see_something_else() -> None:
    c = settings("discriminator.input=difference")
    other = of_clips(c, "dcgan@rgb", 1)
    assert (other.discriminator.name, other.discriminator.input) == ("dcgan", "rgb")
    assert other.objective.adversarial_weight == 0
    with pytest.raises(UserError, match="rgb, difference"):
        of_clips(c, "dcgan@sound", 1)


CPU = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
FEATURES = "features:efficientnet-lite0"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["discriminator.bodies=[dcgan,dcgan]"], "twice"),
        ([f"discriminator.bodies=[{FEATURES},dcgan]"], "sees no clips"),
        (["discriminator.bodies=[dcgan,nonsense]"], "nonsense"),
        ([f"discriminator.bodies=[dcgan,{FEATURES}]", "clip.num_frames=1"], "summary"),
    ],
    ids=lambda value: str(value),
)
def test_bodies_that_cannot_be_are_refused_before_any_video(
    overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        body_checks.check(settings(*overrides), FrozenBodies(CPU))


TIMM = "timm:test_resnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "body.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet").state_dict(), file)
    return f"discriminator.weights={file}"


def of_two(weights: str, name: str, methods: str, *chosen: str) -> config.Config:
    named = [f"discriminator.name={name}", f"discriminator.bodies=[{','.join(chosen)}]"]
    return settings(weights, *named, "clip.size=32", f"baseline.methods=[{methods}]")


def test_weights_are_those_of_the_body_that_the_name_says(weights: str) -> None:
    c = of_two(weights, TIMM, "bayesian_gan", TIMM, "dcgan@rgb")
    (fit,) = body_checks.check(c, FrozenBodies(CPU))
    assert fit.source == c.discriminator.weights
    first, second = (of_clips(c, name, i) for i, name in enumerate((TIMM, "dcgan@rgb")))
    assert first.discriminator.weights == c.discriminator.weights
    assert second.discriminator.weights is None


def test_a_name_that_nothing_has_is_not_looked_at(weights: str) -> None:
    """Else the weights of one body would be held against another."""
    alone = of_two("discriminator.weights=null", "nonsense", "bayesian_gan", TIMM)
    assert body_checks.check(alone, FrozenBodies(CPU)) == []
    with pytest.raises(UserError, match="nonsense"):
        body_checks.check(
            of_two("discriminator.weights=null", "nonsense", "bayesian_gan,supervised", TIMM), CPU
        )
    with pytest.raises(UserError, match=r"name=dcgan, which no network of this run has \(timm:"):
        body_checks.check(of_two(weights, "dcgan", "bayesian_gan", TIMM), FrozenBodies(CPU))


def test_weights_of_a_body_that_do_not_fit_are_refused_before_any_video(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    c = of_two(f"discriminator.weights={file}", TIMM, "bayesian_gan", "dcgan", TIMM)
    with pytest.raises(UserError, match="does not hold this body's weights"):
        body_checks.check(c, FrozenBodies(CPU))


def test_a_frozen_body_is_opened_once(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(features: config.Features, backend: Backend) -> FrozenBody:
        opened.append(features.body)
        return frozen_body(features, backend)

    monkeypatch.setattr("bgan_video.features.bodies.frozen_body", counted)
    of = weights.replace("discriminator", "features")
    methods = "baseline.methods=[bayesian_gan,knn]"
    bodies_of = f"discriminator.bodies=[dcgan,features:{TIMM}]"
    c = settings(of, f"features.body={TIMM}", "features.size=32", bodies_of, methods)
    frozen = FrozenBodies(CPU)
    body_checks.check(c, frozen)
    body_checks.body_settings(c, frozen)
    assert opened == [TIMM]
    larger = dataclasses.replace(c.features, size=64)
    assert frozen(larger).size == 64
    assert opened == [TIMM, TIMM], "of another size it is another one"


def test_the_features_of_a_run_are_those_of_its_bodies_and_methods() -> None:
    of = "discriminator.bodies=[dcgan,features:timm:a,features:timm:b]"
    own = "efficientnet-lite0"

    def seen(*overrides: str) -> list[str]:
        return [features.body for features in seen_features(settings(*overrides))]

    assert seen() == [own], "the command is also for looking at features alone"
    assert seen(of) == ["timm:a", "timm:b"]
    assert seen(of, "baseline.methods=[bayesian_gan,knn]") == ["timm:a", "timm:b", own]
    assert seen(of, "baseline.methods=[supervised,knn]") == [own]
    assert seen(f"discriminator.bodies=[{FEATURES}]", "baseline.methods=[bayesian_gan,knn]") == [
        own
    ]


def test_weights_that_were_replaced_since_are_refused(weights: str, tmp_path: Path) -> None:
    """Layers and scale belong to the features of the old ones."""
    c = settings(
        weights.replace("discriminator", "features"),
        *(f"discriminator.bodies=[features:{TIMM}]", f"features.store={tmp_path / 'store'}"),
        *("features.size=32", "train.steps=30"),
    )
    frozen, nothing = FrozenBodies(CPU), Manifest("m", str(tmp_path), 1, ("a", "b"), ())
    body = frozen(features_of(c, f"features:{TIMM}"))
    tensors = {"mean": torch.zeros(body.num_features), "spread": torch.ones(body.num_features)}
    kept = tmp_path / "features" / "discriminator.safetensors"
    kept.parent.mkdir()

    def opened() -> Sequence[bodies.Body]:
        given = (c, nothing, Numbered(), frozen, tmp_path)
        return bodies.open_bodies(*given, unsaid, silent)

    Scale(**tensors).write(kept, body.digest)
    assert len(opened()) == 1
    save_file(tensors, kept)  # as runs had it before the digest was kept
    assert len(opened()) == 1
    Scale(**tensors).write(kept, "another")
    with pytest.raises(
        UserError, match=rf"features\.weights=.*{tmp_path}.* bring the old ones back"
    ):
        opened()


def test_the_cold_gan_follows_one_body() -> None:
    with pytest.raises(UserError, match="cold_gan"):
        settings("baseline.methods=[bayesian_gan,cold_gan]", "discriminator.bodies=[dcgan]")


def test_a_layer_on_features_samples_by_a_schedule_of_its_own() -> None:
    """So what `posterior` says of burn-in and thinning need not fit where there is nothing else."""
    own = ["posterior.burn_in=300", "posterior.thinning=1000", "train.steps=300"]
    alone = ["baseline.methods=[bayesian_gan]", "objective.adversarial_weight=0"]
    alone = config.load(None, [*own, *alone, f"discriminator.bodies=[{FEATURES}]"])
    of = chain_settings(alone)
    assert (of.posterior.burn_in, of.posterior.max_samples) == (100, 10)
    assert step_sizes(of).num_samples == 10
    config.load(None, [*own, f"discriminator.bodies=[{FEATURES}]"])  # supervised does not sample
    with pytest.raises(UserError, match=r"posterior\.burn_in=300"):
        config.load(None, [*own, f"discriminator.bodies=[{FEATURES},dcgan]"])
    with pytest.raises(UserError, match=r"posterior\.burn_in=300"):
        config.load(None, own)


def test_what_is_meant_for_a_pretrained_body_does_not_reach_the_layer_on_features() -> None:
    c = settings("discriminator.freeze=2", "discriminator.body_lr=0.1", "train.steps=30")
    layer = of_features(c, 10).discriminator
    assert (layer.freeze, layer.body_lr) == (0, 1.0)
    assert of_features(settings("discriminator.dropout=0.5"), 10).discriminator.dropout == 0


def test_what_is_meant_for_a_pretrained_body_does_not_reach_another_one() -> None:
    fine = ["discriminator.freeze=2", "discriminator.freeze_norm=true", "discriminator.body_lr=0.1"]
    c = settings("discriminator.name=r3d_18", "discriminator.weights=some.pt", *fine)
    named, other = (
        of_clips(c, name, i).discriminator for i, name in enumerate(("r3d_18", "dcgan"))
    )
    assert (named.weights, named.freeze, named.freeze_norm, named.body_lr) == (
        *("some.pt", 2, True, 0.1),
    )
    assert (other.weights, other.freeze, other.freeze_norm, other.body_lr) == (None, 0, False, 1)
    network = sized_discriminator(of_clips(c, "dcgan", 1), 3)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("fine", ["freeze=1", "freeze_norm=true", "body_lr=0.1"])
def test_what_no_body_of_that_name_would_get_is_refused(fine: str) -> None:
    c = settings(
        f"discriminator.{fine}",
        *("discriminator.bodies=[dcgan@rgb]", "discriminator.name=r3d_18"),
        "baseline.methods=[bayesian_gan]",
    )
    key = fine.partition("=")[0]
    with pytest.raises(UserError, match=rf"discriminator\.{key}=.* discriminator\.name=r3d_18"):
        body_checks.check(c, FrozenBodies(CPU))


def test_a_centre_that_no_body_would_have_is_refused() -> None:
    centred = ["posterior.prior_mean=pretrained", "discriminator.name=r3d_18"]
    bodies = "discriminator.bodies=[dcgan@rgb,s3d]"
    c = settings(*centred, bodies, "clip.size=32", "baseline.methods=[bayesian_gan]")
    with pytest.raises(
        UserError, match=r"prior_mean=pretrained is for .*=r3d_18.*\(dcgan@rgb, s3d"
    ):
        body_checks.check(c, FrozenBodies(CPU))


def test_terms_that_further_bodies_do_not_have_are_told() -> None:
    terms = ["objective.consistency_weight=1", "objective.balance_weight=1"]
    two = settings(*terms, "discriminator.bodies=[dcgan,dcgan@rgb,features:x]")
    (line,) = body_checks.notes(two)
    told = "objective.consistency_weight, objective.balance_weight: for the body dcgan alone"
    assert line.startswith(told)
    assert "dcgan@rgb learns from labels" in line
    for of in (
        settings(*terms),
        settings("discriminator.bodies=[dcgan,dcgan@rgb]"),
        settings(*terms, "discriminator.bodies=[dcgan,features:x]"),
    ):
        assert body_checks.notes(of) == []


def test_labels_weigh_one_for_a_body_of_features_and_it_is_told() -> None:
    """Else its potential would not be the stated cross-entropy - log p/N."""
    c = settings("objective.labelled_weight=0.1", "train.steps=30")
    assert of_features(c, 10).objective.labelled_weight == 1
    two = ["objective.labelled_weight=0.1", "discriminator.bodies=[dcgan,features:x]"]
    (line,) = body_checks.notes(settings(*two))
    assert line.startswith("objective.labelled_weight: not for bodies of features")
    assert body_checks.notes(c) == []


def test_what_of_the_posterior_no_body_reads_is_told() -> None:
    alone = [f"discriminator.bodies=[{FEATURES}]", "baseline.methods=[bayesian_gan]"]
    cold = config.load(None, [*alone, "posterior.temperature=0", "posterior.prior_std=5"])
    (line,) = body_checks.notes(cold)
    assert line.startswith("posterior.prior_std, posterior.temperature: not for bodies of features")
    read = ["posterior.integrator=baoa", "posterior.max_samples=7", "posterior.num_mcmc=2"]
    assert body_checks.notes(config.load(None, [*alone, *read])) == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["posterior.sampler=sgld", "posterior.integrator=euler"], "posterior.integrator: for"),
        (["posterior.sampler=mclmc", "posterior.gradient_noise=0.05"], "gradient_noise: for post"),
        (["posterior.sampler=sgld", "posterior.friction=0.3"], "friction: for posterior.sampler="),
        (["posterior.sampler=sgld", "posterior.energy_variance=1"], "sampler=mclmc alone, not for"),
        (["posterior.schedule=cyclical", "posterior.thinning=3"], "schedule=constant or exponenti"),
        (["posterior.schedule=constant", "posterior.num_cycles=3"], "schedule=cyclical alone, not"),
        (["posterior.schedule=constant", "posterior.lr_decay=1"], "schedule=exponential alone"),
        (["posterior.prior=laplace", "posterior.prior_df=5"], "prior=student_t or hierarchical"),
        (
            ["posterior.temperature=1", "posterior.noise_budget=2"],
            "temperature=auto alone, not for",
        ),
        (["train.rounds=0", "rounds.share=0.2"], "rounds.share: for train.rounds=1 or more alone"),
        (["critic.name=none", "critic.num=3"], "critic.num: for critic.name=hybrid alone"),
        (["critic.name=hybrid", "objective.feature_matching_weight=1"], "feature_matching_weight"),
    ],
    ids=lambda given: given[-1].partition("=")[0] if isinstance(given, list) else "",
)
def test_what_a_sampler_or_a_critic_does_not_read_is_told(overrides: list[str], told: str) -> None:
    (line,) = body_checks.notes(config.load(None, overrides))
    assert told in line
    assert body_checks.notes(config.load(None, overrides[:1])) == []


def test_a_prior_is_centred_at_weights_where_a_body_has_them() -> None:
    c = settings(
        *("discriminator.name=r3d_18", "discriminator.weights=w.pt"),
        *("discriminator.bodies=[r3d_18,dcgan]", "posterior.prior_mean=pretrained"),
    )
    assert of_clips(c, "r3d_18", 0).posterior.prior_mean == "pretrained"
    assert of_clips(c, "dcgan", 1).posterior.prior_mean == "zero"
    assert of_clips(c, "python:mine.bodies:small", 1).posterior.prior_mean == "pretrained"


def test_other_bodies_begin_elsewhere() -> None:
    c = settings()
    assert bodies._seeded(c, "dcgan", 0) is c
    assert bodies._seeded(c, "dcgan", 1).run.seed != c.run.seed


@pytest.mark.parametrize(("room", "reads"), [(24, 1), (23, 2), (0, 2)])
def test_vectors_of_an_item_are_its_frames_and_kept_where_there_is_room(
    room: int, reads: int
) -> None:
    read = []

    class Store:
        def read(self, item) -> object:
            read.append(item)
            return torch.arange(6.0).view(3, 2).numpy()

    class Doubled:
        def __call__(self, vectors: Tensor) -> Tensor:
            return 2 * vectors

    item = dataclasses.make_dataclass("Item", ["path"])("a.avi")
    vectors = StoredVectors(Store(), Doubled(), room)  # type: ignore[arg-type]
    for _ in range(2):
        found = vectors.read(item, [2, 0])  # type: ignore[arg-type]
        assert found.tolist() == [[8.0, 10.0], [0.0, 2.0]]
    assert len(read) == reads


class Numbered:
    """Vectors of zeros, but for the number of the clip in front."""

    def read(self, item: Item, indices: Sequence[int]) -> NDArray[Any]:
        found = np.zeros((len(indices), 1000), np.float32)
        found[:, 0] = indices
        return found

    def times(self, item: Item) -> None:
        return None


def of_features_with(noise: float) -> config.Config:
    c = of_features(settings("features.clips=3", "train.steps=30"), 1000)
    return dataclasses.replace(c, features=dataclasses.replace(c.features, noise=noise))


ITEM = Item("a.avi", 0, "a", split="train", labelled=True, num_frames=3)


def test_views_of_a_vector_are_other_clips_of_its_video() -> None:
    batches = labelled_batches([ITEM], Numbered(), of_features_with(0.0), 0)
    x, _ = next(batches)
    assert set(x[:, 0].tolist()) == {0, 1, 2}
    assert not x[:, 1:].any(), "and nothing else where there is no noise"


def test_training_adds_fresh_noise_to_vectors_and_judging_none() -> None:
    c = of_features_with(0.25)
    batches = labelled_batches([ITEM], Numbered(), c, 0)
    (x, _), (more, _) = next(batches), next(batches)
    noise = torch.cat([x, more])[:, 1:]
    assert noise.std().item() == pytest.approx(0.25, rel=0.05)
    assert abs(noise.mean().item()) < 0.01
    assert len(noise.unique(dim=0)) == len(noise)
    again, _ = next(labelled_batches([ITEM], Numbered(), c, 0))
    assert torch.equal(again, x), "drawn from the seed"
    body = bodies.Body("features:a", "discriminator", c, Numbered(), 2)
    (chunk,) = body.chunks([ITEM])
    assert chunk.clips[:, 0].tolist() == [0, 1, 2]
    assert not chunk.clips[:, 1:].any()


def test_clips_beside_them_have_no_noise_of_features() -> None:
    assert weak_view(settings("features.noise=1")).noise == 0


def test_vectors_are_kept_once_however_many_processes_load_clips() -> None:
    """`data.cache_mib` is the run's, not that of each process."""
    asked = []

    class Vectors:
        def read(self, item: Item, indices: Sequence[int]) -> NDArray[Any]:
            asked.append(os.getpid())
            return np.zeros((len(indices), 10), np.float32)

        def times(self, item: Item) -> None:
            return None

    c = of_features(settings("data.num_workers=2", "run.device=cpu", "train.steps=30"), 10)
    item = Item("a.avi", 0, "a", split="train", labelled=True, num_frames=c.features.clips)
    batches = labelled_batches([item], Vectors(), c, 0)
    next(batches)
    assert set(asked) == {os.getpid()}
