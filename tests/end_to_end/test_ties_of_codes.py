"""Networks of integers whose sums lie beside halves, which the file and what is made of it round to other codes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import qcompiler
from qcompiler import passes, targets
from qcompiler.bundle.load import load
from qcompiler.bundle.write import write
from qcompiler.frontend import canonicalize
from qcompiler.lowering.module import lower
from qcompiler.passes.runner import run_passes
from qcompiler.reference import Reference
from qcompiler.verify import Inputs, verify

CHAIN = """<ir_version: 10, opset_import: ["" : 21]>
g (float[1,16,8,8] x) => (float[1,16,SIZE,SIZE] y)
{
    a_codes = QuantizeLinear (x, sa, za)
    a = DequantizeLinear (a_codes, sa, za)
    u = DequantizeLinear (w1, sw)
    f = Conv (a, u, bias1)
    b_codes = QuantizeLinear (f, sb, zb)
    b = DequantizeLinear (b_codes, sb, zb)
    POOL
    v = DequantizeLinear (w2, sw)
    g = Conv (p, v, bias2)
    c_float = Relu (g)
    c_codes = QuantizeLinear (c_float, sc, za)
    c = DequantizeLinear (c_codes, sc, za)
    w = DequantizeLinear (w3, sw)
    y = Conv (c, w)
}"""
POOLS = {"none": "p = Identity (b)", "largest": "p = MaxPool <kernel_shape = [2, 2]> (b)"}


def tied(path: Path, seed: int, zero: int, pool: str = "none", sign: int = 1, few: bool = False) -> Inputs:
    """Write a chain of three 1x1 convolutions; inputs on which a sum of every channel of `b`, or of one, is a half.

    sign: -1 gives the same network with the codes of `b` negated, which is exact where `zero` is 0.
    """
    random = np.random.default_rng(seed)
    sa, sw, sb = np.float32([0.0137, 0.0211, 0.037])
    weights = random.integers(-127, 128, (3, 16, 16, 1, 1))
    weights[0] //= 8
    codes = random.integers(0, 256, (1, 16, 8, 8))
    sums = np.einsum("iyx,oi->oyx", codes[0], weights[0, :, :, 0, 0]) * (np.float64(sa) * sw)
    rows, columns = random.integers(0, 8, (2, 16))
    halves = random.integers(-20, 20, 16) + np.where(few & (np.arange(16) > 0), 0.3, 0.5)
    bias = halves * np.float64(sb) - sums[np.arange(16), rows, columns]
    of_b = np.int8 if sign < 0 or zero == 0 else np.uint8
    constants = {
        "sa": sa, "sw": sw, "sb": sb, "sc": np.float32(sb * 3.3), "za": np.uint8(0), "zb": of_b(zero),
        "bias1": np.float32(sign * bias), "bias2": np.float32(random.normal(size=16)),
        "w1": np.int8(sign * weights[0]), "w2": np.int8(sign * weights[1]), "w3": np.int8(weights[2]),
    }  # fmt: skip
    text = CHAIN.replace("POOL", POOLS[pool]).replace("SIZE", "8" if pool == "none" else "7")
    model = onnx.parser.parse_model(text if sign > 0 else re.sub(r"\b([bfp])(_codes)?\b", r"negated_\1\2", text))
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items())
    onnx.save(model, path)
    return {"x": (codes * sa).astype(np.float32)}


@pytest.mark.parametrize(
    ("zero", "pool", "seed"), [(0, "none", 0), (113, "none", 8), (113, "none", 9), (113, "largest", 8)]
)
def test_codes_are_those_of_the_file(zero: int, pool: str, seed: int, tmp_path: Path) -> None:
    """Where they have no name of the file's any more, and another zero point, too."""
    inputs = tied(tmp_path / "net.onnx", seed, zero, pool)
    bundle = qcompiler.compile(tmp_path / "net.onnx", output=tmp_path / "out", mcpu=["x86-64-v3"], inputs=inputs)
    (check,) = bundle.report["checks"]
    assert [row["op"] for row in bundle.report["rows"] if row["macs"]] == 3 * ["IntegerConv"]
    assert 0 < check["ties"] <= 16


def test_a_step_answers_for_what_it_reads_where_codes_are_not_those_of_the_file(tmp_path: Path) -> None:
    """The same network with negated codes in the middle, which no value of the file is."""
    inputs, negated = tied(tmp_path / "net.onnx", 10, 0, few=True), tmp_path / "negated.onnx"
    tied(negated, 10, 0, few=True, sign=-1)
    reference = Reference(tmp_path / "net.onnx", canonicalize(tmp_path / "net.onnx", {}))
    graph = canonicalize(negated, {})
    run_passes(graph, passes.DEFAULT)
    program = lower(graph, "x86", targets.get("x86").variants(("baseline",)), "negated")
    write(program, tmp_path / "out")
    assert verify(load(tmp_path / "out"), program, graph, reference, inputs).ties > 0
