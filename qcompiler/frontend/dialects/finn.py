"""FINN's ops, which are found in the domains of QONNX too, lowered to standard operators.

MultiThreshold<out_scale = 1, out_bias = 0, data_layout>(x, thresholds [C or 1, B]):
    y = out_scale * #(x >= thresholds of the channel) + out_bias
XnorPopcountMatMul(a [..., K], w [K, O]), both 0 or 1:
    y = #(a equals w) of every product = (K + (2 a - 1) (2 w - 1)) / 2
"""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.errors import InvalidModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.parameters import floats, is_all
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import REMEDY


def _xnor_popcount_matmul(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the product of the signs that the codes 0 and 1 stand for, and the count of +1 in it."""
    left, right = floats(emitter, node, 0), floats(emitter, node, 1)
    shapes = emitter.shape(left), emitter.shape(right)
    if len(shapes[1]) < 2 or not shapes[0] or shapes[0][-1] != shapes[1][-2]:
        raise InvalidModel(
            f"XnorPopcountMatMul has operands of shapes {list(shapes[0])} and {list(shapes[1])}, expected [..., K] and"
            " [K, O]",
            node=label(node),
            remedy="export the model again",
        )
    product = emitter.op("MatMul", [_signs(emitter, node, left), _signs(emitter, node, right)])
    doubled = emitter.op("Add", [product, emitter.constant(shapes[0][-1], "products")])
    emitter.op("Mul", [doubled, emitter.constant(0.5, "half")], node.output)


def _signs(emitter: Emitter, node: onnx.NodeProto, codes: str) -> str:
    """2 * codes - 1; constant codes must be 0 or 1."""
    value = emitter.computed_value(codes)
    if value is None:
        doubled = emitter.op("Mul", [codes, emitter.constant(2.0, "two")])
        return emitter.op("Sub", [doubled, emitter.constant(1.0, "one")])
    if not bool(np.isin(value, (0, 1)).all()):
        raise InvalidModel(
            "XnorPopcountMatMul has constant codes other than 0 and 1",
            node=label(node),
            remedy="store -1 as 0, or use MatMul",
        )
    return emitter.constant(2 * value - 1, "signs")


def _multi_threshold(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the count of thresholds that each element reaches, scaled and shifted."""
    x, thresholds = floats(emitter, node, 0), floats(emitter, node, 1)
    axis, shape = _channel_axis(emitter, node), emitter.shape(thresholds)
    if len(shape) != 2 or shape[0] not in (1, emitter.shape(x)[axis]):
        raise InvalidModel(
            f"MultiThreshold has thresholds {list(shape)}, expected [{emitter.shape(x)[axis]} or 1, levels]",
            node=label(node),
            remedy="export the model again",
        )
    _check_thresholds(emitter, node, thresholds)
    count = _reached(emitter, x, thresholds, axis)
    scale = emitter.constant(attributes.real(node, "out_scale", 1.0), "out_scale")
    bias = emitter.constant(attributes.real(node, "out_bias", 0.0), "out_bias")
    scaled = count if is_all(emitter, scale, 1.0) else emitter.op("Mul", [count, scale])
    if is_all(emitter, bias, 0.0):
        emitter.op("Identity", [scaled], node.output)
    else:
        emitter.op("Add", [scaled, bias], node.output)


def _check_thresholds(emitter: Emitter, node: onnx.NodeProto, thresholds: str) -> None:
    """Refuse NaN; an infinite threshold is one that everything or nothing reaches."""
    value = emitter.computed_value(thresholds)
    numbers = [attributes.real(node, name, 1.0) for name in ("out_scale", "out_bias")]
    if (value is not None and bool(np.isnan(value).any())) or not bool(np.isfinite(numbers).all()):
        raise InvalidModel("MultiThreshold has numbers that are NaN or infinite", node=label(node), remedy=REMEDY)


def _reached(emitter: Emitter, x: str, thresholds: str, axis: int) -> str:
    """How many thresholds of its channel each element reaches."""
    rank, (channels, levels) = len(emitter.shape(x)), emitter.shape(thresholds)
    aligned = [1] * rank + ([levels] if levels > 1 else [])
    aligned[axis] = channels
    steps = emitter.op("Reshape", [thresholds, emitter.constant(aligned, "levels", np.int64)])
    if levels == 1:
        return emitter.op("Cast", [emitter.op("GreaterOrEqual", [x, steps])], to=onnx.TensorProto.FLOAT)
    last = emitter.constant([rank], "last", np.int64)
    column = emitter.op("Unsqueeze", [x, last])
    reached = emitter.op("Cast", [emitter.op("GreaterOrEqual", [column, steps])], to=onnx.TensorProto.FLOAT)
    return emitter.op("ReduceSum", [reached, last], keepdims=0)


def _channel_axis(emitter: Emitter, node: onnx.NodeProto) -> int:
    """Position of C in the layout; without a layout, qonnx takes three axes as NWC and everything else as NC..."""
    rank = len(emitter.shape(node.input[0]))
    layout = attributes.text(node, "data_layout", "") or ("NWC" if rank == 3 else "NC")
    axis = layout.index("C") if "C" in layout else 1
    if axis >= rank:
        raise InvalidModel(f"layout {layout} for {rank} axes", node=label(node), remedy="export the model again")
    return axis


DIALECT = Dialect(
    "FINN",
    ("", "finn.custom_op.general", "qonnx.custom_op.general", "onnx.brevitas"),
    {"MultiThreshold": Op(_multi_threshold, (2,)), "XnorPopcountMatMul": Op(_xnor_popcount_matmul, (2,))},
)
