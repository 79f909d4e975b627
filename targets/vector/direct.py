"""The frame of a direct convolution: work items, register tiles and the loops over kernel taps.

A work item is one segment of a row of outputs (see `walk`) for `blocks` channel blocks of sixteen. It walks the row in
tiles of `pixels` outputs; when the width does not divide, the last tile overlaps its neighbour or is short. Inside a
tile all accumulators live in registers while the taps stream by, weights laid out in exactly that order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES, pack_bits
from qcompiler.ir.storage import pack_bytes
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.emit import LANES, Expr, channels_last, i64, split
from qcompiler.targets.vector.walk import walk

# blocks side by side in the weights of a single pixel: sixteen registers hold sums of four in pairs; words of bits
_STREAM, _BIT_STREAM = 4, 8


@dataclass(frozen=True)
class Tiling:
    """How a convolution is cut.

    pixels x blocks: the register tile. segment: tiles of one row per work item. channel_major: consecutive items share
    weights and walk the rows (for layers whose weights outgrow the cache); else they share the rows. short: whether the
    last tile of a row is as short as what is left, rather than overlap its neighbour.
    """

    pixels: int
    blocks: int
    segment: int
    channel_major: bool
    short: bool = False

    @property
    def label(self) -> str:
        """Part of kernel names."""
        return f"p{self.pixels}b{self.blocks}s{self.segment}{'c' if self.channel_major else 'r'}"


@dataclass(frozen=True)
class ReductionLoop:
    """One level of the reduction: trip count and the step through x, in elements or words.

    rows: whether it walks kernel rows and nothing else.
    """

    extent: int
    stride: int
    rows: bool = False


@dataclass(frozen=True)
class Geometry:
    """A convolution in terms of flat offsets; units are floats, words of codes, or bytes where it is by channel."""

    problem: Conv2d
    blocks: Blocks

    @property
    def group_inputs(self) -> int:
        """Units per pixel and group, of each plane."""
        x = self.problem.x
        units = x.words // x.planes if self.in_words else x.c
        return units // self.problem.groups

    @property
    def in_words(self) -> bool:
        """Whether units are words."""
        return self.problem.x.packed and not self.problem.by_channel

    @property
    def reads_whole_words(self) -> bool:
        """Whether every group of a packed input starts at a word."""
        x, groups = self.problem.x, self.problem.groups
        if not self.in_words or x.groups % groups == 0:
            return True
        return (x.c // groups) % x.word_channels == 0 and (x.c // x.groups) % x.word_channels == 0

    @property
    def planar(self) -> bool:
        """Whether channels are the outermost axis of an image."""
        return not channels_last(self.problem.x)

    @property
    def pixel_pitch(self) -> int:
        """Units from one input pixel to the next."""
        if self.planar:
            return 1
        if self.problem.x.packed:
            return self.problem.x.words * (1 if self.in_words else WORD_BYTES)
        return self.problem.x.c

    @property
    def channel_pitch(self) -> int:
        """Units from one input channel (or word) to the next."""
        planes = self.problem.x.planes if self.problem.x.packed else 1
        return planes * self.plane_pitch

    @property
    def plane_pitch(self) -> int:
        """Units from one word of a plane of codes to that of the next plane."""
        return self.problem.x.height * self.problem.x.width if self.planar else 1

    def taps(self) -> list[ReductionLoop]:
        """The loops over kernel rows and columns."""
        (kh, kw), (dh, dw) = self.problem.kernel, self.problem.dilations
        row = self.problem.x.width * self.pixel_pitch
        return [ReductionLoop(kh, dh * row, rows=True), ReductionLoop(kw, dw * self.pixel_pitch)]

    def loops(self) -> list[ReductionLoop]:
        """The reduction, outermost first, with adjacent loops fused where they are one run through memory."""
        taps = self.taps()
        channels = ReductionLoop(self.group_inputs, self.channel_pitch)
        fused: list[ReductionLoop] = []
        for loop in [channels, *taps] if self.planar else [*taps, channels]:
            if fused and fused[-1].stride == loop.extent * loop.stride:
                fused[-1] = ReductionLoop(fused[-1].extent * loop.extent, loop.stride)
            elif loop.extent > 1 or loop is channels:
                fused.append(loop)
        return fused

    @property
    def skips_rows(self) -> bool:
        """Whether kernel rows that fall into zero padding are not visited at all.

        The innermost loop always runs in full, since kernels cut it into pieces of fixed size.
        """
        padded = self.problem.pad_value == 0 and max(self.problem.pads[0], self.problem.pads[2]) > 0
        return padded and any(loop.rows for loop in self.loops()[:-1])

    def visited_rows(self, y: Expr) -> tuple[Expr, Expr]:
        """First and past-the-last kernel row that output row `y` visits."""
        kh, dh, top = self.problem.kernel[0], self.problem.dilations[0], self.problem.pads[0]
        if not self.skips_rows:
            return i64(0), i64(kh)
        above = T.max(top - y * self.problem.strides[0], i64(0))
        inside = T.max(self.problem.x.h + top - y * self.problem.strides[0], i64(0))
        first = T.bind(split(above + (dh - 1), dh)[0])
        return first, T.bind(T.max(T.min(split(inside + (dh - 1), dh)[0], i64(kh)), first))

    @property
    def depthwise(self) -> bool:
        """Whether every output channel has one input unit of its own, next to its neighbour's."""
        return (
            self.problem.groups == self.problem.out_channels
            and self.group_inputs == self.channel_pitch == 1
            and not self.planar
        )

    @property
    def steps(self) -> int:
        """Units accumulated per output."""
        return self.problem.kernel[0] * self.problem.kernel[1] * self.group_inputs

    def group_of_lane(self) -> npt.NDArray[np.int64]:
        """int64 [blocks * 16]: the convolution group of every lane; padding repeats the lane before."""
        channel = np.maximum.accumulate(self.blocks.channel_of_lane())
        return channel // (self.problem.out_channels // self.problem.groups)

    def uniform(self, blocks: int) -> bool:
        """Whether every run of `blocks` blocks lies in one group, so that one input word serves all its lanes."""
        groups = self.group_of_lane().reshape(-1, LANES)[self.runs(blocks)].reshape(-1, blocks * LANES)
        return bool((groups == groups[:, :1]).all())

    def runs(self, blocks: int) -> npt.NDArray[np.int64]:
        """int64 [runs, blocks]: the blocks of every run; the last run overlaps its neighbour rather than be short."""
        first = np.minimum(np.arange(-(-self.blocks.count // blocks)) * blocks, self.blocks.count - blocks)
        return first[:, None] + np.arange(blocks)[None, :]

    @property
    def single(self) -> bool:
        """Whether a single pixel reads all weights once."""
        return self.problem.pixels == 1 and self.problem.second is None

    @property
    def interleave(self) -> int:
        """Blocks that lie side by side in the weights.

        One alone, so that tiles of any shape keep little of the cache busy; for a single pixel as many as make one long
        stream, but no more floats or bytes than a tile holds anywhere: prefetchers read what it leaves, too.
        """
        in_bits = self.in_words and not self.problem.x.in_bytes
        most = (_BIT_STREAM if in_bits else _STREAM) if self.single else 1
        return next(u for u in range(most, 0, -1) if self.blocks.count % u == 0)

    @property
    def step_weights(self) -> int:
        """Units of weights from one step of a block to the next."""
        return self.interleave * LANES

    def block_offset(self, block: int) -> int:
        """Units of weights from the first block of a run to another."""
        return block // self.interleave * self.steps * self.step_weights + block % self.interleave * LANES

    def first_weight(self, block: Expr) -> Expr:
        """Offset of the weights of a run that starts at `block`."""
        group, within = split(block, self.interleave)
        return group * (self.steps * self.step_weights) + within * LANES

    def group_offset(self, block: Expr) -> Expr:
        """Offset of the inputs of the group that a block belongs to."""
        if self.problem.groups == 1:
            return i64(0)
        group = split(self.blocks.first(block), self.problem.out_channels // self.problem.groups)[0]
        return group * (self.group_inputs * self.channel_pitch)

    def lane_offsets(self) -> npt.NDArray[np.int32]:
        """int32 [blocks * 16]: `group_offset` per lane."""
        return (self.group_of_lane() * self.group_inputs * self.channel_pitch).astype(np.int32)

    def weight_lanes(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """OIHW weights as [blocks, steps, 16] in the order of `loops`; uint32 words of signs or bytes for codes."""
        ordered = weights.transpose(0, 2, 3, 1)
        parts = max(1, self.problem.x.groups // self.problem.groups)
        units: npt.NDArray[np.generic] = ordered.astype(np.float32)
        if self.in_words:
            whole = np.rint(ordered).astype(np.int64)
            units = pack_bytes(whole, parts) if self.problem.x.in_bytes else pack_bits(ordered, parts)
        if self.planar:
            units = units.transpose(0, 3, 1, 2)
        lanes = self.blocks.spread(units.reshape(len(weights), -1).T)
        return np.ascontiguousarray(lanes.reshape(self.steps, -1, LANES).transpose(1, 0, 2))

    def arrange(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """`weight_lanes` as [blocks / U, steps, U, 16], U = `interleave`.

        No tiling shows in this layout, so all variants of a bundle share one copy.
        """
        units = self.weight_lanes(weights).reshape(-1, self.interleave, self.steps, LANES)
        return np.ascontiguousarray(units.swapaxes(1, 2))


@dataclass(frozen=True)
class WorkGrid:
    """The grid of work items of a convolution."""

    problem: Conv2d
    blocks: Blocks
    tiling: Tiling

    @property
    def tiles(self) -> int:
        """Pixel tiles of a row."""
        return -(-walk(self.problem)[1] // self.tiling.pixels)

    @property
    def starts(self) -> list[int]:
        """First output column of every tile of a row; the last tile overlaps its neighbour rather than be short."""
        width, p = walk(self.problem)[1], self.tiling.pixels
        return [min(tile * p, width - p) for tile in range(self.tiles)]

    @property
    def segments(self) -> int:
        """Work items along a row."""
        return -(-self.tiles // self.tiling.segment)

    @property
    def runs(self) -> int:
        """Runs of `tiling.blocks` channel blocks."""
        return -(-self.blocks.count // self.tiling.blocks)

    def first_block(self, run: Expr) -> Expr:
        """First block of a run; see `Geometry.runs`."""
        b, count = self.tiling.blocks, self.blocks.count
        return run * b if count % b == 0 else T.min(run * b, i64(count - b))

    @property
    def items(self) -> int:
        """All work items."""
        return self.problem.x.n * walk(self.problem)[0] * self.segments * self.runs

    def decode(self, item: Expr) -> tuple[Expr, Expr, Expr, Expr]:
        """Image, row, segment and run of channel blocks."""
        height = walk(self.problem)[0]
        rows = self.problem.x.n * height
        if self.tiling.channel_major:
            run, rest = split(item, rows * self.segments)
        else:
            rest, run = split(item, self.runs)
        row, segment = split(rest, self.segments)
        n, y = split(row, height)
        return T.bind(n), T.bind(y), T.bind(segment), T.bind(run)

    def for_tiles(self, segment: Expr, body: Callable[[Expr, int], None]) -> None:
        """Run `body(x0, pixels)` for every pixel tile of a segment; tiles never reach beyond the row."""
        p, width, count = self.tiling.pixels, walk(self.problem)[1], self.tiling.segment
        if self.tiles == 1:
            body(i64(0), p)
            return
        rest = width % p if self.tiling.short else 0
        whole, first = self.tiles - bool(rest), segment * count
        trips = i64(count) if self.segments * count == whole else T.min(i64(count), whole - first)
        with T.serial(i64(0), trips) as tile:
            x0 = (first + tile) * p
            body(T.bind(x0 if rest or width % p == 0 else T.min(x0, i64(width - p))), p)
        if rest:
            with T.If(segment == self.segments - 1), T.Then():
                body(i64(whole * p), rest)


def for_taps(
    loops: list[ReductionLoop],
    rows: tuple[Expr, Expr],
    x: Expr,
    w: Expr,
    w_step: int,
    body: Callable[[Expr, Expr], None],
) -> None:
    """Nest `loops` around `body(x offset, w offset)`; one innermost step advances w by `w_step`.

    rows: the range of kernel rows to visit.
    """
    if not loops:
        body(x, w)
        return
    inner = int(np.prod([loop.extent for loop in loops[1:]], dtype=np.int64))
    first, last = rows if loops[0].rows else (i64(0), i64(loops[0].extent))
    with T.serial(first, last) as i:
        for_taps(loops[1:], rows, x + i * loops[0].stride, w + i * (inner * w_step), w_step, body)
