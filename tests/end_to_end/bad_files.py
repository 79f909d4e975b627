"""Files with parameters that make no sense or little: the item, the dialect and the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.dialects.integer_files import one_node

NAN, INFINITY = float("nan"), float("inf")
QONNX, FINN = "qonnx.custom_op.general", "finn.custom_op.general"
MICROSOFT, NNCF = "com.microsoft", "org.openvinotoolkit"
CULPRIT = "culprit"
Operands = dict[str, Any]
Named = tuple[str, onnx.ModelProto]

X = np.zeros((1, 4, 3, 3), np.float32)
U8, S8, F32, I32 = np.uint8, np.int8, np.float32, np.int32
ROWS, WEIGHTS = np.zeros((2, 4), U8), np.ones((4, 3), U8)
BLOCKS = {"a": np.zeros((2, 32), F32), "b": np.ones((3, 2, 8), U8), "s": np.ones((3, 2), F32)}
SIZES = {"K": 32, "N": 3, "bits": 4, "block_size": 16}

# op: domain, operands in order of which the first is the input, attributes
FORMS: dict[str, tuple[str, Operands, dict[str, Any]]] = {
    "Quant": (QONNX, {"x": X, "scale": F32(0.5), "zero": F32(0), "bits": F32(4)}, {"signed": 1}),
    "IntQuant": (QONNX, {"x": X, "scale": F32(0.5), "zero": F32(0), "bits": F32(4)}, {"signed": 0}),
    "BipolarQuant": (QONNX, {"x": X, "scale": F32(0.5)}, {}),
    "Trunc": (QONNX, {"x": X, "scale": F32(0.5), "zero": F32(0), "bits": F32(6), "out_bits": F32(4)}, {}),
    "MultiThreshold": (FINN, {"x": X, "thresholds": np.ones((4, 3), F32)}, {"out_scale": 0.5}),
    "FakeQuantize": (NNCF, {"x": X, "low": F32(-1), "high": F32(1), "l": F32(-1), "h": F32(1)}, {"levels": 16}),
    "QuantizeLinear": ("", {"x": X, "scale": F32(0.5), "zero": U8(3)}, {}),
    "DequantizeLinear": ("", {"x": X.astype(U8), "scale": F32(0.5), "zero": U8(3)}, {}),
    "QLinearConv": (
        "",
        {
            "x": X.astype(U8), "scale": F32(0.5), "zero": U8(3), "w": np.ones((2, 4, 2, 2), S8), "w_scale": F32(0.5),
            "w_zero": S8(0), "y_scale": F32(0.5), "y_zero": U8(3), "b": np.ones(2, I32),
        },
        {},
    ),
    "QLinearMatMul": (
        "",
        {
            "x": ROWS, "scale": F32(0.5), "zero": U8(3), "w": WEIGHTS, "w_scale": F32(0.5), "w_zero": U8(1),
            "y_scale": F32(0.5), "y_zero": U8(3),
        },
        {},
    ),
    "ConvInteger": ("", {"x": X.astype(U8), "w": np.ones((2, 4, 2, 2), U8), "zero": U8(3), "w_zero": U8(0)}, {}),
    "MatMulInteger": ("", {"x": ROWS, "w": WEIGHTS, "zero": U8(3), "w_zero": U8(1)}, {}),
    "QGemm": (
        MICROSOFT,
        {
            "x": ROWS, "scale": F32(0.5), "zero": U8(3), "w": WEIGHTS, "w_scale": F32(0.5), "w_zero": U8(1),
            "b": np.ones(3, I32), "y_scale": F32(0.5), "y_zero": U8(3),
        },
        {},
    ),
    **{
        op: (
            MICROSOFT,
            {
                "x": ROWS, "scale": F32(0.5), "zero": U8(3), "w": np.ones((2, 4), U8), "w_scale": F32(0.5),
                "w_zero": U8(1), "y_scale": F32(0.5), "y_zero": U8(3),
            },
            {},
        )
        for op in ("QLinearAdd", "QLinearMul")
    },
    **{
        op: (
            MICROSOFT,
            {"x": X.astype(U8), "scale": F32(0.5), "zero": U8(3), "y_scale": F32(0.5), "y_zero": U8(3)},
            attributes,
        )
        for op, attributes in {
            "QLinearSigmoid": {},
            "QLinearLeakyRelu": {"alpha": 0.5},
            "QLinearGlobalAveragePool": {"channels_last": 0},
            "QLinearAveragePool": {"kernel_shape": [2, 2]},
            "QLinearSoftmax": {"axis": 1, "opset": 13},
        }.items()
    },
    "MatMulIntegerToFloat": (
        MICROSOFT,
        {"x": ROWS, "w": WEIGHTS, "scale": F32(0.5), "w_scale": F32(0.5), "zero": U8(3), "w_zero": U8(1)},
        {},
    ),
    "DynamicQuantizeMatMul": (
        MICROSOFT,
        {"x": ROWS.astype(F32), "w": WEIGHTS, "w_scale": F32(0.5), "w_zero": U8(1)},
        {},
    ),
    "MatMulNBits": (MICROSOFT, BLOCKS, SIZES),
}  # fmt: skip
_SCALES = ("scale", "w_scale", "y_scale", "s")
_ZEROS = ("zero", "w_zero", "y_zero")


def made(op: str, changes: Operands | None = None, attributes: dict[str, Any] | None = None, fed: str = "") -> Any:
    """A file of one node with some operands or attributes changed; None takes an attribute away."""
    domain, operands, usual = FORMS[op]
    first = next(iter(operands))
    settings = {name: value for name, value in (usual | (attributes or {})).items() if value is not None}
    proto = one_node(op, list((operands | (changes or {})).items()), [first, *filter(None, [fed])], domain, **settings)
    proto.graph.node[0].name = CULPRIT
    proto.opset_import.extend(helper.make_opsetid(each, 1) for each in (QONNX, FINN, NNCF))
    return proto


def sound() -> Iterator[Named]:
    """Every form with parameters that make sense."""
    for op in FORMS:
        yield op, made(op)


def bad_bits() -> Iterator[Named]:
    widths = {
        "0": F32(0), "2.5": F32(2.5), "33": F32(33), "NaN": F32(NAN), "inf": F32(INFINITY), "-1": F32(-1),
        "2 and 3": F32([2, 3, 2, 3]).reshape(4, 1, 1), "none": np.zeros(0, F32), "2**40": np.int64(2**40),
    }  # fmt: skip
    for op in ("Quant", "IntQuant", "Trunc"):
        for name, value in widths.items():
            yield f"{op} bits {name}", made(op, {"bits": value})
        yield f"{op} bits at run time", made(op, fed="bits")
        yield f"{op} bits computed", _computed(made(op, {"bits": F32(1.25)}), "bits")
    yield "Trunc to more bits than it has", made("Trunc", {"out_bits": F32(9)})
    for bits in (0, 3, 16, 33, -4):
        yield f"MatMulNBits bits {bits}", made("MatMulNBits", attributes={"bits": bits})
    for levels in (0, 1, 2.5, -2, 2**31, 2**62):
        yield f"FakeQuantize levels {levels}", made("FakeQuantize", attributes={"levels": levels})


def _computed(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The parameter is twice what is stored."""
    for node in proto.graph.node:
        node.input[:] = [f"{name}_twice" if each == name else each for each in node.input]
    proto.graph.node.insert(0, helper.make_node("Add", [name, name], [f"{name}_twice"], name="twice"))
    return proto


