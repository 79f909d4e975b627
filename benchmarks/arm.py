"""Binary inner loops on ARM cores, without ARM hardware: cycles in llvm-mca's static models.

    python -m benchmarks.arm

The models know pipes and latencies, but no caches, no branch prediction and no memory. Time under an emulator says
nothing about a processor and is not reported.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

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


def main() -> int:
    """Print the table."""
    if shutil.which("llvm-mca") is None:
        print("error: llvm-mca is not installed; install the package llvm", file=sys.stderr)
        return 1
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
