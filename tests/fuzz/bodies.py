"""What the operators of QONNX mean, in standard ones: so stock onnxruntime runs a file that holds them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx.parser

DOMAIN = "qonnx.custom_op.general"
_HEADER = f'<domain: "{DOMAIN}", opset_import: ["" : 17]>'
_BODIES = (
    """Quant <signed, narrow> (x, scale, zero, bits) => (y) {
        one = Constant <value_float = 1.0> ()
        two = Constant <value_float = 2.0> ()
        signed_int = Constant <value_int: int = @signed> ()
        narrow_int = Constant <value_int: int = @narrow> ()
        is_signed = Cast <to = 1> (signed_int)
        is_narrow = Cast <to = 1> (narrow_int)
        magnitude_bits = Sub (bits, is_signed)
        codes = Pow (two, magnitude_bits)
        most = Sub (codes, one)
        is_unsigned = Sub (one, is_signed)
        left_out = Mul (is_narrow, is_unsigned)
        high = Sub (most, left_out)
        negative = Neg (codes)
        lowest = Add (negative, is_narrow)
        low = Mul (lowest, is_signed)
        scaled = Div (x, scale)
        moved = Add (scaled, zero)
        cut = Clip (moved, low, high)
        whole = Round (cut)
        back = Sub (whole, zero)
        y = Mul (back, scale)
    }""",
    """BipolarQuant (x, scale) => (y) {
        nought = Constant <value_float = 0.0> ()
        positive = GreaterOrEqual (x, nought)
        opposite = Neg (scale)
        y = Where (positive, scale, opposite)
    }""",
)


def bodies_of(nodes: Sequence[onnx.NodeProto]) -> list[onnx.FunctionProto]:
    """What the operators of QONNX among the nodes do."""
    names = {node.op_type for node in nodes if node.domain == DOMAIN}
    functions = [onnx.parser.parse_function(f"{_HEADER} {body}") for body in _BODIES]
    return [function for function in functions if function.name in names]
