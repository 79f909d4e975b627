"""From groups to kernel calls: values are delivered in every form that is asked for, converted where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.ir import ops
from qcompiler.ir.view import constant_of, integer, number, shape_of, window_of
from qcompiler.lowering import demands as want
from qcompiler.lowering.forms import Form, is_natural, natural, of_buffer, satisfies
from qcompiler.lowering.groups import ALIASES, Group, Link
from qcompiler.lowering.regions import region_calls
from qcompiler.lowering.work import External, GenericWork, KernelWork, Location, Slot, Stored, Work
from qcompiler.targets.problem import (
    Buffer,
    Channel,
    Conv2d,
    Map2d,
    Operand,
    Pool2d,
    PoolKind,
    Problem,
    Scalar,
    Step,
    StepOp,
    Tensor,
)
from qcompiler.targets.target import Constants


def build(graph: ir.Graph, groups: Sequence[Group]) -> list[Work]:
    """Every kernel call of the network, in order."""
    return _Builder(graph, groups).run()


class _Builder:
    def __init__(self, graph: ir.Graph, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.inputs = set(graph.inputs)
        self.demands = want.collect(groups, graph.outputs, graph.inputs)
        self.works: list[Work] = []
        self.stored: dict[ir.Value, list[tuple[Form, Location]]] = {}
        self.final: dict[ir.Value, int] = {}
        self.outputs = list(graph.outputs)
        for position, value in enumerate(graph.inputs):
            self.stored[value] = [(natural(value), External("input", position))]
        for position, value in enumerate(self.outputs):
            self.final.setdefault(_root(value), position)

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

    # --- memory ---------------------------------------------------------------------------------------------------

    def _place(self, value: ir.Value, form: Form) -> Location:
        """Where a newly made form goes: the caller's output if it is that, else a slot of the workspace."""
        if is_natural(form):
            position = self.final.get(value)
            taken = any(isinstance(place, External) for _, place in self.stored.get(value, []))
            if position is not None and not taken:
                return External("output", position)
        return Slot(form.nbytes)

    def _keep(self, value: ir.Value, form: Form, location: Location) -> Stored:
        self.stored.setdefault(value, []).append((form, location))
        return Stored(value, form, location)

    def _find(self, value: ir.Value, form: Form) -> tuple[Form, Location] | None:
        return next(((f, place) for f, place in self.stored.get(value, []) if satisfies(f, form)), None)

    def _deliver(self, value: ir.Value, form: Form) -> tuple[Form, Location]:
        """The value in a form that satisfies `form`, converted if no producer made it."""
        found = self._find(value, form)
        if found is not None:
            return found
        source = self._conversion_source(value, form)
        merged = next((f for f in self.demands.get(value, []) if satisfies(f, form)), form)
        assert merged.buffer is not None
        target = merged.buffer
        if is_natural(merged):
            target = want.natural_view(value, source[0].matrix).buffer or target
        place = self._place(value, merged)
        step = Step("store_bits" if target.dtype == "bit" else "store", into=target)
        problem = Map2d(_buffer(source[0]), (step,))
        stored = self._keep(value, merged, place)
        self.works.append(KernelWork(problem, Constants(), (source[1],), (place,), (stored,), (), "layout"))
        return merged, place

    def _conversion_source(self, value: ir.Value, form: Form) -> tuple[Form, Location]:
        """A stored form to convert from: packed before float, the same view, else through the natural form."""
        options = [item for item in self.stored.get(value, []) if item[0].buffer is not None]
        same_view = [item for item in options if item[0].matrix == form.matrix or is_natural(form)]
        same_view.sort(key=lambda item: item[0].nbytes)
        if same_view:
            return same_view[0]
        for stored, place in options:
            if is_natural(stored):
                return want.natural_view(value, form.matrix), place
        if not options or is_natural(form):
            raise UnsupportedModel(f"value '{value.name}' cannot be converted to a layout that its consumer reads")
        _, place = self._deliver(value, natural(value))
        return want.natural_view(value, form.matrix), place

    def _alias(self, node: ir.Node) -> None:
        source, out = want.source_of(node), node.outputs[0]
        if constant_of(source) is not None:
            raise UnsupportedModel("a constant is left where run-time data is expected", node=node.name or "")
        for form in self.demands.get(out, []):
            inner = want.through_alias(out, source, form)
            _, place = self._deliver(source, inner)
            self.stored.setdefault(out, []).append((form if form.is_bit == inner.is_bit else natural(out), place))

    def _copy_outputs(self) -> None:
        """Outputs that are inputs, or that share their memory with another output, need a copy."""
        for position, value in enumerate(self.outputs):
            wanted = External("output", position)
            if any(place == wanted for _, place in self.stored[value]):
                continue
            form, place = self._deliver(value, natural(value))
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

    # --- generic --------------------------------------------------------------------------------------------------

    def _generic(self, group: Group) -> None:
        by_name: dict[str, Location] = {}
        for value in group.inputs:
            by_name[value.name or ""] = self._deliver(value, want.generic_form(group, value))[1]
        outputs = {value.name: value for node in group.nodes for value in node.outputs}
        for call in region_calls(group.nodes):
            writes: list[Location] = []
            stored: list[Stored] = []
            for name, nbytes in zip(call.outputs, call.output_bytes, strict=True):
                if name in outputs:
                    value = outputs[name]
                    form = want.generic_form(group, value)
                    place = self._place(value, form)
                    stored.append(self._keep(value, form, place))
                else:
                    place = Slot(nbytes)
                by_name[name] = place
                writes.append(place)
            reads = tuple(by_name[item] if isinstance(item, str) else item for item in call.inputs)
            temporaries = tuple(Slot(nbytes) for nbytes in call.temporaries)
            self.works.append(
                GenericWork(call, reads, tuple(writes), temporaries, tuple(stored), tuple(group.nodes), call.ops)
            )

    # --- kernels --------------------------------------------------------------------------------------------------

    def _kernel(self, group: Group) -> None:
        matrix = want.is_matrix(group)
        value, form = want.main_read(group, matrix, self.inputs)
        got, place = self._deliver(value, form)
        reads: list[Location] = [place]
        epilogue = _Epilogue(self, group, matrix)
        epilogue.run(reads)
        buffer = _viewed(got, form)
        problem, constants = _problem(group, buffer, epilogue)
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


