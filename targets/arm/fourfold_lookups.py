"""`NibbleLookups` whose tables are loaded four at a time: two times sixteen inputs of a pixel, then those of the next.

Four registers by one instruction are four operations on Neoverse N1, a register by an instruction of its own is two (in
llvm-mca's models). What is found for a pixel is added up before the next one is looked up, so that registers hold the
indices of all tables, and larger tiles share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.arm.nibble_findings import TABLES, Findings
from qcompiler.targets.arm.nibble_lookups import NibbleLookups, index_of, place_of_tables
from qcompiler.targets.arm.pinned import Register, fourfold_loads, load_four, pinned_address, pinned_order
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.emit import Expr
from qcompiler.targets.vector.nibble_reduction import BYTES, digits_of, planes_of, worths_of
from qcompiler.targets.vector.tile import Tile

# for sums, indices and tables, which leave some for what is found and a mask
_REGISTERS = 26


def holds_indices(problem: Conv2d, pixels: int, blocks: int) -> bool:
    """Whether a tile needs no stack: sums of 16 bits, indices of eight tables, tables, and findings."""
    columns = blocks * len(planes_of(problem).factors)
    return 2 * pixels * blocks + TABLES * (2 * columns + 1) + 2 * (blocks * len(worths_of(problem)) - 1) <= _REGISTERS


@dataclass(frozen=True)
class FourfoldLookups(NibbleLookups):
    """Weights as in `NibbleReduction`."""

    def look_up(self, tile: Tile, halves: int, findings: Findings, at: Expr, weight: Expr) -> None:
        """Look up sixteen inputs, or two times sixteen, pixel by pixel."""
        pixels, digits = range(tile.frame.tiling.pixels), digits_of(tile.frame.problem)
        with pinned_order(), fourfold_loads():
            columns = list(product(range(tile.frame.tiling.blocks), range(len(planes_of(tile.frame.problem).factors))))
            indices = {column: self._indices(tile, halves, column, weight) for column in columns}
            for pixel, half, digit in product(pixels, range(halves), range(digits)):
                first = place_of_tables(tile.frame.problem, half, digit) + pixel * tile.source.pixel_step()
                tables = load_four(pinned_address(tile.source.data, at + first))
                for (block, plane), table in product(columns, range(TABLES)):
                    index = indices[block, plane][half][table]
                    name = "llvm.aarch64.neon.tbl1.v16i8"
                    found = T.call_llvm_pure_intrin("uint8x16", name, tables[table].bytes, index.bytes)
                    findings.add(found, pixel, block, plane * digits + digit)
                findings.pin()
                if (half, digit) == (halves - 1, digits - 1):
                    findings.widen()

    def _indices(self, tile: Tile, halves: int, column: tuple[int, int], weight: Expr) -> list[list[Register]]:
        """Those of every half and table."""
        block, plane = column
        place = weight + (block * self.block_bytes(tile.frame.problem) + plane * BYTES)
        bits = load_four(pinned_address(tile.weights[0], place))
        found = [[Register(index_of(each.bytes, half)) for each in bits] for half in range(halves)]
        for register in (register for registers in found for register in registers):
            register.pin()
        return found
