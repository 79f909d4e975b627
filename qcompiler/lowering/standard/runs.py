"""Contiguous elements from one place to another, sixteen at a time."""

from __future__ import annotations

from qcompiler.lowering.standard.skeleton import loop
from qcompiler.targets.vector.emit import LANES, Expr, fenced, i64, lanes, write


def copy_run(source: Expr, start: Expr, target: Expr, at: Expr, width: int) -> None:
    """target[at : at + width] = source[start : start + width], both of float32.

    What is copied is fenced, so that no loop becomes a call of memcpy.
    """
    if width < LANES:
        with loop(width) as i:
            write(target, fenced(source[start + i], 1), at + i)
        return
    with loop(width // LANES) as i:
        _vector(source, start + i * LANES, target, at + i * LANES)
    if width % LANES:
        # the last vector ends where the run does
        _vector(source, start + i64(width - LANES), target, at + i64(width - LANES))


def _vector(source: Expr, start: Expr, target: Expr, at: Expr) -> None:
    write(target, fenced(source[lanes(start)]), lanes(at))
