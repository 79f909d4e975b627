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

| core | exclusive or, count, add: bits by bits | tbl and add: bits of a plane | products of bytes |
| --- | --- | --- | --- |
{ceilings}
divided by the pairs of planes, and by the planes of weights. On Cortex-A72 a tbl takes three slots.

"Vector", "loads" and "rest" are instructions for 64 multiply-adds. Where a share is below 85 %, they are the reason:
{reasons}
"""

REASONS = """
- In the models of Cortex-A53 and A55 a load takes a slot of its own, and an instruction waits for those before it: what
  counts is vector instructions and loads together, and on A53 the latency of whatever a tile leaves alone.
- Neoverse N1's model takes three operations a cycle, and a load of 16 bytes is two of them: a table that serves one or
  two lookups is too dear there.
- smmla (Neoverse N2) reads eight inputs of two pixels, which are put together from two loads of eight bytes.
- 8 by 8 bits without dot instructions: two products of 128 * 128 do not fit 16 bits, so that sixteen products take
  smull, smull2 and two sadalp, four slots, not two; weights of -127 to 127 take three.
- Products of bytes in 16-bit sums (3 and 4 bits, ternary) take eight permutations per 64 bytes of weights, which lie as
  all variants of a bundle share them.
"""

NETWORKS = """## Whole networks

Instructions per inference, counted by a plugin of the emulator (`python -m benchmarks.instructions`), in millions, with
random weights{before}. Instruction counts do not see latency.

"""


def page(rows: Sequence[Measured], tool: str, counts: Counts, before: Counts, commit: str) -> str:
    """All of it."""
    ceilings = "".join(f"| {core.model} | {core.bits} | {core.lookups} | {core.bytes} |\n" for core in CORES)
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
