"""The standard's ops on integers against onnxruntime's kernels: equal codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from qcompiler.ir.codes import Codes
from tests.frontend.dialects.integer_files import KINDS, QUICK, SCALES, check_equal, codes, near, one_node
from tests.frontend.files import write


def checked(folder: Path, op: str, operands: dict[str, Any], fed: list[str], **attributes: Any) -> None:
    """Codes are those of onnxruntime; where x is int8, it has kernels for weights of int8 alone: the same, shifted."""
    x, w, zero = list(operands)[0], list(operands)[3], list(operands)[5]
    same = dict(operands)
    if (operands[x].dtype, operands[w].dtype) == (np.int8, np.uint8):
        same |= {name: (operands[name].astype(np.int16) - 128).astype(np.int8) for name in (w, zero)}
    protos = [one_node(op, list(each.items()), fed, **attributes) for each in (operands, same)]
    inputs = [{name: np.asarray(each[name]) for name in fed} for each in (operands, same)]
    found = oracle.run(load(write(folder, protos[0])), inputs[0])["y"]
    np.testing.assert_array_equal(found, oracle.run(protos[1], inputs[1])["y"], strict=True)


@QUICK
@given(st.data())
def test_convolutions_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x_kind, w_kind = data.draw(KINDS), data.draw(KINDS)
    group, per_channel = data.draw(st.sampled_from([1, 1, 3])), data.draw(st.booleans())
    outputs = group * data.draw(st.integers(1, 3))
    count = (outputs,) if per_channel else ()
    x_zero, w_zero = codes(generator, x_kind, ()), codes(generator, w_kind, count)
    x, w = codes(generator, x_kind, (2, 3, 6, 5)), codes(generator, w_kind, (outputs, 3 // group, 3, 2))
    few = data.draw(st.booleans())
    if few:
        x, w = near(generator, x_zero, x.shape), near(generator, w_zero.reshape(-1, 1, 1, 1), w.shape)
    scale = np.asarray(generator.choice([0.5, 0.25, 0.0371, 0.003], count), np.float32)
    operands = {
        "x": x,
        "xs": np.float32(data.draw(SCALES)),
        "xz": x_zero,
        "w": w,
        "ws": scale,
        "wz": w_zero,
        "ys": np.float32(data.draw(st.sampled_from([0.5, 1.0, 0.37] if few else [512.0, 8.0, 41.0]))),
        "yz": codes(generator, x_kind, ()),
    }
    if data.draw(st.booleans()):
        largest = 9 if few else 90000
        operands["b"] = generator.integers(-largest, largest, outputs).astype(np.int32)
    attributes = {
        "group": group,
        "pads": data.draw(st.sampled_from([[0] * 4, [1, 0, 1, 1]])),
        "strides": data.draw(st.sampled_from([[1, 1], [2, 1]])),
        "dilations": data.draw(st.sampled_from([[1, 1], [2, 1]])),
    }
    checked(tmp_path, "QLinearConv", operands, ["x"], **attributes)


@QUICK
@given(st.data())
def test_matrix_products_give_the_codes_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    a_kind, b_kind = data.draw(KINDS), data.draw(KINDS)
    count = data.draw(st.sampled_from([(), (1,), (4,)]))
    a_zero, b_zero = codes(generator, a_kind, ()), codes(generator, b_kind, count)
    a, b = codes(generator, a_kind, (2, 3, 7)), codes(generator, b_kind, (7, 4))
    few = data.draw(st.booleans())
    if few:
        a, b = near(generator, a_zero, a.shape), near(generator, b_zero, b.shape)
    operands = {
        "a": a,
        "as": np.float32(data.draw(SCALES)),
        "az": a_zero,
        "b": b,
        "bs": np.asarray(generator.choice([0.5, 0.02, 0.0371], count), np.float32),
        "bz": b_zero,
        "ys": np.float32(data.draw(SCALES)) * (1 if few else 128),
        "yz": codes(generator, a_kind, ()),
    }
    fed = data.draw(st.sampled_from([["a"], ["a", "b"], ["a", "az"], ["a", "az", "bz"], ["a", "b", "yz"]]))
    checked(tmp_path, "QLinearMatMul", operands, fed)


@QUICK
@given(st.data())
def test_sums_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    """ConvInteger and MatMulInteger, with zero points stored, absent, or known at run time only."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x_kind, w_kind = data.draw(KINDS), data.draw(KINDS)
    convolves, zeros = data.draw(st.booleans()), data.draw(st.integers(0, 2))
    group = data.draw(st.sampled_from([1, 2])) if convolves else 1
    x = codes(generator, x_kind, (1, 2, 5, 5) if convolves else (4, 6))
    w = codes(generator, w_kind, (4, 2 // group, 3, 3) if convolves else (6, 5))
    operands = [("x", x), ("w", w), ("xz", codes(generator, x_kind, ())), ("wz", codes(generator, w_kind, ()))]
    fed = ["x"] + data.draw(st.sampled_from([[], ["xz"] if zeros else [], ["xz", "wz"] if zeros == 2 else []]))
    settings: dict[str, Any] = {}
    if convolves:
        settings = {"pads": data.draw(st.sampled_from([[0] * 4, [1] * 4, [2, 0, 1, 1]])), "group": group}
    proto = one_node("ConvInteger" if convolves else "MatMulInteger", operands[: 2 + zeros], fed, **settings)
    check_equal(tmp_path, proto, {name: array for name, array in operands if name in fed})


def test_a_zero_point_at_run_time_leaves_eight_bits(tmp_path: Path) -> None:
    """The layer reads the codes themselves, and what the zero point adds is stored, borders included."""
    generator = np.random.default_rng(0)
    x, w = codes(generator, np.uint8, (1, 16, 16, 16)), codes(generator, np.int8, (16, 16, 3, 3))
    operands = [("x", x), ("w", w), ("xz", np.uint8(7)), ("wz", np.int8(0))]
    proto = one_node("ConvInteger", operands, ["x", "xz"], pads=[1] * 4)
    model = load(write(tmp_path, proto))
    assert [node.op_type for node in model.graph].count("Conv") == 1
    (conv,) = (node for node in model.graph if node.op_type == "Conv")
    assert IntegerRanges().codes(conv.inputs[0]) == Codes(0, 255)
    check_equal(tmp_path, proto, {"x": x, "xz": np.asarray(7, np.uint8)})


@pytest.mark.parametrize("bias", [2**24 + 1, -(2**24) - 3, 2**30 + 65, 5])
def test_a_bias_that_float32_does_not_hold_rounds_with_the_sum(tmp_path: Path, bias: int) -> None:
    generator = np.random.default_rng(1)
    x, w = codes(generator, np.uint8, (1, 1, 8, 8)), codes(generator, np.int8, (1, 1, 3, 3))
    operands = [("x", x), ("xs", np.float32(1)), ("xz", np.uint8(7)), ("w", w), ("ws", np.float32([1]))]
    # the scale makes each unit of the rounded sum a code
    step = 2.0 ** max(abs(bias).bit_length() - 24, 0)
    operands += [("wz", np.int8([0])), ("ys", np.float32(step)), ("yz", np.uint8(0)), ("b", np.int32([bias]))]
    proto = one_node("QLinearConv", operands, ["x"])
    check_equal(tmp_path, proto, {"x": x})


def test_layers_of_a_chain_meet_on_codes(tmp_path: Path) -> None:
    """Integers of the file's type are made for outputs alone."""
    generator = np.random.default_rng(0)
    tail = [("s", np.float32(0.1)), ("z", np.uint8(3))]
    stored = dict([*tail, ("w", codes(generator, np.int8, (2, 2, 1, 1))), ("wz", np.int8(0))])
    layers = [
        helper.make_node("QLinearConv", [x, "s", "z", "w", "s", "wz", "s", "z"], [y], name=y)
        for x, y in (("x", "h"), ("h", "y"))
    ]
    graph = helper.make_graph(
        layers,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 2, 3, 3])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = load(write(tmp_path, proto))
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("Quantize") == 2 and "Cast" not in kinds[kinds.index("Quantize") + 1 : -1]
    x = codes(generator, np.uint8, (1, 2, 3, 3))
    np.testing.assert_array_equal(*(oracle.run(each, {"x": x})["y"] for each in (model, proto)))


GOOD = {
    "x": np.zeros((1, 2, 3, 3), np.uint8),
    "xs": np.float32(0.5),
    "xz": np.uint8(1),
    "w": np.zeros((4, 2, 1, 1), np.int8),
    "ws": np.float32([0.5] * 4),
    "wz": np.int8([0] * 4),
    "ys": np.float32(0.5),
    "yz": np.uint8(1),
    "b": np.int32([0] * 4),
}


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"xs": np.float32(0)}, InvalidModel, "a scale that is 0, expected finite numbers above 0"),
        ({"ws": np.float32([1, -1, 1, 1])}, InvalidModel, "a scale that holds -1"),
        ({"ys": np.float32(np.nan)}, InvalidModel, "a scale that is nan"),
        ({"ys": np.float32(1e-38), "xs": np.float32(1e20)}, InvalidModel, "quotient is no finite number"),
        ({"ws": np.float32([1, 1])}, InvalidModel, r"a scale of shape \[2\], expected \[4\] or one number"),
        ({"xs": np.float32([1, 1])}, InvalidModel, r"a scale of shape \[2\], expected one number"),
        ({"xs": np.float64(1)}, InvalidModel, "'xs' of QLinearConv is of type double, expected float"),
        ({"wz": np.int8([0, 0, 0])}, InvalidModel, r"a zero point of shape \[3\]"),
        ({"xz": np.int8(1)}, InvalidModel, "'xz' of QLinearConv is of type int8, expected uint8"),
        ({"xz": np.float32(1)}, InvalidModel, "'xz' of QLinearConv is of type float, expected uint8"),
        ({"yz": np.int16(1)}, UnsupportedModel, "'yz' of QLinearConv is of type int16, expected int8 or uint8"),
        ({"w": np.zeros((4, 2, 1, 1), np.int32)}, UnsupportedModel, "'w' of QLinearConv is of type int32"),
        ({"w": np.zeros((4, 3, 1, 1), np.int8)}, InvalidModel, "which do not fit"),
        ({"b": np.int64([0] * 4)}, InvalidModel, r"the bias 'b' of QLinearConv has shape \[4\], expected int32"),
        ({"b": np.int32([0] * 3)}, InvalidModel, r"has shape \[3\], expected int32 \[4\]"),
    ],
)
def test_parameters_that_do_not_fit(
    tmp_path: Path, changed: dict[str, Any], error: type[QCompilerError], words: str
) -> None:
    proto: onnx.ModelProto = one_node("QLinearConv", list((GOOD | changed).items()), ["x"])
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "node"  # type: ignore[attr-defined]


def test_a_scale_at_run_time_is_refused(tmp_path: Path) -> None:
    proto = one_node("QLinearConv", list(GOOD.items()), ["x", "ys"])
    with pytest.raises(UnsupportedModel, match="parameter 'ys' of QLinearConv depends on data") as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "node"
