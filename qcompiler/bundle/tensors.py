"""What a network takes and gives as numpy arrays: checked, with messages that say what is expected."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.manifest import DTYPES
from qcompiler.bundle.native import aligned_empty
from qcompiler.errors import UsageError
from qcompiler.ir.program import TensorInfo

Array = npt.NDArray[Any]
# bytes of all arrays of a file; chosen
DEFAULT_LIMIT = 4 * 2**30
# so many times its size may a file be once unpacked, or so many bytes; zeros reach a thousand times; chosen
_MOST_TIMES = 200
_ALWAYS_READ = 64 * 2**20


def describe(tensor: TensorInfo) -> str:
    """For messages: 'name' float32 [1, 3, 224, 224]."""
    return f"'{tensor.name}' {_spelled(tensor)} {list(tensor.shape)}"


def _spelled(tensor: TensorInfo) -> str:
    return f"{tensor.dtype} or {tensor.file_dtype}" if tensor.file_dtype else tensor.dtype


def check_names(given: Iterable[str], expected: Sequence[TensorInfo]) -> None:
    """Raise UsageError unless exactly the expected inputs are given."""
    given = list(given)
    wanted = ", ".join(describe(tensor) for tensor in expected)
    names = [tensor.name for tensor in expected]
    missing = [name for name in names if name not in given]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(f"unknown input '{unknown[0]}'", remedy=f"the network takes {wanted}")
    if missing:
        raise UsageError(f"input '{missing[0]}' is missing", remedy=f"the network takes {wanted}")


def check_type(tensor: TensorInfo, shape: tuple[int, ...], dtype: np.dtype[Any], *, any_batch: bool = False) -> None:
    """Raise UsageError unless shape and dtype are the tensor's, or its dtype in the ONNX file.

    any_batch: the first axis may be any multiple of the tensor's.
    """
    if dtype != np.dtype(tensor.dtype) and not _is_of_file(dtype, tensor):
        raise UsageError(
            f"input '{tensor.name}' has dtype {dtype}, expected {_spelled(tensor)}",
            remedy=f"convert it with .astype('{tensor.dtype}')",
        )
    if any_batch and not _is_batch(tensor, shape):
        multiple = f"any multiple of {tensor.shape[0]}" if tensor.shape[0] > 1 else "any number"
        expected = f"[{', '.join(map(str, (multiple, *tensor.shape[1:])))}]"
        raise UsageError(
            f"input '{tensor.name}' has shape {list(shape)}, expected {expected}",
            remedy="all but the batch is fixed when the network is compiled (qcompile --shape)",
        )
    if not any_batch and shape != tensor.shape:
        raise UsageError(
            f"input '{tensor.name}' has shape {list(shape)}, expected {list(tensor.shape)}",
            remedy="shapes are fixed when the network is compiled (qcompile --shape)",
        )


def _is_batch(tensor: TensorInfo, shape: tuple[int, ...]) -> bool:
    rest = len(shape) == len(tensor.shape) and shape[1:] == tensor.shape[1:]
    return rest and shape[0] % tensor.shape[0] == 0


def part(array: Array, tensor: TensorInfo, index: int) -> Array:
    """What run `index` on a batch takes or gives of an array: [n, ...] of [S * n, ...]; all of a scalar."""
    rows = tensor.shape[0] if tensor.shape else 0
    return array[index * rows : (index + 1) * rows] if tensor.shape else array


def checked_inputs(given: object, expected: Sequence[TensorInfo], *, any_batch: bool = False) -> list[Array]:
    """The inputs in the network's order, C-contiguous and aligned to their elements.

    any_batch: they may be any multiple, the same one for all, of the shapes along the first axis. Raises UsageError for
    a wrong name, shape or dtype, or a NaN.
    """
    if not isinstance(given, Mapping):
        wanted = ", ".join(describe(tensor) for tensor in expected)
        raise UsageError(f"inputs are a {type(given).__name__}, expected a dict of arrays", remedy=f"it takes {wanted}")
    check_names((str(name) for name in given), expected)
    arrays = [_checked(given[tensor.name], tensor, any_batch=any_batch) for tensor in expected]
    if any_batch:
        check_batch(arrays, expected)
    return arrays


def check_batch(arrays: Sequence[Array], tensors: Sequence[TensorInfo]) -> None:
    """Raise UsageError unless all inputs are the same multiple of their shapes."""
    counts = {tensor.name: runs_of(array, tensor) for array, tensor in zip(arrays, tensors, strict=True)}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"'{tensor.name}' {list(a.shape)}" for a, tensor in zip(arrays, tensors, strict=True))
        raise UsageError(f"the batches of the inputs differ: {found}", remedy="give every input the same batch")


def runs_of(array: Array, tensor: TensorInfo) -> int:
    """How many runs an array is for."""
    return int(array.shape[0] // tensor.shape[0]) if tensor.shape else 1


def new_outputs(tensors: Sequence[TensorInfo], count: int) -> list[Array]:
    """Uninitialised arrays for the outputs of `count` runs, one behind the other along the first axis."""
    return [aligned_empty(times(tensor, count).shape, tensor.dtype) for tensor in tensors]


def times(tensor: TensorInfo, count: int) -> TensorInfo:
    """What a tensor is of `count` runs, one behind the other along the first axis; a scalar stays one."""
    shape = (count * tensor.shape[0], *tensor.shape[1:]) if tensor.shape else ()
    return replace(tensor, shape=shape)


def _checked(value: Any, tensor: TensorInfo, *, any_batch: bool) -> Array:
    if not isinstance(value, np.ndarray | np.generic):
        raise UsageError(
            f"input '{tensor.name}' is a {type(value).__name__}, expected a numpy array",
            remedy=f"pass numpy.asarray(value, '{tensor.dtype}')",
        )
    array = np.asarray(value)
    shape = array.shape
    check_type(tensor, shape, array.dtype, any_batch=any_batch)
    array = np.require(in_dtype(array, tensor), requirements=["C_CONTIGUOUS", "ALIGNED"])
    # The minimum is NaN where any element is, and takes no temporary.
    if array.dtype.kind == "f" and array.size and np.isnan(array.min()):
        raise UsageError(
            f"input '{tensor.name}' has {int(np.isnan(array).sum())} NaN elements",
            remedy="replace them, for example with numpy.nan_to_num",
        )
    return array


def in_dtype(array: Array, tensor: TensorInfo) -> Array:
    """An array of the dtype that an input has in the ONNX file, as the network takes it; any other as it is."""
    if not _is_of_file(array.dtype, tensor):
        return array
    with np.errstate(over="ignore"):
        return array.astype(tensor.dtype)


def _is_of_file(dtype: np.dtype[Any], tensor: TensorInfo) -> bool:
    """Whether an array is of the dtype that a tensor has in the ONNX file; numpy knows bfloat16 by its name alone."""
    return dtype.isnative and dtype.name == tensor.file_dtype


def in_file_dtype(array: Array, tensor: TensorInfo) -> Array:
    """An output in the dtype that it has in the ONNX file, where numpy has such numbers."""
    if tensor.file_dtype not in DTYPES:
        return array
    with np.errstate(over="ignore"):
        return array.astype(tensor.file_dtype)


def random_inputs(tensors: Sequence[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """Reproducible inputs: floats in [-1, 1), integers from 0 to 9, or less in a shorter axis, random booleans."""
    random = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for tensor in tensors:
        kind = np.dtype(tensor.dtype).kind
        end = min(tensor.indices or 10, 10)
        values = random.uniform(-1, 1, tensor.shape) if kind == "f" else random.integers(0, end, tensor.shape)
        inputs[tensor.name] = np.asarray(values % 2 if kind == "b" else values).astype(tensor.dtype)
    return inputs


def read_npz(
    path: Path,
    expected: Sequence[TensorInfo] | None = None,
    limit: int = DEFAULT_LIMIT,
    *,
    any_batch: bool = False,
) -> dict[str, Array]:
    """Read the arrays of an .npz file that may be hostile: no pickles, and at most `limit` bytes in all.

    With `expected`, names (or numpy's arr_0, arr_1, ... in the order of the inputs), shapes and dtypes are checked
    before any data is read; any_batch: see `checked_inputs`. Raises UsageError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            limit = min(limit, max(_ALWAYS_READ, _MOST_TIMES * path.stat().st_size))
            members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            arrays: dict[str, Array] = {}
            for key, (name, tensor) in _wanted(members, expected).items():
                arrays[name] = _read_member(archive, members[key], name, tensor, limit, any_batch=any_batch)
                limit -= arrays[name].nbytes
            return arrays
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", remedy=error.remedy) from error
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UsageError(f"'{path}' is not a valid .npz file ({error})", remedy="write it with numpy.savez") from error


def _wanted(
    members: Mapping[str, zipfile.ZipInfo], expected: Sequence[TensorInfo] | None
) -> dict[str, tuple[str, TensorInfo | None]]:
    if expected is None:
        return {name: (name, None) for name in members}
    positional = [f"arr_{index}" for index in range(len(expected))]
    if sorted(members) == sorted(positional):
        return {key: (tensor.name, tensor) for key, tensor in zip(positional, expected, strict=True)}
    check_names(members, expected)
    return {tensor.name: (tensor.name, tensor) for tensor in expected}


def _read_member(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    name: str,
    tensor: TensorInfo | None,
    limit: int,
    *,
    any_batch: bool,
) -> Array:
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject or dtype.kind not in "biuf":
            raise UsageError(f"array '{name}' has dtype {dtype}, expected numbers")
        if tensor is not None:
            check_type(tensor, shape, dtype.newbyteorder("="), any_batch=any_batch)
        size = int(np.prod([int(extent) for extent in shape], dtype=object)) * dtype.itemsize
        if any(extent < 0 for extent in shape):
            raise UsageError(f"array '{name}' has the impossible shape {shape}")
        if size > limit:
            raise UsageError(
                f"array '{name}' has {size} bytes, at most {limit} more are read",
                remedy="give fewer numbers, or write them with numpy.savez, which compresses nothing",
            )
        flat = _read_exactly(file, size, name).view(dtype)
    array = flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_exactly(file: IO[bytes], size: int, name: str) -> Array:
    memory = aligned_empty((size,), "uint8")
    done = 0
    while done < size:
        part = file.read(min(size - done, 2**20))
        if not part:
            raise UsageError(f"array '{name}' is cut off after {done} of {size} bytes")
        memory[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    return memory


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays under any names, as numpy.load reads them (numpy.savez refuses the name 'file')."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
