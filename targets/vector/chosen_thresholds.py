"""Float epilogues around a sum with codes of few bits as thresholds of integers: the code that is added chooses them.

Where one code is added, the stored number is a monotone function of the integer accumulator, because each operation in
float32 is: so there is a least integer from which a number is reached. It is found by running the operations
themselves, so that each of their roundings counts. There are limits for every code that may be added.

Constants are only known when they are packed, so the form has to hold for all of them, those that are no numbers too.
An infinite scale or sum makes NaN of some accumulators, which gives the lowest code. Their neighbours on one side have
that code anyway, as long as no constant per channel multiplies what may be infinite, and minimum and maximum come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import Codes
from qcompiler.ir.numerics import first_true
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Channel, Conv2d, Operation, Scalar, Tensor
from qcompiler.targets.reference import after, apply, number
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.border_classes import borders_of
from qcompiler.targets.vector.code_lanes import aligned
from qcompiler.targets.vector.threshold import whole_bits

Array = npt.NDArray[np.int64]

# of codes added and of codes stored
_MOST_PLANES = 2
# of a kernel of 3x3: limits of more classes would have to be read from far away
_MOST_CLASSES = 9
# accumulators are int32
_REACH = 2**31


@dataclass(frozen=True)
class ChosenThresholds:
    """An epilogue whose `place`-th operation adds the codes that choose."""

    operations: tuple[Operation, ...]
    place: int

    @property
    def chooser(self) -> Tensor:
        """The operand that is added."""
        operand = self.operations[self.place].operand
        assert isinstance(operand, Tensor)
        return operand

    @property
    def choices(self) -> int:
        """How many numbers the bits of a code that is added may be."""
        return 1 << self.chooser.buffer.planes

    def limits(self, constants: Constants) -> tuple[Array, npt.NDArray[np.bool_]]:
        """The least accumulators that reach each number, int64 [choices, levels - 1, O], and which channels rise.

        Of channels that fall: the least accumulators that do not. 2^31: none does so, -2^31: all.
        """
        assert constants.weights is not None
        channels = len(constants.weights)
        first, last = (self._numbers(np.full((1, 1, channels), end), constants) for end in (-_REACH, _REACH - 1))
        rising = np.asarray((first <= last).all(axis=(0, 1)), np.bool_)
        wanted = np.arange(1, _codes(self.operations[-1].into).levels)[:, None]
        every = np.full((self.choices, len(wanted), channels), 2 * _REACH)
        found = first_true(every, lambda index: (self._numbers(index - _REACH, constants) >= wanted) == rising)
        return found - _REACH, rising

    def _numbers(self, accumulators: Array, constants: Constants) -> Array:
        """The numbers of the codes stored, [choices, levels - 1 or 1, O]."""
        channels = iter(constants.channels)
        v = accumulators.astype(np.float32)
        for operation in self.operations[:-1]:
            operand: npt.NDArray[np.float32] | None
            if isinstance(operation.operand, Channel):
                operand = next(channels).astype(np.float32)
            elif isinstance(operation.operand, Tensor):
                operand = self._added()
            else:
                operand = number(operation.operand)
            v = apply(operation.op, v, operand)
        return _numbers(self.operations[-1].into, v)

    def _added(self) -> npt.NDArray[np.float32]:
        """What each code adds, [choices, 1, 1]."""
        held = _codes(self.chooser.buffer)
        codes = (held.low + held.step * np.arange(self.choices)).astype(np.float32)
        return after(self.chooser.through, codes[:, None, None])


@lru_cache(maxsize=64)
def chosen_thresholds(problem: Conv2d, blocks: Blocks) -> ChosenThresholds | None:
    """How codes that are added choose the thresholds of an epilogue that stores bit planes; None if they do not."""
    operations = problem.epilogue
    summed = [i for i, operation in enumerate(operations) if isinstance(operation.operand, Tensor)]
    if len(summed) != 1 or operations[-1].op != "store_codes":
        return None
    chosen = ChosenThresholds(operations, summed[0])
    if not _chooses(chosen.chooser.buffer, blocks) or not _stores_few_bits(operations[-1].into):
        return None
    last = max(i for i, operation in enumerate(operations) if isinstance(operation.operand, Channel | Tensor))
    if not _orderly(operations[: last + 1]) or not _ends_lowest(operations[last + 1 :]):
        return None
    return chosen if borders_of(problem).count <= _MOST_CLASSES else None


def _chooses(buffer: Buffer, blocks: Blocks) -> bool:
    """Whether the bits of a block of channels are few and lie side by side."""
    return buffer.in_planes and buffer.planes <= _MOST_PLANES and aligned(buffer, blocks)


def _stores_few_bits(into: Buffer | None) -> bool:
    """Whether all numbers of few bits are stored."""
    few = into is not None and into.in_planes and into.planes <= _MOST_PLANES
    return few and whole_bits(_codes(into).levels)


def _orderly(operations: Sequence[Operation]) -> bool:
    """Whether these keep the order of accumulators, whatever the constants, up to NaN where the end is the lowest."""
    ends = np.array([-_REACH, _REACH], np.float32)
    for place, operation in enumerate(operations):
        operand = operation.operand
        if operation.op in ("add", "sub"):
            fits = not isinstance(operand, Scalar) or _is_number(operand)
        elif isinstance(operand, Channel):
            ahead = operations[:place]
            known = all(isinstance(each.operand, Scalar | None) for each in ahead)
            fits = operation.op in ("mul", "div") and known and bool(np.isfinite(_scaled(ahead, ends)).all())
        else:
            fits = _scales(operation) or operation.op == "round"
        if not fits:
            return False
    return True


def _ends_lowest(tail: Sequence[Operation]) -> bool:
    """Whether operations of numbers keep an order, and give the lowest code on one side."""
    for operation in tail[:-1]:
        if operation.op in ("add", "sub"):
            fits = _is_number(operation.operand)
        elif operation.op in ("max", "min"):
            fits = isinstance(operation.operand, Scalar) and not np.isnan(np.float32(operation.operand.value))
        else:
            fits = _scales(operation) or operation.op == "round"
        if not fits:
            return False
    return bool(_numbers(tail[-1].into, _scaled(tail[:-1], np.array([-np.inf, np.inf], np.float32))).min() == 0)


def _is_number(operand: object) -> bool:
    return isinstance(operand, Scalar) and bool(np.isfinite(np.float32(operand.value)))


def _scales(operation: Operation) -> bool:
    """Whether an operation multiplies by a number or divides by it, which is neither 0 nor infinite."""
    operand = operation.operand
    if operation.op not in ("mul", "div") or not isinstance(operand, Scalar):
        return False
    return _is_number(operand) and np.float32(operand.value) != 0


def _scaled(operations: Sequence[Operation], v: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Numbers after operations of numbers."""
    for operation in operations:
        v = apply(operation.op, v, number(operation.operand))
    return v


def _numbers(into: Buffer | None, v: npt.NDArray[np.float32]) -> Array:
    """The numbers of the codes stored; what is no number becomes the lowest."""
    codes = _codes(into)
    inside = np.clip(np.where(np.isnan(v), codes.low, v), codes.low, codes.high)
    return np.rint((inside - codes.low) / codes.step).astype(np.int64)


def _codes(buffer: Buffer | None) -> Codes:
    assert buffer is not None and buffer.codes is not None
    return buffer.codes
