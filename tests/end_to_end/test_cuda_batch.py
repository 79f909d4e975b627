"""Batches of open size on a device: every step is launched once for all runs, whose results are those of runs alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle.load import Bundle, checked_manifest
from qcompiler.errors import QCompilerError, UsageError
from tests.targets.cuda.launching import missing, stand_in

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# layers of codes by tensor cores and word by word, in groups and of few rows, a product of two run-time matrices,
# moves, and operators of several stages, with variables, and with indices among the data
NETWORK = """<ir_version: 10, opset_import: ["" : 18]>
g (float[N,3,7,5] x, float[N,5,36] v, int64[N,3] i) =>
  (float[N,40] y, float[N,5,5] p, float[N,4,3] t, float[N,2] k, float[N,6,5] d)
<int64[1] two = {2}, int64[1] last = {-1}, float zero = {0}, float three = {3}> {
    a = Sign (x)
    b = Conv <pads = [1, 1, 1, 1]> (a, w0)
    c = Sign (b)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    s = Conv (m, w1)
    q = Round (s)
    r = Clip (q, zero, three)
    d4 = Conv <group = 40> (r, w2)
    d0 = Sign (d4)
    f = Flatten (d0)
    y = MatMul (f, w3)
    l = Sign (v)
    lt = Transpose <perm = [0, 2, 1]> (l)
    p = MatMul (l, lt)
    n = Gather <axis = 0> (table, i)
    o = ReduceMax (n, last)
    u = Concat <axis = 2> (n, o)
    t = Transpose <perm = [0, 2, 1]> (u)
    e = Exp (v)
    g1 = ReduceMean <keepdims = 0> (e, last)
    g2 = Softmax (g1)
    k, ki = TopK (g2, two)
    h = Slice (v, from, to, last)
    h1 = Transpose <perm = [0, 2, 1]> (h)
    d = LayerNormalization (h1, scale)
}"""


def network(path: Path) -> Path:
    """See `NETWORK`."""
    random = np.random.default_rng(11)
    model = onnx.parser.parse_model(NETWORK)
    arrays = {
        "w0": random.choice([-1, 1], (40, 3, 3, 3)).astype(np.float32),
        "w1": random.integers(-1, 2, (40, 40, 2, 2)).astype(np.float32),
        "w2": random.choice([-1, 1], (40, 1, 1, 1)).astype(np.float32),
        "w3": random.choice([-1, 1], (80, 40)).astype(np.float32),
        "table": random.normal(size=(9, 3)).astype(np.float32),
        "scale": random.normal(size=5).astype(np.float32),
        "from": np.array([3]),
        "to": np.array([9]),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, path)
    return path


def inputs(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    x, v = random.normal(size=(count, 3, 7, 5)), random.normal(size=(count, 5, 36))
    return {"x": x.astype(np.float32), "v": v.astype(np.float32), "i": random.integers(0, 9, (count, 3))}