class _Epilogue:
    """Steps, constants, run-time operands and stores of one group."""

    def __init__(self, builder: _Builder, group: Group, matrix: bool) -> None:
        self.builder = builder
        self.group = group
        self.matrix = matrix
        self.steps: list[Step] = []
        self.channels: list[npt.NDArray[np.float32]] = []
        self.threshold: npt.NDArray[np.float32] | None = None
        self.direction: npt.NDArray[np.float32] | None = None
        self.writes: list[Location] = []
        self.stored: list[Stored] = []

    def run(self, reads: list[Location]) -> None:
        start = self.group.start
        assert start is not None
        if self.group.kind != "map":
            if self.group.anchor.op_type == "BinaryMaxPool":
                self._store(start, bits=True, limit=1)
            else:
                self._store(start, bits=False)
        for link in self.group.links:
            self._link(link, reads)

    def _link(self, link: Link, reads: list[Location]) -> None:
        if link.sign == "threshold":
            self._threshold(link)
            return
        if link.sign:
            self._store(link.value, bits=True, zero_is_positive=link.zero_is_positive)
            return
        for operation in link.operations:
            operand: Operand | None = None
            if isinstance(operation.operand, ir.Value):
                form = want.tensor_form(operation.operand, self.matrix, self.builder.inputs)
                got, place = self.builder._deliver(operation.operand, form)
                operand = Tensor(_viewed(got, form))
                reads.append(place)
            elif operation.operand is not None and operation.operand.ndim == 0:
                operand = Scalar(float(operation.operand))
            elif operation.operand is not None:
                operand = Channel()
                self.channels.append(operation.operand)
            self.steps.append(Step(operation.op, operand))
        self._store(link.value, bits=False)

    def _threshold(self, link: Link) -> None:
        threshold, direction = (constant_of(value) for value in link.node.inputs[1:])
        assert threshold is not None and direction is not None
        if self.group.anchor.domain == ops.DOMAIN and self.group.kind == "conv":
            channels = _out_channels(self.group)
            self.threshold = np.broadcast_to(threshold.reshape(-1), (channels,)).astype(np.float32)
            self.direction = np.broadcast_to(direction.reshape(-1), (channels,)).astype(np.float32)
            self._store(link.value, bits=True, op="threshold", limit=1)
            return
        start = self.group.start
        assert start is not None
        channels = want.view_buffer(start, self.matrix).c
        # integers of magnitude below 2**24 are exact in float32
        for op, constant in (("sub", threshold), ("mul", direction)):
            self.channels.append(np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float32))
            self.steps.append(Step(op, Channel()))  # type: ignore[arg-type]
        self._store(link.value, bits=True)

    def _store(
        self,
        value: ir.Value,
        *,
        bits: bool,
        zero_is_positive: bool = True,
        op: StepOp | None = None,
        limit: int | None = None,
    ) -> None:
        for form in self._forms(value, bits)[:limit]:
            viewed = want.as_view(form, value, self.matrix)
            assert viewed is not None and viewed.buffer is not None
            place = self.builder._place(value, form)
            self.writes.append(place)
            self.stored.append(self.builder._keep(value, form, place))
            store: StepOp = "store_bits" if bits else "store"
            self.steps.append(Step(op or store, into=viewed.buffer, zero_is_positive=zero_is_positive))

    def _forms(self, value: ir.Value, bits: bool) -> list[Form]:
        """The demanded forms that this kernel can write itself; one plain form where only others are wanted."""
        demanded = self.builder.demands.get(value, [])
        if not demanded:
            return []
        own = [form for form in demanded if form.is_bit == bits and want.as_view(form, value, self.matrix) is not None]
        if not own:
            plain = want.view_buffer(value, self.matrix)
            own = [of_buffer(replace(plain, dtype="bit") if bits else plain, matrix=self.matrix)]
        return own


