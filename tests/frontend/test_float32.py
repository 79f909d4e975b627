"""Models of other floating-point types: as the same model of float32 whose numbers were rounded to the type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qcompiler.frontend import load
from qcompiler.frontend.float32 import holds_halves
from qcompiler.ir import oracle
from qcompiler.ir.file_types import file_types
from tests.frontend.files import save, write

Array = np.ndarray[Any, Any]
T = TensorProto
DTYPES = {T.FLOAT: np.float32, T.FLOAT16: np.float16, T.BFLOAT16: ml_dtypes.bfloat16, T.DOUBLE: np.float64}
NAMES = {T.FLOAT16: "float16", T.BFLOAT16: "bfloat16", T.DOUBLE: "float64"}
OTHERS = sorted(NAMES)


class Build:
    """One network, in the element type `kind` or, `plain`, in float32 from the numbers that `kind` stores.

    Both are built by the same draws: draw(low, high) gives an integer, random the numbers.
    """

    def __init__(self, kind: int, seed: int, *, plain: bool, outside: bool) -> None:
        self.kind, self.plain, self.outside = kind, plain, outside
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.channels = int(self.random.integers(1, 5))
        x = self.cast("x") if outside else "x"
        # float64 becomes float32 in networks alone
        x = self.matmul(x)
        for _ in range(int(self.random.integers(0, 6))):
            x = getattr(self, str(self.random.choice(LAYERS)))(x)
        self.result = self.node("Cast", [x], to=T.FLOAT) if outside else self.node("Identity", [x])

    @property
    def element(self) -> int:
        return T.FLOAT if self.plain else self.kind

    def model(self) -> onnx.ModelProto:
        element = T.FLOAT if self.outside else self.element
        x = helper.make_tensor_value_info("x", element, [1, self.first, 5, 5])
        y = helper.make_tensor_value_info(self.result, element, None)
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)

    @property
    def first(self) -> int:
        return int(np.random.default_rng(0).integers(2, 4))

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def stored(self, array: Any) -> str:
        """A constant: what the type makes of the numbers; as an initializer, or a Constant."""
        numbers = np.asarray(array, np.float32).astype(DTYPES[self.kind])
        tensor = numpy_helper.from_array(numbers.astype(np.float32) if self.plain else numbers, f"c{len(self.tensors)}")
        if self.random.integers(2):
            return self.node("Constant", [], value=tensor)
        self.tensors.append(tensor)
        return tensor.name

    def cast(self, x: str) -> str:
        """To the type; in float32, rounded to it."""
        if not self.plain or self.kind != T.DOUBLE:
            x = self.node("Cast", [x], to=self.kind)
        return self.node("Cast", [x], to=T.FLOAT) if self.plain else x

    def conv(self, x: str) -> str:
        weights = self.random.standard_normal((self.channels, 1, 1, 1))
        mixed = self.node("ReduceSum", [x, self.integers([1])])
        return self.node("Conv", [mixed, self.stored(weights)])

    def scale(self, x: str) -> str:
        return self.node("Mul", [x, self.stored(self.random.standard_normal((1, 1, 5, 1)))])

    def matmul(self, x: str) -> str:
        return self.node("MatMul", [x, self.stored(self.random.standard_normal((5, 5)) / 3)])

    def computed_weights(self, x: str) -> str:
        weights = self.node("Mul", [self.stored(self.random.standard_normal((5, 5))), self.stored(0.37)])
        return self.node("MatMul", [x, weights])

    def island(self, x: str) -> str:
        inside = self.node("Cast", [x], to=T.FLOAT)
        return self.cast(self.node("Tanh", [inside]))

    def like(self, x: str) -> str:
        """CastLike of float32, to the type of a constant."""
        like = self.stored([0.5])
        inside = self.node("Sigmoid", [self.node("Cast", [x], to=T.FLOAT)])
        return self.cast(inside) if self.plain else self.node("CastLike", [inside, like])

    def filled(self, x: str) -> str:
        value = np.asarray([0.3], np.float32).astype(DTYPES[self.kind])
        tensor = numpy_helper.from_array(value.astype(np.float32) if self.plain else value)
        return self.node("Sub", [x, self.node("ConstantOfShape", [self.integers([5])], value=tensor)])

    def eye(self, x: str) -> str:
        square = self.node("ConstantOfShape", [self.integers([5, 5])])
        return self.node("MatMul", [x, self.node("EyeLike", [square], dtype=self.element)])

    def pointwise(self, x: str) -> str:
        return self.node(str(self.random.choice(["Relu", "Sigmoid", "Neg", "Abs", "Softsign"])), [x])

    def pool(self, x: str) -> str:
        op = str(self.random.choice(["MaxPool", "AveragePool"]))
        return self.node(op, [x], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def masked(self, x: str) -> str:
        mask = self.node("Greater", [x, self.stored(self.random.standard_normal())])
        ones = self.node("Cast", [mask], to=self.element)
        return self.node("Add", [self.node("Softmax", [x], axis=-1), self.node("Mul", [ones, x])])

    def integers(self, numbers: list[int]) -> str:
        return self.node("Constant", [], value=numpy_helper.from_array(np.asarray(numbers, np.int64)))


LAYERS = [
    "scale", "matmul", "conv", "computed_weights", "island", "like", "filled", "eye", "pointwise", "pool", "masked",
]  # fmt: skip


def both(kind: int, seed: int, *, outside: bool = False) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A network in an element type, and in float32 from its numbers. outside: only its inside is of the type."""
    builds = [Build(kind, seed, plain=plain, outside=outside) for plain in (False, True)]
    return builds[0].model(), builds[1].model()


