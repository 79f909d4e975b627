"""Graphs for onnxruntime as protos without their large constants, which are handed over as they lie in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler.ir.ops import attach_functions

Array = npt.NDArray[Any]

# shape inference reads the values of small ones; chosen
_SMALL_BYTES = 4096
# those that numpy has of its own
_TYPES = frozenset({"float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"})
# a name that any file may have: it is never opened
_PLACE = "memory"


@dataclass(frozen=True)
class Portable:
    """proto: a graph whose large initializers are declared, but hold no data; constants: the data, by name.

    The arrays are C-contiguous, and have to outlive a session that reads them.
    """

    proto: onnx.ModelProto
    constants: dict[str, Array]

    @property
    def nbytes(self) -> int:
        """Of graph and constants."""
        return int(self.proto.ByteSize()) + sum(array.nbytes for array in self.constants.values())


def portable(model: ir.Model | onnx.ModelProto) -> Portable:
    """A private copy of the model, which shares its large constants, with bodies for the `qcompiler` ops."""
    if isinstance(model, onnx.ModelProto):
        return _of_proto(model)
    attach_functions(model)
    with _set_aside(model.graph) as constants:
        return Portable(ir.to_proto(model), constants)


@contextlib.contextmanager
def _set_aside(graph: ir.Graph) -> Iterator[dict[str, Array]]:
    """The large constants of the graph by name, in whose place stand declarations meanwhile.

    onnxruntime forgets the initializers that no node reads, before it asks for their data.
    """
    read = {value for node in graph.all_nodes() for value in node.inputs}
    large = [value for value in graph.initializers.values() if value in read and _is_large(value.const_value)]
    tensors = [value.const_value for value in large]
    try:
        for value, tensor in zip(large, tensors, strict=True):
            value.const_value = ir.ExternalTensor(_PLACE, None, None, tensor.dtype, shape=tensor.shape, name=value.name)
        yield {str(v.name): np.ascontiguousarray(t.numpy()) for v, t in zip(large, tensors, strict=True)}
    finally:
        for value, tensor in zip(large, tensors, strict=True):
            value.const_value = tensor


def _is_large(tensor: ir.TensorProtocol | None) -> bool:
    if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes <= _SMALL_BYTES:
        return False
    return np.dtype(tensor.dtype.numpy()).name in _TYPES


def _of_proto(model: onnx.ModelProto) -> Portable:
    copy, constants = onnx.ModelProto(), {}
    copy.CopyFrom(model)
    read = set(names_read(copy.graph))
    for tensor in copy.graph.initializer:
        if tensor.name in read and _is_large(ir.from_proto(tensor)):
            constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(declaration(tensor))
    return Portable(copy, constants)


def names_read(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that nodes read, those of graphs within them too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from names_read(inner)


def declaration(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor without its data, which is handed over beside the graph."""
    declared = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    declared.data_location = onnx.TensorProto.EXTERNAL
    declared.external_data.add(key="location", value=_PLACE)
    return declared
