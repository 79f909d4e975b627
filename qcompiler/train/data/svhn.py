"""SVHN's cropped digits: MATLAB files with X uint8 [32, 32, 3, N] and y [N, 1], where 10 stands for the digit 0."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from qcompiler.errors import InvalidData
from qcompiler.train.data.arrays import LARGEST_ARRAY, Array, Arrays, check_labels, find, missing
from qcompiler.train.data.download import Remote, fetch

_SITE = "http://ufldl.stanford.edu/housenumbers/"
TRAIN = Remote(
    f"{_SITE}train_32x32.mat",
    "sha256:435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    182_040_794,
)
TEST = Remote(
    f"{_SITE}test_32x32.mat",
    "sha256:cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    64_275_384,
)
CLASSES = 10
SHAPE = (32, 32, 3)
FILE_HEADER, TAG = 128, 8
COMPRESSED = 15
# One step inflates to at most 17 MB.
STEP = 2**14


def read(directory: Path | None) -> Arrays:
    """SVHN from `directory`, or downloaded."""
    paths = _local(directory) if directory else fetch("svhn", (TRAIN, TEST))
    train_images, train_labels = read_mat(paths[0], TRAIN)
    test_images, test_labels = read_mat(paths[1], TEST)
    published = TRAIN.matches(paths[0]) and TEST.matches(paths[1])
    version = "SVHN, cropped digits" if published else "SVHN format, not the published files"
    return Arrays(train_images, train_labels, test_images, test_labels, CLASSES, version)


def _local(directory: Path) -> list[Path]:
    names = (TRAIN.name, TEST.name)
    found = find(names, directory, ("svhn", "SVHN"))
    absent = [name for name in names if name not in found]
    if absent:
        raise missing("SVHN", directory, f"{' and '.join(absent)} in it or in svhn/ below it")
    return [found[name] for name in names]


def read_mat(path: Path, published: Remote) -> tuple[Array, Array]:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N], with 0 for the digit 0. Raises InvalidData."""
    remedy = f"get it anew: {published.url} has {published.size} bytes, {published.checksum}"
    try:
        _check_sizes(path)
        declared = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
        count = _count(declared, path)
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
    except InvalidData as error:
        raise InvalidData(error.message, remedy=remedy) from error
    # scipy's reader fails on damaged files with all sorts of errors, among them TypeError and its own MatReadError.
    except Exception as error:
        raise InvalidData(f"'{path}' is truncated or damaged ({error})", remedy=remedy) from error
    images: npt.NDArray[Any] = content["X"]
    labels: npt.NDArray[Any] = content["y"].reshape(-1)
    if images.shape != (*SHAPE, count) or images.dtype != np.uint8 or not ((labels >= 1) & (labels <= 10)).all():
        raise InvalidData(f"'{path}' has other arrays than its header promises", remedy=remedy)
    check_labels(labels % CLASSES, count, CLASSES, path)
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), (labels % CLASSES).astype(np.uint8)


def _count(declared: dict[str, tuple[tuple[int, ...], str]], path: Path) -> int:
    """The number of images that the file declares."""
    shape, kind = declared.get("X", ((), "absent"))
    if kind != "uint8" or len(shape) != 4 or shape[:3] != SHAPE or shape[3] * int(np.prod(SHAPE)) > LARGEST_ARRAY:
        raise InvalidData(f"'{path}': X is {kind} {list(shape)}, expected uint8 [32, 32, 3, N]")
    shape_y, kind = declared.get("y", ((), "absent"))
    if kind not in ("uint8", "uint16", "int32", "int64", "double") or shape_y not in ((shape[3], 1), (1, shape[3])):
        raise InvalidData(f"'{path}': y is {kind} {list(shape_y)}, expected numbers [{shape[3]}, 1]")
    return shape[3]


def _check_sizes(path: Path) -> None:
    """Raise InvalidData unless the file's elements end within it and unpack to a bounded size.

    A MATLAB 5 file is a header of 128 bytes and elements: type uint32, size uint32, content.
    """
    end = path.stat().st_size
    total = 0
    with path.open("rb") as file:
        header = file.read(FILE_HEADER)
        if not header.startswith(b"MATLAB 5.0") or header[126:128] not in (b"IM", b"MI"):
            raise InvalidData(f"'{path}' is not a MATLAB 5 file")
        order = "<" if header[126:128] == b"IM" else ">"
        while (tag := file.read(TAG)) and len(tag) == TAG:
            kind, size = struct.unpack(f"{order}2I", tag)
            following = file.tell() + size
            if following > end:
                raise InvalidData(f"'{path}' is truncated: {end} bytes, expected at least {following}")
            total += _unpacked(file.read(size)) if kind == COMPRESSED else size
            file.seek(following)
            if total > LARGEST_ARRAY:
                raise InvalidData(f"'{path}' unpacks to more than {LARGEST_ARRAY} bytes")


def _unpacked(packed: bytes) -> int:
    """Size that `packed` has when inflated, without keeping it; counting stops beyond the limit."""
    inflater = zlib.decompressobj()
    total = 0
    for start in range(0, len(packed), STEP):
        total += len(inflater.decompress(packed[start : start + STEP]))
        if total > LARGEST_ARRAY:
            break
    return total
