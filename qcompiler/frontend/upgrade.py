"""One node of any supported opset, rewritten for the project's opset without a change of meaning.

Operators that are not listed mean the same at every opset from 7 on where the project's opset has their attributes and
element types; newer.py deals with the others. onnx.version_converter is not used: it stops at nodes of foreign
domains, and it loses the coordinate mode of Upsample and Resize-10 and the parameter shapes of GroupNormalization-18.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import defs

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import arithmetic, attributes, bits, sequences
from qcompiler.frontend.consistency import refusal
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.pools import pool
from qcompiler.frontend.rounding import cast
from qcompiler.frontend.structure import label
from qcompiler.frontend.transposed import conv_transpose

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
# Attributes that became inputs: operator -> (first opset with the input, {attribute: input position}).
_BECAME_INPUTS: dict[str, tuple[int, dict[str, int]]] = {
    "Slice": (10, {"starts": 1, "ends": 2, "axes": 3}),
    "TopK": (10, {"k": 1}),
    "Clip": (11, {"min": 1, "max": 2}),
    "Pad": (11, {"pads": 1, "value": 2}),
    "Squeeze": (13, {"axes": 1}),
    "Unsqueeze": (13, {"axes": 1}),
    "ReduceSum": (13, {"axes": 1}),
} | {f"Reduce{name}": (18, {"axes": 1}) for name in _REDUCTIONS}


def upgrade(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Add `node`, which the standard knows at `opset` and which has a form at the project's, to the graph."""
    first, handler = _HANDLERS.get(node.op_type, (0, None))
    since, moved = _BECAME_INPUTS.get(node.op_type, (0, {}))
    if opset < since:
        _move_attributes(emitter, node, moved)
    if handler is not None and opset < first:
        handler(emitter, node, opset)
    else:
        emitter.place(node)


def check_known(node: onnx.NodeProto, opset: int) -> None:
    """Refuse operators that the standard does not know at `opset`, and nodes with operands it does not allow."""
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        schema = None
    # GroupNormalization-18 was deprecated for its parameter shapes, which _group_normalization understands.
    if schema is None or (schema.deprecated and node.op_type != "GroupNormalization"):
        raise UnsupportedModel(
            f"operator {node.op_type} is unknown in ONNX opset {opset}",
            node=label(node),
            remedy="replace it by standard operators, or attach it as a model-local function",
        )
    fits = schema.min_input <= len(node.input) <= schema.max_input and all(node.input[: schema.min_input])
    first = bool(node.output[0]) or node.op_type not in _HANDLERS
    if not (fits and first and schema.min_output <= len(node.output) <= schema.max_output):
        raise InvalidModel(
            f"{node.op_type} has {len(node.input)} inputs and {len(node.output)} outputs, expected"
            f" {schema.min_input} to {schema.max_input} and {schema.min_output} to {schema.max_output}",
            node=label(node),
            remedy="the file is damaged; export it again",
        )


def _move_attributes(emitter: Emitter, node: onnx.NodeProto, moved: dict[str, int]) -> None:
    """Turn attributes into constant inputs."""
    inputs = list(node.input)[: min(moved.values())]
    for name, position in moved.items():
        if attributes.has(node, name):
            inputs += [""] * (position - len(inputs))
            inputs.append(_as_input(emitter, node, name))
    kept = attributes.without(node, list(moved))
    _replace(node, inputs, kept)


def _as_input(emitter: Emitter, node: onnx.NodeProto, name: str) -> str:
    if name in ("min", "max", "value"):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(emitter.element_type(node.input[0]))
        return emitter.constant(attributes.real(node, name, 0.0), name, dtype)
    if name == "k":
        return emitter.constant([attributes.integer(node, name, 0)], name, np.int64)
    if name == "axis":
        return emitter.constant(attributes.integer(node, name, 1), name, np.int64)
    return emitter.constant(attributes.integers(node, name) or (), name, np.int64)


def _replace(node: onnx.NodeProto, inputs: Sequence[str], kept: Sequence[onnx.AttributeProto]) -> None:
    names = list(inputs)
    copies = [onnx.AttributeProto.FromString(attribute.SerializeToString()) for attribute in kept]
    del node.input[:]
    node.input.extend(names)
    del node.attribute[:]
    node.attribute.extend(copies)


