"""What the threads of a block emit to compute a convolution of codes by tensor cores.

Inputs come to the memory of the block while those before them are multiplied; what lies outside of the image comes as
zeros. Weights lie in memory as the registers of the threads have them. Pairs of planes of one weight 2^(p + q) share
their sums.

Where a thread of number l of a warp has them, with g = l // 4 and t = l % 4 (PTX manual, "mma.m16n8k256",
"mma.m16n8k64" and "mma.m16n8k32", which are alike in words): the words t and 4 + t of rows g and 8 + g of the inputs,
and of column g of the weights; sums of rows g and 8 + g in the columns 2t and 2t + 1. sm_75 has instructions of a
quarter of this, whose operands lie alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Elements, Pixel
from qcompiler.targets.cuda.emit import WARP, Place, barrier, dot, exchange, instruction, popcount, registers, write
from qcompiler.targets.cuda.mma_tiling import COLUMNS, INSTRUCTIONS, STAGES, STEP, THREADS, TILE, WARPS, WIDE, MmaTiling
from qcompiler.targets.cuda.mma_values import MmaValues, place
from qcompiler.targets.cuda.windows import read_by
from qcompiler.targets.standard_op import Expr


class MmaThreads(MmaValues):
    """The threads of a block: to `multiply`, then `leave_sums`, then `finish_all`, or `leave_slice`."""

    def __init__(self, tiling: MmaTiling, x: Expr, operands: Sequence[Expr], place: Place) -> None:
        assert place.shared is not None
        super().__init__(tiling, operands, place)
        self.shared, self.x = place.shared, Elements(tiling.problem.x, x)
        self.g, self.t = T.bind(T.truncdiv(self.lane, 4)), T.bind(T.truncmod(self.lane, 4))
        self.part, self.band = T.int32(0), self.warp
        if tiling.splits > 1:
            bands = WARPS // tiling.splits
            self.part, self.band = T.bind(T.truncdiv(self.warp, bands)), T.bind(T.truncmod(self.warp, bands))
        self.inputs, self.planes = tiling.problem.x.planes, tiling.planes
        significances = self.inputs + self.planes - 1
        self.products = registers("int32", significances * tiling.tiles * 4, T.int32(0))
        self.totals = registers("int32", 2, T.int32(0))
        self.group_start = self._group_start()
        self.copies = [self._copy(number) for number in range(tiling.rows * self.chunks // THREADS)]

    @property
    def chunks(self) -> int:
        """Copies of a row in a step."""
        return self.tiling.step_words // self.tiling.copied

    def _group_start(self) -> Expr:
        """Where the inputs of the group lie in a pixel."""
        groups, tiling = self.problem.groups, self.tiling
        if groups == 1:
            return T.int32(0)
        return T.bind(T.truncdiv(self.column, tiling.column_tiles // groups) * tiling.tap_words)

    def _copy(self, number: int) -> tuple[Expr, Expr, Pixel]:
        """Which row and which of its chunks a thread copies, and of which output pixel."""
        index = T.bind(self.thread + number * THREADS)
        row = T.bind(T.truncdiv(index, self.chunks))
        return row, T.bind(T.truncmod(index, self.chunks)), self.pixel(self.row + row)

    def multiply(self) -> None:
        """All steps of the slice: while one is multiplied, the next one is copied."""
        steps = self.tiling.steps
        first = T.int32(0) if self.tiling.slices == 1 else T.bind(self.slice * steps)
        self._start(first)
        with T.serial(0, steps) as number:
            step = number if self.tiling.slices == 1 else T.bind(first + number)
            with T.If(number + 1 < steps), T.Then():
                self._start_copies(step + 1)
            instruction("qc_commit")
            instruction("qc_wait_1")
            if self.tiling.wide:
                instruction("qc_shown")
            barrier()
            self._step(step)
            barrier()

    def _start(self, step: Expr) -> None:
        self._start_copies(step)
        instruction("qc_commit")

    def _stage(self, step: Expr) -> Expr:
        """Where the words of a step lie in the memory of the block."""
        return T.bind(T.truncmod(step, STAGES) * self.tiling.stage)

    def _start_copies(self, step: Expr) -> None:
        tiling, copied, stage = self.tiling, self.tiling.copied, self._stage(step)
        for row, chunk, pixel in self.copies:
            word = T.bind(step * tiling.step_words + chunk * copied)
            tap = T.bind(T.truncdiv(word, tiling.tap_words))
            width = self.problem.kernel[1]
            read, inside = read_by(self.problem, pixel, (T.truncdiv(tap, width), T.truncmod(tap, width)))
            given = T.And(inside, T.And(tap < tiling.sums.taps, self.row + row < self.pixels))
            within = self.group_start + T.truncmod(word, tiling.tap_words)
            start = T.if_then_else(given, self.x.first_word(read) + within, T.int32(0))
            to = stage + row * tiling.row_words + chunk * copied
            pointers = T.address_of(self.shared[to]), T.address_of(self.x.data[T.bind(start)])
            size = T.if_then_else(given, T.int32(4 * copied), T.int32(0))
            instruction(f"qc_copy_{4 * copied}", *pointers, size)

        for number in range(tiling.step_weights // (4 * THREADS)):
            word = T.bind((self.thread + number * THREADS) * 4)
            start = (step * tiling.column_tiles + self.column) * tiling.step_weights + word
            to = stage + tiling.weights_at + word
            instruction("qc_copy_16", T.address_of(self.shared[to]), T.address_of(self.weights[start]), T.int32(16))

    def _step(self, step: Expr) -> None:
        """Multiply the warp's part of the inputs of its rows, plane by plane."""
        stage = self._stage(step)
        held = [self._inputs(stage, plane) for plane in range(self.inputs)]
        if self.tiling.wide:
            self._together(stage, held)
        else:
            self._alone(step, held)

    def _together(self, stage: Expr, held: Sequence[Expr]) -> None:
        """By all columns at a time, whose weights lie behind the inputs of the step."""
        for q in range(self.planes):
            weights = stage + self.tiling.weights_at + q * (WIDE * STEP)
            for p, inputs in enumerate(held):
                sums = T.address_of(self.products[self._place(p + q, 0)])
                operands = T.address_of(inputs[0]), T.address_of(self.shared[weights])
                instruction(INSTRUCTIONS[self.tiling.by], sums, *operands)

    def _alone(self, step: Expr, held: Sequence[Expr]) -> None:
        """Tile by tile of columns, for which a thread reads its registers of weights."""
        shape = self.tiling.weight_shape
        for q in range(self.planes):
            for tile in range(self.tiling.tiles):
                at = ((step * self.tiling.splits + self.part) * shape[1] + q) * shape[2]
                first = T.bind((at + self.column * self.tiling.tiles + tile) * (WARP * 2) + self.lane * 2)
                weights = registers("uint32", 2)
                for index in range(2):
                    write(weights, self.weights[first + index], index)
                for p, inputs in enumerate(held):
                    sums = T.address_of(self.products[self._place(p + q, tile)])
                    operands = T.address_of(inputs[0]), T.address_of(weights[0])
                    instruction(INSTRUCTIONS[self.tiling.by], sums, *operands)

    def _inputs(self, stage: Expr, plane: int) -> Expr:
        """The registers of the inputs of a plane; they are added up on the way."""
        found = registers("uint32", 4)
        totals: list[list[Expr]] = [[], []]
        for index in range(4):
            row = self.band * TILE + self.g + (8 if index % 2 else 0)
            word = (self.t + (4 if index >= 2 else 0)) * self.tiling.joined
            at = T.bind(stage + row * self.tiling.row_words + self.part * self.tiling.part_words)
            words = [self._word(at + (word + k) * self.inputs + plane) for k in range(self.tiling.joined)]
            joined = words[0] if len(words) == 1 else words[0] | T.shift_left(words[1], T.uint32(4))
            write(found, joined, index)
            totals[index % 2] += map(self._total, words)
        if self.tiling.needs_totals:
            for half, counts in enumerate(totals):
                count = sum(counts[1:], counts[0])
                write(self.totals, self.totals[half] + T.shift_left(count, T.int32(plane)), half)
        return found

    def _word(self, at: Expr) -> Expr:
        return T.bind(T.Cast("uint32", self.shared[at]))

    def _total(self, word: Expr) -> Expr:
        """int32: the sum of the inputs of a word."""
        return dot(word, T.uint32(0x01010101)) if self.problem.x.in_bytes else popcount(word)

    def _place(self, significance: int, tile: int) -> int:
        return (significance * self.tiling.tiles + tile) * 4

    def leave_sums(self) -> None:
        """Put the sums of products, and those of inputs, where all threads of the block find them."""
        first = T.bind((self.part * (self.tiling.rows // TILE) + self.band) * TILE + self.g)
        for tile in range(self.tiling.tiles):
            for index in range(4):
                found: Expr = self.products[self._place(0, tile) + index]
                for significance in range(1, self.inputs + self.planes - 1):
                    more = self.products[self._place(significance, tile) + index]
                    found = found + T.shift_left(more, T.int32(significance))
                row = first + (8 if index >= 2 else 0)
                write(self.shared, found, row * self.tiling.result_words + tile * COLUMNS + self.t * 2 + index % 2)
        if self.tiling.needs_totals:
            for half in range(2):
                pair = T.bind(self.totals[half] + exchange(self.totals[half], 1))
                total = T.bind(pair + exchange(pair, 2))
                with T.If(self.t == 0), T.Then():
                    write(self.shared, total, self.tiling.totals_at + first + half * 8)
        barrier()

    def finish_all(self, buffers: Sequence[Expr]) -> None:
        """The epilogue on as many pixels as each warp has to itself, one after the other. buffers: of the epilogue."""

        def finish(row: Expr, number: int, pixel: Pixel, block: Expr) -> None:
            self.finish(buffers, pixel, block, *self._sums(row, number))

        self._for_each_block(finish)

    def leave_slice(self, left: Expr) -> None:
        """Put the sums of this slice where the second phase finds them."""
        tiling = self.tiling

        def leave(row: Expr, number: int, pixel: Pixel, block: Expr) -> None:
            products, total = self._sums(row, number)
            write(left, products, place(tiling, self.row + row, self.slice, block * WARP + self.lane))
            if total is not None:
                with T.If(self.lane == 0), T.Then():
                    write(left, total, place(tiling, self.row + row, self.slice, tiling.lanes.size + block))

        self._for_each_block(leave)

    def _for_each_block(self, act: Callable[[Expr, int, Pixel, Expr], None]) -> None:
        """act(row, number, pixel, block) for the rows that a warp has to itself, and each of its blocks of channels."""
        each = self.tiling.rows // WARPS
        with T.serial(0, each) as index:
            row = T.bind(self.warp * each + index)
            with T.If(self.row + row < self.pixels), T.Then():
                pixel = self.pixel(self.row + row)
                for number in range(self.tiling.blocks):
                    block = T.bind(self.column * self.tiling.blocks + number)
                    with T.If(block < self.tiling.lanes.blocks), T.Then():
                        act(row, number, pixel, block)

    def _sums(self, row: Expr, number: int) -> tuple[Expr, Expr | None]:
        """int32: what all warps left of products, and, where they are needed, of inputs."""
        width = self.tiling.result_words
        products = self._of_all_parts(row * width + number * WARP + self.lane, width)
        return products, self._of_all_parts(self.tiling.totals_at + row, 1) if self.tiling.needs_totals else None

    def _of_all_parts(self, first: Expr, between: int) -> Expr:
        """int32: the sum of what every warp left of its part, so many words from one another."""
        parts = [self.shared[first + part * self.tiling.rows * between] for part in range(self.tiling.splits)]
        return T.bind(sum(parts[1:], parts[0]))
