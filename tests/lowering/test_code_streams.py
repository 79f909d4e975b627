"""Networks of quantized streams that branch and join: equal to onnxruntime, and no float of a stream in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.lowering.work import Slot, Stored
from tests.lowering.interpreter import canonical, run


class Streams:
    """A graph under construction; a stream is a value of codes, its scale, and its channels and size."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.lines: list[str] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def node(self, text: str, *operands: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text} ({', '.join(operands)})")
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def quantized(self, value: str, scale: float, low: int, levels: int) -> str:
        inside = self.node("Div", value, self.number(scale))
        inside = self.node("Clip", inside, self.number(low), self.number(low + levels - 1))
        return self.node("Add", self.node("Round", inside), self.number(0))

    def dequantized(self, codes: str, scale: float) -> str:
        return self.node("Mul", codes, self.number(scale))

    def layer(self, codes: str, channels: int, outputs: int) -> str:
        weights = self.constant(self.generator.integers(-3, 4, (outputs, channels, 3, 3)).astype(np.float32))
        held = "kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1], group = 1"
        return self.node(f"qcompiler.IntegerConv <{held}, pad_value = 0.0>", codes, weights)

    def text(self, outputs: list[str]) -> str:
        typed = ", ".join(f"float[a{i}, b{i}, c{i}, d{i}] {name}" for i, name in enumerate(outputs))
        header = '<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]> g (float[1, 5, 6, 6] x) => '
        return f"{header}({typed}) {{ {' '.join(self.lines)} }}"


OPS = ["layer", "add", "mul", "relu", "average", "max"]


@settings(max_examples=60, deadline=None)
@given(
    ops=st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8),
    low=st.sampled_from([-128, -7, -1, 0]),
    levels=st.sampled_from([2, 4, 16, 256]),
    seed=st.integers(0, 99),
)
def test_streams_stay_codes(ops: list[tuple[str, int, int]], low: int, levels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    net = Streams(generator)
    streams = [(net.quantized("x", 0.25, low, levels), 0.25)]
    for op, first, second in ops:
        (a, a_scale), (b, b_scale) = streams[first % len(streams)], streams[second % len(streams)]
        scale = float(2.0 ** generator.integers(-3, 3))
        numbers = net.dequantized(a, a_scale)
        if op == "layer":
            numbers = net.dequantized(net.layer(a, 5, 5), a_scale * 0.125)
        elif op in ("add", "mul"):
            numbers = net.node(op.title(), numbers, net.dequantized(b, b_scale))
        elif op == "relu":
            numbers = net.node("Relu", net.node("Add", net.node("Relu", numbers), net.dequantized(b, b_scale)))
        elif op == "average":
            numbers = net.node("AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]>", numbers)
        else:
            flip = net.constant(np.ones((5, 1, 1), np.float32))
            window = "kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1], ceil_mode = 0"
            streams.append((net.node(f"qcompiler.IntegerMaxPool <{window}>", a, flip), a_scale))
            continue
        streams.append((net.quantized(numbers, scale, low, levels), scale))
    outputs = [net.dequantized(*streams[-1]), net.node("GlobalAveragePool", net.dequantized(*streams[0]))]
    outputs = [net.node("Neg", value) for value in outputs]
    model = canonical(net.text(outputs), net.constants)
    x = generator.normal(size=(1, 5, 6, 6)).astype(np.float32)
    got, works = run(model, [x])
    expected = oracle.run(model, {"x": x})
    for name, array in zip(outputs, got, strict=True):
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-6)
    held = [item for work in works for item in work.writes if isinstance(item, Stored)]
    assert all(item.form.is_packed for item in held if isinstance(item.location, Slot))


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_residual_is_read_as_the_codes_that_the_next_layer_reads(op: str) -> None:
    """One store of the codes for both readers, and the operand inside of the layer's kernel."""
    net = Streams(np.random.default_rng(0))
    a = net.quantized("x", 0.25, 0, 256)
    b = net.quantized(net.dequantized(net.layer(a, 5, 5), 0.03), 0.5, 0, 256)
    total = net.node(op, net.dequantized(net.layer(b, 5, 5), 0.02), net.dequantized(a, 0.25))
    y = net.dequantized(net.layer(net.quantized(total, 0.5, 0, 256), 5, 5), 0.1)
    _, works = run(canonical(net.text([y]), net.constants), [np.ones((1, 5, 6, 6), np.float32)])
    assert [work.op for work in works if work.nodes] == ["Map", *["IntegerConv"] * 3]
    assert [len(work.writes) for work in works if work.nodes] == [1] * 4
