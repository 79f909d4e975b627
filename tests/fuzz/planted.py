"""Faults planted on purpose, one in each part that random networks are to watch: `python -m tests.fuzz.planted`.

How many networks does it take until one comes out other than without the fault? Run it after a change of the
generator: a fault that is no longer found says that the generator no longer draws what would show it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from typing import Any
from unittest import mock

import onnx_ir as ir
from hypothesis import Phase

from qcompiler.analysis import thresholds
from qcompiler.analysis.thresholds import SignChange
from qcompiler.frontend.dialects import qonnx
from qcompiler.ir.view import constant_of, shape_of
from qcompiler.lowering import group, links
from qcompiler.lowering.standard import recurrent
from qcompiler.passes import fold_thresholds
from qcompiler.targets.vector import byte_mismatches
from tests.fuzz import judge, sweep
from tests.fuzz.case import case_of
from tests.fuzz.net import Network

MOST = 500
SEED = 77

Planted = Callable[[], AbstractContextManager[object]]


class Found(Exception):
    """A network shows the fault; the message says how."""


def networks_until_found(fault: Planted, target: str = "x86") -> tuple[int, str]:
    """How many networks are drawn until one shows the fault, and how it comes out."""
    drawn = 0

    def one(network: Network) -> None:
        nonlocal drawn
        drawn += 1
        case, variant = case_of(network), sweep.variant_of(sweep.digest_of(network), target)
        with fault():
            outcome = judge.judge(case, variant)
        if outcome.kind not in judge.FINE and judge.judge(case, variant).kind == "equal":
            raise Found(f"{outcome.kind}: {outcome.reason}")

    for batch in count():
        if drawn >= MOST:
            return drawn, "not found"
        try:
            sweep.drawn(one, SEED, batch, (Phase.generate,))
        except Found as found:
            return drawn, str(found)
    raise AssertionError


def alias_that_moves() -> AbstractContextManager[object]:
    """Aliasing: a Transpose that exchanges two axes of one extent counts as one that moves nothing."""

    right = group._moves_nothing

    def moves_nothing(transpose: ir.Node) -> bool:
        return right(transpose) or shape_of(transpose.inputs[0]) == shape_of(transpose.outputs[0])

    return mock.patch.object(group, "_moves_nothing", moves_nothing)


def link_across_channels() -> AbstractContextManager[object]:
    """Grouping: a constant of as many elements as there are channels counts as one per channel, whatever its axis."""
    right = links._operand

    def operand(other: ir.Value, value: ir.Value, matrix: bool) -> object:
        found, constant = right(other, value, matrix), constant_of(other)
        shape = shape_of(value)
        if found is not None or constant is None or constant.ndim > len(shape):
            return found
        return constant.reshape(-1) if constant.size == shape[-1 if matrix else 1] else None

    return mock.patch.object(links, "_operand", operand)


def threshold_off_by_one() -> AbstractContextManager[object]:
    """A pass: thresholds of falling chains, which come of negative factors, are one attainable integer too high."""
    right = thresholds.find_sign_change

    def find(steps: object, lattice: object, zero: float) -> SignChange:
        found = right(steps, lattice, zero)  # type: ignore[arg-type]
        moved = found.threshold + (found.direction < 0) * lattice.step  # type: ignore[attr-defined]
        return replace(found, threshold=moved.astype("float32"))

    return mock.patch.object(fold_thresholds, "find_sign_change", find)


def codes_of_the_wide_range() -> AbstractContextManager[object]:
    """The QONNX dialect: `narrow` is not seen."""
    right = qonnx._limits
    return mock.patch.object(qonnx, "_limits", lambda bits, signed, _: right(bits, signed, 0))


def sequences_forwards() -> AbstractContextManager[object]:
    """Recurrent layers: one in the reverse direction starts at the first step."""
    return mock.patch.dict(recurrent.DIRECTIONS, {"reverse": (False,)})


def every_second_weight() -> AbstractContextManager[object]:
    """A kernel that ARM alone has: of the weights, every second word is read."""
    right = byte_mismatches.for_unrolled_taps

    def taps(*arguments: Any) -> None:
        loops, rows, at, weight, apart, *others = arguments
        right(loops, rows, at, weight, 2 * apart, *others)

    return mock.patch.object(byte_mismatches, "for_unrolled_taps", taps)


FAULTS: dict[str, Planted] = {
    "aliasing": alias_that_moves,
    "grouping": link_across_channels,
    "pass": threshold_off_by_one,
    "quantizer": codes_of_the_wide_range,
    "recurrent": sequences_forwards,
    "arm": every_second_weight,
}


def target_of(name: str) -> str:
    """The target that shows a fault."""
    return "arm" if name == "arm" else "x86"


def main() -> int:
    """A line for each fault, or for those that are named."""
    judge.warm_up()
    worst = 0
    for name in sys.argv[1:] or FAULTS:
        drawn, how = networks_until_found(FAULTS[name], target_of(name))
        print(f"{name}: {drawn} networks; {how}", flush=True)
        worst = max(worst, drawn)
    return int(worst >= MOST)


if __name__ == "__main__":
    raise SystemExit(main())
