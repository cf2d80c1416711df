"""Every recipe in `configs` loads, names networks that exist, and takes a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bgan_video import config
from bgan_video.backend import Backend
from bgan_video.config import Config, recipes
from bgan_video.data.streams import LabelledBatch, UnlabelledBatch
from bgan_video.errors import UserError
from bgan_video.method.timetable import step_sizes
from bgan_video.models import build_generator, sized_discriminator
from bgan_video.training.lineup import build
from bgan_video.training.trainer import DataSize

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(file for file in CONFIGS.rglob("*.yaml") if file.parent.name != "studies")
IMAGES = sorted((CONFIGS / "image").glob("*.yaml"))
CLASSES, BATCH = 10, 4


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def small(recipe: Path) -> Config:
    """The recipe with narrow networks and few items a step; all else as it is written."""
    widths = ["generator.width=4", "discriminator.width=4"]
    sizes = [f"train.batch_size={BATCH}", f"train.labelled_batch_size={BATCH}"]
    written = config.load(recipe)
    if written.train.fake_batch_size is not None:
        sizes.append(f"train.fake_batch_size={BATCH}")
    return config.load(recipe, [*widths, *sizes])


def test_a_recipe_is_found_by_name_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipes.find("image/mnist") == CONFIGS / "image" / "mnist.yaml"
    (tmp_path / "demo").mkdir()  # a folder is no settings
    assert config.load("demo") == config.load(CONFIGS / "demo.yaml")
    (tmp_path / "ucf101").write_text("train: {batch_size: 3}\n")
    assert config.load("ucf101").train.batch_size == 3


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("weizman4", "did you mean weizmann4"),
        ("mnist", "did you mean image/mnist"),
        ("quite_another", "recipes: demo, generate/"),
        ("nowhere/own.yaml", "in its folder: no YAML file"),
        (str(CONFIGS / "dem.yaml"), "demo.yaml"),
    ],
)
def test_a_recipe_that_is_not_there_is_refused_with_advice(given: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        config.load(given)


def items(c: Config, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    spatial = [c.clip.num_frames] * (c.spatial_dims == 3) + [c.clip.size] * min(c.spatial_dims, 2)
    return torch.rand(BATCH, c.channels, *spatial, generator=random) * 2 - 1


def test_there_are_recipes_of_all_kinds() -> None:
    assert {"demo", "ucf101", "image/mnist", "image/cifar10_original"} <= set(map(name_of, RECIPES))
    assert {config.load(recipe).spatial_dims for recipe in RECIPES} == {0, 2, 3}


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_names_networks_that_exist(recipe: Path) -> None:
    c = config.load(recipe)
    if c.needs_schedule:
        step_sizes(c)
    with torch.device("meta"):
        generator = build_generator(c)
    for network in (sized_discriminator(c, c.num_classes(CLASSES)), generator):
        assert sum(p.numel() for p in network.parameters()) > 1000


@pytest.mark.parametrize("recipe", IMAGES, ids=name_of)
def test_a_recipe_of_images_takes_a_step_in_both_phases(recipe: Path) -> None:
    c = small(recipe)
    backend = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
    of = build(c, DataSize(c.num_classes(CLASSES), 1000, BATCH), backend)
    x = items(c, 0)
    labelled = None if c.is_unsupervised else LabelledBatch(x, torch.arange(BATCH))
    steps = [0, c.posterior.burn_in] if c.samples_posterior else [0]
    for step in steps:
        terms = of.step(step, labelled, UnlabelledBatch(items(c, 1), items(c, 2)))
        assert {"loss_d", "loss_g", "real", "fake"} <= set(terms)
        assert ("labelled" in terms) != c.is_unsupervised
        assert ("supervised" in terms) == ("supervised" in c.baseline.methods)
        assert all(term.isfinite() for term in terms.values())
    assert of.chains is not None
    assert all(chain.is_sampling == c.samples_posterior for chain in of.chains.chains)


def test_a_recipe_of_generation_takes_a_step_with_critics_alone() -> None:
    c = small(CONFIGS / "generate" / "motion_shapes.yaml")
    backend = Backend(torch.device("cpu"), "fp32", torch.amp.GradScaler("cpu", enabled=False))
    of = build(c, DataSize(1, 1000, 0), backend)
    assert not of.discriminators
    for step in (0, c.posterior.burn_in):
        terms = of.step(step, None, UnlabelledBatch(items(c, 1), torch.zeros(BATCH)))
        assert {"loss_c", "loss_g", "penalty", "critic_margin"} <= set(terms)
        assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize(
    "recipe", [path for path in IMAGES if path.stem.endswith("_original")], ids=name_of
)
def test_a_recipe_of_the_original_augments_nothing(recipe: Path) -> None:
    c = config.load(recipe)
    assert (c.augment.flip, c.augment.min_scale, c.augment.color) == (False, 1, 0)
    assert c.data.validation_fraction == 0
    assert c.objective.consistency_weight == 0
    assert c.generator.name == c.discriminator.name
    assert c.compat != config.Compat()
    latent = {"notebook": "normal", "tensorflow": "uniform"}
    assert c.generator.latent == latent[c.generator.name]
    assert c.compat.noise_scale == c.generator.name
