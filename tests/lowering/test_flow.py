"""Which step reads which, and where in the workspace: against what is known of every lowered network."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from qcompiler.lowering import memory
from qcompiler.lowering.flow import flows
from qcompiler.lowering.module import planned
from qcompiler.lowering.work import External, Slot, Work, place_of, slots_of
from qcompiler.targets.vector.host import HOST
from tests.lowering.interpreter import canonical, in_planes
from tests.lowering.test_delivery import HEADER, NETWORKS, spelled


def lowered(name: str) -> list[Work]:
    text, constants, _ = NETWORKS[name]
    return planned(canonical(HEADER + spelled(text), constants).graph, in_planes, HOST)[1]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_leads_from_an_input_to_an_output(name: str) -> None:
    works = lowered(name)
    found = flows(works)
    graph: nx.DiGraph = nx.DiGraph()
    for index, (work, flow) in enumerate(zip(works, found, strict=True)):
        assert all(source < index for source in flow.steps)
        graph.add_edges_from((source, index) for source in flow.steps)
        graph.add_edges_from((f"input {position}", index) for position in flow.inputs)
        written = [place_of(item) for item in work.writes]
        graph.add_edges_from((index, "output") for place in written if isinstance(place, External))
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.ancestors(graph, "output") >= {*range(len(works)), "input 0"}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_step_reads_was_allocated_since_it_was_written(name: str) -> None:
    works = lowered(name)
    spans = memory.lifetimes([slots_of(work) for work in works])
    offsets, total = memory.plan(spans)
    pieces = memory.allocations(spans, offsets)
    assert all(piece.offset >= 0 and piece.offset + piece.nbytes <= total for piece in pieces)
    for index, (work, flow) in enumerate(zip(works, flows(works), strict=True)):
        for slot in slots_of(work)[0]:
            held = {piece.first for piece in pieces if piece.offset == offsets[slot] and piece.last >= index}
            assert held & set(flow.steps)


def test_a_residual_stream_joins_its_input() -> None:
    """Codes of x, then a layer of them plus x itself, then another plus the sum, which lies beside the codes."""
    works = lowered("residual_stream")
    assert [(flow.steps, flow.inputs) for flow in flows(works)[:3]] == [((), (0,)), ((0,), (0,)), ((1,), ())]


def test_a_place_that_several_steps_fill_comes_from_all_of_them() -> None:
    slot, other = Slot(8), Slot(4)

    class Step:
        def __init__(self, reads: tuple[object, ...], writes: tuple[object, ...]) -> None:
            self.reads, self.writes = reads, writes

    steps: Any = [Step((), (slot,)), Step((), (slot, other)), Step((slot,), ()), Step((other,), ())]
    assert [flow.steps for flow in flows(steps)] == [(), (), (0, 1), (1,)]
