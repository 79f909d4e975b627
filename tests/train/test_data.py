"""Data sets: what is read, what is refused, and that little memory is taken for a lie."""

from __future__ import annotations

import gzip
import http.server
import re
import socketserver
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pooch
import pytest
import scipy.io
import torch
from PIL import Image

from qcompiler.errors import InvalidData, QCompilerError, UsageError
from qcompiler.train.config import TrainConfig
from qcompiler.train.data import Data, cifar10, dataset, download, folder, load_data, mnist, svhn, to_input
from qcompiler.train.data.arrays import Arrays
from tests.train import files


def test_mnist(tmp_path: Path) -> None:
    arrays = files.write_mnist(tmp_path)
    data = load_data("mnist", tmp_path, 10)
    assert data.shape == (1, 28, 28) and data.classes == 10
    assert [len(split) for split in (data.train, data.validation, data.test)] == [30, 10, 20]
    assert data.version == "MNIST format, not the published files"
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    np.testing.assert_array_equal(data.test.images[:, 0].numpy(), arrays["t10k-images-idx3"])
    np.testing.assert_array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1"])


def test_files_may_lie_in_a_directory_of_the_data_set(tmp_path: Path) -> None:
    files.write_mnist(tmp_path / "mnist", train=30)
    assert len(load_data("mnist", tmp_path, 10).train) == 20
    # Those in the directory itself come first.
    files.write_mnist(tmp_path, train=50)
    assert len(load_data("mnist", tmp_path, 10).train) == 40


def test_fashion_mnist_has_its_own_directory(tmp_path: Path) -> None:
    files.write_mnist(tmp_path / "mnist", train=30)
    files.write_mnist(tmp_path / "fashion_mnist", train=20)
    data = load_data("fashion_mnist", tmp_path, 10)
    assert len(data.train) == 10 and data.version.startswith("Fashion-MNIST")


def test_digits_need_no_files() -> None:
    data = load_data("digits", "", 200)
    assert data.shape == (1, 8, 8) and data.classes == 10
    assert [len(split) for split in (data.train, data.validation, data.test)] == [1238, 200, 359]
    assert set(data.train.images.unique().tolist()) == {*range(0, 256, 16), 255}
    assert data.test.labels.bincount().min() > 20


def test_split_is_a_partition_drawn_by_the_seed(tmp_path: Path) -> None:
    arrays = files.write_mnist(tmp_path)
    first, again, other = (load_data("mnist", tmp_path, 10, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.validation.images, again.validation.images)
    assert not torch.equal(first.validation.images, other.validation.images)
    assert first.sha256 == other.sha256
    rows = torch.cat([first.train.images, first.validation.images]).reshape(40, -1).numpy()
    expected = arrays["train-images-idx3"].reshape(40, -1)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, expected))
    # Images keep their labels and their order.
    for part in (first.train, first.validation):
        rows = part.images.reshape(len(part), -1).numpy()
        order = [int(np.flatnonzero((expected == row).all(axis=1))[0]) for row in rows]
        assert order == sorted(order)
        np.testing.assert_array_equal(part.labels.numpy(), arrays["train-labels-idx1"][order])


