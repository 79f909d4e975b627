"""What every group reads and stores, in which forms: decided once, backwards through the graph.

Consumers ask for forms, so when a group is planned, all that is asked of its results is known. The plan is all that
delivery, problems and checks (values.py, delivery.py, check.py) go by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.analysis.weights import WIDEST
from qcompiler.errors import InternalError, UnsupportedModel
from qcompiler.ir import ops
from qcompiler.ir.axis_order import is_marked
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Packing
from qcompiler.ir.view import constant_of, dtype_of, is_quantized_op, shape_of
from qcompiler.lowering.code_moves import can_write, stored
from qcompiler.lowering.code_source import is_storable
from qcompiler.lowering.forms import (
    Form,
    Read,
    as_view,
    merge,
    natural,
    natural_view,
    packed,
    pixel_by_pixel,
    plain,
    serves,
)
from qcompiler.lowering.forms import through_alias as through
from qcompiler.lowering.group import Group
from qcompiler.lowering.links import Link

Demands = dict[ir.Value, list[Form]]

_FEW_CHANNELS = 16
"""From which on a vector is full of the channels of a pixel."""


class Storage(Protocol):
    """How the kernels of all variants of a bundle, which share their buffers, read and write."""

    def operand(self, node: ir.Node, floats: Form, codes: Codes | None) -> Form:
        """The form in which a layer reads its main operand.

        floats: the operand channels-last, or in planes, as the caller of the network gives it, without halo. codes:
        what it holds, for a layer on codes.
        """
        ...

    def writes(self, kind: str, form: Form) -> bool:
        """Whether kernels of a group's kind write a form themselves."""
        ...

    @property
    def code_packing(self) -> Packing:
        """How codes lie that no layer reads."""
        ...


@dataclass(frozen=True)
class Plan:
    """The forms of one group.

    reads: the main operand of a kernel first, then run-time operands in the order of the epilogue; for an alias the
    renamed value once per form. stores: the forms that the group itself writes of each value, in the group's view; for
    an alias one form per read, of the same bytes. A kernel whose results nobody asks for reads and stores nothing.
    """

    group: Group
    reads: tuple[Read, ...]
    stores: Mapping[ir.Value, tuple[Form, ...]]

    @property
    def links(self) -> list[Link]:
        """The chain of a kernel as far as anything is stored."""
        return _used(self.group, self.stores)


def _used(group: Group, stores: Mapping[ir.Value, tuple[Form, ...]]) -> list[Link]:
    """The chain up to its last stored value."""
    last = max((i for i, link in enumerate(group.links, 1) if link.value in stores), default=0)
    return group.links[:last]


def plan(
    groups: Sequence[Group], inputs: Iterable[ir.Value], outputs: Iterable[ir.Value], storage: Storage
) -> tuple[list[Plan], Demands]:
    """The plan of every group, in their order, and the merged forms that are asked for of every value."""
    return _Planner(groups, set(inputs), storage).run(outputs)


