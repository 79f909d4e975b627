"""Every `qcompiler::` op as an ONNX function of standard ops: specification and oracle in one.

Values are logical codes in float32 containers (docs/adr/0001-ir.md): binary codes are exactly -1 or +1, accumulators
are integers of magnitude below 2**24, so float32 arithmetic on them is exact and every pass keeps the dtype of the
graph it rewrites. Layers whose sums may be larger are exact in int32, and give the float32 that is next to the sum.

Binarize<zero = 1>(x) -> y
    y = +1 where x > 0, `zero` where x == 0, else -1 (NaN gives -1).
Quantize<low, high, rounding = "ROUND", order = "SHIFT_ROUND">(x, scale, zero) -> y
    The codes low, low + 1, ..., high: y = round(clip(x / scale + zero, low, high)), or with the order "ROUND_SHIFT"
    y = clip(round(x / scale) + zero, low, high). scale > 0 and zero, which is whole in that order, broadcast against x.
    roundings: quantizing.py. NaN gives NaN. Each rounding and order has a body of its own, an overload of the function.
IntegerConv<kernel_shape, strides, pads, dilations, group, pad_value = 0, accumulator = "float32", low = 0,
            weight_low = -128>(x, w) -> acc
    Convolution of codes x [N, C, H, W] with integers w [O, C / group, kH, kW]; the border is filled with the integer
    `pad_value`. pads = [top, left, bottom, right]. With the accumulator "int32" sums are below 2**31, codes and
    `pad_value` are low to low + 255 with low from -255 to 0, and w likewise from weight_low on; an overload of the
    function.
    One more has a third operand, an int32 bias [O, 1, 1] or [O], which is added before sums are rounded to float32.
IntegerMatMul<accumulator = "float32", low = 0, weight_low = -128>(x, w) -> acc
    Codes x [..., K] times integers w [K, O]; likewise.
IntegerProduct<inner, blocks>(a, b) -> acc
    Codes a [..., M, K] times codes of `inner` shape [..., K, N], which are given as b [P, 64, N', K'] in blocks of
    sixteen columns and four rows: element 4 * l + j of b[p, :, n, k] lies in row 4 * k + j, column 16 * n + l of
    product p. blocks = [P, K', 4, N', 16]. Sums are below 2**31, and rounded to float32 once.
Threshold<low = -1, step = 2>(acc, thresholds, direction) -> y
    y = low + step * (the number of thresholds t with direction * (acc - t) >= 0); direction is -1 or +1. thresholds
    [levels - 1, ...] have the axes of acc behind the first one, and broadcast against it there, as direction does;
    they rise along the first axis where direction is +1 and fall where it is -1.
IntegerMaxPool<kernel_shape, strides, pads, dilations, ceil_mode>(x, flip) -> y
    flip * MaxPool(flip * x) of codes x: the largest where flip is +1, the smallest where it is -1; flip [C, 1, 1] of
    -1/+1.
RoundedMatMul<size, bits>(x, w) -> y
    x [..., K] times w [K, O], where x went through 8 bits in blocks of `size` elements of a row, the last one filled
    with zeros: half_even(x * (127 / m)) * (m / 127), m the largest magnitude of the block; 0 if m is at most 2**-100.
    bits: of the integers that w is in each block of rows, but for scale and offset.
RoundTo<to>(x) -> y
    x rounded to the 16-bit floating-point type `to` (onnx.TensorProto.FLOAT16 or BFLOAT16), half to even, in float32;
    infinite where it is too large for the type.
"""

from __future__ import annotations

import onnx
import onnx.parser
import onnx_ir as ir

from qcompiler.ir.quantizing import ORDERS, ROUNDINGS, SHIFT_ROUND, Quantizer, program

DOMAIN = "qcompiler"
OPSET = 21
IR_VERSION = 10
ROUNDED = "RoundedMatMul"
INTEGER_LAYERS = ("IntegerConv", "IntegerMatMul")
"""Layers on codes, whose sums are exact whatever the kernel multiplies."""

ACCUMULATORS = ("float32", "int32")
"""What sums of layers on integers are exact in."""

_HEADER = f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n'


def _quantize_body(rounding: str, order: str) -> str:
    constants = "\n".join(f"{name} = Constant <value_float: float = @{name}> ()" for name in ("low", "high"))
    lines = []
    for index, each in enumerate(program(rounding, order)):
        names = [operand if isinstance(operand, str) else f"c{index}" for operand in each.operands]
        lines += [f"c{index} = Constant <value_float = {o}> ()" for o in each.operands if not isinstance(o, str)]
        lines.append(f"{each.result} = {each.op} ({', '.join(names)})")
    settings = f'low: float, high: float, rounding: string = "{rounding}", order: string = "{order}"'
    return f"Quantize <{settings}> (x, scale, zero) => (y) {{\n{constants}\n{chr(10).join(lines)}\n}}"


