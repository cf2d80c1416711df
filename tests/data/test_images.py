"""Image data sets: what each source reads, and how it refuses what it cannot read."""

from __future__ import annotations

import gzip
import io
import pickle
import sys
import tarfile
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from bgan_video import config
from bgan_video.config import Config
from bgan_video.data import frames, images, layouts, splits, transforms
from bgan_video.data.frames import Frames
from bgan_video.data.images import Entry, ImageError, Source
from bgan_video.data.manifest import Manifest
from bgan_video.errors import UserError

CARDS = Path(__file__).parents[2] / "datasets"
ON_DISK = ("mnist", "cifar10", "svhn", "celeba", "image_folder")
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _every_test_opens_anew() -> Iterator[None]:
    images.open_source.cache_clear()
    yield
    images.open_source.cache_clear()


@pytest.fixture(name="unchecked")
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision knows the published files by their MD5; ours are smaller."""
    for module in ("cifar", "svhn", "celeba"):
        name = f"torchvision.datasets.{module}.check_integrity"
        monkeypatch.setattr(name, lambda path, md5=None: Path(path).is_file())


def opened(layout: str, root: Path | str | None) -> Source:
    return images.open_source(layout, None if root is None else str(root), False)


def refusal(layout: str, root: Path | str | None) -> str:
    with pytest.raises(UserError) as caught:
        opened(layout, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, np.uint8)


def splits_and_labels(source: Source) -> list[tuple[str, int]]:
    return [(entry.split, entry.label) for entry in source.entries]


def settings(layout: str, root: Path | str | None, *overrides: str) -> Config:
    of_one_frame = ["clip.num_frames=1", "clip.stride=1", "clip.test_clips=1", "clip.size=8"]
    where = [f"data.layout={layout}", *([] if root is None else [f"data.root={root}"])]
    return config.load(None, [*of_one_frame, *where, *overrides])


def manifest(c: Config) -> Manifest:
    return splits.split(layouts.read(c.data), c.data, first_labels=c.compat.first_labels)


# --- MNIST -------------------------------------------------------------------------------------

TRAIN, TEST = pixels(5, 9, 7), pixels(3, 9, 7)
TRAIN_LABELS, TEST_LABELS = [4, 0, 9, 1, 1], [7, 2, 4]


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in LeCun's format: magic number, big-endian sizes, bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 0x08, array.ndim]) + sizes + array.tobytes()


def write_mnist(folder: Path, packed: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (x, y) in {"train": (TRAIN, TRAIN_LABELS), "t10k": (TEST, TEST_LABELS)}.items():
        named = {"images-idx3-ubyte": x, "labels-idx1-ubyte": np.array(y, np.uint8)}
        for name, array in named.items():
            raw, file = idx(array), folder / f"{part}-{name}"
            if packed:
                file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(raw))
            else:
                file.write_bytes(raw)
    return folder


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
def test_mnist_is_read_from_idx_files(tmp_path: Path, inside: str, packed: bool) -> None:
    write_mnist(tmp_path / inside, packed)
    source = opened("mnist", tmp_path)
    assert list(source.classes) == list("0123456789")
    expected = [("train", k) for k in TRAIN_LABELS] + [("test", k) for k in TEST_LABELS]
    assert splits_and_labels(source) == expected
    for entry, image in zip(source.entries, [*TRAIN, *TEST], strict=True):
        assert np.array_equal(source.read(entry.path), image[:, :, None])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, empty, Path.unlink])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_an_idx_file_that_does_not_read_is_named(
    tmp_path: Path, spoil: Callable[[Path], None], packed: bool
) -> None:
    write_mnist(tmp_path, packed)
    name = "t10k-labels-idx1-ubyte" + ".gz" * packed
    spoil(tmp_path / name)
    message = refusal("mnist", tmp_path)
    assert str(tmp_path / name.removesuffix(".gz")) in message
    assert "IDX" in message


def broken_in_the_middle(raw: bytes) -> bytes:
    """A gzip file whose second half begins with a block of no known type."""
    content = gzip.decompress(raw)
    packer = zlib.compressobj(wbits=31)  # with gzip's header
    whole = packer.compress(content[: len(content) // 2]) + packer.flush(zlib.Z_FULL_FLUSH)
    return whole + b"\xff" * 64


def test_a_gzip_file_broken_in_the_middle_is_named(tmp_path: Path) -> None:
    file = write_mnist(tmp_path, packed=True) / "train-images-idx3-ubyte.gz"
    file.write_bytes(broken_in_the_middle(file.read_bytes()))
    assert file.name in refusal("mnist", tmp_path)


# --- what torchvision reads --------------------------------------------------------------------

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR_CLASSES += ["dog", "frog", "horse", "ship", "truck"]


def write_cifar10(root: Path) -> tuple[np.ndarray, list[int]]:
    """Batches as they are published: rows of 3072 bytes, red, green, blue; six images in all."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    x, labels = pixels(6, 3, 32, 32), [6, 9, 9, 4, 1, 0]
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, image, label in zip(names, x, labels, strict=True):
        batch = {"data": image.reshape(1, -1), "labels": [label], "filenames": ["x.png"]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": CIFAR_CLASSES, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return x.transpose(0, 2, 3, 1), labels


@pytest.mark.usefixtures("unchecked")
def test_cifar10_is_read_from_its_batches(tmp_path: Path) -> None:
    x, labels = write_cifar10(tmp_path)
    source = opened("cifar10", tmp_path)
    assert list(source.classes) == CIFAR_CLASSES
    parts = ["train"] * 5 + ["test"]
    assert splits_and_labels(source) == list(zip(parts, labels, strict=True))
    for entry, image in zip(source.entries, x, strict=True):
        assert np.array_equal(source.read(entry.path), image)


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of the shapes and labels in the published .mat files, and a loader for them."""
    x, y = pixels(32, 32, 3, 4), np.array([[10], [3], [1], [10]])
    for split in ("train", "test"):
        with (root / f"{split}_32x32.mat").open("wb") as file:
            np.savez(file, X=x, y=y)
    reader: Any = types.ModuleType("scipy.io")
    reader.loadmat = lambda path: dict(np.load(path))
    scipy: Any = types.ModuleType("scipy")
    scipy.io = reader
    monkeypatch.setitem(sys.modules, "scipy", scipy)
    monkeypatch.setitem(sys.modules, "scipy.io", reader)
    return x, y


@pytest.mark.usefixtures("unchecked")
def test_svhn_calls_its_tens_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = write_svhn(tmp_path, monkeypatch)
    source = opened("svhn", tmp_path)
    assert list(source.classes) == list("0123456789")
    labels = [0, 3, 1, 0]
    assert splits_and_labels(source) == [(s, k) for s in ("train", "test") for k in labels]
    for entry, image in zip(source.entries[:4], np.moveaxis(x, -1, 0), strict=True):
        assert np.array_equal(source.read(entry.path), image)


@pytest.mark.usefixtures("unchecked")
def test_svhn_without_its_reader_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    assert "scipy" in refusal("svhn", tmp_path)


FACES = ["Bald", "Blond_Hair", "Eyeglasses", "Male", "Smiling", "Young"]


def write_celeba(root: Path, attributes: list[list[int]]) -> None:
    """The published tables, and pictures that are red in the middle 108×108 and black around."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, len(attributes) + 1)]
    picture = np.zeros((218, 178, 3), np.uint8)
    picture[55:163, 35:143] = (255, 0, 0)
    for name in names:
        # In the published set they are JPEG, whose colours are not exact.
        Image.fromarray(picture).save(folder / "img_align_celeba" / name, format="PNG")

    def table(name: str, header: list[str], rows: list[list[int]]) -> None:
        lines = [" ".join([n, *map(str, row)]) for n, row in zip(names, rows, strict=True)]
        above = [str(len(rows)), " ".join(header)] if header else []
        (folder / name).write_text("\n".join([*above, *lines]) + "\n")

    table("list_attr_celeba.txt", FACES, attributes)
    table("list_bbox_celeba.txt", ["x"], [[0] for _ in names])
    table("list_landmarks_align_celeba.txt", ["x"], [[0] for _ in names])
    table("identity_CelebA.txt", [], [[1] for _ in names])
    table("list_eval_partition.txt", [], [[2] for _ in names])


@pytest.mark.usefixtures("unchecked")
def test_faces_are_the_middle_and_their_class_four_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bald and Smiling are no part of the class.
    attributes = [
        [1, -1, -1, -1, 1, -1],
        [-1, 1, -1, -1, -1, -1],
        [1, -1, 1, 1, -1, -1],
        [-1, 1, 1, 1, 1, 1],
        [-1, -1, -1, -1, -1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    write_celeba(tmp_path, attributes)
    monkeypatch.setattr(images, "_FACES_SIZE", (3, 2))  # and one picture more, which is left out
    source = opened("celeba", tmp_path)
    assert len(source.classes) == 16
    assert source.classes[0] == "none"
    assert source.classes[1 + 4] == "Blond_Hair+Male"
    expected = [("train", 0), ("train", 1), ("train", 2 + 4), ("test", 15), ("test", 8)]
    assert splits_and_labels(source) == expected
    face = source.read(source.entries[0].path)
    assert face.shape == (32, 32, 3)
    assert (face == (255, 0, 0)).all()


# --- folders and tars --------------------------------------------------------------------------

CLASSES = {"b": 3, "a": 2}


def png(image: Image.Image | np.ndarray) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG")
    return file.getvalue()


def write_files(root: Path, inside: str = "", num_train: int = 1) -> dict[str, np.ndarray]:
    """Pixels by path in the set: classes a and b, of several images each."""
    written = {
        f"{inside}{split}/{name}/{i}.png": pixels(8, 10, 3)
        for split, times in (("train", num_train), ("test", 1))
        for name, count in CLASSES.items()
        for i in range(count * times)
    }
    for path, image in written.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    (root / "notes.txt").write_text("no image")
    return written


def as_tree(root: Path) -> Path:
    return root


def as_tar(root: Path) -> Path:
    return packed(root, "w")


def as_tar_gz(root: Path) -> Path:
    return packed(root, "w:gz")


def packed(root: Path, mode: Any) -> Path:
    file = root.with_name("set.bin")
    with tarfile.open(file, mode) as tar:
        tar.add(root, ".")
    return file


@pytest.mark.parametrize("pack", [as_tree, as_tar, as_tar_gz])
@pytest.mark.parametrize("inside", ["", "cifar/", "a/b/"])
def test_an_image_folder_is_read_as_a_tree_or_a_tar(
    tmp_path: Path, pack: Callable[[Path], Path], inside: str
) -> None:
    written = write_files(tmp_path / "set", inside)
    source = opened("image_folder", pack(tmp_path / "set"))
    assert list(source.classes) == ["a", "b"]
    found = {entry.path.removeprefix("./"): entry for entry in source.entries}
    assert set(found) == set(written)
    for path, image in written.items():
        split, name, _ = path.removeprefix(inside).split("/")
        entry = found[path]
        assert (entry.split, entry.label) == (split, "ab".index(name))
        assert np.array_equal(source.read(entry.path), image)


def test_a_class_may_be_in_one_split_only(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "c" / "X.PNG").write_bytes(png(pixels(8, 8, 3)))
    source = opened("image_folder", tmp_path)
    assert list(source.classes) == ["a", "b", "c"]
    assert Counter(e.label for e in source.entries if e.split == "train") == {0: 2, 1: 3, 2: 1}


COLOURS = np.array([[[250, 10, 20], [0, 128, 255]]], np.uint8).repeat(8, 0).repeat(8, 1)
MODES: dict[str, Callable[[], tuple[Image.Image, np.ndarray]]] = {}


def mode(make: Callable[[], tuple[Image.Image, np.ndarray]]) -> Any:
    """An image of some mode, and the RGB it stands for."""
    MODES[make.__name__] = make
    return make


@mode
def greyscale() -> tuple[Image.Image, np.ndarray]:
    grey = COLOURS[..., 0]
    return Image.fromarray(grey), grey[..., None].repeat(3, -1)


@mode
def with_alpha() -> tuple[Image.Image, np.ndarray]:
    alpha = np.full((*COLOURS.shape[:2], 1), 200, np.uint8)
    return Image.fromarray(np.concatenate([COLOURS, alpha], -1)), COLOURS


@mode
def palette() -> tuple[Image.Image, np.ndarray]:
    image = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    assert image.mode == "P"
    return image, COLOURS


@mode
def black_and_white() -> tuple[Image.Image, np.ndarray]:
    lit = COLOURS[..., 0] > 128
    return Image.fromarray(lit), (lit[..., None] * 255).repeat(3, -1)


@pytest.mark.parametrize("name", MODES)
def test_every_image_is_read_in_colour(tmp_path: Path, name: str) -> None:
    image, colours = MODES[name]()
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "train" / "a" / "x.png").write_bytes(png(image))
    read = opened("image_folder", tmp_path).read("train/a/x.png")
    assert read.dtype == np.uint8
    assert np.array_equal(read, colours)


def truncated(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def of_text(_: bytes) -> bytes:
    return b"no image at all"


def with_a_wrong_length(raw: bytes) -> bytes:
    """The data chunk says it is empty, so that what follows it is no chunk."""
    at = raw.index(b"IDAT")
    return raw[: at - 4] + bytes(4) + raw[at:]


def without_half_of_its_header(raw: bytes) -> bytes:
    at = raw.index(b"IHDR")
    return raw[: at - 4] + (5).to_bytes(4, "big") + raw[at : at + 9] + bytes(4) + raw[at + 17 :]


def nothing(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    "spoil",
    [
        nothing,
        of_text,
        truncated,
        with_a_wrong_length,
        without_half_of_its_header,
    ],
)
def test_an_unreadable_image_is_left_out_by_name(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    written = write_files(tmp_path)
    victim = "train/b/1.png"
    (tmp_path / victim).write_bytes(spoil(png(written[victim])))
    for allowed in (0, 1):
        c = settings("image_folder", tmp_path, f"data.max_broken={allowed}")
        listed = layouts.read(c.data)
        store = Frames(listed.root, c)
        if not allowed:
            with pytest.raises(UserError, match=victim):
                frames.survey(listed, store, c)
            continue
        readable, broken = frames.survey(listed, store, c)
        assert [b.path for b in broken] == [victim]
        assert broken[0].reason
        assert victim not in {item.path for item in readable.items}
        assert len(readable.items) == len(written) - 1
        assert all(item.num_frames == 1 for item in readable.items)


def test_an_image_that_changed_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    write_files(tmp_path)
    c = settings("image_folder", tmp_path)
    listed = layouts.read(c.data)
    store = Frames(listed.root, c)
    item = store.survey(listed.items[0])
    store.check(item)
    (tmp_path / item.path).write_bytes(png(pixels(8, 10, 3)))
    with pytest.raises(UserError, match=item.path):
        store.check(item)


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_frames_of_an_image_are_the_image(tmp_path: Path, cache_mib: int) -> None:
    written = write_files(tmp_path)
    c = settings("image_folder", tmp_path, f"data.cache_mib={cache_mib}")
    store = Frames(str(tmp_path), c)
    for item in layouts.read(c.data).items:
        read = store.read(store.survey(item), [0, 0])
        assert np.array_equal(read, np.stack([written[item.path]] * 2))


# --- wrong roots -------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ON_DISK)
def test_a_missing_root_names_the_card(layout: str, tmp_path: Path) -> None:
    for root, said in ((None, "data.root is not set"), (tmp_path / "none", "none does not exist")):
        message = refusal(layout, root)
        assert said in message
        assert f"datasets/{layout}.md" in message


@pytest.mark.parametrize("layout", ON_DISK)
def test_every_card_is_there(layout: str) -> None:
    assert (CARDS / f"{layout}.md").is_file()


@pytest.mark.parametrize(
    ("layout", "looked_for"),
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("cifar10", "not found"),
        ("svhn", "not found"),
        ("celeba", "not found"),
        ("image_folder", "train/<class>/*"),
    ],
)
def test_an_empty_root_says_what_was_looked_for(
    layout: str, looked_for: str, tmp_path: Path
) -> None:
    message = refusal(layout, tmp_path)
    assert str(tmp_path) in message
    assert looked_for in message
    assert f"datasets/{layout}.md" in message


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        broken_in_the_middle,
        of_text,
    ],
)
def test_a_tar_that_is_broken_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    folder = tmp_path / "set" / "train" / "a"
    folder.mkdir(parents=True)
    (folder / "x.png").write_bytes(png(pixels(64, 64, 3)))  # the middle of the tar
    file = as_tar_gz(tmp_path / "set")
    file.write_bytes(spoil(file.read_bytes()))
    message = refusal("image_folder", file)
    assert str(file) in message
    assert "does not read as a tar" in message


def test_a_path_that_is_not_in_the_set_is_an_error_of_that_image(tmp_path: Path) -> None:
    write_files(tmp_path / "set")
    write_mnist(tmp_path / "mnist", packed=False)
    sources = [
        opened("image_folder", tmp_path / "set"),
        opened("image_folder", as_tar(tmp_path / "set")),
        opened("mnist", tmp_path / "mnist"),
        opened("synthetic", None),
    ]
    for source in sources:
        for path in ("train/a/none.png", "train/999999", "-1"):
            with pytest.raises(ImageError):
                source.read(path)


# --- the synthetic set -------------------------------------------------------------------------


def points(source: Source, split: str) -> tuple[np.ndarray, np.ndarray]:
    entries: list[Entry] = [e for e in source.entries if e.split == split]
    x = np.stack([source.read(e.path) for e in entries])
    return x, np.array([e.label for e in entries])


def test_the_synthetic_set_has_the_originals_size_and_is_the_same_every_time() -> None:
    source = opened("synthetic", None)
    x, y = points(source, "train")
    assert (x.shape, x.dtype) == ((10_000, 100), np.float32)
    assert points(source, "test")[0].shape == (1000, 100)
    assert len(source.classes) == 10
    # 1,000 a class expected, of standard deviation 30: 5 of them.
    assert all(abs(n - 1000) < 150 for n in np.bincount(y, minlength=10))
    np.random.default_rng(5).random(7)
    again, labels = points(images.synthetic(), "train")
    assert np.array_equal(x, again)
    assert np.array_equal(y, labels)


def test_every_entry_of_the_synthetic_set_is_standardised() -> None:
    x, _ = points(opened("synthetic", None), "train")
    # 10,000 points know a mean to a hundredth of a deviation; 5 of it.
    assert np.abs(x.mean(axis=0)).max() < 0.05
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.05)