class _Planner:
    def __init__(self, groups: Sequence[Group], inputs: set[ir.Value], storage: Storage) -> None:
        self.groups = groups
        self.storage = storage
        self.ranges = IntegerRanges()
        self.inputs = inputs
        self.dense = {*inputs, *(value for group in groups if _writes_dense(group) for value in group.outputs)}
        self.floats = {*self.dense, *(v for group in groups if group.kind == "generic" for v in group.outputs)}
        planar = (value for group in groups if _keeps_planes(group, inputs) for value in group.outputs)
        self.planes = {*inputs, *planar}
        self.rows = {value for group in groups if _writes_rows(group) for value, _ in group.results}
        self.wanted: dict[ir.Value, list[Read]] = {}

    def run(self, outputs: Iterable[ir.Value]) -> tuple[list[Plan], Demands]:
        for value in outputs:
            self._want(Read(value, natural(value), exact=True))
        plans = []
        for group in reversed(self.groups):
            made = self._plan(group)
            for read in made.reads:
                self._want(read)
            plans.append(made)
        return plans[::-1], {value: merge(reads) for value, reads in self.wanted.items()}

    def _want(self, read: Read) -> None:
        self.wanted.setdefault(read.value, []).append(read)

    def _asked(self, value: ir.Value) -> list[Form]:
        return merge(self.wanted.get(value, []))

    def _plan(self, group: Group) -> Plan:
        if group.kind == "alias":
            return self._alias(group)
        if group.kind == "generic":
            reads = tuple(Read(value, _generic_form(group, value), exact=True) for value in group.inputs)
            return Plan(group, reads, {value: (_generic_form(group, value),) for value in group.outputs})
        if group.kind == "move":
            return self._move(group)
        stores = self._stores(group)
        if not stores:
            return Plan(group, (), {})
        second = [self._second(group)] if group.kind == "product" else []
        return Plan(group, (self._main(group, stores), *second, *self._operands(group, stores)), stores)

    def _move(self, group: Group) -> Plan:
        """Bytes in one group, on both sides."""
        stores = {result: (self._bytes_asked(group, result),) for result in group.outputs if self._asked(result)}
        sources = dict.fromkeys(value for result in stores for value in group.moved[result].sources)
        reads = (Read(value, stored(value, self.ranges, rows=value in self.rows)) for value in sources)
        return Plan(group, tuple(reads), stores)

    def _bytes_asked(self, group: Group, value: ir.Value) -> Form:
        """The first form asked for that differs from what moves write in its border at most."""
        usual = stored(value, self.ranges)
        for asked in self._asked(value):
            form = stored(value, self.ranges, rows=asked.matrix)
            if serves(asked, Read(value, form)) and can_write(group.moved[value], form, self.ranges):
                return asked
        return usual

    def _alias(self, group: Group) -> Plan:
        """Forms of the alias that are forms of its source too; others are made from the natural one."""
        source, out = source_of(group.anchor), group.anchor.outputs[0]
        pairs: dict[Form, Form] = {}
        for form in self._asked(out):
            inner = through(form, source)
            if inner is None:
                pairs[natural(source)] = natural(out)
            else:
                pairs[inner] = form
        return Plan(group, tuple(Read(source, inner, exact=True) for inner in pairs), {out: tuple(pairs.values())})

    def _stores(self, group: Group) -> dict[ir.Value, tuple[Form, ...]]:
        """What a kernel writes of its results: every form in its view, packed codes in one grouping."""
        groups = self._grouping(group)
        result: dict[ir.Value, tuple[Form, ...]] = {}
        for value, signs in group.results:
            asked = self._asked(value)
            if not asked:
                continue
            own = [form for form in self._writable(group, value, signs) if form.packed_groups in (None, groups)]
            limit = 1 if group.writes_once(value) else len(own)
            result[value] = tuple(own[:limit]) or (self._usual(group, value, signs, groups),)
        return result

    def _writable(self, group: Group, value: ir.Value, signs: bool) -> list[Form]:
        """The forms asked for that the kernel can write; signs: it knows the codes of the value alone."""
        seen = [as_view(form, value, group.is_matrix) for form in self._asked(value)]
        own = [pixel_by_pixel(form) for form in seen if form and form.buffer and (form.is_packed or not signs)]
        return [form for form in dict.fromkeys(own) if self.storage.writes(group.kind, form)]

    def _grouping(self, group: Group) -> int:
        """The grouping of channels in which the kernel packs, the first that is asked for."""
        forms = [form for value, signs in group.results for form in self._writable(group, value, signs)]
        return next((form.packed_groups for form in forms if form.packed_groups is not None), 1)

    def _usual(self, group: Group, value: ir.Value, signs: bool, groups: int) -> Form:
        """The form to convert from where nobody asks for one that the kernel can write."""
        if not signs:
            return plain(value, group.is_matrix)
        return packed(value, group.is_matrix, self._codes(value), groups, self.storage.code_packing)

    def _codes(self, value: ir.Value) -> Codes:
        codes = self.ranges.codes(value)
        if codes is None or codes.bits > WIDEST:
            raise InternalError(f"value '{value.name}' is stored as codes, but holds {codes}")
        return codes

    def _main(self, group: Group, stores: Mapping[ir.Value, tuple[Form, ...]]) -> Read:
        """The main operand of a kernel and the form it is read in."""
        node, matrix = group.anchor, group.is_matrix
        if group.kind == "map":
            assert group.start is not None
            value = group.start if group.source is None else group.source.value
            if self._on_codes(value):
                return self._codes_read(value, matrix)
            return Read(value, natural_view(value, matrix) if value in self.dense else plain(value, matrix))
        value = node.inputs[0]
        if group.kind == "product":
            return Read(value, packed(value, matrix, self._codes(value), packing="bytes"))
        if group.kind == "pool":
            if node.domain != ops.DOMAIN:
                value = value if group.source is None else group.source.value
                return self._codes_read(value, matrix) if self._on_codes(value) else Read(value, plain(value, matrix))
            codes = self._codes(value)
            (written,) = stores.get(node.outputs[0]) or (packed(node.outputs[0], False, codes),)
            assert written.buffer is not None
            return Read(value, packed(value, matrix, codes, written.buffer.groups, written.buffer.packing))
        floats = natural(value) if value in self.planes and not matrix else plain(value, matrix)
        known = self._codes(value) if is_quantized_op(node, *ops.INTEGER_LAYERS) else None
        return Read(value, self.storage.operand(node, floats, known))

    def _second(self, group: Group) -> Read:
        """The right operand of a product."""
        value = group.anchor.inputs[1]
        assert value is not None
        return Read(value, stored(value, self.ranges), exact=True)

    def _operands(self, group: Group, stores: Mapping[ir.Value, tuple[Form, ...]]) -> list[Read]:
        """Run-time operands of an epilogue, in its order."""
        found = [operation.operand for link in _used(group, stores) for operation in link.operations]
        return [self._operand(value, group) for value in found if isinstance(value, ir.Value)]

    def _operand(self, value: ir.Value, group: Group) -> Read:
        """An operand as codes, else channels-last, or as it is where the caller owns it."""
        matrix = group.is_matrix
        assert group.start is not None
        if self._on_codes(value) and shape_of(value) == shape_of(group.start):
            return self._codes_read(value, matrix)
        return Read(value, natural(value) if value in self.inputs and not matrix else plain(value, matrix))

    def _on_codes(self, value: ir.Value) -> bool:
        """Whether a value is stored as codes for elementwise steps: codes that no standard op makes as floats."""
        return value not in self.floats and is_storable(value, self.ranges)

    def _codes_read(self, value: ir.Value, matrix: bool) -> Read:
        form = packed(value, matrix, self._codes(value), packing=self.storage.code_packing)
        return Read(value, form, any_packing=True)


