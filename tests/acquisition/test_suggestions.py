"""The table of suggestions: what it says, and that a run reads it back."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from bgan_video import config
from bgan_video.acquisition import suggestions
from bgan_video.acquisition.suggestions import Answers, Guess, Suggestion
from bgan_video.config import Data
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.splits import split
from bgan_video.errors import UserError

CLASSES = ("bend", "walk")
ITEMS = tuple(
    Item(f"{CLASSES[k]}/{g}.avi", k, f"g{g}", "train") for k in range(2) for g in range(6)
)
MANIFEST = split(
    Manifest("test", "root", 1, CLASSES, ITEMS), Data(labels_per_class=2, validation_fraction=0)
)


def chosen(budget: int) -> list[Suggestion]:
    items = [item for item in MANIFEST.part("train") if not item.labelled]
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, len(items), 2, generator=random, dtype=torch.float64)
    p = logits.softmax(2)
    return suggestions.choose(
        items, Answers(p.mean(0), p), MANIFEST, Data(layout="video_folder"), budget, random
    )


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        return list(csv.DictReader(text))


def test_only_unlabelled_videos_are_suggested_in_order() -> None:
    found = chosen(20)
    assert [s.rank for s in found] == list(range(1, 9))
    labelled = {item.path for item in MANIFEST.labelled}
    assert labelled.isdisjoint(s.path for s in found)
    assert all(0.5 <= s.probability <= 1 and s.predicted in CLASSES for s in found)


def test_the_table_holds_the_suggestions_without_and_the_labels_with_a_label(
    tmp_path: Path,
) -> None:
    file = tmp_path / "next.csv"
    suggestions.write_csv(file, chosen(3), MANIFEST)
    rows = rows_of(file)
    assert list(rows[0]) == list(suggestions.COLUMNS)
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    assert [row["label"] for row in rows[:3]] == ["", "", ""]
    known = {row["path"]: row["label"] for row in rows[3:]}
    assert known == {item.path: CLASSES[item.label] for item in MANIFEST.labelled}


def test_a_run_reads_the_table_back_filled_in_or_not(tmp_path: Path) -> None:
    file = tmp_path / "next.csv"
    suggestions.write_csv(file, chosen(3), MANIFEST)
    data = Data(label_list=str(file), validation_fraction=0)
    whole = Manifest("test", "root", 1, CLASSES, ITEMS)
    assert split(whole, data).labelled == MANIFEST.labelled

    rows = rows_of(file)
    rows[1]["label"] = rows[1]["path"].split("/")[0]
    with file.open("w", newline="") as text:
        table = csv.DictWriter(text, suggestions.COLUMNS)
        table.writeheader()
        table.writerows(rows)
    with pytest.raises(UserError, match="answers filled in"):
        suggestions.write_csv(file, chosen(2), MANIFEST)
    added = {i.path for i in split(whole, data).labelled} - {i.path for i in MANIFEST.labelled}
    assert added == {rows[1]["path"]}


def test_a_table_whose_only_answers_are_skips_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "next.csv"
    near = Suggestion(1, "a.avi", "g", None, None, None, None, None, ("b.avi",))
    rows = suggestions.suggested_rows([near])
    suggestions.write_rows(file, rows)
    suggestions.write_csv(file, [near], MANIFEST)  # nobody has written `copy of 1`
    suggestions.write_rows(file, [rows[0] | {"note": "skipped"}, rows[1]])
    kept = file.read_bytes()
    with pytest.raises(UserError, match="answers filled in"):
        suggestions.write_csv(file, [near], MANIFEST)
    assert file.read_bytes() == kept


def test_a_suggestion_tells_what_the_run_answers_not_what_its_networks_mean() -> None:
    """Several bodies answer by a product, which is surer than the mean of their networks."""
    items = [item for item in MANIFEST.part("train") if not item.labelled][:2]
    networks = torch.tensor([[[0.6, 0.4]] * 2, [[0.7, 0.3]] * 2], dtype=torch.float64)
    together = torch.tensor([[0.1, 0.9], [0.2, 0.8]], dtype=torch.float64)
    data, random = Data(layout="video_folder"), torch.Generator().manual_seed(0)
    for s in suggestions.choose(items, Answers(together, networks), MANIFEST, data, 2, random):
        answer = together[[item.path for item in items].index(s.path)]
        assert s.predicted == CLASSES[1]
        assert s.probability == answer[1]
        assert s.total_entropy == pytest.approx(torch.special.entr(answer).sum().item())


def test_a_suggestion_tells_what_each_of_several_bodies_takes_it_for(tmp_path: Path) -> None:
    items = [item for item in MANIFEST.part("train") if not item.labelled][:2]
    alone = {
        "dcgan": torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64),
        "features:a": torch.tensor([[0.2, 0.8], [0.4, 0.6]], dtype=torch.float64),
    }
    networks = torch.stack(list(alone.values()))
    said, data = Answers(networks.mean(0), networks, alone), Data(layout="video_folder")
    found = suggestions.choose(items, said, MANIFEST, data, 2, torch.Generator().manual_seed(0))
    of_first = next(s for s in found if s.path == items[0].path)
    assert of_first.bodies == (Guess("dcgan", "bend", 0.9), Guess("features:a", "walk", 0.8))
    suggestions.write_csv(tmp_path / "next.csv", found, MANIFEST)
    row = next(r for r in rows_of(tmp_path / "next.csv") if r["path"] == of_first.path)
    assert row["bodies"] == "dcgan: bend 0.90; features:a: walk 0.80"


@pytest.mark.parametrize(("layout", "both"), [("ucf101", True), ("video_folder", False)])
def test_every_recording_comes_once_before_any_twice(layout: str, both: bool) -> None:
    """Where each class numbers its own groups, g5 of another class is another recording."""
    items = [item for item in ITEMS if item.group in ("g4", "g5")]
    sure = torch.tensor([[0.9, 0.1], [0.8, 0.2]], dtype=torch.float64)
    unsure = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    p = torch.stack([unsure if i.group == "g5" else sure for i in items], dim=1)
    data = Data(layout=layout)  # type: ignore[arg-type]
    found = suggestions.choose(items, Answers(p.mean(0), p), MANIFEST, data, 2, torch.Generator())
    assert [s.group for s in found] == (["g5", "g5"] if both else ["g5", "g4"])


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        ("video_folder", []),
        ("image/svhn", []),
        ("video_folder", ["data.labels_per_class=null", "data.label_list=before.csv"]),
    ],
)
def test_the_settings_for_a_filled_in_table_serve_a_recipe(recipe: str, given: list[str]) -> None:
    of_run = config.load(recipe, given).data
    told = suggestions.settings_of(Path("labels.csv"), of_run)
    assert config.load(recipe, told).data.label_list == "labels.csv"


@pytest.mark.parametrize("at", ["added", "corrected", "copy"])
def test_rows_that_a_person_added_or_corrected_are_not_overwritten(at: str, tmp_path: Path) -> None:
    file = tmp_path / "next.csv"
    near = Suggestion(1, "a.avi", "g", None, None, None, None, None, ("b.avi",))
    suggestions.write_csv(file, [near], MANIFEST)
    suggestions.write_csv(file, [near], MANIFEST)  # nobody has touched it
    rows = suggestions.read_rows(file)
    last = rows[-1]
    changed = {
        "added": [*rows, {"path": "c.avi", "label": CLASSES[0]}],
        "corrected": [*rows[:-1], last | {"label": next(n for n in CLASSES if n != last["label"])}],
        "copy": [rows[0], rows[1] | {"label": CLASSES[0]}, *rows[2:]],
    }
    suggestions.write_rows(file, changed[at])
    kept = file.read_bytes()
    with pytest.raises(UserError, match="answers filled in"):
        suggestions.write_csv(file, [near], MANIFEST)
    assert file.read_bytes() == kept
