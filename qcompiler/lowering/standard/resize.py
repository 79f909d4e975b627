"""Resize, on any axes: nearest neighbours of any element type, linear and cubic interpolation of float32."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.view import dtype_of, integer, ints, number, shape_of, text
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard import skeleton
from qcompiler.lowering.standard.resize_taps import TRANSFORMATIONS, Axis, Rules, Taps, check_shape, nearest_taps, taps
from qcompiler.lowering.standard.skeleton import (
    digits,
    fixed,
    kernel,
    loop,
    moved,
    operand,
    refuse,
    strides_of,
    variable,
)
from qcompiler.targets.vector.emit import Expr, i64, write

MODES = ("nearest", "linear", "cubic")


def resize(node: ir.Node) -> StandardCall:
    """An item is one row of the output along its last axis."""
    x, out = node.inputs[0], node.outputs[0]
    rules, found = _rules(node), _axes(node)
    check_shape(node)
    if rules.mode != "nearest" and dtype_of(x) != np.float32:
        raise refuse(node, f"interpolates {dtype_of(x).name}, expected float32", "use mode nearest, or cast the input")
    if shape_of(x) == shape_of(out):
        tables = {}  # onnxruntime copies, whatever the scales say
    elif rules.mode == "nearest":
        tables = {axis: nearest_taps(node, axis) for axis in found}
    else:
        tables = {axis: taps(found[axis], rules) for axis in found}
    tables = {axis: table for axis, table in tables.items() if not _is_identity(table, shape_of(x)[axis])}
    strides = strides_of(shape_of(x))
    reads = [moved(x) if rules.mode == "nearest" else operand(x)]
    for axis, table in tables.items():
        offsets = np.where(table.outside[:, None], -1, table.index * strides[axis])
        reads.append(skeleton.constant(offsets.astype(np.int32)))
        reads.append(skeleton.constant(table.weight))
    emit = _nearest if rules.mode == "nearest" else _interpolated
    beyond = np.array(number(node, "extrapolation_value", 0.0)).astype(dtype_of(x))
    if rules.mode == "nearest":
        beyond = beyond.view(reads[0].dtype)

    def body(buffers: list[Expr], item: Expr) -> None:
        source, *constants, target = buffers
        row = digits(item, shape_of(out)[:-1])
        with loop(shape_of(out)[-1]) as last:
            at = item * shape_of(out)[-1] + last
            position = [*row, last]
            base = sum(
                (d * s for a, (d, s) in enumerate(zip(position, strides, strict=True)) if a not in tables), i64(0)
            )
            parts = [
                (constants[2 * i], constants[2 * i + 1], position[axis], table.index.shape[1])
                for i, (axis, table) in enumerate(tables.items())
            ]
            if any(table.outside.any() for table in tables.values()):
                first = [table[place * count] < 0 for table, _, place, count in parts]
                skeleton.when(
                    T.Or(*first) if len(first) == 2 else _any(first),
                    lambda: write(target, T.Cast(target.dtype, _literal(beyond)), at),
                    lambda: write(target, emit(source, base, parts), at),
                )
            else:
                write(target, emit(source, base, parts), at)

    return kernel(
        node, reads, [moved(out) if rules.mode == "nearest" else operand(out)], prod(shape_of(out)[:-1]), body
    )


Part = tuple[Expr, Expr, Expr, int]


def _any(conditions: Sequence[Expr]) -> Expr:
    found = conditions[0]
    for condition in conditions[1:]:
        found = T.Or(found, condition)
    return found


def _literal(value: np.ndarray[tuple[()], np.dtype[np.generic]]) -> Expr:
    return T.float32(float(value)) if value.dtype.kind == "f" else T.uint64(int(value))


def _nearest(source: Expr, base: Expr, parts: Sequence[Part]) -> Expr:
    for table, _, place, _ in parts:
        base = base + i64(table[place])
    return source[base]


def _interpolated(source: Expr, base: Expr, parts: Sequence[Part]) -> Expr:
    """The sum over all taps; an inner axis is summed first."""
    if not parts:
        return source[base]
    (table, weights, place, count), *inner = parts
    total = variable("float32", T.float32(0))
    with loop(count) as tap:
        at = place * count + tap
        value = _interpolated(source, base + i64(table[at]), inner)
        write(total, total[0] + weights[at] * value, i64(0))
    return total[0]


def _is_identity(table: Taps, extent: int) -> bool:
    """Whether every output position is the input position of the same number."""
    if len(table.index) != extent or table.outside.any():
        return False
    here = table.index == np.arange(extent)[:, None]
    return bool(np.all((table.weight == 0) | here) and np.all((table.weight * here).sum(1) == 1))


def _rules(node: ir.Node) -> Rules:
    rules = Rules(
        mode=text(node, "mode", "nearest"),
        transformation=text(node, "coordinate_transformation_mode", "half_pixel"),
        cubic_coeff_a=np.float32(number(node, "cubic_coeff_a", -0.75)),
        exclude_outside=bool(integer(node, "exclude_outside", 0)),
        antialias=bool(integer(node, "antialias", 0)),
    )
    if rules.mode not in MODES or rules.transformation not in TRANSFORMATIONS:
        raise refuse(node, f"has unknown modes {rules.mode} and {rules.transformation}")
    if rules.antialias and rules.transformation == "tf_crop_and_resize":
        raise refuse(node, "antialiases a crop, of which onnxruntime has more than one reading", "set antialias to 0")
    return rules


def _axes(node: ir.Node) -> dict[int, Axis]:
    """Every axis that the node resizes, by number."""
    shape, target = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    axes = [axis % len(shape) for axis in ints(node, "axes", range(len(shape)))]
    scales = _scales(node, [shape[axis] for axis in axes])
    roi = fixed(node, 1, "roi")
    whole = roi is None or not roi.size
    crops = np.array([0] * len(axes) + [1] * len(axes)) if whole else np.asarray(roi)
    return {
        axis: Axis(shape[axis], target[axis], scales[i], np.float32(crops[i]), np.float32(crops[len(axes) + i]))
        for i, axis in enumerate(axes)
    }


def _scales(node: ir.Node, extents: Sequence[int]) -> list[np.float32]:
    """The scales of the resized axes as given, or those that lead to the given sizes."""
    scales, sizes = fixed(node, 2, "scales"), fixed(node, 3, "sizes")
    if scales is not None and scales.size:
        return [np.float32(scale) for scale in scales]
    if sizes is None:
        raise refuse(node, "has neither scales nor sizes")
    found = [np.float32(size) / np.float32(extent) for size, extent in zip(sizes, extents, strict=True)]
    policy = text(node, "keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return found
    return [min(found) if policy == "not_larger" else max(found)] * len(found)
