"""Every reduction alone: what its registers hold is what its meaning in numpy says."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import Literal

import numpy as np
import pytest
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Element, Packing, load
from qcompiler.ir.weight_grids import WeightGrid
from qcompiler.targets import arm, reference, x86
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Array, Constants, Variant
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.emit import lanes
from qcompiler.targets.vector.finish import Finish
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.vector.nibble_reduction import table_packing
from qcompiler.targets.vector.reduction import Reduction, Registers
from qcompiler.targets.vector.tile import Tile
from tests.targets.emulated import EmulatedRunner, missing
from tests.targets.problems import RUNNABLE, drawn, values

ARM = {"aarch64": arm.TARGET.variants(["i8mm", "dotprod", "generic"]), "arm": arm.TARGET.variants(["armv7"])}


@dataclasses.dataclass(frozen=True)
class Raw(Finish):
    """Registers as they are, in floats."""

    def emit(self, tile: Tile, registers: Registers) -> None:
        n, y, x0 = tile.pixel
        for p, row in enumerate(registers):
            for b, register in enumerate(row):
                value = register[lanes(0)]
                if tile.source.element != "float32":
                    value = T.Cast("float32x16", value)
                tile.epilogue.emit((n, y, x0 + p), tile.block + b, value)


def layer(
    c: int, o: int, h: int, w: int, kernel: int, x: Element, weights: Codes, in_: Packing | Literal["tables"] = "planes"
) -> Conv2d:
    """Of codes in planes, bytes, or the tables that the weights are looked up in."""
    packing = table_packing(weights) if in_ == "tables" else in_
    problem = Conv2d(Buffer(1, h, w, c, x, packing=packing), o, (kernel, kernel), weights=weights)
    return dataclasses.replace(problem, epilogue=(Operation("store", into=Buffer(1, *problem.out_hw, o, "float32")),))


def on_grid(c: int, o: int, rows: int, bits: int, size: int) -> Conv2d:
    return dataclasses.replace(layer(c, o, 1, rows, 1, "float32", BINARY), grid=WeightGrid(bits, size))


def rounded(c: int, o: int, rows: int, grid: WeightGrid) -> Conv2d:
    return dataclasses.replace(layer(c, o, 1, rows, 1, "float32", BINARY), grid=grid, rounded=True)


def centred(problem: Conv2d) -> Conv2d:
    return dataclasses.replace(problem, centred=True)


def in_channels(problem: Conv2d) -> Conv2d:
    return dataclasses.replace(problem, groups=problem.x.c)


LAYERS = {
    "float": layer(5, 33, 4, 7, 2, "float32", BINARY),
    "float by 4 bits, blocks of 32": on_grid(70, 65, 5, 4, 32),
    "float by 2 bits, one row": on_grid(96, 128, 1, 2, 16),
    "float by 8 bits": on_grid(257, 20, 3, 8, 257),
    "float by 1 bit": on_grid(67, 70, 2, 1, 67),
    "rounded floats by 4 bits": rounded(96, 64, 3, WeightGrid(4, 32)),
    "rounded floats by 2 bits, 0 among them": rounded(70, 130, 1, WeightGrid(2, 32, 1)),
    "rounded floats by 8 bits": rounded(64, 48, 2, WeightGrid(8, 64)),
    "binary": layer(70, 41, 5, 9, 3, BINARY, BINARY),
    "binary, runs of 128 channels": layer(256, 20, 3, 5, 3, BINARY, BINARY),
    "binary, one pixel": layer(1152, 32, 1, 1, 1, BINARY, BINARY),
    "binary, runs of 64 channels": layer(64, 48, 5, 6, 3, BINARY, BINARY),
    "ternary x 1 bit": layer(70, 41, 5, 9, 3, BINARY, Codes(-1, 1)),
    "ternary x 3 bits, one pixel": layer(96, 128, 1, 1, 1, Codes(-3, 4), Codes(-1, 1)),
    "2 x 2 bits": layer(70, 24, 4, 6, 3, Codes(0, 3), Codes(-2, 1)),
    "3 x 2 bits": layer(40, 17, 4, 6, 2, Codes(-3, 4), Codes(-3, 3, 2)),
    "2 x 2 bits, 64 channels": layer(70, 64, 4, 6, 3, Codes(0, 3), Codes(-2, 1)),
    "2 x 2 bits of odd numbers, 112 channels": layer(64, 100, 3, 5, 2, Codes(-3, 3, 2), Codes(-3, 3, 2)),
    "2 x 1 bits, 256 channels": layer(33, 256, 4, 6, 3, Codes(-1, 2), BINARY),
    "3 x 3 bits, 128 channels": layer(96, 128, 3, 4, 1, Codes(0, 7), Codes(-4, 3)),
    "3 x 1 bits, 64 channels": layer(130, 60, 3, 3, 2, Codes(-4, 3), BINARY),
    "8 x 4 bits": layer(33, 16, 2, 4, 1, Codes(0, 255), Codes(-8, 7)),
    "4 x 1 bits in tables": layer(70, 41, 5, 9, 3, Codes(0, 15), BINARY, "tables"),
    "2 x 2 bits in tables": layer(33, 24, 4, 6, 2, Codes(-1, 2), Codes(-2, 1), "tables"),
    "5 x 2 bits of odd numbers in tables": layer(16, 40, 3, 5, 3, Codes(-31, 31, 2), Codes(-3, 3, 2), "tables"),
    "6 x 1 bits in tables, sums beyond 16 bits": layer(640, 33, 3, 4, 3, Codes(0, 63), BINARY, "tables"),
    "6 x 2 bits in tables": layer(128, 64, 3, 4, 1, Codes(-32, 31), Codes(-1, 1), "tables"),
    "3 x 1 bits in tables, one pixel": layer(530, 33, 1, 1, 1, Codes(0, 7), Codes(0, 1), "tables"),
    "8 x 1 bits in tables": layer(48, 50, 3, 4, 2, Codes(0, 255), BINARY, "tables"),
    "7 x 1 bits in tables, 0 and 1": layer(70, 20, 4, 5, 3, Codes(-64, 63), Codes(0, 1), "tables"),
    "200 levels x 1 bit in tables, sums beyond 16 bits": layer(528, 17, 3, 4, 3, Codes(-100, 99), BINARY, "tables"),
    "21 levels x 1 bit in tables": layer(48, 50, 3, 4, 2, Codes(-10, 10), BINARY, "tables"),
    "1 x 4 bits by pixels": layer(70, 41, 5, 13, 3, BINARY, Codes(-8, 7), "pixels"),
    "2 x 5 bits by pixels": layer(64, 16, 6, 9, 2, Codes(-3, 3, 2), Codes(-16, 15), "pixels"),
    "1 x 8 bits by pixels, rows": layer(33, 50, 1, 40, 1, Codes(0, 1), Codes(-128, 127), "pixels"),
    "8 x 8 bits in bytes": layer(33, 40, 3, 5, 3, Codes(0, 255), Codes(-128, 127), "bytes"),
    "8 x 8 bits in bytes, one pixel": layer(130, 48, 1, 1, 1, Codes(-128, 127), Codes(-127, 127), "bytes"),
    "7 x 4 bits in bytes": layer(18, 20, 3, 4, 2, Codes(-64, 63), Codes(-8, 7), "bytes"),
    "8 x 2 bits in bytes": layer(33, 60, 3, 4, 2, Codes(0, 255), Codes(-2, 1), "bytes"),
    "4 x 4 bits in bytes, one pixel": layer(70, 96, 1, 1, 1, Codes(0, 15), Codes(-8, 7), "bytes"),
    "8 x 2 bits in bytes, one pixel": layer(70, 256, 1, 1, 1, Codes(-128, 127), Codes(-2, 1), "bytes"),
    "8 x 1 bits in bytes, three rows": layer(33, 120, 1, 3, 1, Codes(0, 255), BINARY, "bytes"),
    "8 x 1 bits in bytes, two blocks": layer(12, 30, 3, 4, 2, Codes(-128, 127), BINARY, "bytes"),
    **{
        f"8 x {bits} bits in bytes, eight blocks": layer(
            9, 125, 2, 3, 1, Codes(0, 255), Codes(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), "bytes"
        )
        for bits in (3, 5, 6, 7)
    },
    "7 x 7 bits in bytes, twelve blocks": layer(5, 192, 1, 5, 1, Codes(0, 127), Codes(-64, 63), "bytes"),
    "3 bits of odd numbers in bytes": layer(9, 16, 2, 4, 1, Codes(-7, 7, 2), Codes(-3, 3), "bytes"),
    "7 x 8 bits in bytes, runs of eight": layer(40, 33, 4, 7, 2, Codes(0, 127), Codes(-127, 127), "bytes"),
    "8 x 8 bits in bytes, runs of eight, two blocks": layer(24, 32, 3, 6, 1, Codes(0, 255), Codes(-128, 127), "bytes"),
    "8 x 8 bits in bytes, runs of sixteen": layer(48, 33, 3, 6, 2, Codes(-128, 127), Codes(-128, 127), "bytes"),
    "4 x 4 bits in bytes, runs of sixteen": layer(16, 60, 3, 5, 2, Codes(-1, 14), Codes(-8, 7), "bytes"),
    "8 x 3 bits in bytes, runs of eight": layer(16, 64, 1, 4, 1, Codes(-128, 127), Codes(-4, 3), "bytes"),
    "8 x 8 bits in bytes, centred": centred(layer(33, 40, 3, 5, 3, Codes(0, 255), Codes(-128, 127), "bytes")),
    "5 x 4 bits in bytes, centred": centred(layer(40, 64, 3, 4, 2, Codes(-3, 28), Codes(-8, 7), "bytes")),
    "8 x 8 bits in bytes, centred, one pixel": centred(
        layer(130, 48, 1, 1, 1, Codes(-128, 127), Codes(-128, 127), "bytes")
    ),
    "8 x 8 bits in bytes, three channels": layer(3, 40, 9, 12, 7, Codes(0, 255), Codes(-128, 127), "bytes"),
    "8 x 4 bits in bytes, one channel": layer(1, 60, 7, 9, 5, Codes(-128, 127), Codes(-8, 7), "bytes"),
    "8 x 8 bits in bytes, two channels, centred": centred(
        layer(2, 33, 5, 8, 3, Codes(-3, 252), Codes(-128, 127), "bytes")
    ),
    "channel by channel": in_channels(layer(21, 21, 4, 6, 3, Codes(-3, 252), Codes(-128, 127), "bytes")),
    "channel by channel, 48 channels": in_channels(layer(48, 48, 5, 9, 3, Codes(0, 255), Codes(-128, 127), "bytes")),
    "channel by channel, 5x5": in_channels(layer(80, 80, 6, 9, 5, Codes(-8, 7), Codes(-8, 7), "bytes")),
    "channel by channel, centred": centred(
        in_channels(layer(21, 21, 4, 6, 3, Codes(0, 255), Codes(-128, 127), "bytes"))
    ),
}


COMMON = {"ternary_conv2d", "float_conv2d", "planes_conv2d", "bytes_conv2d", "bytes_depthwise", "few_bits_conv2d"}
"""Families that all processors but ARM's share."""


