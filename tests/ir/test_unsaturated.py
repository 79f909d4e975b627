"""Right operands without a sign change no product of integers, and no product saturates in the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from qcompiler.ir import oracle
from qcompiler.ir.portable import portable
from qcompiler.ir.unsaturated import unsaturated
from tests.frontend.dialects.integer_files import one_node

SCALE = np.float32(0.5)
# operands in order, those of the right by their names b and z; zero points may be left out
PRODUCTS: dict[str, tuple[str, list[tuple[str, Any]]]] = {
    "MatMulInteger": ("", [("a", None), ("b", None), ("za", None), ("z", None)]),
    "ConvInteger": ("", [("a", None), ("b", None), ("za", None), ("z", None)]),
    "QLinearMatMul": ("", [("a", None), ("s", SCALE), ("za", None), ("b", None), ("s", SCALE), ("z", None),
                           ("t", np.float32(30)), ("zy", np.uint8(128))]),
    "QLinearConv": ("", [("a", None), ("s", SCALE), ("za", None), ("b", None), ("s", SCALE), ("z", None),
                         ("t", np.float32(30)), ("zy", np.uint8(128))]),
    "MatMulIntegerToFloat": ("com.microsoft", [("a", None), ("b", None), ("s", SCALE), ("s", SCALE), ("za", None),
                                               ("z", None)]),
    "DynamicQuantizeMatMul": ("com.microsoft", [("f", None), ("b", None), ("s", SCALE), ("z", None)]),
    "QGemm": ("com.microsoft", [("a", None), ("s", SCALE), ("za", None), ("b", None), ("s", SCALE), ("z", None), None,
                                ("t", np.float32(30)), ("zy", np.uint8(128))]),
}  # fmt: skip


def product(op: str, arrays: dict[str, np.ndarray], zero: bool, fed: tuple[str, ...]) -> onnx.ModelProto:
    domain, operands = PRODUCTS[op]
    filled = [None if each is None else (each[0], arrays.get(each[0], each[1])) for each in operands]
    if not zero:
        filled = [None if each is not None and each[0] == "z" else each for each in filled]
        while filled[-1] is None:
            filled.pop()
    return one_node(op, filled, fed, domain)


def arrays_of(op: str, rng: np.random.Generator, most: int, signed: bool = False) -> dict[str, np.ndarray]:
    """Left and right operands of at most so many steps from zero, zero points, and a left one of floats.

    signed: whether the left one, and the result, have a sign.
    """
    shapes = ((2, 6, 5, 5), (4, 6, 3, 3)) if "Conv" in op else ((3, 24), (24, 4))
    a, b = (rng.integers(-most, most + 1, shape) for shape in shapes)
    left = np.clip(a, -128, 127).astype(np.int8) if signed else np.clip(a + 128, 0, 255).astype(np.uint8)
    zeros = (np.int8(3), np.int8(-7)) if signed else (np.uint8(128), np.uint8(121))
    return {
        "a": left, "b": np.clip(b, -128, 127).astype(np.int8), "za": zeros[0], "zy": zeros[1],
        "z": np.int8(rng.integers(-5, 6)), "f": a.astype(np.float32),
    }  # fmt: skip


def plain(model: onnx.ModelProto, fed: dict[str, np.ndarray]) -> np.ndarray:
    """In onnxruntime as it is."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, fed)[0])


def whole(model: onnx.ModelProto, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """With its constants in it."""
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name], tensor.name))
    return model


@pytest.mark.parametrize("op", PRODUCTS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), zero=st.booleans(), right_is_fed=st.booleans(), signed=st.booleans())
def test_no_product_changes(op: str, seed: int, zero: bool, right_is_fed: bool, signed: bool) -> None:
    """Products that fit 16 bits are the same before and after, on every processor."""
    arrays = arrays_of(op, np.random.default_rng(seed), most=20, signed=signed)
    left = "f" if op.startswith("Dynamic") else "a"
    fed = (left, "b") if right_is_fed else (left,)
    model = product(op, arrays, zero or op in ("QLinearMatMul", "QLinearConv", "QGemm"), fed)
    changed = unsaturated(portable(model))
    (node,) = (node for node in changed.proto.graph.node if node.op_type == op)
    assert not {"b", "z"} & set(node.input), "the right operand and its zero point are others"
    assert not signed or not {"a", "za"} & set(node.input), "and so are the left ones, where they have a sign"
    inputs = {name: arrays[name] for name in fed}
    np.testing.assert_array_equal(plain(whole(changed.proto, changed.constants), inputs), plain(model, inputs))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("right_is_fed", [False, True])
def test_the_largest_products_do_not_saturate(right_is_fed: bool, signed: bool) -> None:
    arrays = arrays_of("MatMulInteger", np.random.default_rng(0), most=1000, signed=signed)
    fed = ("a", "b") if right_is_fed else ("a",)
    expected = (arrays["a"].astype(np.int64) - arrays["za"]) @ (arrays["b"].astype(np.int64) - arrays["z"])
    inputs = {name: arrays[name] for name in fed}
    found = oracle.run(product("MatMulInteger", arrays, True, fed), inputs)
    np.testing.assert_array_equal(found["y"], expected)
    changed = unsaturated(portable(product("MatMulInteger", arrays, True, fed)))
    np.testing.assert_array_equal(plain(whole(changed.proto, changed.constants), inputs), expected)


def test_large_weights_are_changed_beside_the_graph() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 300)).astype(np.uint8), rng.integers(-128, 128, (300, 40)).astype(np.int8)
    model = portable(one_node("MatMulInteger", [("a", a), ("b", b)], ("a",)))
    assert "b" in model.constants
    found = oracle.Session(model).run({"a": a})["y"]
    np.testing.assert_array_equal(found, a.astype(np.int64) @ b.astype(np.int64))
    np.testing.assert_array_equal(model.constants["b"], b)


def test_graphs_without_such_products_are_the_same_objects() -> None:
    model = portable(one_node("Relu", [("a", np.ones(3, np.float32))], ("a",)))
    assert unsaturated(model) is model
