"""The last step down: the code of every variant, one blob of constants, one program."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.layers import recorded
from qcompiler.analysis.macs import macs_of
from qcompiler.errors import InternalError, UnsupportedModel
from qcompiler.ir.critical import index_limit
from qcompiler.ir.program import Argument, Call, Copy, Program, StepInfo, StoredValue, TensorInfo, VariantCode
from qcompiler.ir.provenance import sources
from qcompiler.ir.view import dtype_of, shape_of
from qcompiler.lowering import memory
from qcompiler.lowering.build import object_code
from qcompiler.lowering.check import check_offsets, check_works
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.groups import partition
from qcompiler.lowering.quiet import quiet
from qcompiler.lowering.work import External, GenericWork, KernelWork, Location, Slot, Stored, Work, place_of, written
from qcompiler.lowering.works import build
from qcompiler.targets.choose import chosen
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.target import Kernel, Platform, Variant


def lower(model: ir.Model, target: str, variants: Sequence[Variant], name: str) -> Program:
    """Turn a canonical graph into a program for the given variants.

    Raises UnsupportedModel where an operator has no kernel.
    """
    graph = model.graph
    works = build(graph, partition(graph), CommonStorage(variants), _platform(variants))
    check_works(graph, works)
    offsets, workspace = memory.plan(memory.lifetimes([_slots(work) for work in works]))
    check_offsets(works, offsets, workspace)
    blob = ConstantBlob()
    codes = [_VariantBuilder(variant, offsets, blob).calls(works) for variant in variants]
    with quiet(), ThreadPoolExecutor(max_workers=2) as pool:
        objects = list(pool.map(_VariantBuilder.object_code, (builder for builder, _ in codes)))
    return Program(
        name=name,
        target=target,
        inputs=tuple(replace(tensor_info(value), indices=index_limit(value) or 0) for value in graph.inputs),
        outputs=tuple(tensor_info(value) for value in graph.outputs),
        workspace_bytes=workspace,
        constants=blob.content(),
        steps=tuple(_step_info(work, offsets) for work in works),
        variants=tuple(
            _variant_code(builder.variant, code, calls) for (builder, calls), code in zip(codes, objects, strict=True)
        ),
    )


def _platform(variants: Sequence[Variant]) -> Platform:
    """The one platform of all variants, which share steps, workspace and constants."""
    first, *others = (variant.platform for variant in variants)
    if any(other is not first for other in others):
        raise InternalError("the variants of a bundle run on different platforms")
    return first


def _variant_code(variant: Variant, code: bytes, calls: tuple[Call, ...]) -> VariantCode:
    features = tuple(feature.name for feature in variant.features)
    return VariantCode(variant.name, features, code, calls, variant.platform.code_format)


class ConstantBlob:
    """Read-only data, each piece 64-byte aligned and stored once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._offsets: dict[bytes, int] = {}
        self._size = 0

    def add(self, array: npt.NDArray[Any]) -> int:
        """Byte offset of the array's content."""
        data = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(data).digest()
        if key not in self._offsets:
            self._offsets[key] = self._size
            padding = -len(data) % memory.ALIGNMENT
            self._pieces.append(data + bytes(padding))
            self._size += len(data) + padding
        return self._offsets[key]

    def content(self) -> bytes:
        """All pieces."""
        return b"".join(self._pieces)


