"""What qcompiler::Quantize computes, as a short program of standard ops.

The op's body, its evaluation in numpy and the nodes that it becomes before kernels are made are all this program, so
they cannot differ. Both orders and all roundings are the quantizers of existing formats: QONNX adds the zero point
before it rounds, ONNX's QuantizeLinear afterwards, and at odd zero points halves go to other codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHIFT_ROUND, ROUND_SHIFT = "SHIFT_ROUND", "ROUND_SHIFT"
ORDERS = (SHIFT_ROUND, ROUND_SHIFT)
"""y = round(clip(x / scale + zero, low, high)), and y = clip(round(x / scale) + zero, low, high)."""

UNBOUNDED = float(np.finfo(np.float32).max)
"""As a bound, none."""


@dataclass(frozen=True)
class Rounding:
    """To an integer by the op `op`; on_magnitude: of |x| + offset, which then takes over the sign of x."""

    op: str
    on_magnitude: bool = False
    offset: float = 0.0


ROUNDINGS: Mapping[str, Rounding] = {
    "ROUND": Rounding("Round"),
    "FLOOR": Rounding("Floor"),
    "CEIL": Rounding("Ceil"),
    "UP": Rounding("Ceil", on_magnitude=True),
    "DOWN": Rounding("Floor", on_magnitude=True),
    "HALF_UP": Rounding("Floor", on_magnitude=True, offset=0.5),
    "HALF_DOWN": Rounding("Ceil", on_magnitude=True, offset=-0.5),
}
"""To the nearest integer with halves to the even one, down, up, away from 0, towards 0, and to the nearest integer with
halves away from 0 or towards it."""


@dataclass(frozen=True)
class Instruction:
    """A standard op; operands are results of earlier instructions, x, scale, zero, low, high, or numbers."""

    result: str
    op: str
    operands: tuple[str | float, ...]


@dataclass(frozen=True)
class Quantizer:
    """The attributes of a Quantize: the codes low to high, one of ROUNDINGS and one of ORDERS."""

    low: float
    high: float
    rounding: str = "ROUND"
    order: str = SHIFT_ROUND

    def __call__(self, x: Array, scale: Array, zero: Array) -> Array:
        """The codes of x, both float [..., C] of one width; scale and zero broadcast against x."""
        low, high = (np.asarray(bound, x.dtype) for bound in (self.low, self.high))
        values: dict[str | float, Array] = {"x": x, "scale": scale, "zero": zero, "low": low, "high": high}
        for each in program(self.rounding, self.order):
            operands = [values[o] if isinstance(o, str) else np.asarray(o, x.dtype) for o in each.operands]
            values[each.result] = np.asarray(_FUNCTIONS[each.op](*operands))
        return values["y"]


def program(rounding: str, order: str) -> tuple[Instruction, ...]:
    """The instructions of one rounding and order, the last of which gives y."""
    scaled = Instruction("scaled", "Div", ("x", "scale"))
    if order == SHIFT_ROUND:
        shifted = Instruction("shifted", "Add", ("scaled", "zero"))
        inside = Instruction("inside", "Clip", ("shifted", "low", "high"))
        return (scaled, shifted, inside, *rounded(ROUNDINGS[rounding], "inside", "y"))
    shifted = Instruction("shifted", "Add", ("whole", "zero"))
    whole = rounded(ROUNDINGS[rounding], "scaled", "whole")
    return (scaled, *whole, shifted, Instruction("y", "Clip", ("shifted", "low", "high")))


def rounded(rounding: Rounding, x: str, result: str) -> tuple[Instruction, ...]:
    """The instructions that round x to an integer."""
    if not rounding.on_magnitude:
        return (Instruction(result, rounding.op, (x,)),)
    magnitude = [Instruction("magnitude", "Abs", (x,))]
    if rounding.offset:
        magnitude.append(Instruction("moved", "Add", ("magnitude", rounding.offset)))
    steps, sign = Instruction("steps", rounding.op, (magnitude[-1].result,)), Instruction("sign", "Sign", (x,))
    return (*magnitude, steps, sign, Instruction(result, "Mul", ("sign", "steps")))


_FUNCTIONS: Mapping[str, Any] = {
    "Div": np.divide,
    "Add": np.add,
    "Mul": np.multiply,
    "Clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "Round": np.rint,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Abs": np.abs,
    "Sign": np.sign,
}
