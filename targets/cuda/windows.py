"""Windows on an image: which pixel a tap reads, and whether there is one."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.cuda.elements import Pixel
from qcompiler.targets.problem import Conv2d, Pool2d
from qcompiler.targets.standard_op import Expr


def read_by(problem: Conv2d | Pool2d, pixel: Pixel, tap: tuple[Expr, Expr]) -> tuple[Pixel, Expr]:
    """The input pixel that tap (row, column) of an output pixel's window reads, and whether it lies in the image."""
    (top, left, _, _), (sh, sw), (dh, dw) = problem.pads, problem.strides, problem.dilations
    n, row, column = pixel
    y, x = T.bind(row * sh + tap[0] * dh - top), T.bind(column * sw + tap[1] * dw - left)
    inside = T.And(T.And(y >= 0, y < problem.x.h), T.And(x >= 0, x < problem.x.w))
    return (n, y, x), T.bind(inside) if leaves(problem) else T.bool(True)


def leaves(problem: Conv2d | Pool2d) -> bool:
    """Whether some window reaches beyond the image."""
    (kh, kw), (sh, sw), (dh, dw), (oh, ow) = problem.kernel, problem.strides, problem.dilations, problem.out_hw
    top, left, _, _ = problem.pads
    last = ((oh - 1) * sh + (kh - 1) * dh - top, (ow - 1) * sw + (kw - 1) * dw - left)
    return top > 0 or left > 0 or last[0] >= problem.x.h or last[1] >= problem.x.w
