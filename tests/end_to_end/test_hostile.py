"""Networks whose constants make no sense end in one line that names the node, with status 4 and nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper

import qcompiler
from qcompiler.errors import InvalidModel
from tests.frontend.files import write
from tests.frontend.test_hostile import INFINITY, LAYERS, NAN, QONNX, around, layer, quantized


def quantizer(bad: float, position: int) -> ModelProto:
    return quantized("Quant", QONNX, bad, position, (3, 1, 1), scale=0.5, zero=0.0, bits=4.0)


def standard(scale: float) -> ModelProto:
    constants = {"scale": np.asarray(scale, np.float32), "zero": np.asarray(0, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="culprit"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="after"),
    ]
    return around(nodes, constants)


def one_layer(op: str, place: str, bad: float, **attributes: Any) -> ModelProto:
    operands, shape, _ = LAYERS[op]
    node, constants = layer(op, operands, place, 1, bad, **attributes)
    return around([node], constants, shape)


KINDS = {
    "a scale that is NaN": quantizer(NAN, 0),
    "an infinite scale": standard(INFINITY),
    "a zero point that is NaN": quantizer(NAN, 1),
    "a negative scale": standard(-0.5),
    "weights that are NaN": one_layer("Conv", "w", NAN),
    "a negative variance": one_layer("BatchNormalization", "var", -0.5),
    "a variance without root": one_layer("BatchNormalization", "var", 0.0, epsilon=0.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_is_named_and_nothing_is_left(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        qcompiler.compile(write(tmp_path, KINDS[kind]), output=tmp_path / "out")
    assert (caught.value.exit_code, caught.value.node) == (4, "culprit")
    assert str(caught.value).startswith("node 'culprit': ") and "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
