"""MatMulNBits with accuracy_level = 4: onnxruntime's own kernels, plain operators, our op and numpy say the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.frontend.rounded_products import rounds, spell_out_rounding
from qcompiler.ir import ops, oracle
from qcompiler.ir.block_rounding import SMALLEST, rounded_in_blocks
from qcompiler.targets.architecture import host_features
from qcompiler.targets.target import Array

# far above what the order of sums does, far below what 8 bits do
NEAR = 1e-5


def product(
    bits: int, size: int, k: int, level: int, zeros: str, opset: int, seed: int
) -> tuple[onnx.ModelProto, Array]:
    """A product with 24 columns, and its weights [K, 24]."""
    rng, n, blocks = np.random.default_rng(seed), 24, -(-k // size)
    packed = rng.integers(0, 256, (n, blocks, size * bits // 8)).astype(np.uint8)
    scales = rng.uniform(0.001, 0.01, (n, blocks)).astype(np.float32)
    points = np.full((n, blocks), 2.0 ** (bits - 1))
    constants = [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(scales, "s")]
    if zeros == "packed":
        held = rng.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)
        points = unpacked(held, bits)[:, :blocks].astype(np.float64)
        constants.append(numpy_helper.from_array(held, "z"))
    elif zeros == "numbers":
        points = rng.uniform(0, 2**bits, (n, blocks)).astype(np.float32).astype(np.float64)
        constants.append(numpy_helper.from_array(points.astype(np.float32), "z"))
    names = ["x", *(each.name for each in constants)]
    node = helper.make_node("MatMulNBits", names, ["y"], domain="com.microsoft", K=k, N=n, bits=bits,
                            block_size=size, accuracy_level=level)  # fmt: skip
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, width]) for name, width in (("x", k), ("y", n))
    ]
    graph = helper.make_graph([node], "g", shapes[:1], shapes[1:], constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    block = np.arange(k) // size
    weights = (unpacked(packed.reshape(n, -1), bits)[:, :k] - points[:, block]) * scales[:, block]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), weights.T


def unpacked(rows: Array, bits: int) -> Array:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((rows[:, :, None] >> shifts) & (2**bits - 1)).reshape(len(rows), -1)


def relative(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bits=st.sampled_from([2, 4, 8]), size=st.sampled_from([16, 32, 64, 128, 256]), k=st.integers(1, 300),
    level=st.sampled_from([0, 1, 4, 4, 4]), zeros=st.sampled_from(["none", "packed", "numbers"]),
    opset=st.sampled_from([14, 17, 18, 21]), seed=st.integers(0, 999),
)  # fmt: skip
def test_onnxruntime_rounds_as_the_plain_operators_do(
    bits: int, size: int, k: int, level: int, zeros: str, opset: int, seed: int
) -> None:
    model, weights = product(bits, size, k, level, zeros, opset, seed)
    rounding = rounds(model.graph.node[0], bits, size) and zeros != "numbers"
    x = np.random.default_rng(seed + 1).normal(size=(3, k)).astype(np.float32)
    expected = (rounded_in_blocks(x, size) if rounding else x).astype(np.float64) @ weights
    if (bits, zeros) != (8, "numbers") and (not rounding or "avx2" in host_features()):
        # its kernel as it is; it has none for 8 bits and numbers
        assert relative(oracle.run(model, {"x": x})["y"], expected) < NEAR
    spell_out_rounding(model)
    nodes = [node.op_type for node in model.graph.node]
    assert (len(nodes) > 1) == rounding
    assert not any(attribute.name == "accuracy_level" for attribute in model.graph.node[-1].attribute)
    if (bits, zeros) != (8, "numbers"):
        assert relative(oracle.run(model, {"x": x})["y"], expected) < NEAR


def test_branches_and_functions_too() -> None:
    model, _ = product(4, 32, 64, 4, "none", 21, 0)
    own = model.graph.node[0]
    branch = helper.make_graph([own], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 24])])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "f", ["x", "b", "s"], ["y"], [own], model.opset_import)
    model.graph.node.append(choice)
    model.functions.append(function)
    spell_out_rounding(model)
    inner = [each.g.node for each in model.graph.node[-1].attribute]
    for nodes in (model.graph.node[:-1], *inner, model.functions[0].node):
        assert [node.op_type for node in nodes].count("Round") == 1
        assert nodes[-1].op_type == "MatMulNBits" and nodes[-1].input[0] == nodes[-2].output[0]


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("k", [1, 31, 64, 70])
def test_the_op_is_what_numpy_says(size: int, k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.normal(size=(2, 3, k)).astype(np.float32)
    # halves of a step, a block of nothing, and one of next to nothing
    x[0, 0] = np.resize(np.array([127, 0.5, 1.5, -2.5, -126.5], np.float32), k)
    x[1, 1], x[1, 2] = 0, SMALLEST
    w = rng.normal(size=(k, 5)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, each.shape) for name, each in (("x", x), ("w", w))]
    node = helper.make_node(ops.ROUNDED, ["x", "w"], ["y"], domain=ops.DOMAIN, size=[size], bits=4)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 5])
    graph = helper.make_graph([node], "g", values, [out])
    opsets = [helper.make_opsetid("", ops.OPSET), helper.make_opsetid(ops.DOMAIN, 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=ops.IR_VERSION))
    ops.attach_functions(model)
    found = oracle.run(model, {"x": x, "w": w})["y"]
    assert not found[1, 1:].any()
    np.testing.assert_allclose(found, rounded_in_blocks(x, size) @ w, rtol=1e-5, atol=1e-5)
