"""Image data sets, and the original's synthetic one: names, classes, splits and pixels.

Every source is read from a local folder or tar. Where torchvision can fetch the set,
`data.download=true` lets it.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bgan_video import rng
from bgan_video.data.manifest import Split
from bgan_video.errors import UserError

Array = NDArray[Any]
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
SPLITS: tuple[Split, Split] = ("train", "test")

# Pillow's decoders raise SyntaxError and ValueError for some damaged files.
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_DIGITS = tuple("0123456789")
_CIFAR10 = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]
# The four attributes whose combinations are the original's 16 classes of faces.
_FACES = ("Blond_Hair", "Eyeglasses", "Male", "Young")
_FACES_SIZE = (75_000, 10_000)
_FACE_SIDE = 108


class Entry(NamedTuple):
    """An image: its path in the set, its class and its part of the official split."""

    path: str
    label: int
    split: Split


class ImageError(Exception):
    """An image that does not decode; the message is the reason."""


class Source(Protocol):
    """An image data set."""

    @property
    def classes(self) -> Sequence[str]:
        """Names in label order."""
        ...

    @property
    def entries(self) -> Sequence[Entry]:
        """All images, in a fixed order."""
        ...

    def read(self, path: str) -> Array:
        """The image of an entry's path: uint8 `[H, W, C]`, or a float32 vector `[D]`.

        Raises:
            ImageError: It is not there, or does not decode.
        """
        ...

    def raw(self, path: str) -> bytes:
        """The image as it is stored, not decoded.

        Raises:
            ImageError: It is not there.
        """
        ...


@dataclass(frozen=True)
class Arrays:
    """A set that is read whole: one array and one label array for each split."""

    classes: Sequence[str]
    train: tuple[Array, Array]
    test: tuple[Array, Array]
    entries: list[Entry] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "entries",
            [
                Entry(f"{split}/{index:06d}", int(label), split)
                for split in SPLITS
                for index, label in enumerate(self._part(split)[1])
            ],
        )

    def read(self, path: str) -> Array:
        """See `Source.read`."""
        split, _, index = path.partition("/")
        items = self._part(split)[0]
        if not index.isdecimal() or int(index) >= len(items):
            raise ImageError("no such image")
        item = np.asarray(items[int(index)])
        return item[..., None] if item.ndim == 2 else item

    def raw(self, path: str) -> bytes:
        """See `Source.raw`."""
        return self.read(path).tobytes()

    def _part(self, split: str) -> tuple[Array, Array]:
        return self.train if split == "train" else self.test


@dataclass(frozen=True)
class Files:
    """Image files by path, in a folder or in memory out of a tar."""

    classes: Sequence[str]
    entries: Sequence[Entry]
    open: Callable[[str], IO[bytes]]

    def read(self, path: str) -> Array:
        """See `Source.read`."""
        return decode(io.BytesIO(self.raw(path)), channels=3)

    def raw(self, path: str) -> bytes:
        """See `Source.raw`."""
        try:
            with self.open(path) as file:
                return file.read()
        except (OSError, KeyError) as error:
            raise ImageError(_one_line(error)) from None


def decode(file: IO[bytes] | Path, channels: int) -> Array:
    """The pixels of an image file, `uint8 [H, W, C]`: grey with one channel, RGB with three.

    Raises:
        ImageError: It does not decode.
    """
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except _IMAGE_ERRORS as error:
        raise ImageError(_one_line(error)) from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


@lru_cache(maxsize=1)
def open_source(layout: str, root: str | None, download: bool) -> Source:
    """The image data set of a layout.

    Raises:
        UserError: Root or files are missing; says what was looked for and how to get it.
    """
    if layout == "synthetic":
        return synthetic()
    card = f"see datasets/{layout}.md"
    if root is None:
        raise UserError(f"data.root is not set: where are the images of {layout}? {card}")
    folder = Path(root)
    if download:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        raise UserError(f"data.root={root} does not exist; {card}")
    return _OPENERS[layout](folder, download)


def synthetic(num_points: int = 10_000, num_clusters: int = 10, length: int = 100) -> Arrays:
    """The original's mixture: clusters in two dimensions, each mapped linearly to `length`.

    Saatchi & Wilson 2017, section 4.1, as their code draws it: D = 100, d = 2, N = 10,000 points,
    equally many of each of 10 clusters. Centres are N(0, 5² I), points lie N(0, I) around them, and
    each cluster has a matrix of its own with entries N(0, 5²). Every entry of a vector has mean 0
    and variance 1: those of the mixture, where their code takes the sample's.
    """
    random = np.random.default_rng(rng.derive_seed("synthetic"))
    centres = 5 * random.standard_normal((num_clusters, 2))
    matrices = 5 * random.standard_normal((num_clusters, 2, length))
    means = np.einsum("kd,kdl->kl", centres, matrices)
    variances = np.square(matrices).sum(axis=1) + np.square(means)
    mean = means.mean(axis=0)
    spread = np.sqrt(variances.mean(axis=0) - np.square(mean))

    def draw(count: int) -> tuple[Array, Array]:
        labels = np.arange(count) % num_clusters
        points = centres[labels] + random.standard_normal((count, 2))
        raw = np.einsum("nd,ndl->nl", points, matrices[labels])
        return ((raw - mean) / spread).astype(np.float32), labels

    return Arrays([str(k) for k in range(num_clusters)], draw(num_points), draw(num_points // 10))


def _mnist(root: Path, download: bool) -> Source:
    if download:
        _fetch("MNIST", root, download=True)
    folders = (root / "MNIST" / "raw", root / "raw", root)
    folder = next((f for f in folders if any(f.glob("train-images-idx3-ubyte*"))), None)
    if folder is None:
        raise UserError(
            f"no train-images-idx3-ubyte or .gz in {' or '.join(map(str, folders))}; "
            f"see datasets/mnist.md, or set data.download=true"
        )
    train, test = (
        (_idx(folder, f"{part}-images-idx3-ubyte"), _idx(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    )
    return Arrays(_DIGITS, train, test)


def _idx(folder: Path, name: str) -> Array:
    """An array in LeCun's IDX format: two zeros, type, number of axes, big-endian sizes, bytes."""
    packed = folder / f"{name}.gz"
    path = packed if packed.is_file() else folder / name
    try:
        raw = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
        axes = raw[3]
        shape = np.frombuffer(raw, ">u4", count=axes, offset=4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} does not read as an IDX file: {_one_line(error)}") from None


