"""Networks of quantized streams that branch and join: equal to onnxruntime, and no float of a stream in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.ir import oracle
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.module import planned
from qcompiler.lowering.work import KernelWork, Slot, Stored
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.host import HOST
from qcompiler.targets.x86 import TARGET
from tests.lowering.interpreter import by_pixels, canonical, in_bytes, in_planes, run


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


Op = tuple[str, int, int]
steps = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8)
lowest = st.sampled_from([-128, -7, -1, 0])


@settings(max_examples=60, deadline=None)
@given(ops=steps, low=lowest, levels=st.sampled_from([2, 4, 16, 256]), seed=st.integers(0, 99))
def test_streams_stay_codes(ops: list[Op], low: int, levels: int, seed: int) -> None:
    held = stored_in_streams(ops, low, levels, seed, in_planes)
    assert all(item.form.is_packed for item in held)


@settings(max_examples=20, deadline=None)
@given(ops=steps, low=lowest, seed=st.integers(0, 99))
def test_streams_of_few_bits_by_pixels(ops: list[Op], low: int, seed: int) -> None:
    """What other steps read beside a layer is stored for them, too."""
    held = stored_in_streams([*ops, ("layer", len(ops), 0)], low, 2, seed, by_pixels)
    assert all(item.form.is_packed for item in held)
    assert any(item.form.buffer is not None and item.form.buffer.by_pixels for item in held)


def stored_in_streams(ops: list[Op], low: int, levels: int, seed: int, storage: CommonStorage) -> list[Stored]:
    """What is stored between the steps of a network that computes what onnxruntime does."""
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
    got, works = run(model, [x], storage)
    expected = oracle.run(model, {"x": x})
    for name, array in zip(outputs, got, strict=True):
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-6)
    held = [item for work in works for item in work.writes if isinstance(item, Stored)]
    return [item for item in held if isinstance(item.location, Slot)]


@pytest.mark.parametrize(("channels", "size", "changes"), [(64, 28, True), (24, 10, False)])
def test_a_change_of_storage_counts_where_one_is_chosen(channels: int, size: int, changes: bool) -> None:
    """Of a small layer it would take longer than lookups save."""
    net = Streams(np.random.default_rng(0))
    y = net.dequantized(net.layer(net.quantized("x", 0.25, 0, 2), channels, channels), 0.1)
    text = net.text([y]).replace("float[1, 5, 6, 6] x", f"float[1, {channels}, {size}, {size}] x")
    storage = CommonStorage(TARGET.variants(("avx512vpopcntdq",)))
    _, works = planned(canonical(text, net.constants).graph, storage, HOST)
    (layer,) = (work for work in works if isinstance(work, KernelWork) and work.op == "IntegerConv")
    assert isinstance(layer.problem, Conv2d)
    assert layer.problem.x.by_pixels == changes


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


def split(net: Streams, a: str) -> str:
    """Halves of the rows, the other way round."""
    net.lines.append(f"top, bottom = Split <axis = 2> ({a}, {net.constant(np.array([3, 3]))})")
    return net.node("Concat <axis = 2>", "bottom", "top")


def shuffled(net: Streams, a: str) -> str:
    """Channels in two groups, interleaved; of ten channels."""
    wide = net.node("Concat <axis = 1>", a, a)
    groups = net.node("Reshape", wide, net.constant(np.array([1, 2, 5, 6, 6])))
    turned = net.node("Transpose <perm = [0, 2, 1, 3, 4]>", groups)
    flat = net.node("Reshape", turned, net.constant(np.array([1, 10, 6, 6])))
    return net.node("Gather <axis = 1>", flat, net.constant(np.array([0, 9, 3, 2, 7])))


def depth(net: Streams, a: str) -> str:
    """To depth and back, by other blocks."""
    deep = net.node("SpaceToDepth <blocksize = 3>", a)
    return net.node("Slice", net.node('DepthToSpace <blocksize = 3, mode = "CRD">', deep), *ends(net, [0], [5], 1))


def ends(net: Streams, first: list[int], last: list[int], axis: int, step: int = 1) -> list[str]:
    return [net.constant(np.array(each)) for each in (first, last, [axis], [step])]


def padded(net: Streams, a: str, fill: float) -> str:
    pads = net.constant(np.array([0, 2, 1, 0, 0, 1, 0, 1]))
    wide = net.node("Pad", a, pads, net.number(fill))
    return net.node("Slice", wide, *[net.constant(np.array(e)) for e in ([1, 1, 0], [6, 7, 6], [1, 2, 3], [1, 1, 1])])


def enlarged(net: Streams, a: str) -> str:
    settings = 'mode = "nearest", nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"'
    twice = net.node(f"Resize <{settings}>", a, "", net.constant(np.array([1, 1, 2, 2], np.float32)))
    return net.node("Slice", twice, *[net.constant(np.array(e)) for e in ([11, 0], [-13, 6], [2, 3], [-2, 1])])


MOVES = {
    "concat, split": split,
    "shuffle, gather": shuffled,
    "space to depth": depth,
    "pad with 0": lambda net, a: padded(net, a, 0),
    "pad with a code": lambda net, a: padded(net, a, 3),
    "resize, slice": enlarged,
    "edge": lambda net, a: net.node(
        "Slice",
        net.node('Pad <mode = "edge">', a, net.constant(np.array([0, 0, 1, 1, 0, 0, 0, 0]))),
        *[net.constant(np.array(e)) for e in ([0, 0], [6, 6], [2, 3])],
    ),
    "transpose": lambda net, a: net.node("Transpose <perm = [0, 1, 3, 2]>", a),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("levels", [2, 4, 256])
@pytest.mark.parametrize("packing", ["planes", "bytes"])
def test_what_only_moves_moves_bytes(move: str, levels: int, packing: str) -> None:
    """Between a quantizer and a layer, and between a layer and a residual connection."""
    net = Streams(np.random.default_rng(levels))
    a = net.quantized("x", 0.25, 0, levels)
    moved = MOVES[move](net, a)
    b = net.quantized(net.dequantized(net.layer(moved, 5, 5), 0.5), 0.5, 0, levels)
    total = net.node("Add", net.dequantized(b, 0.5), net.dequantized(moved, 0.25))
    y = net.dequantized(net.layer(net.quantized(total, 0.5, 0, levels), 5, 5), 0.5)
    model = canonical(net.text([y]), net.constants)
    x = np.random.default_rng(1).normal(size=(1, 5, 6, 6)).astype(np.float32)
    (got,), works = run(model, [x], *([in_bytes] if packing == "bytes" else []))
    np.testing.assert_array_equal(got, oracle.run(model, {"x": x})[y])
    assert [work.op for work in works if work.nodes].count("Move") == (2 if move == "space to depth" else 1)
    held = [item for work in works for item in work.writes if isinstance(item, Stored)]
    assert all(item.form.is_packed for item in held if isinstance(item.location, Slot))


def test_a_flatten_moves_bytes() -> None:
    net = Streams(np.random.default_rng(0))
    a = net.quantized("x", 0.25, -3, 16)
    flat = net.node("Flatten", a)
    weights = net.constant(net.generator.integers(-3, 4, (180, 7)).astype(np.float32))
    y = net.node("Neg", net.node("qcompiler.IntegerMatMul", flat, weights))
    model = canonical(net.text([y]).replace("[a0, b0, c0, d0]", "[a0, b0]"), net.constants)
    x = net.generator.normal(size=(1, 5, 6, 6)).astype(np.float32)
    (got,), works = run(model, [x], in_bytes)
    np.testing.assert_array_equal(got, oracle.run(model, {"x": x})[y])
    assert [work.op for work in works] == ["Map", "Move", "IntegerMatMul"]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_any_places_that_add_up(data: st.DataObject, seed: int) -> None:
    """Random sequences of moves: what a kernel cannot do stays with the standard operators, and is right as well."""
    generator = np.random.default_rng(seed)
    net = Streams(generator)
    values = [(net.quantized("x", 0.25, -3, 16), (1, 5, 6, 6))]
    for _ in range(data.draw(st.integers(1, 5))):
        value, shape = data.draw(st.sampled_from(values))
        kind = data.draw(st.sampled_from(["transpose", "slice", "concat", "gather", "pad", "reshape"]))
        axis = data.draw(st.integers(0, len(shape) - 1))
        new = list(shape)
        if kind == "transpose":
            perm = data.draw(st.permutations(range(len(shape))))
            value, new = net.node(f"Transpose <perm = {list(perm)}>", value), [shape[i] for i in perm]
        elif kind == "slice":
            start, step = data.draw(st.integers(0, shape[axis] - 1)), data.draw(st.integers(1, 3))
            value = net.node("Slice", value, *ends(net, [start], [shape[axis]], axis, step))
            new[axis] = -(-(shape[axis] - start) // step)
        elif kind == "concat":
            value, new[axis] = net.node(f"Concat <axis = {axis}>", value, value), 2 * shape[axis]
        elif kind == "gather":
            index = generator.integers(0, shape[axis], 3)
            value, new[axis] = net.node(f"Gather <axis = {axis}>", value, net.constant(index)), 3
        elif kind == "pad":
            pads = generator.integers(0, 3, 2 * len(shape))
            value = net.node("Pad", value, net.constant(pads), net.number(int(generator.integers(-3, 13))))
            new = [size + int(pads[i] + pads[i + len(shape)]) for i, size in enumerate(shape)]
        else:
            new = data.draw(st.sampled_from([[int(np.prod(shape))], [shape[0], int(np.prod(shape[1:]))], list(shape)]))
            value = net.node("Reshape", value, net.constant(np.array(new)))
        values.append((value, tuple(new)))
    rank = len(values[-1][1])
    y = net.node("Neg", net.node("Mul", values[-1][0], net.number(0.5)))
    text = net.text([y]).replace("[a0, b0, c0, d0]", str([f"a{i}" for i in range(rank)]).replace("'", ""))
    model = canonical(text, net.constants)
    x = generator.normal(size=(1, 5, 6, 6)).astype(np.float32)
    (got,), _ = run(model, [x])
    np.testing.assert_array_equal(got, oracle.run(model, {"x": x})[y])


def test_codes_within_standard_operators_are_read_as_what_comes_of_them() -> None:
    """Slices that stay with a Floor are stored as no value of their own."""
    net = Streams(np.random.default_rng(0))
    codes = net.node("Clip", net.node("Floor", "x"), net.number(-9), net.number(9))
    parts = []
    for first in (0, 1, 2):
        cut = net.node("Slice", codes, *ends(net, [first], [first + 4], 2))
        parts.append(net.node("Mul", net.node("Sub", cut, net.number(2)), net.number(0.5)))
    total = net.node("Add", net.node("Add", *parts[:2]), parts[2])
    y = net.dequantized(net.layer(net.quantized(total, 0.5, -128, 256), 5, 5), 0.5)
    model = canonical(net.text([y]), net.constants)
    x = net.generator.normal(size=(1, 5, 6, 6)).astype(np.float32) * 4
    (got,), _ = run(model, [x])
    np.testing.assert_array_equal(got, oracle.run(model, {"x": x})[y])
