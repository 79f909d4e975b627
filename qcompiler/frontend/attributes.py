"""Reading attributes of nodes whose types nobody has checked yet."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend.structure import label

_A = onnx.AttributeProto


def integer(node: onnx.NodeProto, name: str, default: int) -> int:
    """The value of an INT attribute."""
    found = _find(node, name, _A.INT)
    return default if found is None else int(found.i)


def axis(node: onnx.NodeProto, name: str, default: int, rank: int) -> int:
    """An INT attribute that is one of `rank` axes, counted from 0; negative ones count from the end."""
    found = integer(node, name, default)
    if not -rank <= found < rank:
        raise InvalidModel(
            f"{name} of {node.op_type} is {found}, expected one of {rank} axes",
            node=label(node),
            remedy="check the shapes given and the exporter",
        )
    return found % rank


def real(node: onnx.NodeProto, name: str, default: float) -> float:
    """The value of a FLOAT attribute; an INT, which some exporters write, counts as well."""
    found = _find(node, name, _A.FLOAT, _A.INT)
    if found is None:
        return default
    return float(found.i if found.type == _A.INT else found.f)


def text(node: onnx.NodeProto, name: str, default: str) -> str:
    """The value of a STRING attribute."""
    found = _find(node, name, _A.STRING)
    return default if found is None else bytes(found.s).decode("utf-8", "replace")


def integers(node: onnx.NodeProto, name: str) -> tuple[int, ...] | None:
    """The value of an INTS attribute, None where it is absent."""
    found = _find(node, name, _A.INTS)
    return None if found is None else tuple(int(value) for value in found.ints)


def reals(node: onnx.NodeProto, name: str) -> tuple[float, ...] | None:
    """The value of a FLOATS attribute, None where it is absent."""
    found = _find(node, name, _A.FLOATS)
    return None if found is None else tuple(float(value) for value in found.floats)


def has(node: onnx.NodeProto, name: str) -> bool:
    """Whether the node carries an attribute of this name."""
    return any(attribute.name == name for attribute in node.attribute)


def without(node: onnx.NodeProto, names: Sequence[str]) -> list[onnx.AttributeProto]:
    """The node's attributes except `names`."""
    return [attribute for attribute in node.attribute if attribute.name not in names]


def state(node: onnx.NodeProto, name: str, value: str | int | Sequence[int]) -> None:
    """Give the node an attribute of this value, in place of one of the same name."""
    drop(node, [name])
    node.attribute.append(onnx.helper.make_attribute(name, value))


def drop(node: onnx.NodeProto, names: Sequence[str]) -> None:
    """Take away the attributes `names`."""
    for attribute in [attribute for attribute in node.attribute if attribute.name in names]:
        node.attribute.remove(attribute)


def _find(node: onnx.NodeProto, name: str, *types: int) -> onnx.AttributeProto | None:
    for attribute in node.attribute:
        if attribute.name == name:
            if attribute.type not in types:
                raise InvalidModel(
                    f"attribute '{name}' of {node.op_type} has type {attribute.type}, expected {types[0]}",
                    node=label(node),
                    remedy="the file is damaged; export it again",
                )
            return attribute
    return None
