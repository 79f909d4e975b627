"""What the user is told of the steps of a program."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.analysis.layers import recorded
from qcompiler.analysis.macs import macs_of
from qcompiler.ir.file_types import file_types
from qcompiler.ir.program import StepInfo, StoredValue, TensorInfo
from qcompiler.ir.provenance import NOTE, REASON, sources
from qcompiler.ir.storage import PACKED_LAYOUTS
from qcompiler.ir.view import dtype_of, shape_of
from qcompiler.lowering.flow import Flow
from qcompiler.lowering.kernel_table import argument_of
from qcompiler.lowering.work import GenericWork, KernelWork, Slot, Stored, Work, reads_of, size_of, written
from qcompiler.targets.problem import Conv2d


def tensor_info(value: ir.Value) -> TensorInfo:
    """Name, shape and dtype of an input or output of the network."""
    name = value.name or ""
    in_file = {} if value.graph is None else file_types(value.graph)
    return TensorInfo(name, shape_of(value), dtype_of(value).name, file_dtype=in_file.get(name, ""))


_AS_FLOATS = "its codes are multiplied as floats, exactly: integers of these widths would be slower here"


def step_info(work: Work, offsets: dict[Slot, int], flow: Flow) -> StepInfo:
    """What the user is told of a step; flow: what it reads."""
    nodes = tuple(dict.fromkeys(name for node in work.nodes for name in _original_names(node)))
    values = tuple(_stored_value(item, offsets) for item in written(work))
    faults = work.call.faults if isinstance(work, GenericWork) else ()
    layer = next((layer for node in work.nodes if (layer := recorded(node)) is not None), None)
    w_bits, a_bits = (0, 0) if layer is None else (layer.weights or 32, layer.activations or 32)
    macs = sum(map(macs_of, work.nodes))
    problem = work.problem if isinstance(work, KernelWork) else None
    integers = isinstance(problem, Conv2d) and (problem.x.packed or problem.rounded)
    notes = _notes(work.nodes)
    if layer is not None and not layer.reason and not integers:
        notes.append(_AS_FLOATS)
    return StepInfo(
        nodes=nodes,
        op=work.op,
        w_bits=w_bits,
        a_bits=a_bits,
        macs=macs,
        bytes=_traffic(work),
        note="; ".join(notes),
        values=values,
        faults=faults,
        integers=integers,
        reads_steps=flow.steps,
        reads_inputs=flow.inputs,
        read_bytes=sum(map(size_of, reads_of(work))),
    )


def _original_names(node: ir.Node) -> list[str]:
    return list(sources(node)) or [node.op_type]


def _notes(nodes: Sequence[ir.Node]) -> list[str]:
    found = [node.metadata_props.get(key, "") for node in nodes for key in (REASON, NOTE)]
    return [text for text in dict.fromkeys(found) if text]


def _traffic(work: Work) -> int:
    return sum(item.form.nbytes for item in written(work))


def _stored_value(item: Stored, offsets: dict[Slot, int]) -> StoredValue:
    buffer = item.form.buffer
    argument = argument_of(item.location, offsets)
    name, shape, dtype = item.value.name or "", shape_of(item.value), dtype_of(item.value).name
    if buffer is None:
        return StoredValue(name, argument, shape, "dense", dtype)
    halo = (buffer.halo.top, buffer.halo.left, buffer.halo.bottom, buffer.halo.right)
    if buffer.codes is not None:
        shape = (buffer.w, buffer.c) if item.form.matrix else shape
        layout = next(name for name, packing in PACKED_LAYOUTS.items() if packing == buffer.packing)
        return StoredValue(name, argument, shape, layout, dtype, halo, buffer.groups, buffer.codes)
    layout = "dense" if item.form.matrix else f"float-{buffer.order}"
    return StoredValue(name, argument, shape, layout, dtype, halo, buffer.groups)