def _root(value: ir.Value) -> ir.Value:
    """The value whose memory an output shares, seen through aliases."""
    producer = value.producer()
    while producer is not None and producer.domain == "" and producer.op_type in ALIASES:
        value = want.source_of(producer)
        producer = value.producer()
    return value


def _buffer(form: Form) -> Buffer:
    assert form.buffer is not None
    return form.buffer


def _viewed(got: Form, asked: Form) -> Buffer:
    """The buffer in which a kernel reads what was delivered: its own view of the same bytes."""
    assert got.buffer is not None and asked.buffer is not None
    return got.buffer if got.matrix == asked.matrix and got.buffer.order == asked.buffer.order else asked.buffer


def _out_channels(group: Group) -> int:
    weight = constant_of(group.anchor.inputs[1])
    if weight is None:
        raise UnsupportedModel(
            "convolution weights are computed at run time",
            node=group.anchor.name or "",
            remedy="make them an initializer of the model",
        )
    return int(weight.shape[1] if group.anchor.op_type in ("MatMul", "BinaryMatMul") else weight.shape[0])


def _problem(group: Group, x: Buffer, epilogue: _Epilogue) -> tuple[Problem, Constants]:
    steps = tuple(epilogue.steps)
    if group.kind == "map":
        return Map2d(x, steps), Constants(channels=tuple(epilogue.channels))
    if group.kind == "pool":
        return _pool(group, x, epilogue)
    node = group.anchor
    channels = _out_channels(group)
    weight = constant_of(node.inputs[1])
    assert weight is not None
    constants = Constants(None, epilogue.threshold, epilogue.direction, tuple(epilogue.channels))
    if node.op_type in ("MatMul", "BinaryMatMul"):
        oihw = np.ascontiguousarray(weight.T).reshape(channels, -1, 1, 1)
        return Conv2d(x, channels, (1, 1), epilogue=steps), replace(constants, weights=oihw)
    window = window_of(node, weight.shape[2:])
    problem = Conv2d(
        x,
        channels,
        window.kernel,
        window.strides,
        window.pads,
        window.dilations,
        integer(node, "group", 1),
        number(node, "pad_value", 0.0),
        steps,
    )
    return problem, replace(constants, weights=weight.astype(np.float32))


def _pool(group: Group, x: Buffer, epilogue: _Epilogue) -> tuple[Problem, Constants]:
    node = group.anchor
    kernel = tuple(node.attributes["kernel_shape"].as_ints())
    window = window_of(node, kernel)
    height, width = shape_of(node.outputs[0])[2:]
    if node.domain == ops.DOMAIN:
        flip = constant_of(node.inputs[1])
        assert flip is not None
        (into,) = (step.into for step in epilogue.steps)
        problem = Pool2d(
            x, "bits", window.kernel, window.strides, window.pads, (height, width), window.dilations, into=into
        )
        return problem, Constants(flip=np.broadcast_to(flip.reshape(-1), (x.c,)).astype(np.float32))
    kind: PoolKind = "max"
    if node.op_type == "AveragePool":
        kind = "average_include_pad" if integer(node, "count_include_pad", 0) else "average"
    steps = tuple(epilogue.steps)
    problem = Pool2d(x, kind, window.kernel, window.strides, window.pads, (height, width), window.dilations, steps)
    return problem, Constants(channels=tuple(epilogue.channels))
