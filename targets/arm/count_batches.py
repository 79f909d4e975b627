"""Bits that are counted in batches, all instructions of a kind one after the other, for cores that run them in order.

A result of Cortex-A53 or A55 is there some cycles later, and an instruction that would be done before one that was
begun before it waits (in llvm-mca's models). So what differs is found for a batch, then counted, then added up, and the
operands of the next batch are loaded between the additions, which are done soonest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.pinned import Register, load_four, pinned, pinned_address
from qcompiler.targets.vector.emit import Expr, lanes, write

WORDS, BYTES = 4, 16
"""Of a register of 128 bits."""

Order = Callable[[], None]
"""Emits an instruction."""


@dataclass(frozen=True)
class Count:
    """Bits of `both`, uint32x4, that are added to bytes of `total` from byte `first`."""

    total: Expr
    first: int
    both: Expr


@dataclass(frozen=True)
class Batch:
    """Loads of operands, and what is counted once they are there."""

    loads: Sequence[Order]
    counts: Callable[[], list[Count]]


def emit(batches: Sequence[Batch]) -> None:
    """Emit all, within `pinned_order`."""
    for load in batches[0].loads:
        load()
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        counts = batch.counts()
        apart = [Register(pinned("uint32x4", each.both)) for each in counts]
        counted = [Register(pinned("uint32x4", T.reinterpret("uint32x4", T.popcount(each.bytes)))) for each in apart]
        additions = [_addition(*each) for each in zip(counts, counted, strict=True)]
        mixed(additions, following.loads if following else [])


def loads_into(found: list[Expr], words: Expr, at: Expr, count: int, fourfold: bool) -> list[Order]:
    """Loads of so many registers that lie side by side; fourfold: four by one instruction, within `fourfold_loads`.

    Their addresses are computed at once, since one takes as long as a few side by side.
    """

    def one(register: int) -> None:
        found.append(T.bind(words[lanes(at + register * WORDS, WORDS)]))

    def four(address: Expr) -> None:
        found.extend(each.words for each in load_four(address))

    if fourfold:
        return [partial(four, pinned_address(words, at + first * WORDS)) for first in range(0, count, 4)]
    return [partial(one, register) for register in range(count)]


def _addition(count: Count, counted: Register) -> Order:
    every = lanes(count.first, BYTES)

    def add() -> None:
        # not before what was loaded before it
        counted.pin()
        write(count.total, pinned("uint8x16", count.total[every] + counted.bytes), every)

    return add


def mixed(orders: Sequence[Order], others: Sequence[Order]) -> None:
    """Emit all, the others evenly among them from the first on."""
    done = 0
    for number, order in enumerate(orders):
        order()
        due = number * len(others) // len(orders) + 1
        for other in others[done:due]:
            other()
        done = due
    for other in others[done:]:
        other()
