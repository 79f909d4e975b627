"""Networks are deep: no pass may recurse from node to node."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from qcompiler.passes import DEFAULT
from qcompiler.passes.runner import run_passes
from tests.passes.comparison import graph

_DEPTH = 1200
_STEPS = {
    "Relu": "Relu ({x})",
    "Neg": "Neg ({x})",
    "Sign": "Sign ({x})",
    "sums": "Add ({x}, {x})",
    "offsets": "Sub ({x}, c)",
    "scales": "Mul ({x}, c)",
    "bounds": "Clip ({x}, low, high)",
    "transposes": "Transpose <perm = [0, 1, 3, 2]> ({x})",
    "pads": "Pad ({x}, pads)",
    "masks": "Where (mask, {x}, {x})",
    "pools": "MaxPool <kernel_shape = [1, 1]> ({x})",
    "means": "AveragePool <kernel_shape = [1, 1]> ({x})",
    "roundings": "Round ({x})",
    "layers": "Conv ({x}, w)",
}


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("name", _STEPS)
def test_chains_as_long_as_one_likes(name: str, codes: bool) -> None:
    assert sys.getrecursionlimit() <= _DEPTH
    first = "qcompiler.Quantize <low = 0.0, high = 15.0> (x, c, nought)" if codes else "Identity (x)"
    lines = [f"v{i + 1} = {_STEPS[name].format(x=f'v{i}')}" for i in range(_DEPTH)]
    body = "\n".join([f"v0 = {first}", *lines, f"y = Conv (v{_DEPTH}, w)"])
    numbers = {"c": 1.01, "nought": 0, "low": -9, "high": 9}
    model = graph(
        f"g (float[1, 2, 4, 4] x) => (y) {{ {body} }}",
        w=np.asarray([[1, 0], [0, -1]], np.float32).reshape(2, 2, 1, 1),
        pads=np.zeros(8, np.int64),
        mask=np.eye(4, dtype=bool),
        **{key: np.asarray(number, np.float32) for key, number in numbers.items()},
    )
    run_passes(model, DEFAULT)
    assert model.graph.outputs[0].name == "y"
