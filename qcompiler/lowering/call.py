"""One call of a function for standard operators, before memory is planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.program import Fault


@dataclass(frozen=True)
class GenericCall:
    """One PrimFunc over plain pointers: f(*inputs, *outputs, *temporaries, [fault,] begin, end).

    inputs: region input names, names of earlier calls' outputs, or constants. temporaries: bytes of each. faults: how
    the data of a run can make it fail; where there are any, the function takes a pointer to an int32 that it sets.
    nodes: what it computes, where that is known. kernel: whose code it is, for reports.
    """

    function: Any
    inputs: tuple[str | npt.NDArray[Any], ...]
    outputs: tuple[str, ...]
    output_bytes: tuple[int, ...]
    temporaries: tuple[int, ...]
    items: int
    ops: str
    faults: tuple[Fault, ...] = ()
    nodes: tuple[ir.Node, ...] = ()
    kernel: str = "tvm"