def reductions(variant: Variant) -> Iterator[tuple[str, DirectConv2d]]:
    """A kernel of every reduction on every layer that it can do."""
    for name, problem in LAYERS.items():
        found = {}
        for kernel in reversed(variant.kernels(problem)):
            assert isinstance(kernel, DirectConv2d)
            found[kernel.reduction] = kernel
        yield from ((name, kernel) for kernel in found.values())


def check(
    variant: Variant,
    make_runner: type[KernelRunner] | type[EmulatedRunner],
    done: Collection[tuple[str, Reduction]] = (),
) -> set[tuple[str, Reduction]]:
    """The layers and reductions that were right; done: those of another variant, which are left out."""
    right = set()
    for name, kernel in reductions(variant):
        if (name, kernel.reduction) in done:
            continue
        problem, rng = kernel.problem, np.random.default_rng(0)
        shape = (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
        weights = np.rint(rng.normal(size=shape) * 4).astype(np.float32)
        if problem.grid is not None:
            weights = levels(rng, problem.grid, shape)
        if problem.x.packed:
            weights = drawn(rng, problem.weights, shape)
        if problem.centred:
            weights += rng.integers(-127, 128, (len(weights), 1, 1, 1)).astype(np.float32)
        x, outputs = aligned(values(rng, problem.x, whole=True)), empty_outputs(problem)
        if problem.rounded and problem.grid is not None:
            # integers that rounding leaves alone
            x.reshape(-1, problem.x.c)[:, :: problem.grid.size] = 127
        runner = make_runner(dataclasses.replace(kernel, finish=Raw()), variant, Constants(weights=weights))
        runner.call(runner.bind(x, [], outputs), 0, kernel.items)
        held = outputs[0].reshape(-1, problem.out_channels)
        expected = kernel.reduction.meaning(
            problem, patches(problem, load(problem.x, x)), dense(problem, weights).reshape(len(weights), -1)
        )
        np.testing.assert_array_equal(held, expected, err_msg=f"{kernel.name}: {name}")
        right.add((name, kernel.reduction))
    return right


def families_of(right: Iterable[tuple[str, Reduction]]) -> set[str]:
    return {reduction.family for _, reduction in right}


def levels(rng: np.random.Generator, grid: WeightGrid, shape: tuple[int, ...]) -> Array:
    """Weights on a grid whose ends all blocks have, with small integers as steps."""
    index = rng.integers(0, 2**grid.bits, shape[:2])
    index[:, :: grid.size], index[:, 1 :: grid.size] = 0, 2**grid.bits - 1
    block = np.arange(shape[1]) // grid.size
    # by powers of two far apart, so that no grid serves two blocks
    steps = 4.0 ** rng.permuted(np.tile(np.arange(block[-1] + 1), (shape[0], 1)), axis=1)
    # without an index for 0, unless the grid has one
    lows = (rng.integers(1, 4, steps.shape) + 0.5 if grid.zero is None else grid.zero) * steps
    return (index * steps[:, block] - lows[:, block]).astype(np.float32).reshape(shape)


def dense(problem: Conv2d, weights: Array) -> Array:
    """Weights [O, C, kh, kw] that are 0 outside of the group of an output channel."""
    result = np.zeros((len(weights), problem.x.c, *problem.kernel), np.float32)
    for o, own in enumerate(weights):
        first = o // (problem.out_channels // problem.groups) * weights.shape[1]
        result[o, first : first + weights.shape[1]] = own
    return result


def patches(problem: Conv2d, image: Array) -> Array:
    """[pixels, K]: what every output pixel sees of an image [1, C, H, W], in the order of the weights."""
    taps = [window[0] for _, _, window in reference.windows(problem, image)]
    return np.stack(taps, axis=-1).transpose(1, 2, 0, 3).reshape(-1, problem.x.c * len(taps))


def looks_up_codes(variant: x86.X86Variant) -> bool:
    """Whether there are shuffles of whole codes."""
    return variant.isa.vector_bytes == 32 or variant.isa.vbmi


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_sums_in_bytes_hold_the_largest(variant: x86.X86Variant) -> None:
    families = {
        "lookup_sums_conv2d",
        "nibbles_conv2d",
        *({"lookup_columns_conv2d"} if variant.isa.vector_bytes == 64 else ()),
        *({"lookup_codes_conv2d"} if looks_up_codes(variant) else ()),
    }
    found = [kernel for _, kernel in reductions(variant) if kernel.reduction.family in families]
    assert {kernel.reduction.family for kernel in found} == families
    assert {kernel.problem.x.planes for kernel in found if not kernel.problem.x.in_tables} == {2, 3}
    for kernel in found:
        check_largest(kernel, variant, KernelRunner)


def check_largest(
    kernel: DirectConv2d,
    variant: Variant,
    make_runner: type[KernelRunner] | type[EmulatedRunner],
) -> None:
    """The largest and the smallest activations against weights that differ from them in all bits, and equal ones."""
    problem = kernel.problem
    assert problem.x.codes is not None
    shape = (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
    weights = np.full(shape, problem.weights.low, np.float32)
    weights[::2] = problem.weights.high
    runner = make_runner(dataclasses.replace(kernel, finish=Raw()), variant, Constants(weights=weights))
    for code in (problem.x.codes.high, problem.x.codes.low):
        x = aligned(reference.store(problem.x, np.full(logical(problem.x), code, np.float32)))
        outputs = empty_outputs(problem)
        runner.call(runner.bind(x, [], outputs), 0, kernel.items)
        expected = kernel.reduction.meaning(
            problem, patches(problem, load(problem.x, x)), weights.reshape(len(weights), -1)
        )
        np.testing.assert_array_equal(outputs[0].reshape(-1, problem.out_channels), expected, err_msg=kernel.name)


def logical(x: Buffer) -> tuple[int, ...]:
    return x.n, x.c, x.h, x.w


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
def test_x86(variant: x86.X86Variant) -> None:
    expected = {*COMMON, "xnor_conv2d"}
    lookups = {"lookup_conv2d"} if variant.name in ("avx2", "avx512bw") else set()
    lookups |= {"lookup_sums_conv2d", "nibbles_conv2d", "patches_conv2d"}
    dots = {"dots_depthwise"} if variant.isa.vnni else set()
    lookups |= {"pixels_conv2d"} if variant.isa.vnni and variant.isa.vbmi else set()
    lookups |= {"lookup_columns_conv2d"} if variant.isa.vector_bytes == 64 else set()
    lookups |= {"lookup_codes_conv2d"} if looks_up_codes(variant) else set()
    if variant.isa.vector_bytes == 32:
        lookups |= {"pairs_conv2d", "words_conv2d"}
        lookups |= {"patches_pairs_conv2d", "patches_words_conv2d"}
    assert families_of(check(variant, KernelRunner)) == expected | lookups | dots | {"fields_conv2d", "rounded_conv2d"}


@pytest.mark.parametrize("architecture", ARM)
def test_arm(architecture: str) -> None:
    packages = missing(architecture)
    if packages:
        pytest.skip(f"missing Debian packages: {packages}")
    found: set[tuple[str, Reduction]] = set()
    for variant in ARM[architecture]:
        found |= check(variant, EmulatedRunner, found)
    wide = {"row_conv2d", "held_conv2d", "chunk_conv2d", "word_conv2d", "nibbles_conv2d"}
    wide |= {"bytes_matrix_conv2d", "bytes_element_conv2d", "bytes_word_conv2d"}
    common = {
        "byte_ternary_conv2d",
        "float_conv2d",
        "few_bits_conv2d",
        "byte_planes_conv2d",
        "byte_conv2d",
        "bytes_conv2d",
        "bytes_depthwise",
    }
    assert families_of(found) == common | (wide if architecture == "aarch64" else set()) | {"rounded_conv2d"}
