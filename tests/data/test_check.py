"""`data check`: every trap that is laid is found, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgan_video import cli, config
from bgan_video.config import Config
from bgan_video.data import check, check_text, motion_shapes
from bgan_video.data.check import DataCheck, Reading, Trap
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError

GROUPS = 4


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight motions, four groups of one clip, in UCF101 layout."""
    root = tmp_path_factory.mktemp("check") / "videos"
    motion_shapes.render(root, num_groups=GROUPS, clips_per_group=1, size=16)
    return root


@pytest.fixture
def root(rendered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rendered, tmp_path / "videos"))


def settings(root: Path, *overrides: str) -> Config:
    small = ["clip.size=16", "clip.num_frames=4", "data.labels_per_class=1", "data.decoder=pyav"]
    return config.load(None, ["data.layout=ucf101", f"data.root={root}", *small, *overrides])


def traps(root: Path, *overrides: str, read: bool = True) -> list[Trap]:
    return list(check.inspect(settings(root, *overrides), read).traps)


def some_video(root: Path, number: int = 0) -> Path:
    return sorted((root / "Grow").glob("*.avi"))[number]


# --- counts ------------------------------------------------------------------------------------


def test_a_sound_data_set_has_counts_and_no_trap(root: Path) -> None:
    found = check.inspect(settings(root))
    assert found.traps == ()
    assert found.videos == 8 * GROUPS == sum(part.videos for part in found.parts.values())
    assert found.labelled == 8 == sum(count.labelled for count in found.classes)
    assert sum(part.groups for part in found.parts.values()) == GROUPS == len(found.groups)
    for count in found.classes:
        assert sum(count.videos.values()) == GROUPS
    for videos in found.groups.values():
        assert list(videos.values()) == [8]
    lengths = [part.lengths for part in found.parts.values() if part.lengths]
    assert sum(of.videos for of in lengths) == found.videos
    assert all(32 <= of.shortest <= of.median <= of.longest <= 56 for of in lengths)


def test_lengths_are_those_of_the_frames_that_decode() -> None:
    items = [Item(f"{n}.avi", 0, str(n), "train") for n in (5, 9, 11, 40)]
    readings = {i.path: Reading(int(i.group), i.path) for i in items[:3]}
    readings[items[3].path] = Reading(reason="cut short")
    part = check._part(items, readings)
    assert part == check.Part(4, 4, check.Lengths(3, 5, 9, 11))
    assert check._part(items, dict.fromkeys(readings, Reading())).lengths is None


# --- traps, one by one -------------------------------------------------------------------------


def remove(root: Path) -> tuple[str, str, str]:
    some_video(root).unlink()
    return "missing", some_video(root).name.replace("g02", "g01"), "no such file"


def empty(root: Path) -> tuple[str, str, str]:
    some_video(root).write_bytes(b"")
    return "broken", some_video(root).name, "empty"


def spoil(root: Path) -> tuple[str, str, str]:
    some_video(root).write_bytes(b"no video" * 999)
    return "broken", some_video(root).name, "not readable as a video"


def copy(root: Path) -> tuple[str, str, str]:
    target = root / "Shrink" / some_video(root).name.replace("Grow", "Shrink")
    assert target.is_file()
    shutil.copy(some_video(root), target)
    return "duplicate", target.name, f"same as Grow/{some_video(root).name}; class Grow and Shrink"


def add(root: Path) -> tuple[str, str, str]:
    shutil.copy(some_video(root), root / "Grow" / "v_Grow_g77_c01.avi")
    return "unlisted", "v_Grow_g77_c01.avi", "no list"


@pytest.mark.parametrize("lay", [remove, empty, spoil, copy, add], ids=lambda f: f.__name__)
def test_a_trap_is_found(lay: Callable[[Path], tuple[str, str, str]], root: Path) -> None:
    kind, name, why = lay(root)
    (trap,) = traps(root)
    assert (trap.kind, Path(trap.what).name) == (kind, name)
    assert why in trap.why