def bad_scales() -> Iterator[Named]:
    numbers = {
        "0": 0.0, "-0": -0.0, "-0.5": -0.5, "NaN": NAN, "inf": INFINITY, "-inf": -INFINITY, "1e-45": 1e-45, "3e38": 3e38
    }  # fmt: skip
    for op, (_, operands, _) in FORMS.items():
        for place in [name for name in _SCALES if name in operands]:
            shape = np.shape(operands[place])
            for name, number in numbers.items():
                yield f"{op} {place} {name}", made(op, {place: np.full(shape, number, F32)})
            for wrong in ((5,), (2, 2), (1, 7, 1), (0,)):
                yield f"{op} {place} of shape {wrong}", made(op, {place: np.full(wrong, 0.5, F32)})
            yield f"{op} {place} of type int32", made(op, {place: np.ones(shape, I32)})
            yield f"{op} {place} of type double", made(op, {place: np.full(shape, 0.5)})
            yield f"{op} {place} at run time", made(op, fed=place)
    for name, number in numbers.items():
        yield f"MultiThreshold out_scale {name}", made("MultiThreshold", attributes={"out_scale": number})
        yield f"FakeQuantize high {name}", made("FakeQuantize", {"high": F32(number)})


def bad_zero_points() -> Iterator[Named]:
    for op, (_, operands, _) in FORMS.items():
        for place in [name for name in _ZEROS if name in operands]:
            shape = np.shape(operands[place])
            for kind in (np.float32, np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_):
                if kind != np.asarray(operands[place]).dtype:
                    yield f"{op} {place} of type {np.dtype(kind)}", made(op, {place: np.ones(shape, kind)})
            yield f"{op} {place} 0.5", made(op, {place: np.full(shape, 0.5, F32)})
            yield f"{op} {place} NaN", made(op, {place: np.full(shape, NAN, F32)})
            for wrong in ((5,), (2, 2), (0,)):
                zeros = np.ones(wrong, np.asarray(operands[place]).dtype)
                yield f"{op} {place} of shape {wrong}", made(op, {place: zeros})
            yield f"{op} {place} at run time", made(op, fed=place)
    for name, zeros in {
        "0.5": np.full((3, 2), 0.5, F32), "NaN": np.full((3, 2), NAN, F32), "of int8": np.ones((3, 1), S8),
        "of shape [3]": np.ones(3, U8),
    }.items():  # fmt: skip
        yield f"MatMulNBits zero {name}", made("MatMulNBits", BLOCKS | {"zero": zeros})


