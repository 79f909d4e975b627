"""Quantize becomes the standard ops that it stands for, which kernels have in their epilogues.

Where that changes no number, a division by 1 and a sum with 0 are left out, and codes are bounded before they are
rounded. Where no rounding behind bounds says which codes there are (analysis/ranges.py), both come once more at the
end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.ops import quantizer_of
from qcompiler.ir.quantizing import ROUND_SHIFT, ROUNDINGS, UNBOUNDED, Instruction, Quantizer, program, rounded
from qcompiler.ir.view import constant_of, is_quantized_op, static_shape
from qcompiler.passes.editing import Operand, insert, remove_dead, replace
from qcompiler.passes.result import PassResult

# of larger numbers, some roundings are none to the number itself
_EXACT = 2.0**22


@dataclass(frozen=True)
class SpellOutQuantizers:
    """Replace every Quantize that is left, in front of what makes kernels."""

    name: str = "spell-out-quantizers"
    bound: float = 0.0

    def __call__(self, model: ir.Model) -> PassResult:
        """Rewrite in one walk."""
        found = [node for node in model.graph if is_quantized_op(node, "Quantize")]
        for node in found:
            _spell_out(node)
        remove_dead(model.graph)
        return PassResult(self.name, len(found))


def _spell_out(node: ir.Node) -> None:
    quantizer, shape = quantizer_of(node), static_shape(node.outputs[0]) or ()
    values: dict[str, Operand] = dict(zip(("x", "scale", "zero"), node.inputs, strict=True))
    values |= {"low": np.float32(quantizer.low), "high": np.float32(quantizer.high)}
    result = node.inputs[0]
    for each in _instructions(quantizer, constant_of(node.inputs[2])):
        operands = [values[o] if isinstance(o, str) else np.float32(o) for o in each.operands]
        neutral = _is_neutral(each, node, quantizer)
        result = operands[0] if neutral else insert(node, each.op, operands, shape, origins=(node,))
        values[each.result] = result
    replace(node.outputs[0], result)


def _instructions(quantizer: Quantizer, zero: npt.NDArray[np.float32] | None) -> tuple[Instruction, ...]:
    """The program of a quantizer, with bounds in front of the rounding where the zero point is one number."""
    if max(abs(quantizer.low), abs(quantizer.high)) > _EXACT:
        return program(quantizer.rounding, quantizer.order)
    plain = not ROUNDINGS[quantizer.rounding].on_magnitude
    if quantizer.order != ROUND_SHIFT:
        found = program(quantizer.rounding, quantizer.order)
        return found if plain else (*found, *_STATEMENT)
    if zero is None or zero.size == 0 or not (zero == zero.reshape(-1)[0]).all():
        return (*program(quantizer.rounding, quantizer.order), *_STATEMENT)
    shift = float(zero.reshape(-1)[0])
    inside = Instruction("inside", "Clip", ("scaled", quantizer.low - shift, quantizer.high - shift))
    whole = rounded(ROUNDINGS[quantizer.rounding], "inside", "whole")
    found = Instruction("scaled", "Div", ("x", "scale")), inside, *whole, Instruction("y", "Add", ("whole", "zero"))
    return found if plain else (*found, *_STATEMENT)


_STATEMENT = Instruction("stated", "Clip", ("y", "low", "high")), Instruction("y", "Round", ("stated",))


def _is_neutral(each: Instruction, node: ir.Node, quantizer: Quantizer) -> bool:
    """Whether an instruction hands its first operand on; x + 0 is 0 for -0, which a sum behind the rounding tells."""
    if each.op == "Clip":
        return each.operands[1:] == ("low", "high") and (quantizer.low, quantizer.high) == (-UNBOUNDED, UNBOUNDED)
    position, number = {"scaled": (1, 1.0), "shifted": (2, 0.0)}.get(each.result, (0, 0.0))
    constant = constant_of(node.inputs[position]) if position else None
    sums_last = each.op == "Add" and quantizer.order == ROUND_SHIFT
    return constant is not None and not sums_last and bool((constant == number).all())
