"""The bias of a layer of wide sums reaches its kernel as whole numbers."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import oracle
from qcompiler.lowering.work import KernelWork
from tests.lowering.interpreter import canonical, in_bytes, run


def test_sums_are_rounded_once() -> None:
    rng = np.random.default_rng(0)
    bias = rng.integers(-(2**30), 2**30, 5).astype(np.int32)
    text = """<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]> g (float[3, 1200] x) => (float[3, 5] y) {
        q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, one, nought)
        s = qcompiler.IntegerMatMul <accumulator = "int32", low = 0.0> (q, w, bias)
        y = Mul (s, half) }"""
    weights = rng.integers(-128, 128, (1200, 5)).astype(np.float32)
    numbers = {"one": np.float32(1), "nought": np.float32(0), "half": np.float32(0.5)}
    constants = {name: np.asarray(value) for name, value in numbers.items()} | {"w": weights, "bias": bias}
    spelled = text.replace("q = qcompiler.Quantize <low = 0.0, high = 255.0> (x, one, nought)",
                           "r = Round (x) q = Clip (r, nought, top)")  # fmt: skip
    model = canonical(spelled, constants | {"top": np.asarray(255, np.float32)})
    x = rng.integers(0, 256, (3, 1200)).astype(np.float32)
    (got,), works = run(model, [x], in_bytes)
    np.testing.assert_array_equal(got, ((x @ weights.astype(np.float64)) + bias).astype(np.float32) / 2)
    np.testing.assert_array_equal(got, oracle.run(model, {"x": x})["y"])
    (layer,) = (work for work in works if isinstance(work, KernelWork) and work.op == "IntegerMatMul")
    assert layer.constants.bias is not None and layer.constants.bias.tolist() == bias.tolist()