def bad_axes() -> Iterator[Named]:
    for axis in (4, 7, -5, 2**31, 2**63 - 1, -(2**63)):
        spread = {"scale": np.full(4, 0.5, F32), "zero": np.full(4, 3, U8)}
        for op in ("QuantizeLinear", "DequantizeLinear"):
            yield f"{op} axis {axis}", made(op, spread, {"axis": axis})
            yield f"{op} axis {axis} of one scale", made(op, None, {"axis": axis})
            yield f"{op} axis {axis} of blocks", made(op, spread, {"axis": axis, "block_size": 2})
        yield f"QLinearSoftmax axis {axis}", made("QLinearSoftmax", None, {"axis": axis})
        operands = [("ys", F32(1)), ("yz", U8(0)), ("x", ROWS), ("xs", F32(1)), ("xz", U8(0))]
        joined = one_node("QLinearConcat", operands, ["x"], MICROSOFT, axis=axis)
        joined.graph.node[0].name = CULPRIT
        yield f"QLinearConcat axis {axis}", joined
    for op in ("QuantizeLinear", "DequantizeLinear"):
        scalar = {"x": np.zeros((), F32 if op == "QuantizeLinear" else U8)}
        yield f"{op} of a scalar", made(op, scalar)
        yield f"{op} of a scalar along an axis", made(op, scalar | {"scale": F32([1]), "zero": U8([0])}, {"axis": 0})
    yield "MultiThreshold layout", made("MultiThreshold", None, {"data_layout": "XYZQWC"})


def pairs() -> Iterator[Named]:
    """QuantizeLinear and DequantizeLinear with other parameters each."""
    usual: Operands = {"scale": F32(0.5), "zero": U8(3)}
    others: dict[str, Operands] = {
        "another scale": {"scale": F32(0.25)},
        "another zero point": {"zero": U8(7)},
        "both others": {"scale": F32(0.3), "zero": U8(200)},
        "int8": {"zero": S8(3)},
        "a scale for each channel": {"scale": F32([0.5, 1, 2, 4]), "zero": U8([1, 2, 3, 4])},
        "a scale for each block": {"scale": np.full((1, 2, 3, 3), 0.5, F32), "zero": np.full((1, 2, 3, 3), 9, U8)},
        "no zero point": {"zero": None},
        "a zero point of int32": {"zero": I32(3)},
    }
    for name, changes in others.items():
        for swapped in (False, True):
            first, second = (usual, usual | changes) if not swapped else (usual | changes, usual)
            yield f"Q and DQ with {name}{' first' * swapped}", _pair(first, second)


def _pair(first: Operands, second: Operands) -> onnx.ModelProto:
    stored, nodes, source = [], [], "x"
    for op, result, parameters in (("QuantizeLinear", "q", first), ("DequantizeLinear", "y", second)):
        given = {name: value for name, value in parameters.items() if value is not None}
        stored += [numpy_helper.from_array(np.asarray(value), f"{result}_{name}") for name, value in given.items()]
        settings = {"axis": 1, "block_size": 2} if np.ndim(given["scale"]) > 1 else {}
        operands = [source, *(f"{result}_{name}" for name in given)]
        nodes.append(helper.make_node(op, operands, [result], name=f"{CULPRIT} {op}", **settings))
        source = result
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)
    graph = helper.make_graph(nodes, "g", [x], [helper.make_empty_tensor_value_info("y")], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def bad_blocks() -> Iterator[Named]:
    for size in (3, 5, -1, -2, 2**40, 2**63 - 1):
        for op in ("QuantizeLinear", "DequantizeLinear"):
            for blocks in (1, 2):
                spread = {"scale": np.full((1, blocks, 3, 3), 0.5, F32), "zero": np.full((1, blocks, 3, 3), 3, U8)}
                yield f"{op} {blocks} blocks of {size}", made(op, spread, {"block_size": size})
            yield f"{op} one scale for blocks of {size}", made(op, None, {"block_size": size})
    for size in (0, 3, 24, 8, -16, 2**40, 2**62):
        yield f"MatMulNBits blocks of {size}", made("MatMulNBits", None, {"block_size": size})
    for k in (0, -32, 31, 33, 2**40):
        yield f"MatMulNBits K {k}", made("MatMulNBits", None, {"K": k})
    for n in (0, -3, 4, 2**62):
        yield f"MatMulNBits N {n}", made("MatMulNBits", None, {"N": n})