def source_of(alias: ir.Node) -> ir.Value:
    """The value that an alias node renames."""
    source = alias.inputs[0]
    assert source is not None
    return source


def weights_of(node: ir.Node) -> npt.NDArray[np.float32]:
    """Constant weights of a convolution (OIHW) or matrix product ([K, O]).

    Raises UnsupportedModel where they are computed at run time.
    """
    weights = constant_of(node.inputs[1])
    if weights is None:
        raise UnsupportedModel(
            f"the weights of {node.op_type} are computed at run time",
            node=node.name or "",
            remedy="make them an initializer of the model",
        )
    return weights.astype(np.float32, copy=False)


def _writes_dense(group: Group) -> bool:
    """Whether the group makes natural forms: standard ops do, and aliases of anything."""
    return group.kind == "alias" or group.kind == "generic" and not is_marked(group.anchor)


def _keeps_planes(group: Group, inputs: set[ir.Value]) -> bool:
    """Whether a map makes images of few channels from what the caller gives: as planes, sixteen pixels at a time."""
    if group.kind != "map" or group.is_matrix or not inputs.issuperset(group.inputs):
        return False
    return all(len(shape_of(value)) == 4 and shape_of(value)[1] < _FEW_CHANNELS for value in group.outputs)


def _writes_rows(group: Group) -> bool:
    """Whether a kernel sees its results as rows of a matrix."""
    return group.kind in ("conv", "product", "pool", "map") and group.is_matrix


def _generic_form(group: Group, value: ir.Value) -> Form:
    """The form in which a region of standard ops reads or writes a value."""
    if is_marked(group.anchor) and dtype_of(value) == "float32":
        return plain(value, matrix=len(shape_of(value)) != 4)
    return natural(value)
