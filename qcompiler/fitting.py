"""Whether a network fits the memory of a microcontroller: what is largest, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.bundle.footprint import Footprint
from qcompiler.errors import UnsupportedModel
from qcompiler.ir.program import Program, StepInfo

_KIB = 1024


@dataclass(frozen=True)
class Memory:
    """What a board has, in bytes; None: that does not matter."""

    flash: int | None = None
    ram: int | None = None

    @property
    def matters(self) -> bool:
        """Whether anything was said."""
        return self.flash is not None or self.ram is not None


def check_fits(memory: Memory, found: Sequence[Footprint], program: Program) -> None:
    """Raise UnsupportedModel where a variant needs more than there is."""
    for each in found:
        if memory.flash is not None and each.flash > memory.flash:
            raise _refusal(each, "flash", each.flash, memory.flash, _largest_in_flash(each, program))
        if memory.ram is not None and each.ram > memory.ram:
            raise _refusal(each, "RAM", each.ram, memory.ram, _largest_in_ram(each, program))


def _refusal(each: Footprint, kind: str, needed: int, there: int, why: tuple[str, str]) -> UnsupportedModel:
    largest, remedy = why
    what = f"{each.variant.replace('_', '-')} needs {size(needed)} of {kind}, --{kind.lower()} allows {size(there)}"
    return UnsupportedModel(f"{what}; largest is {largest}", remedy=remedy)


def _largest_in_flash(each: Footprint, program: Program) -> tuple[str, str]:
    """What takes most of the flash, and what would help."""
    if each.code > each.constants:
        return f"the code ({size(each.code)})", "layers of equal shapes share code, and wide or real ones need most"
    calls = program.variants[0].calls
    index = max(range(len(calls)), key=lambda i: calls[i].constant_bytes)
    step = program.steps[index]
    fewer = "fewer channels" if step.w_bits == 1 else "weights of fewer bits or fewer channels"
    return f"{_named(step)} with {size(calls[index].constant_bytes)} of constants", f"give it {fewer}"


def _largest_in_ram(each: Footprint, program: Program) -> tuple[str, str]:
    """What takes most of the RAM, and what would help."""
    arrays = {"the inputs": each.inputs, "the outputs": each.outputs, "the workspace": each.workspace}
    name = max(arrays, key=lambda key: arrays[key])
    if each.stack > arrays[name]:
        return f"the stack of kernels ({size(each.stack)})", "allow more: nothing makes it smaller"
    if name != "the workspace":
        return f"{name} ({size(arrays[name])})", "make them smaller"
    live = [
        sum(piece.nbytes for piece in program.allocations if piece.first <= index <= piece.last)
        for index in range(len(program.steps))
    ]
    step = program.steps[max(range(len(live)), key=lambda i: live[i])]
    what = f"the workspace ({size(each.workspace)}), which is full at {_named(step)}"
    return what, "give it fewer channels, fewer bits or a smaller input"


def _named(step: StepInfo) -> str:
    return f"node '{step.nodes[0]}'" if step.nodes else f"the step {step.op}"


def size(nbytes: int) -> str:
    """In KiB, or bytes where there are few."""
    return f"{nbytes / _KIB:.1f} KiB" if nbytes >= _KIB else f"{nbytes} bytes"
