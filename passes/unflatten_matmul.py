"""A binary matrix product over a flattened image becomes a IntegerConv whose kernel is the whole image.

Packed images are channels-last, and Flatten counts channels first; as a convolution the product needs no permutation
of its input, only of its weights: [C * H * W, O] -> [O, C, H, W]. An NHWC Flatten (a Transpose before it) is the same
with its weights in the other order. A single pixel needs none of this, and images of few channels would waste most of
each packed word; both are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.ir.numerics import words_for
from qcompiler.ir.view import constant_of, ints, is_op, is_quantized_op, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult

# times as many words as the image has when packed densely; chosen
_WASTE = 8


@dataclass(frozen=True)
class UnflattenMatmul:
    """Rewrite IntegerMatMul of a flattened [N, C, H, W]."""

    name: str = "unflatten-matmul"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every IntegerMatMul that reads the Reshape of an image; the sums are integers, so none changes."""
        rewrites = sum(_unflatten(node) for node in list(model.graph) if is_quantized_op(node, "IntegerMatMul"))
        remove_dead(model.graph)
        return PassResult(self.name, rewrites)


def _wasted(image: tuple[int, ...]) -> bool:
    """True if so few channels would be packed into each pixel's words that rearranging the codes is cheaper."""
    _, channels, height, width = image
    return words_for(channels) * height * width > _WASTE * words_for(channels * height * width)


def _unflatten(node: ir.Node) -> int:
    flatten, weights = node.inputs[0].producer(), constant_of(node.inputs[1])
    if not is_op(flatten, "Reshape") or weights is None:
        return 0
    image, flat = static_shape(flatten.inputs[0]), static_shape(flatten.outputs[0])
    if image is None or flat is None or len(image) != 4 or flat != (image[0], int(np.prod(image[1:]))):
        return 0
    kernel = weights.T.reshape(-1, *image[1:])
    source, origins = flatten.inputs[0], [flatten, node]
    transpose = source.producer()
    if is_op(transpose, "Transpose") and (perm := ints(transpose, "perm", ()))[:1] == (0,):
        kernel = kernel.transpose([perm.index(axis) for axis in range(4)])
        source, image = transpose.inputs[0], static_shape(transpose.inputs[0]) or ()
        origins.insert(0, transpose)
    if image[2] * image[3] == 1 or _wasted(image):
        return 0
    attributes = {
        "kernel_shape": list(image[2:]),
        "strides": [1, 1],
        "pads": [0, 0, 0, 0],
        "dilations": [1, 1],
        "group": 1,
        "pad_value": 0.0,
        **{name: node.attributes[name].value for name in ("accumulator", "low") if name in node.attributes},
    }
    out = static_shape(node.outputs[0]) or ()
    product = insert(node, "IntegerConv", [source, kernel], (*out, 1, 1), attributes, origins=(node,))
    target = np.asarray(out, dtype=np.int64)
    replace(node.outputs[0], insert(node, "Reshape", [product, target], out, origins=(flatten,)))
    return 1