_BODIES = {
    "Binarize": """
Binarize <zero: float = 1.0> (x) => (y) {
    nought = Constant <value_float = 0.0> ()
    plus = Constant <value_float = 1.0> ()
    minus = Constant <value_float = -1.0> ()
    at_zero = Constant <value_float: float = @zero> ()
    nonnegative = GreaterOrEqual (x, nought)
    codes = Where (nonnegative, plus, minus)
    is_zero = Equal (x, nought)
    y = Where (is_zero, at_zero, codes)
}""",
    "Quantize": _quantize_body("ROUND", SHIFT_ROUND),
    "IntegerConv": """
IntegerConv <kernel_shape, strides, pads, dilations, group, pad_value: float = 0.0> (x, w) => (acc) {
    fill = Constant <value_float: float = @pad_value> ()
    borders = Constant <value_ints: ints = @pads> ()
    axes = Constant <value_ints = [2, 3]> ()
    padded = Pad (x, borders, fill, axes)
    acc = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, dilations: ints = @dilations,
                group: int = @group> (padded, w)
}""",
    "IntegerMatMul": """
IntegerMatMul (x, w) => (acc) {
    acc = MatMul (x, w)
}""",
    "IntegerProduct": """
IntegerProduct <inner, blocks> (a, b) => (acc) {
    sizes = Constant <value_ints: ints = @blocks> ()
    order = Constant <value_ints = [0, 4, 2, 3, 1]> ()
    held = Gather (sizes, order)
    apart = Reshape (b, held)
    turned = Transpose <perm = [0, 4, 2, 3, 1]> (apart)
    products = Constant <value_ints = [0]> ()
    words = Constant <value_ints = [1, 2]> ()
    columns = Constant <value_ints = [3, 4]> ()
    first = Gather (sizes, products)
    rows = Gather (sizes, words)
    high = ReduceProd (rows)
    places = Gather (sizes, columns)
    wide = ReduceProd (places)
    full = Concat <axis = 0> (first, high, wide)
    whole = Reshape (turned, full)
    shape = Constant <value_ints: ints = @inner> ()
    last = Constant <value_ints = [-2, -1]> ()
    ends = Gather (shape, last)
    nought = Constant <value_ints = [0, 0]> ()
    cut = Slice (whole, nought, ends, words)
    right = Reshape (cut, shape)
    exact_a = Cast <to = 11> (a)
    exact_right = Cast <to = 11> (right)
    sums = MatMul (exact_a, exact_right)
    acc = Cast <to = 1> (sums)
}""",
    ROUNDED: """
RoundedMatMul <size, bits> (x, w) => (y) {
    block = Constant <value_ints: ints = @size> ()
    last = Constant <value_ints = [-1]> ()
    nought = Constant <value_ints = [0]> ()
    inputs = Shape <start = -1> (x)
    over = Mod (inputs, block)
    short = Sub (block, over)
    missing = Mod (short, block)
    ends = Concat <axis = 0> (nought, missing)
    fill = Constant <value_float = 0.0> ()
    whole = Pad (x, ends, fill, last)
    rows = Shape <end = -1> (x)
    apart = Concat <axis = 0> (rows, last, block)
    blocks = Reshape (whole, apart)
    magnitudes = Abs (blocks)
    largest = ReduceMax <keepdims = 1> (magnitudes, last)
    most = Constant <value_float = 127.0> ()
    least = Constant <value_float = 7.888609052210118e-31> ()
    some = Greater (largest, least)
    inverse = Div (most, largest)
    factor = Where (some, inverse, fill)
    scaled = Mul (blocks, factor)
    codes = Round (scaled)
    step = Div (largest, most)
    numbers = Mul (codes, step)
    full = Shape (whole)
    joined = Reshape (numbers, full)
    rounded = Slice (joined, nought, inputs, last)
    y = MatMul (rounded, w)
}""",
    "Threshold": """
Threshold <low: float = -1.0, step: float = 2.0> (acc, thresholds, direction) => (y) {
    first = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    at_none = Constant <value_float: float = @low> ()
    each = Constant <value_float: float = @step> ()
    directed = Mul (acc, direction)
    repeated = Unsqueeze (directed, first)
    bounds = Mul (thresholds, direction)
    reached = GreaterOrEqual (repeated, bounds)
    bits = Cast <to = 2> (reached)
    rows = Flatten <axis = 1> (bits)
    levels = Shape <start = 0, end = 1> (thresholds)
    row = Concat <axis = 0> (one, levels)
    ones = ConstantOfShape <value = uint8[1] {1}> (row)
    sums = MatMulInteger (ones, rows)
    shape = Shape (acc)
    whole = Reshape (sums, shape)
    count = Cast <to = 1> (whole)
    above = Mul (count, each)
    y = Add (above, at_none)
}""",
    "IntegerMaxPool": """
IntegerMaxPool <kernel_shape, strides, pads, dilations, ceil_mode> (x, flip) => (y) {
    turned = Mul (x, flip)
    pooled = MaxPool <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads,
                      dilations: ints = @dilations, ceil_mode: int = @ceil_mode> (turned)
    y = Mul (pooled, flip)
}""",
    "RoundTo": f"""
RoundTo <to> (x) => (y) {{
    narrow = Cast <to: int = @to> (x)
    y = Cast <to = {onnx.TensorProto.FLOAT}> (narrow)
}}""",
}