class _VariantBuilder:
    """Kernels and calls of one variant; equal problems share one function."""

    def __init__(self, variant: Variant, offsets: dict[Slot, int], blob: ConstantBlob) -> None:
        self.variant = variant
        self.offsets = offsets
        self.blob = blob
        self.functions: dict[str, Any] = {}
        self.works: dict[str, Work] = {}
        self.symbols: dict[Any, tuple[str, Kernel]] = {}

    def calls(self, works: Sequence[Work]) -> tuple[_VariantBuilder, tuple[Call, ...]]:
        return self, tuple(self._call(work) for work in works)

    def object_code(self) -> bytes:
        if not self.functions:
            return b""
        return object_code(self.functions, self.works, self.variant)

    def _symbol(self) -> str:
        return f"k{len(self.functions)}_{self.variant.name}"

    def _call(self, work: Work) -> Call:
        if isinstance(work, KernelWork):
            return self._kernel(work)
        if isinstance(work, GenericWork):
            return self._generic(work)
        (source,), (target,) = work.reads, work.writes
        arguments = tuple(_argument(item.location, self.offsets) for item in (source, target))
        return Call("", work.op, arguments, Copy(target.form.nbytes))

    def _chosen(self, work: KernelWork) -> Kernel:
        """The kernel that is taken, which must read and write what lies there."""
        choice = chosen(self.variant, work.problem)
        node = (work.nodes[0] if work.nodes else work.writes[0].value).name or ""
        if choice is None:
            raise UnsupportedModel(f"no {self.variant.name} kernel for {work.op} {work.problem}", node=node)
        kernel = choice.kernel
        for what, stated, items in (("reads", kernel.reads, work.reads), ("writes", kernel.writes, work.writes)):
            given = tuple(item.form.buffer for item in items)
            if stated != given:
                raise InternalError(f"kernel {kernel.name} {what} {stated}, it is given {given}", node=node)
        return kernel

    def _kernel(self, work: KernelWork) -> Call:
        if work.problem not in self.symbols:
            kernel, symbol = self._chosen(work), self._symbol()
            self.functions[symbol] = kernel.build(symbol)
            self.works[symbol] = work
            self.symbols[work.problem] = (symbol, kernel)
        symbol, kernel = self.symbols[work.problem]
        constants = [Argument("constant", self.blob.add(array)) for array in kernel.pack(work.constants)]
        first, *tensors = (_argument(read.location, self.offsets) for read in work.reads)
        writes = [_argument(write.location, self.offsets) for write in work.writes]
        return Call(symbol, kernel.name, (first, *constants, *tensors, *writes), kernel.launch)

    def _generic(self, work: GenericWork) -> Call:
        symbol = self._symbol()
        self.functions[symbol] = work.call.function.with_attr("global_symbol", symbol)
        self.works[symbol] = work
        arguments = [
            Argument("constant", self.blob.add(read))
            if isinstance(read, np.ndarray)
            else _argument(place_of(read), self.offsets)
            for read in work.reads
        ]
        arguments += [_argument(place_of(item), self.offsets) for item in (*work.writes, *work.temporaries)]
        arguments += [Argument("fault", 0)] if work.call.faults else []
        return Call(symbol, work.call.kernel, tuple(arguments), work.call.launch)


def _argument(place: Location, offsets: dict[Slot, int]) -> Argument:
    if isinstance(place, External):
        return Argument("input" if place.kind == "input" else "output", place.position)
    return Argument("workspace", offsets[place])


def _slots(work: Work) -> tuple[list[Slot], list[Slot]]:
    """The slots that a work reads, and those that it writes or scratches."""
    read = [place_of(item) for item in work.reads if not isinstance(item, np.ndarray)]
    touched = [place_of(item) for item in work.writes]
    if isinstance(work, GenericWork):
        touched += work.temporaries
    return [p for p in read if isinstance(p, Slot)], [p for p in touched if isinstance(p, Slot)]


def tensor_info(value: ir.Value) -> TensorInfo:
    """Name, shape and dtype of an input or output of the network."""
    return TensorInfo(value.name or "", shape_of(value), dtype_of(value).name)


def _step_info(work: Work, offsets: dict[Slot, int]) -> StepInfo:
    nodes = tuple(dict.fromkeys(name for node in work.nodes for name in _original_names(node)))
    note = "; ".join(_notes(work.nodes))
    values = tuple(_stored_value(item, offsets) for item in written(work))
    faults = work.call.faults if isinstance(work, GenericWork) else ()
    layer = next((layer for node in work.nodes if (layer := recorded(node)) is not None), None)
    w_bits, a_bits = (0, 0) if layer is None else (layer.weights or 32, layer.activations or 32)
    macs = sum(map(macs_of, work.nodes))
    integers = isinstance(work, KernelWork) and isinstance(work.problem, Conv2d) and work.problem.x.packed
    return StepInfo(nodes, work.op, w_bits, a_bits, macs, _traffic(work), note, values, faults, integers)


def _original_names(node: ir.Node) -> list[str]:
    return list(sources(node)) or [node.op_type]


def _notes(nodes: Sequence[ir.Node]) -> list[str]:
    keys = ("qcompiler.reason", "qcompiler.note")
    return list(dict.fromkeys(node.metadata_props[key] for node in nodes for key in keys if key in node.metadata_props))


def _traffic(work: Work) -> int:
    return sum(item.form.nbytes for item in written(work))


def _stored_value(item: Stored, offsets: dict[Slot, int]) -> StoredValue:
    buffer = item.form.buffer
    argument = _argument(item.location, offsets)
    name, shape, dtype = item.value.name or "", shape_of(item.value), dtype_of(item.value).name
    if buffer is None:
        return StoredValue(name, argument, shape, "dense", dtype)
    halo = (buffer.halo.top, buffer.halo.left, buffer.halo.bottom, buffer.halo.right)
    if buffer.codes is not None:
        shape = (buffer.w, buffer.c) if item.form.matrix else shape
        return StoredValue(name, argument, shape, "bit-nhwc", dtype, halo, buffer.groups, buffer.codes)
    layout = "dense" if item.form.matrix else f"float-{buffer.order}"
    return StoredValue(name, argument, shape, layout, dtype, halo, buffer.groups)
