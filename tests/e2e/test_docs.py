"""Every command the documents show is run, on small data."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks import first_labels, label_curve, synthetic
from bgan_video import cli
from bgan_video.config import Data
from bgan_video.data import layouts
from bgan_video.labelling import server
from tests.e2e import runs

pytestmark = pytest.mark.e2e

DOCUMENTS = [
    runs.REPOSITORY / "README.md",
    *sorted((runs.REPOSITORY / "docs").rglob("*.md")),
    *sorted((runs.REPOSITORY / "datasets").glob("*.md")),
]


def shown(document: Path) -> list[str]:
    """The commands in a document's bash blocks, with continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def write_labels(root: Path, file: Path) -> None:
    """A table of suggestions as a person would have filled it in."""
    manifest = layouts.read(Data(layout="video_folder", root=str(root)))
    rows = [f"{i.path},{manifest.classes[i.label]}," for i in manifest.part("train")]
    file.write_text("\n".join(["path,label,rank", *rows]) + "\n")


def write_tables(root: Path, folder: Path) -> None:
    """The tables that the cards show: a person's own, Kinetics', Something-Something's."""
    manifest = layouts.read(Data(layout="video_folder", root=str(root)))
    items = manifest.part("train")
    rows = [f"{root.name}/{i.path},{manifest.classes[i.label]}" for i in items]
    (folder / "videos.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    for name in ("kinetics", "ssv2"):
        (folder / name).mkdir()
    head = "label,youtube_id,time_start,time_end,split"
    for split, part in (("train", items[::2]), ("validate", items[1::2])):
        rows = [f"{manifest.classes[i.label]},{Path(i.path).stem},1,11,{split}" for i in part]
        (folder / "kinetics" / f"{split}.csv").write_text("\n".join([head, *rows]))
        records = [{"id": Path(i.path).stem, "template": manifest.classes[i.label]} for i in part]
        name = "train" if split == "train" else "validation"
        (folder / "ssv2" / f"{name}.json").write_text(json.dumps(records))


def lay_out_as_hmdb51(videos: Path, root: Path) -> None:
    """A film for each group: the first is tested on, the second unused, the others train."""
    lists = root / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for folder in videos.glob("[A-Z]*"):
        (root / folder.name).mkdir()
        files = sorted(folder.glob("*.avi"))
        names = [f"film{n}_{folder.name}_u_nm_np1_ba_goo_0" for n in range(len(files))]
        for name, file in zip(names, files, strict=True):
            (root / folder.name / f"{name}.avi").symlink_to(file)
        tags = ["2", "0", *["1"] * (len(files) - 2)]
        rows = [f"{name}.avi {tag} " for name, tag in zip(names, tags, strict=True)]
        (lists / f"{folder.name}_test_split1.txt").write_text("\n".join(rows))


def write_published_lists(videos: Path, folder: Path) -> None:
    """Lists of labelled videos under their published names, in their published form."""
    folder.mkdir()
    rows = (videos / "ucfTrainTestlist" / "trainlist01.txt").read_text().splitlines()
    paths = [row.split()[0].removesuffix(".avi") for row in rows]
    file = folder / "ucf101_train_5_percent_labeled_split_1_rawframes.txt"
    file.write_text("\n".join(f"{path} 40 0" for path in paths))
    unused = [f"{c.name}/film1_{c.name}_u_nm_np1_ba_goo_0 40 0" for c in videos.glob("[A-Z]*")]
    file = folder / "hmdb51_train_40_percent_labeled_split_1_rawframes.txt"
    file.write_text("\n".join(unused))


def write_curve(folder: Path) -> None:
    """What the other command of the label curve leaves."""
    folder.mkdir()
    row = {"seed": 0, "round": 0, "num_labelled": 8, "top1": 0.5, "nll": 1.0}
    rows = [json.dumps(row | {"strategy": name}) for name in label_curve.STRATEGIES]
    (folder / "curve.jsonl").write_text("\n".join(rows))


def of_images(words: list[str], shapes: Path) -> list[str]:
    """Training on a tiny image folder in place of the one that is shown."""
    swapped = ("data.root=", "data.layout=", "data.num_labelled=")
    keep = [word for word in words if not word.startswith(swapped)]
    small = [w for w in runs.TINY if not w.startswith(("clip.", "baseline."))]
    data = ["data.layout=image_folder", f"data.root={shapes}", "data.num_labelled=null"]
    return [*keep, *small, *data, "clip.size=32", "clip.load_size=null", "posterior.num_z=2"]


def small_features(folder: Path) -> list[str]:
    """Features of small frames, kept apart from a user's own."""
    return ["features.size=32", "features.clips=1", f"features.store={folder / 'features'}"]


COMMANDS = sorted({command for document in DOCUMENTS for command in shown(document)})


def test_the_two_commands_of_the_readme_are_make_targets():
    targets = (runs.REPOSITORY / "Makefile").read_text()
    shown_targets = [c.removeprefix("make ") for c in COMMANDS if c.startswith("make ")]
    assert {"demo", "test"} <= set(shown_targets)
    assert all(f"\n{target}: " in targets for target in shown_targets)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make ")])
def test_a_shown_command_works(
    command: str,
    finished: Path,
    small_videos: Path,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Placeholders of the documents stand for small things; training is cut to some steps."""
    (tmp_path / "configs").symlink_to(runs.REPOSITORY / "configs")
    for name in ("demo", "video_folder", "video_folder_two_bodies", "mnist"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    for name in ("UCF-101", "weizmann4"):
        (tmp_path / name).symlink_to(small_videos)
    for name in ("my_videos", "new_videos"):
        shutil.copytree(small_videos, tmp_path / name)
        shutil.rmtree(tmp_path / name / "ucfTrainTestlist")
    lay_out_as_hmdb51(small_videos, tmp_path / "HMDB51")
    write_published_lists(small_videos, tmp_path / "lists")
    write_tables(tmp_path / "my_videos", tmp_path)
    if not command.startswith("bgan-video suggest"):  # it spares what a person filled in
        write_labels(tmp_path / "my_videos", tmp_path / "runs" / "video_folder" / "suggestions.csv")
    (tmp_path / "project.json").write_text("[]")  # nothing was answered
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    if words[:3] == ["python", "-m", "benchmarks.label_curve"]:
        # What looks at unlabelled clips is refused where no body sees clips.
        without = ("objective.",) if "features:" in command else ()
        tiny = [word for word in runs.TINY if not word.startswith(("baseline.", *without))]
        small = [f"data.root={small_videos}", "data.layout=ucf101", *tiny]
        few = ["--rounds", "1", "--budget", "4", *small_features(tmp_path)]
        if "--plot" in words:
            write_curve(tmp_path / "label_curve")
        label_curve.main(words[3:] if "--plot" in words else [*words[3:], *small, *few])
        return
    if words[:3] == ["python", "-m", "benchmarks.first_labels"]:
        few = ["--folds", "1", "--seeds", "1", f"data.root={small_videos}", "data.layout=ucf101"]
        kept = [w for w in words[3:] if not w.startswith(("data.root", "features."))]
        first_labels.main([*kept, *few, *small_features(tmp_path)])
        return
    if words[:3] == ["python", "-m", "benchmarks.synthetic"]:
        synthetic.main([*words[3:], "--seeds", "1", "--steps", "4"])
        return
    if words[:2] == ["python", "train_video.py"]:
        words = ["train", *words[2:]]
    else:
        assert words[0] == "bgan-video", f"no rule how to run {command!r}"
        words = words[1:]
    if words[:2] == ["data", "check"]:
        words.append("data.labels_per_class=1")
    if any(word.startswith("configs/image/") for word in words):
        words = of_images(words, shapes)
    elif words[0] == "train" and ("--resume" not in words or "auto" in words):
        objective = tuple(w.partition("=")[0] for w in words if w.startswith("objective."))
        # What looks at unlabelled clips is refused where no body sees clips.
        without = ("objective.",) if any("pretrained" in w for w in words) else ()
        swapped = ("data.labels", "baseline.", *objective, *without)
        small = [w for w in runs.TINY if not w.startswith(swapped)]
        if not any(w.startswith(("data.root", "data.table")) for w in words):
            small += ["data.layout=ucf101", f"data.root={small_videos}"]
        words += [*small, "data.num_workers=0"]
        if not any(w.startswith("data.label_list") for w in words):
            words.append("data.labels_per_class=1")
        words += small_features(tmp_path)
    if words[0] == "study" and "--report" not in words:
        words.append("--dry-run")  # test_study.py runs one
    if words[0] == "features":
        words += small_features(tmp_path)
    if words[0] == "label":  # test_label_page.py looks at the page
        monkeypatch.setattr(server, "serve", lambda *_: None)
        words += small_features(tmp_path) if "--config" in words else []
    if words[0] == "prepare":
        words.append("data.num_workers=1")
    assert cli.main(words) == 0
