"""Arrays of the user that fit no network, or are none: exit status 2 or 4, one line, little time and memory."""

from __future__ import annotations

import io
import re
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import helper

from qcompiler.cli import qcompile
from tests.frontend.files import write
from tests.fuzz import isolated, judge

MOST_SECONDS, MOST_KILOBYTES = 10, 2**20
SHAPE = (1, 3, 8, 8)
IMAGES = np.random.default_rng(0).normal(size=(4, *SHAPE[1:])).astype(np.float32)
LABELS = np.arange(4)
Maker = Callable[[Path], None]


def model(folder: Path) -> Path:
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, SHAPE)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    stored = [onnx.numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph([node], "g", [x], [helper.make_empty_tensor_value_info("y")], stored)
    return write(folder, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def arrays(**given: Any) -> Maker:
    return lambda path: np.savez(path, **given)


def content(text: bytes) -> Maker:
    return lambda path: path.write_bytes(text) and None


def cut(size: int) -> Maker:
    def make(path: Path) -> None:
        np.savez(path, x=IMAGES)
        path.write_bytes(path.read_bytes()[:size])

    return make


def bomb(shape: tuple[int, ...]) -> Maker:
    """An array of zeros that is three gigabytes once unpacked, of the network's shape or not; its checksum is wrong."""

    def make(path: Path) -> None:
        header, count = io.BytesIO(), 4 * int(np.prod(shape, dtype=object)) >> 24
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = squeezer.compress(header.getvalue()) + squeezer.flush(zlib.Z_FULL_FLUSH)
        zeros = squeezer.compress(bytes(2**24)) + squeezer.flush(zlib.Z_FULL_FLUSH)
        data = first + zeros * count + squeezer.flush()
        sizes = (0, len(data), len(header.getvalue()) + (count << 24))
        fields = struct.pack("<HHHHHLLLHH", 20, 0, 8, 0, 0, *sizes, 5, 0)
        local = b"PK\x03\x04" + fields + b"x.npy" + data
        central = b"PK\x01\x02\x14\x00" + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0) + b"x.npy"
        end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
        path.write_bytes(local + central + end)

    return make


def declared(shape: str, dtype: str = "<f4") -> Maker:
    """An array whose header claims much and that holds little."""

    def make(path: Path) -> None:
        text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)
            )

    return make


WRONG: dict[str, Maker] = {
    "another name": arrays(z=IMAGES),
    "no name": arrays(),
    "one name more": arrays(x=IMAGES, z=IMAGES),
    "another rank": arrays(x=IMAGES[0]),
    "another shape": arrays(x=IMAGES[:, :, :7]),
    "a number": arrays(x=np.float32(1)),
    "no samples": arrays(x=IMAGES[:0]),
    "nothing in a sample": arrays(x=np.zeros((4, 3, 0, 8), np.float32)),
    "NaN": arrays(x=np.where(IMAGES > 2, np.float32(np.nan), IMAGES)),
    "integers": arrays(x=IMAGES.astype(np.int32)),
    "truth values": arrays(x=IMAGES > 0),
    "complex numbers": arrays(x=IMAGES.astype(np.complex64)),
    "objects": arrays(x=np.array([[IMAGES]], dtype=object)),
    "texts": arrays(x=np.array(["a", "b"])),
    "records": arrays(x=np.zeros(4, [("a", "f4"), ("b", "i4")])),
    "an empty file": content(b""),
    "a text": content(b"1, 2, 3\n"),
    "an array without archive": lambda path: path.write_bytes(_saved(IMAGES)) and None,
    "an end cut off": cut(2000),
    "all but the end cut off": cut(40),
    "another file in it": lambda path: zipfile.ZipFile(path, "w").writestr("x.npy", b"no array"),
    "a bomb of the right shape": bomb((4 * 2**20, *SHAPE[1:])),
    "a bomb": bomb((3 * 2**28,)),
    "many elements": declared("(1048576, 3, 8, 8)"),
    "more elements than numbers": declared("(9223372036854775807, 9223372036854775807, 3, 3)"),
    "negative sizes": declared("(-1, 3, 8, 8)"),
    "sizes that are no numbers": declared("(1.5, 3, 8, 8)"),
    "a shape that is code": declared("(__import__('os').getpid(), 3, 8, 8)"),
}


def _saved(array: Any) -> bytes:
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    judge.warm_up()


@dataclass(frozen=True)
class Outcome:
    """How qcompile ended; kilobytes: its largest resident size."""

    status: int
    errors: list[str]
    seconds: float
    kilobytes: int


def outcome(folder: Path, *options: str) -> Outcome:
    """Run qcompile in a process of its own."""
    arguments = ["qcompile", str(model(folder)), "--mcpu", "baseline", "-o", str(folder / "out"), *options]

    def run() -> Outcome:
        start, errors, status = time.process_time(), io.StringIO(), 0
        with redirect_stdout(io.StringIO()), redirect_stderr(errors), mock.patch.object(sys, "argv", arguments):
            try:
                qcompile()
            except SystemExit as ended:
                status = int(ended.code or 0)
        seconds, kilobytes = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # what stands before are the stages of a compile with their times
        lines = [line for line in errors.getvalue().splitlines() if not re.match(r" +[0-9.]+ s  ", line)]
        return Outcome(status, lines, seconds, kilobytes)

    return isolated.call(run, 60)


BOTH = ("another name", "NaN", "an end cut off", "a bomb", "integers")


@pytest.mark.parametrize(
    ("name", "option"), [*((name, "--calibrate") for name in WRONG), *((name, "--inputs") for name in BOTH)]
)
def test_data_that_fit_no_network(tmp_path: Path, name: str, option: str) -> None:
    path = tmp_path / "data.npz"
    WRONG[name](path)
    found = outcome(tmp_path, option, str(path))
    (line,) = found.errors
    assert found.status in (2, 4) and line.startswith("error: ") and re.search("'[xz]'|data.npz|inputs hold", line)
    assert found.seconds < MOST_SECONDS and found.kilobytes < MOST_KILOBYTES
    assert not (tmp_path / "out").exists()


def test_infinite_numbers_calibrate_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.where(IMAGES > 2, np.float32(np.inf), IMAGES))
    found = outcome(tmp_path, "--calibrate", str(tmp_path / "data.npz"))
    assert found.status == 4 and "NaN or infinite" in found.errors[0]


WRONG_LABELS: dict[str, Maker] = {
    "two arrays": arrays(a=LABELS, b=LABELS),
    "none": arrays(),
    "too few": arrays(labels=LABELS[:3]),
    "rows": arrays(labels=LABELS[:, None]),
    "real numbers": arrays(labels=LABELS.astype(np.float32)),
    "objects": arrays(labels=LABELS.astype(object)),
}


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_labels_that_fit_no_data(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "data.npz", x=IMAGES)
    WRONG_LABELS[name](tmp_path / "labels.npz")
    found = outcome(tmp_path, "--calibrate", str(tmp_path / "data.npz"), "--labels", str(tmp_path / "labels.npz"))
    (line,) = found.errors
    assert found.status == 2 and "labels" in line


def test_labels_need_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", LABELS)
    found = outcome(tmp_path, "--labels", str(tmp_path / "labels.npz"))
    assert found.status == 2 and found.errors == [
        "error: labels without calibration data; give the data with --calibrate"
    ]


def test_the_data_themselves_are_fine(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=IMAGES)
    found = outcome(tmp_path, "--calibrate", str(tmp_path / "data.npz"))
    assert (found.status, found.errors) == (0, [])
