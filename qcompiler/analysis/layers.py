"""What is known of layers: the integers that weights are among, and which values layers on integers read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.moves import moves_elements
from qcompiler.ir.codes import Codes
from qcompiler.ir.ops import DOMAIN
from qcompiler.ir.traits import LAYER, has
from qcompiler.ir.view import consumers_of

WIDEST = 8
"""Bits of the widest codes that a layer on integers reads."""


def weight_codes(weights: npt.NDArray[Any]) -> Codes | None:
    """The integers that weights are among; None if they are none."""
    if weights.dtype != np.float32 or not weights.size or not np.array_equal(weights, np.rint(weights)):
        return None
    if np.abs(weights).max() >= 2**WIDEST:
        return None
    levels = np.unique(weights).astype(np.int64)
    step = int(np.gcd.reduce(levels - levels[0])) or 1
    return Codes(int(levels[0]), int(levels[-1]), step)


def feeds_integer_layer(value: ir.Value) -> bool:
    """Whether a layer on integers reads the value, or what only moves its elements."""
    for reader in consumers_of(value):
        if has(reader, LAYER):
            if reader.domain == DOMAIN:
                return True
        elif moves_elements(reader) and feeds_integer_layer(reader.outputs[0]):
            return True
    return False
