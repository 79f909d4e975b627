"""The inputs of the network: names, element types and fixed shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from qcompiler.errors import InvalidModel, UsageError
from qcompiler.frontend.stored_tensors import check_computed, check_passed, check_type
from qcompiler.frontend.value_types import check_tensor
from qcompiler.ir.batch_axis import BatchAxis


def fixed_inputs(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
    """The inputs that are no initializers, every dimension a number; `shapes` fixes the dynamic ones.

    A batch that nobody gave is that of the other inputs, or 1. Raises UsageError for other dimensions nobody gave (with
    the options that would), and for `shapes` that do not fit.
    """
    inputs = _inputs(graph)
    names = [value.name for value in inputs]
    for value in inputs:
        check_tensor(value.type, f"input '{value.name}'")
    for name in shapes:
        if name not in names:
            raise UsageError(f"--shape names '{name}', which is no input", remedy=f"the inputs are {', '.join(names)}")
    batch = _batch_of(inputs, shapes) if _has_batch(graph) else None
    open_inputs = _open_inputs(inputs, shapes)
    if any(batch is None or not _is_fixed_but_for_batch(value) for value in open_inputs):
        found = "dimensions of size 0" if all(map(_is_empty, open_inputs)) else "dynamic dimensions"
        raise UsageError(f"{found} in input {_list(open_inputs)}", remedy=_remedy(open_inputs))
    whole = {value.name: (batch or 1, *(size or 1 for size in _sizes(value)[1:])) for value in open_inputs}
    return [_fixed(value, shapes.get(value.name, whole.get(value.name))) for value in inputs]


def batch_axis_of(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> BatchAxis | None:
    """The batch of a file: the first axis of all inputs and outputs, of open size and nowhere else; None without it."""
    if not _has_batch(graph):
        return None
    open_inputs = _open_inputs(_inputs(graph), shapes)
    return BatchAxis(_list(open_inputs), _remedy(open_inputs)) if open_inputs else BatchAxis()


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    initializers = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in initializers]


def _open_inputs(
    inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, tuple[int, ...]]
) -> list[onnx.ValueInfoProto]:
    return [value for value in inputs if value.name not in shapes and not _is_fixed(value)]


def _list(values: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"'{value.name}' {_described(value)}" for value in values)


def _remedy(values: Sequence[onnx.ValueInfoProto]) -> str:
    return f"fix them, for example with {' '.join(_option(value) for value in values)}"


def _has_batch(graph: onnx.GraphProto) -> bool:
    """Whether the first axis of all inputs is one symbol, that of outputs no number, and no other axis that symbol."""
    inputs = [_tensor(value).shape.dim for value in _inputs(graph)]
    outputs = [value.type.tensor_type.shape.dim for value in graph.output if value.type.tensor_type.HasField("shape")]
    if not inputs or not all(dims and _is_open(dims[0]) for dims in (*inputs, *outputs)):
        return False
    symbols = {dims[0].dim_param for dims in inputs}
    others = {dim.dim_param for dims in (*inputs, *outputs) for dim in dims[1:]} - {""}
    return len(symbols) == 1 and symbols.isdisjoint(others)


def _is_open(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return _number(dim) is None and not (dim.HasField("dim_value") and dim.dim_value == 0)


def _batch_of(inputs: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The batch that `shapes` gives to some inputs, and so to all; 1 where it gives none."""
    return next((shapes[value.name][0] for value in inputs if shapes.get(value.name)), 1)


def _is_fixed_but_for_batch(value: onnx.ValueInfoProto) -> bool:
    return all(size is not None for size in _sizes(value)[1:])


def _sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    return [_number(dim) for dim in _tensor(value).shape.dim]


def _fixed(value: onnx.ValueInfoProto, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
    tensor = _tensor(value)
    if shape is None:
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    if tensor.HasField("shape"):
        _check_fit(value, shape)
    if any(size < 1 for size in shape):
        raise UsageError(f"input '{value.name}' of shape {list(shape)} is empty", remedy="use sizes of at least 1")
    check_type(tensor.elem_type, shape, f"input '{value.name}'")
    check_computed(tensor.elem_type, f"input '{value.name}'")
    check_passed(tensor.elem_type, f"input '{value.name}'")
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def _check_fit(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    dims = _tensor(value).shape.dim
    if len(shape) != len(dims) or any(_number(d) not in (None, size) for d, size in zip(dims, shape, strict=True)):
        raise UsageError(
            f"--shape {value.name}={'x'.join(map(str, shape))} does not fit the input's shape {_described(value)}",
            remedy=f"use {_option(value)}" if not _is_fixed(value) else "leave the option out",
        )


def _tensor(value: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.elem_type:
        raise InvalidModel(f"input '{value.name}' is no typed tensor", remedy="export the model with tensor inputs")
    return value.type.tensor_type


def _number(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """The size of a dimension; exporters write 0 or -1 where they mean dynamic."""
    return int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    tensor = _tensor(value)
    return tensor.HasField("shape") and all(_number(dim) is not None for dim in tensor.shape.dim)


def _is_empty(value: onnx.ValueInfoProto) -> bool:
    """Whether sizes of 0, and they alone, keep the shape from being fixed."""
    tensor = _tensor(value)
    unknown = [dim for dim in tensor.shape.dim if _number(dim) is None]
    return bool(unknown) and all(dim.HasField("dim_value") and dim.dim_value == 0 for dim in unknown)


def _described(value: onnx.ValueInfoProto) -> str:
    tensor = _tensor(value)
    if not tensor.HasField("shape"):
        return "of unknown rank"
    return "[" + ", ".join(_shown(dim) for dim in tensor.shape.dim) + "]"


def _shown(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"


def _option(value: onnx.ValueInfoProto) -> str:
    """The option that fixes an input, as an example: batch 1, three channels, images of 224x224, else 16."""
    tensor = _tensor(value)
    if not tensor.HasField("shape"):
        return f"--shape {value.name}=1x3x224x224"
    dims = tensor.shape.dim
    usual = (1, 3, 224, 224) if len(dims) == 4 else (1, *(16 for _ in dims[1:]))
    sizes = [str(_number(dim) or size) for dim, size in zip(dims, usual, strict=True)]
    return f"--shape {value.name}={'x'.join(sizes)}"