@pytest.mark.parametrize("name", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"])
def test_sha256_changes_with_every_file(tmp_path: Path, name: str) -> None:
    arrays = files.write_mnist(tmp_path)
    before = load_data("mnist", tmp_path, 10).sha256
    arrays[name].reshape(-1)[7] ^= 1
    (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(files.idx(arrays[name])))
    assert load_data("mnist", tmp_path, 10).sha256 != before


def test_input_is_exact() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    expected = np.arange(256) / 128 - 1
    assert to_input(values).dtype == torch.float32
    np.testing.assert_array_equal(to_input(values).numpy().astype(np.float64), expected)
    assert values[200] == 200


@pytest.mark.parametrize("count", [40, 41, -1])
def test_validation_must_leave_images_to_train_with(tmp_path: Path, count: int) -> None:
    files.write_mnist(tmp_path)
    with pytest.raises(UsageError, match=f"validation={count}: expected 1 to 39.*; set validation=6$"):
        load_data("mnist", tmp_path, count)


def test_validation_fits_where_it_is_left_open(tmp_path: Path) -> None:
    files.write_mnist(tmp_path)
    assert len(load_data("mnist", tmp_path, TrainConfig().validation).validation) == 6
    assert len(load_data("digits", "", TrainConfig().validation).validation) == 1438 // 6


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (5, 1), (11, 1), (12, 2), (61, 10)])
def test_validation_fits_small_data(tmp_path: Path, count: int, expected: int) -> None:
    files.write_mnist(tmp_path, train=count)
    assert len(load_data("mnist", tmp_path, 0).validation) == expected


@pytest.mark.parametrize(("name", "usual"), dataset.USUAL_VALIDATION.items())
def test_validation_of_large_data_is_the_usual_one(name: str, usual: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 12 * usual
    images, labels = np.zeros((count, 1, 1, 1), np.uint8), np.zeros(count, np.uint8)
    arrays = Arrays(images, labels, images[:1], labels[:1], 10, "made up")
    monkeypatch.setitem(dataset._READERS, name, lambda path, size: arrays)
    assert len(load_data(name, "", 0).validation) == usual


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown data set 'mnits'; choose one of mnist, "):
        load_data("mnits", tmp_path, 1)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "svhn", "images"])
def test_wrong_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match=r"data directory '.*' has no .*: expected .*; give the directory"):
        load_data(name, tmp_path, 1)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn", "images"])
def test_directory_that_does_not_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"data directory '.*/none' "):
        load_data(name, tmp_path / "none", 1)


LABELS = "train-labels-idx1-ubyte.gz"
IMAGES = "train-images-idx3-ubyte.gz"


def damaged_mnist(path: Path, change: Callable[[bytes], bytes], name: str = IMAGES) -> str:
    """The message for MNIST of which one file has been changed."""
    files.write_mnist(path)
    (path / name).write_bytes(change((path / name).read_bytes()))
    with pytest.raises(InvalidData) as caught:
        load_data("mnist", path, 10)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("length", [0, 5, 500, -9, -1])
def test_truncated_mnist_names_the_published_checksum(tmp_path: Path, length: int) -> None:
    message = damaged_mnist(tmp_path, lambda content: content[:length])
    assert "train-images-idx3-ubyte.gz' is " in message
    assert "get it anew: https://" in message and "has 9912422 bytes, sha256:440fcabf73cc" in message


def test_corrupt_mnist(tmp_path: Path) -> None:
    def flip(content: bytes) -> bytes:
        return content[:3000] + bytes((content[3000] ^ 1,)) + content[3001:]

    assert "is truncated or damaged" in damaged_mnist(tmp_path, flip)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no gzip at all", "damaged"),
        (gzip.compress(b"\0\0\x08\x03\0\0"), "is not an IDX file of bytes with 3 axes"),
        (gzip.compress(files.idx(files.labels(4))), "is not an IDX file of bytes with 3 axes"),
        (gzip.compress(b"\0\0\x0d\x03" + bytes(12)), "is not an IDX file of bytes"),
        (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2, 28, 28) + bytes(99)), "has 99 bytes .*, expected 1568"),
        (gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2, 8, 8) + bytes(129)), "has more bytes .*, expected 128"),
        (gzip.compress(b"\0\0\x08\x03" + bytes(12)), "labels, expected one for each of 0 images"),
    ],
    ids=["no gzip", "short header", "labels", "floats", "too short", "too long", "empty"],
)
def test_other_content(tmp_path: Path, content: bytes, message: str) -> None:
    import re

    assert re.search(message, damaged_mnist(tmp_path, lambda _: content))


