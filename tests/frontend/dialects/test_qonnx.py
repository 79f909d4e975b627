"""QONNX nodes against numpy transcriptions of their definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import canonicalize, load
from qcompiler.ir import oracle
from qcompiler.passes import DEFAULT
from qcompiler.passes.runner import run_passes
from tests.frontend.files import write

GENERAL = "qonnx.custom_op.general"
GRID = np.array([-9, -2.5, -1.75, -1.5, -1, -0.75, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1, 1.5, 1.75, 2.5, 9], np.float32)


def one_node(
    op: str, x: np.ndarray, parameters: list[Any], domain: str = GENERAL, imports: int | None = 1, **settings: Any
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(array), f"p{index}") for index, array in enumerate(parameters)]
    node = helper.make_node(op, ["x", *(t.name for t in constants)], ["y"], name="q", domain=domain, **settings)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    output = [helper.make_empty_tensor_value_info("y")]
    graph = helper.make_graph([node], "g", inputs, output, constants)
    opsets = [helper.make_opsetid("", 9)]
    if imports is not None and domain:
        opsets.append(helper.make_opsetid(domain, imports))
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def evaluated(folder: Path, model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return oracle.run(load(write(folder, model)), {"x": x})["y"]


ROUNDINGS = {
    "ROUND": np.round,
    "half_even": np.round,
    "CEIL": np.ceil,
    "Floor": np.floor,
    "UP": lambda v: np.sign(v) * np.ceil(np.abs(v)),
    "DOWN": np.fix,
    "HALF_UP": lambda v: np.sign(v) * np.floor(np.abs(v) + np.float32(0.5)),
    "half_down": lambda v: np.sign(v) * np.ceil(np.abs(v) - np.float32(0.5)),
}


def quant(x: Any, scale: Any, zero: Any, bits: int, signed: int, narrow: int, mode: str) -> np.ndarray:
    scale, zero = np.float32(scale), np.float32(zero)
    value = x / scale + zero
    if bits == 1 and signed:
        value = np.where(value >= 0, np.float32(1), np.float32(-1))
    else:
        low = -(2 ** (bits - 1)) + narrow if signed else 0
        high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
        value = ROUNDINGS[mode](np.clip(value, np.float32(low), np.float32(high)))
    return ((value - zero) * scale).astype(np.float32)


@pytest.mark.parametrize("mode", ROUNDINGS)
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_rounding_modes(tmp_path: Path, op: str, mode: str) -> None:
    model = one_node(op, GRID, [np.float32(0.5), np.float32(0), np.float32(3)], signed=1, narrow=0, rounding_mode=mode)
    np.testing.assert_array_equal(evaluated(tmp_path, model, GRID), quant(GRID, 0.5, 0, 3, 1, 0, mode))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.integers(1, 8),
    signed=st.integers(0, 1),
    narrow=st.integers(0, 1),
    mode=st.sampled_from(sorted(ROUNDINGS)),
    scale=st.sampled_from([1.0, 0.5, 0.0371, 3.25]),
    zero=st.sampled_from([0, 1, -2]),
    as_int=st.booleans(),
    x=arrays.arrays(np.float32, (2, 5), elements=st.floats(-300, 300, width=32)),
)
def test_quant_is_its_definition(
    tmp_path: Path, bits: int, signed: int, narrow: int, mode: str, scale: float, zero: int, as_int: bool, x: np.ndarray
) -> None:
    kind = np.int64 if as_int else np.float32
    parameters = [np.float32(scale), np.asarray(zero, kind), np.asarray(bits, kind)]
    model = one_node("Quant", x, parameters, signed=signed, narrow=narrow, rounding_mode=mode)
    want = quant(x, scale, zero, bits, signed, narrow, mode)
    np.testing.assert_array_equal(evaluated(tmp_path, model, x), want)


def test_quant_per_channel_scales(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2), np.float32)
    scale = np.array([0.1, 0.25, 1], np.float32).reshape(1, 3, 1, 1)
    model = one_node(
        "Quant", x, [scale, np.zeros_like(scale), np.float32(4)], signed=1, narrow=1, rounding_mode="ROUND"
    )
    np.testing.assert_array_equal(evaluated(tmp_path, model, x), quant(x, scale, 0, 4, 1, 1, "ROUND"))


def test_bit_width_computed_by_nodes(tmp_path: Path) -> None:
    model = one_node("Quant", GRID, [np.float32(0.5), np.float32(0), np.float32(3)], signed=1)
    model.graph.node[0].input[3] = "bits"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1.4], np.float32), "raw"))
    steps = [
        helper.make_node("Ceil", ["raw"], ["up"]),
        helper.make_node("Add", ["up", "up"], ["bits"]),
    ]
    model.graph.node.extend(steps)  # after their consumer: the loader sorts
    np.testing.assert_array_equal(evaluated(tmp_path, model, GRID), quant(GRID, 0.5, 0, 4, 1, 0, "ROUND"))


@pytest.mark.parametrize("domain", [GENERAL, "onnx.brevitas", "finn.custom_op.general", ""])
@pytest.mark.parametrize("imports", [1, 2, None])
def test_bipolar_quant_in_every_domain(tmp_path: Path, domain: str, imports: int | None) -> None:
    x = np.append(GRID, np.float32(np.nan))
    model = one_node("BipolarQuant", x, [np.float32(0.7)], domain, imports)
    found = load(write(tmp_path, model))
    assert [node.op_type for node in found.graph] == ["Binarize", "Mul"]
    assert [node.name for node in found.graph] == ["q/binarize", "q"]
    want = np.where(x >= 0, np.float32(0.7), np.float32(-0.7))
    np.testing.assert_array_equal(oracle.run(found, {"x": x})["y"], want)


def test_unit_scales_leave_no_arithmetic(tmp_path: Path) -> None:
    bipolar = load(write(tmp_path, one_node("BipolarQuant", GRID, [np.float32(1)])))
    assert [node.op_type for node in bipolar.graph] == ["Binarize"]
    one_bit = load(write(tmp_path, one_node("Quant", GRID, [np.float32(0.5), np.float32(0), np.float32(1)])))
    assert [node.op_type for node in one_bit.graph] == ["Binarize", "Mul"]


def test_one_bit_quant_of_numbers_that_vanish_under_the_scale(tmp_path: Path) -> None:
    tiny = np.array([-1e-45, 1e-45, -1, 1], np.float32)
    for scale in (0.5, 4.0):
        model = one_node("Quant", tiny, [np.float32(scale), np.float32(0), np.float32(1)])
        np.testing.assert_array_equal(evaluated(tmp_path, model, tiny), quant(tiny, scale, 0, 1, 1, 0, "ROUND"))


@pytest.mark.parametrize("mode", ["FLOOR", "ROUND", "CEIL"])
def test_trunc_version_1(tmp_path: Path, mode: str) -> None:
    x = np.arange(-40, 41, dtype=np.float32) * np.float32(0.25)
    parameters = [np.float32(0.25), np.float32(2), np.float32(8), np.float32(5)]
    want = (ROUNDINGS[mode.capitalize() if mode == "FLOOR" else mode]((np.round(x / 0.25 + 2)) / 8) - 2) * 0.25
    found = evaluated(tmp_path, one_node("Trunc", x, parameters, rounding_mode=mode), x)
    np.testing.assert_array_equal(found, want.astype(np.float32))


@pytest.mark.parametrize("narrow", [0, 1])
def test_trunc_version_2(tmp_path: Path, narrow: int) -> None:
    x = np.arange(-80, 81, dtype=np.float32) * np.float32(0.25)
    parameters = [np.float32(0.25), np.float32(4), np.float32(8), np.float32(2.1), np.float32(3)]
    want = (np.floor(np.clip(np.round(x / 0.25 + 4) / 8, -4 + narrow, 3)) - 0.5) * np.float32(2.1)
    found = evaluated(tmp_path, one_node("Trunc", x, parameters, imports=2, signed=1, narrow=narrow), x)
    np.testing.assert_allclose(found, want.astype(np.float32), rtol=1e-7)


@pytest.mark.parametrize(
    ("shape", "layout", "axis", "channels"),
    [
        ((2, 3, 4, 4), "NCHW", 1, 3),
        ((2, 4, 4, 3), "NHWC", 3, 3),
        ((2, 3), "", 1, 3),
        ((2, 5, 3), "", 2, 3),
        ((2, 3), "NC", 1, 1),
    ],
)
def test_multi_threshold(tmp_path: Path, shape: tuple[int, ...], layout: str, axis: int, channels: int) -> None:
    x = np.random.default_rng(1).integers(-4, 5, shape).astype(np.float32)
    thresholds = np.sort(np.random.default_rng(2).integers(-3, 4, (channels, 3)), axis=1).astype(np.float32)
    settings: dict[str, Any] = {"out_scale": 2.0, "out_bias": -3.0, "out_dtype": "INT4"}
    if layout:
        settings["data_layout"] = layout
    moved = np.moveaxis(x, axis, -1)
    want = np.moveaxis((moved[..., None] >= thresholds).sum(-1) * 2.0 - 3.0, -1, axis)
    found = evaluated(tmp_path, one_node("MultiThreshold", x, [thresholds], **settings), x)
    np.testing.assert_array_equal(found, want.astype(np.float32))


def test_one_threshold_is_a_binarization(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-4, 5, (2, 3, 4, 4)).astype(np.float32)
    thresholds = np.array([[-2], [0], [1]], np.float32)
    proto = one_node("MultiThreshold", x, [thresholds], out_scale=2.0, out_bias=-1.0, out_dtype="BIPOLAR")
    model = canonicalize(write(tmp_path, proto))
    assert {node.op_type for node in model.graph} == {"Sub", "Binarize"}
    want = np.where(x >= thresholds.reshape(3, 1, 1), 1, -1).astype(np.float32)
    np.testing.assert_array_equal(oracle.run(model, {"x": x})["y"], want)


def test_functions_of_unknown_quantizers_are_expanded(tmp_path: Path) -> None:
    model = one_node("LaterQuant", GRID, [np.float32(1)])
    body = onnx.parser.parse_function(
        f'<domain: "{GENERAL}", opset_import: ["": 9]> LaterQuant (v, s) => (r) {{ r = Mul (v, s) }}'
    )
    model.functions.append(body)
    np.testing.assert_array_equal(evaluated(tmp_path, model, GRID), GRID)


def test_channels_last_convolution(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    x = generator.integers(-3, 4, (1, 5, 6, 4)).astype(np.float32)
    w = generator.integers(-3, 4, (2, 3, 3, 4)).astype(np.float32)
    domain = "qonnx.custom_op.channels_last"
    last = one_node("Conv", x, [w], domain, pads=[1, 1, 1, 1], strides=[2, 1])
    first = one_node("Conv", x.transpose(0, 3, 1, 2), [w.transpose(0, 3, 1, 2)], "", pads=[1, 1, 1, 1], strides=[2, 1])
    want = evaluated(tmp_path, first, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(evaluated(tmp_path, last, x), want)


@pytest.mark.parametrize(
    ("op", "parameters", "error", "words"),
    [
        ("FloatQuant", [np.float32(1)] * 5, UnsupportedModel, "minifloat"),
        ("Im2Col", [], UnsupportedModel, "not supported"),
        ("Quant", [np.float32(1)], InvalidModel, "2 inputs, expected 4"),
        ("Quant", [np.float32(1), np.float32(0), np.float32(0)], InvalidModel, "bit width"),
        ("Quant", [np.float32(1), np.float32(0), np.array([2, 4], np.float32)], UnsupportedModel, "differs"),
        ("MultiThreshold", [np.zeros((5, 2), np.float32)], InvalidModel, "thresholds"),
    ],
)
def test_refusals_name_the_node(
    tmp_path: Path, op: str, parameters: list[Any], error: type[UnsupportedModel], words: str
) -> None:
    x = np.zeros((1, 3), np.float32)
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, one_node(op, x, parameters)))
    assert caught.value.node == "q"
    assert caught.value.remedy


def test_unknown_rounding_mode(tmp_path: Path) -> None:
    model = one_node("Quant", GRID, [np.float32(1), np.float32(0), np.float32(2)], rounding_mode="STOCHASTIC")
    with pytest.raises(InvalidModel, match="STOCHASTIC"):
        load(write(tmp_path, model))


@pytest.mark.parametrize("shape", [(1, 64), (3, 7), (2, 3, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_xnor_popcount_counts_equal_codes(tmp_path: Path, shape: tuple[int, ...], constant: bool) -> None:
    generator = np.random.default_rng(sum(shape))
    a, w = (generator.integers(0, 2, size).astype(np.float32) for size in (shape, (shape[-1], 4)))
    model = one_node("XnorPopcountMatMul", a, [w])
    inputs = {"x": a}
    if not constant:
        del model.graph.initializer[:]
        model.graph.input.append(helper.make_tensor_value_info("p0", TensorProto.FLOAT, w.shape))
        inputs["p0"] = w
    want = (a[..., :, None] == w).sum(-2).astype(np.float32)
    np.testing.assert_array_equal(oracle.run(load(write(tmp_path, model)), inputs)["y"], want)


def test_xnor_popcount_of_thresholds_is_one_binary_product(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    thresholds, w = generator.standard_normal((64, 1)), generator.integers(0, 2, (64, 5))
    model = one_node("MultiThreshold", np.zeros((2, 64)), [thresholds.astype(np.float32)])
    model.graph.node[0].output[0] = "a"
    model.graph.node.append(helper.make_node("XnorPopcountMatMul", ["a", "w"], ["y"], name="p", domain=GENERAL))
    model.graph.initializer.append(numpy_helper.from_array(w.astype(np.float32), "w"))
    x = generator.standard_normal((2, 64)).astype(np.float32)
    want = ((x >= thresholds.T.astype(np.float32))[..., None] == w).sum(1).astype(np.float32)
    found = canonicalize(write(tmp_path, model))
    run_passes(found, DEFAULT, check=True)
    assert [node.op_type for node in found.graph].count("IntegerMatMul") == 1
    np.testing.assert_array_equal(oracle.run(found, {"x": x})["y"], want)


@pytest.mark.parametrize(
    ("weights", "words"),
    [(np.full((3, 2), -1, np.float32), "other than 0 and 1"), (np.ones((4, 2), np.float32), "expected ..., K")],
)
def test_xnor_popcount_of_what_it_cannot_count(tmp_path: Path, weights: np.ndarray, words: str) -> None:
    with pytest.raises(InvalidModel, match=words.replace("..., K", r"\[..., K\]")) as caught:
        load(write(tmp_path, one_node("XnorPopcountMatMul", np.zeros((1, 3), np.float32), [weights])))
    assert caught.value.node == "q"
