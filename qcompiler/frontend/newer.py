"""Operators that have no form at the project's opset, and the standard's own definitions of them.

An operator can be newer than the project's opset, or have gained an attribute or an element type since. Where the
standard defines it by a function, the function takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import defs

from qcompiler.errors import UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.structure import label
from qcompiler.ir.ops import OPSET

# Defined by functions, and unknown to shape inference or to code generation, or made to less than their precision.
_ALWAYS = frozenset(
    {"Celu", "MeanVarianceNormalization", "Mish", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}
)
# upgrade.py writes what is newer of them with what is older.
_REWRITTEN = frozenset({"BitShift"})
# Code is generated for the first output alone.
_FOR_MORE_OUTPUTS = frozenset({"LayerNormalization"})
# Up to here every operator that kept its name kept its meaning; above, those that took on attributes or types alone.
_COMPARED = 26
# fmt: off
_SAME_MEANING = frozenset({
    "BitShift", "Cast", "Celu", "Compress", "DepthToSpace", "DequantizeLinear", "Einsum", "Mod", "OneHot",
    "QuantizeLinear", "Range", "ReduceLogSum", "ReduceLogSumExp", "ReverseSequence", "SpaceToDepth", "Unique",
})
# fmt: on


def definition(node: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]) -> onnx.FunctionProto | None:
    """The standard's definition of an operator without a form at the project's opset; None for any other.

    types: of the node's inputs. Raises UnsupportedModel where there is no such definition.
    """
    schema = defs.get_schema(node.op_type, opset, "")
    if node.op_type in _REWRITTEN:
        return None
    missing = _missing(node, schema, opset, types)
    if not missing and not _is_expanded(node):
        return None
    content = _body(schema, node, opset, types)
    if not content:
        raise UnsupportedModel(
            f"{missing} has no form at opset {OPSET}", node=label(node), remedy=f"export with opset {OPSET}"
        )
    return _with_defaults(onnx.FunctionProto.FromString(content), schema)


def drop_later_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Remove attributes that the project's opset does not know, where they say what it does anyway."""
    if opset > OPSET and defs.has(node.op_type, OPSET, ""):
        for attribute in _later(node, defs.get_schema(node.op_type, opset, "")):
            if _is_default(attribute, defs.get_schema(node.op_type, opset, "")):
                node.attribute.remove(attribute)


def _is_expanded(node: onnx.NodeProto) -> bool:
    return node.op_type in _ALWAYS or (node.op_type in _FOR_MORE_OUTPUTS and any(list(node.output)[1:]))


def _missing(node: onnx.NodeProto, schema: defs.OpSchema, opset: int, types: Sequence[onnx.TypeProto]) -> str:
    """What of the node the project's opset does not have; "" for nothing."""
    if opset <= OPSET:
        return ""
    name = f"operator {node.op_type} of opset {opset}"
    if not defs.has(node.op_type, OPSET, ""):
        return name
    if schema.since_version > _COMPARED and node.op_type not in _SAME_MEANING:
        return name
    known = defs.get_schema(node.op_type, OPSET, "")
    for attribute in _later(node, schema):
        if not _is_default(attribute, schema):
            return f"attribute '{attribute.name}' of {node.op_type}"
    for index, value in enumerate(types):
        kind = _type_name(value)
        if kind in _allowed(schema, index) and kind not in _allowed(known, index):
            return f"{kind} in {node.op_type} of opset {opset}"
    kind = _cast_type(node)
    if kind in schema.outputs[0].types and kind not in known.outputs[0].types:
        return f"{kind} in {node.op_type} of opset {opset}"
    return ""


def _later(node: onnx.NodeProto, schema: defs.OpSchema) -> list[onnx.AttributeProto]:
    known = defs.get_schema(node.op_type, OPSET, "").attributes
    return [a for a in node.attribute if a.name in schema.attributes and a.name not in known]


def _is_default(attribute: onnx.AttributeProto, schema: defs.OpSchema) -> bool:
    default = schema.attributes[attribute.name].default_value
    value = onnx.helper.get_attribute_value
    return bool(default.name) and attribute.type == default.type and value(attribute) == value(default)


def _cast_type(node: onnx.NodeProto) -> str:
    """The type that a Cast asks for, "" for any other operator."""
    return _name_of(attributes.integer(node, "to", 0)) if node.op_type == "Cast" else ""


def _type_name(value: onnx.TypeProto) -> str:
    return _name_of(value.tensor_type.elem_type)


def _name_of(element_type: int) -> str:
    known = element_type in onnx.TensorProto.DataType.values()
    return f"tensor({onnx.TensorProto.DataType.Name(element_type).lower()})" if known else f"type {element_type}"


def _allowed(schema: defs.OpSchema, index: int) -> frozenset[str]:
    """Element types of an input; a variadic operator's last parameter stands for all further ones."""
    return frozenset(schema.inputs[min(index, len(schema.inputs) - 1)].types) if schema.inputs else frozenset()


def _with_defaults(function: onnx.FunctionProto, schema: defs.OpSchema) -> onnx.FunctionProto:
    """The definition with the values that the operator gives to absent attributes, which it does not repeat."""
    for name in list(function.attribute):
        default = schema.attributes[name].default_value
        if default.name:
            function.attribute.remove(name)
            function.attribute_proto.add().CopyFrom(default)
    return function


def _body(schema: defs.OpSchema, node: onnx.NodeProto, opset: int, types: Sequence[onnx.TypeProto]) -> bytes:
    if schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        kinds = [value.SerializeToString() for value in types]
        return bytes(
            schema.get_context_dependent_function_with_opset_version(max(versions), node.SerializeToString(), kinds)
        )
    if schema.has_function:
        versions = [v for v in schema.function_opset_versions if v <= opset]
        return bytes(schema.get_function_with_opset_version(max(versions)))
    return b""
