"""Which input elements an output element of Resize is made of, and with which weights, axis by axis.

Resize is separable: along each axis an output position reads a few input positions (taps). Shapes and scales are known
at compile time, so the taps are tables. Weights are computed here, in float32. Which neighbour is the nearest hangs on
the last bit of a coordinate, and onnxruntime's arithmetic differs from its own source there: the reference itself is
asked, by a ramp along the axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from qcompiler.errors import QCompilerError, UnsupportedModel
from qcompiler.ir import oracle
from qcompiler.ir.ops import IR_VERSION, OPSET
from qcompiler.ir.view import constant_of, shape_of

F = np.float32
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One axis that is resized: extents, the scale, and the region of interest, as fractions of the input."""

    source: int
    target: int
    scale: np.float32
    start: np.float32 = F(0)
    end: np.float32 = F(1)


@dataclass(frozen=True)
class Taps:
    """index: int64 [target, taps]; weight: float32 of the same shape; outside: bool [target], beyond the region."""

    index: Ints
    weight: Floats
    outside: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """The attributes of the node that decide on taps."""

    mode: str
    transformation: str
    cubic_coeff_a: np.float32
    exclude_outside: bool
    antialias: bool


def taps(axis: Axis, rules: Rules) -> Taps:
    """The taps of every output position of an axis that is interpolated."""
    if rules.antialias and axis.source == axis.target:
        return Taps(np.arange(axis.source)[:, None], np.ones((axis.source, 1), F), np.zeros(axis.target, bool))
    x = np.arange(axis.target, dtype=F) if axis.scale == 1 else _COORDINATES[rules.transformation](axis)
    outside = np.zeros(axis.target, bool)
    if rules.transformation == "tf_crop_and_resize":
        outside = (x < 0) | (x > F(axis.source - 1))
    if rules.antialias:
        return Taps(*_filtered(x, axis, rules), outside)
    return Taps(*(_linear(x, axis) if rules.mode == "linear" else _cubic(x, axis, rules)), outside)


def _positions(axis: Axis) -> Floats:
    return np.arange(axis.target, dtype=F)


def _half_pixel(axis: Axis) -> Floats:
    return (_positions(axis) + F(0.5)) / axis.scale - F(0.5)


def _half_pixel_symmetric(axis: Axis) -> Floats:
    adjustment = F(axis.target) / (axis.scale * F(axis.source))
    offset = F(axis.source) / F(2) * (F(1) - adjustment)
    exact = np.float64(offset) + (_positions(axis).astype(np.float64) + 0.5) / np.float64(axis.scale) - 0.5
    return exact.astype(F)


def _pytorch_half_pixel(axis: Axis) -> Floats:
    return _half_pixel(axis) if axis.target > 1 else np.zeros(1, F)


def _align_corners(axis: Axis) -> Floats:
    if axis.target == 1:
        return np.zeros(1, F)
    return _positions(axis) * F(axis.source - 1) / F(axis.target - 1)


def _crop(axis: Axis) -> Floats:
    last = F(axis.source - 1)
    if axis.target == 1:
        return np.full(1, 0.5 * np.float64(axis.start + axis.end) * np.float64(last)).astype(F)
    return axis.start * last + _positions(axis) * (axis.end - axis.start) * last / F(axis.target - 1)


_COORDINATES: dict[str, Callable[[Axis], Floats]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": lambda axis: _positions(axis) / axis.scale,
    "tf_half_pixel_for_nn": lambda axis: (_positions(axis) + F(0.5)) / axis.scale,
    "tf_crop_and_resize": _crop,
}


TRANSFORMATIONS = tuple(_COORDINATES)


def check_shape(node: ir.Node) -> None:
    """Refuse a node for which onnxruntime has no kernel, or of which it makes another shape than ONNX infers."""
    expected = shape_of(node.outputs[0])
    try:
        found = oracle.run(_alone(node), {"x": np.zeros(shape_of(node.inputs[0]), F)})["y"].shape
    except QCompilerError as error:
        raise UnsupportedModel(
            f"Resize in a form that onnxruntime lacks ({error.message})", node=node.name or ""
        ) from error
    if found != expected:
        raise UnsupportedModel(
            f"Resize to {list(expected)}, of which onnxruntime makes {list(found)}",
            node=node.name or "",
            remedy="give sizes instead of scales",
        )