def _cifar10(root: Path, download: bool) -> Source:
    def part(train: bool) -> tuple[Array, Array]:
        published = _fetch("CIFAR10", root, train, download=download)
        return np.asarray(published.data), np.asarray(published.targets)

    return Arrays(_CIFAR10, part(True), part(False))


def _svhn(root: Path, download: bool) -> Source:
    def part(split: str) -> tuple[Array, Array]:
        published = _fetch("SVHN", root, split, download=download)
        return np.asarray(published.data).transpose(0, 2, 3, 1), np.asarray(published.labels)

    return Arrays(_DIGITS, part("train"), part("test"))


def _celeba(root: Path, download: bool) -> Source:
    """Faces at 32×32 in the 16 classes of four attributes: 75 000 to train, 10 000 to test."""
    faces = _fetch("CelebA", root, "all", "attr", download=download)
    columns = [faces.attr_names.index(name) for name in _FACES]
    attributes = np.asarray(faces.attr)[:, columns]
    labels = attributes @ (1 << np.arange(len(_FACES)))
    folder = root / faces.base_folder / "img_align_celeba"
    ends = np.cumsum(_FACES_SIZE)
    names = faces.filename[: ends[1]]
    entries = [
        Entry(name, int(labels[i]), "train" if i < ends[0] else "test")
        for i, name in enumerate(names)
    ]
    classes = [
        "+".join(n for bit, n in enumerate(_FACES) if k >> bit & 1) or "none"
        for k in range(1 << len(_FACES))
    ]
    return _Faces(classes, entries, lambda path: (folder / path).open("rb"))


class _Faces(Files):
    """The middle of each picture, where the aligned face is."""

    def read(self, path: str) -> Array:
        face = super().read(path)
        top, left = ((side - _FACE_SIDE) // 2 for side in face.shape[:2])
        middle = face[max(0, top) :, max(0, left) :][:_FACE_SIDE, :_FACE_SIDE]
        return np.asarray(Image.fromarray(middle).resize((32, 32), Image.Resampling.BOX))


def _image_folder(root: Path, _download: bool) -> Source:
    """`train/<class>/*` and `test/<class>/*`, in a folder or a tar, at any depth."""
    if root.is_dir():
        files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
        return _by_folder(root, sorted(files), lambda path: files[path].open("rb"))
    try:
        with tarfile.open(root) as tar:
            # A compressed tar has no random access, and images are small.
            packed = {m.name: _bytes(tar, m) for m in tar if m.isfile() and _is_image(m.name)}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"data.root={root} is no folder and does not read as a tar: {_one_line(error)}"
        ) from None
    return _by_folder(root, sorted(packed), lambda path: io.BytesIO(packed[path]))


def _by_folder(root: Path, paths: Sequence[str], open_file: Callable[[str], IO[bytes]]) -> Source:
    pattern = re.compile(r"(?:^|/)(train|test)/([^/]+)/[^/]+$")
    matches = [(p, m) for p in paths if _is_image(p) and (m := pattern.search(p))]
    classes = sorted({m[2] for _, m in matches})
    if not matches:
        raise UserError(
            f"data.root={root} holds no train/<class>/* or test/<class>/* with a suffix of "
            f"{' '.join(SUFFIXES)}; see datasets/image_folder.md"
        )
    number = {name: k for k, name in enumerate(classes)}
    entries = [Entry(p, number[m[2]], "train" if m[1] == "train" else "test") for p, m in matches]
    return Files(classes, entries, open_file)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "a plain file has content"
    return file.read()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _fetch(name: str, root: Path, *given: Any, download: bool) -> Any:
    """What a data set of torchvision makes of a root, its complaints in one line."""
    # Here: it takes seconds, and nothing else of a data set needs it.
    import torchvision  # pyright: ignore[reportMissingTypeStubs]

    layout = name.lower()
    try:
        return getattr(torchvision.datasets, name)(root, *given, download=download)
    except (RuntimeError, OSError, ImportError) as error:
        raise UserError(
            f"data.root={root} does not serve {layout}: {_one_line(error)}; "
            f"see datasets/{layout}.md, or set data.download=true where there is a network"
        ) from None


_OPENERS: dict[str, Callable[[Path, bool], Source]] = {
    "mnist": _mnist,
    "cifar10": _cifar10,
    "svhn": _svhn,
    "celeba": _celeba,
    "image_folder": _image_folder,
}