@pytest.mark.parametrize("lay", [remove, copy, add], ids=lambda f: f.__name__)
def test_what_shows_without_decoding_is_found_without(
    lay: Callable[[Path], tuple[str, str, str]], root: Path
) -> None:
    kind, name, why = lay(root)
    (trap,) = traps(root, read=False)
    assert (trap.kind, Path(trap.what).name) == (kind, name)
    assert why in trap.why


def test_without_decoding_nothing_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_read", None)
    found = check.inspect(settings(root), read=False)
    assert not found.were_read
    assert all(part.lengths is None for part in found.parts.values())
    assert "files were not decoded" in check_text.text(found)


def test_a_copy_with_other_bytes_is_found_by_its_frames(root: Path) -> None:
    source, target = some_video(root, 0), some_video(root, 1)
    target.write_bytes(source.read_bytes() + b"\0" * 64)
    assert not [t for t in traps(root, read=False) if t.kind == "duplicate"]
    (trap,) = traps(root)
    assert trap.kind == "duplicate"


def test_a_video_shorter_than_a_clip_is_found(root: Path) -> None:
    found = traps(root, "clip.num_frames=30", "clip.stride=2")
    short = [t for t in found if t.kind == "short"]
    assert short == found
    assert len(short) == 8 * GROUPS  # 32 to 56 frames, and a clip reaches over 59
    assert all("a clip needs 59 (clip.short_clip=loop)" in t.why for t in short)
    assert not traps(root, "clip.num_frames=16", "clip.stride=2")


def lists(root: Path, name: str) -> Path:
    return root / "ucfTrainTestlist" / f"{name}list01.txt"


def test_a_group_on_two_sides_is_found(root: Path) -> None:
    moved, *rest = lists(root, "test").read_text().splitlines()
    lists(root, "test").write_text("\n".join(rest))
    lists(root, "train").write_text(lists(root, "train").read_text().rstrip() + f"\n{moved}\n")
    found = traps(root, "data.validation_fraction=0", read=False)
    (trap,) = [t for t in found if t.kind == "group"]
    assert trap.what in moved
    assert "1 in train" in trap.why


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_class_without_videos_is_found(side: str, root: Path) -> None:
    kept = [s for s in lists(root, side).read_text().splitlines() if not s.startswith("Grow/")]
    lists(root, side).write_text("\n".join(kept))
    found = traps(root, "data.labels_per_class=null", "data.validation_fraction=0", read=False)
    assert Trap("class", "Grow", f"no video in {side}") in found
    kinds = {"train": {"class", "label", "unlisted"}, "test": {"class", "unlisted"}}
    assert {t.kind for t in found} == kinds[side]


def test_every_line_of_a_label_list_that_does_not_fit_is_found(root: Path, tmp_path: Path) -> None:
    train = [s.split()[0] for s in lists(root, "train").read_text().splitlines()]
    file = tmp_path / "labels.txt"
    file.write_text("\n".join([train[0], "Grow/nowhere.avi", "Grow/v_Grow_g99_c01"]))
    found = traps(
        root,
        "data.labels_per_class=null",
        f"data.label_list={file}",
        "data.validation_fraction=0",
        read=False,
    )
    assert [t.kind for t in found] == ["label", "list", "list"]
    assert "7 of 8 classes have no label" in found[0].why
    assert "labels.txt:2: 'Grow/nowhere.avi' is not in this data set" in found[1].why
    assert "labels.txt:3" in found[2].why


def test_recordings_left_out_are_counted(root: Path) -> None:
    motion_shapes.render(root, num_groups=GROUPS, clips_per_group=2, size=16)
    together = check.inspect(settings(root), read=False)
    apart = check.inspect(settings(root, "data.separate_recordings=true"), read=False)
    assert together.beside_labelled == apart.left_out == 8
    assert together.left_out == apart.beside_labelled == 0
    assert together.videos - apart.videos == 8


