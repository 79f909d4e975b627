"""Whole networks of the kinds that people export, through the default pipeline with every pass proven on data."""

import numpy as np
import pytest

from qcompiler.ir import oracle
from qcompiler.passes import DEFAULT
from qcompiler.passes.runner import run_passes
from tests.passes.comparison import graph, normal, ops_of, signs

GENERATOR = np.random.default_rng(0)


def compiled(text: str, **constants):
    """The rewritten network, proven pass by pass and against the original."""
    model = graph(text, **constants)
    inputs = oracle.random_inputs(model, 1)
    before = oracle.run(model, inputs)
    run_passes(model, DEFAULT, check=True)
    after = oracle.run(model, inputs)
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-4)
    assert [result.name for result in run_passes(model, DEFAULT) if result.rewrites] == []
    return model


def binary_layers(model) -> int:
    return sum(op in ("IntegerConv", "IntegerMatMul") for op in ops_of(model))


def norm(name: str, channels: int) -> dict[str, np.ndarray]:
    """Batch norm parameters name_g, name_b, name_m, name_v with gammas of both signs and one 0."""
    gamma = normal(GENERATOR, channels)
    gamma[0] = 0
    variance = np.abs(normal(GENERATOR, channels)) + 0.5
    numbers = (gamma, normal(GENERATOR, channels), 3 * normal(GENERATOR, channels), variance)
    return {f"{name}_{key}": array for key, array in zip("gbmv", numbers, strict=True)}


def bn(name: str, x: str) -> str:
    return f"BatchNormalization ({x}, {name}_g, {name}_b, {name}_m, {name}_v)"


def test_larq_channels_last_with_borders_of_ones():
    text = f"""g (float[1, 8, 8, 3] x) => (float[1, 5] y) {{
        a = Transpose <perm = [0, 3, 1, 2]> (x)
        b = Conv <auto_pad = "SAME_UPPER"> (a, w1)
        c = Transpose <perm = [0, 2, 3, 1]> (b)
        c1 = Mul (c, scale)
        c2 = Add (c1, shift)
        d = qcompiler.Binarize (c2)
        e = Pad (d, pads, one)
        f = Transpose <perm = [0, 3, 1, 2]> (e)
        h = Conv <strides = [2, 2]> (f, w2)
        h1 = {bn("n", "h")}
        i = MaxPool <kernel_shape = [2, 2], strides = [2, 2], auto_pad = "SAME_UPPER"> (h1)
        j = Transpose <perm = [0, 2, 3, 1]> (i)
        k = qcompiler.Binarize (j)
        l = Reshape (k, flat)
        y = MatMul (l, w3) }}"""
    model = compiled(
        text,
        w1=normal(GENERATOR, 6, 3, 3, 3),
        scale=normal(GENERATOR, 6),
        shift=normal(GENERATOR, 6),
        pads=np.asarray([0, 1, 1, 0, 0, 1, 1, 0]),
        one=np.asarray(1, np.float32),
        w2=signs(GENERATOR, 7, 6, 3, 3),
        flat=np.asarray([1, -1]),
        w3=signs(GENERATOR, 28, 5),
        **norm("n", 7),
    )
    assert ops_of(model) == [
        "Transpose", "Conv", "Mul", "Add", "Binarize", "IntegerConv", "Threshold", "IntegerMaxPool", "IntegerConv",
        "Reshape",
    ]  # fmt: skip


def test_reactnet_shifts_and_residuals():
    text = f"""g (float[1, 4, 8, 8] x) => (y) {{
        a = Add (x, shift1)
        b = qcompiler.Binarize (a)
        c = Conv <pads = [1, 1, 1, 1]> (b, w1)
        d = {bn("n", "c")}
        e = Add (d, x)
        f = Add (e, shift2)
        h = PRelu (f, slope)
        i = Add (h, shift3)
        j = qcompiler.Binarize (i)
        k = Conv (j, w2)
        y = {bn("m", "k")} }}"""
    alpha = np.abs(normal(GENERATOR, 4, 1, 1, 1))
    shifts = {f"shift{i}": normal(GENERATOR, 1, 4, 1, 1) for i in (1, 2, 3)}
    model = compiled(
        text,
        w1=signs(GENERATOR, 4, 4, 3, 3) * alpha,
        w2=signs(GENERATOR, 9, 4, 1, 1),
        slope=normal(GENERATOR, 4, 1, 1),
        **shifts,
        **norm("n", 4),
        **norm("m", 9),
    )
    assert binary_layers(model) == 2
    assert "Threshold" not in ops_of(model)


def test_densenet_concatenates_codes():
    text = f"""g (float[1, 4, 8, 8] x) => (y) {{
        a = qcompiler.Binarize (x)
        b = Conv <pads = [1, 1, 1, 1]> (a, w1)
        c = {bn("n", "b")}
        d = qcompiler.Binarize (c)
        e = Concat <axis = 1> (a, d)
        y = Conv <pads = [1, 1, 1, 1]> (e, w2) }}"""
    model = compiled(text, w1=signs(GENERATOR, 5, 4, 3, 3), w2=signs(GENERATOR, 6, 9, 3, 3), **norm("n", 5))
    assert ops_of(model) == ["Binarize", "IntegerConv", "Threshold", "Concat", "IntegerConv"]


