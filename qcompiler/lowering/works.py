"""From groups to kernel calls: values are delivered in every form that is asked for, converted where needed."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.view import constant_of
from qcompiler.lowering import demands as want
from qcompiler.lowering.epilogue import Epilogue, viewed
from qcompiler.lowering.forms import natural
from qcompiler.lowering.groups import Group
from qcompiler.lowering.problems import problem_of
from qcompiler.lowering.regions import region_calls
from qcompiler.lowering.values import Values
from qcompiler.lowering.work import External, GenericWork, KernelWork, Location, Slot, Stored, Work
from qcompiler.targets.problem import Map2d, Step
from qcompiler.targets.target import Constants


def build(graph: ir.Graph, groups: Sequence[Group]) -> list[Work]:
    """Every kernel call of the network, in order."""
    return _Builder(graph, groups).run()


class _Builder:
    def __init__(self, graph: ir.Graph, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.inputs = set(graph.inputs)
        self.outputs = list(graph.outputs)
        self.works: list[Work] = []
        demands = want.collect(groups, graph.outputs, graph.inputs)
        self.values = Values(demands, graph.inputs, self.outputs, self.works)

    def run(self) -> list[Work]:
        for group in self.groups:
            if group.kind == "alias":
                self._alias(group.anchor)
            elif group.kind == "generic":
                self._generic(group)
            else:
                self._kernel(group)
        self._copy_outputs()
        return self.works

    def _alias(self, node: ir.Node) -> None:
        source, out = want.source_of(node), node.outputs[0]
        if constant_of(source) is not None:
            raise UnsupportedModel("a constant is left where run-time data is expected", node=node.name or "")
        for form in self.values.demands.get(out, []):
            inner = want.through_alias(out, source, form)
            _, place = self.values.deliver(source, inner)
            self.values.add(out, form if form.is_bit == inner.is_bit else natural(out), place)

    def _copy_outputs(self) -> None:
        """Outputs that are inputs, or that share their memory with another output, need a copy."""
        for position, value in enumerate(self.outputs):
            wanted = External("output", position)
            if wanted in self.values.places(value):
                continue
            form, place = self.values.deliver(value, natural(value))
            if place == wanted:
                continue
            if form.buffer is None:
                raise UnsupportedModel(
                    f"output '{value.name}' is a copy of an input or of another output with element type {value.dtype}",
                    remedy="remove the output from the model",
                )
            problem = Map2d(form.buffer, (Step("store", into=form.buffer),))
            stored = Stored(value, form, wanted)
            self.works.append(KernelWork(problem, Constants(), (place,), (wanted,), (stored,), (), "copy"))

    def _generic(self, group: Group) -> None:
        by_name: dict[str, Location] = {}
        for value in group.inputs:
            by_name[value.name or ""] = self.values.deliver(value, want.generic_form(group, value))[1]
        outputs = {value.name: value for node in group.nodes for value in node.outputs}
        for call in region_calls(group.nodes):
            writes: list[Location] = []
            stored: list[Stored] = []
            for name, nbytes in zip(call.outputs, call.output_bytes, strict=True):
                if name in outputs:
                    value = outputs[name]
                    form = want.generic_form(group, value)
                    place = self.values.place(value, form)
                    stored.append(self.values.keep(value, form, place))
                else:
                    place = Slot(nbytes)
                by_name[name] = place
                writes.append(place)
            reads = tuple(by_name[item] if isinstance(item, str) else item for item in call.inputs)
            temporaries = tuple(Slot(nbytes) for nbytes in call.temporaries)
            self.works.append(GenericWork(call, reads, tuple(writes), temporaries, tuple(stored), call.nodes, call.ops))

    def _kernel(self, group: Group) -> None:
        matrix = want.is_matrix(group)
        value, form = want.main_read(group, matrix, self.inputs)
        got, place = self.values.deliver(value, form)
        reads: list[Location] = [place]
        epilogue = Epilogue(self.values, self.inputs, group, matrix)
        epilogue.run(reads)
        buffer = viewed(got, form)
        problem, constants = problem_of(group, buffer, epilogue)
        self.works.append(
            KernelWork(
                problem,
                constants,
                tuple(reads),
                tuple(epilogue.writes),
                tuple(epilogue.stored),
                tuple(group.nodes),
                group.anchor.op_type if group.kind != "map" else "Map",
            )
        )