def test_each_cluster_of_the_synthetic_set_lies_round_in_a_plane_of_its_own() -> None:
    source = opened("synthetic", None)
    x, y = points(source, "train")
    unseen, of = points(source, "test")
    assert np.bincount(y).tolist() == [1000] * 10
    planes: list[np.ndarray] = []
    for k in range(10):
        inside = np.concatenate([x[y == k], unseen[of == k]]).astype(np.float64)
        inside = inside - inside.mean(axis=0)
        scale, axes = np.linalg.svd(inside, full_matrices=False)[1:]
        assert scale[2] < 1e-5 * scale[1], "training and test points lie in one plane"
        planes.append(axes[:2])
    # Between the planes of two clusters lies a right angle, nearly: 100 dimensions are many.
    overlap = np.linalg.svd(planes[0] @ planes[1].T, compute_uv=False)
    assert overlap.max() < 0.5


# --- labels ------------------------------------------------------------------------------------


def labelled(c: Config) -> list[str]:
    return [item.path for item in manifest(c).labelled]


def test_the_first_labels_are_the_first_images_whatever_their_class(tmp_path: Path) -> None:
    write_files(tmp_path, num_train=4)
    six = ["data.num_labelled=6", "data.validation_fraction=0"]
    balanced = manifest(settings("image_folder", tmp_path, *six)).labelled
    assert Counter(item.label for item in balanced) == {0: 3, 1: 3}
    first = settings("image_folder", tmp_path, *six, "compat.first_labels=true")
    training = [item.path for item in manifest(first).part("train")]
    assert len(training) == 20
    assert labelled(first) == training[:6] == [f"train/a/{i}.png" for i in range(6)]
    seeded = ["compat.first_labels=true", "data.label_seed=3"]
    assert labelled(settings("image_folder", tmp_path, *six, *seeded)) == labelled(first)


