"""CIFAR-10: the official binary version (never the pickled one), or the same images as JPEG in an .npz file."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from qcompiler.bundle.tensors import read_npz
from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.data.arrays import LARGEST_EXPANSION, Array, Arrays, check_labels, find, missing
from qcompiler.train.data.download import Remote, fetch

ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
PACKS = ("cifar10_jpegpack_train.npz", "cifar10_jpegpack_test.npz")
CLASSES = 10
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
# The archive unpacks to 184 MB, the JPEG arrays to 18 MB.
LARGEST_ARCHIVE = 200 * 2**20
LARGEST_PACK = 64 * 2**20


def read(directory: Path | None) -> Arrays:
    """CIFAR-10 from `directory`, or downloaded: the archive, its unpacked files, or the JPEG version, in this order."""
    if directory is None:
        return _from_archive(*fetch("cifar10", [ARCHIVE]))
    found = find((ARCHIVE.name, f"{FOLDER}/{TEST}", *PACKS, "cifar-10-python.tar.gz"), directory, ("cifar10",))
    if ARCHIVE.name in found:
        return _from_archive(found[ARCHIVE.name])
    if f"{FOLDER}/{TEST}" in found:
        return _from_folder(found[f"{FOLDER}/{TEST}"].parent)
    if all(pack in found for pack in PACKS):
        return _from_packs([found[pack] for pack in PACKS])
    if "cifar-10-python.tar.gz" in found:
        raise UsageError(
            f"'{found['cifar-10-python.tar.gz']}' is the pickled version, which could run any code and is not read",
            remedy=f"get the binary version, {ARCHIVE.url}",
        )
    raise missing("CIFAR-10", directory, f"{ARCHIVE.name}, {FOLDER}/, or {' and '.join(PACKS)}, in it or in cifar10/")


def _from_archive(path: Path) -> Arrays:
    """From the .tar.gz file, without unpacking anything onto the disk."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(LARGEST_ARCHIVE + 1)
        if len(content) > LARGEST_ARCHIVE:
            raise InvalidData(f"'{path}' unpacks to more than {LARGEST_ARCHIVE} bytes", remedy=_remedy())
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            batches = {name: _member(archive, f"{FOLDER}/{name}") for name in (*TRAIN, TEST)}
    except KeyError as error:
        raise InvalidData(f"'{path}' lacks a file: {error.args[0]}", remedy=_remedy()) from error
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InvalidData(f"'{path}' is truncated or damaged ({error})", remedy=_remedy()) from error
    return _from_batches(batches, path)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"'{name}' is not a file")
    return file.read()


def _from_folder(folder: Path) -> Arrays:
    limit = LARGEST_ARCHIVE // 6
    batches = {}
    for name in (*TRAIN, TEST):
        try:
            with (folder / name).open("rb") as file:
                batches[name] = file.read(limit + 1)
        except OSError as error:
            raise InvalidData(f"cannot read '{folder / name}' ({error.strerror})", remedy=_remedy()) from error
        if len(batches[name]) > limit:
            raise InvalidData(f"'{folder / name}' has more than {limit} bytes", remedy=_remedy())
    return _from_batches(batches, folder)


def _from_batches(batches: dict[str, bytes], path: Path) -> Arrays:
    """From the records of a label byte and 3072 pixels, channels first."""
    for name, content in batches.items():
        if len(content) % RECORD:
            raise InvalidData(
                f"'{path}': {name} has {len(content)} bytes, expected a multiple of {RECORD}", remedy=_remedy()
            )
    train = _records(b"".join(batches[name] for name in TRAIN))
    test = _records(batches[TEST])
    for labels, images in (train, test):
        check_labels(labels, len(images), CLASSES, path)
    published = len(train[0]) == 50_000 and len(test[0]) == 10_000
    return Arrays(
        train[1], train[0], test[1], test[0], CLASSES, "CIFAR-10" if published else "CIFAR-10 format, another selection"
    )


def _records(content: bytes) -> tuple[Array, Array]:
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return records[:, 0].copy(), records[:, 1:].reshape(-1, *SHAPE).copy()


def _from_packs(paths: list[Path]) -> Arrays:
    train_images, train_labels = read_pack(paths[0])
    test_images, test_labels = read_pack(paths[1])
    return Arrays(train_images, train_labels, test_images, test_labels, CLASSES, "CIFAR-10, JPEG version")


def read_pack(path: Path) -> tuple[Array, Array]:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] from a pack of JPEG files that share their header.

    Its arrays: header uint8 [bytes], body uint8 [bytes], offsets uint32 [N + 1], labels uint8 [N]; image i is the
    file header + body[offsets[i]:offsets[i + 1]]. Raises InvalidData.
    """
    try:
        arrays = read_npz(path, limit=min(LARGEST_PACK, LARGEST_EXPANSION * path.stat().st_size))
    except UsageError as error:
        raise InvalidData(f"{error.message}, expected a pack of JPEG files", remedy="get the file anew") from error
    names = ("header", "body", "offsets", "labels")
    header, body, offsets, labels = (_pack_array(arrays, name, path) for name in names)
    check_labels(labels, len(offsets) - 1, CLASSES, path)
    if offsets[0] != 0 or offsets[-1] != len(body) or (offsets[1:] < offsets[:-1]).any():
        raise InvalidData(f"'{path}': offsets do not divide the {len(body)} bytes of body", remedy="get it anew")
    images = np.empty((len(labels), *SHAPE), np.uint8)
    start = header.tobytes()
    for index, (first, last) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        images[index] = _decode(start + body[first:last].tobytes(), index, path)
    return images, labels


def _pack_array(arrays: dict[str, npt.NDArray[Any]], name: str, path: Path) -> npt.NDArray[Any]:
    dtype = "uint32" if name == "offsets" else "uint8"
    array = arrays.get(name)
    if array is None or array.ndim != 1 or array.dtype != dtype or not array.size:
        found = "none" if array is None else f"{array.dtype} {list(array.shape)}"
        raise InvalidData(f"'{path}': array '{name}' is {found}, expected {dtype} of one axis", remedy="wrong file?")
    return array


def _decode(content: bytes, index: int, path: Path) -> Array:
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            if image.size != SHAPE[1:]:
                raise InvalidData(f"'{path}': image {index} has size {image.size}, expected (32, 32)")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidData(f"'{path}': image {index} is damaged ({error})", remedy="get the file anew") from error


def _remedy() -> str:
    return f"get it anew: {ARCHIVE.url} has {ARCHIVE.size} bytes, {ARCHIVE.checksum}"
