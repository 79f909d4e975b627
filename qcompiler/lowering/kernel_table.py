"""Which kernel of a variant computes each step, and how it is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.errors import InternalError, UnsupportedModel
from qcompiler.ir.program import OBJECTS, RUN_BYTES, Argument, Call, Copy, LaunchGrid, VariantCode
from qcompiler.lowering.build import object_code
from qcompiler.lowering.constant_blob import ConstantBlob
from qcompiler.lowering.work import External, GenericWork, KernelWork, Location, Slot, Stored, Work, place_of
from qcompiler.targets.choose import Choice, chosen
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Kernel, Variant
from qcompiler.targets.tuned import UNTUNED, Tuned

Array = npt.NDArray[Any]
PART = 16
"""Functions that are compiled together. Chosen: starting a code generator costs less than one of them, and the parts of
a small network keep two processors busy."""


class KernelTable:
    """Functions of one variant by symbol, and the calls of them; equal problems share one function.

    functions: what the platform compiles. works: what each of them is for. calls: one per work, in order. tuned: what
    was measured of kernels for the problems.
    """

    def __init__(
        self,
        variant: Variant,
        works: Sequence[Work],
        offsets: dict[Slot, int],
        blob: ConstantBlob,
        tuned: Tuned = UNTUNED,
    ) -> None:
        self.variant = variant
        self._tuned = tuned
        self.functions: dict[str, Any] = {}
        self.works: dict[str, Work] = {}
        self._offsets = offsets
        self._blob = blob
        self._symbols: dict[Problem, tuple[str, Choice]] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        self.calls = tuple(self._call(work) for work in works)

    def parts(self) -> list[dict[str, Any]]:
        """The functions by symbol, in parts for `compiled`, which may run at the same time; devices load one module."""
        count = -(-len(self.functions) // PART) if self.variant.platform.code_format == OBJECTS else 1
        functions = list(self.functions.items())
        return [dict(functions[first::count]) for first in range(count)]

    def compiled(self, part: Mapping[str, Any]) -> bytes:
        """The object or module of one of the parts."""
        return object_code(part, self.works, self.variant) if part else b""

    def code(self, objects: Sequence[bytes]) -> VariantCode:
        """The code of the variant, from the objects of all parts."""
        variant = self.variant
        features = tuple(feature.name for feature in variant.features)
        return VariantCode(variant.name, features, tuple(objects), self.calls, variant.platform.code_format)

    def _symbol(self) -> str:
        return f"k{len(self.functions)}_{self.variant.name}"

    def _call(self, work: Work) -> Call:
        if isinstance(work, KernelWork):
            return self._kernel(work)
        if isinstance(work, GenericWork):
            return self._generic(work)
        (source,), (target,) = work.reads, work.writes
        arguments = tuple(argument_of(item.location, self._offsets) for item in (source, target))
        return Call("", work.op, arguments, Copy(target.form.nbytes))

    def _chosen(self, work: KernelWork) -> Choice:
        """The kernel that is taken, which must read and write what lies there."""
        choice = chosen(self.variant, work.problem, self._tuned)
        node = (work.nodes[0] if work.nodes else work.writes[0].value).name or ""
        if choice is None:
            raise UnsupportedModel(f"no {self.variant.name} kernel for {work.op} {work.problem}", node=node)
        kernel = choice.kernel
        for what, stated, items in (("reads", kernel.reads, work.reads), ("writes", kernel.writes, work.writes)):
            given = tuple(item.form.buffer for item in items)
            if stated != given:
                raise InternalError(f"kernel {kernel.name} {what} {stated}, it is given {given}", node=node)
        return choice

    def _kernel(self, work: KernelWork) -> Call:
        if work.problem not in self._symbols:
            choice, symbol = self._chosen(work), self._symbol()
            self.functions[symbol] = choice.kernel.build(symbol)
            self.works[symbol] = work
            self._symbols[work.problem] = (symbol, choice)
        symbol, choice = self._symbols[work.problem]
        kernel = choice.kernel
        packed = kernel.pack(work.constants)
        first_size, *sizes = map(_bytes_at, (*work.reads, *work.writes))
        if isinstance(kernel.launch, LaunchGrid) and kernel.launch.rows is not None:
            _check_rows(kernel.name, work)
        else:
            self._of_run(symbol, [first_size, *[0] * len(packed), *sizes])
        constants = [Argument("constant", self._blob.add(array)) for array in packed]
        first, *tensors = (argument_of(read.location, self._offsets) for read in work.reads)
        writes = [argument_of(write.location, self._offsets) for write in work.writes]
        scratch = [argument_of(slot, self._offsets) for slot in work.temporaries if scratch_of(kernel)]
        arguments = (first, *constants, *tensors, *writes, *scratch)
        return Call(symbol, kernel.name, arguments, kernel.launch, _bytes_of(packed), choice.nanoseconds)

    def _of_run(self, symbol: str, sizes: Sequence[int]) -> None:
        """Tell a function of a device how many bytes of a run lie at each of its pointers; see `RUN_BYTES`."""
        if not self.variant.platform.own_memory:
            return
        known = self._sizes.setdefault(symbol, tuple(sizes))
        if known != tuple(sizes):
            raise InternalError(f"{symbol} is called on {sizes} and on {list(known)} bytes")
        self.functions[symbol] = self.functions[symbol].with_attr(RUN_BYTES, list(sizes))

    def _generic(self, work: GenericWork) -> Call:
        symbol = self._symbol()
        self.functions[symbol] = work.call.function.with_attr("global_symbol", symbol)
        self.works[symbol] = work
        arguments = [
            Argument("constant", self._blob.add(read))
            if isinstance(read, np.ndarray)
            else argument_of(place_of(read), self._offsets)
            for read in work.reads
        ]
        others = (*work.writes, *work.temporaries)
        arguments += [argument_of(place_of(item), self._offsets) for item in others]
        arguments += [Argument("fault", 0)] if work.call.faults else []
        sizes = [0 if isinstance(read, np.ndarray) else _bytes_at(read) for read in work.reads]
        self._of_run(symbol, [*sizes, *map(_bytes_at, others), *[0] * bool(work.call.faults)])
        constants = _bytes_of(read for read in work.reads if isinstance(read, np.ndarray))
        return Call(symbol, work.call.kernel, tuple(arguments), work.call.launch, constants)


def with_scratch(works: Sequence[Work], variants: Sequence[Variant], tuned: Tuned) -> list[Work]:
    """The works, each with memory for what the kernels that are chosen for it need besides, on a device."""
    if not variants[0].platform.own_memory:
        return list(works)
    return [_with_scratch(work, variants, tuned) if isinstance(work, KernelWork) else work for work in works]


def _with_scratch(work: KernelWork, variants: Sequence[Variant], tuned: Tuned) -> KernelWork:
    choices = [chosen(variant, work.problem, tuned) for variant in variants]
    needed = max(scratch_of(choice.kernel) for choice in choices if choice is not None) if any(choices) else 0
    return replace(work, temporaries=(Slot(needed),)) if needed else work


def scratch_of(kernel: Kernel) -> int:
    """Bytes of memory of the device that a kernel needs besides its operands."""
    return kernel.launch.scratch_bytes if isinstance(kernel.launch, LaunchGrid) else 0


def _check_rows(kernel: str, work: KernelWork) -> None:
    """What runs have of their own lies one behind the other, as a kernel that takes their rows together reads it."""
    for item in (*work.reads, *work.writes):
        if _bytes_at(item) != item.form.nbytes:
            raise InternalError(f"{kernel} takes {item.form.nbytes} bytes of each run, of {_bytes_at(item)}")


def _bytes_at(item: Stored | Slot) -> int:
    """Bytes of the piece of workspace in which something lies; 0 in memory of the caller."""
    place = place_of(item)
    return place.nbytes if isinstance(place, Slot) else 0


def _bytes_of(arrays: Iterable[Array]) -> int:
    return sum(array.nbytes for array in arrays)


def argument_of(place: Location, offsets: dict[Slot, int]) -> Argument:
    """Where a kernel finds what lies at a place."""
    if isinstance(place, External):
        return Argument("input" if place.kind == "input" else "output", place.position)
    return Argument("workspace", offsets[place])
