"""What every value must be stored as: consumers ask, backwards through the graph, and aliases pass it on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import ops
from qcompiler.ir.layout import is_marked
from qcompiler.ir.view import constant_of, dtype_of, integer, number, shape_of, window_of
from qcompiler.lowering.forms import Form, buffer_of, is_natural, merge, natural, of_buffer
from qcompiler.lowering.groups import Group
from qcompiler.targets.problem import Buffer, Halo

Demands = dict[ir.Value, list[Form]]


def collect(groups: Sequence[Group], outputs: Iterable[ir.Value], graph_inputs: Iterable[ir.Value]) -> Demands:
    """The merged forms in which each value is needed."""
    inputs = set(graph_inputs)
    wanted: dict[ir.Value, list[Form]] = {}
    for value in outputs:
        wanted.setdefault(value, []).append(natural(value))
    for group in reversed(groups):
        if group.kind == "alias":
            node = group.anchor
            source = source_of(node)
            for form in merge(wanted.get(node.outputs[0], [])):
                wanted.setdefault(source, []).append(through_alias(node.outputs[0], source, form))
            continue
        for value, form in reads_of(group, inputs):
            wanted.setdefault(value, []).append(form)
    return {value: merge(forms) for value, forms in wanted.items()}


def source_of(alias: ir.Node) -> ir.Value:
    """The value that an alias node renames."""
    source = alias.inputs[0]
    assert source is not None
    return source


def through_alias(value: ir.Value, source: ir.Value, form: Form) -> Form:
    """The form of `source` whose bytes are `form` of its alias `value`; natural where there is no other."""
    if form.is_bit and form.buffer is not None and form.matrix and len(shape_of(source)) == 4:
        n, c, h, w = shape_of(source)
        if h == w == 1 and (n, c) == (form.buffer.w, form.buffer.c) and form.buffer.halo == Halo():
            return of_buffer(replace(form.buffer, n=n, w=1), matrix=False)
    if form.is_bit and form.buffer is not None and form.matrix and len(shape_of(source)) != 4:
        rows, columns = prod(shape_of(source)[:-1]), shape_of(source)[-1] if shape_of(source) else 1
        if (rows, columns) == (form.buffer.w, form.buffer.c):
            return form
    return natural(source)


def weights_of(node: ir.Node) -> npt.NDArray[np.float32]:
    """Constant weights of a convolution (OIHW) or matrix product ([K, O]).

    Raises UnsupportedModel where they are computed at run time.
    """
    weights = constant_of(node.inputs[1])
    if weights is None:
        raise UnsupportedModel(
            f"the weights of {node.op_type} are computed at run time",
            node=node.name or "",
            remedy="make them an initializer of the model",
        )
    return weights.astype(np.float32, copy=False)


def is_matrix(group: Group) -> bool:
    """Whether the group works on rows of a matrix rather than on images."""
    assert group.start is not None
    if group.kind == "conv":
        return group.anchor.op_type in ("MatMul", "BinaryMatMul")
    return group.kind == "map" and len(shape_of(group.start)) != 4


def view_buffer(value: ir.Value, matrix: bool) -> Buffer:
    """The plain channels-last float32 buffer of a value in a view."""
    shape = shape_of(value)
    if matrix and len(shape) == 4:
        return Buffer(1, 1, prod(shape[:-1]), shape[-1], "float32")
    return buffer_of(shape)


def reads_of(group: Group, graph_inputs: set[ir.Value]) -> list[tuple[ir.Value, Form]]:
    """Every value a group reads, in the form its kernel wants."""
    if group.kind == "generic":
        return [(value, generic_form(group, value)) for value in group.inputs]
    matrix = is_matrix(group)
    result = [main_read(group, matrix, graph_inputs)]
    for link in group.links:
        for operation in link.operations:
            if isinstance(operation.operand, ir.Value):
                result.append((operation.operand, tensor_form(operation.operand, matrix, graph_inputs)))
    return result


def generic_form(group: Group, value: ir.Value) -> Form:
    """The form in which a region of standard ops reads or writes a value."""
    if is_marked(group.anchor):
        return of_buffer(buffer_of(shape_of(value)), matrix=len(shape_of(value)) != 4)
    return natural(value)


def tensor_form(value: ir.Value, matrix: bool, graph_inputs: set[ir.Value]) -> Form:
    """How an epilogue reads a run-time operand: channels-last, or as it is where the caller owns it."""
    if value in graph_inputs and not matrix:
        return natural(value)
    return of_buffer(view_buffer(value, matrix), matrix=matrix)


def main_read(group: Group, matrix: bool, graph_inputs: set[ir.Value]) -> tuple[ir.Value, Form]:
    """The main operand of a kernel and the form it is read in."""
    node = group.anchor
    if group.kind == "map":
        assert group.start is not None
        value = group.start
        if dtype_of(value) != "float32" or value in graph_inputs or _made_dense(value):
            return value, natural_view(value, matrix)
        return value, of_buffer(view_buffer(value, matrix), matrix=matrix)
    value = node.inputs[0]
    plain = view_buffer(value, matrix)
    if node.domain == ops.DOMAIN:
        plain = replace(plain, dtype="bit")
    if group.kind == "pool":
        return value, of_buffer(plain, matrix=False)
    if matrix:
        return value, of_buffer(plain, matrix=True)
    return value, of_buffer(_with_halo(node, plain, value in graph_inputs), matrix=False)


def natural_view(value: ir.Value, matrix: bool) -> Form:
    """The natural form of a value, seen as image or matrix."""
    if matrix:
        return of_buffer(view_buffer(value, True), matrix=True)
    return natural(value)


def _made_dense(value: ir.Value) -> bool:
    """Whether the producer only makes the natural form (neither a kernel of ours nor an alias of one)."""
    producer = value.producer()
    if producer is None or producer.domain != "" or producer.op_type in _OURS:
        return False
    return not is_marked(producer)


_OURS = ("Conv", "MatMul", "MaxPool", "AveragePool", "Add", "Mul", "Sub", "Div", "Relu", "Clip", "PRelu", "LeakyRelu")


def _with_halo(node: ir.Node, plain: Buffer, from_caller: bool) -> Buffer:
    window = window_of(node, weights_of(node).shape[2:])
    fill = number(node, "pad_value", 0.0)
    if plain.dtype == "bit":
        fill = -1.0 if fill == 0 else fill
        plain = replace(plain, groups=integer(node, "group", 1))
    elif from_caller:
        plain = replace(plain, order="nchw")
    if not any(window.pads):
        return plain
    return replace(plain, halo=Halo(*window.pads), halo_value=fill)


def as_view(form: Form, value: ir.Value, matrix: bool) -> Form | None:
    """The form seen in a group's view, if the bytes are the same; None if it cannot be written directly."""
    if form.matrix == matrix:
        return form
    if is_natural(form) and form.buffer is not None:
        return natural_view(value, matrix)
    return None
