"""Small data sets in the published formats, with random content."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io
from PIL import Image

Array = npt.NDArray[np.uint8]


def images(count: int, channels: int, side: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def labels(count: int) -> Array:
    return (np.arange(count) % 10).astype(np.uint8)


def idx(array: Array) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(directory: Path, train: int = 40, test: int = 20, side: int = 28) -> dict[str, Array]:
    """Four IDX files; returns what they hold, by file name without ending."""
    arrays = {
        "train-images-idx3": images(train, 1, side, 1)[:, 0],
        "train-labels-idx1": labels(train),
        "t10k-images-idx3": images(test, 1, side, 2)[:, 0],
        "t10k-labels-idx1": labels(test),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        (directory / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return arrays


def cifar10_batches(each: int = 4) -> dict[str, bytes]:
    """Six batches of records of a label and 3072 pixels."""
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    batches = {}
    for seed, name in enumerate(names):
        pixels = images(each, 3, 32, seed).reshape(each, -1)
        batches[name] = np.concatenate([labels(each)[:, None], pixels], axis=1).tobytes()
    return batches


def tar(files: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(memory.getvalue(), 1)


def jpegs(count: int, side: int = 32) -> list[bytes]:
    """Files of smooth images, which all have the same header."""
    ramp = np.linspace(0, 200, side, dtype=np.uint8)
    files = []
    for index in range(count):
        memory = io.BytesIO()
        pixels = np.stack([np.add.outer(ramp // 2, ramp // 4) + index] * 3, axis=2).astype(np.uint8)
        Image.fromarray(pixels).save(memory, "JPEG", quality=90)
        files.append(memory.getvalue())
    return files


def pack(count: int, side: int = 32) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of a JPEG pack."""
    files = jpegs(count, side)
    header = 0
    while len({file[:header] for file in files}) == 1:
        header += 1
    header -= 1
    bodies = [file[header:] for file in files]
    return {
        "header": np.frombuffer(files[0][:header], np.uint8),
        "body": np.frombuffer(b"".join(bodies), np.uint8),
        "offsets": np.cumsum([0, *map(len, bodies)]).astype(np.uint32),
        "labels": labels(count),
    }


def write_svhn(path: Path, count: int = 12, compressed: bool = True) -> tuple[Array, Array]:
    """A MATLAB file with X [32, 32, 3, N] and y [N, 1] from 1 to 10; returns them as N, C, H, W and 0 to 9."""
    pixels = images(count, 3, 32, count)
    digits = labels(count)
    content = {"X": pixels.transpose(2, 3, 1, 0), "y": np.where(digits == 0, 10, digits)[:, None].astype(np.uint8)}
    scipy.io.savemat(path, content, do_compression=compressed)
    return pixels, digits


def write_images(directory: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 3) -> None:
    """train/CLASS/ and test/CLASS/ with PNG files of one colour for each class, of various sizes."""
    for part in ("train", "test"):
        for label, name in enumerate(classes):
            folder = directory / part / name
            folder.mkdir(parents=True)
            for index in range(each):
                Image.new("RGB", (20 + 7 * index, 30), (100 * label, 50, 0)).save(folder / f"{index}.png")
