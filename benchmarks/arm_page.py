"""The page of ARM's inner loops and whole networks, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.arm_networks import MACS, Counts
from benchmarks.arm_widths import CORES, WIDTHS, Measured
from benchmarks.markdown import table

HEAD = """# ARM: what the inner loops reach

Made by `python -m benchmarks.arm -o docs/performance_arm.md`, without ARM hardware: cycles are those of {tool}'s static
models, which know pipes and latencies, but no caches and no branch prediction. Cortex-A76 and A78 are read by the model
of Neoverse N1. Time under an emulator is no figure and is not given.

A layer is a 3x3 convolution of 128 to 128 channels of 28x28 pixels. For every width and core the kernel is the one that
the compiler takes, with its weights and activations in the packing that it prefers on that core alone. The ceiling is
what the vector pipes could do if nothing but the products took a slot, by the best of these forms:

| core | exclusive or, count, add: bits by bits | tbl and add: bits of a plane | products of bytes | of 8 by 8 bits |
| --- | --- | --- | --- | --- |
{ceilings}
divided by the pairs of planes, and by the planes of weights times the digits of inputs in tables. On Cortex-A72 a tbl
takes three slots.

"Vector", "loads" and "rest" are instructions for 64 multiply-adds. Where a share is below 85 %, they are the reason:
{reasons}
"""

REASONS = """
- Sixteen products of 8 by 8 bits without dot instructions: 16 bits do not hold the sum of two (2 * 128 * 128), so
  that each of two registers of products (smull, smull2) takes a sadalp of its own, which is four slots, on Cortex-A53
  one after the other: 4 a cycle, not 8. Weights of -127 to 127 could do with three. The order of two products and a
  sum needs registers: there are two fewer than it takes to hide all of the six cycles of a product.
- Products of bytes in 16-bit sums on A53 (3 and 4 bits, ternary): a word of inputs is repeated for eight registers of
  products, so sixteen products are 2.25 slots, not 2: 7.1 a cycle. Addresses and jumps are the rest: there is no load
  of four registers with an offset, and a jump is four slots there.
- Inputs of 8 bits with sdot (w8a8, ternary): an exclusive or for every sixteen inputs of a pixel makes them signed,
  0.25 slots for 64 multiply-adds, and as much of waiting on A55, where it takes one cycle and sdot four.
- Lookups: beside a tbl and an addition there are two instructions that take eight tables' worth of indices apart, for
  all pixels of a tile, and two that widen what eight tables gave (four where activations have 4 bits), less the
  addition that the first of them does not need: 2.3 to 2.8 slots for a plane, not 2.
- On A53 a load is a slot of its own, except for ld1 of several registers. Those of all tables of a pixel do not fit
  beside its sums: 0.7 slots for a plane. Their order is LLVM's: in batches as on A55, lookups would wait longer. For
  w2a1 ld1 needs the stack in some layers: half a slot of loads for 64 multiply-adds, and the jump.
- On A55 additions (two cycles) wait for lookups (four) that were begun before them, once for every batch.
- Neoverse N1's model takes three operations a cycle: 2.3 of lookups, 1.1 of loads, which are four for ld1 of four
  registers, and 0.4 of addresses and the jump.
"""

NETWORKS = """## Whole networks

Instructions per inference, counted by a plugin of the emulator (`python -m benchmarks.instructions`), in millions, with
random weights{before}. Instruction counts do not see latency: levels with dot products load vectors one by one, as
pairs are as many operations or more in the models; that is up to 14 % more instructions than by pairs.

"""


def page(rows: Sequence[Measured], tool: str, counts: Counts, before: Counts, commit: str) -> str:
    """All of it."""
    limits = ((core.model, core.bits, core.lookups, core.bytes, core.long_bytes) for core in CORES)
    ceilings = "".join(f"| {' | '.join(map(str, each))} |\n" for each in limits)
    text = HEAD.format(tool=tool, ceilings=ceilings, reasons=REASONS) + _overview(rows) + "\n" + _loops(rows)
    return (
        text + "\n" + NETWORKS.format(before=f"; before: as of {commit}" if before else "") + _networks(counts, before)
    )


def _overview(rows: Sequence[Measured]) -> str:
    """Multiply-adds per cycle and shares, a line per width."""
    by_place = {(row.width, row.core): row for row in rows}

    def cell(width: str, core: str) -> str:
        row = by_place[width, core]
        return f"{row.rate:.1f} of {row.ceiling:.1f}, {row.share:.0%}"

    columns = {core.model: (lambda width, model=core.model: cell(width, model)) for core in CORES}
    return "Multiply-adds per cycle:\n\n" + table({"width": str, **columns}, WIDTHS)


def _loops(rows: Sequence[Measured]) -> str:
    """What was measured, a line per inner loop."""
    columns = {
        "width": lambda row: row.width,
        "core": lambda row: row.core,
        "kernel": lambda row: f"`{row.kernel}`",
        "MAC/cycle": lambda row: f"{row.rate:.1f}",
        "ceiling": lambda row: f"{row.ceiling:.1f}",
        "share": lambda row: f"{row.share:.0%}",
        "vector": lambda row: f"{row.vectors:.2f}",
        "loads": lambda row: f"{row.loads:.2f}",
        "rest": lambda row: f"{row.others:.2f}",
        "stack": lambda row: str(row.spills),
    }
    return "## Inner loops\n\n" + table(columns, rows)


def _networks(counts: Counts, before: Counts) -> str:
    """Instructions now and before, and their ratio."""
    levels = [level for level in next(iter(counts.values())) if level != MACS]

    def cell(label: str, level: str) -> str:
        now, then = counts[label][level], _of(before, label).get(level)
        return f"{now / 1e6:.1f}" + (f" (before {then / 1e6:.1f}: {then / now:.2f}x)" if then else "")

    columns = {level: (lambda label, level=level: cell(label, level)) for level in levels}
    return table({"network": str, MACS: lambda label: str(counts[label][MACS]), **columns}, counts)


def _of(counts: Counts, label: str) -> Mapping[str, int]:
    return counts.get(label, {})
