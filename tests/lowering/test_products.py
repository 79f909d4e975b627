"""Products of run-time codes: heads are split, transposed and packed by one move, and no float is in between."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir import oracle
from qcompiler.lowering.work import Slot, Stored
from qcompiler.passes.fuse_integer_products import FuseIntegerProducts
from tests.lowering.interpreter import canonical, in_bytes, run
from tests.lowering.test_code_streams import Streams


def attention(net: Streams, heads: int, length: int, width: int, low: int) -> str:
    """Scores and mixtures of the rows of x, by heads, without a softmax."""
    x = net.node("Reshape", "x", net.constant(np.array([1, length, heads * width])))
    q = net.quantized(x, 0.25, low, 256)
    parts = []
    for weight in "qkv":
        layer = net.constant(net.generator.integers(-3, 4, (heads * width, heads * width)).astype(np.float32))
        sums = net.node("qcompiler.IntegerMatMul", q, layer)
        code = net.quantized(net.dequantized(sums, 0.125), 4.0, low, 256)
        split = net.node("Reshape", code, net.constant(np.array([1, length, heads, width])))
        perm = [0, 2, 3, 1] if weight == "k" else [0, 2, 1, 3]
        parts.append(net.dequantized(net.node(f"Transpose <perm = {perm}>", split), 4.0))
    scores = net.quantized(net.node("MatMul", parts[0], parts[1]), 512.0, low, 256)
    mixed = net.quantized(net.node("MatMul", net.dequantized(scores, 0.5), parts[2]), 64.0, low, 256)
    joined = net.node("Transpose <perm = [0, 2, 1, 3]>", mixed)
    flat = net.node("Reshape", joined, net.constant(np.array([1, length, heads * width])))
    last = net.constant(net.generator.integers(-3, 4, (heads * width, 5)).astype(np.float32))
    return net.node("Neg", net.node("qcompiler.IntegerMatMul", flat, last))


@pytest.mark.parametrize("low", [0, -128, -100])
@pytest.mark.parametrize(("heads", "length", "width"), [(3, 5, 12), (2, 18, 5), (1, 4, 45)])
def test_attention_is_on_codes(low: int, heads: int, length: int, width: int) -> None:
    net = Streams(np.random.default_rng(length))
    y = attention(net, heads, length, width, low)
    text = net.text([y]).replace("[a0, b0, c0, d0]", "[a0, b0, c0]").replace("float[1, 5, 6, 6] x", "float[1, 180] x")
    model = canonical(text, net.constants)
    x = net.generator.normal(size=(1, 180)).astype(np.float32) * 4
    expected = oracle.run(model, {"x": x})[y]
    assert FuseIntegerProducts()(model).rewrites == 2
    (got,), works = run(model, [x], in_bytes)
    np.testing.assert_array_equal(got, expected)
    found = [work.op for work in works if work.nodes]
    assert found.count("IntegerProduct") == 2
    if width % 4 and length % 16:
        return  # blocks that are filled up on both sides are laid out by standard operators
    assert not {"Transpose", "MatMul"} & set(found)
    held = [item for work in works for item in work.writes if isinstance(item, Stored)]
    floats = [item.value.name for item in held if isinstance(item.location, Slot) and not item.form.is_packed]
    assert not floats, floats
