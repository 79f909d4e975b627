"""What a kernel computes, independent of any machine: tensors in memory, epilogues, and four kinds of problem.

Lowering describes work in these terms, and kernels of a target turn them into code; `reference.py` says in numpy what
each means (docs/adr/0004-kernels-and-forms.md).
Every problem is a frozen, hashable value, so equal layers share one compiled kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer
from qcompiler.ir.weight_grids import WeightGrid

ArithmeticName = Literal["mul", "add", "sub", "div", "max", "min", "prelu", "round", "sign"]
OperationName = ArithmeticName | Literal["store", "store_bits", "store_codes", "threshold"]


@dataclass(frozen=True)
class Channel:
    """A constant per output channel, float32 [c], which `Kernel.pack` lays out as the code reads it."""


@dataclass(frozen=True)
class Scalar:
    """A constant baked into the code.

    fused: whether the processor has fused multiply-adds, by which it may divide.
    """

    value: float
    fused: bool = False


@dataclass(frozen=True)
class ScalarOperation:
    """An operation without operand or with one number, on an operand before it is used; see `Operation`."""

    op: ArithmeticName
    operand: Scalar | None = None


@dataclass(frozen=True)
class Tensor:
    """A run-time operand of the output's shape, floats or codes, or float32 with c == 1: one value per pixel.

    through: what its numbers go through first, such as the scale of codes.
    """

    buffer: Buffer
    through: tuple[ScalarOperation, ...] = ()


Operand = Channel | Scalar | Tensor


@dataclass(frozen=True)
class Operation:
    """One operation of an epilogue on the running float32 value v of every output element.

    mul/add/sub/div: v = v op operand, rounded to float32, never contracted to FMA, never reassociated.
    max/min: v = operand where that is strictly greater or less, else v, so that NaN in v stays.
    prelu: v = v if v >= 0 else v * operand.
    sign: v = +1 where v > 0, -1 where v < 0, else v.
    round: v = v rounded to the nearest integer, halves to the even one.
    store: write v to the float32 buffer `into`. v goes on.
    store_bits: write the bit of v to the buffer `into` of -1/+1: v >= 0 if zero_is_positive, else v > 0; NaN gives 0.
    store_codes: write v, which is one of the codes of the buffer `into`; the lowest for NaN.
    threshold: only as the first operation, on integers (as accumulated, or in float32): write the code number i of the
    buffer `into`, where i counts the thresholds t with direction * (v - t) >= 0; there are levels - 1 thresholds and a
    direction per channel. Thresholds rise with i where direction is +1, and fall where it is -1. Ends the epilogue.
    """

    op: OperationName
    operand: Operand | None = None
    into: Buffer | None = None
    zero_is_positive: bool = True


WORD, BLOCK = 4, 16
"""Inputs in a word, and outputs in a block, of the run-time right operand of a product."""


_PAIR, _FEW = 128, 0.4
"""The largest sum of two weights of whose products 16 bits hold the sum, and the share of larger ones; as measured."""


def centres(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """What each output channel of weights OIHW, integers, gives up to lie evenly around 0, int32 [O]."""
    channels = weights.reshape(len(weights), -1)
    middle = np.ceil((channels.min(axis=1) + channels.max(axis=1)) / 2)
    return np.asarray(middle, np.int32)


def mostly_small(weights: npt.NDArray[np.float32]) -> bool:
    """Whether two neighbours of an output channel seldom add up to more than 128 with one sign.

    weights: OIHW, integers of 8 bits. Sixteen bits may not hold the sum of products of such a pair with inputs of 8
    bits. At most two fifths of all four inputs by sixteen outputs have one. Trained weights are small, because scales
    fit the largest of them.
    """
    outputs, inputs, *_ = weights.shape
    whole = np.rint(weights.transpose(0, 2, 3, 1)).astype(np.int8)
    taps = np.pad(whole, [(0, -outputs % BLOCK), (0, 0), (0, 0), (0, -inputs % WORD)])
    even, odd = taps[..., ::2].astype(np.int16), taps[..., 1::2]
    large = (np.abs(even + odd) > _PAIR).reshape(-1, BLOCK, taps[0].size // WORD, WORD // 2)
    return bool(large.any(axis=(1, 3)).mean() <= _FEW)


def neutral(codes: Codes) -> int:
    """The number of a code that stands for weight 0 of a run-time operand, which has at most 8 bits with a sign."""
    return 128 if codes.levels > 128 else 0


@dataclass(frozen=True)
class Conv2d:
    """Cross-correlation plus epilogue; matrix products are 1x1 convolutions over (1, 1, M, K).

    x: codes (exact integer accumulator) or "float32" (any summation order, FMA allowed).
    Weights are given to `pack` as float32 OIHW [out_channels, x.c // groups, kh, kw]; for codes they are among
    `weights`. pads = (top, left, bottom, right). pad_value: 0 for float; for codes any integer.
    Codes are packed in the groups of the convolution, save where it is `by_channel`.
    mostly_small: whether weights of 8 bits are, by the function of that name.
    centred: `weights` are what weights beyond a byte become once each output channel gives up its `centres`.
    one_row: whether the pixels of an image may be walked as one row, which the target says of a 1x1 convolution.
    grid: of the float weights of a matrix product, which are stored as indices into it; None to store floats.
    rounded: the input is `rounded_in_blocks` of the grid before it is multiplied.
    second: the right operand of a batch of matrix products, given at run time instead of weights: codes in bytes of
    (batch, blocks, words, 64), in which byte 4 * l + j of pixel (b, w) is input 4 * w + j of output 16 * b + l. x has
    the rows of all products. Beyond the last input lies the code number `neutral(codes)`.
    padding "halo": it is served from the halo of x, which covers at least `pads` (x.halo may be larger). Where the halo
    holds another code than `pad_value`, as it must if that is none of the codes, the kernel corrects the accumulator
    per border class. padding "kernel": x has no halo, and the kernel makes up what lies outside of the image.
    Output is [x.n, out_h, out_w, out_channels].
    """

    x: Buffer
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: float = 0.0
    epilogue: tuple[Operation, ...] = ()
    weights: Codes = BINARY
    centred: bool = False
    mostly_small: bool = False
    one_row: bool = False
    padding: Literal["halo", "kernel"] = "halo"
    grid: WeightGrid | None = None
    rounded: bool = False
    second: Buffer | None = None

    @property
    def binary(self) -> bool:
        """Whether codes and weights are -1 and +1, and those that thresholds give."""
        given = [each.into.element for each in self.epilogue if each.op == "threshold" and each.into is not None]
        elements = (self.x.element, self.weights, *given)
        return self.x.in_planes and not self.centred and all(each == BINARY for each in elements)

    @property
    def padded_with_first(self) -> bool:
        """Whether outside of the image lies the code of number 0, which adds nothing to sums over numbers."""
        return self.x.codes is not None and self.x.halo_value == self.pad_value == self.x.codes.low

    @property
    def by_channel(self) -> bool:
        """Whether every channel is a group of its own, and all of them are packed in bytes side by side."""
        return self.x.in_bytes and self.x.groups == 1 < self.groups == self.x.c == self.out_channels

    @property
    def out_hw(self) -> tuple[int, int]:
        """Output height and width."""
        top, left, bottom, right = self.pads
        kh, kw = self.kernel
        sh, sw = self.strides
        dh, dw = self.dilations
        return (
            (self.x.h + top + bottom - (kh - 1) * dh - 1) // sh + 1,
            (self.x.w + left + right - (kw - 1) * dw - 1) // sw + 1,
        )

    @property
    def pixels(self) -> int:
        """Of the output, of all images; rows of all products where it is a matrix product."""
        oh, ow = self.out_hw
        return self.x.n * oh * ow

    @property
    def macs(self) -> int:
        """Multiply-adds per run."""
        kh, kw = self.kernel
        return self.pixels * self.out_channels * (self.x.c // self.groups) * kh * kw


PoolKind = Literal["max", "sum", "average", "average_include_pad", "codes"]


@dataclass(frozen=True)
class Pool2d:
    """Pooling plus epilogue.

    "max", "sum", "average" (padding not counted), "average_include_pad": x float32 or codes, each number of which goes
    through the steps `through` first; padding never read from memory.
    "codes": x and the single `into` hold the same codes with equal groups; per channel the largest, or the smallest
    where the constant flip is -1 (flip * max(flip * x)); padding contributes nothing; the epilogue is empty and `into`
    names the output.
    out_hw is explicit, because ceil_mode and odd pads decide it outside.
    """

    x: Buffer
    kind: PoolKind
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    out_hw: tuple[int, int]
    dilations: tuple[int, int] = (1, 1)
    epilogue: tuple[Operation, ...] = ()
    into: Buffer | None = None
    through: tuple[ScalarOperation, ...] = ()


@dataclass(frozen=True)
class Map2d:
    """Identity plus epilogue: changes layout, halo or groups, binarizes, or applies an elementwise chain.

    x "float32" or codes (then v is the code); outputs are the epilogue's stores, of x's n, h, w, c.
    """

    x: Buffer
    epilogue: tuple[Operation, ...]


@dataclass(frozen=True)
class Box:
    """Part of an output: positions `start` to `start + extent` along n, h, w and c, and what is there.

    Element (i, j, k, l) of the box is the byte offsets[0][i] + offsets[1][j] + offsets[2][k] + offsets[3][l] of operand
    number `source`, plus `shift`; where source is None, the number `shift` of a code.
    """

    start: tuple[int, int, int, int]
    extent: tuple[int, int, int, int]
    source: int | None
    offsets: tuple[tuple[int, ...], ...] = ()
    shift: int = 0


@dataclass(frozen=True)
class Move2d:
    """Codes in other places: joined, cut, permuted, repeated, padded; the boxes cover the output, each place once.

    sources and `into` are packed in bytes, in one group.
    """

    sources: tuple[Buffer, ...]
    into: Buffer
    boxes: tuple[Box, ...]
    epilogue: tuple[Operation, ...] = ()

    @property
    def x(self) -> Buffer:
        """The first operand."""
        return self.sources[0]


Problem = Conv2d | Pool2d | Map2d | Move2d


def tensors_of(problem: Problem) -> tuple[Buffer, ...]:
    """Buffers of the run-time operands besides x: those of the problem, then of the epilogue, in its order."""
    if isinstance(problem, Move2d):
        return problem.sources[1:]
    second = (problem.second,) if isinstance(problem, Conv2d) and problem.second is not None else ()
    return second + tuple(
        operation.operand.buffer for operation in problem.epilogue if isinstance(operation.operand, Tensor)
    )


def outputs_of(problem: Problem) -> tuple[Buffer, ...]:
    """Buffers of the outputs, in the order in which kernels take them."""
    stores = tuple(operation.into for operation in problem.epilogue if operation.into is not None)
    into = problem.into if isinstance(problem, Pool2d | Move2d) else None
    return stores if into is None else (*stores, into)