@pytest.mark.parametrize(
    ("kind", "outside"), [*((kind, False) for kind in OTHERS), (T.FLOAT16, True), (T.BFLOAT16, True)]
)
def test_random_networks(tmp_path: Path, kind: int, outside: bool) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def equal(seed: int) -> None:
        model, plain = both(kind, seed, outside=outside)
        graph = load(write(tmp_path, model))
        x = {"x": np.random.default_rng(seed).standard_normal(graph.graph.inputs[0].shape.numpy()).astype(np.float32)}
        (found,), (expected,) = oracle.run(graph, x).values(), oracle.run(plain, x).values()
        # CastLike and Cast round where both do; sums are in the same order
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(initial=0))
        name = NAMES[kind]
        assert set(file_types(graph.graph).values()) == (set() if outside else {name})
        assert holds_halves(model) == (kind != T.DOUBLE)

    equal()


def test_functions_and_branches(tmp_path: Path) -> None:
    """A function and a branch with constants of their own, and a type that a call gives."""
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1]>
    g (float16[4] x, bool c) => (float16[4] y) <bool always = {1}> {
        f = own.scale <kind = 10> (x)
        y = If (always) <
            then_branch = t () => (float16[4] a) {
                k = Constant <value = float16[1] {14336}> () a = Mul (f, k)
            },
            else_branch = e () => (float16[4] b) { b = Identity (f) }
        >
    }
    <domain: "own", opset_import: ["": 21]>
    scale <kind> (x) => (y) {
        wide = Cast <to = 1> (x)
        three = Constant <value_float = 3.0> ()
        product = Mul (wide, three)
        y = Cast <to: int = @kind> (product)
    }"""
    graph = load(save(tmp_path, text))
    x = np.array([0.1, 1.7, -2.3, 20000], np.float16).astype(np.float32)
    expected = (x * np.float32(3)).astype(np.float16).astype(np.float32) * np.float32(0.5)
    inputs = {value.name: x if value.name == "x" else np.array(True) for value in graph.graph.inputs}
    np.testing.assert_array_equal(oracle.run(graph, inputs)["y"], expected)


def test_float64_within_a_float32_model_stays(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[4] x) => (float[4] y) <double third = {0.3333333333333333}> {
        wide = Cast <to = 11> (x) product = Mul (wide, third) y = Cast <to = 1> (product)
    }"""
    graph = load(save(tmp_path, text))
    x = np.array([0.1, 1.7, -2.3, 9e8], np.float32)
    np.testing.assert_array_equal(oracle.run(graph, {"x": x})["y"], (x.astype(np.float64) / 3).astype(np.float32))
    assert not file_types(graph.graph)


def test_float64_without_layers_stays(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (double[3] x) => (double[3] y) { y = Mul (x, x) }'
    graph = load(save(tmp_path, text))
    x = np.array([1 / 3, 1e100, -7], np.float64)
    np.testing.assert_array_equal(oracle.run(graph, {"x": x})["y"], x * x, strict=True)