def test_idx_header_that_promises_too_much(tmp_path: Path) -> None:
    lie = gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31))
    assert "more than it can hold" in damaged_mnist(tmp_path, lambda _: lie)


def test_labels_must_fit(tmp_path: Path) -> None:
    short = gzip.compress(files.idx(files.labels(39)))
    assert "has 39 labels, expected one for each of 40 images" in damaged_mnist(tmp_path, lambda _: short, LABELS)
    high = gzip.compress(files.idx(np.full(40, 10, np.uint8)))
    assert "has the label 10, expected 0 to 9" in damaged_mnist(tmp_path / "high", lambda _: high, LABELS)


def test_train_and_test_images_of_different_sizes(tmp_path: Path) -> None:
    files.write_mnist(tmp_path, side=28)
    small = files.images(20, 1, 14)[:, 0]
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(files.idx(small)))
    with pytest.raises(InvalidData, match=r"different sizes, \[28, 28\] and \[14, 14\]"):
        load_data("mnist", tmp_path, 10)


def check_cifar10(data: Data) -> None:
    assert data.shape == (3, 32, 32) and [len(data.train), len(data.validation), len(data.test)] == [15, 5, 4]
    np.testing.assert_array_equal(data.test.images.numpy(), files.images(4, 3, 32, 5))
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    # The batches follow one another.
    whole = np.concatenate([files.images(4, 3, 32, seed) for seed in range(5)]).reshape(20, -1)
    rows = data.train.images.reshape(15, -1).numpy()
    order = [int(np.flatnonzero((whole == row).all(axis=1))[0]) for row in rows]
    assert order == sorted(order)
    assert data.version == "CIFAR-10 format, another selection"


def test_cifar10_archive(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(files.tar(files.cifar10_batches()))
    check_cifar10(load_data("cifar10", tmp_path, 5))


def test_cifar10_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for name, content in files.cifar10_batches().items():
        (tmp_path / "cifar-10-batches-bin" / name).write_bytes(content)
    check_cifar10(load_data("cifar10", tmp_path, 5))
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(InvalidData, match=r"cannot read '.*data_batch_3.bin'"):
        load_data("cifar10", tmp_path, 5)


def test_cifar10_archive_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    batches = files.cifar10_batches()
    whole = files.tar(batches)
    short = {**batches, "data_batch_2.bin": batches["data_batch_2.bin"][:-1]}
    lacking = {name: content for name, content in batches.items() if name != "test_batch.bin"}
    for content, message in (
        (whole[:5000], "truncated or damaged"),
        (whole[:-4], "truncated or damaged"),
        (gzip.compress(b"no archive" * 100), "truncated or damaged"),
        (files.tar(lacking), "lacks a file: .*test_batch.bin"),
        (files.tar(short), r"data_batch_2.bin has 12291 bytes, expected a multiple of 3073"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidData, match=f"{message}.*; get it anew: .* has 170052171 bytes, sha256:c4a38c50a1bc"):
            load_data("cifar10", tmp_path, 5)


def test_cifar10_archive_that_unpacks_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "LARGEST_ARCHIVE", 50_000)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(files.tar(files.cifar10_batches()))
    with pytest.raises(InvalidData, match="unpacks to more than 50000 bytes"):
        load_data("cifar10", tmp_path, 5)


def test_cifar10_pickled_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="is the pickled version, .*; get the binary version"):
        load_data("cifar10", tmp_path, 5)


def write_packs(directory: Path, **changes: np.ndarray) -> None:
    for name, count in (("train", 12), ("test", 5)):
        np.savez(directory / f"cifar10_jpegpack_{name}.npz", **{**files.pack(count), **changes})


def test_cifar10_jpeg_packs(tmp_path: Path) -> None:
    write_packs(tmp_path)
    data = load_data("cifar10", tmp_path, 4)
    assert data.version == "CIFAR-10, JPEG version"
    assert [len(split) for split in (data.train, data.validation, data.test)] == [8, 4, 5]
    # The images are ramps, each one brighter than the one before.
    for index in range(5):
        with Image.open(__import__("io").BytesIO(files.jpegs(5)[index])) as image:
            np.testing.assert_array_equal(data.test.images[index].numpy().transpose(1, 2, 0), np.asarray(image))


