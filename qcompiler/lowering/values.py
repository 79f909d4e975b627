"""Where every graph value is stored, in which forms, and the conversions between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.lowering import demands as want
from qcompiler.lowering.forms import Form, is_natural, natural, satisfies
from qcompiler.lowering.groups import ALIASES
from qcompiler.lowering.work import External, KernelWork, Location, Slot, Stored, Work
from qcompiler.targets.problem import Buffer, Map2d, Step
from qcompiler.targets.target import Constants


class Values:
    """The stored forms of all values; a form that no producer made is converted by a work appended to `works`."""

    def __init__(
        self, demands: want.Demands, inputs: Iterable[ir.Value], outputs: Sequence[ir.Value], works: list[Work]
    ) -> None:
        self.demands = demands
        self.works = works
        self._stored: dict[ir.Value, list[tuple[Form, Location]]] = {}
        self._final: dict[ir.Value, int] = {}
        for position, value in enumerate(inputs):
            self._stored[value] = [(natural(value), External("input", position))]
        for position, value in enumerate(outputs):
            self._final.setdefault(_root(value), position)

    def places(self, value: ir.Value) -> list[Location]:
        """Every place where the value is stored in some form."""
        return [place for _, place in self._stored.get(value, [])]

    def add(self, value: ir.Value, form: Form, location: Location) -> None:
        """Another name for bytes that are there already."""
        self._stored.setdefault(value, []).append((form, location))

    def place(self, value: ir.Value, form: Form) -> Location:
        """Where a newly made form goes: the caller's output if it is that, else a slot of the workspace."""
        if is_natural(form):
            position = self._final.get(value)
            taken = any(isinstance(place, External) for _, place in self._stored.get(value, []))
            if position is not None and not taken:
                return External("output", position)
        return Slot(form.nbytes)

    def keep(self, value: ir.Value, form: Form, location: Location) -> Stored:
        """Record a newly made form."""
        self.add(value, form, location)
        return Stored(value, form, location)

    def _find(self, value: ir.Value, form: Form) -> tuple[Form, Location] | None:
        return next(((f, place) for f, place in self._stored.get(value, []) if satisfies(f, form)), None)

    def deliver(self, value: ir.Value, form: Form) -> tuple[Form, Location]:
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
        place = self.place(value, merged)
        step = Step("store_bits" if target.dtype == "bit" else "store", into=target)
        problem = Map2d(_buffer(source[0]), (step,))
        stored = self.keep(value, merged, place)
        self.works.append(KernelWork(problem, Constants(), (source[1],), (place,), (stored,), (), "layout"))
        return merged, place

    def _conversion_source(self, value: ir.Value, form: Form) -> tuple[Form, Location]:
        """A stored form to convert from: packed before float, the same view, else through the natural form."""
        options = [item for item in self._stored.get(value, []) if item[0].buffer is not None]
        same_view = [item for item in options if item[0].matrix == form.matrix or is_natural(form)]
        same_view.sort(key=lambda item: item[0].nbytes)
        if same_view:
            return same_view[0]
        for stored, place in options:
            if is_natural(stored):
                return want.natural_view(value, form.matrix), place
        if not options or is_natural(form):
            raise UnsupportedModel(f"value '{value.name}' cannot be converted to a layout that its consumer reads")
        _, place = self.deliver(value, natural(value))
        return want.natural_view(value, form.matrix), place


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
