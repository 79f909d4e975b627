"""BatchNormalization in inference becomes Mul and Add with exactly the reference's roundings.

onnxruntime computes fl(fl(x * s) + t) with s = fl(gamma * fl(1 / sqrt(var + eps))) and t = fl(beta - fl(mean * s)),
without FMA (measured), so the two nodes give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.view import constant_of, integer, is_op, number, static_shape
from qcompiler.passes.editing import insert, remove_dead, replace
from qcompiler.passes.result import PassResult, Refusal

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DecomposeBatchnorm:
    """Rewrite BatchNormalization with constant statistics."""

    name: str = "decompose-batchnorm"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite every BatchNormalization."""
        rewrites, refusals = 0, []
        for node in list(model.graph):
            if not is_op(node, "BatchNormalization"):
                continue
            if reason := _decompose(node):
                refusals.append(Refusal(node.name or "", reason))
            else:
                rewrites += 1
        remove_dead(model.graph)
        return PassResult(self.name, rewrites, tuple(refusals))


def scale_and_shift(
    gamma: FloatArray, beta: FloatArray, mean: FloatArray, var: FloatArray, epsilon: float
) -> tuple[FloatArray, FloatArray]:
    """Give s and t, float32 [C], such that BatchNormalization(x) is fl(fl(x * s) + t). All arguments float32 [C]."""
    with np.errstate(all="ignore"):
        inverse = np.float32(1) / np.sqrt(var + np.float32(epsilon))
        scale = (gamma * inverse).astype(np.float32)
        return scale, (beta - mean * scale).astype(np.float32)


def _decompose(node: ir.Node) -> str:
    """Rewrite the node, or return why not."""
    shape = static_shape(node.outputs[0])
    parameters = [constant_of(value) for value in node.inputs[1:5]]
    if integer(node, "training_mode", 0):
        return "training_mode is on: statistics are computed from the batch; export the model in eval mode"
    if shape is None or any(p is None or p.dtype != np.float32 for p in parameters):
        return "its statistics are not float32 constants"
    gamma, beta, mean, var = (np.asarray(p) for p in parameters)
    channels = (-1,) if len(shape) <= 2 else (1, -1, *(1,) * (len(shape) - 2))
    scale, shift = scale_and_shift(gamma, beta, mean, var, number(node, "epsilon", 1e-5))
    scaled = insert(node, "Mul", [node.inputs[0], scale.reshape(channels)], shape)
    replace(node.outputs[0], insert(node, "Add", [scaled, shift.reshape(channels)], shape))
    return ""
