"""The table of traits against onnxruntime: what it says of an op holds of the op's results."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompiler.ir import ops, oracle
from qcompiler.ir.ops import DOMAIN, IR_VERSION, OPSET
from qcompiler.ir.traits import TABLE, Trait, channel_axis, has, traits_of, weight_axis

Array = np.ndarray
X = (np.random.default_rng(0).permutation(24).reshape(1, 2, 3, 4) * 0.75 - 8).astype(np.float32)
OTHER = (np.random.default_rng(1).permutation(24).reshape(1, 2, 3, 4) * 0.5 + 0.25).astype(np.float32)

I64 = np.int64
# operands after the first, attributes, and the operand where it is not X
FORMS: dict[str, tuple[list[Array], dict[str, object]]] = {
    "Reshape": ([np.array([2, 12], I64)], {}),
    "Squeeze": ([np.array([0], I64)], {}),
    "Unsqueeze": ([np.array([0], I64)], {}),
    "Transpose": ([], {"perm": [0, 2, 3, 1]}),
    "DepthToSpace": ([], {"blocksize": 1}),
    "SpaceToDepth": ([], {"blocksize": 1}),
    "Expand": ([np.array([2, 2, 3, 4], I64)], {}),
    "Tile": ([np.array([1, 1, 2, 1], I64)], {}),
    "Slice": ([np.array([1], I64), np.array([3], I64), np.array([2], I64)], {}),
    "Split": ([np.array([1, 1], I64)], {"axis": 1}),
    "Gather": ([np.array([1, 0], I64)], {"axis": 1}),
    "GatherElements": ([np.zeros((1, 2, 3, 4), I64)], {"axis": 3}),
    "GatherND": ([np.array([[0, 1]], I64)], {}),
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
    "AveragePool": ([], {"kernel_shape": [2, 2]}),
    "Concat": ([OTHER], {"axis": 1}),
    "Pad": ([np.array([0, 0, 1, 1, 0, 0, 1, 1], I64), np.array(0.5, np.float32)], {}),
    "Clip": ([np.array(-2, np.float32), np.array(3, np.float32)], {}),
    "Cast": ([], {"to": TensorProto.DOUBLE}),
    "Mod": ([OTHER], {"fmod": 1}),
    "PRelu": ([np.array([0.25], np.float32)], {}),
    "IntegerMaxPool": (
        [np.ones((2, 1, 1), np.float32)],
        {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1], "ceil_mode": 0},
    ),
    "RoundTo": ([], {"to": TensorProto.FLOAT16}),
    "Quantize": ([np.array(1, np.float32), np.array(0, np.float32)], {"low": -8.0, "high": 7.0}),
    "Threshold": ([np.full((1, 1, 1, 1, 1), 0.5, np.float32), np.array(1, np.float32)], {}),
}
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")


def result(name: str, x: Array = X, domain: str = "", **changed: Array) -> Array:
    """The first result of an op on `x`; changed: another second operand."""
    operands, attributes = FORMS.get(name, ([OTHER] if name in BINARY else [], {}))
    operands = [changed["other"], *operands[1:]] if changed else operands
    names = [f"c{i}" for i in range(len(operands))]
    outputs = ["y", "z"] if name == "Split" else ["y"]
    node = helper.make_node(name, ["x", *names], outputs, domain=domain, **attributes)
    shape = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    graph = helper.make_graph(
        [node],
        "g",
        [shape],
        [onnx.ValueInfoProto(name=each) for each in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in zip(names, operands, strict=True)],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=IR_VERSION,
        functions=[ops.function(name)] if domain == DOMAIN else [],
    )
    return oracle.run(model, {"x": x})["y"]


def with_trait(*traits: Trait, without: tuple[str, ...] = ()) -> list[object]:
    found = [key for key, value in TABLE.items() if any(value & trait for trait in traits) and key[1] not in without]
    return [pytest.param(domain, name, id=name) for domain, name in found]


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.RENAMES))
def test_renaming_keeps_the_order(domain: str, name: str) -> None:
    np.testing.assert_array_equal(result(name).reshape(-1), X.reshape(-1), strict=True)


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.MOVES))
def test_moved_elements_are_those_of_the_operand(domain: str, name: str) -> None:
    assert np.isin(result(name, domain=domain), X).all()


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.JOINS))
def test_joined_elements_are_those_of_operands_or_the_fill(domain: str, name: str) -> None:
    found = result(name)
    assert np.isin(found, [*X.reshape(-1), *OTHER.reshape(-1), np.float32(0.5)]).all() and found.size > X.size


LOGICAL = ("And", "Or", "Xor", "Not", "Where")


@pytest.mark.parametrize(
    ("domain", "name"), with_trait(Trait.POINTWISE, without=(*LOGICAL, "Pow", "Mean", "Sum", "Cast"))
)
def test_pointwise_ops_do_not_see_neighbours(domain: str, name: str) -> None:
    flipped = {} if name not in (*BINARY, "Mod") else {"other": OTHER[..., ::-1].copy()}
    x = np.abs(X) + 0.25 if name in ("Log", "Sqrt") else X
    mirrored = result(name, x[..., ::-1].copy(), domain, **flipped)
    np.testing.assert_allclose(result(name, x, domain), mirrored[..., ::-1], rtol=1e-6)


ONCE = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum,
    "Mod": np.fmod, "Sqrt": lambda x, _: np.sqrt(x), "Reciprocal": lambda x, _: 1 / x, "Abs": lambda x, _: np.abs(x),
    "Neg": lambda x, _: -x, "Relu": lambda x, _: np.maximum(x, 0), "Clip": lambda x, _: np.clip(x, -2, 3),
    "Identity": lambda x, _: x, "PRelu": lambda x, _: np.where(x < 0, 0.25 * x, x),
    "LeakyRelu": lambda x, _: np.where(x < 0, float(np.float32(0.01)) * x, x), "Cast": lambda x, _: x,
    "RoundTo": lambda x, _: x.astype(np.float16),
}  # fmt: skip


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.ROUNDED_ONCE, without=(*LOGICAL, "DequantizeLinear")))
def test_single_operations_are_rounded_once(domain: str, name: str) -> None:
    x, other = np.float32(0.1) * np.abs(X) + np.float32(0.7), OTHER
    found = result(name, x, domain, **({"other": other} if name in (*BINARY, "Mod") else {}))
    exact = ONCE[name](x.astype(np.float64), other.astype(np.float64))
    np.testing.assert_array_equal(found.astype(np.float32), np.asarray(exact, np.float32))


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.RISES, Trait.CHAINS))
def test_rising_ops_and_chains_keep_or_reverse_order(domain: str, name: str) -> None:
    x = np.sort(X.reshape(-1)).reshape(1, 1, 1, -1)
    found = result(name, x, **({"other": np.full(1, 0.7, np.float32)} if name in BINARY else {})).reshape(-1)
    steps = np.diff(found.astype(np.float64))
    assert (steps >= -1e-6).all() or (has(node(domain, name), Trait.CHAINS) and (steps <= 0).all())


@pytest.mark.parametrize(("domain", "name"), with_trait(Trait.LANDS))
def test_jumps_land_on_few_numbers(domain: str, name: str) -> None:
    found = result(name, X + np.float32(0.1), domain)
    assert np.array_equal(found, np.rint(found))
    near = [result(name, np.full((1, 1, 1, 1), 0.5 + side, np.float32), domain) for side in (-0.6, 0.6)]
    assert near[0] != near[1]


def node(domain: str, name: str) -> ir.Node:
    return ir.Node(domain, name, [])


def test_layers_and_their_axes() -> None:
    assert channel_axis(node("", "Conv"), 4) == -3 and weight_axis(node(DOMAIN, "IntegerConv")) == 0
    assert channel_axis(node("", "MatMul"), 2) == -1 and weight_axis(node(DOMAIN, "IntegerMatMul")) == -1


def test_every_op_of_ours_is_in_the_table() -> None:
    assert {name for domain, name in TABLE if domain == DOMAIN} == set(ops.names())


def test_unknown_ops_have_no_traits() -> None:
    assert (
        not traits_of(None) and not traits_of(node("elsewhere", "Relu")) and has(node("ai.onnx", "Relu"), Trait.CHAINS)
    )
