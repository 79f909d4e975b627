from __future__ import annotations

import numpy as np
import pytest

from qcompiler import passes
from qcompiler.analysis.layers import Layer, recorded
from qcompiler.errors import UnsupportedModel, UsageError
from qcompiler.passes.runner import run_passes
from qcompiler.widths import check_bits
from tests.lowering.interpreter import canonical

TEXT = """<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>
g (float[2,8] x) => (float[2,3] y) {
    a = MatMul (x, real)
    b = qcompiler.Binarize (a)
    c = MatMul (b, binary)
    d = Clip (c, zero, three)
    e = Round (d)
    y = MatMul (e, ternary)
}"""


def layers():
    random = np.random.default_rng(0)
    constants = {
        "real": random.standard_normal((8, 600)).astype(np.float32),
        "binary": np.where(random.random((600, 5)) < 0.5, -1, 1).astype(np.float32),
        "ternary": random.integers(-1, 2, (5, 3)).astype(np.float32) * np.float32(0.25),
        "zero": np.float32(0).reshape(()),
        "three": np.float32(3).reshape(()),
    }
    constants["ternary"][:3, 0] = (-0.25, 0, 0.25)
    model = canonical(TEXT, constants)
    run_passes(model, passes.DEFAULT)
    return model.graph


def test_widths_of_weights_and_activations() -> None:
    found = [layer for node in layers() if (layer := recorded(node)) is not None]
    assert [(layer.weights, layer.activations) for layer in found] == [(None, None), (1, 1), (2, 2)]
    assert all(isinstance(layer, Layer) for layer in found)


def test_wider_layers_are_listed() -> None:
    check_bits(layers(), "auto")
    check_bits(layers(), 2)
    with pytest.raises(UnsupportedModel, match=r"1 quantized layers are wider than 1 bits: .*\(w2a2\)"):
        check_bits(layers(), 1)


@pytest.mark.parametrize("bits", [0, 9, "two", -1])
def test_other_numbers_are_refused(bits: str | int) -> None:
    with pytest.raises(UsageError, match="1 to 8"):
        check_bits(layers(), bits)
