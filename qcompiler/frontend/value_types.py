"""Types of values beside tensors, which ONNX has and networks of fixed memory have not: sequences, optionals, maps."""

from __future__ import annotations

import onnx

from qcompiler.errors import UnsupportedModel


def check_tensor(found: onnx.TypeProto, what: str, node: str = "") -> None:
    """Refuse a type that is known and no dense tensor."""
    if found.WhichOneof("value") not in (None, "tensor_type"):
        raise UnsupportedModel(
            f"{what} is of type {spelled(found)}, expected a tensor", node=node, remedy="export it with tensors only"
        )


def spelled(found: onnx.TypeProto) -> str:
    """A type as the operators' documentation spells it: tensor(float), seq(tensor(float)), optional(tensor(int64))."""
    kind = found.WhichOneof("value")
    if kind == "sequence_type":
        return f"seq({spelled(found.sequence_type.elem_type)})"
    if kind == "optional_type":
        return f"optional({spelled(found.optional_type.elem_type)})"
    if kind == "map_type":
        return f"map({_element(found.map_type.key_type)}, {spelled(found.map_type.value_type)})"
    if kind in ("tensor_type", "sparse_tensor_type"):
        return f"{kind.removesuffix('_type')}({_element(getattr(found, kind).elem_type)})"
    return "unknown"


def _element(number: int) -> str:
    known = number in onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number).lower() if known else f"type {number}"
