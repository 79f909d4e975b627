"""The calls of a run of generic nodes: kernels of our own, or TVM's for the nodes as a model of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.axis_order import is_marked
from qcompiler.lowering import standard
from qcompiler.lowering.call import ScheduledCall, scheduled
from qcompiler.lowering.generic import lower_region
from qcompiler.lowering.region_model import region_model
from qcompiler.targets.target import Platform


def region_calls(nodes: Sequence[ir.Node], platform: Platform) -> tuple[ScheduledCall, ...]:
    """Calls that compute the nodes, in order; inputs and outputs carry the graph's value names.

    Nodes without a kernel of ours go through Relax, neighbours together. platform: what schedules all of them.
    """
    calls: list[ScheduledCall] = []
    left: list[ir.Node] = []
    for node in nodes:
        own = standard.lowered(node)
        if own is None:
            left.append(node)
            continue
        calls += [*_imported(left, platform), scheduled(own, platform)]
        left = []
    return (*calls, *_imported(left, platform))


def _imported(nodes: Sequence[ir.Node], platform: Platform) -> list[ScheduledCall]:
    """Compile the nodes through Relax."""
    if not nodes:
        return []
    for node in nodes:
        if node.domain != "":
            raise UnsupportedModel(f"operator {node.domain}::{node.op_type} has no kernel", node=node.name or "")
    model, names = region_model(nodes, permuted=is_marked(nodes[0]))
    back = {plain: value.name or "" for value, plain in names.items()}
    try:
        return [replace(_renamed(call, back), nodes=tuple(nodes)) for call in lower_region(model, platform)]
    except UnsupportedModel:
        for node in nodes if len(nodes) > 1 else ():
            _imported([node], platform)  # alone, the one without code is named
        raise


def _renamed(call: ScheduledCall, back: dict[str, str]) -> ScheduledCall:
    inputs = tuple(back.get(item, item) if isinstance(item, str) else item for item in call.inputs)
    return replace(call, inputs=inputs, outputs=tuple(back.get(name, name) for name in call.outputs))
