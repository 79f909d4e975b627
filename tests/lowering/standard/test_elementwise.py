"""RoundTo against onnxruntime's own casts, on every kind of float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qcompiler.ir import ops, oracle
from qcompiler.ir.ops import DOMAIN, OPSET
from tests.lowering.region import Region, check

Array = np.ndarray
KINDS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# bits that the type has not, its limits, and what is special in float32
LOST = {TensorProto.FLOAT16: 13, TensorProto.BFLOAT16: 16}
SPECIAL = np.array(
    [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        65504,
        65519.996,
        65520,
        65536,
        1e-45,
        3.3895314e38,
        3.3961775e38,
        3.4028235e38,
    ]
    + [
        scale * 2.0**power
        for power in (-14, -24, -25, -26, -126, -133, -134)
        for scale in (1, 0.9999999, 1.0000001, -1.5)
    ],
    np.float32,
)


def rounding(kind: int, count: int) -> onnx.ModelProto:
    node = helper.make_node("RoundTo", ["x"], ["y"], domain=DOMAIN, to=kind)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, count // 3]) for name in "xy")
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[ops.function("RoundTo")])


def near_ties(kind: int, random: np.random.Generator, count: int) -> Array:
    """Random bits; where they are cut off, half of the time a tie, or one beside it."""
    bits = random.integers(0, 2**32, count, np.uint32)
    lost = LOST[kind]
    ties = (
        (bits & np.uint32(2**32 - 2**lost))
        + np.uint32(2 ** (lost - 1))
        + random.integers(-1, 2, count).astype(np.uint32)
    )
    return np.where(random.integers(0, 2, count) == 1, ties, bits).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_round_to(kind: int) -> None:
    count = 3 * 2**14
    proto = rounding(kind, count)
    region = Region(proto)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def equal(seed: int) -> None:
        x = near_ties(kind, np.random.default_rng(seed), count)
        x[: len(SPECIAL)] = SPECIAL
        inputs = {"x": x.reshape(3, -1)}
        found, expected = region.run(inputs)["y"], oracle.run(proto, inputs)["y"]
        number = ~np.isnan(expected)
        assert np.array_equal(np.isnan(found), ~number)
        np.testing.assert_array_equal(found[number].view(np.uint32), expected[number].view(np.uint32))

    equal()


def test_round_to_in_parts() -> None:
    proto = rounding(TensorProto.FLOAT16, 51)
    check(proto, {"x": np.linspace(-3, 3, 51, dtype=np.float32).reshape(3, 17)})