@pytest.mark.parametrize("labels", ["labels_per_class=2", "num_labelled=0", "num_labelled=null"])
def test_first_labels_need_a_number(labels: str) -> None:
    with pytest.raises(UserError, match=r"compat\.first_labels needs data\.num_labelled"):
        settings(
            "image_folder",
            "somewhere",
            f"data.{labels}",
            "compat.first_labels=true",
            "baseline.methods=[bayesian_gan]",
        )


def test_no_label_at_all_is_a_choice(tmp_path: Path) -> None:
    write_files(tmp_path)
    more = ["data.num_labelled=0", "baseline.methods=[bayesian_gan]"]
    found = manifest(settings("image_folder", tmp_path, *more))
    assert found.labelled == ()
    assert found.num_classes == 2
    assert len(found.part("train")) > 0


def test_refusals_call_images_images(tmp_path: Path) -> None:
    write_files(tmp_path)
    for labels in ("labels_per_class=999", "num_labelled=999"):
        with pytest.raises(UserError, match="training images"):
            manifest(settings("image_folder", tmp_path, f"data.{labels}"))
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"no image")
    c = settings("image_folder", tmp_path)
    found = manifest(c)
    with pytest.raises(UserError, match=r"broken image .*leave such images out"):
        frames.survey(found, Frames(found.root, c), c)


