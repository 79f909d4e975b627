"""A layout claimed is a layout proven: before any code is made, every step is held against what its memory holds.

The works are walked in order with a record of what was last written where. A kernel must read what lies there, in the
layout in which it lies there, with the borders that its padding needs; what it writes must fit its place and be
recorded as it is written. Nothing here asks how the works came to be. A violation raises InternalError with the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod

import numpy as np
import onnx_ir as ir

from qcompiler.errors import InternalError
from qcompiler.ir.storage import Buffer, Element, Halo, Packing
from qcompiler.ir.view import dtype_of, shape_of
from qcompiler.lowering.forms import natural
from qcompiler.lowering.group import is_alias
from qcompiler.lowering.plan import source_of
from qcompiler.lowering.work import (
    CopyWork,
    External,
    GenericWork,
    KernelWork,
    Location,
    Slot,
    Stored,
    Work,
    place_of,
    written,
)
from qcompiler.targets.problem import Channel, Conv2d, Map2d, Move2d, Pool2d, Problem, outputs_of, tensors_of
from qcompiler.targets.target import Constants


def check_works(graph: ir.Graph, works: Sequence[Work]) -> None:
    """Raise InternalError if a work reads, or claims to write, what is not so, or an output is left unwritten."""
    memory = _Memory(graph)
    for work in works:
        try:
            memory.step(work)
        except InternalError as error:
            names = [str(node.name) for node in work.nodes] or [str(item.value.name) for item in written(work)]
            raise InternalError(f"{work.op}: {error.message.removeprefix('internal error: ')}", node=names[0]) from None
    memory.check_outputs()


def check_offsets(works: Sequence[Work], offsets: Mapping[Slot, int], workspace: int) -> None:
    """Raise InternalError if two slots share memory while both are in use, or one lies outside of the workspace."""
    spans: dict[Slot, tuple[int, int]] = {}
    for index, work in enumerate(works):
        for slot in _slots(work):
            spans[slot] = (spans.get(slot, (index, index))[0], index)
    for index in range(len(works)):
        used = sorted((offsets[slot], slot.nbytes) for slot, (first, last) in spans.items() if first <= index <= last)
        if any(a + size > b for (a, size), (b, _) in pairwise(used)):
            raise InternalError(f"step {index}: two values share a piece of the workspace")
        if used and max(offset + size for offset, size in used) > workspace:
            raise InternalError(f"step {index}: a value lies outside of the workspace")


def _slots(work: Work) -> Iterator[Slot]:
    items = [item for item in (*work.reads, *work.writes) if not isinstance(item, np.ndarray)]
    yield from (place for item in items if isinstance(place := place_of(item), Slot))
    if not isinstance(work, CopyWork):
        yield from work.temporaries


class _Memory:
    """What lies where after the steps so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.held: dict[Location, Stored] = {}
        self.scratch: set[Slot] = set()
        for position, value in enumerate(graph.inputs):
            place = External("input", position)
            self.held[place] = Stored(value, natural(value), place)

    def step(self, work: Work) -> None:
        """Check one work and record what it writes."""
        for item in work.reads:
            if isinstance(item, Stored):
                self._check_read(item)
            elif isinstance(item, Slot) and item not in self.scratch:
                raise InternalError("it reads an intermediate result that no step wrote")
        for item in work.writes:
            self._check_place(item)
        if isinstance(work, KernelWork):
            _check_kernel(work)
        elif isinstance(work, GenericWork):
            _check_call(work)
        else:
            _check_copy(work)
        self.held.update({item.location: item for item in written(work)})
        self.scratch.update(item for item in work.writes if isinstance(item, Slot))

    def _check_read(self, read: Stored) -> None:
        name = read.value.name
        held = self.held.get(read.location)
        if held is None or _root(held.value) is not _root(read.value):
            raise InternalError(f"it reads '{name}' where no step left it")
        if held.form.layout != read.form.layout or held.form.nbytes != read.form.nbytes:
            raise InternalError(f"it reads '{name}' as {read.form.layout}, which lies there as {held.form.layout}")
        _check_form(read)

    def _check_place(self, item: Stored | Slot) -> None:
        place = place_of(item)
        if isinstance(item, Stored):
            _check_form(item)
            if isinstance(place, Slot) and place.nbytes != item.form.nbytes:
                raise InternalError(f"it writes {item.form.nbytes} bytes into a place of {place.nbytes}")
        if isinstance(place, External):
            assert isinstance(item, Stored)
            if place.kind != "output" or not item.form.is_natural:
                raise InternalError(f"it writes '{item.value.name}' into memory of the caller that is not for it")
            if natural(self.graph.outputs[place.position]).nbytes != item.form.nbytes:
                raise InternalError(f"it writes {item.form.nbytes} bytes into output {place.position}")

    def check_outputs(self) -> None:
        """Every output of the network is where the caller looks for it."""
        for position, value in enumerate(self.graph.outputs):
            held = self.held.get(External("output", position))
            if held is None or _root(held.value) is not _root(value) or held.form.layout != natural(value).layout:
                raise InternalError(f"output '{value.name}' is not written")


