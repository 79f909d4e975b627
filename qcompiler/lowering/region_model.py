"""A run of nodes as a self-contained ONNX model.

Nodes that the layout pass marked run on channels-last tensors: shapes, constants and axes are permuted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from qcompiler.ir.axis_order import AXIS, channels_last_shape, reduced_axes
from qcompiler.ir.ops import IR_VERSION, OPSET
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, consumers_of, dtype_of, integer, shape_of

Array = npt.NDArray[Any]


def region_model(nodes: Sequence[ir.Node], permuted: bool = False) -> tuple[onnx.ModelProto, dict[ir.Value, str]]:
    """The model, whose outputs are what escapes from the nodes, and the plain names of all values in it.

    permuted: whether images are channels-last.
    """
    names = _plain_names(nodes)
    return _model(nodes, names, permuted), names


def escaping(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    """Values made by the nodes and read outside of them, or outputs of the graph."""
    inside = set(nodes)
    made = [value for node in nodes for value in node.outputs]
    return [
        value
        for value in made
        if value.is_graph_output() or any(consumer not in inside for consumer in consumers_of(value))
    ]


def _plain_names(nodes: Sequence[ir.Node]) -> dict[ir.Value, str]:
    """TVM rewrites names that are no identifiers; plain ones survive."""
    values = [value for node in nodes for value in (*node.inputs, *node.outputs) if value is not None]
    return {value: f"v{index}" for index, value in enumerate(dict.fromkeys(values))}


def _model(nodes: Sequence[ir.Node], names: dict[ir.Value, str], permuted: bool) -> onnx.ModelProto:
    made = {value for node in nodes for value in node.outputs}
    protos: list[onnx.NodeProto] = []
    inputs: list[onnx.ValueInfoProto] = []
    constants: list[onnx.TensorProto] = []
    for node in nodes:
        proto = ir.serde.serialize_node(node)
        del proto.input[:], proto.output[:], proto.metadata_props[:]
        proto.input.extend(names[value] if value is not None else "" for value in node.inputs)
        proto.output.extend(names[value] for value in node.outputs)
        protos.append(_channels_last_node(node, proto, constants) if permuted else proto)
    for value, name in names.items():
        constant = constant_of(value)
        if constant is not None:
            data = _channels_last_constant(constant) if permuted else constant
            constants.append(numpy_helper.from_array(data, name))
        elif value not in made:
            inputs.append(_info(value, name, permuted))
    outputs = [_info(value, names[value], permuted) for value in escaping(nodes)]
    known = [_info(value, name, permuted) for value, name in names.items() if value in made and value.shape is not None]
    graph = helper.make_graph(protos, "region", inputs, outputs, constants, value_info=known)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _info(value: ir.Value, name: str, permuted: bool) -> onnx.ValueInfoProto:
    shape = channels_last_shape(shape_of(value)) if permuted else shape_of(value)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype_of(value)), shape)


def _channels_last_constant(constant: Array) -> Array:
    """A float constant that broadcasts against [N, H, W, C]; axes lists and the like are replaced per node."""
    if constant.dtype != np.float32 or constant.size == 1:
        return constant
    full = constant.reshape((1,) * (4 - constant.ndim) + constant.shape)
    return np.ascontiguousarray(full.transpose(0, 2, 3, 1))


def _channels_last_node(node: ir.Node, proto: onnx.NodeProto, constants: list[onnx.TensorProto]) -> onnx.NodeProto:
    """The same op with its axes where they are in NHWC."""
    inputs, outputs = list(proto.input), list(proto.output)
    if node.op_type == "Concat":
        return helper.make_node("Concat", inputs, outputs, node.name, axis=AXIS[integer(node, "axis", 1) % 4])
    axes, keepdims = reduced_axes(node) if has(node, Trait.REDUCES) else None, integer(node, "keepdims", 1)
    kind = node.op_type
    if kind in ("GlobalAveragePool", "GlobalMaxPool"):
        axes, kind = (2, 3), "ReduceMean" if kind == "GlobalAveragePool" else "ReduceMax"
    if axes is None:
        return proto
    name = f"{outputs[0]}_axes"
    constants.append(numpy_helper.from_array(np.array(sorted(AXIS[axis] for axis in axes)), name))
    return helper.make_node(kind, [inputs[0], name], outputs, node.name, keepdims=keepdims)
