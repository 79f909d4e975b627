"""What zeros around an image make of a layer: fewer of its weights count at the border."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import ints, static_shape

DoubleArray = npt.NDArray[np.float64]


def layer_of_constant(node: ir.Node, weights: npt.NDArray[np.floating]) -> DoubleArray:
    """What Conv (with pads) or MatMul makes of activations that are all 1.

    weights: [O, I, kh, kw] or [I, O]. Result: float64 [O] for MatMul, else [1, O, H, W], or [1, O, 1, 1] if no zeros
    count.
    """
    wide = weights.astype(np.float64)
    if node.op_type.endswith("MatMul"):
        return np.asarray(wide.sum(0))
    rows, columns = (_inside(node, axis) for axis in (0, 1))
    total = np.einsum("okl,yk,xl->oyx", wide.sum(1), rows, columns)
    if rows.all() and columns.all():
        total = total[:, :1, :1]
    return np.asarray(total[None])


def _inside(node: ir.Node, axis: int) -> DoubleArray:
    """Whether each tap of each window lies in the image, and not in its border. [outputs, taps] of 0 and 1."""
    extent, outputs = ((static_shape(value) or ())[2 + axis] for value in (node.inputs[0], node.outputs[0]))
    taps = ints(node, "kernel_shape", ())[axis]
    stride, dilation = (ints(node, name, (1, 1))[axis] for name in ("strides", "dilations"))
    places = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - ints(node, "pads", (0,) * 4)[axis]
    return ((places >= 0) & (places < extent)).astype(np.float64)
