"""Bodies of the QONNX nodes in an exported file, so that stock onnxruntime runs it.

They define what `qcompiler.nn.grid.quantize` computes, in the same float32 steps. The limits of the codes follow from
the bit width by shifting an integer, so that they are exact for every width. Only what an export holds is defined:
rounding_mode ROUND, and one signed bit as BipolarQuant.
"""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

from qcompiler.nn.fixed import DOMAIN

_BODIES = {
    "BipolarQuant": """
BipolarQuant (x, scale) => (y) {
    nought = Constant <value_float = 0.0> ()
    plus = Constant <value_float = 1.0> ()
    minus = Constant <value_float = -1.0> ()
    nonnegative = GreaterOrEqual (x, nought)
    code = Where (nonnegative, plus, minus)
    y = Mul (code, scale)
}""",
    # low = narrow - 2^(bits - 1) if signed, else 0; high = 2^(bits - 1) - 1 if signed, else 2^bits - 1 - narrow
    "Quant": """
Quant <signed: int = 1, narrow: int = 0, rounding_mode: string = "ROUND"> (x, scale, zeropt, bitwidth) => (y) {
    one = Constant <value_float = 1.0> ()
    single = Constant <value = uint64 {1}> ()
    signed_integer = Constant <value_int: int = @signed> ()
    narrow_integer = Constant <value_int: int = @narrow> ()
    is_signed = Cast <to = 1> (signed_integer)
    is_narrow = Cast <to = 1> (narrow_integer)
    magnitude_bits = Sub (bitwidth, is_signed)
    shift = Cast <to = 13> (magnitude_bits)
    shifted_one = BitShift <direction = "LEFT"> (single, shift)
    count = Cast <to = 1> (shifted_one)
    signed_narrow = Mul (is_signed, is_narrow)
    signed_count = Mul (is_signed, count)
    low = Sub (signed_narrow, signed_count)
    unsigned_narrow = Sub (is_narrow, signed_narrow)
    last = Sub (count, one)
    high = Sub (last, unsigned_narrow)
    ratio = Div (x, scale)
    position = Add (ratio, zeropt)
    inside = Clip (position, low, high)
    code = Round (inside)
    level = Sub (code, zeropt)
    y = Mul (level, scale)
}""",
}


def attach_quantizer_bodies(model: ir.Model) -> None:
    """Give `model` the bodies of the QONNX nodes it uses, at its own opset, and the import of their domain."""
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    for name in sorted(used):
        body = ir.serde.deserialize_function(_body(name, model.opset_imports[""]))
        model.functions[body.identifier()] = body
    if used:
        model.opset_imports[DOMAIN] = 1
    else:
        model.opset_imports.pop(DOMAIN, None)


def _body(name: str, opset: int) -> onnx.FunctionProto:
    return onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>{_BODIES[name]}')
