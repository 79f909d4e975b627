"""Shapes and types of values, and the small constant arithmetic that exporters write to compute shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
from onnx import defs

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.stored_tensors import check_type
from qcompiler.frontend.structure import label
from qcompiler.frontend.value_types import check_tensor
from qcompiler.ir import oracle
from qcompiler.ir.ops import DOMAIN, IR_VERSION, OPSET

Array = npt.NDArray[Any]

# What the library's checks raise on graphs that break its rules.
ONNX_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    defs.SchemaError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
)

# elements of constants that count as shapes, axes or indices; chosen
MAX_KNOWN_ELEMENTS = 4096
# Shape arithmetic in floats works on a few sizes; larger float constants are weights, left for the passes.
_MAX_KNOWN_FLOATS = 16

# fmt: off
_SHAPE_ARITHMETIC = frozenset({
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Exp", "Expand", "Floor",
    "Gather", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod",
    "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum",
    "Reshape", "Round", "ScatterElements", "ScatterND", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile",
    "Transpose", "Unsqueeze", "Where", "Xor",
})
# fmt: on
# Standard operators without an inference function.
_UNTYPED = ("GroupNormalization",)
_STAND_INS = dict.fromkeys(("Binarize", "Quantize", "RoundTo", "Threshold", *_UNTYPED), "Identity") | {
    "IntegerConv": "Conv",
    "IntegerMatMul": "MatMul",
    "RoundedMatMul": "MatMul",
    "IntegerMaxPool": "MaxPool",
}
_STAND_IN_INPUTS = {"IntegerConv": 2, "IntegerMatMul": 2, "RoundedMatMul": 2}


def output_types(
    node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, Array]
) -> dict[str, onnx.TypeProto]:
    """The static tensor type of every output of a canonical node."""
    stand_in = _stand_in(node) if node.domain == DOMAIN or node.op_type in _UNTYPED else node
    inputs = {name: types[name] for name in stand_in.input if name}
    data = {name: _small_tensor(known[name]) for name in inputs if name in known}
    try:
        schema = defs.get_schema(stand_in.op_type, OPSET, "")
        found = onnx.shape_inference.infer_node_outputs(
            schema, stand_in, inputs, data, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
    except ONNX_ERRORS as error:
        raise InvalidModel(
            f"{node.op_type} cannot have these inputs and attributes: {error}",
            node=label(node),
            remedy="check the shapes given and the file",
        ) from error
    for name in node.output:
        if name:
            _check_output(node, name, found.get(name))
    return {name: found[name] for name in node.output if name}


def evaluate(
    node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, Array]
) -> dict[str, Array] | None:
    """The values of the outputs of a small constant shape computation, None for any other node."""
    if node.op_type == "Shape" and not node.domain:
        return {node.output[0]: _shape_of(node, types[node.input[0]])}
    if node.op_type == "Size" and not node.domain:
        return {node.output[0]: np.asarray(math.prod(_sizes(types[node.input[0]])), np.int64)}
    if node.domain or node.op_type not in _SHAPE_ARITHMETIC or not _is_small(node, types):
        return None
    if any(name and name not in known for name in node.input):
        return None
    inputs = {name: known[name] for name in node.input if name}
    if node.op_type == "Identity":
        # a session costs a millisecond, and loops are full of them
        return {node.output[0]: inputs[node.input[0]]}
    try:
        return oracle.run(_single(node, types), inputs)
    except QCompilerError as error:
        raise InvalidModel(
            f"{node.op_type} of constants fails: {error}", node=label(node), remedy="check the constants of the file"
        ) from error


def evaluate_constants(
    nodes: Sequence[onnx.NodeProto],
    name: str,
    types: Mapping[str, onnx.TypeProto],
    stored: Mapping[str, onnx.TensorProto],
) -> Array | None:
    """The value `name` of nodes that read only `stored` tensors; None if they cannot be evaluated."""
    read = {value for node in nodes for value in node.input}
    output = onnx.ValueInfoProto(name=name, type=types[name])
    tensors = [stored[value] for value in sorted(read) if value in stored]
    graph = onnx.helper.make_graph(nodes, "constant", [], [output], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    try:
        return oracle.run(ir.from_proto(model), {})[name]
    except QCompilerError:
        return None


def sizes_and_type(value: onnx.TypeProto) -> tuple[tuple[int, ...], int]:
    """Shape and element type of a static tensor type."""
    return _sizes(value), int(value.tensor_type.elem_type)


def _sizes(value: onnx.TypeProto) -> tuple[int, ...]:
    return tuple(int(dim.dim_value) for dim in value.tensor_type.shape.dim)


def _shape_of(node: onnx.NodeProto, value: onnx.TypeProto) -> Array:
    sizes = _sizes(value)
    end = attributes.integer(node, "end", len(sizes))
    return np.asarray(sizes[slice(attributes.integer(node, "start", 0), end)], np.int64)


def _small_tensor(value: Array) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(value)


def _is_small(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> bool:
    for name in (*node.input, *node.output):
        if name:
            sizes, element = sizes_and_type(types[name])
            is_float = element in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
            if math.prod(sizes) > (_MAX_KNOWN_FLOATS if is_float else MAX_KNOWN_ELEMENTS):
                return False
    return True


def _check_output(node: onnx.NodeProto, name: str, found: onnx.TypeProto | None) -> None:
    what = f"output '{name}' of {node.op_type}"
    if found is None:
        raise UnsupportedModel(f"{what} has no known type", node=label(node), remedy="use tensors only")
    check_tensor(found, what, label(node))
    dims = found.tensor_type.shape.dim
    if not found.tensor_type.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
        raise UnsupportedModel(
            f"the shape of {what} depends on data", node=label(node), remedy="export the model with static shapes"
        )
    check_type(found.tensor_type.elem_type, [dim.dim_value for dim in dims], what, label(node))


def _single(node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto]) -> onnx.ModelProto:
    names = dict.fromkeys(name for name in node.input if name)
    inputs = [onnx.ValueInfoProto(name=name, type=types[name]) for name in names]
    outputs = [onnx.ValueInfoProto(name=name, type=types[name]) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "constant", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _stand_in(node: onnx.NodeProto) -> onnx.NodeProto:
    """A standard node with the shapes of a `qcompiler` op, or of a standard one that has no inference."""
    keep: Sequence[str] = ("kernel_shape", "strides", "pads", "dilations", "group", "ceil_mode")
    kept = [attribute for attribute in node.attribute if attribute.name in keep]
    inputs = node.input[: _STAND_IN_INPUTS.get(node.op_type, 1)]
    stand_in = onnx.helper.make_node(_STAND_INS[node.op_type], inputs, node.output)
    stand_in.attribute.extend(kept)
    return stand_in