def _root(value: ir.Value) -> ir.Value:
    """The value whose elements, in the same order, are those of `value`."""
    producer = value.producer()
    while producer is not None and is_alias(producer):
        source = source_of(producer)
        if prod(shape_of(source)) != prod(shape_of(value)) or dtype_of(source) != dtype_of(value):
            raise InternalError(f"'{value.name}' is no other shape of '{source.name}'", node=producer.name or "")
        value, producer = source, source.producer()
    return value


def _check_form(item: Stored) -> None:
    """A form has the shape and element type of its value, and the size of its buffer."""
    shape, buffer = shape_of(item.value), item.form.buffer
    if buffer is None:
        right = item.form == natural(item.value)
    elif item.form.matrix:
        right = (buffer.n, buffer.h, buffer.w, buffer.c) == (1, 1, prod(shape[:-1]), shape[-1] if shape else 1)
    else:
        right = (buffer.n, buffer.c, buffer.h, buffer.w) == shape
    if not right or buffer is not None and (dtype_of(item.value) != "float32" or buffer.nbytes != item.form.nbytes):
        raise InternalError(f"'{item.value.name}' of shape {list(shape)} is taken for {item.form}")


def _check_kernel(work: KernelWork) -> None:
    """The problem speaks of the buffers that the kernel is given, and of their sizes."""
    problem = work.problem
    asked, stores = [problem.x, *tensors_of(problem)], list(outputs_of(problem))
    for what, buffers, items in (("reads", asked, work.reads), ("writes", stores, work.writes)):
        given = [item.form.buffer for item in items]
        if buffers != given:
            raise InternalError(f"its problem {what} {buffers}, it is given {given}")
    expected = _out_shape(problem)
    for buffer in stores:
        if (buffer.n, buffer.h, buffer.w, buffer.c) != expected:
            raise InternalError(f"it computes {expected} and stores {buffer}")
    if isinstance(problem, Move2d):
        _check_move(problem)
        return
    for buffer in asked[2 if isinstance(problem, Conv2d) and problem.second is not None else 1 :]:
        if (buffer.n, buffer.h, buffer.w) != expected[:3] or buffer.c not in (1, expected[3]):
            raise InternalError(f"it computes {expected} and reads an operand {buffer}")
    if isinstance(problem, Conv2d) and problem.second is not None:
        _check_second(problem, problem.second)
    _check_constants(problem, work.constants, expected[3])
    _check_border(problem)