def test_hmdb51s_unused_videos_are_named_by_its_lists(tmp_path: Path) -> None:
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    for name in ("climb", "dive"):
        (tmp_path / name).mkdir()
        rows = [
            f"{film}_{name}_u_nm_np1_ba_goo_0.avi {tag}"
            for film, tag in zip("ABC", "120", strict=True)
        ]
        (folder / f"{name}_test_split1.txt").write_text("\n".join(rows))
        for number, film in enumerate("ABCD"):
            file = tmp_path / name / f"{film}_{name}_u_nm_np1_ba_goo_0.avi"
            file.write_text(f"{name} {number}")
    found = check.inspect(
        settings(tmp_path, "data.layout=hmdb51", "data.validation_fraction=0"), read=False
    )
    assert {(t.kind, t.what) for t in found.traps} == {
        ("unlisted", f"{name}/D_{name}_u_nm_np1_ba_goo_0.avi") for name in ("climb", "dive")
    }


def test_strangers_of_a_folder_are_in_no_list_on_purpose(root: Path) -> None:
    shutil.rmtree(root / "ucfTrainTestlist")
    (root / "unlabelled").mkdir()
    for group in range(1, GROUPS + 1):
        shutil.move(some_video(root), root / "unlabelled" / f"x_g{group:02d}_c01.avi")
    (root / "Grow").rmdir()
    shutil.copy(root / "unlabelled" / "x_g01_c01.avi", root / "stray.avi")
    chosen = settings(
        root, "data.layout=video_folder", r"data.groups='_(g\d+)_'", "data.validation_fraction=0"
    )
    found = check.inspect(chosen, read=False)
    assert [(t.kind, t.what) for t in found.traps if t.kind == "unlisted"] == [
        ("unlisted", "stray.avi")
    ]
    assert found.classes[-1].name == "(no known class)"


# --- properties --------------------------------------------------------------------------------

DEFAULTS = config.load()
sides = st.sampled_from(["train", "validation", "test"])


@given(st.lists(st.tuples(st.integers(0, 3), sides, st.integers(0, 2)), min_size=1, max_size=12))
def test_groups_and_copies_are_found_wherever_they_are(videos: list[tuple[int, str, int]]) -> None:
    items = [Item(f"{n}", n % 2, f"g{g}", s) for n, (g, s, _) in enumerate(videos)]  # type: ignore[arg-type]
    readings = {f"{n}": Reading(99, f"{content}") for n, (_, _, content) in enumerate(videos)}
    whole = Manifest("test", "root", 1, ("a", "b"), tuple(items))
    found = list(check.find_traps(whole, readings, DEFAULTS))
    crossing = {g for g in range(4) if len({s for h, s, _ in videos if h == g}) > 1}
    assert {t.what for t in found if t.kind == "group"} == {f"g{g}" for g in crossing}
    copies = [t for t in found if t.kind == "duplicate"]
    assert len(copies) == len(videos) - len({content for _, _, content in videos})


def test_a_class_held_out_is_no_trap_and_its_groups_stay_in_the_test_fold(root: Path) -> None:
    found = check.inspect(settings(root, "data.held_out=Grow"), read=False)
    assert [t for t in found.traps if t.kind != "unlisted"] == []
    assert [t for t in found.traps if t.kind == "unlisted"] == []
    assert found.classes[-1].name == "Grow"
    assert set(found.classes[-1].videos) == {"open"}


# --- the command -------------------------------------------------------------------------------


def command(root: Path, *more: str) -> list[str]:
    small = ["clip.size=16", "clip.num_frames=4", "data.labels_per_class=1"]
    return ["data", "check", "data.layout=ucf101", f"data.root={root}", *small, *more]


