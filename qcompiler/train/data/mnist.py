"""MNIST, and what has its format: gzipped IDX files, big-endian sizes followed by bytes."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompiler.errors import InvalidData
from qcompiler.train.data.arrays import (
    LARGEST_ARRAY,
    LARGEST_EXPANSION,
    Array,
    Arrays,
    check_labels,
    find,
    missing,
)
from qcompiler.train.data.download import Remote, fetch

CLASSES = 10


@dataclass(frozen=True)
class IdxFile:
    """One of the four files; `md5` is of its content, which does not depend on how it was compressed."""

    remote: Remote
    axes: int
    md5: str


@dataclass(frozen=True)
class IdxSet:
    """A data set; `directories` are names under which its files may lie in a data directory."""

    title: str
    directories: tuple[str, ...]
    files: tuple[IdxFile, ...]


def _file(site: str, name: str, size: int, checksum: str, md5: str) -> IdxFile:
    return IdxFile(Remote(f"{site}/{name}-ubyte.gz", checksum, size), int(name[-1]), md5)


_MNIST_SITE = "https://storage.googleapis.com/cvdf-datasets/mnist"
MNIST = IdxSet(
    "MNIST",
    ("mnist", "MNIST/raw"),
    (
        _file(
            _MNIST_SITE,
            "train-images-idx3",
            9_912_422,
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "6bbc9ace898e44ae57da46a324031adb",
        ),
        _file(
            _MNIST_SITE,
            "train-labels-idx1",
            28_881,
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "a25bea736e30d166cdddb491f175f624",
        ),
        _file(
            _MNIST_SITE,
            "t10k-images-idx3",
            1_648_877,
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "2646ac647ad5339dbf082846283269ea",
        ),
        _file(
            _MNIST_SITE,
            "t10k-labels-idx1",
            4_542,
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    ),
)

_FASHION_SITE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
FASHION = IdxSet(
    "Fashion-MNIST",
    ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    (
        _file(
            _FASHION_SITE,
            "train-images-idx3",
            26_421_880,
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        ),
        _file(
            _FASHION_SITE,
            "train-labels-idx1",
            29_515,
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "9018921c3c673c538a1fc5bad174d6f9",
        ),
        _file(
            _FASHION_SITE,
            "t10k-images-idx3",
            4_422_102,
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "8181f5470baa50b63fa0f6fddb340f0a",
        ),
        _file(
            _FASHION_SITE,
            "t10k-labels-idx1",
            5_148,
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
)


def read(kind: IdxSet, directory: Path | None) -> Arrays:
    """The four files from `directory`, or downloaded. `version` says whether they are the published ones."""
    remotes = [file.remote for file in kind.files]
    paths = _local(kind, directory) if directory else fetch(kind.directories[0], remotes)
    loaded = [read_idx(path, file) for path, file in zip(paths, kind.files, strict=True)]
    train_images, train_labels, test_images, test_labels = (array for array, _ in loaded)
    check_labels(train_labels, len(train_images), CLASSES, paths[1])
    check_labels(test_labels, len(test_images), CLASSES, paths[3])
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = f"{list(train_images.shape[1:])} and {list(test_images.shape[1:])}"
        raise InvalidData(f"'{paths[0]}' and '{paths[2]}' have images of different sizes, {sizes}")
    published = [digest for _, digest in loaded] == [file.md5 for file in kind.files]
    return Arrays(
        train_images[:, None],
        train_labels,
        test_images[:, None],
        test_labels,
        CLASSES,
        kind.title if published else f"{kind.title} format, not the published files",
    )


def _local(kind: IdxSet, directory: Path) -> list[Path]:
    names = tuple(file.remote.name for file in kind.files)
    found = find(names, directory, kind.directories)
    absent = [name for name in names if name not in found]
    if absent:
        raise missing(kind.title, directory, f"{', '.join(absent)} in it or in {kind.directories[0]}/ below it")
    return [found[name] for name in names]


def read_idx(path: Path, published: IdxFile) -> tuple[Array, str]:
    """A gzipped IDX file of bytes as (uint8 array, md5 of its content).

    The sizes in the header are compared with the size of the file before memory is taken. Raises InvalidData, with
    the size and the checksum of the published file.
    """
    remote = published.remote
    remedy = f"get it anew: {remote.url} has {remote.size} bytes, {remote.checksum}"
    try:
        with gzip.open(path, "rb") as file:
            header = file.read(4 + 4 * published.axes)
            shape = _shape(header, published.axes, path)
            size = math.prod(shape)
            if size > min(LARGEST_ARRAY, LARGEST_EXPANSION * path.stat().st_size):
                raise InvalidData(f"'{path}' promises {size} bytes, more than it can hold")
            body = file.read(size + 1)
        if len(body) != size:
            found = "more" if len(body) > size else str(len(body))
            raise InvalidData(f"'{path}' has {found} bytes after its header, expected {size}")
    except InvalidData as error:
        raise InvalidData(error.message, remedy=remedy) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidData(f"'{path}' is truncated or damaged ({error})", remedy=remedy) from error
    digest = hashlib.md5(header + body, usedforsecurity=False).hexdigest()
    return np.frombuffer(bytearray(body), np.uint8).reshape(shape), digest


def _shape(header: bytes, axes: int, path: Path) -> tuple[int, ...]:
    # Two zero bytes, 8 for unsigned bytes, the number of axes
    if len(header) != 4 + 4 * axes or header[:4] != bytes((0, 0, 8, axes)):
        raise InvalidData(f"'{path}' is not an IDX file of bytes with {axes} axes")
    return struct.unpack(f">{axes}I", header[4:])
