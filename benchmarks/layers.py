"""The layers on which the choice of kernels is measured and checked: shapes, widths, and what they store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.drawn import as_trained
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, Packing
from qcompiler.passes.fold_thresholds import MOST_COMPARED
from qcompiler.targets.measured import kind_of
from qcompiler.targets.problem import Channel, Conv2d, Operation, Scalar
from qcompiler.targets.target import Constants, Kernel, Variant

Stores: TypeAlias = Literal["codes", "floats"]
"""What a layer writes."""

Widths: TypeAlias = tuple[Codes, Codes]
"""Weights and activations."""


@dataclass(frozen=True)
class Offer:
    """A kernel for a layer whose input is stored in some way."""

    problem: Conv2d
    kernel: Kernel


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

    def problem(self, weights: Codes, activations: Codes, packing: Packing | None, stores: Stores = "codes") -> Conv2d:
        """The layer on codes, or on floats where there is no packing.

        It stores codes as it reads them, for a layer like it, or floats, as the last layer does and all of few rows.
        """
        pad = self.kernel // 2
        border = float(activations.low) if pad else 0.0
        halo = Halo(pad, pad, pad, pad)
        floats = Buffer(1, *self.size, self.channels, "float32", halo=halo, halo_value=border)
        codes = replace(floats, element=activations, packing=packing or "bytes")
        square, strides, pads = (self.kernel, self.kernel), (self.stride, self.stride), (pad, pad, pad, pad)
        problem = Conv2d(
            floats if packing is None else codes, self.outputs, square, strides, pads, pad_value=border,
            groups=self.channels if self.depthwise else 1, weights=weights, mostly_small=weights.levels > 128,
        )  # fmt: skip
        into = Buffer(1, *problem.out_hw, self.outputs, "float32")
        if stores == "codes" and kind_of(problem) != "rows":
            # no layer writes pixels side by side
            written: Packing = "planes" if packing == "pixels" else codes.packing
            into = replace(into, element=activations, packing=written, halo=halo, halo_value=border)
        return replace(problem, epilogue=epilogue(into))


def epilogue(into: Buffer) -> tuple[Operation, ...]:
    """What becomes of sums: nothing where floats are stored, else codes, in the way that passes make them."""
    codes = into.codes
    if codes is None:
        return (Operation("store", into=into),)
    if codes.levels <= MOST_COMPARED:
        return (Operation("threshold", into=into),)
    bounds = Operation("max", Scalar(float(codes.low))), Operation("min", Scalar(float(codes.high)))
    scaled = Operation("mul", Channel()), Operation("add", Channel()), Operation("round")
    return (*scaled, *bounds, Operation("store_codes", into=into))


SHAPES = (
    Shape(64, (56, 56), 64, 3), Shape(128, (28, 28), 128, 3), Shape(256, (14, 14), 256, 3), Shape(512, (7, 7), 512, 3),
    Shape(64, (56, 56), 64), Shape(256, (14, 14), 256), Shape(512, (7, 7), 1024),
    Shape(1024, (1, 1), 1024), Shape(4096, (1, 1), 1024), Shape(1024, (1, 8), 512),
    # more blocks out than in
    Shape(64, (56, 56), 128, 3, 2),
    # tiles that divide none of the others
    Shape(128, (26, 26), 80, 3), Shape(96, (12, 12), 192, 3), Shape(192, (20, 20), 96), Shape(384, (13, 13), 160),
    Shape(1152, (1, 1), 336),
    # long sums of few channels
    Shape(512, (7, 7), 128, 3),
)  # fmt: skip
LARGE = (Shape(4096, (1, 1), 4096),)
"""Laying out their weights takes longer than all else."""
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
WIDTHS_OF_LARGE = (*CHECKED, *((signed(w), unsigned(8)) for w in (1, 2, 4)))


@lru_cache(maxsize=1)
def _weights(codes: Codes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(0)
    if codes.levels > 128:
        return as_trained(random, shape, codes.low, codes.high)
    numbers = random.integers(0, codes.levels, shape, np.int16)
    return codes.low + codes.step * numbers.astype(np.float32)


def random_constants(problem: Conv2d) -> Constants:
    """Weights of a layer, and of its epilogue thresholds or scales and offsets, by which all codes come up."""
    codes, shape = problem.weights, (problem.out_channels, problem.x.c // problem.groups, *problem.kernel)
    weights, rng = _weights(codes, shape), np.random.default_rng(1)
    into = problem.epilogue[-1].into
    if into is None or into.codes is None:
        return Constants(weights)
    spread = np.ceil(np.sqrt(np.prod(shape[1:])) * codes.high)
    levels, channels = into.codes.levels, problem.out_channels
    if problem.epilogue[0].op == "threshold":
        thresholds = np.sort(rng.integers(-spread, spread + 1, (levels - 1, channels)), axis=0).astype(np.float32)
        return Constants(weights, thresholds, np.ones(channels, np.float32))
    scales = (levels / (2 * spread) * rng.uniform(0.5, 1, channels)).astype(np.float32)
    return Constants(weights, channels=(scales, rng.uniform(0, levels, channels).astype(np.float32)))


def offered(variant: Variant, shape: Shape, widths: Widths, stores: Stores = "codes") -> list[Offer]:
    """All kernels for a layer, in every storage of its input."""
    packings: tuple[Packing | None, ...] = ("planes", "bytes", "flips", "subsets", "pixels")
    if shape.depthwise:
        # each product is of an input of its own there, and floats are not far behind
        packings = ("bytes", None)
    problems = [shape.problem(*widths, packing, stores) for packing in packings]
    return [Offer(problem, kernel) for problem in problems for kernel in variant.kernels(problem)]


def label_of(shape: Shape) -> str:
    """A layer for people."""
    kernel = f"{shape.kernel}x{shape.kernel}/{shape.stride}{' depthwise' if shape.depthwise else ''}"
    return f"{kernel} {shape.channels}-{shape.outputs} {shape.size[0]}x{shape.size[1]}"


def label_of_widths(widths: Widths) -> str:
    """Weights and activations for people."""
    weights = "ternary" if widths[0] == TERNARY else f"w{widths[0].label}"
    return f"{weights} a{widths[1].label}"


def layers_with(texts: Sequence[str]) -> list[tuple[Shape, Widths]]:
    """The layers that the table is made of, those with one of the texts in their name."""
    every = [(shape, widths) for shape in SHAPES for widths in WIDTHS]
    every += [(shape, widths) for shape in LARGE for widths in WIDTHS_OF_LARGE]
    every += [(shape, widths) for shape in DEPTHWISE for widths in WIDTHS_OF_DEPTHWISE]
    every += [(shape, widths) for shape in FIRST for widths in WIDTHS_OF_FIRST]
    return [each for each in every if any(text in f"{label_of(each[0])} {label_of_widths(each[1])}" for text in texts)]
