"""From groups to kernel calls: values are delivered in every form that is asked for, converted where needed."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qcompiler.errors import InternalError, UnsupportedModel
from qcompiler.ir.view import constant_of
from qcompiler.lowering import standard
from qcompiler.lowering.call import scheduled
from qcompiler.lowering.code_moves import problem_of_move
from qcompiler.lowering.epilogue_builder import EpilogueBuilder
from qcompiler.lowering.forms import Form, Read, natural
from qcompiler.lowering.plan import Demands, Plan, source_of
from qcompiler.lowering.problem_builder import problem_of
from qcompiler.lowering.regions import region_calls
from qcompiler.lowering.transfers import with_transfers
from qcompiler.lowering.values import Values
from qcompiler.lowering.work import External, GenericWork, KernelWork, Slot, Stored, Work
from qcompiler.targets.target import Constants, Platform


def deliver(graph: ir.Graph, plans: Sequence[Plan], demands: Demands, platform: Platform) -> list[Work]:
    """Every kernel call of the network, in order, and copies where the platform has memory of its own.

    platform: what schedules standard operators.
    """
    works = _Builder(graph, plans, demands, platform).run()
    return with_transfers(works) if platform.own_memory else works


class _Builder:
    def __init__(self, graph: ir.Graph, plans: Sequence[Plan], demands: Demands, platform: Platform) -> None:
        self.outputs = list(graph.outputs)
        self.platform = platform
        self.works: list[Work] = []
        self.plans = plans
        self.values = Values(demands, graph.inputs, self.outputs, self.works)

    def run(self) -> list[Work]:
        for planned in self.plans:
            if planned.group.kind == "alias":
                self._alias(planned)
            elif planned.group.kind == "generic":
                self._generic(planned)
            elif planned.group.kind == "move":
                self._move(planned)
            elif planned.stores:
                self._kernel(planned)
        self._copy_outputs()
        return self.works

    def _alias(self, planned: Plan) -> None:
        node = planned.group.anchor
        if constant_of(source_of(node)) is not None:
            raise UnsupportedModel("a constant is left where run-time data is expected", node=node.name or "")
        (out,) = planned.stores
        for read, form in zip(planned.reads, planned.stores[out], strict=True):
            self.values.add(Stored(out, form, self.values.deliver(read).location))

    def _copy_outputs(self) -> None:
        """Outputs that are inputs, or that share their memory with another output, need a copy."""
        for position, value in enumerate(self.outputs):
            wanted = External("output", position)
            if wanted in self.values.places(value):
                continue
            source = self.values.deliver(Read(value, natural(value), exact=True))
            if source.location == wanted:
                continue
            copy = scheduled(standard.copied(value), self.platform)
            copied = Stored(value, source.form, wanted)
            self.works.append(GenericWork(copy, (source,), (copied,), (), (), copy.ops))

    def _generic(self, planned: Plan) -> None:
        group = planned.group
        by_name: dict[str, Stored | Slot] = {read.value.name or "": self.values.deliver(read) for read in planned.reads}
        outputs = {value.name or "": (value, form) for value, (form,) in planned.stores.items()}
        for call in region_calls(group.nodes, self.platform):
            for name, nbytes in zip(call.outputs, call.output_bytes, strict=True):
                by_name[name] = self.values.make(*outputs[name]) if name in outputs else Slot(nbytes)
            reads = tuple(by_name[item] if isinstance(item, str) else item for item in call.inputs)
            writes = tuple(by_name[name] for name in call.outputs)
            temporaries = tuple(Slot(nbytes) for nbytes in call.temporaries)
            self.works.append(GenericWork(call, reads, writes, temporaries, call.nodes, call.ops))
        for name, (value, _) in outputs.items():
            if name not in by_name:
                producer = value.producer()
                raise InternalError(f"no code computes '{name}'", node=(producer and producer.name) or "")

    def _move(self, planned: Plan) -> None:
        """A kernel for every result."""
        read = {each.value: self._read(each) for each in planned.reads}
        for value, (form,) in planned.stores.items():
            moved = planned.group.moved[value]
            sources = [read[source] for source in moved.sources]
            problem = problem_of_move(moved, [source.form for source in sources], form)
            if problem is None:
                raise InternalError(f"'{value.name}' does not move as planned")
            made = self.values.make(value, form)
            self.works.append(
                KernelWork(problem, Constants(), tuple(sources), (made,), tuple(planned.group.nodes), "Move")
            )

    def _kernel(self, planned: Plan) -> None:
        group = planned.group
        main, *others = (self._read(read) for read in planned.reads)
        second, tensors = others[: group.kind == "product"], others[group.kind == "product" :]
        epilogue = EpilogueBuilder(self.values, planned, tensors)
        assert main.form.buffer is not None
        problem, constants = problem_of(group, main.form.buffer, epilogue, *(each.form.buffer for each in second))
        op = group.anchor.op_type if group.kind != "map" else "Map"
        reads, writes = (main, *others), tuple(epilogue.writes)
        self.works.append(KernelWork(problem, constants, reads, writes, tuple(group.nodes), op))

    def _read(self, read: Read) -> Stored:
        """A value as a kernel reads it: its own view of the same bytes, or a wider halo in that view."""
        got = self.values.deliver(read)
        return Stored(read.value, seen(got.form, read.form), got.location)


def seen(got: Form, asked: Form) -> Form:
    """The form in which a kernel that asked for one form reads another that serves it."""
    if got.layout == asked.layout:
        return asked
    if got.matrix != asked.matrix:
        raise InternalError(f"a kernel that reads {asked.buffer} is given {got.buffer}")
    return got
