"""What a group asks of its kernel: the problem and its constants."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import bias_of
from qcompiler.analysis.weights import weight_codes
from qcompiler.ir import ops
from qcompiler.ir.codes import BINARY, BYTE, Codes
from qcompiler.ir.matrices import transposed
from qcompiler.ir.ops import is_wide
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.ir.traits import Trait, has
from qcompiler.ir.view import constant_of, integer, ints, is_quantized_op, number, shape_of, window_of
from qcompiler.ir.weight_grids import WeightGrid, in_blocks, on_grid
from qcompiler.lowering.epilogue_builder import EpilogueBuilder
from qcompiler.lowering.group import Group
from qcompiler.lowering.plan import weights_of
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Pool2d, PoolKind, Problem, centres, mostly_small
from qcompiler.targets.target import Constants


def problem_of(
    group: Group, x: Buffer, epilogue: EpilogueBuilder, second: Buffer | None = None
) -> tuple[Problem, Constants]:
    """The problem of a group that reads its main operand from `x`; second: the right one of a product."""
    operations = tuple(epilogue.operations)
    if group.kind == "map":
        channels = tuple(epilogue.channels)
        return Map2d(x, operations), Constants(None, epilogue.threshold, epilogue.direction, channels)
    if group.kind == "pool":
        return _pool(group, x, epilogue)
    if group.kind == "product":
        columns = shape_of(group.anchor.outputs[0])[-1]
        product = Conv2d(x, columns, (1, 1), epilogue=operations, weights=BYTE, second=second)
        return product, Constants(channels=tuple(epilogue.channels))
    constants = replace(
        layer_constants(group.anchor, matrix=group.is_matrix),
        threshold=epilogue.threshold,
        direction=epilogue.direction,
        channels=tuple(epilogue.channels),
    )
    return layer_problem(group.anchor, x, operations), constants


def layer_constants(node: ir.Node, *, matrix: bool) -> Constants:
    """The weights of a layer, and what it adds to its sums; matrix: the weights are [K, O]."""
    weight = weights_of(node)
    if matrix:
        weight = _outputs_first(weight)
    bias = bias_of(node) if is_wide(node) and len(node.inputs) > 2 else None
    return Constants(weights=weight, bias=bias)


def layer_problem(node: ir.Node, x: Buffer, operations: tuple[Operation, ...]) -> Conv2d:
    """The problem of a convolution or matrix product with constant weights that reads `x`.

    Where x has no halo, whoever asked for it so pads by himself.
    """
    weight = weights_of(node)
    codes, centred = _weight_codes(node, weight) if x.packed else (None, False)
    if is_quantized_op(node, ops.ROUNDED):
        found = _blocks_of(node.inputs[1], ints(node, "size", ())[0])
        return Conv2d(x, weight.shape[1], (1, 1), epilogue=operations, grid=found, rounded=True)
    if has(node, Trait.MULTIPLIES):
        grid = None if x.packed else _grid(node)
        columns = weight.shape[1]
        small = _mostly_small(weight, codes, centred)
        return Conv2d(x, columns, (1, 1), epilogue=operations, weights=codes or BINARY, grid=grid, centred=centred,
                      mostly_small=small)  # fmt: skip
    window = window_of(node, weight.shape[2:])
    return Conv2d(
        x,
        weight.shape[0],
        window.kernel,
        window.strides,
        window.pads,
        window.dilations,
        integer(node, "group", 1),
        number(node, "pad_value", 0.0),
        operations,
        codes or BINARY,
        centred,
        _mostly_small(weight, codes, centred),
        padding="kernel" if any(window.pads) and x.halo == Halo() else "halo",
    )


def _weight_codes(node: ir.Node, weight: npt.NDArray[np.float32]) -> tuple[Codes | None, bool]:
    """The integers that weights are among, and whether they are so around the centre of each output channel."""
    codes = weight_codes(weight)
    if codes is None or codes.within(BYTE):
        return codes, False
    channels = weight.T if has(node, Trait.MULTIPLIES) else weight
    middle = centres(channels).reshape(-1, *[1] * (channels.ndim - 1)).astype(np.float32)
    around = weight_codes(channels - middle)
    return (around, True) if around is not None and around.within(BYTE) else (codes, False)


def _mostly_small(weight: npt.NDArray[np.float32], codes: Codes | None, centred: bool) -> bool:
    """Whether weights OIHW or [K, O] take all 8 bits, and seldom."""
    if codes is None or centred or not codes.within(BYTE) or codes.levels <= BYTE.levels // 2:
        return False
    return mostly_small(weight if weight.ndim == 4 else _outputs_first(weight))


def _outputs_first(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matrix [K, O] as weights of a 1x1 convolution, OIHW."""
    return np.asarray(transposed(weight).reshape(weight.shape[1], -1, 1, 1))


def _grid(node: ir.Node) -> WeightGrid | None:
    """The grid of the weights of a product of floats."""
    return None if node.domain == ops.DOMAIN else _grid_of(node.inputs[1])


@lru_cache(maxsize=64)
def _grid_of(weights: ir.Value) -> WeightGrid | None:
    """The grid of a constant [K, O]."""
    constant = constant_of(weights)
    assert constant is not None
    found = on_grid(transposed(constant.astype(np.float32, copy=False)))
    return None if found is None else found.grid


@lru_cache(maxsize=64)
def _blocks_of(weights: ir.Value, size: int) -> WeightGrid | None:
    """The grid of a constant [K, O] in blocks of `size`."""
    constant = constant_of(weights)
    assert constant is not None
    found = in_blocks(transposed(constant.astype(np.float32, copy=False)), size)
    return None if found is None else found.grid


def _pool(group: Group, x: Buffer, epilogue: EpilogueBuilder) -> tuple[Problem, Constants]:
    node = group.anchor
    window = window_of(node, ints(node, "kernel_shape", shape_of(node.inputs[0])[2:]))
    height, width = shape_of(node.outputs[0])[2:]
    if node.domain == ops.DOMAIN:
        flip = constant_of(node.inputs[1])
        assert flip is not None
        (into,) = (operation.into for operation in epilogue.operations)
        problem = Pool2d(
            x, "codes", window.kernel, window.strides, window.pads, (height, width), window.dilations, into=into
        )
        return problem, Constants(flip=np.broadcast_to(flip.reshape(-1), (x.c,)).astype(np.float32))
    problem = Pool2d(
        x, _pool_kind(node), window.kernel, window.strides, window.pads, (height, width), window.dilations,
        tuple(epilogue.operations), through=() if group.source is None else group.source.operations,
    )  # fmt: skip
    return problem, Constants(channels=tuple(epilogue.channels))


def _pool_kind(node: ir.Node) -> PoolKind:
    if node.op_type in ("MaxPool", "ReduceSum"):
        return "max" if node.op_type == "MaxPool" else "sum"
    return "average_include_pad" if integer(node, "count_include_pad", 0) else "average"