_INT32 = "int32"
# unsigned bytes times unsigned bytes, which onnxruntime multiplies exactly on every processor
_BYTES = """
    least = Constant <value_float: float = @low> ()
    raised = Sub ({x}, least)
    codes = Cast <to = 2> (raised)
    offset = Neg (least)
    zero = Cast <to = 2> (offset)
    least_weight = Constant <value_float: float = @weight_low> ()
    raised_weights = Sub (w, least_weight)
    weights = Cast <to = 2> (raised_weights)
    weight_offset = Neg (least_weight)
    weight_zero = Cast <to = 2> (weight_offset)"""
_WITH_BIAS = f"{_INT32}.bias"


def _int32_body(name: str, biased: bool) -> str:
    """A layer whose sums, and bias if it has one, are added up in int32."""
    operands, last = ("x, w, bias", "total = Add (sums, bias)") if biased else ("x, w", "total = Identity (sums)")
    if name == "IntegerMatMul":
        return f"""
IntegerMatMul <low: float = 0.0, weight_low: float = -128.0,
               accumulator: string = "{_INT32}"> ({operands}) => (acc) {{{_BYTES.format(x="x")}
    sums = MatMulInteger (codes, weights, zero, weight_zero)
    {last}
    acc = Cast <to = 1> (total)
}}"""
    return f"""
IntegerConv <kernel_shape, strides, pads, dilations, group, pad_value: float = 0.0, low: float = 0.0,
             weight_low: float = -128.0, accumulator: string = "{_INT32}"> ({operands}) => (acc) {{
    fill = Constant <value_float: float = @pad_value> ()
    borders = Constant <value_ints: ints = @pads> ()
    axes = Constant <value_ints = [2, 3]> ()
    padded = Pad (x, borders, fill, axes){_BYTES.format(x="padded")}
    sums = ConvInteger <kernel_shape: ints = @kernel_shape, strides: ints = @strides, dilations: ints = @dilations,
                        group: int = @group> (codes, weights, zero, weight_zero)
    {last}
    acc = Cast <to = 1> (total)
}}"""


_OVERLOADS = {
    f"{rounding}.{order}": (rounding, order)
    for rounding in ROUNDINGS
    for order in ORDERS
    if (rounding, order) != ("ROUND", SHIFT_ROUND)
}


def function(name: str, overload: str = "") -> onnx.FunctionProto:
    """The ONNX function of one op; those of some differ with the node's attributes, see `overload_of`."""
    if overload in (_INT32, _WITH_BIAS):
        body = _int32_body(name, biased=overload == _WITH_BIAS)
    else:
        body = _quantize_body(*_OVERLOADS[overload]) if overload else _BODIES[name]
    result = onnx.parser.parse_function(_HEADER + body)
    result.overload = overload
    return result


def overload_of(node: ir.Node) -> str:
    """The overload that a node of ours calls; "" for the only one, and for the usual attributes."""
    if is_wide(node):
        return _INT32 if len(node.inputs) == 2 else _WITH_BIAS
    if node.op_type != "Quantize":
        return ""
    found = quantizer_of(node)
    name = f"{found.rounding}.{found.order}"
    return name if name in _OVERLOADS else ""


def is_wide(node: ir.Node) -> bool:
    """Whether a node is a layer whose sums are exact in int32 alone."""
    ours = node.domain == DOMAIN and node.op_type in INTEGER_LAYERS
    return ours and node.attributes.get_string("accumulator", "float32") == _INT32


def wide_attributes(low: int, weight_low: int) -> dict[str, object]:
    """The attributes of a layer whose sums are exact in int32 alone, of codes and weights from these on."""
    return {"accumulator": _INT32, "low": float(low), "weight_low": float(weight_low)}


def quantizer_of(node: ir.Node) -> Quantizer:
    """The attributes of a Quantize node."""
    attributes = node.attributes
    return Quantizer(
        attributes.get_float("low", 0.0),
        attributes.get_float("high", 0.0),
        attributes.get_string("rounding", "ROUND"),
        attributes.get_string("order", SHIFT_ROUND),
    )


def names() -> tuple[str, ...]:
    """All op names of the `qcompiler` domain."""
    return tuple(_BODIES)


def attach_functions(model: ir.Model) -> None:
    """Give `model` exactly the function bodies its nodes use, the nodes their overload, and the domain its opset."""
    used = set()
    for node in model.graph.all_nodes():
        if node.domain == DOMAIN:
            node.overload = overload_of(node)
            used.add((node.op_type, node.overload))
    for key in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[key]
    for name, overload in sorted(used):
        body = ir.serde.deserialize_function(function(name, overload))
        model.functions[body.identifier()] = body
    if used:
        model.opset_imports[DOMAIN] = 1
    else:
        model.opset_imports.pop(DOMAIN, None)
