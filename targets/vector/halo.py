"""Border pixels of an output buffer, written by the kernel that writes the buffer.

Every (image, row, channel block) owns a share: the pixels left and right of its row; the first row also owns all rows
above, the last row all rows below. So any division of the work items among threads writes the whole halo.
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.ir.storage import Buffer
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.code_lanes import store_numbers
from qcompiler.targets.vector.emit import LANES, Expr, View, fenced, i64, lanes, splat, write


def emit_halo(target: View, blocks: Blocks, n: Expr, y: Expr, block: Expr, height: int) -> None:
    """Write the share of (n, y, block) of the halo of `target`."""
    halo, w = target.buffer.halo, target.buffer.w
    _fill(target, blocks, n, y, 1, -halo.left, halo.left, block)
    _fill(target, blocks, n, y, 1, w, halo.right, block)
    if halo.top:
        with T.If(y == 0), T.Then():
            _fill(target, blocks, n, i64(-halo.top), halo.top, -halo.left, target.buffer.width, block)
    if halo.bottom:
        with T.If(y == height - 1), T.Then():
            _fill(target, blocks, n, i64(height), halo.bottom, -halo.left, target.buffer.width, block)


def _fill(target: View, blocks: Blocks, n: Expr, y: Expr, rows: int, x: int, columns: int, block: Expr) -> None:
    """Set rows x columns pixels from (y, x) to the halo value."""
    if columns == 0:
        return
    with T.serial(i64(0), i64(rows)) as row, T.serial(i64(0), i64(columns)) as column:
        pixel = (n, y + row, column + x)
        if target.buffer.in_planes:
            _fill_codes(target, blocks, pixel, block)
        elif target.buffer.packed:
            index = fenced(splat(T.float32(_index(target.buffer))))
            store_numbers(target, blocks, pixel, block, T.Cast("int32x16", index))
        else:
            _fill_floats(target, blocks, pixel, block)


def _index(buffer: Buffer) -> int:
    """The number of the code that the halo holds."""
    index = None if buffer.codes is None else buffer.codes.index(buffer.halo_value)
    assert index is not None
    return index


def _fill_codes(target: View, blocks: Blocks, pixel: tuple[Expr, Expr, Expr], block: Expr) -> None:
    """The halo's code in all valid channels of the block; a half of padding stays clear."""
    index = _index(target.buffer)
    half, last = blocks.half(block, target.buffer)
    for plane in range(target.buffer.planes):
        at = target.half_offset(pixel, half, plane)
        bits: Expr = T.Cast("uint16", T.reinterpret("uint32", fenced(T.float32(0), 1)))
        if index >> plane & 1:
            bits = T.Cast("uint16", T.shift_left(T.int32(1), T.Cast("int32", blocks.valid(block))) - 1)
        write(target.data, bits, at)
        if last is not None:
            with T.If(last), T.Then():
                write(target.data, T.uint16(0), at + 1)


def _fill_floats(target: View, blocks: Blocks, pixel: tuple[Expr, Expr, Expr], block: Expr) -> None:
    """The halo value in every channel of the block."""
    first, value = blocks.first(block), T.bind(fenced(T.float32(target.buffer.halo_value), 1))
    if target.channels_last and not blocks.ragged:
        write(target.data, splat(value, LANES), lanes(target.offset(*pixel, first)))
        return
    with T.serial(i64(0), blocks.valid(block)) as lane:
        write(target.data, value, target.offset(*pixel, first + lane))
