"""Features of a manifest's videos, kept: right, resumable, and never stale."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file

from bgan_video import config
from bgan_video.backend import resolve_backend
from bgan_video.config import Config
from bgan_video.data import feature_store, layouts
from bgan_video.data.cutting import Length
from bgan_video.data.frames import Frames, survey
from bgan_video.data.manifest import Item, Manifest
from bgan_video.errors import UserError
from bgan_video.features import (
    FeatureStore,
    FrozenBody,
    Scale,
    clip_vectors,
    extraction,
    frozen_body,
)
from bgan_video.models.weights import packaged_file
from bgan_video.video import clips, reader
from tests.data.store import stores
from tests.features.tiny import LENGTH, body_of, save, settings


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def body(tiny: list[str]) -> FrozenBody:
    return body_of(settings(Path(), Path(), *tiny))


@pytest.fixture
def of(small_videos: Path, tmp_path: Path, tiny: list[str]) -> Config:
    root = stores.few_videos(small_videos, tmp_path / "videos", per_class=2)
    return settings(root, tmp_path / "features", *tiny)


def surveyed(of: Config) -> Manifest:
    manifest = layouts.read(of.data)
    return survey(manifest, Frames(manifest.root, of), of)[0]


def fill(of: Config, manifest: Manifest, body: FrozenBody, seen: list[int] | None = None):
    def every(items: Any, what: str, total: int) -> Any:
        if seen is not None:
            seen.append(total)
        return items

    return extraction.fill(manifest.items, manifest.root, of, body, [].append, every)


def test_features_are_those_of_a_plain_loop(small_videos: Path, tmp_path: Path) -> None:
    """timm's own network, fed frame by frame with what a video's clips are made of."""
    root = stores.few_videos(small_videos, tmp_path / "videos", per_class=1)
    of = settings(root, tmp_path / "features")
    manifest = surveyed(of)
    store = fill(of, manifest, body_of(of))
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    packaged = torch.load(packaged_file("efficientnet-lite0"), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), packaged.values(), strict=True)))
    network.eval().reset_classifier(0)
    for item in manifest.items:
        every = reader.read_all(Path(manifest.root) / item.path, "auto", 32)
        vectors: list[torch.Tensor] = []
        for indices in clips.uniform_clips(len(every), 4, 2, 3, "loop"):
            images = torch.from_numpy(every[indices]).permute(0, 3, 1, 2).float()
            with torch.no_grad():
                of_frames = network(images / 127.5 - 1)
            vectors.append((of_frames[1:] - of_frames[:-1]).abs().mean(dim=0))
        assert store.read(item).shape == (3, 1280)
        np.testing.assert_allclose(store.read(item), torch.stack(vectors), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("summary", "length"), [("mean", LENGTH), ("both", 2 * LENGTH)])
def test_the_summary_is_chosen_when_features_are_read(
    of: Config, body: FrozenBody, tiny: list[str], summary: str, length: int
) -> None:
    manifest = surveyed(of)
    differences = fill(of, manifest, body).read_all(manifest.items)
    place = Path(str(of.features.store))
    other = settings(Path(manifest.root), place, *tiny, f"features.summary={summary}")
    seen: list[int] = []
    found = fill(other, manifest, body, seen).read_all(manifest.items)
    assert seen == []
    assert found.shape == (4, 3, length)
    assert summary == "mean" or np.array_equal(found[..., LENGTH:], differences)


def test_vectors_of_an_open_video_are_those_of_the_store(of: Config, body: FrozenBody) -> None:
    manifest = surveyed(of)
    store = fill(of, manifest, body)
    item = manifest.items[1]
    with reader.open_video(Path(manifest.root) / item.path, "auto", body.size) as video:
        found = clip_vectors(video, Length(len(video)), of, body)
    assert np.array_equal(found, store.read(item))


def test_summaries_of_a_moving_and_a_still_clip() -> None:
    moving = torch.tensor([[[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]]])
    found = extraction.summarised(moving, ("mean", "difference"))
    assert found.tolist() == [[[1.0, 1.0], [1.5, 0.0]]]
    still = extraction.summarised(moving[:, :1], ("mean", "difference"))
    assert still.tolist() == [[[0.0, 1.0], [0.0, 0.0]]]


def test_items_need_not_be_surveyed(of: Config, body: FrozenBody) -> None:
    fill(of, layouts.read(of.data), body)
    seen: list[int] = []
    manifest = surveyed(of)
    store = fill(of, manifest, body, seen)
    assert seen == []
    for item in manifest.items:
        record = store.record(item.path, item.fingerprint)
        assert record is not None
        assert record.num_frames == item.num_frames


def test_a_file_that_is_another_one_gets_features_of_its_own(of: Config, body: FrozenBody) -> None:
    manifest = surveyed(of)
    before = fill(of, manifest, body).read_all(manifest.items)
    first, last = (Path(manifest.root) / manifest.items[i].path for i in (0, -1))
    first.write_bytes(last.read_bytes())
    stale = manifest.replace((dataclasses.replace(manifest.items[0], fingerprint="another"),))
    with pytest.raises(UserError, match="changed since it was surveyed"):
        fill(of, stale, body)
    seen: list[int] = []
    again = surveyed(of)
    after = fill(of, again, body, seen).read_all(again.items)
    assert seen == [1]
    assert np.array_equal(after[0], before[-1])
    assert np.array_equal(after[1:], before[1:])


@pytest.mark.parametrize(
    "change", ["features.size=40", "features.clips=2", "clip.num_frames=3", "clip.stride=1"]
)
def test_other_frames_are_kept_apart(
    of: Config, body: FrozenBody, tiny: list[str], change: str
) -> None:
    other = settings(Path(str(of.data.root)), Path(str(of.features.store)), *tiny, change)
    size = dataclasses.replace(body, size=other.features.size)
    assert extraction.store_folder(of, body) != extraction.store_folder(other, size)


def test_other_weights_are_kept_apart(tmp_path: Path) -> None:
    state = torch.load(packaged_file("efficientnet-lite0"), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    state = dict(zip(names, state.values(), strict=True))
    torch.save(state, tmp_path / "same.pth")
    state["conv_stem.weight"] = state["conv_stem.weight"] + 1e-6
    torch.save(state, tmp_path / "other.pth")

    def opened(file: str) -> FrozenBody:
        named = ["features.body=timm:tf_efficientnet_lite0", f"features.weights={tmp_path / file}"]
        return body_of(settings(Path(), Path(), *named))

    packaged = body_of(settings(Path(), Path()))
    assert opened("same.pth").digest == packaged.digest
    assert opened("other.pth").digest != packaged.digest


def test_a_broken_video_is_told_and_tried_again(of: Config, body: FrozenBody) -> None:
    manifest = layouts.read(of.data)
    broken = Path(manifest.root) / manifest.items[0].path
    whole = broken.read_bytes()
    broken.write_bytes(b"no video")
    store = fill(of, manifest, body)
    spoilt = dataclasses.replace(
        manifest.items[0], fingerprint=feature_store.read_index(store.folder)[0].fingerprint
    )
    with pytest.raises(UserError, match=f"{spoilt.path}: .*not readable as a video"):
        store.read(spoilt)
    lines = len(feature_store.read_index(store.folder))
    fill(of, manifest, body)
    assert len(feature_store.read_index(store.folder)) == lines
    broken.write_bytes(whole)
    seen: list[int] = []
    fill(of, manifest, body, seen)
    assert seen == [1]


def die_at_the_third(items: Any, what: str, total: int) -> Any:
    for number, item in enumerate(items):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item


def fill_until_killed(of: Config) -> None:
    """In a process of its own, with a shard a video."""
    manifest = surveyed(of)
    extraction._SHARD_VIDEOS = 1
    extraction.fill(manifest.items, manifest.root, of, body_of(of), print, die_at_the_third)


def test_after_a_kill_what_was_written_stays(of: Config, body: FrozenBody) -> None:
    """A kill after two videos: half a line and a nameless shard go, the rest serves."""
    manifest = surveyed(of)
    # Not forked: a fork of a process whose torch has started threads waits for them for ever.
    child = multiprocessing.get_context("spawn").Process(target=fill_until_killed, args=(of,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    folder = extraction.store_folder(of, body)
    assert len(feature_store.read_index(folder)) == 2
    with (folder / feature_store.INDEX).open("ab") as index:
        index.write(b'{"path": "Grow/')
    (folder / "features-00009.safetensors").write_bytes(b"nameless")
    seen: list[int] = []
    resumed = fill(of, manifest, body, seen).read_all(manifest.items)
    assert seen == [2]
    assert not (folder / "features-00009.safetensors").exists()
    elsewhere = dataclasses.replace(
        of, features=dataclasses.replace(of.features, store=str(folder.parent / "fresh"))
    )
    assert np.array_equal(resumed, fill(elsewhere, manifest, body).read_all(manifest.items))


def reads(store: FeatureStore, item: Item) -> bool:
    try:
        store.read(item)
    except UserError:
        return False
    return True


def test_damage_is_found(of: Config, body: FrozenBody) -> None:
    manifest = surveyed(of)
    store = fill(of, manifest, body)
    shard = next(store.folder.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    # Where a shard ends lies the tensor of one video; the others are whole.
    damaged = [item for item in manifest.items if not reads(store, item)]
    assert len(damaged) == 1
    with pytest.raises(UserError, match=f"{damaged[0].path}: .*its checksum differs"):
        store.read(damaged[0])
    shard.unlink()
    for content in (None, b""):
        if content is not None:
            shard.write_bytes(content)
        with pytest.raises(UserError, match=r"is damaged .*; bgan-video features --verify"):
            store.read_all(manifest.items)


def test_verifying_takes_off_what_a_kill_left(of: Config, body: FrozenBody) -> None:
    """Else the line of what is damaged would be glued to half of another."""
    manifest = surveyed(of)
    store = fill(of, manifest, body)
    next(store.folder.glob("*.safetensors")).write_bytes(b"")
    with (store.folder / feature_store.INDEX).open("ab") as index:
        index.write(b'{"path": "Grow/')
    with pytest.raises(UserError, match="of 4 of 4 videos are damaged"):
        extraction.verify(of, body, [].append, lambda items, *_: items)
    seen: list[int] = []
    fill(of, manifest, body, seen)
    assert seen == [4]


def test_a_name_that_is_not_utf8_is_kept_as_any_other(tmp_path: Path) -> None:
    """Beside one that is spelled as such bytes are written out."""
    names = ("Grow/plain é.avi", "Grow/caf\udce9.avi", "Grow/caf\\udce9.avi")
    given = [np.full((2, 2, 4), number, np.float32) for number in range(3)]
    records = [feature_store.FeatureRecord(name, "x", 9) for name in names]
    feature_store.append(tmp_path, list(zip(records, given, strict=True)))
    found = feature_store.read_index(tmp_path)
    assert [record.path for record in found] == list(names)
    for record, features in zip(found, given, strict=True):
        assert np.array_equal(feature_store.read_tensor(tmp_path, record), features)
    assert names[0] in load_file(tmp_path / found[0].shard)


def test_features_are_float32_whatever_the_runs_precision(of: Config, body: FrozenBody) -> None:
    halved = dataclasses.replace(body, backend=dataclasses.replace(body.backend, precision="bf16"))
    frames = torch.rand(5, 3, 32, 32) * 2 - 1
    assert torch.equal(halved(frames), body(frames))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(body(frames), halved(frames))


def test_a_clip_of_one_frame_has_no_differences(of: Config, body: FrozenBody) -> None:
    one = dataclasses.replace(of, clip=dataclasses.replace(of.clip, num_frames=1))
    with pytest.raises(UserError, match=r"set features\.summary=mean, or clip\.num_frames"):
        extraction.open_store(one, body)
    mean = dataclasses.replace(one, features=dataclasses.replace(of.features, summary="mean"))
    assert extraction.open_store(mean, body).length == LENGTH


def test_what_is_not_there_says_how_to_get_it(of: Config, body: FrozenBody) -> None:
    manifest = surveyed(of)
    with pytest.raises(UserError, match="bgan-video features with the run's settings adds it"):
        extraction.open_store(of, body).read(manifest.items[0])


def test_a_store_made_otherwise_is_refused(of: Config, body: FrozenBody) -> None:
    manifest = surveyed(of)
    folder = fill(of, manifest, body).folder
    made = json.loads((folder / feature_store.SETTINGS).read_text())
    with pytest.raises(UserError, match=r"made with stride=2, the settings ask for 3"):
        FeatureStore(folder, made | {"stride": 3}, "mean")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["features.body=resnet"], r"not known; allowed: efficientnet-lite0, timm:<model>"),
        (["features.body=timm:resnet18"], r"needs features\.weights"),
        (["features.weights=a.pth"], r"brings its weights; set features\.weights to null"),
    ],
)
def test_a_body_that_cannot_be(overrides: list[str], reason: str) -> None:
    features = config.load(None, overrides).features
    backend = resolve_backend(config.load(None, ["run.device=cpu"]).run, 3)
    with pytest.raises(UserError, match=reason):
        frozen_body(features, backend)


def test_the_scale_knows_training_vectors_only(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    training = torch.randn(40, 3, 6, generator=random) * torch.tensor([1, 1, 1, 50, 50, 50]) + 7
    scale = Scale.of(training, summaries=2)
    found = scale(training).flatten(0, 1)
    assert torch.allclose(found.mean(dim=0), torch.zeros(6), atol=1e-5)
    blocks = found.unflatten(1, (2, 3))
    assert torch.allclose(blocks.square().mean(dim=(0, 2)), torch.ones(2))
    # Within a summary, what varies more goes on doing so.
    wide = torch.tensor([[0.0, 0.0], [2.0, 20.0]])
    assert torch.allclose(
        Scale.of(wide, 1)(wide).std(0)[1] / Scale.of(wide, 1)(wide).std(0)[0], torch.tensor(10.0)
    )
    assert Scale.of(torch.ones(1, 2), 1)(torch.ones(3, 2)).tolist() == [[0.0, 0.0]] * 3
    flat = training.flatten(0, 1).double()
    for parts in ([flat], flat.split(7), flat[:, None]):
        of_parts = Scale.of(parts, 2)
        assert torch.allclose(of_parts.mean.double(), flat.mean(0), rtol=1e-6)
        assert torch.allclose(of_parts.spread, scale.spread, rtol=1e-6)
    scale.write(tmp_path / "scale.safetensors", "digest")
    assert Scale.weights_of(tmp_path / "scale.safetensors") == "digest"
    assert torch.equal(Scale.read(tmp_path / "scale.safetensors")(training), scale(training))
