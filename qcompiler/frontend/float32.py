"""Models of other floating-point types as float32 (docs/adr/0018-half-and-double.md).

float16 and bfloat16 are types in which files store numbers: everything is computed in float32, from the same numbers.
What turns other numbers into one of them still rounds to it. float64 is computed in float32 in networks, models with
layers, that take it as input; elsewhere it stays what it is, for the few nodes that need it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from qcompiler.frontend.stored_tensors import check_stored
from qcompiler.frontend.structure import label, subgraphs
from qcompiler.ir.file_types import file_type

_T = onnx.TensorProto
HALVES = frozenset({_T.FLOAT16, _T.BFLOAT16})
# attributes of standard operators that hold an element type
_TYPE_ATTRIBUTES = frozenset(
    {"dtype", "output_datatype", "output_dtype", "precision", "softmax_precision", "stash_type"}
)
_STANDARD = ("", "ai.onnx")
# operators that make a model a network, whose kernels multiply float32
_LAYERS = frozenset({"Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
Nodes = Any


def other_types(model: onnx.ModelProto) -> frozenset[int]:
    """The element types of a file that become float32."""
    doubles = any(value.type.tensor_type.elem_type == _T.DOUBLE for value in _inputs(model.graph))
    doubles = doubles and any(node.op_type in _LAYERS for node in _nodes(model))
    return HALVES | ({_T.DOUBLE} if doubles else frozenset())


def file_types(model: onnx.ModelProto) -> dict[str, str]:
    """The types that inputs and outputs have in a file, by name, where they become float32."""
    others = other_types(model)
    values = (*_inputs(model.graph), *model.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    return {name: file_type(kind) for name, kind in kinds.items() if kind in others}


def holds_halves(model: onnx.ModelProto) -> bool:
    """Whether a model stores, takes or makes 16-bit floats."""
    graphs = [model.graph, *(graph for node in _nodes(model) for graph in subgraphs(node))]
    declared = (value.type.tensor_type.elem_type for graph in graphs for value in (*graph.input, *graph.output))
    stored = (tensor.data_type for graph in graphs for tensor in graph.initializer)
    inside = (kind for node in _nodes(model) for kind in (_cast_to(node, {}), *(t.data_type for t in _tensors(node))))
    return not HALVES.isdisjoint((*declared, *stored, *inside))


def to_float32(model: onnx.ModelProto, types: Collection[int]) -> None:
    """Turn the element `types` of a model into float32, in place: tensors, declarations and what nodes ask for.

    A Cast to a 16-bit type remains, followed by one to float32: it rounds. Raises InvalidModel for a tensor whose data
    does not fill its shape.
    """
    kinds = _kinds(model.graph, types)
    _convert_graph(model.graph, types, kinds)
    for function in model.functions:
        del function.value_info[:]
        _convert_nodes(function.node, types, kinds)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of functions and subgraphs too."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(part for graph in subgraphs(node) for part in graph.node)


def _kinds(graph: onnx.GraphProto, types: Collection[int]) -> dict[str, int]:
    """The values that are known to be of one of the types, and of which: what is like one rounds as a Cast does."""
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    found |= {
        node.output[0]: attribute.t.data_type
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and node.output and attribute.name == "value"
    }
    return {name: kind for name, kind in found.items() if kind in types}


def _convert_graph(graph: onnx.GraphProto, types: Collection[int], kinds: Mapping[str, int]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        _convert_type(value.type, types)
    for tensor in graph.initializer:
        _convert_tensor(tensor, types, f"constant '{tensor.name}'")
    _convert_nodes(graph.node, types, kinds)


def _convert_type(declared: onnx.TypeProto, types: Collection[int]) -> None:
    kind = declared.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(declared, kind)
        tensor.elem_type = _T.FLOAT if tensor.elem_type in types else tensor.elem_type
    elif kind in ("sequence_type", "optional_type"):
        _convert_type(getattr(declared, kind).elem_type, types)


def _convert_tensor(tensor: onnx.TensorProto, types: Collection[int], what: str, node: str = "") -> None:
    if tensor.data_type not in types:
        return
    check_stored(tensor, what, node)
    with np.errstate(over="ignore"):
        array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _convert_nodes(nodes: Nodes, types: Collection[int], kinds: Mapping[str, int]) -> None:
    converted = [each for node in nodes for each in _converted(node, types, kinds)]
    if len(converted) > len(nodes):
        del nodes[:]
        nodes.extend(converted)


def _converted(node: onnx.NodeProto, types: Collection[int], kinds: Mapping[str, int]) -> Iterator[onnx.NodeProto]:
    """The node in float32, converted in place, and what has to follow it."""
    for tensor in _tensors(node):
        _convert_tensor(tensor, types, f"constant of {node.op_type}", label(node))
    for attribute in node.attribute:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in types:
            attribute.i = _T.FLOAT
    for graph in subgraphs(node):
        _convert_graph(graph, types, {**kinds, **_kinds(graph, types)})
    yield node
    target = _cast_to(node, kinds)
    if target in HALVES:
        yield _rounding(node, target)
    elif target in types:
        _cast(node, _T.FLOAT)


def _tensors(node: onnx.NodeProto) -> list[onnx.TensorProto]:
    stored = [attribute.t for attribute in node.attribute if attribute.HasField("t")]
    return stored + [tensor for attribute in node.attribute for tensor in attribute.tensors]


def _cast_to(node: onnx.NodeProto, kinds: Mapping[str, int]) -> int:
    """The type to which a node casts, 0 for other nodes and where it is not one of those that are converted."""
    if node.domain not in _STANDARD or not node.output:
        return 0
    if node.op_type == "CastLike" and len(node.input) == 2:
        return kinds.get(node.input[1], 0)
    return next((int(each.i) for each in node.attribute if each.name == "to"), 0) if node.op_type == "Cast" else 0


def _cast(node: onnx.NodeProto, target: int) -> None:
    node.op_type = "Cast"
    del node.input[1:]
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("to", target))


def _rounding(node: onnx.NodeProto, target: int) -> onnx.NodeProto:
    """Makes a node a Cast to a 16-bit type; the result is the Cast to float32 that gives its output instead of it."""
    _cast(node, target)
    wanted = node.output[0]
    node.output[0] = f"{wanted}/{_T.DataType.Name(target).lower()}"
    return onnx.helper.make_node("Cast", [node.output[0]], [wanted], f"{label(node)}/float32", to=_T.FLOAT)
