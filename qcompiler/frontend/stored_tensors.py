"""Stored tensors of an untrusted file: their types, sizes and external data are checked before anyone uses them."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel

# of one value; chosen
MAX_VALUE_BYTES = 2**32
# what protobuf holds, 2 GiB, with room for the graph
MAX_STORED_BYTES = 2**31 - 2**24
# dimensions; chosen
MAX_RANK = 32

_T = onnx.TensorProto
_BITS = {
    _T.FLOAT: 32,
    _T.DOUBLE: 64,
    _T.FLOAT16: 16,
    _T.BFLOAT16: 16,
    _T.INT8: 8,
    _T.INT16: 16,
    _T.INT32: 32,
    _T.INT64: 64,
    _T.UINT8: 8,
    _T.UINT16: 16,
    _T.UINT32: 32,
    _T.UINT64: 64,
    _T.BOOL: 8,
    _T.INT4: 4,
    _T.UINT4: 4,
    _T.INT2: 2,
    _T.UINT2: 2,
}
# Two-bit types came after the project's opset: stored tensors of them are widened, values of them are refused.
_WIDENED = {_T.INT2: np.int8, _T.UINT2: np.uint8}
TWO_BIT_RANGES = {_T.INT2: (-2, 1), _T.UINT2: (0, 3)}
_FIELDS = {_T.FLOAT: "float_data", _T.DOUBLE: "double_data", _T.INT64: "int64_data"}
_FIELDS |= {_T.UINT32: "uint64_data", _T.UINT64: "uint64_data"}


def check_type(element_type: int, dims: Sequence[int], what: str, node: str = "") -> None:
    """Refuse element types outside the supported ones and shapes that are negative or absurdly large."""
    _check(element_type, dims, what, node, frozenset(_BITS) - frozenset(_WIDENED))


def check_computed(element_type: int, what: str, node: str = "") -> None:
    """Refuse 16-bit floats as type of a value that is computed: what the file says of them has become float32."""
    if element_type in (_T.FLOAT16, _T.BFLOAT16):
        found = _T.DataType.Name(element_type).lower()
        raise UnsupportedModel(
            f"{what} is of type {found}, expected float32", node=node, remedy="convert the model to float32"
        )


def check_passed(element_type: int, what: str) -> None:
    """Refuse types that C and numpy cannot pass to a network or take from it."""
    if element_type in (_T.INT4, _T.UINT4):
        found = _T.DataType.Name(element_type).lower()
        raise UnsupportedModel(
            f"{what} is of type {found}, expected whole bytes", remedy=f"cast it to {found.replace('4', '8')}"
        )


def _check(element_type: int, dims: Sequence[int], what: str, node: str, supported: Collection[int]) -> None:
    if element_type not in supported:
        found = _T.DataType.Name(element_type) if element_type in _T.DataType.values() else f"type {element_type}"
        raise UnsupportedModel(f"{what} is of type {found}", node=node, remedy="use float32 or integer tensors")
    if len(dims) > MAX_RANK or any(dim < 0 for dim in dims):
        raise InvalidModel(
            f"{what} has shape {list(dims)[:8]}, expected at most {MAX_RANK} sizes >= 0",
            node=node,
            remedy="the file is damaged; export it again",
        )
    # without its sizes of 0: as an array, such a value must not overflow either
    if byte_count(element_type, [dim for dim in dims if dim]) > MAX_VALUE_BYTES:
        raise InvalidModel(
            f"{what} of shape {list(dims)} exceeds 4 GiB", node=node, remedy="use smaller shapes or a smaller batch"
        )


def widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A stored tensor with two-bit elements as int8 or uint8; any other as it is."""
    if tensor.data_type not in _WIDENED:
        return tensor
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(_WIDENED[tensor.data_type]))


def byte_count(element_type: int, dims: Sequence[int]) -> int:
    """Bytes of a tensor, sub-byte elements packed."""
    return -(-math.prod(dims) * _BITS[element_type] // 8)


def read_external_data(model: onnx.ModelProto, folder: Path) -> None:
    """Replace every reference to external data by the data, from plain files inside `folder` only."""
    total = 0
    for tensor in _stored_tensors(model):
        if tensor.data_location != _T.EXTERNAL:
            continue
        _check(tensor.data_type, tensor.dims, f"tensor '{tensor.name}'", "", _BITS)
        total += byte_count(tensor.data_type, tensor.dims)
        if total > MAX_STORED_BYTES:
            raise UnsupportedModel("the model stores more than 2 GiB of weights", remedy="use a smaller model")
        tensor.raw_data = _external_bytes(tensor, folder)
        tensor.data_location = _T.DEFAULT
        del tensor.external_data[:]


def check_stored(tensor: onnx.TensorProto, what: str, node: str = "") -> None:
    """Refuse a tensor whose type is unsupported or whose data does not fill its shape exactly."""
    _check(tensor.data_type, tensor.dims, what, node, _BITS)
    if tensor.HasField("raw_data"):
        found, expected = len(tensor.raw_data), byte_count(tensor.data_type, tensor.dims)
        unit = "bytes"
    else:
        found = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
        expected = math.prod(tensor.dims)
        if _BITS[tensor.data_type] < 8:
            expected = byte_count(tensor.data_type, tensor.dims)
        unit = "elements"
    if found != expected:
        raise InvalidModel(
            f"{what} of shape {list(tensor.dims)} has {found} {unit}, expected {expected}",
            node=node,
            remedy="the file is damaged; export it again",
        )


def _stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in the file: initializers and attributes, in subgraphs and functions too."""
    nodes = [node for function in model.functions for node in function.node]
    graphs = [model.graph]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                graphs.append(attribute.g)
            graphs.extend(attribute.graphs)


def _external_bytes(tensor: onnx.TensorProto, folder: Path) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    what = f"external data of tensor '{tensor.name}'"
    expected = byte_count(tensor.data_type, tensor.dims)
    offset = _entry(entries, "offset", 0, what)
    if _entry(entries, "length", expected, what) != expected:
        raise InvalidModel(f"{what} has length {entries['length']}, expected {expected}", remedy="export it again")
    path = _contained(entries.get("location", ""), folder, what)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or offset + expected > status.st_size:
            raise InvalidModel(
                f"{what} needs bytes {offset} to {offset + expected} of '{path.name}', which has {status.st_size}",
                remedy="copy the complete data file next to the model",
            )
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(expected)
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{what}: {error}", remedy="copy the data file next to the model") from error


def _entry(entries: dict[str, str], key: str, default: int, what: str) -> int:
    text = entries.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise InvalidModel(f"{what} has {key} '{text[:40]}', expected a number", remedy="export it again")
    return int(text)


def _contained(location: str, folder: Path, what: str) -> Path:
    """The file inside `folder` that `location` names; links that lead elsewhere count as outside."""
    relative = Path(location)
    try:
        path = (folder / relative).resolve()
        inside = path.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not location or relative.is_absolute() or ".." in relative.parts or not inside:
        raise InvalidModel(
            f"{what} is in '{location[:200]}', expected a file in the model's folder",
            remedy="store the data next to the model",
        )
    return path
