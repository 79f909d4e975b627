"""QONNX's channels-last operators: the standard ones between transpositions.

Conv<...>(x [N, ..., C], w [O, ..., C / group], b) -> y [N, ..., O]
MaxPool<...>(x [N, ..., C]) -> y [N, ..., C]
BatchNormalization<...>(x [N, ..., C], scale, bias, mean, var) -> y [N, ..., C]
"""

from __future__ import annotations

import onnx

from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label

_TRANSPOSED_INPUTS = {"Conv": 2, "MaxPool": 1, "BatchNormalization": 1}


def _lower(emitter: Emitter, node: onnx.NodeProto) -> None:
    inputs = list(node.input)
    for index in range(min(_TRANSPOSED_INPUTS[node.op_type], len(inputs))):
        rank = len(emitter.shape(inputs[index]))
        inputs[index] = emitter.op("Transpose", [inputs[index]], perm=[0, rank - 1, *range(1, rank - 1)])
    core = onnx.helper.make_node(node.op_type, inputs, [emitter.fresh(f"{emitter.base}/nchw")], name=label(node))
    core.attribute.extend(node.attribute)
    emitter.place(core)
    rank = len(emitter.shape(core.output[0]))
    emitter.op("Transpose", [core.output[0]], node.output, perm=[0, *range(2, rank), 1])


DIALECT = Dialect(
    "QONNX channels-last",
    ("qonnx.custom_op.channels_last",),
    {
        "Conv": Op(_lower, (2, 3)),
        "MaxPool": Op(_lower, (1,)),
        "BatchNormalization": Op(_lower, (5,)),
    },
)
