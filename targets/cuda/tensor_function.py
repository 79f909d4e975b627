"""From a function over buffers, as TVM makes it in naive loops, to kernels: one per stage, a thread per element.

Stages that read what others wrote are launched one behind the other, on as many threads as the largest one has
elements. Temporaries are memory of the workspace.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir, tirx

from qcompiler.ir.program import LaunchGrid
from qcompiler.targets.standard_op import Scheduled, tensor_bytes
from qcompiler.targets.vector.schedule import MAX_INLINED, _inlined_size

THREADS = 128
"""Of a block of standard operators; chosen."""


@dataclass(frozen=True)
class Phases:
    """The kernels of one function, to be launched one behind the other with the same pointers."""

    kernels: tuple[Any, ...]

    def with_attr(self, name: str, value: Any) -> Phases:
        """As a PrimFunc has it."""
        return Phases(tuple(kernel.with_attr(name, value) for kernel in self.kernels))

    def script(self) -> str:
        """As a PrimFunc has it."""
        return "\n".join(str(kernel.script()) for kernel in self.kernels)


def scheduled(function: Any) -> Scheduled:
    """The function over pointers to its tensors and temporaries."""
    schedule = s_tir.Schedule(tvm.IRModule({"main": function}), error_render_level="none")
    for block in _blocks(schedule):
        if _inlined_size(schedule, block) <= MAX_INLINED:
            with contextlib.suppress(s_tir.ScheduleError):
                schedule.compute_inline(block)
    elements = [_fused(schedule, block) for block in _blocks(schedule)]
    threads = max(elements)
    grid = -(-threads // THREADS)
    for block, count in zip(_blocks(schedule), elements, strict=True):
        _bind(schedule, block, grid, count)
    found = schedule.mod["main"]
    temporaries = list(found.body.block.alloc_buffers)
    body = found.body.block.body
    stages = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    kernels = tuple(_kernel(found, temporaries, stage, grid) for stage in stages)
    launch = LaunchGrid((grid, 1, 1), (THREADS, 1, 1), phases=len(kernels))
    return Scheduled(Phases(kernels), launch, tuple(map(tensor_bytes, temporaries)))


def _blocks(schedule: Any) -> Sequence[Any]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def _fused(schedule: Any, block: Any) -> int:
    """Put the spatial loops of a stage into one outermost loop; its extent, or 1 where the stage is no such nest."""
    loops, iterators = schedule.get_loops(block), schedule.get(block).iter_vars
    if len(loops) != len(iterators):
        return 1
    spatial = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type == 0]
    others = [loop for loop, it in zip(loops, iterators, strict=True) if it.iter_type != 0]
    if not spatial:
        return 1
    schedule.reorder(*spatial, *others)
    return int(schedule.get(schedule.fuse(*spatial)).extent)


def _bind(schedule: Any, block: Any, grid: int, elements: int) -> None:
    """A thread for each iteration of the outermost loop; stages without one are left to a single thread."""
    loops = schedule.get_loops(block)
    if not loops or int(schedule.get(loops[0]).extent) != elements or elements == 1:
        return
    outer, inner = schedule.split(loops[0], [grid, THREADS])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")


def _kernel(function: Any, temporaries: Sequence[Any], stage: Any, grid: int) -> Any:
    """A stage over pointers."""
    buffers = [*function.params, *temporaries]
    pointers = [
        tirx.Var(f"{buffer.name}_ptr", tvm.ir.PointerType(tvm.ir.PrimType(str(buffer.dtype)), "global"))
        for buffer in buffers
    ]
    root = function.body.block
    if not (isinstance(stage, tirx.For) and stage.kind == tirx.ForKind.THREAD_BINDING):
        stage = _alone(stage, grid)
    block = s_tir.SBlock(root.iter_vars, [], [], root.name_hint, stage, root.init)
    realize = s_tir.SBlockRealize(function.body.iter_values, function.body.predicate, block)
    declared = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
    made = tirx.PrimFunc(pointers, tirx.SeqStmt([*declared, realize]))
    return made.with_attr({"tirx.noalias": True, "calling_conv": 2, "tirx.is_global_func": True})


def _alone(stage: Any, grid: int) -> Any:
    """A stage for the first thread of all."""
    place = []
    for tag, extent in (("blockIdx.x", grid), ("threadIdx.x", THREADS)):
        variable = tirx.Var(tag.replace(".", "_"), "int32")
        place.append(tirx.IterVar(tvm.ir.Range(0, extent), variable, tirx.IterVar.ThreadIndex, tag))
    first = tirx.IfThenElse(tirx.And(place[0].var == 0, place[1].var == 0), stage, None)
    body = first
    for each in reversed(place):
        body = tirx.AttrStmt(each, "thread_extent", tirx.const(int(each.dom.extent), "int32"), body)
    return body
