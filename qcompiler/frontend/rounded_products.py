"""When MatMulNBits rounds its left operand, and the same in plain operators.

With accuracy_level = 4 a kernel may round it to 8 bits in the blocks of the weights. onnxruntime's kernels do so, all
in the same arithmetic, on processors for which it has them; here it is rounded everywhere. Its kernels for 2 bits take
blocks of 32 to 128, and with block indices, or with zero points that are numbers, it multiplies floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableSequence

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.structure import subgraphs
from qcompiler.ir.block_rounding import SMALLEST

_T = onnx.TensorProto
_ROUNDING_LEVEL = 4
_LARGEST = 127.0
_SIZES = {2: (32, 128), 4: (16, 256), 8: (16, 256)}
# reductions take their axes as an operand from here on
_AXES_AS_OPERAND = 18


def rounds(node: onnx.NodeProto, bits: int, size: int) -> bool:
    """Whether the left operand is rounded, as far as attributes and block indices tell; blocks of `size` inputs."""
    least, most = _SIZES.get(bits, (1, 0))
    indexed = len(node.input) > 4 and bool(node.input[4])
    return attributes.integer(node, "accuracy_level", 0) == _ROUNDING_LEVEL and least <= size <= most and not indexed


def spell_out_rounding(model: onnx.ModelProto) -> None:
    """Round the left operands of such products by plain operators, in the whole file, and take their leave away."""
    kinds = dict(_kinds(model.graph))
    _in_graph(model.graph, kinds, _opset(model.opset_import))
    for function in model.functions:
        _in_nodes(function.node, kinds, _opset(function.opset_import))


def _opset(imports: MutableSequence[onnx.OperatorSetIdProto]) -> int:
    return next((each.version for each in imports if each.domain in ("", "ai.onnx")), _AXES_AS_OPERAND)


def _kinds(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """The element types of constants, by name."""
    yield from ((tensor.name, tensor.data_type) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.output[0], attribute.t.data_type
        for inner in subgraphs(node):
            yield from _kinds(inner)


def _in_graph(graph: onnx.GraphProto, kinds: Mapping[str, int], opset: int) -> None:
    _in_nodes(graph.node, kinds, opset)
    for node in graph.node:
        for inner in subgraphs(node):
            _in_graph(inner, kinds, opset)


def _in_nodes(nodes: MutableSequence[onnx.NodeProto], kinds: Mapping[str, int], opset: int) -> None:
    found = list(nodes)
    del nodes[:]
    for node in found:
        if node.domain == "com.microsoft" and node.op_type == "MatMulNBits":
            size = attributes.integer(node, "block_size", 0)
            numbers = len(node.input) > 3 and kinds.get(node.input[3]) in (_T.FLOAT, _T.FLOAT16)
            if rounds(node, attributes.integer(node, "bits", 4), size) and not numbers:
                nodes.extend(_rounding(node, attributes.integer(node, "K", 0), size, opset))
                node.input[0] = f"{node.output[0]}/rounded"
            attributes.drop(node, ("accuracy_level",))
        nodes.append(node)


def _rounding(node: onnx.NodeProto, inputs: int, size: int, opset: int) -> list[onnx.NodeProto]:
    """Nodes that round the left operand, float32 [..., inputs], in blocks of `size`."""
    made: list[onnx.NodeProto] = []
    base = f"{node.output[0]}/rounded"
    whole = inputs + -inputs % size

    def constant(name: str, value: object, dtype: type[np.generic]) -> str:
        tensor = onnx.numpy_helper.from_array(np.asarray(value, dtype))
        made.append(onnx.helper.make_node("Constant", [], [f"{base}/{name}"], value=tensor))
        return f"{base}/{name}"

    def op(op_type: str, operands: list[str], name: str, **settings: object) -> str:
        made.append(onnx.helper.make_node(op_type, operands, [name if name == base else f"{base}/{name}"], **settings))
        return str(made[-1].output[0])

    most, least = constant("most", _LARGEST, np.float32), constant("least", SMALLEST, np.float32)
    nought, last = constant("nought", 0, np.float32), constant("last", [1], np.int64)
    rows = op("Reshape", [node.input[0], constant("rows_shape", [-1, inputs], np.int64)], "rows")
    filled = op("Pad", [rows, constant("ends", [0, 0, 0, whole - inputs], np.int64), nought], "filled")
    blocks = op("Reshape", [filled, constant("blocks_shape", [-1, size], np.int64)], "blocks")
    magnitudes = op("Abs", [blocks], "magnitudes")
    by_operand = opset >= _AXES_AS_OPERAND
    largest = op("ReduceMax", [magnitudes, *([last] if by_operand else [])], "largest", keepdims=1,
                 **({} if by_operand else {"axes": [1]}))  # fmt: skip
    some = op("Greater", [largest, least], "some")
    factor = op("Where", [some, op("Div", [most, largest], "inverse"), nought], "factor")
    codes = op("Round", [op("Mul", [blocks, factor], "scaled")], "codes")
    numbers = op("Mul", [codes, op("Div", [largest, most], "step")], "numbers")
    joined = op("Reshape", [numbers, constant("filled_shape", [-1, whole], np.int64)], "joined")
    cut = op("Slice", [joined, constant("first", [0], np.int64), constant("end", [inputs], np.int64), last], "cut")
    op("Reshape", [cut, op("Shape", [node.input[0]], "shape")], base)
    return made