# --- views -------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [1, 3])
def test_a_view_of_an_image_has_no_time(colours: int, tmp_path: Path) -> None:
    c = settings("cifar10" if colours == 3 else "mnist", tmp_path, "augment.color=0.4")
    image = pixels(1, 12, 10, colours)
    for view in (transforms.weak_view(c), transforms.strong_view(c)):
        x = view(image, np.random.default_rng(0))
        assert (x.shape, x.dtype) == ((colours, 8, 8), torch.float32)
        assert x.abs().max() <= 1


def test_a_test_view_of_an_image_shows_all_of_it() -> None:
    c = settings("cifar10", "somewhere")
    assert c.load_size == c.clip.size == 8
    image = pixels(1, 8, 8, 3)
    x = transforms.test_view(image, 8, c.load_size, "centre", 2)
    expected = torch.from_numpy(image[0].transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1
    torch.testing.assert_close(x, expected)


def test_an_image_and_a_still_clip_are_seen_alike() -> None:
    video = config.load(None, ["clip.size=8", "clip.num_frames=1"])
    image = pixels(1, 12, 10, 3)
    for make in (transforms.weak_view, transforms.strong_view):
        of_image, of_clip = (
            make(c)(image, np.random.default_rng(3)) for c in (settings("cifar10", "x"), video)
        )
        assert torch.equal(of_image, of_clip[:, 0])


def test_a_vector_is_its_own_view() -> None:
    c = settings("synthetic", None)
    vector = RANDOM.standard_normal((1, 100)).astype(np.float32) * 40
    views = [transforms.weak_view(c)(vector, RANDOM), transforms.strong_view(c)(vector, RANDOM)]
    for x in [*views, transforms.test_view(vector, 8, 8, "centre", 0)]:
        assert torch.equal(x, torch.from_numpy(vector[0]))


def test_downloads_are_torchvisions_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, bool]] = []

    def refuses(root: Path, train: bool, download: bool) -> None:
        asked.append((root, download))
        raise RuntimeError("no network\nhere")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", refuses)
    with pytest.raises(UserError, match="no network here") as caught:
        images.open_source("cifar10", str(tmp_path / "new"), True)
    assert "\n" not in str(caught.value)
    assert asked == [(tmp_path / "new", True)]
