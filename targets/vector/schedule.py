"""From a function over buffers, as TVM makes it, to one over plain pointers and a range of items.

TVM leaves naive loops, which are scheduled here. Temporaries become pointers into the workspace, because the bundle has
no runtime that could allocate them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad

from qcompiler.ir.program import Items
from qcompiler.targets.standard_op import Scheduled, tensor_bytes
from qcompiler.targets.vector.emit import LANES

MAX_INLINED = 256
"""Expressions that inlining may add to a loop; chosen: elementwise ops fit, a chain that reads values many times grows
exponentially."""


def scheduled(function: Any) -> Scheduled:
    """The function over pointers and a range of items, int32 f(*tensors, *temporaries, begin, end)."""
    found, independent = _schedule(function)
    root = found.body.block
    temporaries = list(root.alloc_buffers)
    buffers = [*found.params, *temporaries]
    begin, end = tirx.Var("begin", "int32"), tirx.Var("end", "int32")
    pointers = [
        tirx.Var(f"{buffer.name}_ptr", tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)), "global"))
        for buffer in buffers
    ]
    declarations = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
    body, items = _ranged(root.body, independent and not temporaries, begin, end)
    block = s_tir.SBlock(root.iter_vars, root.reads, root.writes, root.name_hint, body, root.init)
    realize = s_tir.SBlockRealize(found.body.iter_values, found.body.predicate, block)
    done = tirx.Return(tirx.const(0, "int32"))
    wrapped = tirx.PrimFunc(
        [*pointers, begin, end],
        tirx.SeqStmt([*declarations, realize, done]),
        ret_type=tvm.ir.PrimType("int32"),
    ).with_attr({"tirx.noalias": True, "calling_conv": 2})
    return Scheduled(wrapped, Items(items), tuple(tensor_bytes(buffer) for buffer in temporaries))


def _schedule(function: Any) -> tuple[Any, bool]:
    """Inline elementwise producers, put the last spatial loop in vector lanes, and reductions outside of it.

    Also says whether the outermost loop is spatial and covers everything, so that its iterations are independent.
    """
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        if _inlined_size(schedule, block) <= MAX_INLINED:
            with contextlib.suppress(s_tir.ScheduleError):
                schedule.compute_inline(block)
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    for block in blocks:
        _flatten(schedule, block)
    independent = len(blocks) == 1 and _spatial_first(schedule, blocks[0])
    for block in blocks:
        _vectorize(schedule, block)
    return schedule.mod["main"], independent


def _flatten(schedule: Any, block: Any) -> None:
    """See arrays of one shape, which a block goes through in the order of its loops, as rows of all their elements.

    Rows that are no multiple of the lanes would be gathered otherwise.
    """
    found = schedule.get(block)
    extents = [int(iterator.dom.extent) for iterator in found.iter_vars]
    if len(extents) < 2 or any(iterator.iter_type != 0 for iterator in found.iter_vars):
        return
    regions = [*found.reads, *found.writes]
    names = [iterator.var for iterator in found.iter_vars]
    if not all(_is_whole(region, names, extents) for region in regions):
        return

    def place(*index: Any) -> list[Any]:
        at: Any = 0
        for position, extent in zip(index, extents, strict=True):
            at = at * extent + position
        return [at]

    flat = tirx.IndexMap.from_func(place, ndim=len(extents))
    with contextlib.suppress(s_tir.ScheduleError):
        schedule.transform_block_layout(block, flat)
        for kind, those in (("read", found.reads), ("write", found.writes)):
            for index in range(len(those)):
                schedule.transform_layout(block, (kind, index), flat)


def _is_whole(region: Any, names: Sequence[Any], extents: Sequence[int]) -> bool:
    """Whether an access goes through an array of these extents in its own order."""
    if [int(extent) for extent in region.source.shape] != list(extents):
        return False
    return all(
        part.min.same_as(name) and int(part.extent) == 1 for part, name in zip(region.region, names, strict=True)
    )


def _inlined_size(schedule: Any, block: Any) -> int:
    """Expressions that a producer would add to its consumers; each of their reads of it gets a copy."""
    producer = schedule.get(block)
    written = producer.writes[0].source
    reads: list[Any] = []
    for consumer in schedule.get_consumers(block):
        _walk(schedule.get(consumer).body, TensorLoad, lambda load: reads.append(load.source))
    expressions: list[Any] = []
    _walk(producer.body, tvm.ir.Expr, expressions.append)
    return len(expressions) * sum(bool(written.same_as(source)) for source in reads)


def _walk(root: Any, kind: type, found: Callable[[Any], None]) -> None:
    tvm_ffi.structural_walk(root, [(kind, found)])


def _spatial_first(schedule: Any, block: Any) -> bool:
    iterators = schedule.get(block).iter_vars
    return len(schedule.get_loops(block)) == len(iterators) and bool(iterators) and iterators[0].iter_type == 0


def _vectorize(schedule: Any, block: Any) -> None:
    loops = schedule.get_loops(block)
    iterators = schedule.get(block).iter_vars
    if len(loops) != len(iterators) or not loops:
        return
    spatial = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type == 0]
    reduction = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type != 0]
    if not spatial:
        return
    with contextlib.suppress(s_tir.ScheduleError):
        if not reduction:
            spatial = [schedule.fuse(*spatial)]
        inner = spatial[-1]
        extent = int(schedule.get(inner).extent)
        lanes = next((n for n in (LANES, 8, 4) if extent % n == 0), 0)
        if not lanes:
            return
        outer, vector = schedule.split(inner, [None, lanes])
        schedule.reorder(*spatial[:-1], outer, *reduction, vector)
        schedule.vectorize(vector)
        if reduction:
            schedule.decompose_reduction(block, reduction[0])


def _ranged(body: Any, independent: bool, begin: Any, end: Any) -> tuple[Any, int]:
    """Restrict the outermost loop to [begin, end) where its iterations are independent; else one item does all."""
    if independent and isinstance(body, tirx.For) and int(body.min) == 0:
        dtype = str(body.loop_var.ty)
        first, count = begin.astype(dtype), (end - begin).astype(dtype)
        return tirx.For(body.loop_var, first, count, tirx.ForKind.SERIAL, body.body), int(body.extent)
    return tirx.IfThenElse(begin < end, body, None), 1
