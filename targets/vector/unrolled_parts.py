"""Reductions cut into parts that narrow sums can hold, and their innermost loops unrolled.

A byte holds the counts of 31 steps of eight bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tvm.script.ir_builder import tirx as T

from qcompiler.targets.vector.direct import ReductionLoop, for_taps
from qcompiler.targets.vector.emit import Expr, i64, opaque

# of eight bits each, which a byte counts: 31 * 8 = 248
MOST_STEPS = 31


def for_parts(
    loops: list[ReductionLoop],
    rows: tuple[Expr, Expr],
    x: Expr,
    w: Expr,
    w_step: int,
    body: Callable[[list[ReductionLoop], Expr, Expr], None],
    most: int = MOST_STEPS,
) -> None:
    """Run `body(loops, x offset, w offset)` for pieces of the reduction `loops` of at most so many steps each.

    The other arguments are those of `for_taps`, and of the loops that `body` is to run with it.
    """
    count = 1
    for loop in loops:
        count *= loop.extent
    if count <= most:
        body(loops, x, w)
        return
    first, *inner = loops
    if inner:

        def piece(at: Expr, weight: Expr) -> None:
            for_parts(inner, rows, T.bind(at), T.bind(weight), w_step, body, most)

        for_taps([first], rows, x, w, w_step * (count // first.extent), piece)
        return
    trips = -(-first.extent // -(-first.extent // most))
    whole, rest = divmod(first.extent, trips)
    with T.serial(i64(0), i64(whole)) as i:
        at, weight = T.bind(x + i * (trips * first.stride)), T.bind(w + i * (trips * w_step))
        body([replace(first, extent=trips)], at, weight)
    if rest:
        at, weight = x + whole * trips * first.stride, w + whole * trips * w_step
        body([replace(first, extent=rest)], at, weight)


def for_unrolled_taps(
    loops: list[ReductionLoop],
    rows: tuple[Expr, Expr],
    x: Expr,
    w: Expr,
    w_step: int,
    body: Callable[[Expr, Expr], None],
    most: int,
) -> None:
    """`for_taps` with up to `most` steps of the innermost loop per jump, and no more: LLVM would unroll into spills.

    A single loop does not become straight code either, which LLVM would merge with what follows.
    """

    def several(steps: list[tuple[Expr, Expr]]) -> None:
        for at, weight in steps:
            body(at, weight)

    for_runs_of_taps(loops, rows, x, w, w_step, several, most)


def for_runs_of_taps(
    loops: list[ReductionLoop],
    rows: tuple[Expr, Expr],
    x: Expr,
    w: Expr,
    w_step: int,
    body: Callable[[list[tuple[Expr, Expr]]], None],
    most: int,
) -> None:
    """`for_unrolled_taps` whose body gets the offsets of all steps of a jump, to mix them."""
    *outer, inner = loops
    most = min(most, inner.extent if outer else inner.extent // 2)
    times = next(count for count in range(max(most, 1), 0, -1) if inner.extent % count == 0)

    def several(at: Expr, weight: Expr) -> None:
        body([(at + i * inner.stride, weight + i * w_step) for i in range(times)])

    def innermost(at: Expr, weight: Expr) -> None:
        if inner.extent == times:
            several(at, weight)
            return
        with T.serial(i64(0), opaque(inner.extent // times)) as i:
            several(at + i * (inner.stride * times), weight + i * (w_step * times))

    for_taps(outer, rows, x, w, w_step * inner.extent, innermost)


def for_hidden_taps(
    loops: list[ReductionLoop],
    rows: tuple[Expr, Expr],
    x: Expr,
    w: Expr,
    w_step: int,
    body: Callable[[Expr, Expr], None],
) -> None:
    """`for_taps` whose innermost loop LLVM does not unroll, nor merge with what follows where it has a single trip."""
    *outer, inner = loops or [ReductionLoop(1, 0)]

    def innermost(at: Expr, weight: Expr) -> None:
        with T.serial(i64(0), opaque(inner.extent)) as i:
            body(at + i * inner.stride, weight + i * w_step)

    for_taps(outer, rows, x, w, w_step * inner.extent, innermost)
