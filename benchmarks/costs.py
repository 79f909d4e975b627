"""Measure what kernels take beside their estimates, for the table that the choice of kernels reads.

    python -m benchmarks.costs [-o targets/measured.json] [--variants avx512vpopcntdq avx2] [--layers TEXT...]
    python -m benchmarks.costs --check                # how good is the choice, on problems that are not measured

Kernels are timed one after the other in rounds, so that a slow moment hits all alike; the quartile of rounds counts.
Results are not verified here: that is what tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean, median
from time import perf_counter_ns
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import inspect
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.targets.choose import nanoseconds
from qcompiler.targets.measured import family_and_tile, kind_of, size_of
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants, Kernel, Variant
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.x86 import TARGET

PER_FAMILY = 10
ROUNDS = 9
MEASURED = Path("targets/measured.json")


@dataclass(frozen=True)
class Shape:
    """A layer: input channels and size, outputs, kernel, stride; `size` (1, n) are n rows of a matrix.

    depthwise: channel by channel.
    """

    channels: int
    size: tuple[int, int]
    outputs: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False

    def problem(self, weights: Codes, activations: Codes, packing: Packing | None) -> Conv2d:
        """The layer on codes, or on floats where there is no packing; it stores floats."""
        pad = self.kernel // 2
        border = float(activations.low) if pad else 0.0
        halo = Halo(pad, pad, pad, pad)
        x = Buffer(1, *self.size, self.channels, "float32", halo=halo, halo_value=border)
        if packing is not None:
            x = replace(x, element=activations, packing=packing)
        square, strides, pads = (self.kernel, self.kernel), (self.stride, self.stride), (pad, pad, pad, pad)
        groups = self.channels if self.depthwise else 1
        problem = Conv2d(x, self.outputs, square, strides, pads, groups=groups, pad_value=border, weights=weights)
        out = Buffer(1, *problem.out_hw, self.outputs, "float32")
        return replace(problem, epilogue=(Operation("store", into=out),))


SHAPES = (
    Shape(64, (56, 56), 64, 3), Shape(128, (28, 28), 128, 3), Shape(256, (14, 14), 256, 3), Shape(512, (7, 7), 512, 3),
    Shape(64, (56, 56), 64), Shape(256, (14, 14), 256), Shape(512, (7, 7), 1024),
    Shape(1024, (1, 1), 1024), Shape(4096, (1, 1), 1024), Shape(1024, (1, 8), 512), Shape(4096, (1, 1), 4096),
    # tiles that divide none of the others
    Shape(128, (26, 26), 80, 3), Shape(96, (12, 12), 192, 3), Shape(192, (20, 20), 96), Shape(384, (13, 13), 160),
    Shape(1152, (1, 1), 336),
)  # fmt: skip
DEPTHWISE = (
    Shape(64, (56, 56), 64, 3, depthwise=True), Shape(512, (14, 14), 512, 3, depthwise=True),
    Shape(128, (56, 56), 128, 3, 2, depthwise=True),
)  # fmt: skip
FIRST = (Shape(3, (224, 224), 64, 7, 2), Shape(1, (28, 28), 32, 5), Shape(3, (32, 32), 128, 3))
"""Layers of images, whose pixels fill no word."""
OTHERS = (
    Shape(32, (40, 40), 48, 3), Shape(48, (24, 24), 96, 3, 2), Shape(96, (20, 20), 96, 3), Shape(160, (10, 10), 160, 3),
    Shape(192, (13, 13), 384, 3), Shape(384, (8, 8), 256, 3), Shape(256, (28, 28), 128), Shape(144, (32, 32), 32),
    Shape(640, (9, 9), 320), Shape(2048, (1, 1), 1000), Shape(768, (1, 5), 768), Shape(800, (1, 64), 500),
)  # fmt: skip
"""Of which no table knows."""


def signed(bits: int) -> Codes:
    """Weights of few bits."""
    return BINARY if bits == 1 else Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def unsigned(bits: int) -> Codes:
    """Activations of few bits."""
    return Codes(0, 2**bits - 1)


TERNARY = Codes(-1, 1)
WIDTHS = (
    (BINARY, BINARY), *((signed(w), unsigned(a)) for w in (1, 2, 3) for a in (1, 2, 3, 4)),
    *((signed(w), unsigned(8)) for w in range(1, 9)), (signed(4), unsigned(4)), (TERNARY, unsigned(2)),
    (TERNARY, unsigned(4)), (TERNARY, unsigned(8)),
    # by pixels
    *((signed(w), unsigned(1)) for w in (4, 5, 6, 8)), (signed(4), unsigned(2)), (signed(6), unsigned(2)),
)  # fmt: skip
WIDTHS_OF_DEPTHWISE = ((signed(8), unsigned(8)), (signed(4), unsigned(4)))
"""The same kernels do all."""
WIDTHS_OF_FIRST = ((signed(8), unsigned(8)), (signed(4), unsigned(8)))
CHECKED = (
    (BINARY, BINARY), (BINARY, unsigned(2)), (BINARY, unsigned(4)), (signed(2), unsigned(2)), (signed(2), unsigned(4)),
    (signed(3), unsigned(3)), (signed(4), unsigned(4)), (signed(8), unsigned(8)), (TERNARY, unsigned(8)),
)  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """A kernel and the nanoseconds it took."""

    problem: Conv2d
    kernel: Kernel
    nanoseconds: float


def candidates(variant: Variant, shape: Shape, widths: tuple[Codes, Codes]) -> Iterator[tuple[Conv2d, Kernel]]:
    """The best kernels of every family by estimate, in every storage of the input."""
    packings: tuple[Packing | None, ...] = ("planes", "bytes", "flips", "subsets", "pixels")
    # where each product is of an input of its own, floats are not far behind
    for packing in ("bytes", None) if shape.depthwise else packings:
        if packing in ("flips", "subsets") and widths[1].levels > 64:
            continue
        problem = shape.problem(*widths, packing)
        taken: dict[str, int] = defaultdict(int)
        for kernel in variant.kernels(problem):
            family, _ = family_and_tile(kernel.name)
            taken[family] += 1
            if taken[family] <= PER_FAMILY:
                yield problem, kernel


def random_constants(problem: Conv2d, rng: np.random.Generator) -> Constants:
    """Weights of a layer."""
    codes, shape = problem.weights, (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
    return Constants(rng.choice(np.arange(codes.low, codes.high + 1, codes.step), shape).astype(np.float32))


def timed(variant: Variant, found: Sequence[tuple[Conv2d, Kernel]]) -> list[Timing]:
    """All candidates for one layer, in turns."""
    rng = np.random.default_rng(0)
    runs = []
    for problem, kernel in found:
        runner = KernelRunner(kernel, variant, random_constants(problem, rng))
        x, outputs = aligned(np.zeros(problem.x.storage_shape, problem.x.dtype)), empty_outputs(problem)
        runs.append((runner, runner.bind(x, [], outputs), x, outputs))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for (runner, pointers, _, _), collected in zip(runs, times, strict=True):
            runner.call(pointers, 0, runner.items)
            repeats, begin = 0, perf_counter_ns()
            while repeats < 3 or perf_counter_ns() - begin < 300_000:
                runner.call(pointers, 0, runner.items)
                repeats += 1
            collected.append((perf_counter_ns() - begin) / repeats)
    return [
        Timing(problem, kernel, float(np.quantile(collected, 0.25)))
        for (problem, kernel), collected in zip(found, times, strict=True)
    ]


def ratios(timings: Sequence[Timing]) -> dict[str, Any]:
    """Measured over estimated time by kind of problem, family, tile and size, each the median of all layers."""
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for one in timings:
        family, tile = family_and_tile(one.kernel.name)
        place = (kind_of(one.problem), family, tile, f"{size_of(one.problem):.1f}")
        found[place].append(one.nanoseconds / one.kernel.cost)
    result: dict[str, Any] = {}
    for (kind, family, tile, size), every in sorted(found.items()):
        tiles = result.setdefault(kind, {}).setdefault(family, {})
        tiles.setdefault(tile, {})[size] = round(median(every), 3)
    return result


def check(variants: Sequence[Variant], console: Console) -> None:
    """Print what is chosen beside the best of all candidates."""
    for variant in variants:
        table = Table("layer", "widths", "chosen", "us", "best", "us", "ratio", title=variant.name)
        regrets = []
        for shape, widths in track([(s, w) for s in OTHERS for w in CHECKED], variant.name, console=console):
            timings = timed(variant, list(candidates(variant, shape, widths)))
            best = min(timings, key=lambda one: one.nanoseconds)
            taken = min(timings, key=lambda one: nanoseconds(variant, one.problem, one.kernel))
            regrets.append(taken.nanoseconds / best.nanoseconds)
            kernels = [(one.kernel.name, f"{one.nanoseconds / 1e3:.1f}") for one in (taken, best)]
            table.add_row(label_of(shape), label_of_widths(widths), *kernels[0], *kernels[1], f"{regrets[-1]:.2f}")
        console.print(table)
        within = sum(regret <= 1.1 for regret in regrets)
        console.print(f"{geometric_mean(regrets):.3f} of the best on average, {within} of {len(regrets)} within 10 %")


def label_of(shape: Shape) -> str:
    """A layer for people."""
    kernel = f"{shape.kernel}x{shape.kernel}/{shape.stride}{' depthwise' if shape.depthwise else ''}"
    return f"{kernel} {shape.channels}-{shape.outputs} {shape.size[0]}x{shape.size[1]}"


def measure(
    variants: Sequence[Variant], layers: Sequence[tuple[Shape, tuple[Codes, Codes]]], path: Path, console: Console
) -> None:
    """Write the table, keeping what it holds of other variants and of other sizes of layers."""
    known = json.loads(path.read_text())["ratios"] if path.exists() else {}
    for variant in variants:
        timings: list[Timing] = []
        for shape, widths in track(layers, variant.name, console=console):
            timings += timed(variant, list(candidates(variant, shape, widths)))
        merge(known.setdefault(variant.name, {}), ratios(timings))
    content = {"machine": inspect().cpu, "ratios": known}
    path.write_text(json.dumps(content, indent=0, sort_keys=True) + "\n")
    console.print(f"wrote {path}")


def merge(table: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put what was measured into a table, in place of what it holds of the same."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            merge(table.setdefault(key, {}), value)
        else:
            table[key] = value


def label_of_widths(widths: tuple[Codes, Codes]) -> str:
    """Weights and activations for people."""
    weights = "ternary" if widths[0] == TERNARY else f"w{widths[0].label}"
    return f"{weights} a{widths[1].label}"


def layers_with(texts: Sequence[str]) -> list[tuple[Shape, tuple[Codes, Codes]]]:
    """The layers that the table is made of, those with one of the texts in their name."""
    every = [(shape, widths) for shape in SHAPES for widths in WIDTHS]
    every += [(shape, widths) for shape in DEPTHWISE for widths in WIDTHS_OF_DEPTHWISE]
    every += [(shape, widths) for shape in FIRST for widths in WIDTHS_OF_FIRST]
    return [each for each in every if any(text in f"{label_of(each[0])} {label_of_widths(each[1])}" for text in texts)]


def main() -> int:
    """Measure, or check; on the first processor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--variants", nargs="+", default=[], metavar="CPU", help="as --mcpu; default: all that run here"
    )
    parser.add_argument("-o", "--output", type=Path, default=MEASURED, metavar="FILE")
    parser.add_argument(
        "--layers", nargs="+", default=[""], metavar="TEXT", help="those with a text in their name, as '1x1/1 64-64'"
    )
    parser.add_argument("--check", action="store_true", help="print the choice beside the best")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    variants = [v for v in TARGET.variants(options.variants) if all(f.name in flags for f in v.features)]
    console = Console(width=max(Console().width, 150))
    if options.check:
        check(variants, console)
    else:
        measure(variants, layers_with(options.layers), options.output, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