def test_xnor_net_with_its_map_of_input_scales():
    text = """g (float[1, 4, 8, 8] x) => (y) {
        a = qcompiler.Binarize (x)
        b = Conv <pads = [1, 1, 1, 1]> (a, w)
        m = Abs (x)
        n = ReduceMean (m, axes)
        k = Conv <pads = [1, 1, 1, 1]> (n, box)
        c = Mul (b, k)
        d = Mul (c, alpha)
        y = qcompiler.Binarize (d) }"""
    model = compiled(
        text,
        w=signs(GENERATOR, 5, 4, 3, 3),
        box=np.full((1, 1, 3, 3), 1 / 9, np.float32),
        alpha=np.abs(normal(GENERATOR, 1, 5, 1, 1)),
        axes=np.asarray([1]),
    )
    assert binary_layers(model) == 1
    assert "Threshold" not in ops_of(model)


def test_a_mlp_as_torch_writes_it():
    text = f"""g (float[5, 1, 4, 4] x) => (float[5, 3] y) {{
        f = Flatten (x)
        a = Gemm <transB = 1> (f, w1, b1)
        b = {bn("n", "a")}
        c = Clip (b, low, high)
        d = qcompiler.Binarize <zero = 0.0> (c)
        e = Dropout (d)
        s2 = qcompiler.Binarize <zero = 0.0> (w2)
        h = Gemm <transB = 1> (e, s2, b2)
        i = {bn("m", "h")}
        j = Clip (i, low, high)
        k = qcompiler.Binarize <zero = 0.0> (j)
        s3 = qcompiler.Binarize <zero = 0.0> (w3)
        l = Gemm <transB = 1> (k, s3, b3)
        y = LogSoftmax (l) }}"""
    model = compiled(
        text,
        w1=normal(GENERATOR, 9, 16),
        b1=normal(GENERATOR, 9),
        w2=normal(GENERATOR, 11, 9),
        b2=normal(GENERATOR, 11),
        w3=normal(GENERATOR, 3, 11),
        b3=normal(GENERATOR, 3),
        low=np.asarray(-1, np.float32),
        high=np.asarray(1, np.float32),
        **norm("n", 9),
        **norm("m", 11),
    )
    assert ops_of(model) == [
        "Reshape", "MatMul", "Add", "Mul", "Add", "Binarize", "IntegerMatMul", "Threshold", "IntegerMatMul", "Add",
        "LogSoftmax",
    ]  # fmt: skip


def test_a_convolution_over_time():
    text = f"""g (float[2, 4, 30] x) => (y) {{
        a = qcompiler.Binarize (x)
        b = Conv <pads = [1, 1], strides = [2]> (a, w1)
        c = {bn("n", "b")}
        p = MaxPool <kernel_shape = [2], strides = [2]> (c)
        d = qcompiler.Binarize (p)
        e = Conv <dilations = [2]> (d, w2)
        y = Flatten (e) }}"""
    model = compiled(text, w1=signs(GENERATOR, 6, 4, 3), w2=signs(GENERATOR, 5, 6, 3), **norm("n", 6))
    assert ops_of(model) == [
        "Binarize", "Reshape", "IntegerConv", "Threshold", "IntegerMaxPool", "IntegerConv", "Reshape",
    ]  # fmt: skip


@pytest.mark.parametrize("padding", [0, 1])
def test_a_channel_shuffle_keeps_codes(padding):
    text = f"""g (float[1, 6, 5, 5] x) => (y) {{
        a = qcompiler.Binarize (x)
        b = Reshape (a, split)
        c = Transpose <perm = [0, 2, 1, 3, 4]> (b)
        d = Reshape (c, joined)
        y = Conv <group = 2, pads = [{padding}, {padding}, {padding}, {padding}]> (d, w) }}"""
    model = compiled(
        text,
        split=np.asarray([1, 2, 3, 5, 5]),
        joined=np.asarray([1, 6, 5, 5]),
        w=signs(GENERATOR, 4, 3, 3, 3),
    )
    assert binary_layers(model) == 1


def test_dorefa_with_one_bit_activations_of_0_and_1():
    text = f"""g (float[1, 4, 9, 9] x) => (float[1, 3] y) {{
        a = Clip (x, zero, one)
        b = Round (a)
        c = Conv <pads = [1, 1, 1, 1]> (b, w1)
        d = {bn("n", "c")}
        p = MaxPool <kernel_shape = [3, 3], strides = [3, 3]> (d)
        e = Clip (p, zero, one)
        f = Round (e)
        h = Flatten (f)
        y = Gemm (h, w2, bias) }}"""
    model = compiled(
        text,
        w1=signs(GENERATOR, 6, 4, 3, 3) * np.float32(0.37),
        w2=signs(GENERATOR, 54, 3) * np.float32(0.11),
        bias=normal(GENERATOR, 3),
        zero=np.asarray(0, np.float32),
        one=np.asarray(1, np.float32),
        **norm("n", 6),
    )
    assert ops_of(model) == [
        "Clip", "Round", "IntegerConv", "Threshold", "IntegerMaxPool", "IntegerConv", "Mul", "Add", "Reshape"
    ]  # fmt: skip


def test_sign_after_an_untrained_batch_norm_reaches_zero():
    """beta = mean = 0: every even sum can be 0, so the codes are ternary."""
    text = """g (float[1, 4, 8, 8] x) => (y) {
        a = qcompiler.Binarize (x)
        b = Conv <pads = [1, 1, 1, 1]> (a, w1)
        c = BatchNormalization (b, one, nought, nought, one)
        d = qcompiler.Binarize <zero = 0.0> (c)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
        y = Conv <pads = [1, 1, 1, 1]> (p, w2) }"""
    model = compiled(
        text,
        w1=signs(GENERATOR, 16, 4, 3, 3),
        w2=signs(GENERATOR, 5, 16, 3, 3),
        one=np.ones(16, np.float32),
        nought=np.zeros(16, np.float32),
    )
    assert binary_layers(model) == 2
    assert "Conv" not in ops_of(model)