def test_traps_are_listed_and_the_exit_code_is_zero(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(root)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is wrong"
    for video in root.glob("Shrink/*.avi"):
        video.write_bytes(b"")
    assert cli.main(command(root)) == 0
    out = capsys.readouterr().out
    assert "nothing is wrong" not in out
    assert f"broken: {GROUPS}\n" in out
    assert out.count("the file is empty") == GROUPS


def test_json_has_everything(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some_video(root).unlink()
    assert cli.main([*command(root), "--json", "--no-read"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = check.inspect(config.load(None, command(root)[2:]), read=False)
    assert found == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert found["traps"][0]["kind"] == "missing"


def test_many_traps_of_a_kind_are_counted_behind_the_first() -> None:
    many = tuple(Trap("broken", f"{n}.avi", "empty") for n in range(8))
    none, eight = check.Part(0, 0, None), check.Part(8, 1, None)
    found = DataCheck(
        name="x",
        root="root",
        fold=1,
        videos=8,
        labelled=0,
        beside_labelled=0,
        left_out=0,
        were_read=True,
        parts={"train": eight, "validation": none, "test": none, "open": none},
        classes=(check.ClassCount("a", 0, {"train": 8}),),
        groups={"g": {"train": 8}},
        rates={},
        traps=many,
    )
    said = check_text.text(found)
    assert "broken: 8" in said
    assert "4.avi" in said
    assert "5.avi" not in said
    assert "… and 3 more" in said


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.root=nowhere", "nowhere"),
        ("data.layout=mnist", "data check is for videos"),
        ("data.fold=7", "data.fold=7"),
        ("data.fol=1", "data.fold"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    override: str, named: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["clip.num_frames=1", "clip.stride=1", "clip.test_clips=1"] * ("mnist" in override)
    assert cli.main(command(root, *more, override)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert named in error


def test_too_few_videos_for_the_labels_do_not_hide_the_counts(root: Path) -> None:
    found = check.inspect(settings(root, "data.labels_per_class=99"), read=False)
    assert found.labelled == 0
    (trap,) = found.traps
    assert trap.kind == "label"
    assert "too few training videos of MoveLeft (2), MoveRight (2)" in trap.why
    assert "up to 2, or null" in trap.why


def test_videos_without_groups_are_asked_about(tmp_path: Path) -> None:
    for number in range(6):
        for name in ("a", "b", "unlabelled"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.avi").write_bytes(bytes([number]) * (1 + len(name)))
    wanted = ["data.layout=video_folder", "data.labels_per_class=null"]
    said = check_text.text(check.inspect(settings(tmp_path, *wanted), read=False))
    assert "18 videos of 2 classes in 18 groups" in said
    assert "every video is a group of its own" in said
    grouped = check.inspect(settings(tmp_path, *wanted, r"data.groups='/(\d)'"), read=False)
    assert "every video is a group of its own" not in check_text.text(grouped)


def test_a_refusal_needs_no_file_read(root: Path) -> None:
    with pytest.raises(UserError):
        check.inspect(settings(root, "data.fold=7"))


def test_videos_whose_edges_a_player_would_cut_are_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BGAN_VIDEO_CACHE", str(tmp_path / "cache"))
    cut = some_video(root)
    monkeypatch.setattr("bgan_video.video.cropping.is_asked_for", lambda path: path == cut)
    (trap,) = traps(root)
    assert (trap.kind, trap.what) == ("crop", str(cut.relative_to(root)))


def test_classes_of_unlike_size_are_told() -> None:
    def of(sizes: list[int]) -> list[Trap]:
        items = [
            Item(f"{k}/{n}", k, f"{k}/{n}", "train")
            for k, size in enumerate(sizes)
            for n in range(size)
        ]
        readings = {i.path: Reading(99, i.path) for i in items}
        whole = Manifest("test", "root", 1, ("a", "b", "c"), tuple(items))
        found = check.find_traps(whole, readings, DEFAULTS)
        return [trap for trap in found if trap.kind == "imbalance"]

    assert not of([5, 2, 4])
    (trap,) = of([5, 2, 6])
    assert trap.what == "c and b"
    assert "6 and 2 training videos" in trap.why
    assert "train.class_weights=balanced" in trap.why
