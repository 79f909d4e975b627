"""The inner loops of ARM's kernels at every width: multiply-adds per cycle in llvm-mca's models, and what bounds them.

A core's ceiling for a form is what its vector pipes can do if nothing else takes a slot: exclusive or, count and add
for 128 products of one bit; tbl and add for 64 products of one plane of weights; smull or smlal for 8 products of
bytes, and sadalp where 16 bits do not hold the sum of two; sdot for 16, smmla for 32. The ceiling of a width is that
of the best of these.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.inner_loops import InnerLoop, assembly, inner_loops
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, Packing, table_digits
from qcompiler.targets.arm import TARGET, ArmVariant
from qcompiler.targets.arm.byte_dots import largest_input
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Kernel
from qcompiler.targets.vector.byte_sums import fits_sixteen_bits
from qcompiler.targets.vector.planes import plane_pairs, weight_planes

Width = tuple[Codes, Codes]
"""Weights and activations."""


@dataclass(frozen=True)
class Core:
    """A core in llvm-mca's models, the level that serves it, and products per cycle of its vector pipes by form.

    long_bytes: of bytes of which 16 bits do not hold the sum of two products.
    """

    model: str
    level: str
    bits: float
    lookups: float
    bytes: float
    long_bytes: float


# ADR 7; of lookups and bytes likewise: two slots for 64 products, of which Cortex-A72 gives a tbl three; smull and
# smlal on one pipe, sdot on one or two, smmla on two. Without dot instructions sixteen products that are added up in 32
# bits at once take two of smull and two of sadalp, which Cortex-A72 has on the other pipe
CORES = (
    Core("cortex-a53", "cortex-a53", 42.7, 32, 8, 4),
    Core("cortex-a55", "cortex-a55", 42.7, 32, 16, 16),
    Core("cortex-a72", "cortex-a72", 85.3, 32, 8, 8),
    Core("neoverse-n1", "cortex-a76", 85.3, 64, 32, 32),
    Core("neoverse-n2", "i8mm", 85.3, 64, 64, 64),
)


def activations(bits: int) -> Codes:
    """Those behind a ReLU."""
    return Codes(0, 2**bits - 1)


SIGNED = {bits: Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (2, 3, 4, 8)}
WIDTHS: Mapping[str, Width] = {
    "w1a1": (BINARY, BINARY),
    **{f"w1a{bits}": (BINARY, activations(bits)) for bits in (2, 3, 4, 8)},
    "w2a1": (SIGNED[2], activations(1)),
    "w2a2": (SIGNED[2], activations(2)),
    "w2a2, weights -3, -1, 1, 3": (Codes(-3, 3, 2), activations(2)),
    "w2a4": (SIGNED[2], activations(4)),
    "w2a4, weights -3, -1, 1, 3": (Codes(-3, 3, 2), activations(4)),
    "w3a3": (SIGNED[3], activations(3)),
    "w4a4": (SIGNED[4], activations(4)),
    "w8a8": (SIGNED[8], activations(8)),
    "ternary x 8": (Codes(-1, 1), activations(8)),
}

# by mnemonic: products of one bit, of a plane of weights, of bytes
_BITS = {"cnt": 128}
_LOOKUPS = {"tbl": 64}
_BYTES = {"smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8, "sdot": 16, "smmla": 32}


@dataclass(frozen=True)
class Measured:
    """The inner loop of the kernel that is taken for a width on a core."""

    width: str
    core: str
    kernel: str
    rate: float
    ceiling: float
    vectors: float
    loads: float
    others: float
    spills: int

    @property
    def share(self) -> float:
        """Of the ceiling."""
        return self.rate / self.ceiling


def tool() -> str:
    """The newest llvm-mca: models of Neoverse are those of Cortex-A57 before LLVM 15. Empty if there is none."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 14, -1)), "llvm-mca"]
    return next((name for name in names if shutil.which(name)), "")


def layer(width: Width, packing: Packing) -> Conv2d:
    """A 3x3 convolution of 128 to 128 channels of 28x28, whose results are the next signs or floats."""
    weights, codes = width
    halo = Halo(1, 1, 1, 1)
    binary = codes.binary and weights.binary
    x = Buffer(1, 28, 28, 128, codes, halo=halo, halo_value=-1.0 if binary else 0.0, packing=packing)
    floats = Buffer(1, 28, 28, 128, "float32")
    operation = Operation("threshold", into=x) if binary else Operation("store", into=floats)
    return Conv2d(x, 128, (3, 3), pads=(1,) * 4, weights=weights, epilogue=(operation,))


def offered(width: Width, variant: ArmVariant) -> list[tuple[Conv2d, Kernel]]:
    """The kernels of a level for all packings, cheapest estimate first."""
    packings: tuple[Packing, ...] = ("planes", "bytes", "flips", "subsets")
    problems = [layer(width, packing) for packing in packings]
    found = [(problem, kernel) for problem in problems for kernel in variant.kernels(problem)]
    return sorted(found, key=lambda pair: pair[1].cost)


def products(problem: Conv2d, loop: InnerLoop) -> float:
    """Multiply-adds of an iteration."""
    bits = 1 if problem.binary else plane_pairs(problem)
    lookups = len(weight_planes(problem.weights).factors) * max(1, len(problem.x.digits))
    shares = ((_BITS, bits), (_LOOKUPS, lookups), (_BYTES, 1))
    return sum(loop.count(name) * count / share for names, share in shares for name, count in names.items())


def main_loop(problem: Conv2d, kernel: Kernel, variant: ArmVariant) -> InnerLoop:
    """The inner loop that makes the most products."""
    return max(inner_loops(assembly(kernel, variant)), key=lambda loop: products(problem, loop))


def ceiling(width: Width, core: Core) -> float:
    """Multiply-adds per cycle of the best form."""
    weights, codes = width
    planes = layer(width, "planes")
    bits = core.bits / (1 if planes.binary else plane_pairs(planes))
    lookups = len(weight_planes(weights).factors) * len(table_digits(codes.levels))
    pairs = fits_sixteen_bits(largest_input(planes), max(abs(weights.low), abs(weights.high)))
    products = core.bytes if pairs else core.long_bytes
    return max(bits, core.lookups / lookups if codes.levels > 2 else 0, products)


def measured(name: str, core: Core) -> Measured:
    """Cycles of the kernel that is taken for a width on a core."""
    (variant,) = TARGET.variants([core.level])
    problem, kernel = offered(WIDTHS[name], variant)[0]
    loop = main_loop(problem, kernel, variant)
    macs = products(problem, loop)

    def per_64(chosen: Callable[[str], bool]) -> float:
        return 64 * sum(map(chosen, loop.instructions)) / macs

    rate = macs / loop.cycles("aarch64", core.model, tool())
    vectors, loads = per_64(_is_vector), per_64(_is_load)
    others = 64 * len(loop.instructions) / macs - vectors - loads
    return Measured(
        name, core.model, kernel.name, rate, ceiling(WIDTHS[name], core), vectors, loads, others, loop.spills
    )


def all_measured() -> Iterator[Measured]:
    """Every width on every core."""
    for name in WIDTHS:
        for core in CORES:
            yield measured(name, core)


def _is_load(instruction: str) -> bool:
    return instruction.startswith("ld")


def _is_vector(instruction: str) -> bool:
    operands = instruction.split(None, 1)[-1]
    return not _is_load(instruction) and not instruction.startswith("st") and operands.startswith("v")