def moved_offset(index: int, distance: int) -> np.ndarray:
    offsets = files.pack(12)["offsets"].copy()
    offsets[index] += distance
    return offsets


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": files.labels(11)}, "has 11 labels, expected one for each of 12 images"),
        ({"labels": np.zeros((12, 1), np.uint8)}, r"array 'labels' is uint8 \[12, 1\], expected uint8 of one axis"),
        ({"offsets": np.zeros(13, np.int64)}, "array 'offsets' is int64"),
        ({"offsets": np.arange(13, dtype=np.uint32)}, "offsets do not divide"),
        ({"offsets": moved_offset(0, 1)}, "offsets do not divide"),
        ({"offsets": moved_offset(5, 10**6)}, "offsets do not divide"),
        ({"header": np.zeros(600, np.uint8)}, "image 0 is damaged"),
        ({"header": np.zeros(0, np.uint8)}, "array 'header' is uint8"),
        (files.pack(12, side=16), r"image 0 has size \(16, 16\)"),
    ],
)
def test_damaged_pack(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    write_packs(tmp_path, **changes)
    with pytest.raises(InvalidData, match=f"cifar10_jpegpack_train.npz.*{message}"):
        load_data("cifar10", tmp_path, 4)


def test_pack_with_a_pickle_is_not_unpickled(tmp_path: Path) -> None:
    write_packs(tmp_path)
    path = tmp_path / "cifar10_jpegpack_train.npz"
    np.savez(path, **{**files.pack(12), "labels": np.array([print] * 12, object)})
    with pytest.raises(InvalidData, match="array 'labels' has dtype object"):
        load_data("cifar10", tmp_path, 4)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidData, match="is not a valid .npz file"):
        load_data("cifar10", tmp_path, 4)


@pytest.mark.parametrize("compressed", [True, False])
def test_svhn(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / "svhn").mkdir()
    files.write_svhn(tmp_path / "svhn" / "train_32x32.mat", 12, compressed)
    images, labels = files.write_svhn(tmp_path / "svhn" / "test_32x32.mat", 11, compressed)
    data = load_data("svhn", tmp_path, 4)
    assert data.shape == (3, 32, 32) and [len(data.train), len(data.validation), len(data.test)] == [8, 4, 11]
    np.testing.assert_array_equal(data.test.images.numpy(), images)
    np.testing.assert_array_equal(data.test.labels.numpy(), labels)
    assert data.version == "SVHN format, not the published files"


def damaged_svhn(directory: Path, content: bytes | dict[str, np.ndarray]) -> str:
    directory.mkdir(exist_ok=True)
    files.write_svhn(directory / "test_32x32.mat")
    path = directory / "train_32x32.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content, do_compression=True)
    with pytest.raises(InvalidData) as caught:
        load_data("svhn", directory, 4)
    message = str(caught.value)
    assert str(path) in message and "has 182040794 bytes, sha256:435e94d69a87" in message
    return message


def test_svhn_damaged(tmp_path: Path) -> None:
    files.write_svhn(tmp_path / "whole.mat")
    whole = (tmp_path / "whole.mat").read_bytes()
    assert "is not a MATLAB 5 file" in damaged_svhn(tmp_path, b"")
    assert "is not a MATLAB 5 file" in damaged_svhn(tmp_path, b"MATLAB 7.3 MAT-file" + bytes(500))
    assert "is truncated" in damaged_svhn(tmp_path, whole[:20_000])
    assert "damaged" in damaged_svhn(tmp_path, whole[:10_000] + bytes(8) + whole[10_008:])
    assert "X is absent" in damaged_svhn(tmp_path, {"y": np.ones((3, 1))})
    images = np.zeros((32, 32, 3, 3), np.uint8)
    assert "y is absent" in damaged_svhn(tmp_path, {"X": images})
    assert r"y is double [4, 1]" in damaged_svhn(tmp_path, {"X": images, "y": np.ones((4, 1))})
    assert "X is double" in damaged_svhn(tmp_path, {"X": images.astype(float), "y": np.ones((3, 1))})
    assert "other arrays" in damaged_svhn(tmp_path, {"X": images, "y": np.full((3, 1), 11)})


