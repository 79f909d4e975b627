"""Static memory plan: byte offsets in one workspace, from the interference of slot lifetimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx

from qcompiler.ir.program import Allocation
from qcompiler.lowering.work import Slot

# bytes of a cache line, and of the widest vector
ALIGNMENT = 64


def lifetimes(steps: Sequence[tuple[Sequence[Slot], Sequence[Slot]]]) -> dict[Slot, tuple[int, int]]:
    """First and last step of each slot; a step is (slots it reads, slots it writes or scratches)."""
    result: dict[Slot, tuple[int, int]] = {}
    for index, (reads, writes) in enumerate(steps):
        for slot in (*reads, *writes):
            first, _ = result.get(slot, (index, index))
            result[slot] = (first, index)
    return result


def plan(spans: Mapping[Slot, tuple[int, int]]) -> tuple[dict[Slot, int], int]:
    """Offset of each slot and the size of the workspace in bytes.

    Slots whose lifetimes touch interfere and get disjoint memory. Large slots are placed first, each at the lowest
    offset that its interfering neighbours leave free.
    """
    conflicts = interference(spans)
    offsets: dict[Slot, int] = {}
    total = 0
    for slot in sorted(spans, key=lambda item: (-item.nbytes, spans[item])):
        taken = sorted((offsets[other], _padded(other)) for other in conflicts[slot] if other in offsets)
        offset = 0
        for start, size in taken:
            if offset + _padded(slot) <= start:
                break
            offset = max(offset, start + size)
        offsets[slot] = offset
        total = max(total, offset + _padded(slot))
    return offsets, total


def allocations(spans: Mapping[Slot, tuple[int, int]], offsets: Mapping[Slot, int]) -> tuple[Allocation, ...]:
    """The plan as data, by offset and time."""
    found = (Allocation(offsets[slot], slot.nbytes, first, last) for slot, (first, last) in spans.items())
    return tuple(sorted(found, key=lambda each: (each.offset, each.first)))


def interference(spans: Mapping[Slot, tuple[int, int]]) -> nx.Graph[Any]:
    """Slots as vertices, an edge where two are alive in the same step."""
    graph: nx.Graph[Any] = nx.Graph()
    graph.add_nodes_from(spans)
    alive: list[Slot] = []
    for slot in sorted(spans, key=lambda item: spans[item]):
        first, _ = spans[slot]
        alive = [other for other in alive if spans[other][1] >= first]
        graph.add_edges_from((slot, other) for other in alive)
        alive.append(slot)
    return graph


def _padded(slot: Slot) -> int:
    return max(-(-slot.nbytes // ALIGNMENT), 1) * ALIGNMENT
