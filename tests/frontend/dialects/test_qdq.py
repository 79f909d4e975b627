"""QuantizeLinear and DequantizeLinear against stock onnxruntime, which runs the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import canonicalize, load
from qcompiler.ir import oracle
from qcompiler.ir.quantizing import ROUND_SHIFT
from tests.frontend.files import write

T = TensorProto
RANGES = {
    T.INT8: (-128, 127), T.UINT8: (0, 255), T.INT16: (-32768, 32767), T.UINT16: (0, 65535), T.INT4: (-8, 7),
    T.UINT4: (0, 15),
}  # fmt: skip
SHAPE = (2, 3, 4)
SLOW = [HealthCheck.function_scoped_fixture]


def file_of(nodes: list[onnx.NodeProto], constants: dict[str, Any], outputs: tuple[str, ...] = ("y",)) -> Any:
    x = [helper.make_tensor_value_info("x", T.FLOAT, SHAPE)]
    stored = [c if isinstance(c, T) else numpy_helper.from_array(np.asarray(c), n) for n, c in constants.items()]
    for tensor, name in zip(stored, constants, strict=True):
        tensor.name = name
    made = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "g", x, made, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def zeros_of(kind: int, numbers: np.ndarray) -> onnx.TensorProto:
    return helper.make_tensor("zero", kind, numbers.shape, numbers.reshape(-1).tolist())


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_quantized_numbers_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    """All types, per tensor, per axis and per block, at halves, beyond both ends, and with odd zero points."""
    kind = data.draw(st.sampled_from(sorted(RANGES)))
    axis = data.draw(st.integers(-3, 2))
    extent = SHAPE[axis]
    block = data.draw(st.sampled_from([0, 0, 1, 2]))
    spread = data.draw(st.booleans()) or block > 0
    shape: tuple[int, ...] = (extent,) if spread else ()
    if block:
        sizes = list(SHAPE)
        sizes[axis] = -(-extent // block)
        shape = tuple(sizes)
    count = int(np.prod(shape, dtype=int))
    scales = st.sampled_from([1.0, 0.5, 0.02, 0.0371, 2.0])
    scale = np.asarray(data.draw(st.lists(scales, min_size=count, max_size=count)), np.float32).reshape(shape)
    low, high = RANGES[kind]
    zeros = st.integers(max(low, -5), min(high, 5))
    zero = np.asarray(data.draw(st.lists(zeros, min_size=count, max_size=count)), np.int64).reshape(shape)
    settings_ = {"axis": axis, **({"block_size": block} if block else {})}
    operands = ["scale", "zero"] if data.draw(st.booleans()) or kind != T.UINT8 else ["scale"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *operands], ["q"], name="q", **settings_),
        helper.make_node("DequantizeLinear", ["q", *operands], ["y"], name="d", **settings_),
    ]
    constants = {"scale": scale, "zero": zeros_of(kind, zero)}
    outputs: tuple[str, ...] = ("y",)
    if data.draw(st.booleans()) and kind not in (T.INT4, T.UINT4):
        outputs = ("y", "q")
    proto = file_of(nodes, constants, outputs)
    numbers = st.one_of(st.integers(-40, 40).map(lambda n: n / 4), st.floats(-4e4, 4e4, width=32))
    x = np.asarray(data.draw(st.lists(numbers, min_size=24, max_size=24)), np.float32).reshape(SHAPE)
    model = load(write(tmp_path, proto))
    assert {node.op_type for node in model.graph} <= {"Quantize", "Sub", "Mul", "Cast", "Reshape", "Expand", "Slice"}
    found, want = (oracle.run(each, {"x": x}) for each in (model, proto))
    for name in outputs:
        np.testing.assert_array_equal(found[name], want[name], strict=True)


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    zero=st.integers(0, 9),
    bounds=st.tuples(st.integers(0, 15), st.integers(0, 15)).map(sorted),
    clips=st.integers(0, 2),
    quarters=st.lists(st.integers(-90, 90), min_size=24, max_size=24),
)
def test_a_clip_between_both_narrows_the_codes(
    tmp_path: Path, zero: int, bounds: list[int], clips: int, quarters: list[int]
) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q0"], name="q")]
    names = [("low", "high"), ("", "high")][:clips]
    for index, (low, high) in enumerate(names):
        nodes.append(helper.make_node("Clip", [f"q{index}", low, high], [f"q{index + 1}"], name=f"c{index}"))
    nodes.append(helper.make_node("DequantizeLinear", [f"q{clips}", "scale", "zero"], ["y"], name="d"))
    low, high = (np.asarray(bound, np.uint8) for bound in bounds)
    constants = {"scale": np.float32(0.5), "zero": np.uint8(zero), "low": low, "high": high}
    proto = file_of(nodes, constants)
    model = load(write(tmp_path, proto))
    assert [node.op_type for node in model.graph] == ["Quantize", *(["Sub"] if zero else []), "Mul"]
    x = np.asarray(quarters, np.float32).reshape(SHAPE) / 8
    np.testing.assert_array_equal(*(oracle.run(each, {"x": x})["y"] for each in (model, proto)))


def test_codes_and_numbers_are_spelled_in_float32(tmp_path: Path) -> None:
    """What only DequantizeLinear reads is never an integer of the file's type."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dequantize"),
    ]
    model = canonicalize(write(tmp_path, file_of(nodes, {"scale": np.float32(0.5), "zero": np.uint8(3)})))
    quantize, sub, mul = model.graph
    assert [node.op_type for node in (quantize, sub, mul)] == ["Quantize", "Sub", "Mul"]
    settings_ = {name: attribute.value for name, attribute in quantize.attributes.items()}
    assert settings_ == {"low": 0.0, "high": 255.0, "rounding": "ROUND", "order": ROUND_SHIFT}
    assert mul.name == "dequantize" and quantize.name == "quantize/quantize"


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    kind=st.sampled_from([np.int8, np.uint8, np.int16, np.int32]),
    axis=st.sampled_from([None, 0, 2]),
    seed=st.integers(0, 99),
)
def test_stored_integers_are_dequantized(tmp_path: Path, kind: Any, axis: int | None, seed: int) -> None:
    generator, limits = np.random.default_rng(seed), np.iinfo(kind)
    count = () if axis is None else (SHAPE[axis],)
    w = generator.integers(limits.min, limits.max, SHAPE, endpoint=True).astype(kind)
    zero = np.zeros(count, kind) if kind == np.int32 else generator.integers(0, 9, count).astype(kind)
    constants = {"w": w, "scale": generator.uniform(0.01, 2, count).astype(np.float32), "zero": zero}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["d"], **({} if axis is None else {"axis": axis})),
        helper.make_node("Add", ["x", "d"], ["y"]),
    ]
    proto = file_of(nodes, constants)
    x = np.zeros(SHAPE, np.float32)
    model = load(write(tmp_path, proto))
    np.testing.assert_array_equal(*(oracle.run(each, {"x": x})["y"] for each in (model, proto)))


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize(
    ("scale", "zero", "settings_", "words"),
    [
        (np.float32([0.5, 0.5]), np.int8([0, 0]), {}, r"scale of shape \[2\], expected \[3\] or one"),
        (np.float32([0.5] * 3), np.int8([0]), {}, "a zero point of shape"),
        (np.float32([0.5] * 3), np.int8([0] * 3), {"axis": 3}, "axis 3 for a value of shape"),
        (np.float32([-0.5] * 3), np.int8([0] * 3), {}, "finite numbers above 0"),
        (np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), np.int8), {"axis": 2, "block_size": 2}, r"\[2, 3, 2\]"),
    ],
)
def test_parameters_that_do_not_fit(
    tmp_path: Path, op: str, scale: Any, zero: Any, settings_: dict[str, int], words: str
) -> None:
    good = {"good": np.float32(0.5), "nought": np.int8(0)}
    first = ["scale", "zero"] if op == "QuantizeLinear" else list(good)
    second = list(good) if op == "QuantizeLinear" else ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *first], ["q"], name="QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["q", *second], ["y"], name="DequantizeLinear"),
    ]
    node = nodes[op == "DequantizeLinear"]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in settings_.items())
    with pytest.raises(InvalidModel, match=words) as caught:
        load(write(tmp_path, file_of(nodes, {"scale": scale, "zero": zero, **good})))
    assert caught.value.node == op


def test_types_that_hold_no_integers(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["y"], name="q", output_dtype=T.FLOAT8E4M3FN)
    with pytest.raises(UnsupportedModel, match="QuantizeLinear to FLOAT8E4M3FN") as caught:
        load(write(tmp_path, file_of([node], {"scale": np.float32(0.5)})))
    assert caught.value.node == "q"
