"""`NibbleLookups` in batches, all instructions of a kind one after the other, for cores that run them in order.

What is looked up for a few pixels is added up after all of it was begun, and the tables of those that follow are loaded
between the additions; see `count_batches.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import product

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.count_batches import Order, mixed
from qcompiler.targets.arm.nibble_findings import Findings
from qcompiler.targets.arm.nibble_lookups import Group, NibbleLookups, index_of, place_of_tables
from qcompiler.targets.arm.pinned import Register, pinned, pinned_order
from qcompiler.targets.vector.emit import LANES, Expr, lanes
from qcompiler.targets.vector.nibble_reduction import BYTES, digits_of, planes_of
from qcompiler.targets.vector.tile import Tile

# of a register of 128 bits
_WORDS = 4


@dataclass
class _Held:
    """Registers: bits of weights by block and plane, and the tables of a group by pixel."""

    bits: dict[tuple[int, int], Register] = field(default_factory=dict)
    tables: dict[int, Register] = field(default_factory=dict)


@dataclass(frozen=True)
class LookupBatches(NibbleLookups):
    """Weights as in `NibbleReduction`."""

    def look_up(self, tile: Tile, halves: int, findings: Findings, at: Expr, weight: Expr) -> None:
        """Look up sixteen inputs, or two times sixteen: a few pixels at a time, while those after them are loaded."""
        groups, held, digits = self.groups(tile, halves), _Held(), digits_of(tile.frame.problem)
        with pinned_order():
            for load in self._loads(tile, groups[0], held, at, weight):
                load()
            for group, following in zip(groups, [*groups[1:], None], strict=True):
                if group.starts_bits:
                    indices = {column: _index(bits, group.half) for column, bits in held.bits.items()}
                found = {
                    (pixel, block, plane * digits + group.digit): _found(held.tables[pixel], index)
                    for pixel, ((block, plane), index) in product(group.pixels, indices.items())
                }
                loads = self._loads(tile, following, held, at, weight) if following else []
                mixed([partial(_hold, findings, each, place) for place, each in found.items()], loads)
                findings.widen_full()
            findings.widen()

    def _loads(self, tile: Tile, group: Group, held: _Held, at: Expr, weight: Expr) -> list[Order]:
        """Those of the tables of a group, and of the bits that it is the first to need."""
        problem, source = tile.frame.problem, tile.source
        first = at + (place_of_tables(problem, group.half, group.digit) + group.table * _WORDS)

        def table(pixel: int) -> None:
            held.tables[pixel] = Register(source.data[lanes(first + pixel * source.pixel_step(), _WORDS)])

        def bits(block: int, plane: int) -> None:
            place = block * self.block_bytes(problem) + plane * BYTES + group.table * LANES
            held.bits[block, plane] = Register(tile.weights[0][lanes(weight + place)])

        new = group.half == 0 and group.starts_bits
        columns = product(range(tile.frame.tiling.blocks), range(len(planes_of(problem).factors))) if new else ()
        return [*(partial(bits, *column) for column in columns), *(partial(table, pixel) for pixel in group.pixels)]


def _index(bits: Register, half: int) -> Register:
    return Register(pinned("uint8x16", index_of(bits.bytes, half)))


def _found(table: Register, index: Register) -> Register:
    name = "llvm.aarch64.neon.tbl1.v16i8"
    return Register(pinned("uint8x16", T.call_llvm_pure_intrin("uint8x16", name, table.bytes, index.bytes)))


def _hold(findings: Findings, found: Register, place: tuple[int, int, int]) -> None:
    # not before what was loaded before it
    found.pin()
    findings.hold(found.bytes, *place).pin()
