"""Where every graph value is stored, in which forms, and the conversions between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from qcompiler.errors import InternalError
from qcompiler.ir.storage import Buffer
from qcompiler.lowering.forms import Form, Read, natural, natural_view, pixel_by_pixel, serves
from qcompiler.lowering.group import is_alias
from qcompiler.lowering.plan import source_of
from qcompiler.lowering.work import External, KernelWork, Location, Slot, Stored, Work
from qcompiler.targets.problem import Map2d, Operation, OperationName
from qcompiler.targets.target import Constants


class Values:
    """The stored forms of all values; a form that no producer made is converted by a work appended to `works`.

    demands: every form in which a value is read somewhere, halos merged.
    """

    def __init__(
        self,
        demands: Mapping[ir.Value, Sequence[Form]],
        inputs: Iterable[ir.Value],
        outputs: Sequence[ir.Value],
        works: list[Work],
    ) -> None:
        self._demands = demands
        self._works = works
        self._stored: dict[ir.Value, list[Stored]] = {}
        self._final: dict[ir.Value, int] = {}
        for position, value in enumerate(inputs):
            self.add(Stored(value, natural(value), External("input", position)))
        for position, value in enumerate(outputs):
            self._final.setdefault(_root(value), position)

    def places(self, value: ir.Value) -> list[Location]:
        """Every place where the value is stored in some form."""
        return [stored.location for stored in self._stored.get(value, [])]

    def add(self, stored: Stored) -> None:
        """Record a form that is there now."""
        self._stored.setdefault(stored.value, []).append(stored)

    def make(self, value: ir.Value, form: Form) -> Stored:
        """A place for a form that the next work writes: the caller's output if it is that, else a slot."""
        stored = Stored(value, form, self._place(value, form))
        self.add(stored)
        return stored

    def _place(self, value: ir.Value, form: Form) -> Location:
        position = self._final.get(value)
        if position is None or not form.is_natural or any(isinstance(place, External) for place in self.places(value)):
            return Slot(form.nbytes)
        return External("output", position)

    def deliver(self, read: Read) -> Stored:
        """The value in a form that serves the read, converted if no producer made it."""
        return self._find(read) or self._convert(read)

    def _find(self, read: Read) -> Stored | None:
        return next((item for item in self._stored.get(read.value, []) if serves(item.form, read)), None)

    def _convert(self, read: Read) -> Stored:
        value = read.value
        target = next((form for form in self._demands.get(value, []) if serves(form, read)), read.form)
        source = self._source(value, target)
        into = natural_view(value, source.form.matrix) if target.is_natural else target
        operation = Operation(store_op(into), into=_buffer(into))
        made = self.make(value, into)
        self._works.append(
            KernelWork(Map2d(_buffer(source.form), (operation,)), Constants(), (source,), (made,), (), "layout")
        )
        return made

    def _source(self, value: ir.Value, target: Form) -> Stored:
        """A stored form to convert from: the smallest in the target's view, else the natural form seen in that view.

        Bit planes by pixels are made of bit planes, and nothing is made of them.
        """
        if pixel_by_pixel(target) != target:
            return self.deliver(Read(value, pixel_by_pixel(target)))
        options = [item for item in self._stored.get(value, []) if _is_source(item.form)]
        same_view = [item for item in options if item.form.matrix == target.matrix or target.is_natural]
        if same_view:
            return min(same_view, key=lambda item: item.form.nbytes)
        if not options or target.is_natural:
            raise InternalError(f"value '{value.name}' has no stored form to convert from")
        dense = self.deliver(Read(value, natural(value), exact=True))
        return Stored(value, natural_view(value, target.matrix), dense.location)


def _is_source(form: Form) -> bool:
    return form.buffer is not None and not form.buffer.by_pixels


def store_op(form: Form) -> OperationName:
    """The operation that stores a value in a form; codes of -1 and +1 are signs."""
    codes = _buffer(form).codes
    if codes is None:
        return "store"
    return "store_bits" if codes.binary else "store_codes"


def _root(value: ir.Value) -> ir.Value:
    """The value whose memory an output shares, seen through aliases."""
    producer = value.producer()
    while producer is not None and is_alias(producer):
        value = source_of(producer)
        producer = value.producer()
    return value


def _buffer(form: Form) -> Buffer:
    assert form.buffer is not None
    return form.buffer