def _check_second(problem: Conv2d, second: Buffer) -> None:
    """The right operand of products has a block of every sixteen outputs and a word of every four inputs."""
    right = (second.h, second.w, second.c) == (-(-problem.out_channels // 16), -(-problem.x.c // 4), 64)
    if not right or problem.x.w % second.n or not second.in_bytes or second.halo != Halo():
        raise InternalError(f"its right operand is {second}")


def _check_move(problem: Move2d) -> None:
    """Every place of the output is written once, from within an operand."""
    places = np.zeros(_out_shape(problem), np.int8)
    for box in problem.boxes:
        inside = tuple(slice(first, first + size) for first, size in zip(box.start, box.extent, strict=True))
        places[inside] += 1
        if box.source is None:
            continue
        if [len(offsets) for offsets in box.offsets] != list(box.extent):
            raise InternalError(f"a box of {box.extent} has no offset for each of its places")
        first, last = (sum(pick(offsets) for offsets in box.offsets) for pick in (min, max))
        if first < 0 or last >= problem.sources[box.source].nbytes:
            raise InternalError(f"it moves bytes {first} to {last} of {problem.sources[box.source].nbytes}")
    if not (places == 1).all():
        raise InternalError("it leaves out places of its output, or writes some twice")


def _out_shape(problem: Problem) -> tuple[int, int, int, int]:
    """(n, h, w, c) of what a problem computes."""
    x = problem.x
    if isinstance(problem, Move2d):
        return problem.into.n, problem.into.h, problem.into.w, problem.into.c
    if isinstance(problem, Map2d):
        return x.n, x.h, x.w, x.c
    return x.n, *problem.out_hw, problem.out_channels if isinstance(problem, Conv2d) else x.c


def _check_constants(problem: Problem, constants: Constants, channels: int) -> None:
    if isinstance(problem, Conv2d) and problem.second is None:
        shape = (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
        if constants.weights is None or constants.weights.shape != shape:
            raise InternalError(f"its weights are not of shape {list(shape)}")
    used = sum(isinstance(operation.operand, Channel) for operation in problem.epilogue)
    levels = () if constants.threshold is None else tuple(constants.threshold)
    per_channel = [*constants.channels, *levels, constants.direction, constants.flip, constants.bias]
    if used != len(constants.channels) or any(a is not None and a.shape != (channels,) for a in per_channel):
        raise InternalError(f"its constants are not {used} of {channels} channels")


def _check_border(problem: Problem) -> None:
    """The padding of a convolution is in the halo of its input, with the right value; groups start at words."""
    if isinstance(problem, Pool2d) and problem.into is not None and problem.into.groups != problem.x.groups:
        raise InternalError(f"it pools codes in {problem.x.groups} groups into {problem.into.groups}")
    if isinstance(problem, Pool2d) and problem.into is not None and _codes(problem.into) != _codes(problem.x):
        raise InternalError(f"it pools {_codes(problem.x)} into {_codes(problem.into)}")
    if not isinstance(problem, Conv2d):
        return
    if problem.x.packed and problem.x.groups != problem.groups and not problem.by_channel:
        raise InternalError(f"its {problem.groups} groups are read from {problem.x.groups}")
    if problem.padding == "kernel":
        if problem.x.halo != Halo():
            raise InternalError(f"its kernel makes up the padding of an input with a halo {problem.x.halo}")
        return
    halo, pads = problem.x.halo, problem.pads
    if any(held < pad for held, pad in zip((halo.top, halo.left, halo.bottom, halo.right), pads, strict=True)):
        raise InternalError(f"its padding {pads} is wider than the halo {halo} of its input")
    codes, fill = problem.x.codes, problem.pad_value
    if codes is not None and codes.index(fill) is None:
        fill = float(codes.low)
    if any(pads) and problem.x.halo_value != fill:
        raise InternalError(f"its padding of {problem.pad_value} is read from a halo of {problem.x.halo_value}")


def _codes(buffer: Buffer) -> tuple[Element, Packing]:
    return buffer.element, buffer.packing


def _check_call(work: GenericWork) -> None:
    """A function of standard ops writes as many bytes as its places have."""
    for nbytes, item in zip(work.call.output_bytes, work.writes, strict=True):
        place = item.form.nbytes if isinstance(item, Stored) else item.nbytes
        if nbytes != place:
            raise InternalError(f"its code writes {nbytes} bytes into a place of {place}")


def _check_copy(work: CopyWork) -> None:
    """A copy keeps the bytes, and goes between memory of the caller and that of the device."""
    (source,), (target,) = work.reads, work.writes
    if source.form != target.form or source.value is not target.value:
        raise InternalError(f"it copies '{source.value.name}' to '{target.value.name}' in another form")
    if isinstance(source.location, External) == isinstance(target.location, External):
        raise InternalError(f"it copies '{source.value.name}' within one memory")
