"""Ops that move codes only give elements of their operand; two of the passes' questions read that one list."""

import numpy as np
import pytest

from qcompiler.analysis.moves import moves_elements
from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.ir import oracle
from qcompiler.ir.codes import Codes
from qcompiler.ir.view import constant_of
from qcompiler.passes.fuse_integer_layers import FuseIntegerLayers
from tests.passes.comparison import graph, the

INTS = {
    "shape": [4, 8], "axes": [2], "starts": [0], "ends": [2], "index": [1, 0], "repeats": [1, 1, 2, 1],
    "big": [3, 4, 4, 2], "sizes": [1, 4, 3, 7],
}  # fmt: skip
RESIZE = 'mode = "nearest", coordinate_transformation_mode'
MOVING = (
    "Reshape (x, shape)",
    "Flatten (x)",
    "Unsqueeze (x, axes)",
    "Transpose (x)",
    "Identity (x)",
    "MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (x)",
    "GlobalMaxPool (x)",
    "Slice (x, starts, ends, axes)",
    "Gather <axis = 1> (x, index)",
    "Expand (x, big)",
    "Tile (x, repeats)",
    "DepthToSpace <blocksize = 2> (x)",
    "SpaceToDepth <blocksize = 2> (x)",
    "ReduceMax (x, axes)",
    "ReduceMin (x, axes)",
    f'Resize <{RESIZE} = "asymmetric", nearest_mode = "floor"> (x, , scales)',
    f'Resize <{RESIZE} = "half_pixel"> (x, , scales)',
    f'Resize <{RESIZE} = "align_corners", nearest_mode = "ceil"> (x, , , sizes)',
)
OTHERS = (
    f'Resize <{RESIZE} = "tf_crop_and_resize"> (x, roi, scales)',
    'Resize <mode = "linear"> (x, , scales)',
    "AveragePool <kernel_shape = [2, 2]> (x)",
    "ReduceSum (x, axes)",
    "Relu (x)",
)


def network(body: str):
    constants = {name: np.asarray(array) for name, array in INTS.items()}
    scales, roi = np.asarray([1, 1, 1.6, 2], np.float32), np.asarray([0, 0, 0, 0, 1, 1, 2, 2], np.float32)
    text = f"g (float[1, 4, 4, 2] x) => (y) {{ b = Sign (x)\n y = {body.replace('(x', '(b')} }}"
    return graph(text, scales=scales, roi=roi, **constants)


@pytest.mark.parametrize("body", MOVING)
def test_every_element_is_one_of_the_operand(body):
    model = network(body)
    node = model.graph.outputs[0].producer()
    assert moves_elements(node)
    assert IntegerRanges().codes(node.outputs[0]) == Codes(-1, 1, 1)
    numbers = np.arange(32, dtype=np.float32).reshape(1, 4, 4, 2) + 0.5
    node.replace_input_with(0, model.graph.inputs[0])
    assert np.isin(oracle.run(model, {"x": numbers})["y"], numbers).all()


@pytest.mark.parametrize("body", OTHERS)
def test_ops_that_compute(body):
    assert not moves_elements(network(body).graph.outputs[0].producer())


def test_a_layer_behind_an_upsampled_sign_is_explained_by_the_sign():
    text = """g (float[1, 4, 4, 2] x) => (y) {
        b = Sign (x)
        u = Resize <mode = "nearest"> (b, , scales)
        y = Conv (u, w) }"""
    model = graph(text, scales=np.asarray([1, 1, 2, 2], np.float32), w=np.full((2, 4, 1, 1), 0.3, np.float32))
    FuseIntegerLayers()(model)
    assert constant_of(the(model, "Conv").inputs[1]) is not None
    assert "activations are ternary" in the(model, "Conv").metadata_props["qcompiler.note"]
