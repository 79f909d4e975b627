from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.bundle.load import Bundle
from qcompiler.bundle.tensors import random_inputs, read_npz, write_npz
from qcompiler.errors import UsageError
from qcompiler.ir.program import TensorInfo
from tests.bundle import programs

INPUTS = programs.tiny().inputs
X, BIAS = (tensor.name for tensor in INPUTS)
TAKES = "the network takes 'features/x:0' float32 [1, 40, 3, 5], 'bias' float32 [40]"


def changed(**arrays: Any) -> dict[str, Any]:
    given: dict[str, Any] = programs.inputs()
    return {**given, **{{"x": X, "bias": BIAS}.get(name, name): array for name, array in arrays.items()}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, f"input 'features/x:0' is missing; {TAKES}"),
        ({X: programs.inputs()[X]}, f"input 'bias' is missing; {TAKES}"),
        (changed(extra=np.zeros(1)), f"unknown input 'extra'; {TAKES}"),
        (changed(x=np.zeros((1, 40, 3, 4), "f4")), "has shape [1, 40, 3, 4], expected [1, 40, 3, 5]"),
        (changed(x=np.zeros(600, "f4")), "has shape [600], expected [1, 40, 3, 5]"),
        (changed(bias=np.zeros(40)), "has dtype float64, expected float32; convert it with .astype('float32')"),
        (changed(bias=np.zeros(40, ">f4")), "has dtype >f4, expected float32"),
        (changed(bias=[0.0] * 40), "is a list, expected a numpy array; pass numpy.asarray(value, 'float32')"),
        (changed(bias=None), "is a NoneType, expected a numpy array"),
        (changed(bias=np.full(40, np.nan, "f4")), "input 'bias' has 40 NaN elements; replace them"),
        ([programs.inputs()[X]], "inputs are a list, expected a dict of arrays"),
    ],
)
def test_wrong_inputs(bundle: Bundle, given: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        bundle.run(given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_infinities_are_numbers(bundle: Bundle) -> None:
    given = programs.inputs()
    given[BIAS][3] = np.inf
    assert bundle.run(given)["scores/out:0"][0, 3] == np.inf


def test_random_inputs_fit() -> None:
    tensors = (
        *INPUTS,
        TensorInfo("mask", (3,), "bool"),
        TensorInfo("ids", (2, 2), "int64"),
        TensorInfo("s", (), "int8"),
        TensorInfo("few", (40,), "int32", indices=3),
    )
    arrays = random_inputs(tensors)
    assert set(arrays["few"].tolist()) == {0, 1, 2}
    assert [(name, array.shape, str(array.dtype)) for name, array in arrays.items()] == [
        (tensor.name, tensor.shape, tensor.dtype) for tensor in tensors
    ]
    assert arrays["mask"].dtype == bool and random_inputs(tensors)["ids"].tolist() == arrays["ids"].tolist()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_round_trip(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "in.npz"
    save(path, **programs.inputs())
    for arrays in (read_npz(path), read_npz(path, INPUTS)):
        for name, array in programs.inputs().items():
            np.testing.assert_array_equal(arrays[name], array)


def test_foreign_orders(tmp_path: Path) -> None:
    """Fortran order and big-endian numbers."""
    given = programs.inputs()
    np.savez(tmp_path / "in.npz", **{X: np.asfortranarray(given[X]), BIAS: given[BIAS].astype(">f4")})
    arrays = read_npz(tmp_path / "in.npz", INPUTS)
    for name in given:
        np.testing.assert_array_equal(arrays[name], given[name])
        assert arrays[name].dtype == np.float32


def test_positional_names(tmp_path: Path) -> None:
    given = programs.inputs()
    np.savez(tmp_path / "in.npz", given[X], given[BIAS])
    np.testing.assert_array_equal(read_npz(tmp_path / "in.npz", INPUTS)[BIAS], given[BIAS])
    np.savez(tmp_path / "in.npz", given[X])
    with pytest.raises(UsageError, match="unknown input 'arr_0'"):
        read_npz(tmp_path / "in.npz", INPUTS)


def npy_header(shape: str, dtype: str = "'<f4'") -> bytes:
    buffer = io.BytesIO()
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    buffer.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return buffer.getvalue()


def npz(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy_header("(1000000000000,)"), "has 4000000000000 bytes, at most 1000 more are read"),
        (npy_header("(10,)"), "is cut off after 0 of 40 bytes"),
        (npy_header("(-5,)") + bytes(20), "has the impossible shape (-5,)"),
        (npy_header("(-5, -1)") + bytes(20), "has the impossible shape (-5, -1)"),
        (npy_header("(2,)", "'|O'") + pickle.dumps(print), "has dtype object, expected numbers"),
        (npy_header("(2,)", "'<U2'") + bytes(16), "expected numbers"),
        (npy_header("(2,)", "[('a', '<f4')]") + bytes(8), "expected numbers"),
        (npy_header("(2,) + (print(1),)"), "not a valid .npz file"),
        (b"\x93NUMPY\x09\x00", "not a valid .npz file"),
        (b"junk", "not a valid .npz file"),
        (b"", "not a valid .npz file"),
    ],
)
def test_hostile_members(tmp_path: Path, member: bytes, message: str) -> None:
    path = npz(tmp_path / "in.npz", x=member)
    with pytest.raises(UsageError) as caught:
        read_npz(path, limit=1000)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_limit_is_for_all_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", a=np.zeros(100, "f4"), b=np.zeros(200, "f4"))
    assert read_npz(tmp_path / "in.npz", limit=1200)["b"].size == 200
    with pytest.raises(UsageError, match="array 'b' has 800 bytes, at most 799 more are read"):
        read_npz(tmp_path / "in.npz", limit=1199)


def test_shapes_are_checked_before_data_is_read(tmp_path: Path) -> None:
    """A bomb of zeros: a member of 4 GB that takes 4 MB in the file would be read otherwise."""
    path = npz(tmp_path / "in.npz", **{X: npy_header("(1, 40, 3, 50000000)") + bytes(2**20), BIAS: npy_header("(40,)")})
    with pytest.raises(UsageError, match=r"in.npz: input 'features/x:0' has shape"):
        read_npz(path, INPUTS)


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UsageError, match="is not a valid .npz file"):
        read_npz(tmp_path / "a")
    with pytest.raises(UsageError, match="cannot read .*No such file"):
        read_npz(tmp_path / "b")
    with pytest.raises(UsageError, match="cannot read .*directory"):
        read_npz(tmp_path)


def test_a_damaged_archive(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    np.savez_compressed(path, **programs.inputs())
    content = path.read_bytes()
    for position in range(40, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_npz(path, INPUTS)
        except UsageError as error:
            assert "\n" not in str(error)


def test_written_arrays_may_have_any_name(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), bool), "scalar": np.float32(2)}
    write_npz(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as loaded:
        assert sorted(loaded.files) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
