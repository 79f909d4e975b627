"""What a group asks of its kernel: the problem and its constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.ir import ops
from qcompiler.ir.storage import Buffer
from qcompiler.ir.view import constant_of, integer, number, shape_of, window_of
from qcompiler.lowering.epilogue import Epilogue, out_channels
from qcompiler.lowering.groups import Group
from qcompiler.lowering.plan import weights_of
from qcompiler.targets.problem import Conv2d, Map2d, Pool2d, PoolKind, Problem
from qcompiler.targets.target import Constants


def problem_of(group: Group, x: Buffer, epilogue: Epilogue) -> tuple[Problem, Constants]:
    """The problem of a group that reads its main operand from `x`."""
    steps = tuple(epilogue.steps)
    if group.kind == "map":
        return Map2d(x, steps), Constants(channels=tuple(epilogue.channels))
    if group.kind == "pool":
        return _pool(group, x, epilogue)
    node = group.anchor
    channels = out_channels(group)
    weight = weights_of(node)
    constants = Constants(None, epilogue.threshold, epilogue.direction, tuple(epilogue.channels))
    if node.op_type in ("MatMul", "BinaryMatMul"):
        oihw = np.ascontiguousarray(weight.T).reshape(channels, -1, 1, 1)
        return Conv2d(x, channels, (1, 1), epilogue=steps), replace(constants, weights=oihw)
    window = window_of(node, weight.shape[2:])
    problem = Conv2d(
        x,
        channels,
        window.kernel,
        window.strides,
        window.pads,
        window.dilations,
        integer(node, "group", 1),
        number(node, "pad_value", 0.0),
        steps,
    )
    return problem, replace(constants, weights=weight)


def _pool(group: Group, x: Buffer, epilogue: Epilogue) -> tuple[Problem, Constants]:
    node = group.anchor
    kernel = tuple(node.attributes["kernel_shape"].as_ints())
    window = window_of(node, kernel)
    height, width = shape_of(node.outputs[0])[2:]
    if node.domain == ops.DOMAIN:
        flip = constant_of(node.inputs[1])
        assert flip is not None
        (into,) = (step.into for step in epilogue.steps)
        problem = Pool2d(
            x, "bits", window.kernel, window.strides, window.pads, (height, width), window.dilations, into=into
        )
        return problem, Constants(flip=np.broadcast_to(flip.reshape(-1), (x.c,)).astype(np.float32))
    kind: PoolKind = "max"
    if node.op_type == "AveragePool":
        kind = "average_include_pad" if integer(node, "count_include_pad", 0) else "average"
    steps = tuple(epilogue.steps)
    problem = Pool2d(x, kind, window.kernel, window.strides, window.pads, (height, width), window.dilations, steps)
    return problem, Constants(channels=tuple(epilogue.channels))