def test_svhn_that_unpacks_too_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svhn, "LARGEST_ARRAY", 2**20)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    bomb = zlib.compress(bytes(3 * 2**20))
    message = damaged_svhn(tmp_path, header + struct.pack("<2I", 15, len(bomb)) + bomb)
    assert "unpacks to more than 1048576 bytes" in message


def test_image_folder(tmp_path: Path) -> None:
    files.write_images(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    data = load_data("images", tmp_path, 2, image_size=16)
    assert data.shape == (3, 16, 16) and data.classes == 2
    assert [len(data.train), len(data.validation), len(data.test)] == [4, 2, 6]
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert image.amin((1, 2)).tolist() == image.amax((1, 2)).tolist() == [100 * int(label), 50, 0]


def test_images_are_scaled_and_cut_in_the_middle(tmp_path: Path) -> None:
    files.write_images(tmp_path, each=1)
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    Image.fromarray(pixels).save(tmp_path / "test" / "cat" / "0.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "test" / "dog" / "0.png")
    assert load_data("images", tmp_path, 1, image_size=8).test.images.min() == 255
    # Scaling blurs the edges, not the middle.
    assert load_data("images", tmp_path, 1, image_size=16).test.images[:, :, 2:14, 2:14].min() == 255


def test_val_may_stand_for_test(tmp_path: Path) -> None:
    files.write_images(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load_data("images", tmp_path, 2, image_size=8).test) == 6


def test_image_folder_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="give the directory with --data-dir"):
        load_data("images", "", 1)
    files.write_images(tmp_path)
    (tmp_path / "test" / "fish").mkdir()
    with pytest.raises(UsageError, match=r"fish' is a class that '.*train' lacks"):
        load_data("images", tmp_path, 2, image_size=8)
    (tmp_path / "test" / "fish").rmdir()
    with pytest.raises(UsageError, match="this machine has .*; choose a smaller image_size"):
        load_data("images", tmp_path, 2, image_size=10**6)
    bad = tmp_path / "train" / "dog" / "0.png"
    content = bad.read_bytes()
    bad.write_bytes(content[:40])
    with pytest.raises(InvalidData, match="dog/0.png' is not a readable image"):
        load_data("images", tmp_path, 2, image_size=8)
    bad.write_bytes(content)
    monkeypatch.setattr(folder, "LARGEST_IMAGE", 600)
    with pytest.raises(InvalidData, match=r"1.png' has 27x30 pixels, at most 600 are read"):
        load_data("images", tmp_path, 2, image_size=8)


@pytest.mark.parametrize("part", ["train", "test"])
def test_class_without_images(tmp_path: Path, part: str) -> None:
    files.write_images(tmp_path)
    for image in (tmp_path / part / "dog").iterdir():
        image.rename(image.with_suffix(".txt"))
    with pytest.raises(InvalidData, match=rf"class 'dog' has no images in '.*{part}'; put some into '.*{part}/dog/'"):
        load_data("images", tmp_path, 1, image_size=8)


def test_class_that_is_never_tested(tmp_path: Path) -> None:
    files.write_images(tmp_path)
    (tmp_path / "test" / "dog").rename(tmp_path / "other")
    with pytest.raises(InvalidData, match="class 'dog' has no images in '.*test'"):
        load_data("images", tmp_path, 1, image_size=8)


def test_folders_of_images_are_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no images: expected .*; give the directory that holds it$"):
        load_data("images", tmp_path, 1)


def test_image_that_claims_a_huge_size(tmp_path: Path) -> None:
    """The header of a PNG file is changed, its pixels are not."""
    files.write_images(tmp_path)
    bad = tmp_path / "train" / "cat" / "0.png"
    content = bytearray(bad.read_bytes())
    content[16:24] = struct.pack(">2I", 100_000, 100_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    bad.write_bytes(content)
    with pytest.raises(InvalidData, match="cat/0.png"):
        load_data("images", tmp_path, 2, image_size=8)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A directory that is served on this machine, and its address; the cache is an empty directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "site"
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(served))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield served, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def remote(path: Path, address: str) -> download.Remote:
    return download.Remote(f"{address}/{path.name}", f"sha256:{pooch.file_hash(str(path))}", path.stat().st_size)


def test_download(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    served, address = site
    archive = served / "cifar-10-binary.tar.gz"
    archive.write_bytes(files.tar(files.cifar10_batches()))
    monkeypatch.setattr(cifar10, "ARCHIVE", remote(archive, address))
    check_cifar10(load_data("cifar10", "", 5))
    # From the cache, without the site.
    archive.unlink()
    check_cifar10(load_data("cifar10", "", 5))


def test_truncated_download(site: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served, address = site
    archive = served / "cifar-10-binary.tar.gz"
    archive.write_bytes(files.tar(files.cifar10_batches()))
    published = remote(archive, address)
    archive.write_bytes(archive.read_bytes()[:-100])
    monkeypatch.setattr(cifar10, "ARCHIVE", published)
    with pytest.raises(
        InvalidData, match=f"truncated or changed: expected {published.size} bytes, sha256:.*; try again"
    ):
        load_data("cifar10", "", 5)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_site_that_does_not_answer(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE", download.Remote(f"{site[1]}/none.tar.gz", "sha256:00", 1))
    with pytest.raises(QCompilerError) as caught:
        load_data("cifar10", "", 5)
    assert re.fullmatch(
        r"cannot download 'http://127.0.0.1:\d+/none.tar.gz': 404 Client Error: File not found;"
        r" give a directory that holds it with --data-dir, or put it into '.*/cache/qcompiler/cifar10'",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("address", "cache", "reason"),
    [
        ("http://127.0.0.1:1/none", "cache", "Connection refused"),
        ("http://no.such.name.invalid/none", "cache", "Name or service not known|Temporary failure in name resolution"),
        ("http://127.0.0.1:1/none", "file/cache", "Not a directory"),
    ],
)
def test_downloads_fail_in_a_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, cache: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(cifar10, "ARCHIVE", download.Remote(address, "sha256:00", 1))
    with pytest.raises(QCompilerError) as caught:
        load_data("cifar10", "", 5)
    assert re.search(rf"^cannot download '{address}': ('?{tmp_path}\S*: )?({reason}); give a dir", str(caught.value))


def test_published_files_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses
    import hashlib

    arrays = files.write_mnist(tmp_path)
    digests = [hashlib.md5(files.idx(array)).hexdigest() for array in arrays.values()]
    published = tuple(dataclasses.replace(f, md5=md5) for f, md5 in zip(mnist.MNIST.files, digests, strict=True))
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, files=published))
    assert load_data("mnist", tmp_path, 10).version == "MNIST"


@pytest.mark.parametrize("changed", [None, "TRAIN", "TEST"])
def test_published_svhn_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str | None) -> None:
    for name, count in (("train", 12), ("test", 11)):
        path = tmp_path / f"{name}_32x32.mat"
        files.write_svhn(path, count)
        if name.upper() != changed:
            monkeypatch.setattr(svhn, name.upper(), remote(path, "http://nowhere"))
    expected = "SVHN, cropped digits" if changed is None else "SVHN format, not the published files"
    assert load_data("svhn", tmp_path, 4).version == expected
