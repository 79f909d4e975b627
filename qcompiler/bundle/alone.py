"""A program of one variant, where variants do not share a file."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from qcompiler.bundle.contract import ALIGNMENT
from qcompiler.ir.program import Argument, Call, Program, VariantCode


def alone(program: Program, variant: VariantCode) -> Program:
    """A program of one variant, with the constants that its calls read."""
    starts = sorted({argument.position for each in program.variants for argument in _constants(each)})
    ends = dict(pairwise([*starts, len(program.constants)]))
    content, places = bytearray(), {}
    for start in sorted({argument.position for argument in _constants(variant)}):
        places[start] = len(content)
        content += program.constants[start : ends[start]]
        content += bytes(-len(content) % ALIGNMENT)
    calls = tuple(_moved(call, places) for call in variant.calls)
    return replace(program, constants=bytes(content), variants=(replace(variant, calls=calls),))


def _constants(variant: VariantCode) -> list[Argument]:
    return [argument for call in variant.calls for argument in call.arguments if argument.kind == "constant"]


def _moved(call: Call, places: dict[int, int]) -> Call:
    """The call, with its constants where they lie now."""
    arguments = tuple(
        replace(argument, position=places[argument.position]) if argument.kind == "constant" else argument
        for argument in call.arguments
    )
    return replace(call, arguments=arguments)
