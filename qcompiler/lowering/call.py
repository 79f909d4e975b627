"""One call of a function for standard operators, before memory is planned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from qcompiler.ir.program import Fault, Launch
from qcompiler.targets.standard_op import StandardOp
from qcompiler.targets.target import Platform


@dataclass(frozen=True)
class StandardCall:
    """An operator over plain pointers: *inputs, *outputs, *temporaries and, where there are faults, one that takes it.

    inputs: region input names, names of earlier calls' outputs, or constants. temporaries: bytes of each. faults: how
    the data of a run can make it fail; where there are any, the code takes a pointer to an int32 that it sets.
    nodes: what it computes, where that is known. kernel: whose code it is, for reports.
    """

    op: StandardOp
    inputs: tuple[str | npt.NDArray[Any], ...]
    outputs: tuple[str, ...]
    output_bytes: tuple[int, ...]
    temporaries: tuple[int, ...]
    ops: str
    faults: tuple[Fault, ...] = ()
    nodes: tuple[ir.Node, ...] = ()
    kernel: str = "tvm"


@dataclass(frozen=True, kw_only=True)
class ScheduledCall(StandardCall):
    """A call as code of a platform: a PrimFunc and how it is launched."""

    function: Any
    launch: Launch


def scheduled(call: StandardCall, platform: Platform) -> ScheduledCall:
    """The call as code of a platform, with the temporaries that this code needs."""
    made = platform.schedule(call.op)
    known = {field.name: getattr(call, field.name) for field in fields(call)}
    known["temporaries"] = (*call.temporaries, *made.temporaries)
    return ScheduledCall(**known, function=made.function, launch=made.launch)
