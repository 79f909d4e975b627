"""Inner loops on ARM cores, without ARM hardware: cycles in llvm-mca's static models.

    python -m benchmarks.arm [-o docs/performance_arm.md --before COUNTS.json --commit COMMIT]

prints binary layers of several shapes, and one layer of every width. -o writes the latter as a page, with the
instructions of whole networks beside those of --before (`python -m benchmarks.arm_networks`) where it is given.

The models know pipes and latencies, but no caches, no branch prediction and no memory. Time under an emulator says
nothing about a processor and is not reported.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.arm_widths import all_measured, tool
from benchmarks.inner_loops import assembly, inner_loops
from qcompiler.ir.codes import BINARY
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.arm import TARGET, ArmVariant
from qcompiler.targets.problem import Conv2d, Operation

# llvm-mca's name, and the most products per cycle: three vector instructions for 128, on one pipe or two
CORES = {"cortex-a53": 42.7, "cortex-a55": 42.7, "cortex-a72": 85.3, "neoverse-n1": 85.3}
DOTPROD_CORES = ("cortex-a55", "neoverse-n1")
VARIANTS = ("generic", "cortex-a72", "dotprod", "cortex-a76")
LAYERS = {
    "3x3 C64 56x56": (64, 64, 56, 3),
    "3x3 C128 28x28": (128, 128, 28, 3),
    "3x3 C256 14x14": (256, 256, 14, 3),
    "3x3 C512 7x7": (512, 512, 7, 3),
    "1x1 C256 14x14": (256, 256, 14, 1),
    "FC 4096x4096": (4096, 4096, 1, 1),
}
# published assembly of other engines, read by the same models
PEERS = {
    "Larq Compute Engine 8x4x4 (published)": (3.5, {"cortex-a53": 31, "cortex-a55": 34, "cortex-a72": 85,
                                                    "neoverse-n1": 85}),
    "dabnn bgemm 8x6 (published)": (4.2, {"cortex-a53": 14, "cortex-a55": 19, "cortex-a72": 48, "neoverse-n1": 51}),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One inner loop: instructions per 128 products, stack accesses, and products per cycle by core."""

    layer: str
    variant: str
    kernel: str
    instructions: float
    spills: int
    rates: dict[str, float]


def layer_problem(inputs: int, outputs: int, size: int, kernel: int) -> Conv2d:
    """A binary convolution whose result is packed for the next."""
    pad = kernel // 2
    halo = Halo(pad, pad, pad, pad)
    x, y = (Buffer(1, size, size, c, BINARY, halo=halo, halo_value=-1.0) for c in (inputs, outputs))
    return Conv2d(x, outputs, (kernel, kernel), pads=(pad,) * 4, epilogue=(Operation("threshold", into=y),))


def rows(name: str, variant: ArmVariant) -> Iterator[Row]:
    """The inner loops of the kernel that is chosen for a layer."""
    kernel = variant.kernels(layer_problem(*LAYERS[name]))[0]
    cores = DOTPROD_CORES if variant.isa.dotprod else tuple(CORES)
    for loop in inner_loops(assembly(kernel, variant)):
        products = 128 * loop.count("cnt")
        if products:
            rates = {core: products / loop.cycles("aarch64", core) for core in cores}
            yield Row(name, variant.name, kernel.name, len(loop.instructions) * 128 / products, loop.spills, rates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arm", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="write the page of all widths")
    parser.add_argument("--before", type=Path, help="instructions of whole networks to compare with")
    parser.add_argument("--commit", default="an earlier version", help="where those are from")
    options = parser.parse_args(arguments)
    if shutil.which("llvm-mca") is None:
        print("error: llvm-mca is not installed; install the package llvm", file=sys.stderr)
        return 1
    if options.output is not None:
        return _write(options.output, options.before, options.commit)
    _print_binary()
    _print_widths()
    return 0


def _write(output: Path, before: Path | None, commit: str) -> int:
    """The page of all widths and whole networks."""
    # of networks that are made by torch
    from benchmarks.arm_networks import counts
    from benchmarks.arm_page import page

    with tempfile.TemporaryDirectory() as folder:
        now = counts(Path(folder))
    then = json.loads(before.read_text()) if before else {}
    output.write_text(page(list(all_measured()), tool(), now, then, commit))
    return 0


def _print_widths() -> None:
    """A layer of every width."""
    table = Table(title=f"multiply-adds per cycle of a 3x3 layer of 128 channels ({tool()}; no caches, no branches)")
    for heading in ("width", "core", "kernel", "MAC/cycle", "ceiling", "share", "vector", "loads", "rest", "stack"):
        table.add_column(heading, justify="left" if heading in ("width", "core", "kernel") else "right")
    for row in all_measured():
        instructions = (f"{count:.2f}" for count in (row.vectors, row.loads, row.others))
        rates = (f"{row.rate:.1f}", f"{row.ceiling:.1f}", f"{row.share:.0%}")
        table.add_row(row.width, row.core, row.kernel, *rates, *instructions, str(row.spills))
    Console(width=150).print(table)


def _print_binary() -> None:
    """Binary layers of several shapes."""
    table = Table(title="binary multiply-adds per cycle of the inner loop (llvm-mca; no caches, no branches)")
    for heading in ("layer", "variant", "kernel", "instructions per 128", "stack", *CORES):
        table.add_column(heading, justify="left" if heading in ("layer", "variant", "kernel") else "right")
    for layer in LAYERS:
        for (variant,) in (TARGET.variants([name]) for name in VARIANTS):
            for row in rows(layer, variant):
                rates = (f"{row.rates[core]:.1f}" if core in row.rates else "-" for core in CORES)
                counts = (f"{row.instructions:.2f}", str(row.spills))
                table.add_row(row.layer, row.variant, row.kernel, *counts, *rates)
    for peer, (instructions, peer_rates) in PEERS.items():
        table.add_row(peer, "", "", f"{instructions:.1f}", "", *(str(peer_rates[core]) for core in CORES))
    table.add_row("ceiling", "", "", "3.00", "", *(str(limit) for limit in CORES.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
