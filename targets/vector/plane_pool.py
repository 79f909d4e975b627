"""Pools of codes in bit planes.

Words of a plane of one pixel are few: 64 channels are two. So where a register holds the words of several pixels, all
planes, neighbouring outputs whose windows lie inside of the rows are computed together: the words of their taps are
loaded as they lie, and shuffled into a vector for each plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.numerics import WORD_BYTES, pack_bits
from qcompiler.targets.vector.code_pool import CodePool2d
from qcompiler.targets.vector.emit import Expr, View, fenced, i64, lanes, splat, temporary, write
from qcompiler.targets.vector.epilogue import Pixel
from qcompiler.targets.vector.pool import for_window, for_window_rows


@dataclass(frozen=True)
class PlanePool2d(CodePool2d):
    """In bit planes. vector_bytes: of the widest register whose words are shuffled freely; 0 for none."""

    vector_bytes: int = 0

    @property
    def name(self) -> str:
        """Family."""
        return "pool2d_bits" if self._planes == 1 else "pool2d_codes"

    @property
    def together(self) -> int:
        """Neighbouring outputs that are computed together, 1 for none: at most as many as lie inside of the rows."""
        held = self.vector_bytes // (WORD_BYTES * self.problem.x.words)
        count = 1 << held.bit_length() - 1 if held else 1
        first, last = self._inside
        return count if count <= last - first + 1 else 1

    @property
    def _inside(self) -> tuple[int, int]:
        """The first and last output of a row whose windows have no column in the padding."""
        problem, (_, left, _, _) = self.problem, self.problem.pads
        stride, reach = problem.strides[1], (problem.kernel[1] - 1) * problem.dilations[1]
        return -(-left // stride), min((problem.x.w - 1 + left - reach) // stride, problem.out_hw[1] - 1)

    def _flipped(self, flips: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
        return pack_bits(np.where(flips, np.float32(1), np.float32(-1)), self.problem.x.groups)

    def _pixels(self, source: View, target: View, n: Expr, y: Expr, flips: Expr) -> None:
        count = self.together
        if count == 1:
            super()._pixels(source, target, n, y, flips)
            return
        (first, last), width = self._inside, self.problem.out_hw[1]
        for begin, end in ((0, first), (last + 1, width)):
            with T.serial(i64(0), i64(self._channel_words // self._lanes)) as part:
                word = part * self._lanes
                flip = flips[lanes(word, self._lanes)]
                with T.serial(i64(begin), i64(end)) as x:
                    self._pixel(source, target, (n, y, x), word, flip)
        with T.serial(i64(0), i64(-(-(last + 1 - first) // count))) as group:
            x0 = T.bind(T.min(first + group * count, i64(last + 1 - count)))
            self._neighbours(source, target, (n, y, x0), flips)

    def _neighbours(self, source: View, target: View, pixel: Pixel, flips: Expr) -> None:
        """Several output pixels from `pixel` on, whose windows lie inside of the rows."""
        problem, words, count = self.problem, self._channel_words, self.together
        size, stride = count * words, problem.strides[1]
        flip = T.bind(_shuffled([flips[lanes(0, words)]] * count, list(range(size))))
        best = self._lowest(size, flip)

        def row(y: Expr) -> None:
            for j in range(problem.kernel[1]):
                x = pixel[2] * stride - problem.pads[1] + j * problem.dilations[1]
                found = self._planes_of(source, (pixel[0], y, x))
                keep_larger(best, [plane ^ flip for plane in found], lanes(0, size))

        for_window_rows(problem, pixel[1], row)
        planes = [plane[lanes(0, size)] ^ flip for plane in best]
        order = [plane * size + word for word in range(size) for plane in range(self._planes)]
        whole = fenced(T.reinterpret(f"float32x{len(order)}", _shuffled(planes, order)), len(order))
        halves = T.reinterpret(f"uint16x{2 * len(order)}", whole)
        write(target.data, halves, lanes(target.offset(*pixel, i64(0)), 2 * len(order)))

    def _planes_of(self, source: View, pixel: Pixel) -> list[Expr]:
        """The words of every plane of the taps of `together` outputs, the first of which lies at `pixel`.

        The last pixels are loaded with some before them again, rather than with what lies behind the row.
        """
        stride, count, words = self.problem.strides[1], self.together, self.problem.x.words
        span = (count - 1) * stride + 1
        starts = [min(start, span - count) for start in range(0, span, count)]
        at = source.offset(*pixel, i64(0))
        loaded = [T.bind(source.data[lanes(at + start * words, count * words)]) for start in starts]
        planes = []
        for number in range(self._planes):
            order = []
            for output in range(count):
                load = output * stride // count
                first = (load * count + output * stride - starts[load]) * words
                order += [first + word * self._planes + number for word in range(self._channel_words)]
            planes.append(_shuffled(loaded, order))
        return planes

    def _pixel(self, source: View, target: View, pixel: Pixel, first: Expr, flip: Expr) -> None:
        best = self._lowest(self._lanes, flip)
        all_lanes = lanes(0, self._lanes)

        def tap(y: Expr, x: Expr) -> None:
            at = source.offset(pixel[0], y, x, first * self._planes)
            found = [source.data[lanes(at + number, self._lanes)] ^ flip for number in range(self._planes)]
            keep_larger(best, found, all_lanes)

        for_window(self.problem, pixel, tap)
        for number, plane in enumerate(best):
            halves = T.reinterpret(f"uint16x{2 * self._lanes}", self._fenced(plane[all_lanes] ^ flip))
            at = target.offset(*pixel, (first * self._planes + number) * 2)
            write(target.data, halves, lanes(at, 2 * self._lanes))

    def _lowest(self, count: int, flip: Expr) -> list[Expr]:
        """`count` words of every plane that nothing is less than, inverted where `flip` is set."""
        best = [temporary("uint32", count) for _ in range(self._planes)]
        highest_inverted = 2**self._planes - self._codes.levels
        for number, plane in enumerate(best):
            write(plane, flip if highest_inverted >> number & 1 else splat(T.uint32(0), count), lanes(0, count))
        return best


def _shuffled(vectors: list[Expr], order: list[int]) -> Expr:
    """The lanes of vectors side by side, in an order."""
    return vectors[0] if order == list(range(len(order))) and len(vectors) == 1 else T.Shuffle(vectors, order)


def keep_larger(best: list[Expr], found: list[Expr], at: Expr) -> None:
    """Per bit position, the larger of two binary numbers; lists of bit planes, the lowest first.

    From the highest plane down, the first one that differs decides.
    """
    if len(best) == 1:
        write(best[0], best[0][at] | found[0], at)
        return
    found = [T.bind(plane) for plane in found]
    differs, less = None, None
    for held, other in zip(best[::-1], found[::-1], strict=True):
        here = T.bind(held[at] ^ other)
        wins = here & other
        less = T.bind(wins if differs is None or less is None else less | (wins & ~differs))
        differs = here if differs is None else T.bind(differs | here)
    for held, other in zip(best, found, strict=True):
        write(held, held[at] ^ ((held[at] ^ other) & less), at)
