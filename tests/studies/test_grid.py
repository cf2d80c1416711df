"""A study file: what grid it makes, and how a mistake in it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bgan_video.errors import UserError
from bgan_video.studies import grid
from bgan_video.studies.grid import METHOD_LIST, Study, method_settings

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_a_study_of_the_project_is_a_grid(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in yaml.safe_load(file.read_text())["labels"].get("data.label_list", []):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("")
    study = grid.read(file)
    assert len(study.cells) >= len(study.methods) * len(study.labels)


def test_the_grid_is_every_combination_seeds_outermost(read_study: Callable[..., Study]):
    study = read_study()
    names = [cell.name for cell in study.cells]
    assert len(names) == len(set(names)) == 3 * 2 * 2 * 2
    assert names[:4] == [
        "supervised-1-fold1-seed0",
        "bayesian_gan-1-fold1-seed0",
        "flat-1-fold1-seed0",
        "supervised-1-fold2-seed0",
    ]
    assert {cell.seed for cell in study.cells[:12]} == {0}


def test_a_cell_has_the_settings_of_the_recipe_the_study_the_method_and_its_place(
    read_study: Callable[..., Study],
):
    study = read_study(labels={"data.labels_per_class": [4, None]})
    by_name = {cell.name: cell.config for cell in study.cells}
    c = by_name["flat-4-fold2-seed1"]
    assert c.clip.size == 32
    assert (c.train.steps, c.posterior.prior_std) == (300, 1000)
    assert (c.data.labels_per_class, c.data.fold, c.data.label_seed, c.run.seed) == (4, 2, 1, 1)
    assert c.run_dir == study.out / "cells" / "flat-4-fold2-seed1"
    assert by_name["supervised-all-fold1-seed0"].data.labels_per_class is None
    assert by_name["supervised-4-fold1-seed0"].posterior.prior_std == 1


def test_another_key_of_the_labels_takes_the_place_of_the_recipes(
    read_study: Callable[..., Study], tmp_path: Path
):
    lists = [tmp_path / "few.csv", tmp_path / "many.csv"]
    for file in lists:
        file.write_text("path,label\n")
    labels = {"data.label_list": list(map(str, lists))}
    study = read_study(labels=labels, settings={"data.labels_per_class": None})
    assert study.labels == ("few", "many")
    assert study.cells[0].config.data.labels_per_class is None
    assert study.cells[0].config.data.label_list == str(lists[0])


def test_folds_seeds_and_reference_have_defaults(read_study: Callable[..., Study]):
    study = read_study(folds=None, seeds=None, reference=None)
    assert study.reference == "supervised"
    assert {(cell.fold, cell.seed) for cell in study.cells} == {(1, 0)}


def test_the_order_of_settings_on_the_command_line_is_the_studys(
    write_study: Callable[..., Path],
):
    study = grid.read(write_study(), None, ["train.steps=400"])
    assert {cell.config.train.steps for cell in study.cells} == {400}
    assert study.out == Path("studies") / "grid"


@pytest.mark.parametrize("name", grid.METHODS)
def test_a_method_of_the_project_is_trained_alone(name: str):
    (trained,) = method_settings(name, {})[METHOD_LIST]
    assert trained == ("bayesian_gan" if name == "cold_gan" else name)


def test_any_other_name_is_a_variant_of_the_bayesian_gan_unless_it_says_otherwise():
    own = {"posterior.prior_std": 9}
    assert method_settings("flat", own) == {METHOD_LIST: ["bayesian_gan"], **own}
    said = {METHOD_LIST: ["fixmatch"]}
    assert method_settings("strict", said) == said
    assert method_settings("cold_gan", {})["posterior.temperature"] == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"metods": {}}, ["unknown key metods", "methods"]),
        ({"labels": None}, ["labels is missing"]),
        ({"config": "nowhere.yaml"}, ["nowhere.yaml", "recipe.yaml"]),
        ({"settings": {"train.step": 3}}, ["train.step", "did you mean train.steps"]),
        ({"settings": {"train.steps": 0}}, ["train.steps=0", "≥ 1"]),
        ({"settings": {"train": {"steps": 3}}}, ["settings", "dotted keys"]),
        ({"settings": {"run.seed": 3}}, ["run.seed is set by the grid"]),
        ({"settings": {"data.num_labelled": 3}}, ["data.num_labelled is set by the grid"]),
        ({"settings": {"train.steps": 9}}, ["bayesian_gan", "posterior.burn_in", "train.steps=9"]),
        ({"methods": {}}, ["methods"]),
        ({"methods": {"supervised": {"posterior.prior_std": -1}}}, ["supervised", "prior_std"]),
        ({"methods": {"supervised": {"data.fold": 2}}}, ["methods.supervised", "data.fold"]),
        ({"methods": {"supervised": {METHOD_LIST: ["a", "b"]}}}, [METHOD_LIST, "one method"]),
        ({"methods": {"../up": {}}}, ["../up"]),
        ({"methods": {"supervisd": {}}}, ["methods.supervisd", "supervised", "variant"]),
        ({"labels": {"data.labels": [1]}}, ["data.labels", "data.labels_per_class"]),
        ({"labels": {"data.labels_per_class": 4}}, ["data.labels_per_class=4", "list"]),
        ({"labels": {"data.labels_per_class": [4, 4]}}, ["4 is there twice"]),
        ({"labels": {"data.labels_per_class": ["x"]}}, ["labels_per_class='x'", "whole number"]),
        ({"labels": {"data.num_labelled": [0]}}, ["data.num_labelled=0"]),
        ({"labels": {"data.label_list": ["no.csv"]}}, ["no.csv", "no such file"]),
        ({"folds": [1, 1]}, ["folds", "1 is there twice"]),
        ({"folds": [0]}, ["folds: 0", "from 1"]),
        ({"seeds": []}, ["seeds=[]"]),
        ({"seeds": [True]}, ["seeds: True"]),
        (
            {"methods": {"supervised": {}, "bayesian_gan": {"train.final_split": "validation"}}},
            ["train.final_split", "test in some cells and validation in others"],
        ),
        (
            {
                "methods": {"bayesian_gan": {}, "cold_gan": {}},
                "reference": None,
                "settings": {
                    "discriminator.bodies": ["features:a"],
                    "objective.adversarial_weight": 0,
                },
            },
            ["methods.cold_gan", "features:a", "0.001", "{features.temperature: 0}"],
        ),
        ({"reference": "superviced"}, ["reference=superviced", "supervised, bayesian_gan, flat"]),
    ],
)
def test_a_mistake_is_one_line_that_names_file_and_key(
    changes: dict[str, object], named: list[str], read_study: Callable[..., Study], tmp_path: Path
):
    with pytest.raises(UserError) as caught:
        read_study(**changes)
    line = str(caught.value)
    assert "\n" not in line
    assert all(part in line for part in ["grid.yaml", *named]), line
    assert not (tmp_path / "out").exists(), "nothing runs"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "a: 1\na: 2\n"])
def test_what_is_no_study_file_is_refused(text: str, tmp_path: Path):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"grid\.yaml: "):
        grid.read(file)
    with pytest.raises(UserError, match="no such study file"):
        grid.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("override", ["data.fold=2", "posterior.prior_std=3", "run.name=x"])
def test_what_tells_cells_apart_cannot_be_set_for_all(
    override: str, write_study: Callable[..., Path]
):
    with pytest.raises(UserError, match="differs between the study's cells"):
        grid.read(write_study(), None, [override])


def test_label_lists_of_one_name_are_refused(read_study: Callable[..., Study], tmp_path: Path):
    files = [tmp_path / "a" / "few.csv", tmp_path / "b" / "few.csv"]
    for file in files:
        file.parent.mkdir()
        file.write_text("path,label\n")
    with pytest.raises(UserError, match="two cells are called"):
        read_study(labels={"data.label_list": list(map(str, files))})