def nearest_taps(node: ir.Node, number: int) -> Taps:
    """The nearest neighbours along axis `number`: the node applied to a ramp, -1 for what lies outside."""
    shape = shape_of(node.inputs[0])
    along = tuple(shape[number] if axis == number else 1 for axis in range(len(shape)))
    ramp = np.broadcast_to(np.arange(shape[number], dtype=F).reshape(along), shape)
    made = oracle.run(_alone(node), {"x": np.ascontiguousarray(ramp)})["y"]
    line = made.max(axis=tuple(axis for axis in range(len(shape)) if axis != number)).astype(np.int64)
    return Taps(np.maximum(line, 0)[:, None], np.ones((len(line), 1), F), line < 0)


def _alone(node: ir.Node) -> onnx.ModelProto:
    """A model of the node alone, from x to y in float32, that marks what lies outside by -1."""
    proto = ir.serde.serialize_node(node)
    constants = [constant_of(value) for value in node.inputs[1:]]
    names = [f"c{index}" if array is not None else "" for index, array in enumerate(constants)]
    del proto.input[:], proto.output[:], proto.metadata_props[:]
    proto.input.extend(["x", *names])
    proto.output.append("y")
    kept = [attribute for attribute in proto.attribute if attribute.name != "extrapolation_value"]
    del proto.attribute[:]
    proto.attribute.extend([*kept, helper.make_attribute("extrapolation_value", -1.0)])
    graph = helper.make_graph(
        [proto],
        "resize",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape_of(node.inputs[0]))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(array, name)
            for array, name in zip(constants, names, strict=True)
            if array is not None
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _linear(x: Floats, axis: Axis) -> tuple[Ints, Floats]:
    x = np.clip(x, F(0), F(axis.source - 1))
    low = np.minimum(x.astype(np.int64), axis.source - 1)
    high = np.minimum(low + 1, axis.source - 1)
    to_low, to_high = np.abs(x - low.astype(F)), np.abs(x - high.astype(F))
    same = low == high
    to_low[same], to_high[same] = F(0.5), F(0.5)
    return np.stack([low, high], 1), np.stack([to_high, to_low], 1)


def _cubic(x: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    first = np.floor(x).astype(np.int64) - 1
    index = first[:, None] + np.arange(4)
    weight = _cubic_filter(x[:, None] - index.astype(F), rules.cubic_coeff_a)
    return _bounded(index, weight, axis, rules)


def _cubic_filter(x: Floats, a: np.float32) -> Floats:
    x = np.abs(x)
    near = ((a + F(2)) * x - (a + F(3))) * x * x + F(1)
    far = (((x - F(5)) * x + F(8)) * x - F(4)) * a
    return np.where(x < 1, near, np.where(x < 2, far, F(0))).astype(F)


def _bounded(index: Ints, weight: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    """Taps outside of the input: left out, the rest weighted up, or read at the border."""
    inside = (index >= 0) & (index < axis.source)
    if rules.exclude_outside:
        weight = np.where(inside, weight, F(0))
        weight = weight / weight.sum(1, keepdims=True, dtype=F)
    return np.clip(index, 0, axis.source - 1), weight.astype(F)


def _filtered(x: Floats, axis: Axis, rules: Rules) -> tuple[Ints, Floats]:
    """Antialiasing: the filter is as wide as the stretch of input that an output element stands for."""
    stretch = F(1) / axis.scale
    support = F(1 if rules.mode == "linear" else 2) * max(stretch, F(1))
    narrow = F(1) / stretch if stretch >= 1 else F(1)
    center = F(0.5) + x
    first = np.floor(center - support + F(0.5)).astype(np.int64)
    last = np.floor(center + support + F(0.5)).astype(np.int64)
    index = first[:, None] + np.arange(int((last - first).max()))
    distance = (index.astype(F) - center[:, None] + F(0.5)) * narrow
    if rules.mode == "linear":
        weight = np.maximum(F(1) - np.abs(distance), F(0)).astype(F)
    else:
        weight = _cubic_filter(distance, rules.cubic_coeff_a)
    weight = np.where(index < last[:, None], weight, F(0))
    if rules.exclude_outside:
        weight = np.where((index >= 0) & (index < axis.source), weight, F(0))
    total = weight.sum(1, keepdims=True, dtype=F)
    weight = weight / np.where(total == 0, F(1), total)
    return np.clip(index, 0, axis.source - 1), weight.astype(F)
