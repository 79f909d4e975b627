"""Products of integers that onnxruntime adds up without saturation, whatever the processor.

x86 processors without VNNI add two products of an unsigned and a signed byte in 16 bits, which saturate: 2 * 255 * 127
is 32767 there. onnxruntime does so where its right operand has a sign, whatever the left one has, and adds them in 32
bits where neither has. 128 more in an operand and in its zero point change no product, and no result in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir.portable import Portable, declaration, names_read

Array: TypeAlias = npt.NDArray[Any]
Operand: TypeAlias = tuple[int, int]
"""Where a node has an operand, and the zero point of that."""

_MOVED = 128


@dataclass(frozen=True)
class _Product:
    """left: None where it is made of floats. result: where the zero point is of a result in bytes."""

    left: Operand | None
    right: Operand
    result: int | None = None

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Those that may have a sign."""
        return (self.right,) if self.left is None else (self.left, self.right)


_PRODUCTS: Mapping[tuple[str, str], _Product] = {
    ("", "MatMulInteger"): _Product((0, 2), (1, 3)),
    ("", "ConvInteger"): _Product((0, 2), (1, 3)),
    ("", "QLinearMatMul"): _Product((0, 2), (3, 5), 7),
    ("", "QLinearConv"): _Product((0, 2), (3, 5), 7),
    ("com.microsoft", "MatMulIntegerToFloat"): _Product((0, 4), (1, 5)),
    ("com.microsoft", "DynamicQuantizeMatMul"): _Product(None, (1, 3)),
    ("com.microsoft", "QGemm"): _Product((0, 2), (3, 5), 8),
    ("com.microsoft", "QAttention"): _Product((0, 6), (1, 7)),
}
# where others have the zero point of their result
_ZERO_OF_RESULT: Mapping[str, int] = {
    "QuantizeLinear": 2, "QLinearAdd": 7, "QLinearMul": 7, "QLinearAveragePool": 4, "QLinearGlobalAveragePool": 4,
    "QLinearConcat": 1, "QLinearLeakyRelu": 4, "QLinearSigmoid": 4, "QLinearSoftmax": 4,
}  # fmt: skip
# what these give has the type of what they read first
_SAME_TYPE = frozenset(
    {"Clip", "Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "Split",
     "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip


def unsaturated(model: Portable) -> Portable:
    """The model with operands of integer products that have no sign; the same where there are no such products.

    Those of the graph itself are changed whose types it tells, not those of graphs and functions within it.
    """
    if not any(_product(node) for node in model.proto.graph.node):
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    work = _Work(proto.graph, dict(model.constants))
    nodes = [made for node in proto.graph.node for made in work.rewritten(node)]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    # onnxruntime knows no others
    read = set(names_read(proto.graph))
    return Portable(proto, {name: array for name, array in work.constants.items() if name in read})


def _product(node: onnx.NodeProto) -> _Product | None:
    return _PRODUCTS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def _input(node: onnx.NodeProto, place: int) -> str:
    """An operand; empty where there is none."""
    return str(node.input[place]) if place < len(node.input) else ""


class _Work:
    """A graph that is changed, and its constants."""

    def __init__(self, graph: onnx.GraphProto, constants: dict[str, Array]) -> None:
        self.constants = constants
        self._graph = graph
        self._given = {tensor.name: tensor for tensor in graph.initializer}
        self._types = _types(graph)
        self._moved: dict[str, str] = {}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(self._given)

    def rewritten(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node, and beside it those that take signs from its operands and give one to its result."""
        product = _product(node)
        signed = [at for at in product.operands if self._is_signed(_input(node, at[0]))] if product else []
        known = product and all(_input(node, at) in self._types for at, _ in product.operands)
        if product is None or not signed or not known:
            yield node
            return
        places = [place for at in signed for place in at]
        moves_result = False
        if product.result is not None and product.left in signed and self._is_signed(_input(node, product.result)):
            places.append(product.result)
            moves_result = True
        node.input.extend([""] * (max(places) + 1 - len(node.input)))
        for place in places:
            yield from self._operand(node, place)
        result = node.output[0]
        if moves_result:
            node.output[0] = self._fresh(result)
        yield node
        if moves_result:
            yield from self._added(node.output[0], -_MOVED, TensorProto.INT8, result)

    def _is_signed(self, name: str) -> bool:
        return self._types.get(name) == int(TensorProto.INT8)

    def _operand(self, node: onnx.NodeProto, place: int) -> Iterator[onnx.NodeProto]:
        """Put another value in the place of an operand, 128 more; nodes that make it, once."""
        name = node.input[place]
        if name and name not in self._moved:
            yield from self._moving(name)
        node.input[place] = self._moved[name] if name else self._constant(np.asarray(_MOVED, np.uint8))

    def _moving(self, name: str) -> Iterator[onnx.NodeProto]:
        """Nodes that add 128 to a value; none for a constant, of which there is another then."""
        if name in self._given:
            held = self.constants.get(name)
            array = numpy_helper.to_array(self._given[name]) if held is None else held
            self._moved[name] = self._constant((array.astype(np.int16) + _MOVED).astype(np.uint8))
            return
        self._moved[name] = self._fresh(name)
        yield from self._added(name, _MOVED, TensorProto.UINT8, self._moved[name])

    def _added(self, name: str, number: int, kind: int, into: str) -> Iterator[onnx.NodeProto]:
        """A value of bytes and a number, as bytes of another type."""
        wide, total = self._fresh(name), self._fresh(name)
        yield helper.make_node("Cast", [name], [wide], to=TensorProto.INT32)
        yield helper.make_node("Add", [wide, self._constant(np.asarray(number, np.int32))], [total])
        yield helper.make_node("Cast", [total], [into], to=kind)

    def _constant(self, array: Array) -> str:
        """A new initializer; a large one is declared, as in `Portable`."""
        name = self._fresh("moved")
        tensor = numpy_helper.from_array(array, name)
        if array.ndim:
            self.constants[name] = np.ascontiguousarray(array)
            tensor = declaration(tensor)
        self._graph.initializer.append(tensor)
        return name

    def _fresh(self, name: str) -> str:
        number = next(i for i in range(len(self._taken) + 1) if f"{name}_{i}" not in self._taken)
        self._taken.add(f"{name}_{number}")
        return f"{name}_{number}"


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element types of values: as declared, of constants, of quantizers by zero points, and of what keeps them."""
    declared = (*graph.value_info, *graph.input, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in declared}
    found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        product, kind = _product(node), 0
        zero = product.result if product else _ZERO_OF_RESULT.get(node.op_type)
        if node.op_type in _SAME_TYPE:
            kind = found.get(_input(node, 0), 0)
        elif zero is not None and _input(node, zero):
            kind = found.get(_input(node, zero), 0)
        elif node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear"):
            kind = TensorProto.UINT8
        if node.output and node.output[0] not in found:
            found[node.output[0]] = kind
    return {name: kind for name, kind in found.items() if kind}
