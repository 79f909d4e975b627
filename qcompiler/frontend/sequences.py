"""Operators on sequences in a padded batch."""

from __future__ import annotations

import numpy as np
import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter


def reverse_sequence(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Element t of a sequence of n elements comes from n - 1 - t where t < n, and stays where it is behind its end."""
    x, lengths = node.input
    shape = emitter.shape(x)
    time, batch = (
        attributes.axis(node, name, usual, len(shape)) for name, usual in (("time_axis", 0), ("batch_axis", 1))
    )

    def along(axis: int, size: int) -> list[int]:
        return [size if index == axis else 1 for index in range(len(shape))]

    steps = emitter.constant(np.arange(shape[time]).reshape(along(time, shape[time])), "steps", np.int64)
    one = emitter.constant(1, "one", np.int64)
    place = emitter.constant(along(batch, shape[batch]), "place", np.int64)
    ends = emitter.op("Reshape", [lengths, place])
    mirrored = emitter.op("Sub", [emitter.op("Sub", [ends, one]), steps])
    sources = emitter.op("Where", [emitter.op("Less", [steps, ends]), mirrored, steps])
    spread = emitter.op("Expand", [sources, emitter.constant(shape, "shape", np.int64)])
    emitter.op("GatherElements", [x, spread], node.output, axis=time)
