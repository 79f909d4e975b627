"""The types that inputs and outputs have in the file, where the graph has float32 (docs/adr/0018-half-and-double.md).

Kept in the graph's metadata under "qcompiler.file_types", as JSON: float16, bfloat16 or float64 by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

Array = npt.NDArray[Any]

_KEY = "qcompiler.file_types"
_T = onnx.TensorProto
_NAMES = {_T.FLOAT16: "float16", _T.BFLOAT16: "bfloat16", _T.DOUBLE: "float64"}
_DTYPES = {name: onnx.helper.tensor_dtype_to_np_dtype(kind) for kind, name in _NAMES.items()}
_LARGEST = {"float16": 65504.0, "bfloat16": float(np.float32(2.0**128 - 2.0**120))}


def file_type(element_type: int) -> str:
    """The name of a floating-point type that is float32 in graphs."""
    return _NAMES[element_type]


def record_file_types(graph: ir.Graph, types: Mapping[str, str]) -> None:
    """Remember types by the names of inputs and outputs."""
    if types:
        graph.metadata_props[_KEY] = json.dumps(types)


def file_types(graph: ir.Graph) -> dict[str, str]:
    """Types by name of those inputs and outputs that are of another type than in the file."""
    return dict(json.loads(graph.metadata_props.get(_KEY, "{}")))


def to_file_type(array: Array, kind: str) -> Array:
    """Numbers in a type of the file; "" leaves them as they are."""
    with np.errstate(over="ignore"):
        return array.astype(_DTYPES[kind]) if kind else array


def from_file_type(array: Array) -> Array:
    """Numbers of the file's types in float32; others as they are."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype in _DTYPES.values() else array


def representable(array: Array, kind: str) -> Array:
    """The nearest float32 numbers that a type of the file holds, of finite ones finite ones."""
    limit = _LARGEST.get(kind)
    return array if limit is None else from_file_type(to_file_type(np.clip(array, -limit, limit), kind))
