"""Lowered networks, run in numpy, against onnxruntime on the canonical graph."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.lowering.work import GenericWork, KernelWork
from qcompiler.targets.problem import Conv2d, Map2d, outputs_of
from tests.lowering.interpreter import canonical, in_floats, run

RNG = np.random.default_rng(7)


def codes(*shape: int) -> np.ndarray:
    return np.where(RNG.random(shape) < 0.5, -1, 1).astype(np.float32)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


HEADER = '<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>\n'

CONV = "kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1], group = 1"

POOL = "kernel_shape=[2,2], strides=[2,2], pads=[0,0,0,0], dilations=[1,1], ceil_mode=0"
WHOLE = "kernel_shape=[4,4], strides=[1,1], pads=[0,0,0,0], dilations=[1,1], group=1"

NETWORKS = {
    "threshold_pool_fc": (
        """g (float[1,3,8,8] x) => (float[1,5] y) {
            a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w0)
            b = qcompiler.Binarize (a)
            c = qcompiler.IntegerConv <CONV> (b, w1)
            d = qcompiler.Threshold (c, t1, d1)
            e = qcompiler.IntegerMaxPool <POOL> (d, d1)
            f = qcompiler.IntegerConv <WHOLE> (e, w2)
            s = Mul (f, s2)
            h = Reshape (s, shape)
            y = Add (h, bias)
        }""",
        {
            "w0": floats(4, 3, 3, 3),
            "w1": codes(6, 4, 3, 3),
            "t1": np.array([-2, 0, 3, 40, -40, 2], np.float32).reshape(1, 1, 6, 1, 1),
            "d1": np.array([1, -1, 1, 1, -1, -1], np.float32).reshape(6, 1, 1),
            "w2": codes(5, 6, 4, 4),
            "s2": floats(1, 5, 1, 1),
            "shape": np.array([1, 5]),
            "bias": floats(5),
        },
        1,
    ),
    "residual_stream": (
        """g (float[2,4,6,6] x) => (float[2,4,6,6] y, float[2,4] z) {
            b = qcompiler.Binarize (x)
            c = qcompiler.IntegerConv <CONV> (b, w1)
            cs = Mul (c, s1)
            cb = Add (cs, b1)
            r = Add (cb, x)
            b2 = qcompiler.Binarize (r)
            c2 = qcompiler.IntegerConv <CONV> (b2, w2)
            c2s = Mul (c2, s1)
            y = Add (c2s, r)
            p = Relu (y)
            z = ReduceMean <keepdims = 0> (p, axes)
        }""",
        {
            "w1": codes(4, 4, 3, 3),
            "w2": codes(4, 4, 3, 3),
            "s1": floats(1, 4, 1, 1),
            "b1": floats(4, 1, 1),
            "axes": np.array([2, 3]),
        },
        1,
    ),
    "k_map": (
        """g (float[1,5,6,6] x) => (float[1,7,6,6] y) {
            b = qcompiler.Binarize (x)
            c = qcompiler.IntegerConv <CONV> (b, w1)
            m = Abs (x)
            k = ReduceMean <keepdims = 1> (m, axes)
            ks = AveragePool <kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1], count_include_pad=1> (k)
            a = Mul (c, alpha)
            ak = Mul (a, ks)
            y = Relu (ak)
        }""",
        {"w1": codes(7, 5, 3, 3), "alpha": floats(7, 1, 1), "axes": np.array([1])},
        2,
    ),
    "codes_as_output_and_generic": (
        """g (float[3,9] x) => (float[3,9] b, float[3,4] y) {
            b = qcompiler.Binarize (x)
            m = qcompiler.IntegerMatMul (b, w1)
            t = qcompiler.Threshold (m, t1, d1)
            e = Exp (t)
            y = Add (e, m)
        }""",
        {"w1": codes(9, 4), "t1": np.array([[[1, -1, 3, 0]]], np.float32), "d1": np.array([1, -1, 1, -1], np.float32)},
        1,
    ),
    "padding_by_plus_one_and_minus_one": (
        """g (float[1,4,5,5] x) => (float[1,4,5,5] y) {
            b = qcompiler.Binarize (x)
            c = qcompiler.IntegerConv <CONV, pad_value = 1.0> (b, w1)
            d = qcompiler.IntegerConv <CONV> (b, w1)
            y = Add (c, d)
        }""",
        {"w1": codes(4, 4, 3, 3)},
        0,
    ),
    "several_functions_in_one_region": (
        """g (float[2,9,8] x, float[2,9,8] k) => (float[2,9,9] y, float[2,9,1] z) {
            t = Transpose <perm = [0, 2, 1]> (k)
            m = MatMul (x, t)
            s = Softmax <axis = -1> (m)
            l = Log (s)
            r = ReduceMax <keepdims = 1> (l, axes)
            z = Exp (r)
            y = Sub (s, r)
        }""",
        {"axes": np.array([2])},
        6,
    ),
    "split_inside_a_region": (
        """g (float[1,6,16] x) => (float[1,6,16] y) {
            m = MatMul (x, w)
            a, b, c = Split <axis = -1> (m, sizes)
            t = Transpose <perm = [0, 2, 1]> (b)
            s = MatMul (a, t)
            p = Softmax <axis = -1> (s)
            y = MatMul (p, c)
        }""",
        {"w": floats(16, 48) / 8, "sizes": np.array([16, 16, 16])},
        5,
    ),
    "convolution_over_three_axes": (
        """g (float[1,4,5,6,7] x) => (float[1,2,3,4,5] y, float[1,2,3,4,5] z) {
            c = Conv <kernel_shape = [3, 3, 3], strides = [1, 1, 1], pads = [0, 0, 0, 0, 0, 0],
                      dilations = [1, 1, 1], group = 1> (x, w)
            y = Relu (c)
            z = qcompiler.Binarize (c)
        }""",
        {"w": floats(2, 4, 3, 3, 3) / 8},
        2,
    ),
    "input_is_output": (
        """g (float[2,3] x, bool[3] m, int64[2,1] i) => (float[2,3] y, float[2,3] z, bool[3] n, int64[1,2] j) {
            y = Identity (x) z = Relu (x) n = Identity (m) j = Reshape (i, shape)
        }""",
        {"shape": np.array([1, 2])},
        4,
    ),
    "stored_images": (
        """g (float[1,4,8,8] x) => (float[1,4,8,8] y) {
            a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (image, w)
            p = MaxPool <kernel_shape = [1, 1]> (image)
            s = Add (a, p)
            y = Add (s, x)
        }""",
        {"image": floats(1, 4, 8, 8), "w": floats(4, 4, 3, 3)},
        1,
    ),
}


PREPARED = """g (float[1,CHANNELS,8,8] x, float[1,CHANNELS,8,8] z) => (float[1,4,8,8] y OUTPUT) {
    s = OPERATION
    k = Round (s)
    r = Clip (k, low, high)
    a = qcompiler.IntegerConv <CONV> (r, w)
    y = Relu (a)
    m = MaxPool <kernel_shape = [1, 1]> (r)
}"""


@pytest.mark.parametrize(
    ("channels", "operation", "output", "order", "others"),
    [
        (3, "Mul (x, scale)", "", "nchw", set()),
        (15, "Add (x, z)", "", "nchw", set()),
        # others read it, too: as the caller wants it, and a pool channels-last
        (3, "Mul (x, scale)", ", float[1,3,8,8] r", "nchw", {"nchw"}),
        (3, "Mul (x, scale)", ", float[1,3,8,8] m", "nchw", {"nhwc"}),
        # vectors are full of the channels of a pixel
        (16, "Mul (x, scale)", "", "nhwc", set()),
    ],
)
def test_maps_of_inputs_of_few_channels_are_read_in_planes(
    channels: int, operation: str, output: str, order: str, others: set[str]
) -> None:
    text = PREPARED.replace("CHANNELS", str(channels)).replace("OPERATION", operation).replace("OUTPUT", output)
    weights = RNG.integers(-128, 128, (4, channels, 3, 3)).astype(np.float32)
    constants = {"scale": 60 * np.ones((1, 1, 1, 1), np.float32), "low": np.float32(0), "high": np.float32(255),
                 "w": weights}  # fmt: skip
    model = canonical(HEADER + spelled(text), constants)
    inputs = {name: value * 50 for name, value in oracle.random_inputs(model, 3).items()}
    expected = oracle.run(model, inputs)
    outputs, works = run(model, list(inputs.values()), in_floats)
    for value, result in zip(model.graph.outputs, outputs, strict=True):
        np.testing.assert_array_equal(result, expected[value.name])
    kernels = [work.problem for work in works if isinstance(work, KernelWork)]
    (conv,) = (each for each in kernels if isinstance(each, Conv2d))
    (made, *_) = (each for each in kernels if isinstance(each, Map2d))
    assert conv.x.order == order and conv.x in outputs_of(made)
    assert {into.order for into in outputs_of(made) if into != conv.x} == others


def spelled(text: str) -> str:
    """The text of a network with the attributes that its words stand for."""
    return text.replace("CONV", CONV).replace("POOL", POOL).replace("WHOLE", WHOLE)


@pytest.mark.parametrize("name", NETWORKS)
def test_lowered_network_equals_the_graph(name: str) -> None:
    text, constants, generic = NETWORKS[name]
    model = canonical(HEADER + spelled(text), constants)
    inputs = oracle.random_inputs(model, 3)
    expected = oracle.run(model, inputs)
    outputs, works = run(model, list(inputs.values()))
    assert sum(isinstance(work, GenericWork) for work in works) == generic
    for value, output in zip(model.graph.outputs, outputs, strict=True):
        np.testing.assert_allclose(output, expected[value.name], rtol=1e-5, atol=1e-5)
    assert all(work.problem for work in works if isinstance(work, KernelWork))


@pytest.mark.parametrize(
    ("body", "constants", "reason"),
    [
        (
            "(float[1,8] x) => (int64[2] culprit) { a = Softmax <axis = -1> (x) culprit = Shape (a) }",
            {},
            r"no kernel for Shape .*Shape.*, expected int64 \[2\]",
        ),
        (
            "(uint8[1,1,8,8] x) => (float[1,2,6,6] y) { a = Max (x, x) culprit = ConvInteger (a, w)"
            " y = Cast <to = 1> (culprit) }",
            {"w": np.ones((2, 1, 3, 3), np.uint8)},
            "no kernel for ConvInteger .*: ConvInteger",
        ),
        (
            "(float[2,3] x, float v) => (float[2,5] culprit) { culprit = Pad (x, pads, v) }",
            {"pads": np.array([0, 1, 0, 1])},
            r"no kernel for Pad \(TVM takes it with other operands",
        ),
    ],
)
def test_the_node_without_code_is_named(body: str, constants: dict[str, np.ndarray], reason: str) -> None:
    model = canonical(f"{HEADER}g {body}", constants)
    for node in model.graph:
        node.name = node.outputs[-1].name
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        run(model, [])
    assert caught.value.node == "culprit"
