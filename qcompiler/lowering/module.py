"""From a canonical graph to a program, one way: groups, plans, works, memory, code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import onnx_ir as ir

from qcompiler.errors import InternalError
from qcompiler.ir.critical import index_limit
from qcompiler.ir.program import Program, VariantCode
from qcompiler.lowering import memory
from qcompiler.lowering.check import check_offsets, check_works
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.constant_blob import ConstantBlob
from qcompiler.lowering.delivery import deliver
from qcompiler.lowering.dump import Dump
from qcompiler.lowering.flow import flows
from qcompiler.lowering.groups import partition
from qcompiler.lowering.kernel_table import KernelTable, with_scratch
from qcompiler.lowering.plan import Plan, Storage, plan
from qcompiler.lowering.quiet import quiet
from qcompiler.lowering.step_info import step_info, tensor_info
from qcompiler.lowering.work import Work, slots_of
from qcompiler.targets.target import Platform, Variant
from qcompiler.targets.tuned import UNTUNED, Tuned

# chosen
MOST_THREADS = 8


def lower(
    model: ir.Model,
    target: str,
    variants: Sequence[Variant],
    name: str,
    dump: Dump | None = None,
    tuned: Tuned = UNTUNED,
    coded: Sequence[Variant] = (),
) -> Program:
    """Turn a canonical graph into a program for the given variants.

    dump: writes down what every stage made. tuned: what was measured of kernels. coded: those of the variants for
    which code is made; none: all of them. Raises UnsupportedModel where an operator has no kernel.
    """
    graph = model.graph
    plans, works = planned(graph, CommonStorage(variants, tuned), platform_of(variants))
    works = with_scratch(works, coded or variants, tuned)
    check_works(graph, works)
    spans = memory.lifetimes([slots_of(work) for work in works])
    offsets, workspace = memory.plan(spans)
    check_offsets(works, offsets, workspace)
    blob = ConstantBlob()
    tables = [KernelTable(variant, works, offsets, blob, tuned) for variant in coded or variants]
    if dump is not None:
        dump.plans(plans)
        dump.works(works, offsets)
        dump.code(tables)
    codes = _compiled(tables)
    return Program(
        name=name,
        target=target,
        inputs=tuple(replace(tensor_info(value), indices=index_limit(value) or 0) for value in graph.inputs),
        outputs=tuple(tensor_info(value) for value in graph.outputs),
        workspace_bytes=workspace,
        constants=blob.content(),
        steps=tuple(step_info(work, offsets, flow) for work, flow in zip(works, flows(works), strict=True)),
        variants=codes,
        allocations=memory.allocations(spans, offsets),
    )


def _compiled(tables: Sequence[KernelTable]) -> tuple[VariantCode, ...]:
    """The code of every variant; all processors work on the parts of all of them."""
    parts = [(table, part) for table in tables for part in table.parts()]
    with quiet(), ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), MOST_THREADS)) as pool:
        objects = pool.map(lambda each: KernelTable.compiled(*each), parts)
        return tuple(table.code([next(objects) for _ in table.parts()]) for table in tables)


def planned(graph: ir.Graph, storage: Storage, platform: Platform) -> tuple[list[Plan], list[Work]]:
    """The plan of every group of nodes, and every kernel call, in order.

    storage: how kernels read and write. platform: what schedules standard operators.
    """
    plans, demands = plan(partition(graph, storage.code_packing == "bytes"), graph.inputs, graph.outputs, storage)
    return plans, deliver(graph, plans, demands, platform)


def platform_of(variants: Sequence[Variant]) -> Platform:
    """The one platform of all variants, which share steps, workspace and constants."""
    first, *others = (variant.platform for variant in variants)
    if any(other is not first for other in others):
        raise InternalError("the variants of a bundle run on different platforms")
    return first
