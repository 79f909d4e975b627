"""NNCF's quantizers, as OpenVINO's training tools export them.

FakeQuantize<levels>(x, input_low, input_high, output_low, output_high) -> y, by OpenVINO's specification of the op:
    q = half_even((x - input_low) / (input_high - input_low) * (levels - 1)), from 0 to levels - 1
    y = q / (levels - 1) * (output_high - output_low) + output_low
    where both input limits are equal, y = output_high where x is above them, else output_low.
Limits broadcast against x. The highest level is that of the formula for all x, and may be an ulp beside output_high.

Where output_low is a whole number z of steps but for rounding, as in all symmetric quantizers, y = (q + z) * step: 0 is
a level then, as engines on integers have it, and not the rounding error of the formula. The others differ by an ulp.
"""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.canonical_quantizers import codes, numbers
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.dialects.parameters import FloatArray, latent, parameter_of, value_of
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label
from qcompiler.ir.plausible import not_finite
from qcompiler.ir.quantizing import Quantizer

# sixteen bits; chosen
_MOST_LEVELS = 2**16
# relative; limits are rounded to float32, and so are the steps between them
_PRECISION = 2.0**-21


def _fake_quantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    levels = attributes.integer(node, "levels", 0)
    if not 2 <= levels <= _MOST_LEVELS:
        raise InvalidModel(
            f"FakeQuantize of {levels} levels, expected 2 to {_MOST_LEVELS}", node=label(node), remedy="export it again"
        )
    x = latent(emitter, node, 0)
    low, high, out_low, out_high = (_limit(emitter, node, position) for position in (1, 2, 3, 4))
    if bool((low == high).all()):
        _compare(emitter, node, x, low, (out_low, out_high))
        return
    if not bool((low < high).all()):
        raise UnsupportedModel(
            "FakeQuantize has input_low of at least input_high in some places",
            node=label(node),
            remedy="use limits that rise, or equal ones in all places",
        )
    value = _arithmetic(emitter, "Sub", x, low, 0.0)
    value = _arithmetic(emitter, "Div", value, high - low, 1.0)
    value = _arithmetic(emitter, "Mul", value, np.float32(levels - 1), 1.0)
    one, nought = emitter.constant(1.0, "scale"), emitter.constant(0.0, "zero")
    found = codes(emitter, value, one, nought, Quantizer(0, levels - 1))
    step = ((out_high.astype(np.float64) - out_low) / (levels - 1)).astype(np.float32)
    steps = np.rint(out_low / np.where(step == 0, 1, step).astype(np.float64))
    if step.all() and steps.any() and bool((np.abs(steps * step - out_low) <= _PRECISION * np.abs(out_low)).all()):
        zero = emitter.constant((-steps).astype(np.float32), "zero")
        numbers(emitter, found, emitter.constant(step, "step"), zero, node.output)
        return
    value = _arithmetic(emitter, "Div", found, np.float32(levels - 1), 1.0)
    value = _arithmetic(emitter, "Mul", value, out_high - out_low, 1.0)
    emitter.op("Add", [value, emitter.constant(out_low, "output_low")], node.output)


def _limit(emitter: Emitter, node: onnx.NodeProto, position: int) -> FloatArray:
    name = ("input_low", "input_high", "output_low", "output_high")[position - 1]
    return value_of(emitter, node, parameter_of(emitter, node, position, name, not_finite))


def _compare(
    emitter: Emitter, node: onnx.NodeProto, x: str, limit: FloatArray, outputs: tuple[FloatArray, FloatArray]
) -> None:
    above = emitter.op("Greater", [x, emitter.constant(limit, "limit")])
    low, high = (emitter.constant(number, "output") for number in outputs)
    emitter.op("Where", [above, high, low], node.output)


def _arithmetic(emitter: Emitter, op_type: str, x: str, number: FloatArray | np.float32, neutral: float) -> str:
    return x if bool((number == neutral).all()) else emitter.op(op_type, [x, emitter.constant(number, op_type.lower())])


DIALECT = Dialect("NNCF", ("org.openvinotoolkit",), {"FakeQuantize": Op(_fake_quantize, (5,))})
