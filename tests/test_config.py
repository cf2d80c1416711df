"""Settings: what is read, what is refused, and how a refusal reads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgan_video import config, parsing
from bgan_video.config import Config, load, to_mapping, to_yaml
from bgan_video.errors import UserError

ROOT = Path(__file__).parents[1]
RECIPES = sorted(f for f in (ROOT / "configs").rglob("*.yaml") if f.parent.name != "studies")

# Any text a file may hold, but for the `${...}` that asks for another setting.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: "$" not in text
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "run": st.fixed_dictionaries({"name": st.none() | names, "deterministic": st.booleans()}),
        "data": st.fixed_dictionaries(
            {"root": st.none() | names, "validation_fraction": st.floats(0, 0.9)}
        ),
        "posterior": st.fixed_dictionaries(
            {
                "lr": st.floats(1e-300, 1e6),
                "schedule": st.sampled_from(["constant", "exponential", "cyclical"]),
                "burn_in": st.integers(0, 500),
            }
        ),
        "train": st.fixed_dictionaries(
            {"steps": st.integers(1000, 10**12), "max_grad_norm": st.none() | st.floats(1e-9, 1e9)}
        ),
        "clip": st.fixed_dictionaries({"test_crops": st.sampled_from([1, 3])}),
    },
)


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(None, overrides)
    return str(caught.value)


def refusal_of(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        load(path)
    return str(caught.value)


def test_no_file_and_no_override_is_the_default() -> None:
    assert load() == Config()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads(recipe: Path) -> None:
    assert load(recipe) != Config()


@settings(max_examples=40, deadline=None)
@given(changes)
def test_yaml_gives_back_the_config(tmp_path_factory: Any, changed: dict[str, Any]) -> None:
    before = config.from_mapping(changed)
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(to_yaml(before), encoding="utf-8")
    assert load(file) == before


@pytest.mark.parametrize("name", ["01", "1e3", "null", "yes", "12:30:45", "1_000", ".inf", "a: b"])
def test_a_name_that_looks_like_something_else_stays_a_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(Config().named(name)))
    assert load(tmp_path / "config.yaml").run.name == name


ODD = ["2024_01_15", "010", "0x10", "12:30", "0b11", "+5", "1_0.5", "12:30.5", "3", "-3", "2nd"]


@pytest.mark.parametrize("word", ODD)
def test_a_word_like_a_number_is_taken_as_it_is_written(tmp_path: Path, word: str) -> None:
    assert load(None, [f"run.name={word}"]).run.name == word
    names = load(None, ["data.layout=video_folder", f"data.classes=[{word}, 'b c', {word}x]"])
    assert names.data.classes == (word, "b c", f"{word}x")
    file = tmp_path / "a.yaml"
    file.write_text(f"# 010 \u00e4\nrun:\n  name: {word}  # 1_0\ndata: {{held_out: {word}}}\n")
    found = load(file)
    assert (found.run.name, found.data.held_out) == (word, word)


@pytest.mark.parametrize("word", ["0777", "1_28", "0x80", "1:00", "+5"])
def test_a_number_is_written_in_plain_digits(word: str) -> None:
    assert refusal(f"run.seed={word}").startswith(f"run.seed='{word}' is not valid; allowed: a who")
    assert refusal(f"posterior.lr={word}").startswith(f"posterior.lr='{word}' is not valid")


@pytest.mark.parametrize("word", ["1.5", "1e3", "-1.", "yes"])
def test_a_name_that_is_read_as_something_else_is_to_be_quoted(word: str) -> None:
    assert refusal(f"run.name={word}").endswith("text or null; quote it where it is text")
    assert load(None, [f"run.name='{word}'"]).run.name == word


def test_the_length_of_features_is_not_set_by_hand() -> None:
    assert refusal("features.length=7").startswith("features.length=7 is never set by hand")


def test_the_mapping_gives_back_the_config() -> None:
    changed = load(None, ["train.steps=70", "posterior.burn_in=3"])
    assert config.from_mapping(to_mapping(changed)) == changed


def test_an_override_wins_over_the_file_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {steps: 5000, batch_size: 3}\n")
    train = load(tmp_path / "a.yaml", ["train.steps=6000"]).train
    assert (train.steps, train.batch_size) == (6000, 3)


def test_the_last_of_two_overrides_wins() -> None:
    assert load(None, ["run.seed=1", "run.seed=2"]).run.seed == 2


def test_a_home_folder_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    found = config.load(None, ["data.root=~/videos", "run.name=~x"])
    assert (found.data.root, found.run.name) == ("/home/anna/videos", "~x")
    tables = config.load(None, ["data.layout=table", "data.table=[~/a.csv, b~/c.csv]"])
    assert tables.data.table == ("/home/anna/a.csv", "b~/c.csv")


def test_null_unsets_a_setting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {labels_per_class: 4}\n")
    assert load(tmp_path / "a.yaml", ["data.labels_per_class=null"]).data.labels_per_class is None


def test_a_small_number_may_be_written_with_an_exponent() -> None:
    assert load(None, ["posterior.lr=1e-4"]).posterior.lr == 1e-4


def test_a_whole_number_is_a_number_too() -> None:
    value = load(None, ["posterior.prior_std=2"]).posterior.prior_std
    assert (value, type(value)) == (2.0, float)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("train.stpes=5", "train.stpes", "train.steps"),
        ("trian.steps=5", "trian", "train"),
        ("posterior.prior_sdt=1", "posterior.prior_sdt", "posterior.prior_std"),
    ],
)
def test_an_unknown_key_names_itself_and_the_nearest(override: str, key: str, nearest: str) -> None:
    message = refusal(override)
    assert f"unknown setting {key}=" in message
    assert f"did you mean {nearest}?" in message


def test_an_unknown_key_like_no_other_lists_what_is_known() -> None:
    assert "steps, batch_size, labelled_batch_size" in refusal("train.qqqqqq=1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps=many", ["train.steps", "'many'", "a whole number"]),
        ("train.steps=1.5", ["train.steps", "1.5", "a whole number"]),
        ("train.steps=true", ["train.steps", "True", "a whole number"]),
        ("posterior.lr=fast", ["posterior.lr", "'fast'", "a number"]),
        ("posterior.lr=true", ["posterior.lr", "True", "a number"]),
        ("posterior.bayes=1", ["posterior.bayes", "1", "true or false"]),
        ("run.name=[a]", ["run.name", "text"]),
        ("run.seed=null", ["run.seed", "None", "a whole number"]),
        ("data.layout=ufc101", ["data.layout", "'ufc101'", "hmdb51", "did you mean ucf101?"]),
        ("clip.test_crops=2", ["clip.test_crops", "2", "1, 3"]),
        ("train=5", ["train", "section", "5"]),
        ("train.steps.more=5", ["train.steps", "a whole number"]),
    ],
)
def test_a_bad_value_names_key_value_and_what_is_allowed(override: str, said: list[str]) -> None:
    message = refusal(override)
    assert all(part in message for part in said), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("key", "inside", "outside", "allowed"),
    [
        ("train.steps", "320", "0", "≥ 1"),
        ("run.seed", "0", "-1", "≥ 0"),
        ("posterior.lr", "1e-9", "0", "> 0"),
        ("posterior.friction", "1", "0", "in (0, 1]"),
        ("posterior.friction", "0.1", "1.01", "in (0, 1]"),
        ("discriminator.dropout", "0.95", "0.96", "in [0, 0.95]"),
        ("objective.consistency_threshold", "1", "-0.1", "in [0, 1]"),
        ("clip.load_size", "64", "7", "≥ 8"),
        ("posterior.temperature", "0", ".nan", "≥ 0"),
        ("posterior.temperature", "auto", "-1", "≥ 0"),
        ("posterior.noise_budget", "0.1", "0", "> 0"),
    ],
)
def test_a_bound_is_where_it_says(key: str, inside: str, outside: str, allowed: str) -> None:
    load(None, [f"{key}={inside}"])
    message = refusal(f"{key}={outside}")
    assert message.startswith(f"{key}=")
    assert message.endswith(f"is out of range; allowed: {allowed}")


@pytest.mark.parametrize("key", ["posterior.lr", "posterior.prior_std", "posterior.lr_decay"])
def test_an_infinite_number_is_refused_before_it_reaches_a_sampler(key: str) -> None:
    assert key in refusal(f"{key}=.inf")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("labels_per_class=1", "num_labelled=9"),
        ("labels_per_class=1", "label_list=a.txt"),
        ("num_labelled=9", "label_list=a.txt"),
    ],
)
def test_two_ways_to_choose_labels_contradict(first: str, second: str) -> None:
    message = refusal(f"data.{first}", f"data.{second}")
    assert first.partition("=")[0] in message
    assert second.partition("=")[0] in message


def test_burn_in_leaves_a_step_to_sample_in() -> None:
    load(None, ["train.steps=300", "posterior.burn_in=299", "posterior.thinning=1"])
    message = refusal("train.steps=300", "posterior.burn_in=300")
    assert "posterior.burn_in=300" in message
    assert "train.steps=300" in message


def test_burn_in_does_not_matter_where_nothing_is_sampled() -> None:
    load(None, ["train.steps=3", "posterior.bayes=false"])


def test_a_schedule_that_never_takes_a_sample_is_refused() -> None:
    assert "thinning" in refusal(
        "train.steps=310", "posterior.burn_in=300", "posterior.thinning=20"
    )


def test_more_cycles_than_steps_are_refused() -> None:
    cyclical = ("posterior.schedule=cyclical", "posterior.num_cycles=4")
    assert "num_cycles" in refusal("train.steps=302", *cyclical)


def test_a_frame_is_not_loaded_smaller_than_its_crop() -> None:
    load(None, ["clip.size=64", "clip.load_size=64"])
    message = refusal("clip.size=64", "clip.load_size=63")
    assert "clip.load_size=63" in message
    assert "clip.size=64" in message


def test_points_have_no_pretext_task() -> None:
    load(None, ["objective.pretext_weight=1"])
    points = ("data.layout=synthetic", "generator.name=mlp", "discriminator.name=mlp")
    message = refusal(*points, "objective.pretext_weight=0.5")
    assert "objective.pretext_weight" in message
    assert "data.layout=synthetic has points" in message


def test_the_pretext_task_needs_steps_under_adam() -> None:
    off, on = "posterior.burn_in=0", "objective.pretext_weight=1"
    assert "posterior.burn_in" in refusal(off, on)
    load(None, [off, on, "posterior.bayes=false"])
    load(None, [off, on, "baseline.methods=[ml_gan]"])


def test_rivals_without_the_pretext_task_are_not_refused_for_it() -> None:
    load(None, ["clip.num_frames=1", "objective.pretext_weight=1", "baseline.methods=[supervised]"])


@pytest.mark.parametrize(
    ("blind", "seeing"),
    [
        ("clip.num_frames=1", "clip.num_frames=2"),
        ("discriminator.name=timm:resnet18", "discriminator.temporal=inflate"),
        ("discriminator.name=timm:resnet18", "discriminator.input=difference"),
    ],
)
def test_what_cannot_see_times_direction_is_not_asked_for_it(blind: str, seeing: str) -> None:
    load(None, [blind])
    load(None, [blind, seeing, "objective.pretext_weight=1"])
    message = refusal(blind, "objective.pretext_weight=1")
    assert "direction of time" in message
    assert blind.partition("=")[0] in message
    assert seeing.partition("=")[0] in message  # the remedy


def test_a_frame_is_loaded_an_eighth_larger_than_its_crop() -> None:
    assert load(None, ["clip.size=112"]).load_size == 128
    assert load(None, ["clip.size=112", "clip.load_size=120"]).load_size == 120


@pytest.mark.parametrize("override", ["train.steps", "=5"])
def test_an_override_is_key_equals_value(override: str) -> None:
    assert "key=value" in refusal(override)


def test_a_missing_file_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("")
    with pytest.raises(UserError, match=r"missing\.yaml.*there\.yaml"):
        load(tmp_path / "missing.yaml")


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert load(tmp_path / "a.yaml") == Config()


@pytest.mark.parametrize(
    "text",
    [
        "train: [1",
        "- train\n",
        "5\n",
        "1: 2\n",
        "train: {1: 2}\n",
        "run: {name: '${x}'}",
        b"\xff\xfe",
    ],
    ids=["syntax", "list", "scalar", "number as section", "number as key", "dangling", "binary"],
)
def test_a_file_that_is_not_settings_is_the_users_mistake(
    tmp_path: Path, text: str | bytes
) -> None:
    assert "\n" not in refusal_of(tmp_path / "a.yaml", text)


def test_the_keys_of_the_schema_are_those_of_a_config() -> None:
    sections = to_mapping(Config()).items()
    there = [f"{section}.{key}" for section, values in sections for key in values]
    assert parsing.keys(Config) == there


def test_reading_settings_imports_no_torch() -> None:
    code = "import sys, bgan_video.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["posterior.sampler=adaptive_sghmc", "posterior.burn_in=0"], ["burn_in=0", "1 and more"]),
        (["posterior.gradient_noise=0.2"], ["gradient_noise=0.2", "0..0.1"]),
        (["posterior.gradient_noise=0.05", "posterior.integrator=baoa"], ["baoa", "0..0"]),
        (
            ["baseline.methods=[deep_ensemble]", "baseline.num_networks=1"],
            ["baseline.num_networks=1", "2 and more"],
        ),
        (["baseline.methods=[]"], ["baseline.methods=[]", "at least one"]),
        (["baseline.methods=[supervised,supervised]"], ["each once"]),
        (
            ["baseline.methods=[supervised,fixmach]"],
            ["fixmach", "a list of", "did you mean fixmatch"],
        ),
        (["baseline.methods=fixmatch"], ["a list of", "fixmatch"]),
        (["baseline.methods=[supervised,cold_gan]"], ["cold_gan", "bayesian_gan beside"]),
        (
            ["baseline.methods=[bayesian_gan,cold_gan]", "posterior.bayes=false"],
            ["cold_gan", "posterior.bayes"],
        ),
        (["posterior.prior=cauchy"], ["posterior.prior", "hierarchical"]),
        (["posterior.sampler=sghm"], ["posterior.sampler", "did you mean sghmc"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_rivals_and_samplers_that_cannot_be(overrides: list[str], named: list[str]) -> None:
    message = refusal(*overrides)
    assert all(part in message for part in named), message


OF_TABLE = ["data.layout=table", "data.table=videos.csv"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ([*OF_TABLE, "data.groups=groups.csv"], ["column group", "table: set it to null"]),
        (["data.layout=ucf101", "data.groups=(cam.)"], ["data.groups is for", "not for", "ucf101"]),
        (["data.groups_span_classes=true"], ["motion_shapes", "set it to false"]),
        ([*OF_TABLE, "data.lists=lists"], ["data.lists", "motion_shapes or ucf101 or hmdb51"]),
        (["data.download=true"], ["data.download", "mnist", "motion_shapes: set it to false"]),
        (["data.classes=[a]"], ["data.classes", "video_folder", "set it to []"]),
        (["data.train_on_unused=true"], ["data.train_on_unused", "hmdb51", "set it to false"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_what_one_layout_reads_is_refused_for_others(
    overrides: list[str], named: list[str]
) -> None:
    message = refusal(*overrides)
    assert all(part in message for part in named), message


def test_what_a_layout_reads_is_taken() -> None:
    folder = ["data.layout=video_folder", "data.groups=groups.csv", "data.classes=[a]"]
    assert load(None, folder).data.groups == "groups.csv"
    assert load(None, ["data.lists=lists"]).data.lists == "lists"


@pytest.mark.parametrize("layout", ["mnist", "image_folder", "synthetic"])
def test_what_has_one_split_has_no_second_fold(layout: str) -> None:
    small = ["clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]
    load(None, [f"data.layout={layout}", *small])
    message = refusal(f"data.layout={layout}", *small, "data.fold=2")
    assert message.startswith(f"data.fold=2: data.layout={layout} has one split")


UNLABELLED = ["data.num_labelled=0", "baseline.methods=[bayesian_gan]"]
HYBRID = "critic.name=hybrid"
POINTS = ["data.layout=synthetic", "clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (
            [HYBRID, "posterior.independent=true"],
            ["posterior.num_z=2", "critic.num=1", "make them equal"],
        ),
        (
            [*UNLABELLED, "objective.adversarial_weight=0"],
            ["data.num_labelled=0", "nothing to learn", HYBRID],
        ),
        (
            [*UNLABELLED, "discriminator.bodies=[dcgan,features:a]"],
            ["data.num_labelled=0", "(features:a) nothing to learn", "one body"],
        ),
        (
            [*POINTS, HYBRID],
            [HYBRID, "data.layout=synthetic has points", "none"],
        ),
    ],
    ids=lambda value: ",".join(value),
)
def test_what_leaves_nothing_to_learn_or_no_pairs(overrides: list[str], named: list[str]) -> None:
    message = refusal(*overrides)
    assert all(part in message for part in named), message
    assert "\n" not in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["posterior.sampler=sgld", "posterior.integrator=euler"],
        [HYBRID, "compat.complement_clamp=1e-4"],
        [HYBRID, "posterior.independent=true", "critic.num=2"],
        [*UNLABELLED, HYBRID, "objective.adversarial_weight=0"],
        [*UNLABELLED, "discriminator.bodies=[dcgan@rgb]"],
    ],
    ids=lambda value: ",".join(value),
)
def test_what_is_like_that_and_can_be(overrides: list[str]) -> None:
    assert load(None, overrides) != Config()


GIVEN = "rounds.balance=given"
TEACHERS = "baseline.methods=[self_training_ensemble]"


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["baseline.methods=[self_training]"], ["self_training", "train.rounds=0", "1 or more"]),
        ([TEACHERS], ["self_training_ensemble", "train.rounds=0", "1 or more"]),
        (
            [TEACHERS, "train.rounds=2", "baseline.num_networks=5"],
            ["num_networks=5", "self_training_ensemble", "train.rounds=3", "6 and more"],
        ),
        (
            [TEACHERS, "train.rounds=1", "posterior.num_discriminators=1"],
            ["one is none", "num_networks to 4"],
        ),
        (["baseline.methods=[swag]", "baseline.num_networks=1"], ["swag", "2 and more"]),
        (
            [
                "baseline.methods=[swag]",
                "train.steps=7",
                "posterior.burn_in=0",
                "posterior.thinning=1",
            ],
            ["swag", "train.steps=7", "8 and more"],
        ),
        (
            ["train.rounds=1", "data.num_labelled=0", "baseline.methods=[bayesian_gan]"],
            ["train.rounds", "data.num_labelled=0", "train.rounds=0"],
        ),
        (["train.rounds=1", "train.labelled_batch_size=1"], ["labelled_batch_size=1", "2 and"]),
        ([GIVEN], [GIVEN, "rounds.class_prior", "or neither"]),
        (["rounds.class_prior=[1,2]"], [GIVEN, "rounds.class_prior", "or neither"]),
        ([GIVEN, "rounds.class_prior=[1,-1]"], ["class_prior=[1.0, -1.0]", "from 0"]),
        ([GIVEN, "rounds.class_prior=[0,0]"], ["class_prior=[0.0, 0.0]", "not all 0"]),
        ([GIVEN, "rounds.class_prior=[]"], ["class_prior=[]", "not all 0"]),
        ([GIVEN, "rounds.class_prior=[1,.nan]"], ["class_prior=[1.0, nan]", "from 0"]),
        ([GIVEN, "rounds.class_prior=[1,.inf]"], ["class_prior=[1.0, inf]", "from 0"]),
        ([GIVEN, "rounds.class_prior=[1,many]"], ["rounds.class_prior", "a list of a number"]),
        (["rounds.balance=fair"], ["rounds.balance", "equal, estimated, given"]),
        (["rounds.share=0.6"], ["rounds.share=0.6", "in [0, 0.5]"]),
        (["rounds.believed=0"], ["rounds.believed=0", "in (0, 1]"]),
        (["rounds.certainty=sure"], ["rounds.certainty", "probability, discounted"]),
        (["rounds.answer=first"], ["rounds.answer", "all, later, last"]),
        (["train.rounds=-1"], ["train.rounds=-1", "≥ 0"]),
        (["train.final_split=train"], ["train.final_split", "test, validation"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_rounds_that_cannot_be(overrides: list[str], named: list[str]) -> None:
    message = refusal(*overrides)
    assert all(part in message for part in named), message
    assert "\n" not in message


def test_rounds_that_can_be() -> None:
    rounds = load(None, ["train.rounds=4", GIVEN, "rounds.class_prior=[0,3,1]"]).rounds
    assert rounds.class_prior == (0, 3, 1)
    assert load(None, ["train.rounds=3", "train.steps=400"]).total_steps == 1600


def test_what_takes_no_samples_needs_no_room_for_them() -> None:
    short = ["train.steps=100", "posterior.burn_in=300"]
    for methods in ("supervised", "fixmatch,ml_gan"):
        config.load(None, [*short, f"baseline.methods=[{methods}]"])
    for methods in ("bayesian_gan", "deep_ensemble"):
        assert "posterior.burn_in=300" in refusal(*short, f"baseline.methods=[{methods}]")


@pytest.mark.parametrize(
    ("methods", "unlabelled", "strong"),
    [
        ("supervised,deep_ensemble,mc_dropout", False, False),
        ("supervised,pseudo_label", True, False),
        ("fixmatch", True, True),
        ("bayesian_gan", True, True),
    ],
)
def test_views_are_made_for_whoever_learns_from_them(
    methods: str, unlabelled: bool, strong: bool
) -> None:
    c = config.load(None, ["objective.consistency_weight=1", f"baseline.methods=[{methods}]"])
    assert (c.needs_unlabelled, c.needs_strong_views) == (unlabelled, strong)


@pytest.mark.parametrize(
    "cold",
    [
        ["posterior.temperature=0"],
        ["posterior.schedule=cyclical"],
        ["baseline.methods=[bayesian_gan,cold_gan]"],
    ],
)
def test_a_momentum_of_fixed_length_needs_a_temperature(cold: list[str]) -> None:
    assert "posterior.sampler=mclmc" in refusal("posterior.sampler=mclmc", *cold)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["baseline.methods=[bayesian_gan]"], True),
        (["baseline.methods=[linear_probe,knn]"], False),
        (["baseline.methods=[linear_probe,supervised]"], True),
        (["discriminator.bodies=[features:a]", "baseline.methods=[bayesian_gan]"], False),
        (["discriminator.bodies=[features:a]", "baseline.methods=[fixmatch]"], True),
        (["discriminator.bodies=[dcgan,features:a]", "baseline.methods=[bayesian_gan]"], True),
    ],
)
def test_clips_are_seen_where_a_network_is_not_of_features(
    overrides: list[str], expected: bool
) -> None:
    assert config.load(None, overrides).sees_clips == expected