def _batch_normalization(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    extra = [name for name in list(node.output)[1:] if name]
    if extra or attributes.integer(node, "training_mode", 0) or not attributes.integer(node, "spatial", 1):
        raise UnsupportedModel(
            "BatchNormalization in training mode or per activation",
            node=label(node),
            remedy="export the model in eval mode",
        )
    _replace(node, node.input, attributes.without(node, ["spatial", "momentum", "training_mode"]))
    del node.output[1:]
    emitter.place(node)


def _dropout(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    if opset >= 12 and len(node.input) > 2 and node.input[2]:
        training = emitter.constant_value(node.input[2])
        if training is None or training.any():
            raise UnsupportedModel("Dropout in training mode", node=label(node), remedy="export it in eval mode")
    mask = [name for name in list(node.output)[1:] if name]
    emitter.op("Identity", node.input[:1], node.output[:1])
    if mask:
        dtype = np.bool_ if opset >= 10 else np.float32
        kept = emitter.constant(np.ones(emitter.shape(node.input[0])), "kept", dtype)
        emitter.op("Identity", [kept], mask)


def _eye_like(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    shape = emitter.shape(node.input[0])
    if len(shape) != 2:
        raise refusal(node, f"reads a value of shape {list(shape)}, expected a matrix")
    kind = attributes.integer(node, "dtype", emitter.element_type(node.input[0]))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    eye = np.eye(*shape, attributes.integer(node, "k", 0), dtype)
    emitter.op("Identity", [emitter.constant(eye, "eye", dtype)], node.output)


def _softmax(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Before opset 13 the operand is taken as a matrix: axes before `axis` are rows, the others one row's elements."""
    shape = emitter.shape(node.input[0])
    axis = attributes.axis(node, "axis", min(1, len(shape) - 1), len(shape))
    if axis >= len(shape) - 1:
        emitter.op(node.op_type, node.input, node.output, axis=-1)
        return
    matrix = emitter.constant([math.prod(shape[:axis]), math.prod(shape[axis:])], "matrix", np.int64)
    rows = emitter.op("Reshape", [node.input[0], matrix])
    result = emitter.op(node.op_type, [rows], axis=-1)
    emitter.op("Reshape", [result, emitter.constant(shape, "shape", np.int64)], node.output)


def _split(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Before opset 18 a Split without sizes makes as many equal parts as it has outputs."""
    if opset < 13 and attributes.has(node, "split"):
        _move_attributes(emitter, node, {"split": 1})
    elif opset < 18 and len(node.input) < 2:
        node.attribute.append(onnx.helper.make_attribute("num_outputs", len(node.output)))
    given = len(node.input) > 1 and bool(node.input[1])
    parts = emitter.shape(node.input[1]) if given else (attributes.integer(node, "num_outputs", len(node.output)),)
    if parts != (len(node.output),):
        # shape inference of ONNX would end the process
        raise refusal(node, f"has {len(node.output)} outputs, expected as many as its parts: {list(parts)}")
    sizes = emitter.constant_value(node.input[1]) if given else None
    if sizes is not None and 0 in sizes:
        _split_without_empty(emitter, node, [int(size) for size in sizes])
    else:
        emitter.place(node)


def _split_without_empty(emitter: Emitter, node: onnx.NodeProto, sizes: Sequence[int]) -> None:
    """Parts of size 0 are constants: there is nothing in them to compute."""
    shape = list(emitter.shape(node.input[0]))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(emitter.element_type(node.input[0]))
    shape[attributes.axis(node, "axis", 0, len(shape))] = 0
    parts = dict(zip(node.output, sizes, strict=True))
    kept = [name for name, size in parts.items() if size]
    if not kept or not all(parts) or emitter.are_outputs(set(parts) - set(kept)):
        emitter.place(node)
        return
    for name in set(parts) - set(kept):
        emitter.add_initializer(name, onnx.numpy_helper.from_array(np.zeros(shape, dtype)))
    if len(kept) == 1:
        emitter.op("Identity", node.input[:1], kept)
    else:
        wanted = emitter.constant([parts[name] for name in kept], "sizes", np.int64)
        emitter.op("Split", [node.input[0], wanted], kept, axis=attributes.integer(node, "axis", 0))


def _concat(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Without operands of size 0, as long as one remains."""
    full = [name for name in node.input if 0 not in emitter.shape(name)]
    if full:
        _replace(node, full, list(node.attribute))
    emitter.place(node)


def _resize(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Upsample, and Resize of opset 10: asymmetric coordinates; nearest rounds down, or up where it shrinks."""
    if attributes.has(node, "scales"):
        scales = emitter.constant(attributes.reals(node, "scales") or (), "scales")
    else:
        scales = node.input[1] if len(node.input) > 1 else ""
    factors = emitter.constant_value(scales)
    if factors is None:
        raise UnsupportedModel("Resize by computed factors", node=label(node), remedy="export with constant scales")
    shrinks = bool((factors < 1).any())
    if shrinks and bool((factors > 1).any()):
        raise UnsupportedModel("Resize grows and shrinks at once", node=label(node), remedy="resize in two steps")
    mode = attributes.text(node, "mode", "nearest")
    settings = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        settings["nearest_mode"] = "ceil" if shrinks else "floor"
    emitter.op("Resize", [node.input[0], "", scales], node.output, **settings)


def _resize_inputs(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Resize since opset 11; empty tensors stand for absent inputs."""
    inputs = [
        name if index == 0 or (name and 0 not in emitter.shape(name)) else "" for index, name in enumerate(node.input)
    ]
    while inputs and not inputs[-1]:
        inputs.pop()
    _replace(node, inputs, list(node.attribute))
    emitter.place(node)


def _resize_any(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    (_resize if opset < 11 else _resize_inputs)(emitter, node, opset)


def _scatter(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Scatter is ScatterElements; without indices nothing changes."""
    if node.op_type == "Scatter":
        node.op_type = "ScatterElements"
    if 0 in emitter.shape(node.input[1]):
        emitter.op("Identity", node.input[:1], node.output)
    else:
        emitter.place(node)


def _grid_sample(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    mode = attributes.text(node, "mode", "bilinear")
    kept = attributes.without(node, ["mode"])
    renamed = onnx.helper.make_attribute("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))
    _replace(node, node.input, [*kept, renamed])
    emitter.place(node)


def _group_normalization(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    """Before opset 21 scale and bias have one element per group instead of one per channel."""
    groups = attributes.integer(node, "num_groups", 1)
    channels = emitter.shape(node.input[0])[1]
    if groups < 1 or channels % groups:
        raise UnsupportedModel(f"{channels} channels in {groups} groups", node=label(node), remedy="use equal groups")
    inputs = [node.input[0]]
    for name in node.input[1:]:
        column = emitter.op("Reshape", [name, emitter.constant([groups, 1], "column", np.int64)])
        spread = emitter.op("Expand", [column, emitter.constant([groups, channels // groups], "spread", np.int64)])
        inputs.append(emitter.op("Reshape", [spread, emitter.constant([channels], "channels", np.int64)]))
    _replace(node, inputs, list(node.attribute))
    emitter.place(node)


def _bit_shift(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    if opset < 28:
        emitter.place(node)
    else:
        bits.bit_shift(emitter, node, opset)


def _roi_align(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "output_half_pixel"))
    emitter.place(node)


def _dft(emitter: Emitter, node: onnx.NodeProto, opset: int) -> None:
    if not attributes.has(node, "axis"):
        node.attribute.append(onnx.helper.make_attribute("axis", 1))
    _move_attributes(emitter, node, {"axis": 2})
    emitter.place(node)


# above every opset
_ANY = 1000
_HANDLERS: dict[str, tuple[int, Callable[[Emitter, onnx.NodeProto, int], None]]] = {
    "BatchNormalization": (_ANY, _batch_normalization),
    "Dropout": (_ANY, _dropout),
    "Softmax": (13, _softmax),
    "LogSoftmax": (13, _softmax),
    "Hardmax": (13, _softmax),
    "Upsample": (10, _resize),
    "Resize": (_ANY, _resize_any),
    "Scatter": (11, _scatter),
    "ScatterElements": (_ANY, _scatter),
    "ScatterND": (_ANY, _scatter),
    "Split": (_ANY, _split),
    "GridSample": (20, _grid_sample),
    "GroupNormalization": (21, _group_normalization),
    "RoiAlign": (16, _roi_align),
    "DFT": (20, _dft),
    "AveragePool": (_ANY, pool),
    "LpPool": (_ANY, pool),
    "MaxPool": (_ANY, pool),
    "BitShift": (_ANY, _bit_shift),
    "Cast": (_ANY, cast),
    "Concat": (_ANY, _concat),
    "ConvTranspose": (_ANY, conv_transpose),
    "EyeLike": (_ANY, _eye_like),
    "LpNormalization": (_ANY, arithmetic.lp_normalization),
    "Mod": (_ANY, arithmetic.modulo),
    "Pow": (_ANY, arithmetic.power),
    "ReverseSequence": (_ANY, sequences.reverse_sequence),
    "Softplus": (_ANY, arithmetic.softplus),
}
